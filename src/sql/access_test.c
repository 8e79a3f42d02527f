/* Where statements may run: access_cases.def has them, the tables here what they say of transactions and of ties. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "sql/access.h"
#include "sql/lexer.h"

/* What test_routing.py makes on a real server, and catalog_query says of it. */
static const struct {
	const char *kind, *name;
} facts[] = {
	{"function reads", "f_stable"},     {"function reads", "agg_reads"}, {"function writes", "f_volatile"},
	{"function writes", "f_text"},      {"function writes", "f_both"},   {"function writes", "f_row"},
	{"function writes", "initcap"},     {"function writes", "over"},     {"function writes", "agg_writes"},
	{"name writes", "v_writes"},        {"name writes", "v_deep"},       {"name writes", "v_volatile"},
	{"name writes", "v_lock"},          {"name writes", "v_operator"},   {"name writes", "v_aggregate"},
	{"name writes", "v_xid"},           {"name writes", "v_schema"},     {"name writes", "v_schemas"},
	{"name writes", "with_policy"},     {"name writes", "unlogged"},     {"name writes", "v_unlogged"},
	{"name writes", "parted_unlogged"}, {"name writes", "s1"},           {"name writes", "dom_writes"},
	{"name writes", "cast_writes"},     {"name writes", "with_cast"},    {"operator writes", "###"},
};

static struct catalog *make_catalog(void)
{
	struct catalog *c = catalog_new();

	assert_non_null(c);
	for (size_t i = 0; i < ARRAY_SIZE(facts); i++)
		assert_int_equal(catalog_add(c, slice_str(facts[i].kind), slice_str(facts[i].name)), 0);
	return c;
}

/* Of a copy of just this size, so that the sanitizer sees a byte read too many. */
static struct access find(const char *text, size_t len, bool conforming, const struct catalog *catalog)
{
	struct access a;
	struct scan scan;
	char *copy = malloc(len);

	assert_true(copy || len == 0);
	if (len > 0)
		memcpy(copy, text, len);
	assert_int_equal(scan_text(copy, len, 0, conforming, &scan), 0);
	access_find(copy, &scan, conforming, catalog, &a);
	scan_free(&scan);
	free(copy);
	return a;
}

static struct access find_str(const char *text, const struct catalog *catalog)
{
	return find(text, strlen(text), /* conforming= */ true, catalog);
}

static const struct access_case {
	enum access_level level;
	enum access_reason reason;
	const char *text;
} cases[] = {
#define CASE(level, reason, text) {ACCESS_##level, REASON_##reason, text},
#include "sql/access_cases.def"
#undef CASE
};

static void test_cases(void **state)
{
	struct catalog *c = make_catalog();
	size_t wrong = 0;

	(void)state;
	assert_true(ARRAY_SIZE(cases) >= 300);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct access a = find_str(cases[i].text, c);

		if (a.level == cases[i].level && a.reason == cases[i].reason)
			continue;
		wrong++;
		fprintf(stderr, "%s: %s %s, not %s %s\n", cases[i].text, access_level_name(a.level),
			access_reason_word(a.reason), access_level_name(cases[i].level),
			access_reason_word(cases[i].reason));
	}
	catalog_free(c);
	assert_int_equal(wrong, 0);
}

/* White space, comments and case mean nothing. */
static void test_spacing_does_not_matter(void **state)
{
	struct catalog *c = make_catalog();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct access_case *k = &cases[i];
		char text[1024];
		size_t len = 0;

		if (strpbrk(k->text, "'\"$-/#@!~?\\") || k->level == ACCESS_FOLLOWS)
			continue;
		for (const char *at = k->text; *at; at++) {
			bool letter = (*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z');

			if (*at == '(' || *at == ' ')
				len += (size_t)snprintf(text + len, sizeof(text) - len, "/*(*/\n");
			text[len++] = (char)(letter && (at - k->text) % 3 ? *at ^ 0x20 : *at);
		}
		if (find(text, len, true, c).level != k->level)
			fail_msg("%.*s", (int)len, text);
	}
	catalog_free(c);
}

