/* Pools, and what can be summed up from them: databases, users, statistics. */
#include "console/console_priv.h"

#include <stdio.h>

/* ---- pools ---- */

static void pool_values(const struct pool_view *v, struct rows *rows)
{
	row_text(rows, v->database);
	row_text(rows, v->user);
	row_number(rows, v->clients > v->waiting ? v->clients - v->waiting : 0);
	row_number(rows, v->waiting);
	row_number(rows, 0); /* cancels are not kept by pool */
	row_number(rows, 0);
	row_number(rows, v->active);
	row_number(rows, 0);
	row_number(rows, 0);
	row_number(rows, v->idle);
	row_number(rows, 0); /* none has to be checked first, or is being reset apart from those in use */
	row_number(rows, 0);
	row_number(rows, v->connecting);
	row_number(rows, v->oldest_wait_us / USEC_PER_SEC);
	row_number(rows, v->oldest_wait_us % USEC_PER_SEC);
	row_text(rows, v->mode);
	row_null(rows);
}

static void add_pool(const struct pool_view *v, void *to)
{
	struct rows *rows = to;

	row_begin(rows);
	pool_values(v, rows);
	row_end(rows);
}

/* As with PgBouncer there is one of the console, too. */
void show_pools(struct console *console, const struct worker *w, struct rows *rows)
{
	const struct config *c = w->settings.config;
	struct pool_view own = {.clients = atomic_load(&console->clients), .mode = "statement"};

	if (c->admin.databases.count) {
		own.database = own.user = c->admin.databases.items[0];
		add_pool(&own, rows);
	}
	pools_each_home(console->context.pools, add_pool, rows);
}

static void add_pool_extended(const struct pool_view *v, void *to)
{
	struct rows *rows = to;

	row_begin(rows);
	pool_values(v, rows);
	row_text(rows, v->node);
	row_number(rows, v->max);
	row_number(rows, v->active_limit);
	row_number(rows, v->pinned);
	row_number(rows, v->opened);
	row_number(rows, v->closed);
	row_number(rows, v->paused);
	row_text(rows, v->last_error);
	row_end(rows);
}

void show_pools_extended(struct console *console, const struct worker *w, struct rows *rows)
{
	(void)w;
	pools_each(console->context.pools, add_pool_extended, rows);
}

static void add_prepared(const struct pool_view *v, void *to)
{
	struct rows *rows = to;

	row_begin(rows);
	row_text(rows, v->database);
	row_text(rows, v->user);
	row_number(rows, v->stats.client_parses);
	row_number(rows, v->stats.server_parses);
	row_number(rows, v->stats.binds);
	row_end(rows);
}

void show_prepared_statements(struct console *console, const struct worker *w, struct rows *rows)
{
	(void)w;
	pools_each_home(console->context.pools, add_prepared, rows);
}

/* ---- databases and users ---- */

static const char *overridden_mode(const struct config_override *overrides, uint32_t count, enum pool_mode now)
{
	for (uint32_t i = 0; i < count; i++)
		if (config_override_is(&overrides[i], "mode"))
			return pool_mode_name(now);
	return NULL;
}

static const char *or_null(const char *text)
{
	return text && *text ? text : NULL;
}

static void add_database(struct console *console, const struct config *c, const struct group *g, struct rows *rows)
{
	const struct config_database *d = config_database_find(c, g->name);
	const struct node *node = d && *d->node ? node_list_find(console->context.nodes, d->node)
						: node_list_primary(console->context.nodes);
	struct config_pool settings;
	bool paused, disabled;

	config_pool_for(c, g->name, "", &settings);
	pools_gate(console->context.pools, g->name, &paused, &disabled);
	row_begin(rows);
	row_text(rows, g->name);
	row_text(rows, node ? node->host : NULL);
	row_number(rows, node ? node->port : 0);
	row_text(rows, d && *d->dbname ? d->dbname : g->name);
	row_text(rows, d ? or_null(d->user) : NULL);
	row_number(rows, settings.max_connections);
	row_number(rows, settings.min_connections);
	row_number(rows, settings.reserve_connections);
	row_number(rows, settings.max_lifetime / USEC_PER_SEC);
	row_text(rows, d ? overridden_mode(d->overrides, d->override_count, settings.mode) : NULL);
	row_null(rows);
	row_number(rows, settings.max_database_connections);
	row_number(rows, g->links);
	row_number(rows, settings.max_database_clients);
	row_number(rows, g->clients);
	row_number(rows, paused);
	row_number(rows, disabled);
	row_end(rows);
}

static void add_console(struct console *console, const char *name, struct rows *rows)
{
	row_begin(rows);
	row_text(rows, name);
	row_null(rows);
	row_number(rows, 0);
	row_text(rows, name);
	row_text(rows, name);
	for (int i = 0; i < 4; i++)
		row_number(rows, 0);
	row_text(rows, "statement");
	row_null(rows);
	row_number(rows, 0);
	row_number(rows, 0);
	row_number(rows, 0);
	row_number(rows, atomic_load(&console->clients));
	row_number(rows, 0);
	row_number(rows, 0);
	row_end(rows);
}

