/* Texts and what they are meant for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sql/intent.h"

static const struct {
	const char *text, *intent;
} cases[] = {
	{"", "unknown"},
	{"-- nothing", "unknown"},
	{"FROBNICATE t", "unknown"},
	{"SELECT 1", "retrieval"},
	{"(SELECT 1) UNION (SELECT 2)", "retrieval"},
	{"VALUES (1), (2)", "retrieval"},
	{"TABLE t", "retrieval"},
	{"WITH a AS (SELECT 1) SELECT * FROM a", "retrieval"},
	{"SELECT * FROM jobs FOR UPDATE SKIP LOCKED", "retrieval"},
	{"SELECT nextval('s')", "retrieval"},
	{"SELECT a INTO b FROM c", "retrieval"},
	{"FETCH 10 FROM c", "retrieval"},
	{"COPY t TO STDOUT", "retrieval"},
	{"COPY (SELECT x FROM t) TO STDOUT", "retrieval"},
	{"COPY t (a, b) FROM STDIN", "storage"},
	{"COPY (DELETE FROM t RETURNING *) TO STDOUT", "storage"},
	{"insert into t values (1)", "storage"},
	{"UPDATE t SET a = 1", "storage"},
	{"DELETE FROM t", "storage"},
	{"MERGE INTO t USING s ON true WHEN MATCHED THEN DELETE", "storage"},
	{"WITH a AS (DELETE FROM t RETURNING *) SELECT * FROM a", "storage"},
	{"WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a", "storage"},
	{"CREATE TABLE t (a int)", "schema"},
	{"TRUNCATE t", "schema"},
	{"GRANT SELECT ON t TO a", "schema"},
	{"BEGIN", "transaction"},
	{"ROLLBACK TO a", "transaction"},
	{"SET search_path TO a", "utility"},
	{"SHOW search_path", "utility"},
	{"EXPLAIN SELECT 1", "utility"},
	{"EXPLAIN (ANALYZE) DELETE FROM t", "utility"},
	{"EXECUTE p(1)", "utility"},
	{"VACUUM t", "utility"},
	{"DO $$ BEGIN END $$", "utility"},
	{"BEGIN; SELECT 1; COMMIT", "retrieval"},
	{"BEGIN; SELECT 1; UPDATE t SET a = 1; COMMIT", "storage"},
	{"SELECT 'a\\'; DROP TABLE t --'", "schema"},
};

static void intents(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_string_equal(sql_intent_name(sql_intent(slice_str(cases[i].text), true)), cases[i].intent);
}

static void backslashes(void **state)
{
	assert_int_equal(sql_intent(slice_str("SELECT 'a\\'; DROP TABLE t --'"), false), INTENT_RETRIEVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(intents), cmocka_unit_test(backslashes)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
