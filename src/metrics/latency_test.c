/* Histograms: the tables, what goes into which bucket, and what is read out of them. */
#include "metrics/latency.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* 2^(index/8) s in whole microseconds, rounded down. */
static uint64_t native_bound(int index)
{
	return (uint64_t)floorl(exp2l(index / 8.0L) * 1000000.0L);
}

static bool is_shown(uint64_t bound)
{
	for (uint32_t i = 0; i < LATENCY_SHOWN; i++)
		if (latency_shown[i] == bound)
			return true;
	return false;
}

/* The bounds are those that native ones are, rounded down, and those that are shown, and no others. */
static void test_bounds(void **state)
{
	int native = LATENCY_ZERO;

	assert_true(exp2(LATENCY_ZERO / 8.0) == LATENCY_ZERO_THRESHOLD);
	assert_int_equal(latency_bounds[0], native_bound(LATENCY_ZERO));
	for (uint32_t i = 0; i < LATENCY_BOUNDS; i++) {
		assert_true(i == 0 || latency_bounds[i] > latency_bounds[i - 1]);
		while (native_bound(native) < latency_bounds[i])
			native++;
		assert_int_equal(latency_native[i], native);
		assert_true(latency_bounds[i] == native_bound(native) || is_shown(latency_bounds[i]));
		assert_true(i == 0 || latency_native[i] - latency_native[i - 1] < 2 || latency_bounds[i] <= 10);
	}
	assert_int_equal(latency_native[LATENCY_BOUNDS - 1], -LATENCY_ZERO);
	assert_int_equal(latency_native[LATENCY_BOUNDS], -LATENCY_ZERO);
	assert_true(latency_bounds[LATENCY_BOUNDS - 1] == LATENCY_MOST);
	assert_true(latency_bounds[LATENCY_BOUNDS] == UINT64_MAX);
	assert_true(native_bound(-LATENCY_ZERO) == LATENCY_MOST);
}

static void test_cells(void **state)
{
	for (uint32_t cell = 0; cell < LATENCY_CELLS; cell++) {
		double from = (double)(16 + cell % 16) * exp2((int)(cell / 16) - 2);
		uint32_t i = latency_cells[cell];

		assert_true((double)latency_bounds[i] >= from || from > (double)LATENCY_MOST);
		assert_true(i == 0 || (double)latency_bounds[i - 1] < from);
	}
}

/* What is shown stands at a bound, so what is counted there is exact. */
static void test_shown_bounds_are_bounds(void **state)
{
	for (uint32_t i = 0; i < LATENCY_SHOWN; i++) {
		uint32_t at = latency_bucket(latency_shown[i]);

		assert_true(at < LATENCY_BOUNDS);
		assert_int_equal(latency_bounds[at], latency_shown[i]);
	}
}

static void test_bucket(void **state)
{
	assert_int_equal(latency_bucket(0), 0);
	assert_int_equal(latency_bucket(7), 0);
	assert_int_equal(latency_bucket(8), 1);
	for (uint32_t i = 0; i < LATENCY_BOUNDS; i++) {
		assert_int_equal(latency_bucket(latency_bounds[i]), i);
		assert_int_equal(latency_bucket(latency_bounds[i] - 1),
				 i - (i && latency_bounds[i] - 1 == latency_bounds[i - 1]));
		assert_int_equal(latency_bucket(latency_bounds[i] + 1), i + 1);
	}
	assert_int_equal(latency_bucket(USEC_NEVER), LATENCY_BOUNDS);
	assert_int_equal(latency_bucket(1ull << 37), LATENCY_BOUNDS);
	assert_int_equal(latency_bucket(1ull << 63), LATENCY_BOUNDS);
}

/* All that there are, up to a second; beyond that they are as here, with zeros behind. */
static void test_each_bucket(void **state)
{
	for (usec_t took = 0, i = 0; took < 1000000; took++) {
		i += took > latency_bounds[i];
		assert_int_equal(latency_bucket(took), i);
	}
}

/* What percentiles are off by: no more than a bucket is wide. */
static void test_buckets_are_narrow(void **state)
{
	for (uint32_t i = 1; i < LATENCY_BOUNDS; i++)
		assert_true((double)latency_bounds[i] <= (double)latency_bounds[i - 1] * 1.0906 + 1.1);
}

static void test_sum(void **state)
{
	static struct latencies own, other;
	struct latency_totals sums[LATENCY_COUNT] = {0}, before = {0}, since;

	latency_add(&own, LATENCY_REQUEST, 1000);
	latency_add(&own, LATENCY_QUERY, 3000);
	latency_add(&other, LATENCY_REQUEST, 999);
	latency_add(&other, LATENCY_LOGIN, 7);
	latencies_sum(sums, &own);
	before = sums[LATENCY_QUERY];
	latencies_sum(sums, &other);
	assert_int_equal(sums[LATENCY_QUERY].count, 3);
	assert_int_equal(sums[LATENCY_QUERY].sum, 4999);
	assert_int_equal(latency_within(&sums[LATENCY_QUERY], 1000), 2);
	assert_int_equal(latency_within(&sums[LATENCY_QUERY], 2500), 2);
	assert_int_equal(latency_within(&sums[LATENCY_QUERY], 5000), 3);
	assert_int_equal(sums[LATENCY_SERVER].count, 2);
	assert_int_equal(sums[LATENCY_TRANSACTION].sum, 1999);
	assert_int_equal(sums[LATENCY_LOGIN].count, 1);
	assert_int_equal(sums[LATENCY_WAIT].count, 0);
	latency_since(&since, &sums[LATENCY_QUERY], &before);
	assert_int_equal(since.count, 1);
	assert_int_equal(since.sum, 999);
}

static void test_quantile(void **state)
{
	static struct latencies l;
	struct latency_totals sums[LATENCY_COUNT] = {0};
	double p50, p99;

	assert_true(latency_quantile(&sums[LATENCY_QUERY], 0.5) < 0);
	for (usec_t took = 1; took <= 100000; took++)
		latency_add(&l, LATENCY_QUERY, took);
	latencies_sum(sums, &l);
	p50 = latency_quantile(&sums[LATENCY_QUERY], 0.5);
	p99 = latency_quantile(&sums[LATENCY_QUERY], 0.99);
	assert_true(p50 > 49990 && p50 < 50010);
	assert_true(p99 > 98990 && p99 < 99010);
	latency_add(&l, LATENCY_WAIT, USEC_NEVER / 2);
	latencies_sum(sums, &l);
	assert_true(latency_quantile(&sums[LATENCY_WAIT], 0.5) >= (double)LATENCY_MOST);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_cells),
		cmocka_unit_test(test_shown_bounds_are_bounds),
		cmocka_unit_test(test_bucket),
		cmocka_unit_test(test_each_bucket),
		cmocka_unit_test(test_buckets_are_narrow),
		cmocka_unit_test(test_sum),
		cmocka_unit_test(test_quantile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
