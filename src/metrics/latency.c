/* See latency.h. */
#include "metrics/latency.h"

const uint32_t latency_bounds[LATENCY_BOUNDS] = {
#define DECADE(unit) \
	10 * (unit), 12 * (unit), 15 * (unit), 20 * (unit), 25 * (unit), 30 * (unit), 40 * (unit), 50 * (unit), \
		60 * (unit), 80 * (unit)
	DECADE(1u),      DECADE(10u),      DECADE(100u),      DECADE(1000u), DECADE(10000u),
	DECADE(100000u), DECADE(1000000u), DECADE(10000000u), 1000000000u,
#undef DECADE
};

/* latency_test.c says what they must be. */
const uint8_t latency_cells[LATENCY_CELLS] = {
	0,  0,  0,  1,  1,  2,  2,  2,  3,  3,  3,  4,  4,  5,  5,  5,  6,  6,  6,  7,  7,  8,  8,  8,  9,  9,  9,
	10, 10, 11, 11, 11, 12, 12, 13, 13, 13, 14, 14, 14, 15, 15, 16, 16, 16, 17, 17, 17, 18, 18, 19, 19, 19, 20,
	20, 20, 21, 21, 22, 22, 23, 23, 23, 23, 24, 24, 25, 25, 26, 26, 26, 26, 27, 27, 28, 28, 29, 29, 29, 29, 30,
	30, 31, 31, 32, 32, 32, 33, 33, 33, 34, 34, 34, 35, 35, 36, 36, 36, 37, 37, 37, 38, 38, 39, 39, 39, 40, 40,
	40, 41, 41, 42, 42, 42, 43, 43, 43, 44, 44, 44, 45, 45, 46, 46, 46, 47, 47, 47, 48, 48, 49, 49, 49, 50, 50,
	50, 51, 51, 52, 52, 53, 53, 53, 53, 54, 54, 55, 55, 56, 56, 56, 56, 57, 57, 58, 58, 59, 59, 59, 59, 60, 60,
	61, 61, 62, 62, 62, 63, 63, 63, 64, 64, 65, 65, 65, 66, 66, 66, 67, 67, 68, 68, 68, 69, 69, 69, 70, 70, 71,
	71, 71, 72, 72, 73, 73, 73, 74, 74, 74, 75, 75, 76, 76, 76, 77, 77, 77, 78, 78, 79, 79, 79, 80, 80, 80, 81,
};

const uint32_t latency_shown[LATENCY_SHOWN] = {
	50,     100,    250,    500,     1000,    2500,    5000,     10000,    25000,    50000,
	100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000, 25000000, 50000000, 100000000,
};

const char *latency_name(enum latency kind)
{
	static const char *const names[] = {
#define LATENCY(key, name, help) "heliosdb_proxy_" #name,
#include "metrics/latency.def"
#undef LATENCY
	};

	return names[kind];
}

const char *latency_help(enum latency kind)
{
	static const char *const helps[] = {
#define LATENCY(key, name, help) help,
#include "metrics/latency.def"
#undef LATENCY
	};

	return helps[kind];
}

static uint64_t load(const counter_t *counter)
{
	return atomic_load_explicit((counter_t *)(uintptr_t)counter, memory_order_relaxed);
}

static void add(struct latency_totals *t, const struct histogram *h)
{
	t->sum += load(&h->sum);
	for (uint32_t i = 0; i <= LATENCY_BOUNDS; i++) {
		uint64_t n = load(&h->buckets[i]);

		t->buckets[i] += n;
		t->count += n;
	}
}

void latencies_sum(struct latency_totals *sums, const struct latencies *part)
{
	for (uint32_t kind = 0; kind < LATENCY_COUNT; kind++)
		add(&sums[kind], &part->kinds[kind]);
	add(&sums[LATENCY_QUERY], &part->kinds[LATENCY_REQUEST]);
	add(&sums[LATENCY_TRANSACTION], &part->kinds[LATENCY_REQUEST]);
	add(&sums[LATENCY_SERVER], &part->kinds[LATENCY_REQUEST]);
}

void latency_since(struct latency_totals *ret, const struct latency_totals *now, const struct latency_totals *before)
{
	ret->sum = now->sum - before->sum;
	ret->count = now->count - before->count;
	for (uint32_t i = 0; i <= LATENCY_BOUNDS; i++)
		ret->buckets[i] = now->buckets[i] - before->buckets[i];
}

double latency_quantile(const struct latency_totals *t, double share)
{
	double wanted = share * (double)t->count, seen = 0;

	if (t->count == 0)
		return -1;
	for (uint32_t i = 0; i < LATENCY_BOUNDS; i++) {
		double here = (double)t->buckets[i], from = i ? latency_bounds[i - 1] : 0;

		if (here > 0 && seen + here >= wanted)
			return from + (latency_bounds[i] - from) * (wanted - seen) / here;
		seen += here;
	}
	return latency_bounds[LATENCY_BOUNDS - 1]; /* at least */
}

uint64_t latency_within(const struct latency_totals *t, uint32_t bound)
{
	uint64_t count = 0;

	for (uint32_t i = 0; i < LATENCY_BOUNDS && latency_bounds[i] <= bound; i++)
		count += t->buckets[i];
	return count;
}