/* Whatever stands beside it, a statement keeps its level: the higher one counts. */
static void test_of_several_the_highest_counts(void **state)
{
	struct catalog *c = make_catalog();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char text[1024];

		if (cases[i].reason == REASON_UNKNOWN)
			continue; /* no end */
		snprintf(text, sizeof(text), "SELECT 1; %s\n; SELECT 2", cases[i].text);
		assert_int_equal(find_str(text, c).level, MAX(cases[i].level, ACCESS_READS));
	}
	catalog_free(c);
}

/* What is a read for the whole database's catalog is none when a text is cut, or less is known. */
static void test_without_a_catalog_less_is_read(void **state)
{
	struct catalog *c = make_catalog();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		enum access_level with = find_str(cases[i].text, c).level,
				  without = find_str(cases[i].text, NULL).level;

		if (cases[i].reason < REASON_FUNCTION_WRITES || cases[i].reason > REASON_OPERATOR_WRITES)
			assert_true(without >= with);
	}
	assert_int_equal(catalog_add(c, SLICE_LITERAL("database writes"), SLICE_LITERAL("")), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_true(find_str(cases[i].text, c).level != ACCESS_READS);
	catalog_free(c);
}

static const struct mode_case {
	const char *text;
	enum access_after after;
	enum access_said read_only, serializable, session_read_only, session_serializable;
} mode_cases[] = {
	{"SELECT 1", AFTER_SAME, 0, 0, 0, 0},
	{"BEGIN", AFTER_OPEN, 0, 0, 0, 0},
	{"BEGIN READ ONLY", AFTER_OPEN, SAID_YES, 0, 0, 0},
	{"begin work read write", AFTER_OPEN, SAID_NO, 0, 0, 0},
	{"START TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY", AFTER_OPEN, SAID_YES, SAID_NO, 0, 0},
	{"BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE", AFTER_OPEN, SAID_NO, SAID_NO, 0, 0},
	{"BEGIN ISOLATION LEVEL READ UNCOMMITTED READ ONLY", AFTER_OPEN, SAID_YES, SAID_NO, 0, 0},
	{"BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY, NOT DEFERRABLE", AFTER_OPEN, SAID_YES, SAID_YES, 0, 0},
	{"BEGIN READ ONLY, READ WRITE", AFTER_OPEN, SAID_NO, 0, 0, 0},
	{"BEGIN READ ONLY; COMMIT", AFTER_CLOSED, 0, 0, 0, 0},
	{"BEGIN READ ONLY; COMMIT; BEGIN", AFTER_OPEN, 0, 0, 0, 0},
	{"BEGIN; SET TRANSACTION READ ONLY", AFTER_OPEN, SAID_YES, 0, 0, 0},
	{"COMMIT", AFTER_CLOSED, 0, 0, 0, 0},
	{"ROLLBACK AND CHAIN", AFTER_OPEN, 0, 0, 0, 0},
	{"END AND NO CHAIN", AFTER_CLOSED, 0, 0, 0, 0},
	{"ROLLBACK TO x", AFTER_SAME, 0, 0, 0, 0},
	{"COMMIT PREPARED 'x'", AFTER_SAME, 0, 0, 0, 0},
	{"PREPARE TRANSACTION 'x'", AFTER_CLOSED, 0, 0, 0, 0},
	{"SET TRANSACTION READ ONLY", AFTER_SAME, SAID_YES, 0, 0, 0},
	{"SET LOCAL TRANSACTION ISOLATION LEVEL SERIALIZABLE", AFTER_SAME, 0, SAID_YES, 0, 0},
	{"SET CONSTRAINTS ALL IMMEDIATE", AFTER_SAME, 0, 0, 0, 0},
	{"SET transaction_read_only TO 'on'", AFTER_SAME, SAID_YES, 0, 0, 0},
	{"SET LOCAL transaction_read_only = f", AFTER_SAME, SAID_NO, 0, 0, 0},
	{"SET transaction_read_only = DEFAULT", AFTER_SAME, SAID_NO, 0, 0, 0},
	{"SET transaction_isolation = 'repeatable read'", AFTER_SAME, 0, SAID_NO, 0, 0},
	{"SET transaction_isolation = DEFAULT", AFTER_SAME, 0, SAID_YES, 0, 0},
	{"SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", AFTER_SAME, 0, 0, SAID_YES, 0},
	{"SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ WRITE", AFTER_SAME, 0, 0,
	 SAID_NO, SAID_YES},
	{"SET default_transaction_read_only = TRUE", AFTER_SAME, 0, 0, SAID_YES, 0},
	{"SET SESSION default_transaction_read_only TO 'y'", AFTER_SAME, 0, 0, SAID_YES, 0},
	{"SET default_transaction_read_only TO o", AFTER_SAME, 0, 0, SAID_NO, 0},
	{"SET \"default_transaction_read_only\" TO 1", AFTER_SAME, 0, 0, SAID_YES, 0},
	{"SET default_transaction_read_only TO E'on'", AFTER_SAME, 0, 0, SAID_NO, 0},
	{"SET default_transaction_read_only TO DEFAULT", AFTER_SAME, 0, 0, SAID_DEFAULT, 0},
	{"SET LOCAL default_transaction_read_only TO on", AFTER_SAME, 0, 0, 0, 0},
	{"RESET default_transaction_read_only", AFTER_SAME, 0, 0, SAID_DEFAULT, 0},
	{"SET default_transaction_isolation TO 'serializable'", AFTER_SAME, 0, 0, 0, SAID_YES},
	{"SET default_transaction_isolation TO 'Read Committed'", AFTER_SAME, 0, 0, 0, SAID_NO},
	{"RESET default_transaction_isolation", AFTER_SAME, 0, 0, 0, SAID_DEFAULT},
	{"RESET ALL", AFTER_SAME, 0, 0, SAID_DEFAULT, SAID_DEFAULT},
	{"DISCARD ALL", AFTER_SAME, 0, 0, SAID_DEFAULT, SAID_DEFAULT},
	{"DISCARD PLANS", AFTER_SAME, 0, 0, 0, 0},
	{"RESET work_mem", AFTER_SAME, 0, 0, 0, 0},
};

