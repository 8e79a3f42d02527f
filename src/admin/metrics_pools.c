/*
 * Metrics of pools. Databases and users are names that clients choose, so the number of pools that are shown is
 * limited: those that came first have rows of their own, for a row that comes and goes is of no use to anybody.
 */
#include "admin/admin_priv.h"

#include "admin/metrics.h"

#define POOL_METRICS(X) \
	X("links_active", "gauge", "Server connections that clients use now.", v->active) \
	X("links_idle", "gauge", "Server connections that nobody uses now.", v->idle) \
	X("links_opening", "gauge", "Server connections that are being opened.", v->connecting) \
	X("links_pinned", "gauge", "Server connections that are pinned to a client.", v->pinned) \
	X("links_waiting", "gauge", "Clients that wait for a server connection.", v->waiting) \
	X("links_max", "gauge", "Server connections that the pool may have.", v->max) \
	X("links_active_limit", "gauge", "Of those, how many may be in use at the same time now (adaptive).", \
	  v->active_limit) \
	X("links_held_long", "gauge", "In use for so long that they do not count for that limit.", v->held_long) \
	X("links_opened_total", "counter", "Server connections begun.", v->opened) \
	X("links_closed_total", "counter", "Server connections ended.", v->closed) \
	X("clients", "gauge", "Clients that are logged in to it.", v->clients) \
	X("paused", "gauge", "1 while its database is paused on the console.", v->paused) \
	X("disabled", "gauge", "1 while its database takes no new clients.", v->disabled) \
	X("oldest_wait_seconds", "gauge", "How long the first in line has waited.", (double)v->oldest_wait_us / 1e6) \
	X("queries_total", "counter", \
	  "Queries of its clients. Those that ran on a standby count where the client logged in.", v->stats.queries) \
	X("transactions_total", "counter", "Transactions of its clients; likewise.", v->stats.transactions) \
	X("query_seconds_total", "counter", "Time in which servers owed its clients answers.", \
	  (double)v->stats.query_us / 1e6) \
	X("wait_seconds_total", "counter", "Time that clients have waited for a server connection of it.", \
	  (double)v->stats.wait_us / 1e6) \
	X("received_bytes_total", "counter", "Bytes that its clients sent.", v->stats.bytes_received) \
	X("sent_bytes_total", "counter", "Bytes that its clients were sent.", v->stats.bytes_sent)

static const struct metric metrics[] = {
#define X(name, kind, help, value) {"heliosdb_proxy_pool_" name, kind, help},
	POOL_METRICS(X)
#undef X
};

static void add_view(struct pool_view *sum, const struct pool_view *v)
{
	pool_view_add(sum, v);
	sum->max += v->max;
	sum->active_limit += v->active_limit;
	sum->paused = sum->paused || v->paused;
	sum->disabled = sum->disabled || v->disabled;
}

/* The youngest come first. Those beyond the limit become one, which has a name that no pool has, for its user has none.
 */
static struct pool_row *fold(struct pool_row *first, uint32_t most, struct pool_row *others)
{
	uint32_t count = 0;

	for (const struct pool_row *row = first; row; row = row->next)
		count++;
	if (count <= most)
		return first;
	*others = (struct pool_row){.view = {.database = "other pools", .user = "", .node = ""}};
	for (; first && count >= most; count--, first = first->next)
		add_view(&others->view, &first->view);
	others->next = first;
	return others;
}

/* Labels are written once for each pool, and not for each of its metrics. NULL: out of memory. */
static struct slice *make_labels(struct exposition *e, struct arena *arena, const struct pool_row *first)
{
	struct slice *labels;
	size_t count = 0;

	for (const struct pool_row *row = first; row; row = row->next)
		count++;
	labels = arena_alloc(arena, (count + 1) * sizeof(*labels));
	for (size_t i = 0; labels && i < count; i++, first = first->next) {
		exposition_label(e, "database", first->view.database);
		exposition_label(e, "user", first->view.user);
		exposition_label(e, "node", first->view.node);
		labels[i] = exposition_keep_labels(e, arena);
		if (!labels[i].bytes)
			labels = NULL;
	}
	return labels;
}

static bool expose(struct exposition *e, struct admin *admin, const struct metric *m)
{
	struct pool_row others, *first;
	struct pool_rows rows;
	struct slice *labels;

	if (!pool_rows_collect(&rows, admin->context.pools))
		return false;
	first = fold(rows.first, MAX(e->rows_max, 1u), &others);
	labels = make_labels(e, &rows.arena, first);
#define X(name, kind, help, value) \
	exposition_begin(e, m++); \
	i = 0; \
	for (const struct pool_row *row = first; row; row = row->next) { \
		const struct pool_view *v = &row->view; \
\
		exposition_add_kept(e, labels[i++], (double)(value)); \
	}
	if (labels) {
		size_t i;

		POOL_METRICS(X)
	}
#undef X
	pool_rows_free(&rows);
	return labels != NULL;
}

const struct metric_group metrics_pools = {"database, user, node",
					   "Pools. There are at most 2,000 rows (`/metrics?pools=N`: N): those that "
					   "came first have rows of their own, all others "
					   "one with the database `other pools` and an empty user.",
					   metrics, ARRAY_SIZE(metrics), expose};
