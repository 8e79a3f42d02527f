/* The ring of answers that a server still owes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "link/expect.h"

static void push(struct expects *e, enum expect_kind kind, uint8_t flags, uintptr_t number)
{
	struct expect x = {.kind = (uint8_t)kind, .flags = flags, .object = (void *)number};

	assert_int_equal(expects_push(e, x), 0);
}

static uintptr_t pop(struct expects *e)
{
	uintptr_t number = (uintptr_t)expects_first(e)->object;

	expects_pop(e);
	return number;
}

static void empty_has_none(void **state)
{
	struct expects e = {0};

	assert_null(expects_first(&e));
	assert_null(expects_last(&e));
	push(&e, EXPECT_PARSE, 0, 7);
	assert_ptr_equal(expects_first(&e), expects_last(&e));
	assert_int_equal(pop(&e), 7);
	assert_null(expects_first(&e));
	expects_free(&e);
	push(&e, EXPECT_PARSE, 0, 8); /* freed is empty, and usable */
	assert_int_equal(pop(&e), 8);
	expects_free(&e);
}

/* It grows while it is wrapped around, at every place where its first entry can be. */
static void order_survives_growth(void **state)
{
	for (uint32_t offset = 0; offset < 40; offset++) {
		struct expects e = {0};
		uintptr_t in = 0, out = 0;

		for (; in < offset; in++) {
			push(&e, EXPECT_BIND, 0, in);
			assert_int_equal(pop(&e), out++);
		}
		for (int i = 0; i < 1000; i++)
			push(&e, EXPECT_BIND, 0, in++);
		assert_int_equal(e.count, 1000);
		for (uint32_t i = 0; i < e.count; i++)
			assert_int_equal((uintptr_t)expects_at(&e, i)->object, out + i);
		assert_int_equal((uintptr_t)expects_last(&e)->object, in - 1);
		while (e.count)
			assert_int_equal(pop(&e), out++);
		assert_int_equal(out, in);
		expects_free(&e);
	}
}

/* What the client waits for: ReadyForQuery of its own, not of the proxy's. */
static void answers_are_counted(void **state)
{
	struct expects e = {0};

	push(&e, EXPECT_PARSE, 0, 0);
	push(&e, EXPECT_SYNC, 0, 0);
	push(&e, EXPECT_QUERY, EXPECT_SWALLOW, 0);
	push(&e, EXPECT_QUERY, 0, 0);
	push(&e, EXPECT_FUNCTION, 0, 0);
	push(&e, EXPECT_CLOSE, EXPECT_LOCAL, 0);
	push(&e, EXPECT_COPY_END, 0, 0);
	static const uint32_t left[] = {3, 3, 2, 2, 1, 0, 0, 0};
	for (size_t i = 0; i < ARRAY_SIZE(left); i++) {
		assert_int_equal(e.answers, left[i]);
		if (e.count)
			expects_pop(&e);
	}
	expects_free(&e);
}

static void kinds_that_end_with_ready(void **state)
{
	for (int kind = EXPECT_QUERY; kind <= EXPECT_COPY_END; kind++) {
		struct expect x = {.kind = (uint8_t)kind};

		assert_int_equal(expect_ends_with_ready(&x),
				 kind == EXPECT_QUERY || kind == EXPECT_SYNC || kind == EXPECT_FUNCTION);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(empty_has_none),
		cmocka_unit_test(order_survives_growth),
		cmocka_unit_test(answers_are_counted),
		cmocka_unit_test(kinds_that_end_with_ready),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
