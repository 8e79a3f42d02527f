/* Metrics of nodes: what is done with them, what is known of them, circuit breakers, Patroni, catalogs. */
#include "admin/admin_priv.h"

#include "admin/metrics.h"
#include "cluster/members.h"
#include "route/breaker.h"

static void add_of_node(struct exposition *e, const struct node *node, double value)
{
	exposition_add_one(e, "node", node->name, value);
}

/* ---- nodes ---- */

#define NODE_METRICS(X) \
	X("up", "gauge", "1 unless the node is unhealthy or not enabled.", node_is_healthy(node)) \
	X("enabled", "gauge", "1 when the node may be used.", atomic_load(&node->enabled)) \
	X("links", "gauge", "Server connections open or being opened.", atomic_load(&node->links)) \
	X("failures_total", "counter", "Connects and logins that failed.", atomic_load(&node->failures)) \
	X("resolve_failures_total", "counter", "Times that its name could not be resolved.", \
	  atomic_load(&node->resolve_failures)) \
	X("moves_total", "counter", "Times that its name was found to lead to another address.", \
	  atomic_load(&node->moves)) \
	X("weight", "gauge", "Its share of the reads, relative to the others.", atomic_load(&node->weight)) \
	X("draining", "gauge", "1 while the node is taken out of service.", atomic_load(&node->draining))

static const struct metric node_metrics[] = {
#define X(metric, kind, help, value) {"heliosdb_proxy_node_" metric, kind, help},
	NODE_METRICS(X)
#undef X
};

static bool expose_nodes(struct exposition *e, struct admin *admin, const struct metric *m)
{
	const struct node_set *set = node_list_now(admin->context.nodes);

#define X(metric, kind, help, value) \
	exposition_begin(e, m++); \
	for (uint32_t i = 0; i < set->count; i++) { \
		const struct node *node = set->nodes[i]; \
\
		exposition_label(e, "node", node->name); \
		exposition_label(e, "role", role_name(atomic_load(&node->role))); \
		exposition_add(e, (double)(value)); \
	}
	NODE_METRICS(X)
#undef X
	return true;
}

const struct metric_group metrics_nodes = {"node, role",
					   "Nodes. The role is that of the configuration, or what was found out.",
					   node_metrics, ARRAY_SIZE(node_metrics), expose_nodes};

/* ---- members ---- */

/* X(metric, kind, help, known, value) */
#define MEMBER_METRICS(X) \
	X("nodes_known", "gauge", "Different nodes that there were since the start.", true, nodes) \
	X("node_sets", "gauge", \
	  "Lists of nodes that are kept: that of now, and those that somebody may still be looking at.", true, sets) \
	X("members_refused_total", "counter", "Members that there was no room for.", members != NULL, counts.refused)

static const struct metric member_metrics[] = {
#define X(metric, kind, help, known, value) {"heliosdb_proxy_" metric, kind, help},
	MEMBER_METRICS(X)
#undef X
};

static bool expose_members(struct exposition *e, struct admin *admin, const struct metric *m)
{
	struct members *members = admin->context.members;
	struct members_counts counts = {0};
	uint32_t nodes, sets;

	node_list_kept(admin->context.nodes, &nodes, &sets);
	if (members)
		members_count(members, &counts);
#define X(metric, kind, help, known, value) \
	if (known) \
		exposition_single(e, m, (double)(value)); \
	m++;
	MEMBER_METRICS(X)
#undef X
	return true;
}

const struct metric_group metrics_members = {"", "How many nodes there are ([clusters](../clusters.md)).",
					     member_metrics, ARRAY_SIZE(member_metrics), expose_members};

static const struct metric source_metrics[] = {
	{"heliosdb_proxy_members", "gauge", "Nodes, by who says that they belong to the cluster."}};

static bool expose_sources(struct exposition *e, struct admin *admin, const struct metric *m)
{
	struct members_counts counts;

	if (!admin->context.members)
		return true;
	members_count(admin->context.members, &counts);
	exposition_begin(e, m);
	for (uint32_t i = 0; i < MEMBER_SOURCE_COUNT; i++)
		exposition_add_one(e, "source", member_source_word((enum member_source)i), counts.by_source[i]);
	return true;
}

