/* Nodes, pools, configuration. Names of fields are the reference's; what it lacks is added. */
#include "admin/views.h"

#include "cluster/members.h"

#include <netdb.h>
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
	json_put(json, "clients", json_integer(v->clients));
	json_put(json, "paused", json_boolean(v->paused));
	json_put(json, "disabled", json_boolean(v->disabled));
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

const struct topology *admin_hold_topology(struct admin *admin)
{
	return admin->context.cluster ? cluster_hold(admin->context.cluster) : NULL;
}

void admin_release_topology(const struct topology *topology)
{
	if (topology)
		cluster_release(topology);
}

const char *role_name(enum node_role role)
{
	static const char *const names[] = {
		[NODE_PRIMARY] = "primary", [NODE_STANDBY] = "standby", [NODE_REPLICA] = "replica"};

	return names[role];
}

static void node_address_text(const struct node *node, char *text, size_t size)
{
	snprintf(text, size, "%s:%u", node->host, node->port);
}

json_t *time_json(uint64_t wall_us)
{
	char text[32];

	if (wall_us == 0)
		return json_null();
	format_time(wall_us, text, sizeof(text));
	return json_text(text);
}

/* Why its name has no address, else why its last check failed, else why a pool's last login did. */
json_t *node_error_json(struct node *node, const struct topology_node *found, const struct pool_rows *pools)
{
	char error[sizeof(node->resolve_error)];

	pthread_mutex_lock(&node->lock);
	memcpy(error, node->resolve_error, sizeof(error));
	pthread_mutex_unlock(&node->lock);
	if (error[0])
		return json_text(error);
	if (found && found->facts.error[0])
		return json_text(found->facts.error);
	for (const struct pool_row *row = pools->first; row; row = row->next)
		if (row->view.last_error[0] && strcmp(row->view.node, node->name) == 0)
			return json_text(row->view.last_error);
	return json_null();
}

/* "0/3000148", or null. */
json_t *lsn_json(uint64_t lsn)
{
	char text[32];

	if (lsn == 0)
		return json_null();
	snprintf(text, sizeof(text), "%X/%X", (unsigned)(lsn >> 32), (unsigned)lsn);
	return json_text(text);
}

json_t *known_number(bool known, int64_t number)
{
	return known ? json_integer((json_int_t)number) : json_null();
}

json_t *milliseconds(bool known, int64_t us)
{
	return known ? json_real((double)us / 1000) : json_null();
}

json_t *node_name_json(const struct node *node)
{
	return node ? json_text(node->name) : json_null();
}

/* What a monitor found out; all of it null while nobody asks. */
static void put_facts(json_t *json, const struct topology_node *n)
{
	static const struct topology_node nothing;
	const struct node_facts *f;

	n = n ? n : &nothing;
	f = &n->facts;
	json_put(json, "latency_ms", milliseconds(f->latency > 0, (int64_t)f->latency));
	json_put(json, "standing", n->node ? json_text(standing_name(n->standing)) : json_null());
	json_put(json, "since", time_json(n->since_wall));
	json_put(json, "in_recovery", f->known ? json_boolean(f->in_recovery) : json_null());
	json_put(json, "read_only", f->known ? json_boolean(f->read_only) : json_null());
	json_put(json, "timeline", known_number(f->known && f->timeline, f->timeline));
	json_put(json, "server_version_num", known_number(f->known, f->version));
	json_put(json, "current_lsn", lsn_json(f->current_lsn));
	json_put(json, "receive_lsn", lsn_json(f->receive_lsn));
	json_put(json, "replay_lsn", lsn_json(f->replay_lsn));
	json_put(json, "replay_paused", f->known && f->tells_log ? json_boolean(f->replay_paused) : json_null());
	json_put(json, "streaming",
		 f->known && f->tells_log && f->in_recovery ? json_boolean(f->receiving) : json_null());
	json_put(json, "upstream", node_name_json(n->upstream));
	json_put(json, "sync_state", json_text_or_null(n->sync_state));
	json_put(json, "clock_skew_ms", milliseconds(f->known && f->tells_log, f->clock_skew_us));
	json_put(json, "check_error", json_text_or_null(f->error));
}

/* System identifiers do not fit into the numbers of every JSON reader. */
json_t *system_json(uint64_t id)
{
	char text[24];

	if (id == 0)
		return json_null();
	snprintf(text, sizeof(text), "%llu", (unsigned long long)id);
	return json_text(text);
}

