/*
 * What the session layer must know of a query's text beyond its bytes, remembered per worker by the text's hash, so
 * that a statement seen before costs one look-up. Most texts need nothing: for them the answer is NULL.
 * And prepared statements: one object for all clients of a worker that prepared the same.
 */
#ifndef SESSION_QUERY_INFO_H
#define SESSION_QUERY_INFO_H

#include "base/map.h"
#include "link/statements.h"
#include "sql/scan.h"

#define SCAN_BYTES_MAX (256u << 10) /* of one text; what is longer is opaque behind this */

struct query_info {
	uint32_t references;
	bool opaque;          /* not all of it was scanned */
	bool deallocates;     /* ends prepared statements */
	bool changes_catalog; /* reads may be something else behind it; see sql/changes.h */
	bool changes_schema;  /* others' prepared statements may be out of date behind it */
	struct scan scan;     /* its slices point into text */
	char text[];
};

struct query_info_slot {
	uint64_t hash;
	uint32_t len;
	bool known;
	struct query_info *info; /* NULL: plain */
	uint64_t reads_as_of;    /* see query_info_reads() */
	uint64_t fingerprint;    /* 0: not known; see fingerprint.h */
};

#define QUERY_INFO_SLOTS 8192u

struct query_shape_slot { /* texts of this shape only read, whatever their literals are: see query_info_mark_reads() */
	uint64_t shape, reads_as_of;
};

struct query_plain_slot { /* texts of this shape are all plain, and have one fingerprint */
	uint64_t shape, fingerprint;
};

struct query_infos {
	struct query_info_slot *slots;
	struct query_shape_slot *read_shapes;
	struct query_plain_slot *plain_shapes; /* by hashes of shapes (sql/shape.h); 0: none */
	struct {
		struct slice text; /* without bytes: nothing */
		uint64_t hash;
		struct query_info_slot *slot; /* where it is known; NULL: it is not */
		uint64_t shape;               /* its shape's; 0: it has none of use */
		bool has_shape;               /* that was looked for */
	} memo; /* of the text that is about to be looked up; see query_infos_forget_memo() */
	struct {
		const uint8_t *text; /* NULL: nothing */
		uint64_t *fingerprint;
	} found; /* of the text that was looked up last: where its fingerprint stands; 0: it is not known */
};

int query_infos_init(struct query_infos *q) MUST_USE;
void query_infos_free(struct query_infos *q);
bool query_info_shape_reads(struct query_infos *q, uint64_t as_of); /* of query_info_reads() */
/* Was it marked as a text that only reads, with this number (of a catalog; not 0)? What it finds out is kept for the
 * next query_info_get(): query_infos_forget_memo() before the bytes may become others. */
static inline bool query_info_reads(struct query_infos *q, struct slice text, uint64_t as_of)
{
	struct query_info_slot *slot;
	uint64_t hash;

	q->memo.text = text;
	hash = q->memo.hash = hash_bytes(text.bytes, text.len);
	slot = &q->slots[hash & (QUERY_INFO_SLOTS - 1)];
	if (slot->hash != hash || slot->len != q->memo.text.len)
		return query_info_shape_reads(q, as_of);
	q->memo.slot = slot;
	return slot->reads_as_of == as_of; /* never of one that is free */
}
/* The text; or all texts of its shape, should query_info_get() not have been asked for it. */
void query_info_mark_reads(struct query_infos *q, struct slice text, uint64_t as_of);
static inline void query_infos_forget_memo(struct query_infos *q)
{
	q->memo.text.bytes = NULL;
}
static inline void query_infos_forget_found(struct query_infos *q)
{
	q->found.text = NULL;
}
static inline struct query_info *query_info_ref(struct query_info *info) /* NULL is fine */
{
	if (info)
		info->references++;
	return info;
}
void query_info_unref(struct query_info *info);

struct query_info *query_info_find(struct query_infos *q, struct slice text, bool complete); /* of query_info_get() */
/* complete: text is all of it. NULL: plain, i.e. nothing outlives its transaction. Otherwise a reference for the
 * caller; out of memory: a static one that says opaque. */
static inline struct query_info *query_info_get(struct query_infos *q, struct slice text, bool complete)
{
	struct query_info_slot *slot = q->memo.slot;

	if (unlikely(q->memo.text.bytes == text.bytes) && q->memo.text.len == text.len && slot &&
	    slot->hash == q->memo.hash) {
		q->found.text = text.bytes;
		q->found.fingerprint = &slot->fingerprint;
		return query_info_ref(slot->info);
	}
	return query_info_find(q, text, complete);
}

/* A prepared statement as clients made it. Shared by all who prepared the same; counted. */
struct statement_text {
	struct statement_id id;
	uint64_t meaning;     /* the salt it was made with */
	uint64_t reads_as_of; /* number of a catalog by which it only reads; 0: none was asked, or it may write */
	uint64_t fingerprint; /* 0: nobody asked for it yet, see fingerprint.h */
	uint32_t references;
	struct statement_text *next; /* in its bucket */
	struct query_info *info;
	char server_name[STATEMENT_NAME_SIZE]; /* what servers call it */
	uint32_t len, sql_len;
	uint8_t parse[]; /* the body of the Parse behind the name: text NUL, types */
};

/* Its SQL; text NULL: nothing. */
static inline struct slice statement_text_sql(const struct statement_text *text)
{
	return text ? slice_make(text->parse, text->sql_len) : (struct slice){0};
}

struct statement_table;

struct statement_table *statement_table_new(void);
void statement_table_free(struct statement_table *t);
/* The statement of this Parse body (without the name), new or known; a reference. NULL: out of memory. */
struct statement_text *statement_table_get(struct statement_table *t, struct query_infos *q, struct slice parse,
					   uint64_t salt);
/* The one of this identity, not referenced; NULL: none. */
struct statement_text *statement_table_find(const struct statement_table *t, struct statement_id id);
void statement_text_free(struct statement_table *t, struct statement_text *s); /* nobody holds it any more */
static inline struct statement_text *statement_text_ref(struct statement_text *s)
{
	s->references++;
	return s;
}
static inline void statement_text_unref(struct statement_table *t, struct statement_text *s) /* NULL is fine */
{
	if (s && unlikely(--s->references == 0))
		statement_text_free(t, s);
}

#endif
