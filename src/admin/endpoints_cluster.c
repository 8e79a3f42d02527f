/* Nodes, pools, configuration. Names of fields are the reference's; what it lacks is added. */
#include "admin/admin_priv.h"

#include <stdio.h>

#define ROWS_CHUNK   (64u << 10)
#define ADDRESS_SIZE 512u

/* ---- pools ---- */

static void copy_pool(const struct pool_view *view, void *to)
{
	struct pool_rows *rows = to;
	struct pool_row *row = arena_alloc(&rows->arena, sizeof(*row));

	if (!row)
		goto failed;
	*row = (struct pool_row){.view = *view};
	row->view.database = arena_strdup(&rows->arena, view->database);
	row->view.user = arena_strdup(&rows->arena, view->user);
	row->view.node = arena_strdup(&rows->arena, view->node);
	row->view.mode = arena_strdup(&rows->arena, view->mode);
	row->view.last_error = arena_strdup(&rows->arena, view->last_error);
	if (!row->view.database || !row->view.user || !row->view.node || !row->view.mode || !row->view.last_error)
		goto failed;
	*rows->end = row;
	rows->end = &row->next;
	return;
failed:
	rows->failed = true;
}

bool pool_rows_collect(struct pool_rows *rows, struct pools *pools)
{
	*rows = (struct pool_rows){0};
	arena_init(&rows->arena, ROWS_CHUNK);
	rows->end = &rows->first;
	pools_each(pools, copy_pool, rows);
	if (rows->failed)
		pool_rows_free(rows);
	return !rows->failed;
}

void pool_rows_free(struct pool_rows *rows)
{
	arena_destroy(&rows->arena);
}

static json_t *pool_json(const struct pool_view *v)
{
	json_t *json = json_object();

	json_put(json, "node", json_text(v->node));
	json_put(json, "database", json_text(v->database));
	json_put(json, "user", json_text(v->user));
	json_put(json, "mode", json_text(v->mode));
	json_put(json, "active_connections", json_integer(v->active));
	json_put(json, "idle_connections", json_integer(v->idle));
	json_put(json, "pending_requests", json_integer(v->waiting));
	/* the same three as the reference's manual calls them */
	json_put(json, "active", json_integer(v->active));
	json_put(json, "idle", json_integer(v->idle));
	json_put(json, "pending", json_integer(v->waiting));
	json_put(json, "max_connections", json_integer(v->max));
	json_put(json, "active_limit", json_integer(v->active_limit));
	json_put(json, "held_long", json_integer(v->held_long));
	json_put(json, "connecting", json_integer(v->connecting));
	json_put(json, "pinned", json_integer(v->pinned));
	json_put(json, "oldest_wait_ms", json_integer((json_int_t)(v->oldest_wait_us / 1000)));
	json_put(json, "total_connections_created", json_integer((json_int_t)v->opened));
	json_put(json, "total_connections_closed", json_integer((json_int_t)v->closed));
	json_put(json, "last_error", json_text_or_null(v->last_error));
	return json;
}

void endpoint_pools(struct request *request, struct answer *answer)
{
	struct pool_rows rows;
	json_t *list;

	if (!pool_rows_collect(&rows, request->admin->context.pools))
		return;
	list = json_array();
	for (const struct pool_row *row = rows.first; row; row = row->next)
		(void)json_array_append_new(list, pool_json(&row->view));
	pool_rows_free(&rows);
	answer_json(answer, MHD_HTTP_OK, list);
}

/* ---- nodes ---- */

static const char *role_name(enum node_role role)
{
	static const char *const names[] = {
		[NODE_PRIMARY] = "primary", [NODE_STANDBY] = "standby", [NODE_REPLICA] = "replica"};

	return names[role];
}

static void node_address_text(const struct node *node, char *text, size_t size)
{
	snprintf(text, size, "%s:%u", node->host, node->port);
}

static json_t *time_json(uint64_t wall_us)
{
	char text[32];

	if (wall_us == 0)
		return json_null();
	format_time(wall_us, text, sizeof(text));
	return json_text(text);
}

/* Why its name has no address, else why a pool's last login failed. */
static json_t *node_error_json(struct node *node, const struct pool_rows *pools)
{
	char error[sizeof(node->resolve_error)];

	pthread_mutex_lock(&node->lock);
	memcpy(error, node->resolve_error, sizeof(error));
	pthread_mutex_unlock(&node->lock);
	if (error[0])
		return json_text(error);
	for (const struct pool_row *row = pools->first; row; row = row->next)
		if (row->view.last_error[0] && strcmp(row->view.node, node->name) == 0)
			return json_text(row->view.last_error);
	return json_null();
}