const struct metric_group metrics_member_sources = {"source", "Where they come from.", source_metrics,
						    ARRAY_SIZE(source_metrics), expose_sources};

/* ---- circuit breakers; without them there are no samples ---- */

#define CIRCUIT_METRICS(X) \
	X("state", "gauge", "Its circuit breaker: 0 closed, 1 half open, 2 open.", \
	  v.state == BREAKER_OPEN ? 2 : v.state == BREAKER_HALF_OPEN) \
	X("opened_total", "counter", "Times that it opened.", v.opened) \
	X("transitions_total", "counter", "Changes of its state.", v.transitions) \
	X("rejected_total", "counter", "Calls that were not made because it was open.", v.rejected) \
	X("calls_total", "counter", "Calls that were made: logins, and what server connections were lent for.", \
	  v.total.calls) \
	X("failures_total", "counter", "Calls that failed.", v.total.failures) \
	X("slow_calls_total", "counter", "Calls that were slow.", v.total.slow) \
	X("open_seconds_total", "counter", "Time that it was open.", (double)v.time_in[BREAKER_OPEN] / 1e6)

static const struct metric circuit_metrics[] = {
#define X(metric, kind, help, value) {"heliosdb_proxy_circuit_" metric, kind, help},
	CIRCUIT_METRICS(X)
#undef X
};

static bool expose_circuits(struct exposition *e, struct admin *admin, const struct metric *m)
{
	const struct node_set *set = node_list_now(admin->context.nodes);
	struct breaker_view v;

#define X(metric, kind, help, value) \
	exposition_begin(e, m++); \
	for (uint32_t i = 0; i < set->count; i++) \
		if (breaker_look(set->nodes[i], &v)) \
			add_of_node(e, set->nodes[i], (double)(value));
	CIRCUIT_METRICS(X)
#undef X
	return true;
}

const struct metric_group metrics_circuits = {"node",
					      "[Circuit breakers](../circuit-breakers.md), of nodes that have one.",
					      circuit_metrics, ARRAY_SIZE(circuit_metrics), expose_circuits};

/* ---- what monitors found out ---- */

/* X(metric, kind, help, known, value): a node of which it is not known has no line. */
#define FACT_METRICS(X) \
	X("primary", "gauge", "1 for the node that is the primary.", true, n->standing == STANDING_PRIMARY) \
	X("refused", "gauge", "1 for a node that answers and must not be used.", true, \
	  standing_is_refused(n->standing)) \
	X("in_recovery", "gauge", "1 when the node says that it is a standby.", f->known, f->in_recovery) \
	X("timeline", "gauge", "Its timeline.", f->known && f->timeline, f->timeline) \
	X("replication_lag_bytes", "gauge", \
	  "What the primary had written and the standby had not replayed, when it was last asked.", \
	  atomic_load(&n->node->lag_bytes) != NODE_LAG_UNKNOWN, atomic_load(&n->node->lag_bytes)) \
	X("replication_lag_seconds", "gauge", \
	  "How long before it was last asked the primary was where the standby is.", \
	  atomic_load(&n->node->lag_us) != NODE_LAG_UNKNOWN, (double)atomic_load(&n->node->lag_us) / 1e6) \
	X("position_questions_total", "counter", "Times that it was asked for its position, between checks.", true, \
	  atomic_load(&n->node->position_questions)) \
	X("heartbeats_total", "counter", "Heartbeats written to it, or read ([lag_routing] heartbeat_table).", true, \
	  atomic_load(&n->node->heartbeats)) \
	X("heartbeat_failures_total", "counter", "Heartbeats that could not be written or read.", true, \
	  atomic_load(&n->node->heartbeat_failures)) \
	X("check_latency_seconds", "gauge", "How long the last check waited for its answer.", f->latency > 0, \
	  (double)f->latency / 1e6) \
	X("clock_skew_seconds", "gauge", "The node's clock less that of the proxy.", f->known && f->tells_log, \
	  (double)f->clock_skew_us / 1e6) \
	X("checks_failed_in_row", "gauge", "Failed checks since the last good one.", true, f->failed_in_row)

