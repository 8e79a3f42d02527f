/* Texts and what they are without what differs from call to call. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sql/normalize.h"

static const struct {
	const char *text, *normalized;
} cases[] = {
	{"", ""},
	{"SELECT 1", "SELECT ?"},
	{"  SELECT\n\t* FROM  t -- all of it\nWHERE a='x'  ", "SELECT * FROM t WHERE a=?"},
	{"/* app */ SELECT $1, $2::int", "SELECT $1, $2::int"},
	{"SELECT E'a\\'b', U&'x', $$ secret $$, $q$ ' $q$, B'01', 1e10, 0.5", "SELECT ?, ?, ?, ?, ?, ?, ?"},
	{"ALTER ROLE a PASSWORD 'secret'", "ALTER ROLE a PASSWORD ?"},
	{"INSERT INTO \"T 1\" VALUES (1,'a'),(2,'b')", "INSERT INTO \"T 1\" VALUES (?,?),(?,?)"},
	{"SELECT 'never ends", "SELECT ?"},
	{"SELECT a1, t.b2 FROM t1", "SELECT a1, t.b2 FROM t1"},
};

static void texts(void **state)
{
	char out[256];
	bool cut;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(sql_normalize(slice_str(cases[i].text), out, sizeof(out), &cut),
				 strlen(cases[i].normalized));
		assert_string_equal(out, cases[i].normalized);
		assert_false(cut);
	}
}

/* Cut at any length: NUL-terminated, within its room, and never inside a character. */
static void cuts(void **state)
{
	const char *text = "SELECT a\303\244\342\202\254\360\237\230\200b FROM t";
	size_t len = strlen(text);
	char out[64];
	bool cut;

	for (size_t size = 1; size <= len + 1; size++) {
		size_t got = sql_normalize(slice_str(text), out, size, &cut);

		assert_true(got < size);
		assert_int_equal(strlen(out), got);
		assert_memory_equal(out, text, got);
		assert_int_equal(cut, size <= len);
		assert_true(((uint8_t)text[got] & 0xc0) != 0x80);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(texts), cmocka_unit_test(cuts)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
