/*
 * Statistics of queries ([analytics]), asked of all workers by message and added up. A worker copies SLICE entries at a
 * time, so that no client waits for that longer than some 100 us; those that come meanwhile may be missed, and one that
 * goes and comes is maybe counted twice. One request at a time: so there is no more of it than each worker's table once
 * again.
 */
#include "admin/queries.h"

#include "sql/intent.h"

#include <inttypes.h>
#include <stdio.h>
#include <strings.h>

#define SLICE     64u
#define TRIES     3 /* of a worker whose table changes its order meanwhile, by a reload or a DELETE */
#define NOT_ASKED UINT32_MAX

/* ---- on the worker's thread ---- */

struct slice_wish {
	struct {
		uint32_t from; /* NOT_ASKED: nothing */
	} workers[THREADS_MAX];
};

struct query_part {
	uint32_t next, serial, count; /* next: 0: these were the last */
	uint64_t evicted;
	usec_t since;
	struct copied {
		struct copied *next;
		struct query_entry entry; /* with its strings: last */
	} * first;
};

struct copying {
	struct arena *arena;
	struct copied **end;
};

static void copy(const struct query_entry *e, void *to)
{
	struct copying *c = to;
	struct copied *copied = arena_alloc(c->arena, offsetof(struct copied, entry) + e->size);

	if (!copied)
		return;
	memcpy(&copied->entry, e, e->size);
	copied->next = NULL;
	*c->end = copied;
	c->end = &copied->next;
}

static void collect(struct worker *worker, struct round_part *part, uint64_t argument)
{
	const struct slice_wish *wish = (const struct slice_wish *)(uintptr_t)argument;
	uint32_t from = wish->workers[worker->pool_thread.index].from;
	const struct query_table *t = worker_queries(worker);
	struct copying copying;
	struct query_part *p;

	if (from == NOT_ASKED || !t || !(p = arena_zalloc(&part->arena, sizeof(*p))))
		return;
	copying = (struct copying){.arena = &part->arena, .end = &p->first};
	p->serial = t->serial;
	p->count = t->count;
	p->evicted = t->evicted;
	p->since = t->since;
	p->next = query_table_walk(t, from, SLICE, copy, &copying);
	part->queries = p;
}

/* Whoever asked may free it at leisure, here it would take too long. */
static void clear(struct worker *worker, struct round_part *part, uint64_t argument UNUSED)
{
	struct query_table *t = worker_queries(worker);
	struct list *gone = t ? arena_alloc(&part->arena, sizeof(*gone)) : NULL;

	if (!gone)
		return;
	part->matched = t->count;
	list_init(gone);
	query_table_clear(t, gone);
	if (arena_on_reset(&part->arena, (void (*)(void *))query_entries_free, gone) < 0)
		query_entries_free(gone);
}

/* ---- on the admin API's ---- */

struct asking {
	struct slice_wish wish;
	uint32_t serials[THREADS_MAX];
	uint32_t workers, asked; /* asked: those who have more to tell */
};

/* Its part, or what of it there is, is added. false: out of memory. */
static bool add_part(struct query_list *list, struct asking *a, uint32_t worker, const struct round_part *part)
{
	const struct query_part *p = part ? part->queries : NULL;
	uint32_t from = a->wish.workers[worker].from;

	a->wish.workers[worker].from = NOT_ASKED;
	list->late += !part;
	if (!p)
		return true;
	if (from == 0) {
		a->serials[worker] = p->serial;
		list->enabled = true;
		list->evicted += p->evicted;
		list->since = MAX(list->since, p->since);
	}
	if (p->serial != a->serials[worker])
		list->torn = true; /* what is behind `from` now is anything */
	else if (p->next)
		a->wish.workers[worker].from = p->next;
	a->asked += a->wish.workers[worker].from != NOT_ASKED;
	for (const struct copied *c = p->first; c; c = c->next)
		if (query_table_merge(list->table, &c->entry) < 0)
			return false;
	return true;
}

static bool ask(struct sessions_shared *sessions, struct query_list *list)
{
	struct asking a = {.workers = sessions->worker_count, .asked = sessions->worker_count};
	bool fine = true;

	for (uint32_t i = 0; i < THREADS_MAX; i++)
		a.wish.workers[i].from = i < a.workers ? 0 : NOT_ASKED;
	while (fine && a.asked > 0) {
		struct round *round = round_begin_with(sessions, collect, &a.wish, sizeof(a.wish));

		if (!round)
			return false;
		(void)round_wait(round);
		a.asked = 0;
		for (uint32_t i = 0; i < a.workers && fine; i++)
			if (a.wish.workers[i].from != NOT_ASKED)
				fine = add_part(list, &a, i, round_part(round, i));
		round_unref(round);
	}
	return fine;
}

