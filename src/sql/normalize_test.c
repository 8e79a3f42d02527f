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
	{";;", ""},
	{"SELECT 1", "select ?"},
	{"  SELECT\n\t* FROM  T -- all of it\nWHERE a='x' ; ", "select * from t where a = ?"},
	{"SELECT 1; ;SELECT 2;", "select ?; select ?"},
	{"/* app */ SELECT $1, $2::int", "select ?, ?::int"},
	{"SELECT a1, t.b2,Tabelle.\"Grün\", Größe FROM t1", "select a1, t.b2, tabelle.\"Grün\", größe from t1"},
	{"ALTER ROLE a PASSWORD 'secret'", "alter role a password ?"},
	{"SELECT 'never ends", "select ?"},
	{"SELECT 'a'\n'b', U&'!0061' UESCAPE '!'", "select ?, ? uescape ?"},
	/* literals */
	{"SELECT E'a\\'b', U&'x', $$ secret $$, $q$ ' $q$, B'01', x'FF'", "select ?, ?, ?, ?, ?, ?"},
	{"SELECT 1e10, 0.5, .5, 1_000, 0x1F, 1_0.5_0, 1.", "select ?, ?, ?, ?, ?, ?, ?"},
	{"SELECT -1, - 1, +1, -.5, (-1)", "select ?, ?, ?, ?, (?)"},
	{"SELECT a-1, a -1, 2-1, f(x)-1, $1-1, \"a\"-1, a[1]-1",
	 "select a - ?, a - ?, ? - ?, f(x) - ?, ? - ?, \"a\" - ?, a[?] - ?"},
	{"WHERE a=-1 AND b<-1 AND c - -1 > 0 LIMIT -1", "where a = ? and b < ? and c - ? > ? limit ?"},
	{"SELECT a @-1, a->-1, a #>> '{a}'", "select a @- ?, a -> ?, a #>> ?"},
	{"SELECT -a, - -1", "select - a, - ?"},
	{"WHERE a = NULL AND b = true AND c IS NULL AND NOT d IS TRUE",
	 "where a = ? and b = ? and c is null and not d is true"},
	{"CREATE TABLE t (a int NOT NULL DEFAULT 3, b int NULL)",
	 "create table t(a int not null default ?, b int null)"},
	{"UPDATE t SET a=null, b=$1", "update t set a = ?, b = ?"},
	{"SELECT x.null, \"true\", (a)null", "select x.null, \"true\", (a) null"},
	/* blanks */
	{"SELECT count( * ),f (x) , t . * FROM t", "select count(*), f(x), t.* from t"},
	{"SELECT a::int,b :: text, c[1 : 2], a || 'x'||b", "select a::int, b::text, c[?:?], a || ? || b"},
	{"WHERE a>=1 AND(b<>2)AND EXISTS(SELECT 1)", "where a >= ? and (b <> ?) and exists (select ?)"},
	{"SELECT a<b, a < = b", "select a < b, a < = b"},
	/* lists */
	{"a IN(1)", "a in (?, ...)"},
	{"a IN (1,2, 3)", "a in (?, ...)"},
	{"a NOT IN ($1, $2, 'x', -1, NULL)", "a not in (?, ...)"},
	{"a IN ($1::uuid, $2::uuid)", "a in (?::uuid, ...)"},
	{"(a, b) IN ((1, 2), (3, 4), (5, 6))", "(a, b) in ((?, ?), ...)"},
	{"a IN (1, b, 2, 3, b, b)", "a in (?, ..., b, ?, ..., b, b)"},
	{"a IN (b, c) AND d IN ()", "a in (b, c) and d in ()"},
	{"a IN (SELECT b FROM t WHERE c = 1)", "a in (select b from t where c = ?)"},
	{"a IN (VALUES (1), (2))", "a in (values (?), ...)"},
	{"a IN (f(1, 2), f(3, 4))", "a in (f(?, ?), ...)"},
	{"a IN (1, 2", "a in (?, ..."},
	{"a = ANY(ARRAY[1, 2]) AND b = ANY($1) AND c = any ('{1}')",
	 "a = any (array[?, ...]) and b = any (?) and c = any (?)"},
	{"ARRAY[[1, 2], [3, 4]]", "array[[?, ?], ...]"},
	{"f(1, 2), f(1, 2, 3)", "f(?, ?), f(?, ?, ?)"},
	{"INSERT INTO t (a, b) VALUES (1, 'a')", "insert into t(a, b) values (?, ?)"},
	{"INSERT INTO t VALUES (1, 'a'), (2,null), ($3, $4) ON CONFLICT (a) DO NOTHING",
	 "insert into t values (?, ?), ... on conflict (a) do nothing"},
	{"INSERT INTO t VALUES (1, now()), (2, now()) RETURNING a", "insert into t values (?, now()), ... returning a"},
	{"VALUES (1), (default), (2), (3)", "values (?), (default), (?), ..."},
	{"VALUES (1), (2), (a), (3), (4)", "values (?), ..., (a), (?), ..."},
	{"SELECT * FROM (VALUES (1, 2), (3, 4)) v(a, b), t", "select * from (values (?, ?), ...) v(a, b), t"},
	{"VALUES (1, a IN (1, 2)), (2, a IN (1))", "values (?, a in (?, ...)), ..."},
	{"VALUES (1), (2); VALUES (3)", "values (?), ...; values (?)"},
	{"a IN ((b IN (1, 2)), (b IN (1, 2, 3)))", "a in ((b in (?, ...)), ...)"},
	{"IN (IN (IN (IN (IN (1, 2)))))", "in (in (in (in (in (?, ?), ...), ...), ...), ...)"},
	{") a IN (1)) , (", ") a in (?, ...)), ("},
};

