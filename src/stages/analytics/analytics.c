/*
 * Statistics of queries, [analytics]: what metrics/query_table.h counts, for what each worker's clients ask. Other
 * threads read it by message (admin/queries.c). It stays over reloads, but for those that turn it off.
 */
#include "base/event.h"
#include "base/log.h"
#include "config/config.h"
#include "metrics/query_table.h"
#include "sql/intent.h"
#include "sql/normalize.h"
#include "stage/stage.h"

#include <inttypes.h>
#include <stdio.h>

#define TELL_AGAIN    (600 * USEC_PER_SEC) /* of one entry */
#define TELL_ANY      (10 * USEC_PER_SEC)  /* of all of a worker's */
#define USEC_PER_HOUR (3600 * USEC_PER_SEC)

struct policy {
	struct query_table *table;
	uint32_t text_max;
	struct log_limit limit, tell_limit;
};

static int configure(const struct config *config, const void *before, void **ret_policy)
{
	const struct config_analytics *c = &config->analytics;
	const struct policy *old = before;
	struct policy *p;

	*ret_policy = NULL;
	if (!c->enabled)
		return 0;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->text_max = MIN(config->admin.statement_bytes, QUERY_TEXT_MAX);
	p->table = old ? query_table_ref(old->table) : query_table_new(c->max_fingerprints);
	if (p->table && query_table_limit(p->table, c->max_fingerprints) == 0) {
		*ret_policy = p;
		return 0;
	}
	query_table_unref(p->table);
	free(p);
	return -ENOMEM;
}

static void release(void *policy)
{
	struct policy *p = policy;

	query_table_unref(p->table);
	free(p);
}

static struct query_table *queries(const void *policy)
{
	return ((const struct policy *)policy)->table;
}

/* NULL: no memory; it is not counted. */
static NEVER_INLINE struct query_entry *add(struct request *r, struct policy *p)
{
	char text[QUERY_TEXT_MAX + 1];
	struct sql_normalized normalized;
	struct query_entry *e;
	uint64_t evicted = p->table->evicted;
	uint32_t left_out;

	request_tell(r);
	sql_normalize(request_text(r), /* standard_conforming_strings= */ true, text, p->text_max + 1, &normalized);
	p->table->counters = r->counters;
	e = query_table_add(
		p->table, r->fingerprint, r->asker->owner,
		&(struct query_names){.text = slice_make(text, normalized.len),
				      .is_cut = normalized.cut || r->text_len > REQUEST_TEXT_MAX,
				      .database = r->database,
				      .user = r->user,
				      .kind = (uint8_t)sql_intent(request_text(r),
								  /* standard_conforming_strings= */ true)});
	if (p->table->evicted > evicted && log_limit_pass(&p->limit, 1, USEC_PER_HOUR, &left_out))
		log_warn("more statements than [analytics] max_fingerprints: statistics of those that were not used "
			 "lately go",
			 kv_uint("max_fingerprints", p->table->most));
	return e;
}

static NEVER_INLINE void tell(struct query_entry *e, const struct request *r, struct policy *p)
{
	char fingerprint[17];
	uint32_t unused;

	if ((e->told && clock_since(e->told, r->ended) < TELL_AGAIN) ||
	    !log_limit_pass(&p->tell_limit, 1, TELL_ANY, &unused))
		return;
	e->told = r->ended;
	snprintf(fingerprint, sizeof(fingerprint), "%016" PRIx64, e->fingerprint);
	log_event(EVENT_QUERY_REPEATED, LOG_INFO, "a client asks the same in a loop: could it be one query?",
		  kv_str("fingerprint", fingerprint), kv_str("database", query_database(e)),
		  kv_str("user", query_user(e)), kv_str("query", e->strings));
}

/* What is seldom. */
static NEVER_INLINE void see_seldom(struct query_entry *e, const struct request *r, struct policy *p, bool is_full)
{
	if (is_full)
		query_numbers_halve(&e->numbers);
	else
		tell(e, r, p);
}

/* This is what is done for each: no function is called. */
static inline void count(struct query_entry *e, const struct request *r, struct policy *p)
{
	struct query_numbers *n = &e->numbers;
	struct query_run *run = &r->asker->run;
	usec_t took = r->took, server = r->served == r->began ? took : clock_since(r->served, r->ended);
	uint32_t repeated = 0;
	bool is_full;

	e->was_used = true;
	n->rows += r->rows;
	n->errors += *r->sqlstate != 0;
	is_full = query_numbers_add(n, took, server, r->ended);
	if (unlikely(e->kind == INTENT_TRANSACTION))
		query_run_pass(run, r->began, r->ended);
	else
		repeated = query_run_call(run, e->fingerprint, r->began, r->ended);
	n->repeated += repeated;
	if (unlikely(is_full || repeated > 1))
		see_seldom(e, r, p, is_full);
}

static NEVER_INLINE void count_first(struct request *r, struct policy *p)
{
	struct query_entry *e = r->fingerprint ? add(r, p) : NULL;

	if (!e)
		return;
	query_numbers_first(&e->numbers, r->took, r->ended);
	count(e, r, p);
	e->was_used = false; /* one that came but once is the first to go */
}

static void answered(struct request *r, void *policy)
{
	struct policy *p = policy;
	struct query_entry *e = query_table_find(p->table, r->fingerprint, r->asker->owner);

	if (likely(e != NULL))
		count(e, r, p);
	else
		count_first(r, p);
}

const struct stage stage_analytics = {
	.name = "analytics",
	.configure = configure,
	.release = release,
	.answered = answered,
	.queries = queries,
	.wants_fingerprint = true,
};
