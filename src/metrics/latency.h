/*
 * How long things took: histograms that one thread writes and others read, as counters.
 *
 * There is a bound wherever one of two expositions has one, so that both are exact:
 *   - the 20 that everybody is shown (0.005 s, 0.01 s, 0.025 s ...), and
 *   - those of Prometheus' native histograms with schema 3, which are those of OpenTelemetry's exponential ones with
 *     scale 3: 2^(i/8) seconds, from 8 us to 36 hours.
 * Times are whole microseconds, and a bucket is what is above the bound before and not above its own: so a native bound
 * stands here rounded down. A bucket is at most a tenth wider than the one before, and percentiles are as exact.
 *
 * To add is two additions: what happens with nearly every request is added once, see LATENCY_REQUEST. A thread's
 * histograms are 14 kB, the sums of all threads' 12 kB.
 */
#ifndef METRICS_LATENCY_H
#define METRICS_LATENCY_H

#include "base/clock.h"
#include "metrics/metrics.h"

#define LATENCY_BOUNDS 289u

struct histogram {
	counter_t sum;                         /* microseconds */
	counter_t buckets[LATENCY_BOUNDS + 1]; /* up to and with each bound; the last: above all */
};

/* Microseconds, ascending; one more, that nothing is above. */
extern const uint64_t latency_bounds[LATENCY_BOUNDS + 1];
#define LATENCY_MOST 131072000000u /* the last of them, 2^17 s */

/* The native bucket that it lies in, whose bound is 2^(native/8) s. What is above all of them counts for the last. */
extern const int16_t latency_native[LATENCY_BOUNDS + 1];
#define LATENCY_SCHEMA         3
#define LATENCY_ZERO           (-136) /* that is their zero bucket, for there are no whole numbers to tell apart below */
#define LATENCY_ZERO_THRESHOLD 0x1p-17

/* The first bound that is not below a cell: 16 to a power of two, from 4 us on. No more than two are in the same. */
#define LATENCY_CELLS 560u
extern const uint16_t latency_cells[LATENCY_CELLS];

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

/* As a floating-point number a time says in its upper bits which power of two it belongs to, and which part of it.
 * LATENCY_CELLS or more: to none of them. */
static inline uint64_t latency_cell(usec_t took)
{
	double number = (double)(int64_t)took;
	uint64_t bits;

	memcpy(&bits, &number, sizeof(bits));
	return (bits >> 48) - (1025u << 4);
}

static inline uint32_t latency_bucket(usec_t took)
{
	uint64_t cell = latency_cell(took);
	uint32_t i;

	if (unlikely(cell >= LATENCY_CELLS))
		return took < 4 ? 0 : LATENCY_BOUNDS;
	i = latency_cells[cell];
	return i + (took > latency_bounds[i]) + (took > latency_bounds[i + 1]);
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