/* More lately than the facts, while somebody wants to know. */
static void put_position(json_t *json, const struct node *node)
{
	uint64_t bytes = atomic_load(&node->lag_bytes), us = atomic_load(&node->lag_us);
	struct position p;

	json_put(json, "replication_lag_bytes", known_number(bytes != NODE_LAG_UNKNOWN, (int64_t)bytes));
	json_put(json, "replication_lag_ms", milliseconds(us != NODE_LAG_UNKNOWN, (int64_t)us));
	if (!position_read(&node->position, &p))
		p = (struct position){0};
	json_put(json, "position", lsn_json(p.lsn));
	json_put(json, "position_age_ms", milliseconds(p.lsn != 0, (int64_t)(clock_update() - p.asked_at)));
}

/* Where its name leads, what worked last first. */
json_t *addresses_json(struct node *node)
{
	struct sockaddr_storage addresses[NODE_ADDRESSES_MAX];
	socklen_t lens[NODE_ADDRESSES_MAX];
	uint32_t count = node_addresses(node, addresses, lens);
	json_t *list = json_array();

	for (uint32_t i = 0; i < count; i++) {
		char host[NI_MAXHOST];

		if (getnameinfo((const struct sockaddr *)&addresses[i], lens[i], host, sizeof(host), NULL, 0,
				NI_NUMERICHOST) == 0)
			(void)json_array_append_new(list, json_text(host));
	}
	return list;
}

static json_t *node_json(struct admin *admin, struct node *node, const struct pool_rows *pools,
			 const struct topology *topology)
{
	const struct topology_node *found = topology_find(topology, node);
	json_t *json = json_object();
	char address[ADDRESS_SIZE], zone[NODE_ZONE_MAX];

	(void)admin;
	node_address_text(node, address, sizeof(address));
	node_copy_zone(node, zone);
	json_put(json, "address", json_text(address));
	json_put(json, "name", json_text(node->name));
	json_put(json, "weight", json_integer(atomic_load(&node->weight)));
	json_put(json, "zone", json_text_or_null(zone));
	json_put(json, "draining", drain_json(node));
	json_put(json, "circuit", json_text(circuit_name(node)));
	json_put(json, "role", json_text(role_name(atomic_load(&node->role))));
	json_put(json, "enabled", json_boolean(atomic_load(&node->enabled)));
	json_put(json, "source", json_text(member_source_word((enum member_source)atomic_load(&node->source))));
	json_put(json, "takes_reads", found ? json_boolean(topology_node_takes_reads(found)) : json_null());
	json_put(json, "healthy", json_boolean(node_is_healthy(node)));
	json_put(json, "last_check", time_json(atomic_load(&node->last_check_wall)));
	json_put(json, "failure_count", json_integer(atomic_load(&node->failed_in_row)));
	json_put(json, "last_error", node_error_json(node, found, pools));
	json_put(json, "links", json_integer(atomic_load(&node->links)));
	json_put(json, "addresses", addresses_json(node));
	put_position(json, node);
	put_facts(json, found);
	json_put(json, "system_identifier", system_json(found && found->facts.known ? found->facts.system_id : 0));
	return json;
}

json_t *nodes_json(struct admin *admin, const struct topology *topology, node_show *show)
{
	const struct node_set *nodes = node_list_now(admin->context.nodes);
	struct pool_rows pools;
	json_t *list;

	if (!pool_rows_collect(&pools, admin->context.pools))
		return NULL;
	list = json_array();
	for (uint32_t i = 0; i < nodes->count; i++)
		(void)json_array_append_new(list, show(admin, nodes->nodes[i], &pools, topology));
	pool_rows_free(&pools);
	return list;
}

void endpoint_nodes(struct request *request, struct answer *answer)
{
	const struct topology *topology = admin_hold_topology(request->admin);

	answer_json(answer, MHD_HTTP_OK, nodes_json(request->admin, topology, node_json));
	admin_release_topology(topology);
}

void endpoint_node(struct request *request, struct answer *answer)
{
	struct node *node = node_list_find(request->admin->context.nodes, request->argument);
	const struct topology *topology;
	struct pool_rows pools;

	if (!node) {
		answer_problem(answer, MHD_HTTP_NOT_FOUND, "no_such_node", "Node not found");
		return;
	}
	if (!pool_rows_collect(&pools, request->admin->context.pools))
		return;
	topology = admin_hold_topology(request->admin);
	answer_json(answer, MHD_HTTP_OK, node_json(request->admin, node, &pools, topology));
	admin_release_topology(topology);
	pool_rows_free(&pools);
}