static const struct metric fact_metrics[] = {
#define X(metric, kind, help, known, value) {"heliosdb_proxy_node_" metric, kind, help},
	FACT_METRICS(X)
#undef X
};

static bool expose_facts(struct exposition *e, struct admin *admin, const struct metric *m)
{
	const struct topology *t = admin_hold_topology(admin);

#define X(metric, kind, help, is_known, value) \
	exposition_begin(e, m++); \
	for (uint32_t i = 0; t && i < t->count; i++) { \
		const struct topology_node *n = &t->nodes[i]; \
		const struct node_facts *f = &n->facts; \
\
		(void)f; \
		if (is_known) \
			add_of_node(e, n->node, (double)(value)); \
	}
	FACT_METRICS(X)
#undef X
	admin_release_topology(t);
	return true;
}

const struct metric_group metrics_facts = {
	"node", "What the checks found out. A node of which something is not known has no sample of it.", fact_metrics,
	ARRAY_SIZE(fact_metrics), expose_facts};

#define TOPOLOGY_METRICS(X) \
	X("has_primary", "gauge", "1 when it is known which node is the primary.", t->primary != NULL) \
	X("writes_held", "gauge", "1 while queries for the primary wait, for it is not known which node that is.", \
	  writes == WRITES_HELD) \
	X("writes_failing", "gauge", "1 while they fail, for no primary came within [proxy] write_timeout.", \
	  writes == WRITES_FAILING) \
	X("writes_refused", "gauge", "1 while they are refused, for several nodes claim to be it.", \
	  writes == WRITES_REFUSED) \
	X("failovers_total", "counter", "Times that another node was found to be the primary.", t->failovers) \
	X("last_failover_timestamp_seconds", "gauge", "When that was last, in seconds since 1970; 0: never.", \
	  (double)t->last_failover_wall / 1e6)

static const struct metric topology_metrics[] = {
#define X(metric, kind, help, value) {"heliosdb_proxy_topology_" metric, kind, help},
	TOPOLOGY_METRICS(X)
#undef X
};

static bool expose_topology(struct exposition *e, struct admin *admin, const struct metric *m)
{
	const struct topology *t = admin_hold_topology(admin);
	enum topology_writes writes = cluster_writes(admin->context.nodes, t);

	if (!t)
		return true;
#define X(metric, kind, help, value) exposition_single(e, m++, (double)(value));
	TOPOLOGY_METRICS(X)
#undef X
	admin_release_topology(t);
	return true;
}

const struct metric_group metrics_topology = {"", "The cluster as a whole.", topology_metrics,
					      ARRAY_SIZE(topology_metrics), expose_topology};

/* ---- catalogs ---- */

/* X(metric, kind, help, known, value) */
#define CATALOG_METRICS(X) \
	X("usable", "gauge", "1 when reads may run on standbys by what is known of the database's catalog.", true, \
	  strcmp(v->state, "current") == 0) \
	X("names", "gauge", "Names in it.", v->number > 0, v->names) \
	X("age_seconds", "gauge", "How long ago it was read.", v->number > 0, (double)v->age_us / 1e6)

static const struct metric catalog_metrics[] = {
#define X(metric, kind, help, known, value) {"heliosdb_proxy_catalog_" metric, kind, help},
	CATALOG_METRICS(X)
#undef X
};

static void add_catalog(const struct catalog_view *v, void *exposition)
{
	struct exposition *e = exposition;
	const char *wanted = e->metric->name;

#define X(metric, kind, help, known, value) \
	if (strcmp(wanted, "heliosdb_proxy_catalog_" metric) == 0 && (known)) \
		exposition_add_one(e, "database", v->database, (double)(value));
	CATALOG_METRICS(X)
#undef X
}

static bool expose_catalogs(struct exposition *e, struct admin *admin, const struct metric *m)
{

	for (size_t i = 0; admin->context.catalogs && i < ARRAY_SIZE(catalog_metrics); i++) {
		exposition_begin(e, &m[i]);
		catalogs_each(admin->context.catalogs, add_catalog, e);
	}
	return true;
}

const struct metric_group metrics_catalogs = {
	"database", "What is known of databases' functions and views ([routing](../routing.md)).", catalog_metrics,
	ARRAY_SIZE(catalog_metrics), expose_catalogs};
