/*
 * Counters: each worker writes its own, the reader sums them. One writer, so an addition
 * is a load and a store, not a locked instruction.
 */
#ifndef METRICS_METRICS_H
#define METRICS_METRICS_H

#include "base/buf.h"

#include <stdatomic.h>

typedef _Atomic uint64_t counter_t;

#define METRICS_ROUTES_MAX 16u

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

/* Prometheus text exposition (version 0.0.4) of all counters. */
void counters_expose(const struct counters *sum, struct buf *out);

#endif