static void test_modes(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(mode_cases); i++) {
		const struct mode_case *m = &mode_cases[i];
		struct access a = find_str(m->text, NULL);

		if (a.after != m->after || a.read_only != m->read_only || a.serializable != m->serializable ||
		    a.session_read_only != m->session_read_only || a.session_serializable != m->session_serializable)
			fail_msg("%s: %d %d %d %d %d", m->text, a.after, a.read_only, a.serializable,
				 a.session_read_only, a.session_serializable);
	}
}

static void test_ties(void **state)
{
	static const struct {
		const char *text;
		uint32_t ties;
	} ties[] = {
		{"SELECT 1", 0},
		{"CREATE TEMP TABLE x (a int)", TIE_TEMP},
		{"SELECT 1 AS a INTO TEMP x", TIE_TEMP},
		{"LISTEN a; SELECT 1", TIE_LISTEN},
		{"DECLARE c CURSOR WITH HOLD FOR SELECT 1", TIE_CURSOR},
		{"DECLARE c CURSOR FOR SELECT 1", 0},
		{"SELECT pg_advisory_lock(1)", TIE_LOCK},
		{"EXPLAIN ANALYZE SELECT pg_advisory_lock(1)", TIE_LOCK},
		{"INSERT INTO t (a) SELECT 1 FROM (SELECT pg_try_advisory_lock(1)) x", TIE_LOCK},
		{"SELECT pg_advisory_xact_lock(1)", 0},
		{"PREPARE p AS SELECT 1", TIE_PREPARED},
		{"PREPARE TRANSACTION 'p'", 0},
		{"LOAD 'x'", TIE_LOAD},
		{"LISTEN a; CREATE TEMP TABLE x (a int)", TIE_LISTEN | TIE_TEMP},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(ties); i++) {
		struct access a = find_str(ties[i].text, NULL);

		if (a.ties != ties[i].ties || (a.ties && a.level != ACCESS_WRITES))
			fail_msg("%s: %x %s", ties[i].text, a.ties, access_level_name(a.level));
	}
}

/* With backslashes in strings, what looks like a string's end is none. */
static void test_backslashes(void **state)
{
	const char *text = "SELECT '\\', f(1) --'";
	const char *other = "SELECT '\\'', f(1), '\\''";

	(void)state;
	assert_int_equal(find(text, strlen(text), true, NULL).level, ACCESS_DOUBTFUL);
	assert_int_equal(find(text, strlen(text), false, NULL).level, ACCESS_READS);
	assert_int_equal(find(other, strlen(other), true, NULL).level, ACCESS_READS);
	assert_int_equal(find(other, strlen(other), false, NULL).level, ACCESS_DOUBTFUL);
}