static json_t *node_json(struct node *node, const struct pool_rows *pools)
{
	json_t *json = json_object();
	char address[ADDRESS_SIZE];

	node_address_text(node, address, sizeof(address));
	json_put(json, "address", json_text(address));
	json_put(json, "name", json_text(node->name));
	json_put(json, "role", json_text(role_name(atomic_load(&node->role))));
	json_put(json, "enabled", json_boolean(atomic_load(&node->enabled)));
	json_put(json, "healthy", json_boolean(node_is_healthy(node)));
	json_put(json, "last_check", time_json(atomic_load(&node->last_check_wall)));
	json_put(json, "failure_count", json_integer(atomic_load(&node->failed_in_row)));
	json_put(json, "last_error", node_error_json(node, pools));
	json_put(json, "links", json_integer(atomic_load(&node->links)));
	json_put(json, "latency_ms", json_null()); /* not measured in this build */
	json_put(json, "replication_lag_bytes", json_null());
	return json;
}

/* NULL: out of memory. */
static json_t *nodes_json(struct admin *admin)
{
	const struct node_set *nodes = node_list_now(admin->context.nodes);
	struct pool_rows pools;
	json_t *list;

	if (!pool_rows_collect(&pools, admin->context.pools))
		return NULL;
	list = json_array();
	for (uint32_t i = 0; i < nodes->count; i++)
		(void)json_array_append_new(list, node_json(nodes->nodes[i], &pools));
	pool_rows_free(&pools);
	return list;
}

void endpoint_nodes(struct request *request, struct answer *answer)
{
	answer_json(answer, MHD_HTTP_OK, nodes_json(request->admin));
}

void endpoint_node(struct request *request, struct answer *answer)
{
	struct node *node = node_list_find(request->admin->context.nodes, request->argument);
	struct pool_rows pools;

	if (!node) {
		answer_error(answer, MHD_HTTP_NOT_FOUND, "Node not found");
		return;
	}
	if (!pool_rows_collect(&pools, request->admin->context.pools))
		return;
	answer_json(answer, MHD_HTTP_OK, node_json(node, &pools));
	pool_rows_free(&pools);
}

void endpoint_topology(struct request *request, struct answer *answer)
{
	const struct node_list *nodes = request->admin->context.nodes;
	const struct node *primary = node_list_primary(nodes);
	uint32_t total = node_list_count(nodes), healthy = MIN(nodes_healthy(nodes), total);
	json_t *json = json_object();
	char address[ADDRESS_SIZE] = "";

	if (primary)
		node_address_text(primary, address, sizeof(address));
	json_put(json, "currentPrimary", json_text_or_null(address));
	json_put(json, "healthyNodes", json_integer(healthy));
	json_put(json, "unhealthyNodes", json_integer(total - healthy));
	json_put(json, "totalNodes", json_integer(total));
	json_put(json, "lastFailoverAt", json_null()); /* there is no failover in this build */
	json_put(json, "nodes", nodes_json(request->admin));
	answer_json(answer, MHD_HTTP_OK, json);
}

/* ---- configuration ---- */

static json_t *config_nodes_json(const struct config *c)
{
	static const char *const roles[] = {
		[NODE_PRIMARY] = "Primary", [NODE_STANDBY] = "Standby", [NODE_REPLICA] = "ReadReplica"};
	json_t *list = json_array();

	for (uint32_t i = 0; i < c->node_count; i++) {
		const struct config_node *n = &c->nodes[i];
		json_t *json = json_object();
		char address[ADDRESS_SIZE];

		snprintf(address, sizeof(address), "%s:%u", n->host, n->port);
		json_put(json, "address", json_text(address));
		json_put(json, "name", json_text(n->name));
		json_put(json, "role", json_text(roles[n->role]));
		json_put(json, "weight", json_integer(n->weight));
		json_put(json, "enabled", json_boolean(n->enabled));
		(void)json_array_append_new(list, json);
	}
	return list;
}

static json_t *config_json(const struct config *c)
{
	static const char *const modes[] = {[POOL_MODE_SESSION] = "session",
					    [POOL_MODE_TRANSACTION] = "transaction",
					    [POOL_MODE_STATEMENT] = "statement"};
	const struct config_strings *listen = &c->proxy.listen_address;
	json_t *json = json_object(), *addresses = json_array();

	for (uint32_t i = 0; i < listen->count; i++)
		(void)json_array_append_new(addresses, json_text(listen->items[i]));
	json_put(json, "listen_address", json_text_or_null(listen->count ? listen->items[0] : ""));
	json_put(json, "listen_addresses", addresses);
	json_put(json, "admin_address", json_text(c->proxy.admin_address));
	json_put(json, "tr_enabled", json_false()); /* transaction replay is not in this build */
	json_put(json, "tr_mode", json_text("None"));
	json_put(json, "pool_mode", json_text(modes[c->pool.mode]));
	json_put(json, "pool_min_connections", json_integer(c->pool.min_connections));
	json_put(json, "pool_max_connections", json_integer(c->pool.max_connections));
	json_put(json, "max_clients", json_integer(c->proxy.max_clients));
	json_put(json, "config_file", json_text_or_null(c->path));
	json_put(json, "nodes", config_nodes_json(c));
	return json;
}

void endpoint_config(struct request *request, struct answer *answer)
{
	struct admin *admin = request->admin;
	json_t *json;

	pthread_mutex_lock(&admin->lock);
	json = config_json(admin->context.config);
	pthread_mutex_unlock(&admin->lock);
	answer_json(answer, MHD_HTTP_OK, json);
}
