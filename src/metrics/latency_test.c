/* Histograms: the tables, what goes into which bucket, and what is read out of them. */
#include "metrics/latency.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void test_tables(void **state)
{
	for (uint32_t i = 1; i < LATENCY_BOUNDS; i++)
		assert_true(latency_bounds[i] > latency_bounds[i - 1] &&
			    latency_bounds[i] * 3ull <= latency_bounds[i - 1] * 4ull);
	assert_int_equal(latency_bounds[LATENCY_BOUNDS - 1], LATENCY_MOST);
	for (uint32_t cell = 0; cell < LATENCY_CELLS; cell++) {
		uint32_t from = (8 + cell % 8) << cell / 8, i = latency_cells[cell];

		assert_true(i < LATENCY_BOUNDS ? latency_bounds[i] >= from : from > LATENCY_MOST);
		assert_true(i == 0 || latency_bounds[i - 1] < from);
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
	assert_int_equal(latency_bucket(10), 0);
	assert_int_equal(latency_bucket(11), 1);
	for (uint32_t i = 0; i < LATENCY_BOUNDS; i++) {
		assert_int_equal(latency_bucket(latency_bounds[i]), i);
		assert_int_equal(latency_bucket(latency_bounds[i] + 1ull), i + 1);
	}
	assert_int_equal(latency_bucket(USEC_NEVER), LATENCY_BOUNDS);
	assert_int_equal(latency_bucket(1ull << 32), LATENCY_BOUNDS);
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
	assert_true(latency_quantile(&sums[LATENCY_WAIT], 0.5) >= latency_bounds[LATENCY_BOUNDS - 1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tables),   cmocka_unit_test(test_shown_bounds_are_bounds),
		cmocka_unit_test(test_bucket),   cmocka_unit_test(test_sum),
		cmocka_unit_test(test_quantile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
