/*
 * What is remembered of texts is what would be found out anew: by text, by shape, with another catalog, with other
 * settings; and which texts change a catalog.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "route/understanding.h"
#include "sql/shape.h"

static const char *const texts[] = {
#define CASE(level, reason, text) text,
#include "sql/access_cases.def"
#undef CASE
};

static struct catalog *make_catalog(const char *kind, const char *name)
{
	struct catalog *c = catalog_new();

	assert_non_null(c);
	assert_int_equal(catalog_add(c, slice_str(kind), slice_str(name)), 0);
	return c;
}

static struct access find(struct slice text, bool conforming, const struct catalog *catalog)
{
	struct access a;
	struct scan scan;

	assert_int_equal(scan_text((const char *)text.bytes, text.len, 0, conforming, &scan), 0);
	access_find((const char *)text.bytes, &scan, conforming, catalog, &a);
	scan_free(&scan);
	return a;
}

static void assert_same(const struct access *a, const struct access *b, const char *text)
{
	if (memcmp(a, b, sizeof(*a)) != 0)
		fail_msg("%s: %s %s, not %s %s", text, access_level_name(a->level), access_reason_word(a->reason),
			 access_level_name(b->level), access_reason_word(b->reason));
}

static void check(struct understandings *u, const char *text, bool conforming, const struct catalog *catalog,
		  uint64_t number)
{
	struct access expected = find(slice_str(text), conforming, catalog);
	struct access got = understand(u, catalog, number, slice_str(text), conforming)->access;

	assert_same(&got, &expected, text);
}

/* Each in every way, in turn, several times: none is taken for another. */
static void test_what_is_remembered_is_what_is_found(void **state)
{
	struct catalog *c = make_catalog("function reads", "f_stable"), *d = make_catalog("name writes", "t");
	struct understandings u = UNDERSTANDINGS_INIT;

	(void)state;
	for (int round = 0; round < 3; round++)
		for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
			check(&u, texts[i], true, c, 1);
			check(&u, texts[i], true, NULL, 0);
			check(&u, texts[i], true, d, 2);
			check(&u, texts[i], false, c, 1);
			check(&u, texts[i], false, NULL, 0);
		}
	understandings_free(&u);
	catalog_free(c);
	catalog_free(d);
}

/* Other values in the place of all numbers and plain strings. */
static void change_values(const char *text, char *out)
{
	bool in_string = false, in_word = false;

	for (; *text; text++, out++) {
		bool digit = *text >= '0' && *text <= '9';

		*out = *text;
		if (*text == '\'')
			in_string = !in_string;
		else if (in_string)
			*out = 'x';
		else if (digit && !in_word)
			*out = '7';
		in_word = !in_string && (in_word ? digit : false || (*text >= 'A' && *text <= 'z') || *text == '$');
	}
	*out = 0;
}

/* What remembering by shape stands on: texts of one shape have one answer, whatever the values are. */
static void test_values_do_not_matter(void **state)
{
	struct catalog *c = make_catalog("function reads", "f_stable");
	size_t changed = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct understandings u = UNDERSTANDINGS_INIT;
		char other[4096];

		assert_true(strlen(texts[i]) < sizeof(other));
		change_values(texts[i], other);
		changed += strcmp(texts[i], other) != 0;
		check(&u, texts[i], true, c, 1);
		check(&u, other, true, c, 1);
		check(&u, other, false, c, 1);
		understandings_free(&u);
	}
	assert_true(changed > 100);
	catalog_free(c);
}

static void test_shapes_are_used(void **state)
{
	struct understandings u = UNDERSTANDINGS_INIT;
	char text[100];

	(void)state;
	/* A wrong catalog under the number of the right one shows that nothing was read again. */
	struct catalog *reads = make_catalog("function reads", "f"), *writes = make_catalog("function writes", "f");

	for (int i = 0; i < 10; i++) {
		snprintf(text, sizeof(text), "SELECT f(x) FROM t WHERE a = %d AND b = 'v%d'", i, i);
		assert_int_equal(understand(&u, i ? writes : reads, 1, slice_str(text), true)->access.level,
				 ACCESS_READS);
		assert_int_equal(understand(&u, writes, 2, slice_str(text), true)->access.level, ACCESS_DOUBTFUL);
	}
	understandings_free(&u);
	catalog_free(reads);
	catalog_free(writes);
}

