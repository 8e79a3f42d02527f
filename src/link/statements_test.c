/* Identities of prepared statements, and the bounded set of those that a server connection has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "link/statements.h"

static struct statement_id id_of(uint64_t n)
{
	return (struct statement_id){n * 0x9e3779b97f4a7c15u, n};
}

static void same_text_same_identity(void **state)
{
	struct statement_id a = statement_id_make(SLICE_LITERAL("SELECT 1\0\0\0"), 0);

	assert_true(statement_id_equal(a, statement_id_make(SLICE_LITERAL("SELECT 1\0\0\0"), 0)));
	assert_false(statement_id_equal(a, statement_id_make(SLICE_LITERAL("SELECT 2\0\0\0"), 0)));
	assert_false(statement_id_equal(a, statement_id_make(SLICE_LITERAL("SELECT 1\0\0\1\0\0\0\x17"), 0)));
	assert_false(statement_id_equal(a, statement_id_make(SLICE_LITERAL("SELECT 1\0\0\0"), 7)));
}

static void names_tell_identities_apart(void **state)
{
	char a[STATEMENT_NAME_SIZE], b[STATEMENT_NAME_SIZE];
	struct statement_id id = {0, 1};

	statement_id_name(id, a);
	assert_int_equal(strlen(a), STATEMENT_NAME_SIZE - 1);
	assert_memory_equal(a, "hp_", 3);
	for (int bit = 0; bit < 128; bit++) { /* each bit is in the name */
		struct statement_id other = id;

		if (bit < 64)
			other.low ^= 1ull << bit;
		else
			other.high ^= 1ull << (bit - 64);
		statement_id_name(other, b);
		assert_string_not_equal(a, b);
	}
}

static void least_recently_used_goes_first(void **state)
{
	struct statement_set set;
	struct statement_id gone;

	statement_set_init(&set);
	for (uint64_t i = 1; i <= 5; i++)
		assert_int_equal(statement_set_add(&set, id_of(i)), 0);
	assert_true(statement_set_use(&set, id_of(1)));
	assert_int_equal(statement_set_add(&set, id_of(3)), 0); /* is there: counts as a use */
	assert_int_equal(set.count, 5);
	static const uint64_t order[] = {2, 4, 5, 1, 3};
	for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
		assert_true(statement_set_evict(&set, &gone));
		assert_true(statement_id_equal(gone, id_of(order[i])));
		assert_false(statement_set_use(&set, gone));
	}
	assert_false(statement_set_evict(&set, &gone));
	assert_int_equal(set.count, 0);
	statement_set_clear(&set);
}

static void removed_are_gone(void **state)
{
	struct statement_set set;

	statement_set_init(&set);
	statement_set_remove(&set, id_of(1)); /* empty: nothing happens */
	assert_false(statement_set_use(&set, id_of(1)));
	assert_int_equal(statement_set_add(&set, id_of(1)), 0);
	assert_int_equal(statement_set_add(&set, id_of(2)), 0);
	statement_set_remove(&set, id_of(3));
	statement_set_remove(&set, id_of(1));
	assert_false(statement_set_use(&set, id_of(1)));
	assert_true(statement_set_use(&set, id_of(2)));
	statement_set_clear(&set);
	assert_false(statement_set_use(&set, id_of(2)));
	assert_int_equal(statement_set_add(&set, id_of(2)), 0); /* a cleared set is usable */
	statement_set_clear(&set);
}

/* As a link does it: at its maximum one goes for each that comes. All that collide in a bucket, too. */
static void stays_bounded(void **state)
{
	enum { MAX = 100, ALL = 10000 };
	struct statement_set set;
	struct statement_id gone;

	statement_set_init(&set);
	for (uint64_t i = 0; i < ALL; i++) {
		if (set.count == MAX) {
			assert_true(statement_set_evict(&set, &gone));
			assert_true(statement_id_equal(gone, (struct statement_id){i - MAX, 42}));
		}
		assert_int_equal(statement_set_add(&set, (struct statement_id){i, 42}), 0);
	}
	assert_int_equal(set.count, MAX);
	for (uint64_t i = 0; i < ALL; i++)
		assert_int_equal(statement_set_use(&set, (struct statement_id){i, 42}), i >= ALL - MAX);
	statement_set_clear(&set);
}

/* What was used since the last look; what was only prepared ahead was not, and is the first to go. */
static void a_look_sees_what_was_used(void **state)
{
	struct statement_set set;
	struct statement_id ids[4], gone;

	(void)state;
	statement_set_init(&set);
	for (uint64_t i = 1; i <= 3; i++)
		assert_int_equal(statement_set_add(&set, id_of(i)), 0);
	assert_int_equal(statement_set_add_unused(&set, id_of(4)), 0);
	assert_int_equal(statement_set_add_unused(&set, id_of(2)), 0); /* is there: nothing changes */
	assert_int_equal(set.count, 4);
	assert_int_equal(statement_set_look(&set, ids, 4), 3);
	assert_true(statement_id_equal(ids[0], id_of(3)) && statement_id_equal(ids[2], id_of(1)));
	assert_int_equal(statement_set_look(&set, ids, 4), 0);
	assert_true(statement_set_use(&set, id_of(3)));
	assert_true(statement_set_use(&set, id_of(4)));
	assert_int_equal(statement_set_look(&set, ids, 1), 1);
	assert_true(statement_id_equal(ids[0], id_of(4)));
	assert_int_equal(statement_set_add_unused(&set, id_of(5)), 0);
	assert_true(statement_set_evict(&set, &gone));
	assert_true(statement_id_equal(gone, id_of(5)));
	statement_set_clear(&set);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(same_text_same_identity),   cmocka_unit_test(names_tell_identities_apart),
		cmocka_unit_test(a_look_sees_what_was_used), cmocka_unit_test(least_recently_used_goes_first),
		cmocka_unit_test(removed_are_gone),          cmocka_unit_test(stays_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
