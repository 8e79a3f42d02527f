/*
 * Statistics by database: totals since the start, and averages since one to two periods ago, as PgBouncer has them.
 */
#include "console/console_priv.h"

/* ---- groups ---- */

struct group *group_get(struct groups *g, const char *name)
{
	struct group *group = map_get(&g->by_name, slice_str(name));

	if (group)
		return group;
	group = arena_zalloc(&g->arena, sizeof(*group));
	if (!group || !(group->name = arena_strdup(&g->arena, name)) ||
	    map_put(&g->by_name, slice_str(name), group, NULL) < 0) {
		g->failed = true;
		return NULL;
	}
	*g->end = group;
	g->end = &group->next;
	return group;
}

static void add_pool(struct groups *g, const char *name, const struct pool_view *v)
{
	struct group *group = group_get(g, name);

	if (!group)
		return;
	pool_totals_add(&group->stats, &v->stats);
	pool_totals_add(&group->before, &v->stats_before);
	group->clients += v->clients;
	group->links += v->links;
	g->pool_count++;
}

static void add_by_database(const struct pool_view *v, void *to)
{
	add_pool(to, v->database, v);
}

static void add_by_user(const struct pool_view *v, void *to)
{
	add_pool(to, v->user, v);
}

/* They count for totals, and not for averages. */
static void add_gone(const char *database, const struct pool_totals *stats, void *to)
{
	struct group *group = group_get(to, database);

	if (!group)
		return;
	pool_totals_add(&group->stats, stats);
	pool_totals_add(&group->before, stats);
}

bool groups_collect(struct groups *g, struct pools *pools, bool by_user)
{
	*g = (struct groups){.end = &g->first};
	arena_init(&g->arena, 16u << 10);
	pools_each_home(pools, by_user ? add_by_user : add_by_database, g);
	if (!by_user)
		pools_each_gone(pools, add_gone, g);
	return !g->failed;
}

void groups_free(struct groups *g)
{
	map_free(&g->by_name);
	arena_destroy(&g->arena);
}

/* ---- values ---- */

/* A time of which only the sum is counted, by how many times it was. */
static uint64_t mean(uint64_t time, uint64_t count)
{
	return count ? time / count : 0;
}

static uint64_t per_second(uint64_t count, usec_t duration)
{
	return duration ? (uint64_t)((__uint128_t)count * USEC_PER_SEC / duration) : 0;
}

struct values { /* in the order of columns */
	uint64_t v[12];
};

static struct values totals_of(const struct pool_totals *t)
{
	return (struct values){{t->assignments, t->transactions, t->queries, t->bytes_received, t->bytes_sent,
				t->lent_us, t->query_us, t->wait_us, t->client_parses, t->server_parses, t->binds,
				t->logins}};
}

/* Two threads were asked one after the other: what went down meanwhile counts as nothing. */
static struct pool_totals since(const struct pool_totals *now, const struct pool_totals *before)
{
	struct pool_totals d;

#define X(name) d.name = now->name > before->name ? now->name - before->name : 0;
	POOL_STATS(X)
#undef X
	return d;
}

static struct values averages_of(const struct pool_totals *now, const struct pool_totals *before, usec_t age)
{
	struct pool_totals d = since(now, before);

	return (struct values){
		{per_second(d.assignments, age), per_second(d.transactions, age), per_second(d.queries, age),
		 per_second(d.bytes_received, age), per_second(d.bytes_sent, age), mean(d.lent_us, d.transactions),
		 mean(d.query_us, d.queries), mean(d.wait_us, d.assignments), per_second(d.client_parses, age),
		 per_second(d.server_parses, age), per_second(d.binds, age), per_second(d.logins, age)}};
}

static void put(struct rows *rows, const struct values *values)
{
	for (size_t i = 0; i < ARRAY_SIZE(values->v); i++)
		row_number(rows, values->v[i]);
}

/* ---- what is shown ---- */

static void each_database(struct console *console, struct rows *rows, bool totals, bool averages)
{
	usec_t age = pools_stats_age(console->context.pools);
	struct groups g;

	if (!groups_collect(&g, console->context.pools, /* by_user= */ false))
		rows->out.failed = true;
	for (const struct group *group = g.first; group; group = group->next) {
		struct values all = totals_of(&group->stats), mean_values;

		mean_values = averages_of(&group->stats, &group->before, age);
		row_begin(rows);
		row_text(rows, group->name);
		if (totals)
			put(rows, &all);
		if (averages)
			put(rows, &mean_values);
		row_end(rows);
	}
	groups_free(&g);
}

void show_stats(struct console *console, const struct worker *w, struct rows *rows)
{
	(void)w;
	each_database(console, rows, /* totals= */ true, /* averages= */ true);
}

void show_stats_totals(struct console *console, const struct worker *w, struct rows *rows)
{
	(void)w;
	each_database(console, rows, /* totals= */ true, /* averages= */ false);
}

void show_stats_averages(struct console *console, const struct worker *w, struct rows *rows)
{
	(void)w;
	each_database(console, rows, /* totals= */ false, /* averages= */ true);
}

static void put_named(struct rows *rows, const char *const *names, const struct values *values)
{
	for (size_t i = 0; i < ARRAY_SIZE(values->v); i++) {
		row_begin(rows);
		row_text(rows, names[i]);
		row_number(rows, values->v[i]);
		row_end(rows);
	}
}

void show_totals(struct console *console, const struct worker *w, struct rows *rows)
{
	static const char *const total_names[] = {"total_server_assignment_count",
						  "total_xact_count",
						  "total_query_count",
						  "total_client_bytes",
						  "total_server_bytes",
						  "total_xact_time",
						  "total_query_time",
						  "total_wait_time",
						  "total_ps_client_parse_count",
						  "total_ps_server_parse_count",
						  "total_ps_bind_count",
						  "total_client_login_count"};
	static const char *const average_names[] = {"avg_server_assignment_count",
						    "avg_xact_count",
						    "avg_query_count",
						    "avg_client_bytes",
						    "avg_server_bytes",
						    "avg_xact_time",
						    "avg_query_time",
						    "avg_wait_time",
						    "avg_ps_client_parse_count",
						    "avg_ps_server_parse_count",
						    "avg_ps_bind_count",
						    "avg_client_login_count"};
	struct pool_totals now = {0}, before = {0};
	struct values totals, averages;
	struct groups g;

	(void)w;
	if (!groups_collect(&g, console->context.pools, /* by_user= */ false))
		rows->out.failed = true;
	for (const struct group *group = g.first; group; group = group->next) {
		pool_totals_add(&now, &group->stats);
		pool_totals_add(&before, &group->before);
	}
	groups_free(&g);
	totals = totals_of(&now);
	averages = averages_of(&now, &before, pools_stats_age(console->context.pools));
	put_named(rows, total_names, &totals);
	put_named(rows, average_names, &averages);
}
