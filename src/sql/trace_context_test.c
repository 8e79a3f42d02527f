/* Trace context: what sqlcommenter's libraries write, and what nobody should. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sql/trace_context.h"

#define ID     "0af7651916cd43dd8448eb211c80319c"
#define PARENT "00-" ID "-b7ad6b7169203331-01"
#define PAIR   "traceparent='" PARENT "'"

static bool read_text(const char *text, struct trace_context *ret)
{
	memset(ret, 0, sizeof(*ret));
	return trace_context_read(slice_str(text), slice_str(text), ret);
}

static void found(void **state)
{
	static const struct {
		const char *text, *state;
	} cases[] = {
		{"SELECT 1 /*" PAIR "*/", ""},
		{"SELECT 1 /*" PAIR "*/ ; \n", ""},
		{"SELECT 1 /* " PAIR " */", ""},
		{"/*" PAIR "*/ SELECT 1", ""},
		{"  /* a hint */ /*helios:route=primary*/\n/*" PAIR "*/SELECT 1", ""},
		{"SELECT 1 /*db_driver='psycopg%%3A3',route='%2Fpolls%201000'," PAIR
		 ",tracestate='congo%3Dt61rcWkgMzE%2Crojo%3D00f067aa0ba902b7'*/",
		 "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"},
		{"SELECT 1 /*tracestate='a%%3Db%%2Cc%%3Dd'," PAIR "*/", "a=b,c=d"},
		{"SELECT 1 /*dbapi_level='2.0',dbapi_threadsafety=2,libpq_version=180006 ," PAIR ",x=1*/", ""},
		{"SELECT 1 /*name='DROP \\'TABLE\\''," PAIR "*/", ""},
		{"SELECT 1 /*" PAIR ",tracestate='not valid'*/", ""},
		{"SELECT '/*traceparent=''x''*/' /*" PAIR "*/", ""},
		{"/*traceparent='bad'*/ SELECT 1 /*" PAIR "*/", ""},
		{"/*" PAIR "*/ SELECT 1 /*x*/", ""},
	};
	struct trace_context c;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		if (!read_text(cases[i].text, &c))
			fail_msg("nothing in %s", cases[i].text);
		assert_memory_equal(c.trace_id, "\x0a\xf7\x65\x19\x16\xcd\x43\xdd\x84\x48\xeb\x21\x1c\x80\x31\x9c", 16);
		assert_memory_equal(c.parent_id, "\xb7\xad\x6b\x71\x69\x20\x33\x31", 8);
		assert_int_equal(c.flags, 1);
		assert_string_equal(c.state, cases[i].state);
	}
}

static void not_there(void **state)
{
	static const char *const texts[] = {
		"",
		"SELECT 1",
		"*/",
		"/*/",
		"/**/",
		"SELECT 1 */",
		"SELECT '/*" PAIR "*/'",
		"SELECT 1 -- /*" PAIR "*/\n + 2",
		"SELECT 1 /*" PAIR "*/ + 2",
		"SELECT 1 /* /*" PAIR "*/ */",
		"SELECT 1 /*" PAIR,
		"SELECT 1 /*traceparent='" PARENT "*/",
		"SELECT 1 /*traceparent=" PARENT "*/",
		"SELECT 1 /*x=1'2'," PAIR "*/",
		"SELECT 1 /*xtraceparent='" PARENT "'*/",
		"SELECT 1 /*traceparent='%'*/",
		"SELECT 1 /*traceparent='%zz'*/",
		"SELECT 1 /*traceparent='\\'*/",
		"SELECT 1 /*'''',,=='*/",
	};
	struct trace_context c;

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		if (read_text(texts[i], &c))
			fail_msg("something in %s", texts[i]);
}

/* A text of which only the beginning and the end are there. */
static void two_pieces(void **state)
{
	struct trace_context c;

	assert_true(trace_context_read(SLICE_LITERAL("SELECT 'x"), SLICE_LITERAL("y' /*" PAIR "*/"), &c));
	assert_true(trace_context_read(SLICE_LITERAL("/*" PAIR "*/ SELECT 'x"), SLICE_LITERAL("y'"), &c));
	assert_false(trace_context_read(SLICE_LITERAL("SELECT 'x"), SLICE_LITERAL(PAIR "*/"), &c));
	assert_false(trace_context_read(SLICE_LITERAL("SELECT 'x"), (struct slice){0}, &c));
}

static void parents(void **state)
{
	static const struct {
		const char *value;
		int flags; /* -1: not valid */
	} cases[] = {
		{PARENT, 1},
		{"00-" ID "-b7ad6b7169203331-00", 0},
		{"00-" ID "-b7ad6b7169203331-ff", 255},
		{"01-" ID "-b7ad6b7169203331-03", 1},
		{"cc-" ID "-b7ad6b7169203331-01-what-comes-later", 1},
		{"cc-" ID "-b7ad6b7169203331-01.what", -1},
		{"00-" ID "-b7ad6b7169203331-01-more", -1},
		{"ff-" ID "-b7ad6b7169203331-01", -1},
		{"00-00000000000000000000000000000000-b7ad6b7169203331-01", -1},
		{"00-" ID "-0000000000000000-01", -1},
		{"00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", -1},
		{"00-" ID "-b7ad6b7169203331-0", -1},
		{"00-" ID "-b7ad6b7169203331-0g", -1},
		{"00_" ID "-b7ad6b7169203331-01", -1},
		{"0-" ID "-b7ad6b7169203331-011", -1},
		{"", -1},
	};
	struct trace_context c;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		bool valid = trace_parent_read(slice_str(cases[i].value), &c);

		if (valid != (cases[i].flags >= 0) || (valid && c.flags != cases[i].flags))
			fail_msg("%s", cases[i].value);
	}
}

static void states(void **state)
{
	static const char *const good[] = {"a=1",  "a=1,b=2", "fw529a3039@dt=FfffffB", "a=1, b=2", "a= x",
					   "0a=1", "a=1,"};
	static const char *const bad[] = {"", "a", "=1", "a=", "A=1", "a=1=2", "a=\x7f", "a=1,b", "@a=1", "a b=1"};
	char text[TRACE_STATE_MAX + 2], many[200] = "";

	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		if (!trace_state_is_valid(slice_str(good[i])))
			fail_msg("%s", good[i]);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (trace_state_is_valid(slice_str(bad[i])))
			fail_msg("%s", bad[i]);
	memset(text, 'x', sizeof(text));
	text[1] = '=';
	assert_true(trace_state_is_valid(slice_make(text, 2 + 256)));
	assert_false(trace_state_is_valid(slice_make(text, 2 + 257)));
	assert_false(trace_state_is_valid(slice_make(text, sizeof(text))));
	for (size_t i = 0; i < 33; i++)
		memcpy(many + 4 * i, "a=1,", 4);
	assert_true(trace_state_is_valid(slice_make(many, 4 * 32 - 1)));
	assert_false(trace_state_is_valid(slice_make(many, 4 * 33 - 1)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(found),   cmocka_unit_test(not_there), cmocka_unit_test(two_pieces),
		cmocka_unit_test(parents), cmocka_unit_test(states),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
