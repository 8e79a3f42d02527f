/* Sets of parameters: equal ones are one pointer, in order, and threads may make and drop them at the same time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "link/params.h"

#include <pthread.h>
#include <stdio.h>

#define THREADS 4
#define ROUNDS  3000

/* name, value, name, value ..., NULL */
static const struct params *make(const char *const *pairs)
{
	const struct params *p = NULL;

	for (; *pairs; pairs += 2)
		params_set(&p, pairs[0], pairs[1]);
	return p;
}

#define MAKE(...) make((const char *const[]){__VA_ARGS__, NULL})

static void only_some_change_meaning(void **state)
{
	const struct params *plain = MAKE("application_name", "a", "statement_timeout", "1"),
			    *iso = MAKE("application_name", "b", "DateStyle", "ISO"),
			    *dmy = MAKE("DateStyle", "SQL, DMY"), *same = MAKE("DateStyle", "ISO", "lock_timeout", "2");

	assert_int_equal(params_meaning(NULL), 0);
	assert_int_equal(params_meaning(plain), 0);
	assert_int_not_equal(params_meaning(iso), 0);
	assert_int_equal(params_meaning(iso), params_meaning(same));
	assert_int_not_equal(params_meaning(iso), params_meaning(dmy));
	params_unref(plain);
	params_unref(iso);
	params_unref(dmy);
	params_unref(same);
}

static void equal_sets_are_one(void **state)
{
	const struct params *a = MAKE("TimeZone", "UTC", "DateStyle", "ISO"),
			    *b = MAKE("DateStyle", "ISO", "TimeZone", "UTC");
	const struct params *c = MAKE("DateStyle", "ISO", "TimeZone", "CET");

	assert_ptr_equal(a, b);
	assert_ptr_not_equal(a, c);
	params_set(&c, "TimeZone", "UTC");
	assert_ptr_equal(a, c);
	params_unref(a);
	params_unref(b);
	params_unref(c);
}

/* The borders between names and values count, not only the bytes. */
static void borders_count(void **state)
{
	const struct params *a = MAKE("ab", "c"), *b = MAKE("a", "bc"), *c = MAKE("a", "", "b", "c");

	assert_ptr_not_equal(a, b);
	assert_ptr_not_equal(a, c);
	assert_ptr_not_equal(b, c);
	assert_string_equal(params_get(c, "a"), "");
	params_unref(a);
	params_unref(b);
	params_unref(c);
}

static void names_are_in_order(void **state)
{
	static const char *const names[] = {"b", "z", "a", "Z", "aa", ""};
	const struct params *p = NULL;
	const char *name, *value, *before = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		params_set(&p, names[i], "x");
	assert_int_equal(params_count(p), ARRAY_SIZE(names));
	for (uint32_t i = 0; i < params_count(p); i++) {
		params_at(p, i, &name, &value);
		assert_string_equal(value, "x");
		assert_true(!before || strcmp(before, name) < 0);
		before = name;
	}
	params_unref(p);
}

static void empty_is_null(void **state)
{
	const struct params *p = NULL;

	assert_int_equal(params_count(NULL), 0);
	assert_null(params_get(NULL, "a"));
	params_set(&p, "a", NULL);
	assert_null(p);
	params_set(&p, "a", "1");
	params_set(&p, "b", "2");
	params_set(&p, "a", NULL);
	assert_null(params_get(p, "a"));
	assert_string_equal(params_get(p, "b"), "2");
	params_set(&p, "none", NULL);
	assert_int_equal(params_count(p), 1);
	params_set(&p, "b", NULL);
	assert_null(p);
}

/* A set never changes: who holds it sees the same, whatever is made of it. */
static void sets_do_not_change(void **state)
{
	const struct params *a = MAKE("a", "1", "b", "2"), *b = params_with(a, "a", "3"),
			    *c = params_with(a, "b", NULL);

	assert_string_equal(params_get(a, "a"), "1");
	assert_string_equal(params_get(b, "a"), "3");
	assert_string_equal(params_get(b, "b"), "2");
	assert_null(params_get(c, "b"));
	params_unref(a);
	assert_string_equal(params_get(b, "b"), "2");
	params_unref(b);
	params_unref(c);
}

/* The same few sets, made and dropped by all at once: each must always have the content it was made with. */
static void *churn(void *argument)
{
	unsigned seed = (unsigned)(uintptr_t)argument;

	for (int i = 0; i < ROUNDS; i++) {
		const struct params *p = NULL, *q = NULL;
		char value[2][16];

		snprintf(value[0], sizeof(value[0]), "%d", rand_r(&seed) % 7);
		snprintf(value[1], sizeof(value[1]), "%d", rand_r(&seed) % 3);
		params_set(&p, "a", value[0]);
		params_set(&p, "b", value[1]);
		params_set(&q, "b", value[1]);
		params_set(&q, "a", value[0]);
		if (p != q || strcmp(params_get(p, "a"), value[0]) != 0 || strcmp(params_get(p, "b"), value[1]) != 0)
			return "wrong";
		params_unref(p);
		params_unref(q);
	}
	return NULL;
}

static void threads_share_them(void **state)
{
	pthread_t threads[THREADS];

	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, churn, (void *)(i + 1)), 0);
	for (int i = 0; i < THREADS; i++) {
		void *problem;

		pthread_join(threads[i], &problem);
		assert_null(problem);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(equal_sets_are_one), cmocka_unit_test(only_some_change_meaning),
		cmocka_unit_test(borders_count),      cmocka_unit_test(names_are_in_order),
		cmocka_unit_test(empty_is_null),      cmocka_unit_test(sets_do_not_change),
		cmocka_unit_test(threads_share_them),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
