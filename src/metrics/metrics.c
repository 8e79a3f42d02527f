/* See metrics.h. */
#include "metrics/metrics.h"

void counters_add(struct counters *sum, const struct counters *part)
{
#define METRIC(name, kind, help) \
	count_add(&sum->name, atomic_load_explicit(&((struct counters *)part)->name, memory_order_relaxed));
#include "metrics/metrics.def"
#undef METRIC
	for (size_t i = 0; i < METRICS_ROUTES_MAX; i++)
		count_add(&sum->routed[i],
			  atomic_load_explicit(&((struct counters *)part)->routed[i], memory_order_relaxed));
}

void counters_expose(const struct counters *sum, struct buf *out)
{
#define METRIC(name, kind, help) \
	buf_printf(out, \
		   "# HELP heliosdb_proxy_" #name " %s\n# TYPE heliosdb_proxy_" #name " " #kind \
		   "\nheliosdb_proxy_" #name " %llu\n", \
		   help, \
		   (unsigned long long)atomic_load_explicit(&((struct counters *)sum)->name, memory_order_relaxed));
#include "metrics/metrics.def"
#undef METRIC
}
