/*
 * Metrics: counters summed over the workers, gauges of pools and nodes, the loops' counters, the process.
 * Each row of the tables below is a family of metrics.
 */
#include "admin/admin_priv.h"

#include "cluster/members.h"

#include "base/log.h"
#include "loop/crew.h"
#include "route/breaker.h"
#include "route/route.h"
#include "telemetry/exporter.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#define TEXT_MAX  (256u << 20)
#define TEXT_TYPE "text/plain; version=0.0.4; charset=utf-8"

static void add_name(struct buf *b, const char *name, const char *kind, const char *help)
{
	buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind);
}

/* Whole numbers up to 2^53 come out whole. */
static void add_value(struct buf *b, double value)
{
	buf_printf(b, " %.15g\n", value);
}

static void add_single(struct buf *b, const char *name, const char *kind, const char *help, double value)
{
	add_name(b, name, kind, help);
	buf_add_str(b, name);
	add_value(b, value);
}

/* ---- pools ---- */

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
	X("oldest_wait_seconds", "gauge", "How long the first in line has waited.", (double)v->oldest_wait_us / 1e6)

static void add_pool_labels(struct buf *b, const struct pool_view *v)
{
	buf_add_str(b, "{database=\"");
	buf_add_label(b, v->database);
	buf_add_str(b, "\",user=\"");
	buf_add_label(b, v->user);
	buf_add_str(b, "\",node=\"");
	buf_add_label(b, v->node);
	buf_add_str(b, "\"}");
}