/* Those of clients, and those that are configured. false: out of memory. Free it in any case. */
static bool collect_databases(struct console *console, const struct config *c, struct groups *g)
{
	bool fine = groups_collect(g, console->context.pools, /* by_user= */ false);

	for (uint32_t i = 0; fine && i < c->database_count; i++)
		if (strcmp(c->databases[i].name, "*") != 0)
			fine = group_get(g, c->databases[i].name) != NULL;
	return fine;
}

static bool collect_users(struct console *console, const struct config *c, struct groups *g)
{
	bool fine = groups_collect(g, console->context.pools, /* by_user= */ true);

	for (uint32_t i = 0; fine && i < c->user_count; i++)
		fine = group_get(g, c->users[i].name) != NULL;
	return fine;
}

static void out_of_memory(struct rows *rows)
{
	rows->out.failed = true;
}

void show_databases(struct console *console, const struct worker *w, struct rows *rows)
{
	const struct config *c = w->settings.config;
	struct groups g;
	bool fine = collect_databases(console, c, &g);

	if (!fine)
		out_of_memory(rows);
	for (const struct group *group = g.first; fine && group; group = group->next)
		add_database(console, c, group, rows);
	if (fine && c->admin.databases.count)
		add_console(console, c->admin.databases.items[0], rows);
	groups_free(&g);
}

static void add_user(const struct config *c, const struct group *g, struct rows *rows)
{
	const struct config_user *u = config_user_find(c, g->name);
	struct config_pool settings;
	char size[24] = "", reserve[24] = "";

	config_pool_for(c, "", g->name, &settings);
	for (uint32_t i = 0; u && i < u->override_count; i++) {
		if (config_override_is(&u->overrides[i], "max_connections"))
			snprintf(size, sizeof(size), "%9u", settings.max_connections);
		if (config_override_is(&u->overrides[i], "reserve_connections"))
			snprintf(reserve, sizeof(reserve), "%9u", settings.reserve_connections);
	}
	row_begin(rows);
	row_text(rows, g->name);
	row_text(rows, size);
	row_text(rows, reserve);
	row_text(rows, u ? overridden_mode(u->overrides, u->override_count, settings.mode) : NULL);
	row_number(rows, settings.max_user_connections);
	row_number(rows, g->links);
	row_number(rows, settings.max_user_clients);
	row_number(rows, g->clients);
	row_end(rows);
}

void show_users(struct console *console, const struct worker *w, struct rows *rows)
{
	const struct config *c = w->settings.config;
	struct groups g;
	bool fine = collect_users(console, c, &g);

	if (!fine)
		out_of_memory(rows);
	for (const struct group *group = g.first; fine && group; group = group->next)
		add_user(c, group, rows);
	groups_free(&g);
}

/* ---- lists ---- */

static void add_list(struct rows *rows, const char *name, uint64_t items)
{
	row_begin(rows);
	row_text(rows, name);
	row_number(rows, items);
	row_end(rows);
}

static uint32_t count_groups(const struct groups *g, uint32_t *ret_clients, uint32_t *ret_links)
{
	uint32_t count = 0;

	*ret_clients = *ret_links = 0;
	for (const struct group *group = g->first; group; group = group->next) {
		*ret_clients += group->clients;
		*ret_links += group->links;
		count++;
	}
	return count;
}

void show_lists(struct console *console, const struct worker *w, struct rows *rows)
{
	const struct config *c = w->settings.config;
	uint32_t clients, links, all = atomic_load(&w->shared->clients), databases, users, names = 0, on_console;
	bool own = c->admin.databases.count > 0; /* the console's counts, too */
	const struct node_set *nodes = node_list_now(console->context.nodes);
	struct groups by_database, by_user;

	if (!collect_databases(console, c, &by_database))
		out_of_memory(rows);
	if (!collect_users(console, c, &by_user))
		out_of_memory(rows);
	on_console = atomic_load(&console->clients);
	users = count_groups(&by_user, &clients, &links);
	databases = count_groups(&by_database, &clients, &links);
	for (uint32_t i = 0; i < nodes->count; i++)
		names += console_is_name(nodes->nodes[i]);
	add_list(rows, "databases", databases + own);
	add_list(rows, "users", users);
	add_list(rows, "peers", 0);
	add_list(rows, "pools", by_database.pool_count + own);
	add_list(rows, "peer_pools", 0);
	add_list(rows, "free_clients", 0);
	add_list(rows, "used_clients", all);
	add_list(rows, "login_clients", all > clients + on_console ? all - clients - on_console : 0);
	add_list(rows, "free_servers", 0);
	add_list(rows, "used_servers", links);
	add_list(rows, "dns_names", names);
	add_list(rows, "dns_zones", 0);
	add_list(rows, "dns_queries", 0);
	add_list(rows, "dns_pending", 0);
	groups_free(&by_database);
	groups_free(&by_user);
}
