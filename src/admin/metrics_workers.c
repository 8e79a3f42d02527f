/* Metrics of the workers: what they count, how long requests take, their loops and threads. */
#include "admin/admin_priv.h"

#include "admin/metrics.h"
#include "loop/crew.h"
#include "route/route.h"

static const struct sessions_shared *workers_of(const struct admin *admin)
{
	return admin->context.sessions;
}

/* ---- counters ---- */

static bool expose_counters(struct exposition *e, struct admin *admin, const struct metric *m)
{
	struct counters sum;

	admin_sum_counters(admin, &sum);
	for (uint32_t i = 0; i < COUNTER_METRICS; i++)
		exposition_single(e, &m[i], counter_value(&sum, i));
	return true;
}

const struct metric_group metrics_counters = {"", "What the workers count, summed over all of them.", counter_metrics,
					      COUNTER_METRICS, expose_counters};

/* The reference's name, which is that of no counter: so it is not called one. */
static const struct metric old_metrics[] = {
	{"heliosdb_proxy_connections_closed", "untyped", "The same as heliosdb_proxy_connections_closed_total."}};

static bool expose_old(struct exposition *e, struct admin *admin, const struct metric *m)
{
	struct counters sum;

	admin_sum_counters(admin, &sum);
	exposition_single(e, m, counter_value(&sum, COUNTER_connections_closed_total));
	return true;
}

const struct metric_group metrics_old = {"", "An older name, for what reads it.", old_metrics, ARRAY_SIZE(old_metrics),
					 expose_old};

/* ---- how long things take ---- */

static const struct metric latency_metrics[] = {
#define LATENCY(key, name, help) {"heliosdb_proxy_" #name, "histogram", help},
#include "metrics/latency.def"
#undef LATENCY
};

static bool expose_latencies(struct exposition *e, struct admin *admin, const struct metric *m)
{
	struct latency_totals sums[LATENCY_COUNT];

	admin_sum_latencies(admin, sums);
	for (uint32_t i = 0; i < LATENCY_COUNT; i++) {
		exposition_begin(e, &m[i]);
		exposition_add_histogram(e, &sums[i]);
	}
	return true;
}

const struct metric_group metrics_latencies = {"le", "How long things take, summed over all workers.", latency_metrics,
					       ARRAY_SIZE(latency_metrics), expose_latencies};

/* ---- routes ---- */

static const struct metric route_metrics[] = {
	{"heliosdb_proxy_routed_total", "counter", "Batches of clients by where they were sent, and why."}};

static bool expose_routes(struct exposition *e, struct admin *admin, const struct metric *m)
{
	const struct sessions_shared *workers = workers_of(admin);

	_Static_assert(ROUTE_REASON_COUNT <= METRICS_ROUTES_MAX, "a counter for each");
	exposition_begin(e, m);
	for (int i = 0; i < ROUTE_REASON_COUNT; i++) {
		uint64_t sum = 0;

		for (uint32_t j = 0; j < workers->worker_count; j++)
			sum += atomic_load_explicit(&workers->workers[j]->pool_thread.counters.routed[i],
						    memory_order_relaxed);
		exposition_label(e, "to", route_reason_is_standby((enum route_reason)i) ? "standby" : "primary");
		exposition_label(e, "reason", route_reason_word((enum route_reason)i));
		exposition_add(e, (double)sum);
	}
	return true;
}

const struct metric_group metrics_routes = {"to, reason", "Where batches were sent ([routing](../routing.md)).",
					    route_metrics, ARRAY_SIZE(route_metrics), expose_routes};

/* ---- loops ---- */

/* X(name, field, unit, help) */
#define LOOP_METRICS(X) \
	X("turns_total", turns, 1, "Turns of the worker's loop.") \
	X("waits_total", waits, 1, "Times that the loop asked the kernel what is ready.") \
	X("spins_total", spins, 1, "Of these, times that it asked again instead of sleeping, and nothing had come.") \
	X("spun_seconds_total", spun_us, 1e6, "Time of that asking.") \
	X("lost_seconds_total", lost_us, 1e6, "Of that, time in which others had the core.") \
	X("receives_total", receives, 1, "System calls that received.") \
	X("sends_total", sends, 1, "System calls that sent.") \
	X("accepts_total", accepts, 1, "Connections accepted.") \
	X("messages_total", messages, 1, "Messages from other threads.") \
	X("bytes_in_total", bytes_in, 1, "Bytes received from clients and servers.") \
	X("bytes_out_total", bytes_out, 1, "Bytes sent to clients and servers.")

static const struct metric loop_metrics[] = {
#define X(name, field, unit, help) {"heliosdb_proxy_loop_" name, "counter", help},
	LOOP_METRICS(X)
#undef X
};

static void add_of_worker(struct exposition *e, uint32_t worker, double value)
{
	char number[16];

	snprintf(number, sizeof(number), "%u", worker);
	exposition_add_one(e, "worker", number, value);
}

static bool expose_loops(struct exposition *e, struct admin *admin, const struct metric *m)
{
	const struct sessions_shared *workers = workers_of(admin);

#define X(name, field, unit, help) \
	exposition_begin(e, m++); \
	for (uint32_t i = 0; i < workers->worker_count; i++) { \
		const struct loop_counters *c = loop_counters(workers->workers[i]->pool_thread.loop); \
\
		add_of_worker(e, i, (double)__atomic_load_n(&c->field, __ATOMIC_RELAXED) / (unit)); \
	}
	LOOP_METRICS(X)
#undef X
	return true;
}

const struct metric_group metrics_loops = {"worker", "The workers' loops ([I/O](../io.md)).", loop_metrics,
					   ARRAY_SIZE(loop_metrics), expose_loops};

static const struct metric session_metrics[] = {
	{"heliosdb_proxy_worker_sessions", "gauge", "Client sessions of the worker."}};

static bool expose_sessions(struct exposition *e, struct admin *admin, const struct metric *m)
{
	const struct sessions_shared *workers = workers_of(admin);

	exposition_begin(e, m);
	for (uint32_t i = 0; i < workers->worker_count; i++)
		add_of_worker(e, i, atomic_load(&workers->workers[i]->session_count_seen));
	return true;
}

const struct metric_group metrics_sessions = {"worker", "How clients are spread over the workers.", session_metrics,
					      ARRAY_SIZE(session_metrics), expose_sessions};

/* ---- threads ---- */

#define CREW_METRICS(X) \
	X("threads_active", "gauge", "Threads that run workers now; the others are parked.", atomic_load(&c->active)) \
	X("spins", "gauge", "1: the thread that is active alone spins before it sleeps.", atomic_load(&c->spins)) \
	X("splits_total", "counter", "Times that parked threads were needed.", atomic_load(&c->splits)) \
	X("joins_total", "counter", "Times that threads were parked.", atomic_load(&c->joins))

static const struct metric crew_metrics[] = {
#define X(name, kind, help, value) {"heliosdb_proxy_worker_" name, kind, help},
	CREW_METRICS(X)
#undef X
};

static bool expose_crew(struct exposition *e, struct admin *admin, const struct metric *m)
{
	const struct crew_counters *c;

	if (!workers_of(admin)->crew)
		return true;
	c = crew_counters(workers_of(admin)->crew);
#define X(name, kind, help, value) exposition_single(e, m++, (double)(value));
	CREW_METRICS(X)
#undef X
	return true;
}

const struct metric_group metrics_crew = {"",
					  "Threads that run the workers ([as few as carry the "
					  "load](../architecture.md#as-few-threads-as-carry-the-load)).",
					  crew_metrics, ARRAY_SIZE(crew_metrics), expose_crew};
