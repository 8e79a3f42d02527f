/* Heartbeats: the lag that follows from them, and the statements that write and read them. */
#include "cluster/heartbeat.h"
#include "wire/test.h"

#define SEC(n) ((n)*USEC_PER_SEC)

static const char a, b; /* stand for nodes, which are not looked into */
#define NODE_A ((const struct node *)(const void *)&a)
#define NODE_B ((const struct node *)(const void *)&b)

static void pass(usec_t time)
{
	clock_advance(time);
	clock_update();
}

static uint64_t write_one(struct heartbeat *h, const struct node *primary)
{
	uint64_t beat = heartbeat_begin(h, primary, /* wall= */ 1000);

	heartbeat_confirm(h, primary, beat, clock_now());
	return beat;
}

static bool is_about(uint64_t us, usec_t expected)
{
	return us >= expected && us < expected + USEC_PER_SEC / 2;
}

static void lag_is_since_the_primary_had_that_beat(void **state)
{
	struct heartbeat h = {0};
	uint64_t beats[5], us;

	(void)state;
	clock_update();
	assert_false(heartbeat_measure(&h, 1, clock_now(), SEC(10), &us));
	for (int i = 0; i < 5; i++) {
		beats[i] = write_one(&h, NODE_A);
		pass(SEC(1));
	}
	assert_true(beats[0] >= 1000 && beats[1] > beats[0]);
	assert_true(heartbeat_measure(&h, beats[4], clock_now(), SEC(10), &us));
	assert_int_equal(us, 0);
	assert_true(heartbeat_measure(&h, beats[2], clock_now(), SEC(10), &us));
	assert_true(is_about(us, SEC(2))); /* it was still that when the next was begun */
	assert_true(heartbeat_measure(&h, 1, clock_now(), SEC(10), &us)); /* of a process before this one */
	assert_true(is_about(us, SEC(5)));
	assert_false(heartbeat_measure(&h, 0, clock_now(), SEC(10), &us)); /* it has no row */
	pass(SEC(10));
	assert_false(heartbeat_measure(&h, beats[4], clock_now(), SEC(10), &us)); /* nobody writes any more */
}

static void another_primary_begins_anew(void **state)
{
	struct heartbeat h = {0};
	uint64_t first, second, us;

	(void)state;
	clock_update();
	first = write_one(&h, NODE_A);
	second = heartbeat_begin(&h, NODE_B, 1000);
	assert_true(second > first);
	assert_false(heartbeat_measure(&h, first, clock_now(), SEC(10), &us)); /* not confirmed yet */
	heartbeat_confirm(&h, NODE_A, second, clock_now());                    /* the former one */
	assert_false(heartbeat_measure(&h, first, clock_now(), SEC(10), &us));
	heartbeat_confirm(&h, NODE_B, second, clock_now());
	assert_true(heartbeat_measure(&h, second, clock_now(), SEC(10), &us));
}

static void due_once_an_interval(void **state)
{
	struct heartbeat h = {0};

	(void)state;
	clock_update();
	assert_false(heartbeat_is_due(&h, 0));
	assert_true(heartbeat_is_due(&h, SEC(1)));
	assert_false(heartbeat_is_due(&h, SEC(1)));
	pass(SEC(1));
	assert_true(heartbeat_is_due(&h, SEC(1)));
}

static void names_are_literals(void **state)
{
	struct buf sql = BUF_INIT(4096);

	(void)state;
	heartbeat_read_sql(&sql, "helios.heartbeat", "it's\\");
	assert_string_equal(buf_cstr(&sql), "SELECT beat FROM helios.heartbeat WHERE proxy = 'it''s'");
	buf_free(&sql);
	sql = BUF_INIT(4096);
	heartbeat_write_sql(&sql, "beats", "p", 7, 100);
	assert_string_equal(buf_cstr(&sql),
			    "SET LOCAL synchronous_commit = off; SET LOCAL statement_timeout = 1; INSERT INTO beats "
			    "(proxy, beat) VALUES ('p', 7) ON CONFLICT (proxy) DO UPDATE SET beat = excluded.beat");
	buf_free(&sql);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lag_is_since_the_primary_had_that_beat),
		cmocka_unit_test(another_primary_begins_anew),
		cmocka_unit_test(due_once_an_interval),
		cmocka_unit_test(names_are_literals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
