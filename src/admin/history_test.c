/* Rows of the history: rates of what was counted between two looks, and which rows are kept. */
#include "admin/history.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static struct history history;
static struct history_look before, now;
static struct latencies latencies;

static int clear(void **state)
{
	memset(&history, 0, sizeof(history));
	memset(&before, 0, sizeof(before));
	memset(&now, 0, sizeof(now));
	memset(&latencies, 0, sizeof(latencies));
	return 0;
}

static void test_a_row(void **state)
{
	const double *v;

	before.at = 1000000;
	now.at = 3000000;
	now.wall = 5500000;
	now.links_active = 3;
	before.counters.queries_total = 10;
	now.counters.queries_total = 30;
	now.counters.clients = 4;
	for (int i = 0; i < 100; i++)
		latency_add(&latencies, LATENCY_QUERY, 10000);
	latencies_sum(before.latencies, &latencies);
	for (int i = 0; i < 100; i++)
		latency_add(&latencies, LATENCY_QUERY, 2000000);
	latencies_sum(now.latencies, &latencies);
	history_add(&history, &before, &now);
	v = history_at(&history, 0)->values;
	assert_true(v[HISTORY_AT] == 5.5 && v[HISTORY_QUERIES] == 10 && v[HISTORY_CLIENTS] == 4);
	assert_true(v[HISTORY_LINKS_ACTIVE] == 3 && v[HISTORY_TRANSACTIONS] == 0);
	assert_true(v[HISTORY_QUERY_P50] > 1500 && v[HISTORY_QUERY_P50] <= 2000); /* what was before doesn't count */
	assert_true(v[HISTORY_WAIT_P95] < 0);
}

/* A thread was looked at before the other had passed something on to it. */
static void test_nothing_is_below_zero(void **state)
{
	before.at = now.at = 5;
	before.counters.queries_total = 10;
	now.counters.queries_total = 9;
	history_add(&history, &before, &now);
	assert_true(history_at(&history, 0)->values[HISTORY_QUERIES] == 0);
}

static void test_old_rows_make_room(void **state)
{
	assert_null(history_at(&history, 0));
	for (uint64_t i = 1; i <= HISTORY_ROWS + 5; i++) {
		now.wall = i * 1000000;
		history_add(&history, &before, &now);
		assert_true(history_at(&history, 0)->values[HISTORY_AT] == (double)i);
		assert_int_equal(history_at(&history, (uint32_t)i - 1) != NULL, i <= HISTORY_ROWS);
	}
	assert_true(history_at(&history, HISTORY_ROWS - 1)->values[HISTORY_AT] == 6);
	assert_null(history_at(&history, HISTORY_ROWS));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_a_row, clear),
		cmocka_unit_test_setup(test_nothing_is_below_zero, clear),
		cmocka_unit_test_setup(test_old_rows_make_room, clear),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