static bool add_pools(struct buf *b, struct admin *admin)
{
	struct pool_rows rows;

	if (!pool_rows_collect(&rows, admin->context.pools))
		return false;
#define X(metric, kind, help, value) \
	add_name(b, "heliosdb_proxy_pool_" metric, kind, help); \
	for (const struct pool_row *row = rows.first; row; row = row->next) { \
		const struct pool_view *v = &row->view; \
\
		buf_add_str(b, "heliosdb_proxy_pool_" metric); \
		add_pool_labels(b, v); \
		add_value(b, (double)(value)); \
	}
	POOL_METRICS(X)
#undef X
	pool_rows_free(&rows);
	return true;
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

static void add_nodes(struct buf *b, const struct node_list *nodes)
{
	static const char *const roles[] = {
		[NODE_PRIMARY] = "primary", [NODE_STANDBY] = "standby", [NODE_REPLICA] = "replica"};
	const struct node_set *set = node_list_now(nodes);

#define X(metric, kind, help, value) \
	add_name(b, "heliosdb_proxy_node_" metric, kind, help); \
	for (uint32_t i = 0; i < set->count; i++) { \
		const struct node *node = set->nodes[i]; \
\
		buf_add_str(b, "heliosdb_proxy_node_" metric "{node=\""); \
		buf_add_label(b, node->name); \
		buf_printf(b, "\",role=\"%s\"}", roles[atomic_load(&node->role)]); \
		add_value(b, (double)(value)); \
	}
	NODE_METRICS(X)
#undef X
}

/* ---- circuit breakers; without them there are no lines ---- */

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

static void add_circuits(struct buf *b, const struct node_list *nodes)
{
	const struct node_set *set = node_list_now(nodes);
	struct breaker_view v;

#define X(metric, kind, help, value) \
	add_name(b, "heliosdb_proxy_circuit_" metric, kind, help); \
	for (uint32_t i = 0; i < set->count; i++) { \
		if (!breaker_look(set->nodes[i], &v)) \
			continue; \
		buf_add_str(b, "heliosdb_proxy_circuit_" metric "{node=\""); \
		buf_add_label(b, set->nodes[i]->name); \
		buf_add_str(b, "\"}"); \
		add_value(b, (double)(value)); \
	}
	CIRCUIT_METRICS(X)
#undef X
}

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

static void add_facts(struct buf *b, const struct topology *t)
{
#define X(metric, kind, help, is_known, value) \
	add_name(b, "heliosdb_proxy_node_" metric, kind, help); \
	for (uint32_t i = 0; i < t->count; i++) { \
		const struct topology_node *n = &t->nodes[i]; \
		const struct node_facts *f = &n->facts; \
\
		(void)f; \
		if (!(is_known)) \
			continue; \
		buf_add_str(b, "heliosdb_proxy_node_" metric "{node=\""); \
		buf_add_label(b, n->node->name); \
		buf_add_str(b, "\"}"); \
		add_value(b, (double)(value)); \
	}
	FACT_METRICS(X)
#undef X
	add_single(b, "heliosdb_proxy_topology_has_primary", "gauge", "1 when it is known which node is the primary.",
		   t->primary != NULL);
	add_single(b, "heliosdb_proxy_topology_writes_held", "gauge",
		   "1 while queries for the primary wait, for it is not known which node that is.",
		   t->writes == WRITES_HELD);
	add_single(b, "heliosdb_proxy_topology_writes_refused", "gauge",
		   "1 while they are refused, for several nodes claim to be it.", t->writes == WRITES_REFUSED);
	add_single(b, "heliosdb_proxy_topology_failovers_total", "counter",
		   "Times that another node was found to be the primary.", (double)t->failovers);
	add_single(b, "heliosdb_proxy_topology_last_failover_timestamp_seconds", "gauge",
		   "When that was last, in seconds since 1970; 0: never.", (double)t->last_failover_wall / 1e6);
}

static void add_topology(struct buf *b, struct admin *admin)
{
	const struct topology *t = admin_hold_topology(admin);

	if (t)
		add_facts(b, t);
	admin_release_topology(t);
}

/* ---- catalogs ---- */

/* X(metric, kind, help, known, value) */
#define CATALOG_METRICS(X) \
	X("usable", "gauge", "1 when reads may run on standbys by what is known of the database's catalog.", true, \
	  strcmp(v->state, "current") == 0) \
	X("names", "gauge", "Names in it.", v->number > 0, v->names) \
	X("age_seconds", "gauge", "When it was read.", v->number > 0, (double)v->age_us / 1e6)

static void add_catalog(struct buf *b, const char *metric, const char *database, bool known, double value)
{
	if (!known)
		return;
	buf_printf(b, "heliosdb_proxy_catalog_%s{database=\"", metric);
	buf_add_label(b, database);
	buf_add_str(b, "\"}");
	add_value(b, value);
}

struct catalog_metric {
	struct buf *to;
	const char *name;
};

static void add_catalog_if(const struct catalog_view *v, void *to)
{
	const struct catalog_metric *m = to;

#define X(metric, kind, help, known, value) \
	if (strcmp(m->name, metric) == 0) \
		add_catalog(m->to, metric, v->database, known, (double)(value));
	CATALOG_METRICS(X)
#undef X
}

static void add_catalogs(struct buf *b, struct catalogs *catalogs)
{
	if (!catalogs)
		return;
#define X(metric, kind, help, known, value) \
	add_name(b, "heliosdb_proxy_catalog_" metric, kind, help); \
	catalogs_each(catalogs, add_catalog_if, &(struct catalog_metric){b, metric});
	CATALOG_METRICS(X)
#undef X
}

/* ---- workers ---- */

#define LOOP_METRICS(X) \
	X(turns, "Turns of the worker's loop.") \
	X(waits, "Times that the loop asked the kernel what is ready.") \
	X(spins, "Of these, times that it asked again instead of sleeping, and nothing had come.") \
	X(spun_us, "Microseconds of that asking.") \
	X(lost_us, "Of these, microseconds in which others had the core.") \
	X(receives, "System calls that received.") \
	X(sends, "System calls that sent.") \
	X(accepts, "Connections accepted.") \
	X(messages, "Messages from other threads.") \
	X(bytes_in, "Bytes received from clients and servers.") \
	X(bytes_out, "Bytes sent to clients and servers.")

static void add_loops(struct buf *b, const struct sessions_shared *sessions)
{
#define X(name, help) \
	add_name(b, "heliosdb_proxy_loop_" #name "_total", "counter", help); \
	for (uint32_t i = 0; i < sessions->worker_count; i++) { \
		const struct loop_counters *c = loop_counters(sessions->workers[i]->pool_thread.loop); \
\
		buf_printf(b, "heliosdb_proxy_loop_" #name "_total{worker=\"%u\"} %" PRIu64 "\n", i, \
			   __atomic_load_n(&c->name, __ATOMIC_RELAXED)); \
	}
	LOOP_METRICS(X)
#undef X
	add_name(b, "heliosdb_proxy_worker_sessions", "gauge", "Client sessions of the worker.");
	for (uint32_t i = 0; i < sessions->worker_count; i++)
		buf_printf(b, "heliosdb_proxy_worker_sessions{worker=\"%u\"} %u\n", i,
			   atomic_load(&sessions->workers[i]->session_count_seen));
}

static void add_crew(struct buf *b, const struct crew *crew)
{
	const struct crew_counters *c;

	if (!crew)
		return;
	c = crew_counters(crew);
	add_single(b, "heliosdb_proxy_worker_threads_active", "gauge",
		   "Threads that run workers now; the others are parked.", atomic_load(&c->active));
	add_single(b, "heliosdb_proxy_worker_spins", "gauge",
		   "1: the thread that is active alone spins before it sleeps.", atomic_load(&c->spins));
	add_single(b, "heliosdb_proxy_worker_splits_total", "counter", "Times that parked threads were needed.",
		   (double)atomic_load(&c->splits));
	add_single(b, "heliosdb_proxy_worker_joins_total", "counter", "Times that threads were parked.",
		   (double)atomic_load(&c->joins));
}

static void sum_counters(const struct admin *admin, struct counters *sum)
{
	const struct sessions_shared *sessions = admin->context.sessions;

	memset(sum, 0, sizeof(*sum));
	pools_add_counters(admin->context.pools, sum);
	exporter_add_counters(sum);
	for (uint32_t i = 0; i < sessions->worker_count; i++)
		counters_add(sum, &sessions->workers[i]->pool_thread.counters);
}

static void add_routes(struct buf *b, const struct counters *sum)
{
	_Static_assert(ROUTE_REASON_COUNT <= METRICS_ROUTES_MAX, "a counter for each");

	add_name(b, "heliosdb_proxy_routed_total", "counter", "Batches of clients by where they were sent, and why.");
	for (int i = 0; i < ROUTE_REASON_COUNT; i++)
		buf_printf(b, "heliosdb_proxy_routed_total{to=\"%s\",reason=\"%s\"} %" PRIu64 "\n",
			   route_reason_is_standby((enum route_reason)i) ? "standby" : "primary",
			   route_reason_word((enum route_reason)i), (uint64_t)atomic_load(&sum->routed[i]));
}

/* ---- the process; names are those of Prometheus' own clients ---- */

static double open_fds(void)
{
	DIR *folder = opendir("/proc/self/fd");
	double count = -3; /* ".", "..", and the folder itself */

	if (!folder)
		return 0;
	while (readdir(folder))
		count++;
	closedir(folder);
	return count;
}

static double resident_bytes(void)
{
	FILE *file = fopen("/proc/self/statm", "re");
	unsigned long size, resident = 0;

	if (!file)
		return 0;
	if (fscanf(file, "%lu %lu", &size, &resident) != 2)
		resident = 0;
	fclose(file);
	return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

static double cpu_seconds(void)
{
	struct rusage usage = {0};

	(void)getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void add_process(struct buf *b, struct admin *admin)
{
	struct rlimit limit = {0};
	const char *unused;

	(void)getrlimit(RLIMIT_NOFILE, &limit);
	add_name(b, "heliosdb_proxy_build_info", "gauge", "Always 1; the label says what runs.");
	buf_add_str(b, "heliosdb_proxy_build_info{version=\"" HELIOS_VERSION "\"} 1\n");
	add_single(b, "heliosdb_proxy_ready", "gauge", "1 when the readiness check succeeds.",
		   admin_is_ready(admin, &unused));
	add_single(b, "heliosdb_proxy_log_lines_dropped_total", "counter", "Log lines lost: nothing took them in time.",
		   (double)log_dropped());
	add_name(b, "process_start_time_seconds", "gauge", "Start of the process, in seconds since 1970.");
	buf_printf(b, "process_start_time_seconds %.3f\n", (double)admin->context.started_wall / 1e6);
	add_single(b, "process_cpu_seconds_total", "counter", "User and system CPU time.", cpu_seconds());
	add_single(b, "process_resident_memory_bytes", "gauge", "Memory in use.", resident_bytes());
	add_single(b, "process_open_fds", "gauge", "Open file descriptors.", open_fds());
	add_single(b, "process_max_fds", "gauge", "File descriptors that may be open.", (double)limit.rlim_cur);
}

static void add_members(struct buf *b, struct admin *admin)
{
	struct members_counts counts;
	uint32_t nodes, sets;

	node_list_kept(admin->context.nodes, &nodes, &sets);
	add_single(b, "heliosdb_proxy_nodes_known", "gauge", "Different nodes that there were since the start.", nodes);
	add_single(b, "heliosdb_proxy_node_sets", "gauge",
		   "Lists of nodes that are kept: that of now, and those that somebody "
		   "may still be looking at.",
		   sets);
	if (!admin->context.members)
		return;
	members_count(admin->context.members, &counts);
	add_name(b, "heliosdb_proxy_members", "gauge", "Nodes, by who says that they belong to the cluster.");
	for (uint32_t i = 0; i < MEMBER_SOURCE_COUNT; i++) {
		buf_printf(b, "heliosdb_proxy_members{source=\"%s\"}", member_source_word((enum member_source)i));
		add_value(b, counts.by_source[i]);
	}
	add_single(b, "heliosdb_proxy_members_refused_total", "counter", "Members that there was no room for.",
		   (double)counts.refused);
}

static void add_admin(struct buf *b, struct admin *admin)
{
	const struct admin_counts *c = &admin->counts;
	uint32_t clients = 0;

	pthread_mutex_lock(&admin->lock);
	for (uint32_t i = 0; i < admin->transport_count; i++)
		clients += transport_clients(admin->transports[i]);
	pthread_mutex_unlock(&admin->lock);
	add_name(b, "heliosdb_proxy_admin_requests_total", "counter", "Requests to the admin API that were answered.");
	for (uint32_t i = 0; i < STATUS_CLASSES; i++)
		buf_printf(b, "heliosdb_proxy_admin_requests_total{status=\"%uxx\"} %" PRIu64 "\n", i + 1,
			   (uint64_t)atomic_load(&c->answers[i]));
	add_single(b, "heliosdb_proxy_admin_connections", "gauge", "Connections to the admin API.", clients);
	add_single(b, "heliosdb_proxy_admin_connections_refused_total", "counter",
		   "Connections closed at once: there were too many ([admin] max_connections).",
		   (double)atomic_load(&c->connections_refused));
	add_single(b, "heliosdb_proxy_admin_connections_late_total", "counter",
		   "Connections closed because no whole request came in time.",
		   (double)atomic_load(&c->connections_late));
	add_single(b, "heliosdb_proxy_admin_tokens_refused_total", "counter", "Wrong tokens.",
		   (double)atomic_load(&c->tokens_refused));
	add_single(b, "heliosdb_proxy_admin_tokens_delayed_total", "counter",
		   "Tokens not looked at, for there had been too many wrong ones from the same address.",
		   (double)atomic_load(&c->tokens_delayed));
}

/* ---- endpoints ---- */

/* False: out of memory. */
static bool metrics_text(struct admin *admin, struct buf *b)
{
	struct counters sum;

	sum_counters(admin, &sum);
	counters_expose(&sum, b);
	add_routes(b, &sum);
	if (!add_pools(b, admin))
		return false;
	add_nodes(b, admin->context.nodes);
	add_members(b, admin);
	add_circuits(b, admin->context.nodes);
	add_topology(b, admin);
	add_patroni_metrics(b, admin);
	add_catalogs(b, admin->context.catalogs);
	add_loops(b, admin->context.sessions);
	add_crew(b, admin->context.sessions->crew);
	add_admin(b, admin);
	add_process(b, admin);
	add_event_metrics(b, admin);
	return !b->failed;
}

void admin_expose(struct admin *admin, struct buf *out)
{
	if (!metrics_text(admin, out))
		out->failed = true;
}

void endpoint_metrics_json(struct request *request, struct answer *answer)
{
	struct counters sum;
	json_t *json = json_object();

	sum_counters(request->admin, &sum);
#define PUT(name, counter) json_put(json, name, json_integer((json_int_t)atomic_load(&sum.counter)))
	PUT("connections_accepted", connections_total);
	PUT("connections_closed", connections_closed);
	PUT("connections_active", clients);
	PUT("queries_processed", queries_total);
	PUT("bytes_received", bytes_received_total);
	PUT("bytes_sent", bytes_sent_total);
	PUT("failovers", failovers_total);
#undef PUT
	answer_json(answer, MHD_HTTP_OK, json);
}

static void answer_metrics_text(struct request *request, struct answer *answer)
{
	struct buf text = BUF_INIT(TEXT_MAX);

	if (metrics_text(request->admin, &text))
		answer_text(answer, TEXT_TYPE, &text);
	buf_free(&text);
}

void endpoint_metrics(struct request *request, struct answer *answer)
{
	if (request_accepts_json(request))
		endpoint_metrics_json(request, answer);
	else
		answer_metrics_text(request, answer);
}

/* The reference wraps the text in JSON: for its clients, when they say so. */
void endpoint_metrics_prometheus(struct request *request, struct answer *answer)
{
	struct buf text = BUF_INIT(TEXT_MAX);
	json_t *json;

	if (!request_accepts_json(request)) {
		answer_metrics_text(request, answer);
		return;
	}
	if (metrics_text(request->admin, &text)) {
		json = json_object();
		json_put(json, "text", json_text(buf_cstr(&text)));
		answer_json(answer, MHD_HTTP_OK, json);
	}
	buf_free(&text);
}
