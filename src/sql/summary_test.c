/* Queries in a few words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sql/summary.h"

#include <stdio.h>

static const struct {
	const char *text, *summary, *operation;
} cases[] = {
	{"SELECT 1", "SELECT", "SELECT"},
	{"select * from orders", "SELECT orders", "SELECT"},
	{"/* c */ SELECT a FROM public.orders o, \"Big One\" AS b, c WHERE x = 'FROM secret'",
	 "SELECT public.orders \"Big One\" c", "SELECT"},
	{"SELECT * FROM orders JOIN customers ON true LEFT JOIN x.y z USING (id)", "SELECT orders customers x.y",
	 "SELECT"},
	{"SELECT a FROM (SELECT * FROM orders o JOIN customers c ON o.id = c.id) s", "SELECT SELECT orders customers",
	 "SELECT"},
	{"INSERT INTO shipping (a, b) SELECT x, y FROM orders", "INSERT shipping SELECT orders", "INSERT"},
	{"insert into t(a) values ('SELECT * FROM u') on conflict do update set a = 1", "INSERT t", "INSERT"},
	{"insert into t (a) values (1)", "INSERT t", "INSERT"},
	{"UPDATE ONLY t SET a = 1 FROM u WHERE true", "UPDATE t u", "UPDATE"},
	{"DELETE FROM s.t WHERE id = 7", "DELETE s.t", "DELETE"},
	{"MERGE INTO t USING u ON true WHEN MATCHED THEN UPDATE SET a = 1", "MERGE t", "MERGE"},
	{"SELECT * FROM a FOR UPDATE", "SELECT a", "SELECT"},
	{"SELECT * FROM a FOR NO KEY UPDATE OF a", "SELECT a", "SELECT"},
	{"SELECT extract(epoch FROM ts), trim(both FROM x) FROM real WHERE a IS DISTINCT FROM b", "SELECT real",
	 "SELECT"},
	{"SELECT * FROM generate_series(1, 3), t", "SELECT", "SELECT"},
	{"WITH x AS (DELETE FROM a RETURNING *) INSERT INTO b SELECT * FROM x", "DELETE a INSERT b SELECT x", "WITH"},
	{"(SELECT 1 FROM a) UNION (SELECT 2 FROM b)", "SELECT a SELECT b", "SELECT"},
	{"CREATE UNIQUE INDEX IF NOT EXISTS i ON t (a)", "CREATE INDEX i", "CREATE"},
	{"CREATE OR REPLACE VIEW v AS SELECT * FROM t", "CREATE VIEW v SELECT t", "CREATE"},
	{"DROP TABLE t", "DROP TABLE t", "DROP"},
	{"ALTER ROLE r PASSWORD 'secret'", "ALTER ROLE r", "ALTER"},
	{"TRUNCATE TABLE t", "TRUNCATE t", "TRUNCATE"},
	{"COPY t (a) FROM STDIN", "COPY t", "COPY"},
	{"SET search_path TO 'x'", "SET", "SET"},
	{"BEGIN", "BEGIN", "BEGIN"},
	{"BEGIN; SELECT * FROM t; COMMIT", "BEGIN; SELECT t; COMMIT", ""},
	{"", "", ""},
	{" ;; ", "", ""},
	{"'SELECT'", "", ""},
	{"SELECT * FROM \"unterminated", "SELECT \"unterminated", "SELECT"},
	{"SELECT * FROM $$x$$", "SELECT", "SELECT"},
	{")))) FROM a", "", ""},
};

static void summaries(void **state)
{
	struct sql_summary s;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		sql_summarize(slice_str(cases[i].text), &s);
		if (strcmp(s.text, cases[i].summary) != 0 || strcmp(s.operation, cases[i].operation) != 0)
			fail_msg("%s: \"%s\" (%s)", cases[i].text, s.text, s.operation);
	}
}

static void long_ones_end_with_a_word(void **state)
{
	char text[4000] = "SELECT * FROM t0";
	struct sql_summary s;
	size_t len;

	for (int i = 1; i < 400; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), ", t%d", i);
	sql_summarize(slice_str(text), &s);
	len = strlen(s.text);
	assert_in_range(len, SQL_SUMMARY_MAX - 4, SQL_SUMMARY_MAX);
	assert_memory_equal(s.text, "SELECT t0 t1 ", 13);
	assert_int_not_equal(s.text[len - 1], ' ');
	memset(text, 'x', sizeof(text));
	sql_summarize(slice_make(text, sizeof(text)), &s);
	assert_in_range(strlen(s.operation), 1, SQL_OPERATION_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(summaries),
		cmocka_unit_test(long_ones_end_with_a_word),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
