/* The versioned API: nodes and topology. What changes them has the handlers of endpoints_nodes.c and _members.c. */
#include "admin/views.h"

#include "cluster/members.h"

#include <stdio.h>

#define ADDRESS_SIZE 512u

static void put_where(json_t *json, const struct node *node)
{
	char address[ADDRESS_SIZE];

	snprintf(address, sizeof(address), "%s:%u", node->host, node->port);
	json_put(json, "name", json_text(node->name));
	json_put(json, "host", json_text(node->host));
	json_put(json, "port", json_integer(node->port));
	json_put(json, "address", json_text(address));
}

/* The wishes of operators and of the configuration. */
static void put_settings(json_t *json, struct node *node)
{
	char zone[NODE_ZONE_MAX];

	node_copy_zone(node, zone);
	json_put(json, "role", json_text(role_name(atomic_load(&node->role))));
	json_put(json, "enabled", json_boolean(atomic_load(&node->enabled)));
	json_put(json, "draining", drain_json(node));
	json_put(json, "zone", json_text_or_null(zone));
	json_put(json, "weight", json_integer(atomic_load(&node->weight)));
	json_put(json, "source", json_text(member_source_word((enum member_source)atomic_load(&node->source))));
}

static json_t *circuit_state_json(const struct node *node)
{
	const char *state = circuit_name(node);
	json_t *json;

	if (!state)
		return json_null();
	json = json_object();
	json_put(json, "state", json_text(state));
	return json;
}

static void put_lag(json_t *json, const struct node *node)
{
	uint64_t bytes = atomic_load(&node->lag_bytes), us = atomic_load(&node->lag_us);

	json_put(json, "lag_bytes", known_number(bytes != NODE_LAG_UNKNOWN, (int64_t)bytes));
	json_put(json, "lag_ms", milliseconds(us != NODE_LAG_UNKNOWN, (int64_t)us));
}

/* What the monitor found out; all of it null while nobody asks. */
static void put_findings(json_t *json, const struct topology_node *n)
{
	static const struct topology_node nothing;
	const struct node_facts *f;

	n = n ? n : &nothing;
	f = &n->facts;
	json_put(json, "standing", n->node ? json_text(standing_name(n->standing)) : json_null());
	json_put(json, "standing_since", time_json(n->since_wall));
	json_put(json, "takes_reads", n->node ? json_boolean(topology_node_takes_reads(n)) : json_null());
	json_put(json, "latency_ms", milliseconds(f->latency > 0, (int64_t)f->latency));
	json_put(json, "receives_from", node_name_json(n->upstream));
	json_put(json, "sync_state", json_text_or_null(n->sync_state));
	json_put(json, "timeline", known_number(f->known && f->timeline, f->timeline));
	json_put(json, "replay_paused", f->known && f->tells_log ? json_boolean(f->replay_paused) : json_null());
	json_put(json, "server_version_num", known_number(f->known, f->version));
	json_put(json, "check_error", json_text_or_null(f->error));
}

static json_t *node_v1_json(struct admin *admin, struct node *node, const struct pool_rows *pools,
			    const struct topology *topology)
{
	json_t *json = json_object();

	put_where(json, node);
	put_settings(json, node);
	json_put(json, "is_primary", json_boolean(topology ? node == topology->primary : node_is_primary(admin, node)));
	json_put(json, "healthy", json_boolean(node_is_healthy(node)));
	json_put(json, "circuit", circuit_state_json(node));
	json_put(json, "links", json_integer(atomic_load(&node->links)));
	json_put(json, "addresses", addresses_json(node));
	json_put(json, "failed_checks", json_integer(atomic_load(&node->failed_in_row)));
	json_put(json, "last_error", node_error_json(node, topology_find(topology, node), pools));
	json_put(json, "last_check_at", time_json(atomic_load(&node->last_check_wall)));
	put_lag(json, node);
	put_findings(json, topology_find(topology, node));
	return json;
}

void endpoint_v1_nodes(struct request *request, struct answer *answer)
{
	const struct topology *topology = admin_hold_topology(request->admin);
	json_t *items = nodes_json(request->admin, topology, node_v1_json);

	admin_release_topology(topology);
	if (items)
		answer_json(answer, MHD_HTTP_OK, list_json(items, json_array_size(items)));
}

void endpoint_v1_node(struct request *request, struct answer *answer)
{
	struct node *node = request_node(request, answer);
	const struct topology *topology;
	struct pool_rows pools;

	if (!node || !pool_rows_collect(&pools, request->admin->context.pools))
		return;
	topology = admin_hold_topology(request->admin);
	answer_json(answer, MHD_HTTP_OK, node_v1_json(request->admin, node, &pools, topology));
	admin_release_topology(topology);
	pool_rows_free(&pools);
}

/* Which node is the primary, and where queries go. */
static void put_primary(json_t *json, const struct topology *t, const struct node_list *nodes)
{
	const struct node *queries = node_list_primary(nodes), *primary = t ? t->primary : queries;

	json_put(json, "primary", node_name_json(primary));
	json_put(json, "no_primary_because", json_text_or_null(t ? no_primary_text(t->why) : ""));
	json_put(json, "writes", json_text(topology_writes_text(cluster_writes(nodes, t))));
	json_put(json, "queries_go_to", node_name_json(queries));
	json_put(json, "roles_by", json_text(!t || t->by_configuration ? "configuration" : "facts"));
	json_put(json, "leader_named", t && t->leader_is_named ? node_name_json(topology_named(t)) : json_null());
}

void endpoint_v1_topology(struct request *request, struct answer *answer)
{
	const struct node_list *nodes = request->admin->context.nodes;
	const struct topology *t = admin_hold_topology(request->admin);
	json_t *json = json_object();

	put_primary(json, t, nodes);
	json_put(json, "nodes_healthy", json_integer(nodes_healthy(nodes)));
	json_put(json, "nodes_total", json_integer(node_list_count(nodes)));
	json_put(json, "healthy", names_json(t, /* healthy= */ true));
	json_put(json, "unhealthy", names_json(t, /* healthy= */ false));
	json_put(json, "last_failover_at", time_json(t ? t->last_failover_wall : 0));
	json_put(json, "timeline", known_number(t && t->timeline, t ? t->timeline : 0));
	json_put(json, "system_identifier", system_json(t ? t->system_id : 0));
	json_put(json, "patroni", patroni_json(request->admin));
	json_put(json, "history", history_json(t));
	json_put(json, "items", nodes_json(request->admin, t, node_v1_json));
	admin_release_topology(t);
	answer_json(answer, MHD_HTTP_OK, json);
}
