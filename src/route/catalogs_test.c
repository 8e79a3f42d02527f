/* When a catalog is believed and when it is read again, by tables. Reading it is tested on real servers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "route/catalogs_priv.h"

#define S USEC_PER_SEC

static void test_when(void **state)
{
	enum { NOTHING = 0, USE = CATALOG_USE, LOAD = CATALOG_LOAD };
	static const struct {
		const char *what;
		uint32_t expected;
		struct catalog_moment moment;
	} cases[] = {
		{"none yet", LOAD, {.now = 1000 * S, .refresh = 60 * S}},
		{"none yet, on its way", NOTHING, {.now = 1000 * S, .refresh = 60 * S, .loading = true}},
		{"none yet, and it has just failed",
		 NOTHING,
		 {.now = 1000 * S, .refresh = 60 * S, .not_before = 1001 * S}},
		{"none yet, it failed a while ago", LOAD, {.now = 1000 * S, .refresh = 60 * S, .not_before = 999 * S}},
		{"none, and no server", LOAD, {.now = 1000 * S, .refresh = 60 * S, .unreachable = true}},
		{"fresh", USE, {.now = 1000 * S, .loaded = 990 * S, .refresh_at = 1050 * S, .refresh = 60 * S}},
		{"time to refresh",
		 USE | LOAD,
		 {.now = 1000 * S, .loaded = 940 * S, .refresh_at = 1000 * S, .refresh = 60 * S}},
		{"being refreshed",
		 USE,
		 {.now = 1000 * S, .loaded = 940 * S, .refresh_at = 1000 * S, .refresh = 60 * S, .loading = true}},
		{"a refresh failed",
		 USE,
		 {.now = 1000 * S,
		  .loaded = 940 * S,
		  .refresh_at = 1000 * S,
		  .refresh = 60 * S,
		  .not_before = 1002 * S}},
		{"nobody asked for long",
		 LOAD,
		 {.now = 1000 * S, .loaded = 880 * S, .refresh_at = 940 * S, .refresh = 60 * S}},
		{"nobody asked for very long",
		 LOAD,
		 {.now = 9000 * S, .loaded = 880 * S, .refresh_at = 940 * S, .refresh = 60 * S}},
		{"it can't be read for long",
		 NOTHING,
		 {.now = 1000 * S,
		  .loaded = 800 * S,
		  .refresh_at = 860 * S,
		  .refresh = 60 * S,
		  .not_before = 1002 * S}},
		{"no server for long",
		 USE,
		 {.now = 9000 * S,
		  .loaded = 800 * S,
		  .refresh_at = 860 * S,
		  .refresh = 60 * S,
		  .unreachable = true,
		  .not_before = 9002 * S}},
		{"no server for long, try again",
		 USE | LOAD,
		 {.now = 9000 * S,
		  .loaded = 800 * S,
		  .refresh_at = 860 * S,
		  .refresh = 60 * S,
		  .unreachable = true,
		  .not_before = 8999 * S}},
		{"the schema has changed",
		 LOAD,
		 {.now = 1000 * S, .loaded = 990 * S, .refresh_at = 1050 * S, .refresh = 60 * S, .outdated = true}},
		{"it has, and it is being read",
		 NOTHING,
		 {.now = 1000 * S,
		  .loaded = 990 * S,
		  .refresh_at = 1050 * S,
		  .refresh = 60 * S,
		  .outdated = true,
		  .loading = true}},
		{"it has, and there is no server",
		 NOTHING,
		 {.now = 1000 * S,
		  .loaded = 990 * S,
		  .refresh_at = 1050 * S,
		  .refresh = 60 * S,
		  .outdated = true,
		  .unreachable = true,
		  .not_before = 1002 * S}},
		{"it changes all the time",
		 NOTHING,
		 {.now = 1000 * S,
		  .loaded = 999 * S,
		  .refresh_at = 1050 * S,
		  .refresh = 60 * S,
		  .outdated = true,
		  .not_before = 1001 * S}},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint32_t judged = catalog_judge(&cases[i].moment);

		if (judged != cases[i].expected)
			fail_msg("%s: %u, not %u", cases[i].what, judged, cases[i].expected);
	}
}

static void test_rest(void **state)
{
	usec_t last = 0;

	(void)state;
	assert_int_equal(catalog_rest(0, 0), 0);
	assert_int_equal(catalog_rest(100, 0), 300);
	for (uint32_t failures = 1; failures <= 8; failures++) {
		assert_true(catalog_rest(0, failures) > last);
		last = catalog_rest(0, failures);
	}
	assert_int_equal(catalog_rest(0, UINT32_MAX), last);
	assert_true(last <= 70 * S);
	assert_int_equal(catalog_rest(100 * S, 1), 300 * S);
}

/* Where a record may end it stays; behind a header it is where the record before ended. */
static void test_position(void **state)
{
	static const struct {
		uint64_t insert, position;
	} cases[] = {
		{0, 0},
		{0x3000028, 0x3000000}, /* of a segment: a long header */
		{0x3002018, 0x3002000},
		{0x3002030, 0x3002030},
		{0x3000060, 0x3000060},
		{0x3002000, 0x3002000},
		{0x16B374D848, 0x16B374D848},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(catalog_position(cases[i].insert), cases[i].position);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_when),
		cmocka_unit_test(test_rest),
		cmocka_unit_test(test_position),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
