/* What sessions keep of parameters, as SET takes it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "session/set_syntax.h"

#define CALL(name, value) "SELECT pg_catalog.set_config(E'" name "', E'" value "', false)"
#define APPLICATION(clean, escaped) \
	"SELECT pg_catalog.set_config(E'application_name', CASE WHEN " \
	"pg_catalog.current_setting('server_version_num')::pg_catalog.int4 OPERATOR(pg_catalog.<) 160000 THEN " \
	"E'" clean "' ELSE E'" escaped "' END, false)"

static void sets(void **state)
{
	static const struct {
		const char *name, *sql, *expected;
	} cases[] = {
		{"application_name", CALL("application_name", "psql"), "SET \"application_name\" = 'psql'"},
		{"datestyle", CALL("DateStyle", "ISO, MDY"), "SET \"datestyle\" = 'ISO, MDY'"},
		{"a.b", CALL("a.b", ""), "SET \"a.b\" = ''"},
		{"x", CALL("x", "it''s; SELECT 1"), "SET \"x\" = 'its; SELECT 1'"},
		{"x", CALL("x", "''"), "SET \"x\" = ''"},
		{"x", CALL("x", "a\\\\b"), "SET \"x\" = 'ab'"},
		{"x", CALL("x", "a\\\\''b\\\\"), "SET \"x\" = 'ab'"},
		{"x", CALL("x", "', false);DROP TABLE t;--"),
		 "SET \"x\" = ''"}, /* never written so: the quote stands twice */
		{"a\"b", CALL("a\"b", "1"), "SET \"a\"\"b\" = '1'"},
		{"o''", CALL("o''''", "1"), "SET \"o''\" = '1'"},
		{"application_name", APPLICATION("caf?", "caf\\\\xc3"), "SET \"application_name\" = 'cafxc3'"},
		{"application_name", APPLICATION("a'' ELSE b", "c''d"), "SET \"application_name\" = 'cd'"},
		/* a client's own */
		{"search_path", "SET search_path = a, b", "SET search_path = a, b"},
		{"x", "SELECT pg_catalog.set_config(", "SELECT pg_catalog.set_config("},
		{"x", "SELECT pg_catalog.set_config(E'x', E'open", "SELECT pg_catalog.set_config(E'x', E'open"},
		{"x", "SELECT pg_catalog.set_config(E'x', y, false)", "SELECT pg_catalog.set_config(E'x', y, false)"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct buf b = BUF_INIT(65536);

		set_syntax_add(&b, cases[i].name, cases[i].sql);
		assert_string_equal(buf_cstr(&b), cases[i].expected);
		buf_free(&b);
	}
}

static void resets(void **state)
{
	struct buf b = BUF_INIT(65536);

	set_syntax_add_reset(&b, "a\";b");
	assert_string_equal(buf_cstr(&b), "RESET \"a\"\";b\"");
	buf_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sets),
		cmocka_unit_test(resets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
