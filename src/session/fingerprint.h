/*
 * Fingerprints of texts (sql/normalize.h), remembered per worker by the text's hash and by its shape's (sql/shape.h),
 * so that a text is normalized once, and not again when it comes with other values. A prepared statement keeps its own.
 */
#ifndef SESSION_FINGERPRINT_H
#define SESSION_FINGERPRINT_H

#include "session/query_info.h"

/* What stands behind so many bytes of a text makes no difference. */
#define FINGERPRINT_BYTES_MAX (256u << 10)

struct fingerprint_slot {
	uint64_t hash, fingerprint; /* hash 0: free */
};

struct fingerprints {
	struct fingerprint_slot *texts, *shapes; /* NULL: none was asked for yet */
};

void fingerprints_free(struct fingerprints *f);
/* Not 0, whatever the text is. q: may have been asked for this very text, and for none since then: then it stands
 * there, too, from now on; or NULL. */
uint64_t fingerprint_find(struct fingerprints *f, struct slice text, struct query_infos *q);

/* The same of a text that q was asked for, if it can be told at once; else 0. */
static inline uint64_t fingerprint_known(struct slice text, const struct query_infos *q)
{
	return likely(q->found.text == text.bytes) ? *q->found.fingerprint : 0;
}

static inline uint64_t fingerprint_of_statement(struct fingerprints *f, struct statement_text *statement)
{
	if (unlikely(!statement->fingerprint))
		statement->fingerprint = fingerprint_find(f, statement_text_sql(statement), NULL);
	return statement->fingerprint;
}

#endif
