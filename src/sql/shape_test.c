/* Shapes of texts, and which texts are pure reads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sql/scan.h"
#include "sql/shape.h"

static const struct {
	const char *text, *shape; /* NULL: it is not folded */
} shapes[] = {
	{"SELECT 1", "SELECT 0"},
	{"SELECT abalance FROM pgbench_accounts WHERE aid = 12345;",
	 "SELECT abalance FROM pgbench_accounts WHERE aid = 0;"},
	{"SELECT 1.5, 1e10, 0x1F, 1_000", "SELECT 0.0, 0e10, 0x1F, 0_000"},
	{"SELECT t1.c2, $1, $12::int4 FROM t1", "SELECT t1.c2, $1, $12::int4 FROM t1"},
	{"SELECT 'a', 'it''s', ''", "SELECT '', '', ''"},
	{"SELECT 'now', ' Today', '''now', 'yes', '$now'", "SELECT 'now', ' Today', '''now', 'yes', '$now'"},
	{"SELECT \"a 1\", \"b\"\"2\"", "SELECT \"a 1\", \"b\"\"2\""},
	{"SELECT a-1, b - -1, c/2*3", "SELECT a-0, b - -0, c/0*0"},
	{"SELECT 'a' \n 'b'", NULL},
	{"SELECT 'tom'\n'orrow'", NULL},
	{"SELECT 1 -- one", NULL},
	{"SELECT /* 1 */ 1", NULL},
	{"SELECT $$1$$", NULL},
	{"SELECT $a$1$a$", NULL},
	{"SELECT E'1'", NULL},
	{"SELECT U&'1'", NULL},
	{"SELECT B'1'", NULL},
	{"SELECT x'1f'", NULL},
	{"SELECT U&\"a\"", NULL},
	{"SELECT 'a\\'", NULL},
	{"SELECT 'a", NULL},
	{"SELECT \"a", NULL},
	{"SELECT 1$", NULL},
};

static void test_shapes(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(shapes); i++) {
		uint8_t out[256];
		size_t len = shape_fold(slice_str(shapes[i].text), out);

		assert_int_equal(len, shapes[i].shape ? strlen(shapes[i].shape) : 0);
		if (shapes[i].shape)
			assert_memory_equal(out, shapes[i].shape, len);
	}
}

static const struct {
	const char *text;
	bool pure;
} reads[] = {
	{"SELECT 1", true},
	{"select abalance FROM pgbench_accounts WHERE aid = 1;", true},
	{" ( SELECT a FROM t ) UNION ALL (SELECT b FROM u)", true},
	{"WITH x AS (SELECT 1) SELECT * FROM x", true},
	{"VALUES (1, 2), (3, 4)", true},
	{"TABLE t", true},
	{"SELECT count(*), sum(a), max(lower(b)) FROM t WHERE a IN (1, 2) AND (b = 'x' OR NOT (c))", true},
	{"SELECT a FROM t GROUP BY (a) HAVING (count(*) > 1) ORDER BY (a) LIMIT (10) OFFSET (2)", true},
	{"SELECT row_number() OVER (PARTITION BY (a) ORDER BY b), count(*) FILTER (WHERE a > 1) FROM t", true},
	{"SELECT a FROM t JOIN (SELECT 1 AS b) u USING (b) WHERE EXISTS (SELECT 1) AND a = ANY (ARRAY[1])", true},
	{"SELECT now(), coalesce(a, 1), extract(year FROM d), CAST(a AS numeric(10, 2)) FROM t", true},
	{"SELECT 'nextval(', 'x' FROM t -- f(x)", true},
	{"", false},
	{";", false},
	{"SELECT 1; SELECT 2", false},
	{"SELECT f(1)", false},
	{"SELECT s.lower(a) FROM t", false},
	{"SELECT pg_catalog.lower(a) FROM t", false}, /* it is, but who knows the schema at its front */
	{"SELECT \"lower\"(a) FROM t", false},
	{"SELECT by(1), over(2)", false},
	{"SELECT nextval('s')", false},
	{"SELECT ('s'::regclass).nextval", false},
	{"SELECT x.nextval FROM (SELECT 's'::regclass) x", false},
	{"SELECT (1).pg_sleep", false},
	{"SELECT a[1].f FROM t", false},
	{"SELECT $1.f", false},
	{"SELECT t.a, s.t.b, 1.5, .5 FROM s.t", true},
	{"SELECT pg_advisory_lock(1)", false},
	{"SELECT pg_advisory_xact_lock(1)", false},
	{"SELECT pg_sleep(1)", false},
	{"SELECT pg_backend_pid()", false},
	{"SELECT set_config('a.b', 'c', false)", false},
	{"SELECT current_setting('a.b')", false},
	{"SELECT random(), clock_timestamp()", false},
	{"SELECT a FROM t FOR UPDATE", false},
	{"SELECT a FROM t FOR KEY SHARE", false},
	{"SELECT a INTO b FROM t", false},
	{"WITH x AS (DELETE FROM t RETURNING a) SELECT * FROM x", false},
	{"WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x", false},
	{"SELECT * FROM pg_temp.t", false},
	{"SELECT 'now'::timestamptz", false},
	{"SELECT a FROM t TABLESAMPLE bernoulli (10)", false},
	{"SHOW search_path", false},
	{"EXPLAIN SELECT 1", false},
	{"EXPLAIN ANALYZE SELECT 1", false},
	{"INSERT INTO t VALUES (1)", false},
	{"UPDATE t SET a = 1", false},
	{"DELETE FROM t", false},
	{"BEGIN", false},
	{"COMMIT", false},
	{"SET a TO b", false},
	{"COPY t TO STDOUT", false},
	{"COPY (SELECT 1) TO STDOUT", false},
	{"LOCK TABLE t", false},
	{"CALL p()", false},
	{"DO $$ BEGIN END $$", false},
	{"DECLARE c CURSOR FOR SELECT 1", false},
	{"EXECUTE s", false},
	{"SELECT 'a", false},
	{"SELECT 1 /*", false},
};

static void test_pure_reads(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(reads); i++)
		if (shape_is_pure_read(slice_str(reads[i].text)) != reads[i].pure)
			fail_msg("%s: %s", reads[i].text, reads[i].pure ? "not pure" : "pure");
}

/* Each that is pure stays so when its literals are others: as its own shape it is read the same way. */
static void test_a_shape_is_as_pure_as_its_texts(void **state)
{
	uint8_t out[256];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(reads); i++) {
		size_t len = shape_fold(slice_str(reads[i].text), out);

		if (len > 0)
			assert_int_equal(shape_is_pure_read(slice_make(out, len)), reads[i].pure);
	}
}

static void test_functions_are_in_order(void **state)
{
	static const char *const names[] = {
#define FUNCTION(name) name,
#include "sql/pure_functions.def"
#undef FUNCTION
	};

	(void)state;
	for (size_t i = 1; i < ARRAY_SIZE(names); i++)
		assert_true(strcmp(names[i - 1], names[i]) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shapes),
		cmocka_unit_test(test_pure_reads),
		cmocka_unit_test(test_a_shape_is_as_pure_as_its_texts),
		cmocka_unit_test(test_functions_are_in_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
