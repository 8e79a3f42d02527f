/* Metrics of the admin API itself. */
#include "admin/admin_priv.h"

#include "admin/metrics.h"

static const struct metric request_metrics[] = {
	{"heliosdb_proxy_admin_requests_total", "counter", "Requests to the admin API that were answered."}};

static bool expose_requests(struct exposition *e, struct admin *admin, const struct metric *m)
{
	char status[8];

	exposition_begin(e, m);
	for (uint32_t i = 0; i < STATUS_CLASSES; i++) {
		snprintf(status, sizeof(status), "%uxx", i + 1);
		exposition_add_one(e, "status", status, (double)atomic_load(&admin->counts.answers[i]));
	}
	return true;
}

const struct metric_group metrics_requests = {"status", "Requests to the admin API.", request_metrics,
					      ARRAY_SIZE(request_metrics), expose_requests};

#define ADMIN_METRICS(X) \
	X("connections", "gauge", "Connections to the admin API.", clients) \
	X("connections_refused_total", "counter", \
	  "Connections refused, for there were too many ([admin] max_connections): told so, or closed.", \
	  atomic_load(&c->connections_refused)) \
	X("connections_late_total", "counter", "Connections closed because no whole request came in time.", \
	  atomic_load(&c->connections_late)) \
	X("tokens_refused_total", "counter", "Wrong tokens.", atomic_load(&c->tokens_refused)) \
	X("tokens_delayed_total", "counter", \
	  "Tokens not looked at, for there had been too many wrong ones from the same address.", \
	  atomic_load(&c->tokens_delayed))

static const struct metric admin_metrics[] = {
#define X(name, kind, help, value) {"heliosdb_proxy_admin_" name, kind, help},
	ADMIN_METRICS(X)
#undef X
};

static bool expose_admin(struct exposition *e, struct admin *admin, const struct metric *m)
{
	const struct admin_counts *c = &admin->counts;
	uint32_t clients = 0;

	pthread_mutex_lock(&admin->lock);
	for (uint32_t i = 0; i < admin->transport_count; i++)
		clients += transport_clients(admin->transports[i]);
	pthread_mutex_unlock(&admin->lock);
#define X(name, kind, help, value) exposition_single(e, m++, (double)(value));
	ADMIN_METRICS(X)
#undef X
	return true;
}

const struct metric_group metrics_admin = {"", "Who asks it.", admin_metrics, ARRAY_SIZE(admin_metrics), expose_admin};
