/*
 * Counters: each worker writes its own, the reader sums them. One writer, so an addition
 * is a load and a store, not a locked instruction.
 */
#ifndef METRICS_METRICS_H
#define METRICS_METRICS_H

#include "base/common.h"

#include <stdatomic.h>

typedef _Atomic uint64_t counter_t;

#define METRICS_ROUTES_MAX 16u

enum {
#define METRIC(name, kind, help) COUNTER_##name,
#include "metrics/metrics.def"
#undef METRIC
	COUNTER_METRICS
};

struct counters {
#define METRIC(name, kind, help) counter_t name;
#include "metrics/metrics.def"
#undef METRIC
	counter_t routed[METRICS_ROUTES_MAX]; /* batches, by enum route_reason */
};

static inline void count_add(counter_t *counter, uint64_t n)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}

static inline void count_sub(counter_t *counter, uint64_t n)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) - n, memory_order_relaxed);
}

/* *sum += *part, counter by counter; sum belongs to the caller alone. */
void counters_add(struct counters *sum, const struct counters *part);

/* A family of metrics. Counters end in _total; kind: counter, gauge, histogram or untyped. help: one line. */
struct metric {
	const char *name, *kind, *help;
};

/* How counters are exposed, and the value of one in the unit of its name. */
extern const struct metric counter_metrics[COUNTER_METRICS];
double counter_value(const struct counters *sum, uint32_t index);

#endif
