/* Statistics of queries, collected for all who show them: see queries.c. */
#ifndef ADMIN_QUERIES_H
#define ADMIN_QUERIES_H

#include "admin/views.h"
#include "metrics/query_table.h"

#define QUERY_SORT_WORDS(X) X(total_time) X(mean_time) X(p99_time) X(calls) X(rows) X(errors)

enum query_sort {
#define X(word) QUERY_SORT_##word,
	QUERY_SORT_WORDS(X)
#undef X
		QUERY_SORTS
};

struct query_wish {
	enum query_sort sort;        /* that has most of it comes first */
	const char *database, *user; /* "": whichever */
	const char *text;            /* a part of the text in any case, or the fingerprint; "": whatever */
	const char *kind;            /* the class's name; "": whichever */
	uint64_t limit;
};

/* Of all that fit, those above the limit too. */
struct query_sum {
	uint64_t count;
	usec_t total; /* of their time */
};

struct query_list {
	struct query_table *table; /* all workers' */
	bool enabled;
	usec_t since; /* clock_now() */
	uint64_t evicted;
	uint32_t late; /* workers whose statistics are not there, or not all of them */
	bool torn;     /* a worker's began anew while it was asked */
};

/* false: out of memory, and there is nothing to free. */
bool queries_collect(struct admin *admin, struct query_list *ret) MUST_USE;
void query_list_free(struct query_list *list);
/* They begin anew. How many statements are gone. false: out of memory. */
bool queries_clear(struct admin *admin, uint64_t *ret_gone) MUST_USE;

typedef json_t *query_show(const struct query_entry *e);
json_t *queries_json(const struct query_list *list, const struct query_wish *wish, query_show *show,
		     struct query_sum *ret_sum);

#endif
