/* See latency.h. */
#include "metrics/latency.h"

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
		double here = (double)t->buckets[i], from = i ? (double)latency_bounds[i - 1] : 0;

		if (here > 0 && seen + here >= wanted)
			return from + ((double)latency_bounds[i] - from) * (wanted - seen) / here;
		seen += here;
	}
	return (double)LATENCY_MOST; /* at least */
}

uint64_t latency_within(const struct latency_totals *t, uint32_t bound)
{
	uint64_t count = 0;
	uint32_t last = latency_bucket(bound);

	for (uint32_t i = 0; i <= last; i++)
		count += t->buckets[i];
	return count;
}
