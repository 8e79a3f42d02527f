/* See metrics.h. */
#include "metrics/metrics.h"

#include "metrics/exposition.h"

static uint64_t load(const counter_t *counter)
{
	return atomic_load_explicit((counter_t *)(uintptr_t)counter, memory_order_relaxed);
}

void counters_add(struct counters *sum, const struct counters *part)
{
#define METRIC(name, kind, help) count_add(&sum->name, load(&part->name));
#include "metrics/metrics.def"
#undef METRIC
	for (size_t i = 0; i < METRICS_ROUTES_MAX; i++)
		count_add(&sum->routed[i], load(&part->routed[i]));
}

const struct metric counter_metrics[COUNTER_METRICS] = {
#define METRIC(name, kind, help)       {"heliosdb_proxy_" #name, #kind, help},
#define METRIC_TIME(name, shown, help) {"heliosdb_proxy_" #shown, "counter", help},
#include "metrics/metrics.def"
#undef METRIC
};

double counter_value(const struct counters *sum, uint32_t index)
{
	static const struct {
		size_t at;
		double unit;
	} places[COUNTER_METRICS] = {
#define METRIC(name, kind, help)       {offsetof(struct counters, name), 1},
#define METRIC_TIME(name, shown, help) {offsetof(struct counters, name), 1e6},
#include "metrics/metrics.def"
#undef METRIC
	};

	return (double)load((const counter_t *)(const void *)((const uint8_t *)sum + places[index].at)) /
	       places[index].unit;
}