static uint64_t hash(const char *text)
{
	uint64_t hash = 0xcbf29ce484222325ull;

	for (; *text; text++)
		hash = (hash ^ (uint8_t)*text) * 0x100000001b3ull;
	return hash;
}

static void texts(void **state)
{
	struct sql_normalized got;
	char out[256];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		sql_normalize(slice_str(cases[i].text), true, out, sizeof(out), &got);
		assert_string_equal(out, cases[i].normalized);
		assert_int_equal(got.len, strlen(out));
		assert_false(got.cut);
		assert_int_equal(got.fingerprint, hash(out));
	}
}

/* Published numbers: they may not change from release to release. */
static void stable(void **state)
{
	struct sql_normalized got;
	char out[16];

	sql_normalize(slice_str(""), true, out, sizeof(out), &got);
	assert_int_equal(got.fingerprint, 0xcbf29ce484222325ull);
	sql_normalize(slice_str("SELECT * FROM orders WHERE id IN (1, 2)"), true, out, sizeof(out), &got);
	assert_int_equal(got.fingerprint, 0x9147795a3de6a53ull);
}

static void strings_with_backslashes(void **state)
{
	struct sql_normalized got;
	char out[64];

	sql_normalize(slice_str("SELECT 'a\\' secret', 'b'"), false, out, sizeof(out), &got);
	assert_string_equal(out, "select ?, ?");
}

static void ends_at_nul(void **state)
{
	struct sql_normalized got;
	char out[64];

	sql_normalize(SLICE_LITERAL("SELECT \"a\0b\""), true, out, sizeof(out), &got);
	assert_string_equal(out, "select \"a");
}

/* Cut at any length: NUL-terminated, within its room, never inside a character, and of one fingerprint. */
static void cuts(void **state)
{
	const char *text =
		"select a\303\244\342\202\254\360\237\230\200b from t where c in (?, ...) and d in (f(?), ...)";
	struct slice written = slice_str("SELECT a\303\244\342\202\254\360\237\230\200b FROM t WHERE c IN (1, 2) AND "
					 "d IN (f(1), f(222), f(3))");
	size_t len = strlen(text);
	struct sql_normalized got;
	char out[128];

	for (size_t size = 1; size <= len + 1; size++) {
		sql_normalize(written, true, out, size, &got);
		assert_true(got.len < size);
		assert_int_equal(strlen(out), got.len);
		assert_memory_equal(out, text, got.len);
		assert_int_equal(got.cut, size <= len);
		assert_true(((uint8_t)text[got.len] & 0xc0) != 0x80);
		assert_int_equal(got.fingerprint, hash(text));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(texts),       cmocka_unit_test(stable), cmocka_unit_test(strings_with_backslashes),
		cmocka_unit_test(ends_at_nul), cmocka_unit_test(cuts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