static void test_depth(void **state)
{
	char text[512] = "SELECT ";
	size_t len = strlen(text);

	(void)state;
	memset(text + len, '(', 62);
	text[len + 62] = '1';
	memset(text + len + 63, ')', 62);
	assert_int_equal(find(text, len + 125, true, NULL).level, ACCESS_READS);
	memset(text + len, '(', 200);
	text[len + 200] = '1';
	memset(text + len + 201, ')', 200);
	assert_int_equal(find(text, len + 401, true, NULL).reason, REASON_NESTING);
}

/* Encodings and case of other bytes than ASCII can't be known here: if such a name writes, all of them may. */
static void test_names_beyond_ascii(void **state)
{
	struct catalog *c = make_catalog();

	(void)state;
	assert_int_equal(find_str("SELECT * FROM \303\244", c).level, ACCESS_READS);
	assert_int_equal(catalog_add(c, SLICE_LITERAL("name writes"), SLICE_LITERAL("\303\266")), 0);
	assert_int_equal(find_str("SELECT * FROM \303\266", c).reason, REASON_NAME_WRITES);
	assert_int_equal(find_str("SELECT * FROM \"\366\"", c).reason, REASON_NAME_WRITES);
	assert_int_equal(find_str("SELECT * FROM t", c).level, ACCESS_READS);
	catalog_free(c);
}

static void test_catalog(void **state)
{
	struct catalog *c = catalog_new();

	(void)state;
	assert_non_null(c);
	assert_int_equal(catalog_function(c, SLICE_LITERAL("f")), CATALOG_UNKNOWN);
	assert_int_equal(catalog_add(c, SLICE_LITERAL("function writes"), SLICE_LITERAL("f")), 0);
	assert_int_equal(catalog_add(c, SLICE_LITERAL("function reads"), SLICE_LITERAL("f")), 0);
	assert_int_equal(catalog_function(c, SLICE_LITERAL("f")), CATALOG_WRITES);
	assert_false(catalog_name_writes(c, SLICE_LITERAL("f")));
	assert_int_equal(catalog_add(c, SLICE_LITERAL("function"), SLICE_LITERAL("g")), -EINVAL);
	assert_int_equal(catalog_add(c, SLICE_LITERAL("operator writes"), SLICE_LITERAL("")), -EINVAL);
	catalog_free(c);
	catalog_free(NULL);
}

/* bsearch() needs it, and no name may be in two tables that contradict each other. */
static void test_tables_are_in_order(void **state)
{
	static const char *const reads[] = {
#define FUNCTION(name) name,
#define HARMLESS(name) name,
#define WORD(name)     name,
#include "sql/read_functions.def"
#undef FUNCTION
#undef HARMLESS
#undef WORD
	};
	static const char *const nodes[] = {
#define FUNCTION(name) name,
#define RELATION(name) name,
#include "sql/node_names.def"
#undef FUNCTION
#undef RELATION
	};

	(void)state;
	for (size_t i = 1; i < ARRAY_SIZE(reads); i++)
		assert_true(strcmp(reads[i - 1], reads[i]) < 0);
	for (size_t i = 1; i < ARRAY_SIZE(nodes); i++)
		assert_true(strcmp(nodes[i - 1], nodes[i]) < 0);
	for (size_t i = 0; i < ARRAY_SIZE(reads); i++)
		for (size_t k = 0; k < ARRAY_SIZE(nodes); k++)
			assert_string_not_equal(reads[i], nodes[k]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),
		cmocka_unit_test(test_spacing_does_not_matter),
		cmocka_unit_test(test_of_several_the_highest_counts),
		cmocka_unit_test(test_without_a_catalog_less_is_read),
		cmocka_unit_test(test_modes),
		cmocka_unit_test(test_ties),
		cmocka_unit_test(test_backslashes),
		cmocka_unit_test(test_depth),
		cmocka_unit_test(test_names_beyond_ascii),
		cmocka_unit_test(test_catalog),
		cmocka_unit_test(test_tables_are_in_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
