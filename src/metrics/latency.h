/*
 * How long things took: histograms that one thread writes and others read, as counters.
 *
 * Bounds are decimal (ten to a decade, 10 us to 1000 s, a bucket is at most a third wider than the one before), so
 * those that Prometheus is shown (0.005 s, 0.01 s, 0.025 s ...) are exact, and percentiles that are found between two
 * of them are no further off than some ten percent.
 *
 * To add is two additions: what happens with nearly every request is added once, see LATENCY_REQUEST.
 */
#ifndef METRICS_LATENCY_H
#define METRICS_LATENCY_H

#include "base/clock.h"
#include "metrics/metrics.h"

#define LATENCY_BOUNDS 81u

struct histogram {
	counter_t sum;                         /* microseconds */
	counter_t buckets[LATENCY_BOUNDS + 1]; /* up to and with each bound; the last: above all */
};

/* Microseconds, ascending. */
extern const uint32_t latency_bounds[LATENCY_BOUNDS];
#define LATENCY_MOST  1000000000u /* the last of them */
#define LATENCY_CELLS 216u
/* The first bound that is not below a cell: eight to a power of two, from 8 on. No two bounds are in the same. */
extern const uint8_t latency_cells[LATENCY_CELLS];

enum latency {
#define LATENCY(key, name, help) LATENCY_##key,
#include "metrics/latency.def"
#undef LATENCY
	LATENCY_COUNT,
	/* A query that is a transaction of its own, and was with the server all the time: the reader adds it to those
	 * three. */
	LATENCY_REQUEST = LATENCY_COUNT,
};

/* What a thread writes. */
struct latencies {
	struct histogram kinds[LATENCY_COUNT + 1];
};

/* A sum of several threads'. */
struct latency_totals {
	uint64_t sum, count, buckets[LATENCY_BOUNDS + 1];
};

static inline uint32_t latency_bucket(usec_t took)
{
	uint32_t shift, i, at_least = (uint32_t)MAX(took, (usec_t)8);

	if (unlikely(took > LATENCY_MOST))
		return LATENCY_BOUNDS;
	shift = 28u - (uint32_t)__builtin_clz(at_least);
	i = latency_cells[shift * 8 + (at_least >> shift) - 8];
	return i + (took > latency_bounds[i]);
}

static inline void latency_add(struct latencies *l, enum latency kind, usec_t took)
{
	struct histogram *h = &l->kinds[kind];

	count_add(&h->sum, took);
	count_add(&h->buckets[latency_bucket(took)], 1);
}

/* One name, of those that are exposed: heliosdb_proxy_<name>. */
const char *latency_name(enum latency kind);
const char *latency_help(enum latency kind);

/* sums[LATENCY_COUNT] += a thread's. */
void latencies_sum(struct latency_totals *sums, const struct latencies *part);
/* What came since then. */
void latency_since(struct latency_totals *ret, const struct latency_totals *now, const struct latency_totals *before);
/* The time within which that share of them (0 to 1) was over, microseconds; negative: there were none. */
double latency_quantile(const struct latency_totals *t, double share);
/* How many were over within a bound, which must be one of latency_bounds. */
uint64_t latency_within(const struct latency_totals *t, uint32_t bound);

/* The bounds that Prometheus and the API are shown, microseconds, ascending. */
#define LATENCY_SHOWN 20u
extern const uint32_t latency_shown[LATENCY_SHOWN];

#endif
