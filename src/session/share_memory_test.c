/* What is remembered of texts: what may be shared, and when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "session/share_memory.h"

#include <stdio.h>

static struct slice read_text = SLICE_LITERAL("SELECT a FROM t WHERE b = 1");

static enum share_verdict judge(struct share_memory *m, struct slice text)
{
	return share_judge(m, share_key(text), text, /* max_cost= */ 100, /* runs= */ 2);
}

static void a_text_becomes_shared(void **state)
{
	struct share_memory *m = share_memory_new();
	struct slice other = SLICE_LITERAL("SELECT a FROM t WHERE b = 22");

	(void)state;
	assert_int_equal(judge(m, read_text), SHARE_NEVER); /* it may never come again */
	assert_int_equal(judge(m, other), SHARE_ALONE);     /* the same, but for its literal */
	share_learn(m, share_key(read_text), 50);
	assert_int_equal(judge(m, read_text), SHARE_ALONE);
	share_learn(m, share_key(other), 60);
	assert_int_equal(judge(m, read_text), SHARE_YES);
	assert_int_equal(judge(m, other), SHARE_YES);
	share_memory_free(m);
}

static void what_is_no_pure_read_never_is(void **state)
{
	struct share_memory *m = share_memory_new();
	struct slice text = SLICE_LITERAL("SELECT nextval('s')");

	(void)state;
	for (int i = 0; i < 10; i++) {
		assert_int_equal(judge(m, text), SHARE_NEVER);
		share_learn(m, share_key(text), 1);
	}
	share_memory_free(m);
}

static void what_takes_long_is_tried_now_and_then(void **state)
{
	struct share_memory *m = share_memory_new();
	int alone = 0, shared = 0;

	(void)state;
	(void)judge(m, read_text);
	for (int i = 0; i < 4; i++)
		share_learn(m, share_key(read_text), 1000);
	for (int i = 0; i < 64; i++) {
		enum share_verdict v = judge(m, read_text);

		alone += v == SHARE_ALONE;
		shared += v == SHARE_YES;
	}
	assert_int_equal(alone, 2);
	assert_int_equal(shared, 0);
	for (int i = 0; i < 40; i++) /* it is quick again */
		share_learn(m, share_key(read_text), 10);
	assert_int_equal(judge(m, read_text), SHARE_YES);
	share_memory_free(m);
}

static void a_text_that_lost_its_place_is_learned_anew(void **state)
{
	struct share_memory *m = share_memory_new();
	char text[64];

	(void)state;
	(void)judge(m, read_text);
	share_learn(m, share_key(read_text), 1);
	share_learn(m, share_key(read_text), 1);
	assert_int_equal(judge(m, read_text), SHARE_YES);
	for (int i = 0; i < 200000; i++) {
		snprintf(text, sizeof(text), "SELECT a%d", i);
		(void)judge(m, slice_str(text));
	}
	assert_int_equal(judge(m, read_text), SHARE_NEVER);
	assert_int_equal(judge(m, read_text), SHARE_ALONE);
	share_learn(m, UINT64_C(1), 1); /* not known: nothing happens */
	share_memory_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_text_becomes_shared),
		cmocka_unit_test(what_is_no_pure_read_never_is),
		cmocka_unit_test(what_takes_long_is_tried_now_and_then),
		cmocka_unit_test(a_text_that_lost_its_place_is_learned_anew),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