/* Where a value counts, or the text is more than one statement, the shape does not. */
static void test_where_values_count(void **state)
{
	static const struct {
		const char *one, *other;
	} pairs[] = {
		{"SET default_transaction_read_only = 'on'", "SET default_transaction_read_only = 'off'"},
		{"SET default_transaction_read_only = 1", "SET default_transaction_read_only = 0"},
		{"BEGIN; SET transaction_read_only = 'on'", "BEGIN; SET transaction_read_only = 'off'"},
		{"SELECT 1; SET transaction_read_only = '1'", "SELECT 1; SET transaction_read_only = '0'"},
		{"SET transaction_isolation = 'serializable'", "SET transaction_isolation = 'read committed'"},
	};
	struct understandings u = UNDERSTANDINGS_INIT;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
		struct access a = understand(&u, NULL, 0, slice_str(pairs[i].one), true)->access;
		struct access b = understand(&u, NULL, 0, slice_str(pairs[i].other), true)->access;

		assert_true(memcmp(&a, &b, sizeof(a)) != 0);
		check(&u, pairs[i].one, true, NULL, 0);
	}
	understandings_free(&u);
}

/* 'a\' is a string or half of one. */
static void test_backslashes(void **state)
{
	static const char text[] = "SELECT 'a\\', pg_advisory_lock(1), '\\'";
	struct understandings u = UNDERSTANDINGS_INIT;

	(void)state;
	for (int round = 0; round < 2; round++) {
		check(&u, text, true, NULL, 0);
		check(&u, text, false, NULL, 0);
	}
	assert_int_equal(understand(&u, NULL, 0, slice_str(text), true)->access.ties, TIE_LOCK);
	assert_int_equal(understand(&u, NULL, 0, slice_str(text), false)->access.ties, 0);
	understandings_free(&u);
}

static void test_hints_are_kept(void **state)
{
	static const char hinted[] = "/* helios: node='it''s', lag=5s, nonsense=1 */ SELECT 1";
	struct understandings u = UNDERSTANDINGS_INIT;

	(void)state;
	for (int round = 0; round < 2; round++) {
		char *text = strdup(hinted); /* the second time another one: what is kept points into neither */
		const struct hints *h;

		assert_non_null(text);
		h = understand(&u, NULL, 0, slice_str(text), true)->hints;
		free(text);
		assert_non_null(h);
		assert_true(slice_equal(h->node, SLICE_LITERAL("it''s")));
		assert_int_equal(h->lag, 5000);
		assert_int_equal(h->problem_count, 1);
		assert_true(slice_equal(h->problems[0].key, SLICE_LITERAL("nonsense")));
		assert_int_equal(h->comment_count, 1);
		assert_int_equal(h->comments[0].end, strlen("/* helios: node='it''s', lag=5s, nonsense=1 */"));
	}
	assert_null(understand(&u, NULL, 0, SLICE_LITERAL("/* nothing */ SELECT 1"), true)->hints);
	assert_null(understand(&u, NULL, 0, SLICE_LITERAL("SELECT 1 /* helios: route=primary */"), true)->hints);
	understandings_free(&u);
}

/* The hints of a long text are those of its beginning, cut at the same place. */
static void test_long_hints(void **state)
{
	struct understandings u = UNDERSTANDINGS_INIT;
	size_t len = 3 * HINT_BYTES_MAX;
	char *text = malloc(len);
	const struct hints *h;

	(void)state;
	assert_non_null(text);
	memset(text, ' ', len);
	memcpy(text, "/* helios: route=any */ /*", strlen("/* helios: route=any */ /*"));
	memcpy(text + len - 11, "*/ SELECT 1", 11);
	h = understand(&u, NULL, 0, slice_make(text, len), true)->hints;
	assert_non_null(h);
	assert_int_equal(h->route, HINT_ROUTE_ANY);
	assert_int_equal(understand(&u, NULL, 0, slice_make(text, len), true)->access.level, ACCESS_READS);
	understandings_free(&u);
	free(text);
}