static json_t *event_json(const struct topology_event *e)
{
	json_t *json = json_object();

	json_put(json, "at", time_json(e->wall));
	json_put(json, "event", json_text(topology_event_name(e->kind)));
	json_put(json, "text", json_text(topology_event_text(e->kind)));
	json_put(json, "node", node_name_json(e->node));
	json_put(json, "standing", e->node ? json_text(standing_name(e->standing)) : json_null());
	json_put(json, "reason", e->kind == TOPOLOGY_PRIMARY_LOST ? json_text(no_primary_text(e->why)) : json_null());
	return json;
}

/* The newest first. */
json_t *history_json(const struct topology *t)
{
	json_t *list = json_array();
	const struct topology_event *e;

	for (uint64_t i = t ? t->event_count : 0; i > 0 && (e = topology_event(t, i - 1)); i--)
		(void)json_array_append_new(list, event_json(e));
	return list;
}

/* Nodes that are up and may be used, or those that are not or may not. */
json_t *names_json(const struct topology *t, bool healthy)
{
	json_t *list = json_array();

	for (uint32_t i = 0; t && i < t->count; i++) {
		const struct topology_node *n = &t->nodes[i];

		if ((n->enabled && n->up && !standing_is_refused(n->standing)) == healthy)
			(void)json_array_append_new(list, json_text(n->node->name));
	}
	return list;
}

/* NULL: those who name a leader say that there is none. */
const struct node *topology_named(const struct topology *t)
{
	for (uint32_t i = 0; i < t->count; i++)
		if (t->nodes[i].named)
			return t->nodes[i].node;
	return NULL;
}

/* Which node is the primary, and where queries go. */
static void put_primary(json_t *json, const struct topology *t, const struct node_list *nodes)
{
	const struct node *queries = node_list_primary(nodes), *primary = t ? t->primary : queries;
	char address[ADDRESS_SIZE] = "";

	if (primary)
		node_address_text(primary, address, sizeof(address));
	json_put(json, "currentPrimary", json_text_or_null(address));
	json_put(json, "noPrimaryBecause", json_text_or_null(t ? no_primary_text(t->why) : ""));
	json_put(json, "writes", json_text(topology_writes_text(cluster_writes(nodes, t))));
	json_put(json, "rolesBy", json_text(!t || t->by_configuration ? "configuration" : "facts"));
	json_put(json, "leaderNamed", t && t->leader_is_named ? node_name_json(topology_named(t)) : json_null());
	json_put(json, "queriesGoTo", node_name_json(queries));
}

void endpoint_topology(struct request *request, struct answer *answer)
{
	const struct node_list *nodes = request->admin->context.nodes;
	const struct topology *topology = admin_hold_topology(request->admin);
	uint32_t total = node_list_count(nodes), healthy = MIN(nodes_healthy(nodes), total);
	json_t *json = json_object(), *healthy_list;

	healthy_list = names_json(topology, /* healthy= */ true);
	if (topology) {
		total = topology->count;
		healthy = (uint32_t)json_array_size(healthy_list);
	}
	put_primary(json, topology, nodes);
	json_put(json, "healthyNodes", json_integer(healthy));
	json_put(json, "unhealthyNodes", json_integer(total - healthy));
	json_put(json, "totalNodes", json_integer(total));
	json_put(json, "lastFailoverAt", time_json(topology ? topology->last_failover_wall : 0));
	json_put(json, "healthy", healthy_list);
	json_put(json, "unhealthy", names_json(topology, /* healthy= */ false));
	json_put(json, "timeline", known_number(topology && topology->timeline, topology ? topology->timeline : 0));
	json_put(json, "systemIdentifier", system_json(topology ? topology->system_id : 0));
	json_put(json, "patroni", patroni_json(request->admin));
	json_put(json, "history", history_json(topology));
	json_put(json, "nodes", nodes_json(request->admin, topology, node_json));
	answer_json(answer, MHD_HTTP_OK, json);
	admin_release_topology(topology);
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
		json_put(json, "zone", json_text_or_null(n->zone));
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
