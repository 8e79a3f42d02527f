/* Statistics of queries: what is added up, who goes when there are too many, and that a reader sees all. */
#include "metrics/query_table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

/* What analytics.c does in two places. */
static void query_numbers_call(struct query_numbers *n, usec_t took, usec_t server, usec_t now)
{
	if (unlikely(n->calls == 0))
		query_numbers_first(n, took, now);
	if (unlikely(query_numbers_add(n, took, server, now)))
		query_numbers_halve(n);
}

static const struct query_names names = {.database = "shop", .user = "app"};

static struct query_entry *use(struct query_table *t, uint64_t fingerprint, usec_t took)
{
	struct query_entry *e = query_table_find(t, fingerprint, 7);

	if (e)
		e->was_used = true;
	else
		e = query_table_add(t, fingerprint, 7, &names);
	assert_non_null(e);
	query_numbers_call(&e->numbers, took, took / 2, 1000 + took);
	return e;
}

static void test_numbers(void **state)
{
	struct query_table *t = query_table_new(100);
	struct query_entry *e = NULL;

	for (usec_t took = 1; took <= 1000; took++)
		e = use(t, 1, took * 100);
	assert_int_equal(e->numbers.calls, 1000);
	assert_int_equal(e->numbers.total, 50050000);
	assert_int_equal(e->numbers.server, 25025000);
	assert_int_equal(e->numbers.least, 100);
	assert_int_equal(e->numbers.most, 100000);
	assert_int_equal(e->numbers.first_seen, 1100);
	assert_int_equal(e->numbers.last_seen, 101000);
	assert_float_equal(query_numbers_quantile(&e->numbers, 0.5), 50000, 5000);
	assert_float_equal(query_numbers_quantile(&e->numbers, 0.95), 95000, 9500);
	assert_float_equal(query_numbers_quantile(&e->numbers, 0.99), 99000, 9900);
	e = use(t, 2, 123);
	assert_float_equal(query_numbers_quantile(&e->numbers, 0.5), 123, 0);
	query_table_unref(t);
}

static void test_loops(void **state)
{
	struct query_run run = {0};
	usec_t now = 1000;
	uint32_t found = 0;

	for (int i = 0; i < 4; i++, now += 3000)
		found += query_run_call(&run, 7, now, now + 1000);
	assert_int_equal(found, 0);
	query_run_pass(&run, now, now + QUERY_RUN_GAP); /* a COMMIT that takes its time */
	now += 2 * QUERY_RUN_GAP;
	assert_int_equal(query_run_call(&run, 7, now, now + USEC_PER_SEC), QUERY_RUN_LEAST);
	now += USEC_PER_SEC;
	assert_int_equal(query_run_call(&run, 7, now, now + 1000), 1);
	assert_int_equal(query_run_call(&run, 8, now + 1000, now + 2000), 0); /* another one */
	assert_int_equal(query_run_call(&run, 7, now + 2000, now + 3000), 0);
	for (int i = 0; i < 20; i++) { /* no loop: it thinks between them */
		now += USEC_PER_SEC;
		assert_int_equal(query_run_call(&run, 7, now, now + 1000), 0);
	}
	for (usec_t i = 1; i < 20; i++) /* no loop: a pipeline */
		assert_int_equal(query_run_call(&run, 9, now, now + i * 100), 0);
}

/* A bucket never overflows, and percentiles stay what they are. */
static void test_many_calls(void **state)
{
	struct query_table *t = query_table_new(100);
	struct query_entry *e = use(t, 1, 100);

	e->numbers.buckets[latency_bucket(100) / QUERY_BUCKET_WIDTH] = UINT32_MAX - 1;
	e->numbers.buckets[latency_bucket(50000) / QUERY_BUCKET_WIDTH] = UINT32_MAX - 1;
	use(t, 1, 100);
	assert_in_range(e->numbers.buckets[latency_bucket(100) / QUERY_BUCKET_WIDTH], UINT32_MAX / 2 - 1,
			UINT32_MAX / 2 + 1);
	assert_in_range(e->numbers.buckets[latency_bucket(50000) / QUERY_BUCKET_WIDTH], UINT32_MAX / 2 - 1,
			UINT32_MAX / 2 + 1);
	assert_int_equal(e->numbers.calls, 2);
	query_table_unref(t);
}

/* Found by a table of their own, they are those of the histograms, some of which are one here. */
static void test_buckets(void **state)
{
	for (usec_t took = 0; took < 20; took++)
		assert_int_equal(query_bucket(took), latency_bucket(took) / QUERY_BUCKET_WIDTH);
	for (uint32_t i = 0; i < LATENCY_BOUNDS; i++)
		for (usec_t took = latency_bounds[i] - 1; took <= latency_bounds[i] + 1; took++)
			assert_int_equal(query_bucket(took), latency_bucket(took) / QUERY_BUCKET_WIDTH);
	for (uint32_t power = 0; power < 63; power++)
		assert_int_equal(query_bucket(1ull << power), latency_bucket(1ull << power) / QUERY_BUCKET_WIDTH);
}