/* More than fits; and texts that are not remembered at all. */
static void test_many_and_long(void **state)
{
	struct understandings u = UNDERSTANDINGS_INIT;
	size_t len = UNDERSTOOD_BYTES_MAX + 100;
	char *text = malloc(len);

	(void)state;
	assert_non_null(text);
	for (int round = 0; round < 2; round++)
		for (int i = 0; i < 20000; i++) {
			int n = snprintf(text, len, "/*+ node=n%d */ SELECT c%d FROM t; %s", i, i,
					 i % 3 ? "" : "BEGIN");
			const struct understanding *got = understand(&u, NULL, 0, slice_make(text, (size_t)n), true);
			char node[20];

			assert_int_equal(got->access.after, i % 3 ? AFTER_SAME : AFTER_OPEN);
			snprintf(node, sizeof(node), "n%d", i);
			assert_true(slice_equal(got->hints->node, slice_str(node)));
		}
	memset(text, ' ', len);
	memcpy(text, "/*+ node=x */SELECT 1", 21);
	for (int round = 0; round < 2; round++) {
		const struct understanding *got = understand(&u, NULL, 0, slice_make(text, len), true);

		assert_int_equal(got->access.level, ACCESS_WRITES);
		assert_int_equal(got->access.reason, REASON_UNKNOWN);
		assert_false(got->changes_catalog);
		assert_true(slice_equal(got->hints->node, SLICE_LITERAL("x")));
	}
	memcpy(text + len - 20, ";\nCreate view v a...", 20);
	assert_true(understand(&u, NULL, 0, slice_make(text, len), true)->changes_catalog);
	understandings_free(&u);
	free(text);
}

static void test_what_changes_a_catalog(void **state)
{
	static const struct {
		bool changes;
		const char *text;
	} cases[] = {
		{true, "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'"},
		{true, "create or replace view v as select 1"},
		{true, "ALTER FUNCTION f() VOLATILE"},
		{true, "CREATE POLICY p ON t USING (f())"},
		{true, "CREATE SEQUENCE s"},
		{true, "CREATE TABLE t (a serial)"},
		{true, "CREATE UNLOGGED TABLE t (a int)"},
		{true, "ALTER TABLE t SET UNLOGGED"},
		{true, "ALTER TABLE t ENABLE ROW LEVEL SECURITY"},
		{true, "CREATE OPERATOR ### (FUNCTION = f, RIGHTARG = int)"},
		{true, "CREATE CAST (a AS b) WITH FUNCTION f(a)"},
		{true, "CREATE DOMAIN d AS int CHECK (f(VALUE))"},
		{true, "CREATE EXTENSION dblink"},
		{true, "IMPORT FOREIGN SCHEMA s FROM SERVER r INTO public"},
		{true, "BEGIN; CREATE VIEW v AS SELECT 1; COMMIT"},
		{true, "INSERT INTO t VALUES (1); ALTER VIEW v RENAME TO w"},
		{true, "DO $$ BEGIN EXECUTE 'CREATE VIEW v AS SELECT 1'; END $$"},
		{true, "DO 'BEGIN ALTER TABLE t SET UNLOGGED; END'"},
		{true, "do'begin create table t(); end'"},
		{true, "CREATE/* index */VIEW v AS SELECT 1"},
		{true, "/* x */ CREATE VIEW v AS SELECT 1"},
		{false, "DO $$ BEGIN PERFORM f(); UPDATE t SET created = now(); END $$"},
		{false, "DROP FUNCTION f()"},
		{false, "DROP VIEW v"},
		{false, "CREATE INDEX ON t (a)"},
		{false, "CREATE UNIQUE INDEX i ON t (a)"},
		{false, "CREATE TEMP TABLE t (a int)"},
		{false, "CREATE ROLE r"},
		{false, "ALTER USER u PASSWORD 'x'"},
		{false, "CREATE TRIGGER g BEFORE INSERT ON t EXECUTE FUNCTION f()"},
		{false, "ALTER SYSTEM SET work_mem = '1MB'"},
		{false, "GRANT SELECT ON t TO u"},
		{false, "COMMENT ON TABLE t IS 'create view'"},
		{false, "TRUNCATE t"},
		{false, "SELECT 'CREATE VIEW v AS SELECT 1'"},
		{false, "SELECT 1"},
		{false, "INSERT INTO t VALUES ('create table')"},
		{false, "CALL p('create table')"},
		{false, "SELECT 'unterminated"},
		{false, ""},
		{false, "CREATE"},
		{false, "DO"},
	};
	struct understandings u = UNDERSTANDINGS_INIT;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		if (understand(&u, NULL, 0, slice_str(cases[i].text), true)->changes_catalog != cases[i].changes)
			fail_msg("%s: not %d", cases[i].text, cases[i].changes);
	understandings_free(&u);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_remembered_is_what_is_found),
		cmocka_unit_test(test_values_do_not_matter),
		cmocka_unit_test(test_shapes_are_used),
		cmocka_unit_test(test_where_values_count),
		cmocka_unit_test(test_backslashes),
		cmocka_unit_test(test_hints_are_kept),
		cmocka_unit_test(test_long_hints),
		cmocka_unit_test(test_many_and_long),
		cmocka_unit_test(test_what_changes_a_catalog),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