bool queries_collect(struct admin *admin, struct query_list *ret)
{
	struct sessions_shared *sessions = admin->context.sessions;
	uint32_t most;
	bool fine = true;

	pthread_mutex_lock(&admin->lock);
	most = admin->context.config->analytics.max_fingerprints;
	pthread_mutex_unlock(&admin->lock);
	pthread_mutex_lock(&admin->queries_lock);
	*ret = (struct query_list){.torn = true};
	for (int i = 0; i < TRIES && fine && ret->torn; i++) {
		query_table_unref(ret->table);
		*ret = (struct query_list){.table = query_table_new(most * sessions->worker_count)};
		fine = ret->table && ask(sessions, ret);
	}
	if (!fine)
		query_table_unref(ret->table);
	pthread_mutex_unlock(&admin->queries_lock);
	return fine;
}

void query_list_free(struct query_list *list)
{
	query_table_unref(list->table);
}

bool queries_clear(struct admin *admin, uint64_t *ret_gone)
{
	struct round *round = round_begin(admin->context.sessions, clear, 0);

	if (!round)
		return false;
	(void)round_wait(round);
	*ret_gone = 0;
	for (uint32_t i = 0; i < round_count(round); i++)
		*ret_gone += round_part(round, i) ? round_part(round, i)->matched : 0;
	round_unref(round);
	return true;
}

/* ---- in order ---- */

static double mean(const struct query_numbers *n)
{
	return n->calls ? (double)n->total / (double)n->calls : 0;
}

static double weight(const struct query_entry *e, enum query_sort sort)
{
	const struct query_numbers *n = &e->numbers;

	switch (sort) {
	case QUERY_SORT_mean_time:
		return mean(n);
	case QUERY_SORT_p99_time:
		return query_numbers_quantile(n, 0.99);
	case QUERY_SORT_calls:
		return (double)n->calls;
	case QUERY_SORT_rows:
		return (double)n->rows;
	case QUERY_SORT_errors:
		return (double)n->errors;
	case QUERY_SORT_total_time:
	case QUERY_SORTS:
		break;
	}
	return (double)n->total;
}

struct weighed {
	const struct query_entry *entry;
	double weight;
};

/* The heaviest first; among equals the order is always the same. */
static int compare(const void *a, const void *b)
{
	const struct weighed *x = a, *y = b;
	uint64_t of_x = x->entry->fingerprint, of_y = y->entry->fingerprint;

	if (x->weight != y->weight)
		return x->weight > y->weight ? -1 : 1;
	return of_x == of_y ? 0 : of_x < of_y ? -1 : 1;
}

static bool is(const char *text, const char *wanted)
{
	return !*wanted || strcmp(text, wanted) == 0;
}

static bool fits(const struct query_entry *e, const struct query_wish *wish)
{
	char fingerprint[17];

	if (!is(query_database(e), wish->database) || !is(query_user(e), wish->user) ||
	    !is(sql_intent_name((enum sql_intent)e->kind), wish->kind))
		return false;
	if (!*wish->text || strcasestr(e->strings, wish->text))
		return true;
	snprintf(fingerprint, sizeof(fingerprint), "%016" PRIx64, e->fingerprint);
	return strcasecmp(fingerprint, wish->text) == 0;
}

json_t *queries_json(const struct query_list *list, const struct query_wish *wish, query_show *show,
		     struct query_sum *ret_sum)
{
	struct weighed *all = calloc((size_t)list->table->count + 1, sizeof(*all));
	struct query_sum sum = {0};
	json_t *json = json_array();

	list_for_each (node, &list->table->line) {
		const struct query_entry *e = list_entry(node, struct query_entry, node);

		if (!all || !fits(e, wish))
			continue;
		all[sum.count++] = (struct weighed){.entry = e, .weight = weight(e, wish->sort)};
		sum.total += e->numbers.total;
	}
	if (sum.count > 0)
		qsort(all, sum.count, sizeof(*all), compare);
	for (uint64_t i = 0; i < MIN(sum.count, wish->limit); i++)
		(void)json_array_append_new(json, show(all[i].entry));
	free(all);
	*ret_sum = sum;
	return json;
}