/* 100,000 texts that come once each, and some that are in use meanwhile. */
static void test_a_flood(void **state)
{
	struct counters counters = {0};
	struct query_table *t = query_table_new(1000);

	t->counters = &counters;
	for (uint64_t i = 0; i < 100000; i++) {
		use(t, 1000 + i, 10);
		if (i % 50 == 0)
			for (uint64_t hot = 1; hot <= 20; hot++)
				use(t, hot, 10);
	}
	assert_int_equal(t->count, 1000);
	assert_int_equal(t->evicted, 100020 - 1000);
	assert_int_equal(atomic_load(&counters.query_fingerprints), 1000);
	assert_int_equal(atomic_load(&counters.query_fingerprints_evicted_total), t->evicted);
	for (uint64_t hot = 1; hot <= 20; hot++)
		assert_int_equal(query_table_find(t, hot, 7)->numbers.calls, 2000);
	query_table_unref(t);
	assert_int_equal(atomic_load(&counters.query_fingerprints), 0);
}

/* All are used all the time: somebody has to go nevertheless. */
static void test_all_are_in_use(void **state)
{
	struct query_table *t = query_table_new(50);

	for (uint64_t round = 0; round < 3; round++)
		for (uint64_t i = 1; i <= 50; i++)
			use(t, i, 10);
	for (uint64_t i = 51; i <= 100; i++)
		use(t, i, 10);
	assert_int_equal(t->count, 50);
	assert_int_equal(t->evicted, 50);
	query_table_unref(t);
}

static void test_other_limits(void **state)
{
	struct query_table *t = query_table_new(2000);
	uint32_t found = 0;

	for (uint64_t i = 1; i <= 2000; i++)
		use(t, i, i);
	assert_int_equal(query_table_limit(t, 10), 0);
	assert_int_equal(t->count, 10);
	assert_int_equal(t->evicted, 1990);
	assert_int_equal(query_table_limit(t, 100000), 0);
	for (uint64_t i = 3001; i <= 6000; i++)
		use(t, i, i);
	for (uint64_t i = 1; i <= 6000; i++)
		found += query_table_find(t, i, 7) != NULL;
	assert_int_equal(found, 3010);
	assert_int_equal(t->count, 3010);
	query_table_unref(t);
}

struct seen {
	uint32_t count, walk;
	uint64_t sum;
};

static void see(const struct query_entry *e, void *to)
{
	struct seen *seen = to;

	seen->count++;
	seen->walk++;
	seen->sum += e->fingerprint;
}

static void test_walk(void **state)
{
	struct query_table *t = query_table_new(20000);
	struct seen seen = {0};
	uint32_t at = 0, walks = 0;

	for (uint64_t i = 1; i <= 5000; i++)
		use(t, i, i);
	do {
		seen.walk = 0;
		at = query_table_walk(t, at, 64, see, &seen);
		assert_in_range(seen.walk, 0, 64 + 16); /* a bucket has not that many */
		walks++;
	} while (at);
	assert_int_equal(seen.count, 5000);
	assert_int_equal(seen.sum, 5000 * 5001 / 2);
	assert_in_range(walks, 5000 / 80, 5000 / 30);
	query_table_unref(t);
}

static void test_merge(void **state)
{
	struct query_table *a = query_table_new(10), *b = query_table_new(10), *all = query_table_new(20);
	struct query_entry *e;
	struct list gone;

	use(a, 1, 100);
	use(a, 1, 300);
	use(b, 1, 50)->numbers.rows = 5;
	use(b, 2, 10);
	assert_int_equal(query_table_merge(all, query_table_find(a, 1, 7)), 0);
	assert_int_equal(query_table_merge(all, query_table_find(b, 1, 7)), 0);
	assert_int_equal(query_table_merge(all, query_table_find(b, 2, 7)), 0);
	assert_int_equal(all->count, 2);
	e = query_table_find(all, 1, 7);
	assert_int_equal(e->numbers.calls, 3);
	assert_int_equal(e->numbers.total, 450);
	assert_int_equal(e->numbers.rows, 5);
	assert_int_equal(e->numbers.least, 50);
	assert_int_equal(e->numbers.most, 300);
	assert_int_equal(e->numbers.first_seen, 1050);
	assert_int_equal(e->numbers.last_seen, 1300);
	assert_string_equal(query_database(e), "shop");
	assert_string_equal(query_user(e), "app");
	list_init(&gone);
	query_table_clear(b, &gone);
	assert_int_equal(b->count, 0);
	assert_null(query_table_find(b, 1, 7));
	use(b, 1, 50);
	assert_int_equal(query_table_find(b, 1, 7)->numbers.calls, 1);
	query_entries_free(&gone);
	query_table_unref(a);
	query_table_unref(b);
	query_table_unref(all);
}

static void test_texts(void **state)
{
	struct query_table *t = query_table_new(10);
	char text[3000];
	struct query_names long_ones = {.text = slice_make(text, sizeof(text)), .database = "", .user = "ü"};
	const struct query_entry *e;

	memset(text, 'x', sizeof(text));
	e = query_table_add(t, 1, 1, &long_ones);
	assert_int_equal(strlen(e->strings), QUERY_TEXT_MAX);
	assert_true(e->is_cut);
	assert_string_equal(query_database(e), "");
	assert_string_equal(query_user(e), "ü");
	long_ones.text = slice_make(NULL, 0);
	e = query_table_add(t, 2, 1, &long_ones);
	assert_string_equal(e->strings, "");
	assert_false(e->is_cut);
	query_table_unref(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_numbers),        cmocka_unit_test(test_loops),
		cmocka_unit_test(test_many_calls),     cmocka_unit_test(test_a_flood),
		cmocka_unit_test(test_all_are_in_use), cmocka_unit_test(test_other_limits),
		cmocka_unit_test(test_walk),           cmocka_unit_test(test_merge),
		cmocka_unit_test(test_texts),          cmocka_unit_test(test_buckets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
