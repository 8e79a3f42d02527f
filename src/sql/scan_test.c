/*
 * The scanner: scan_cases.def has single statements, the tables here what is about many of them, cuts and names.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "sql/lexer.h"
#include "sql/scan.h"

/* Short names for scan_cases.def. */
enum {
	SESSION_ADVISORY_LOCK = SCAN_SESSION_ADVISORY_LOCK,
	ADVISORY_UNLOCK = SCAN_ADVISORY_UNLOCK,
	SET_CONFIG = SCAN_SET_CONFIG,
	FOR_UPDATE = SCAN_FOR_UPDATE,
	WRITING_CTE = SCAN_WRITING_CTE,
	NEXTVAL = SCAN_NEXTVAL,
	ROLE_OR_AUTH = SCAN_ROLE_OR_AUTH,
	CHAIN = SCAN_CHAIN,
	PG_TEMP = SCAN_PG_TEMP,
	CLOCK_LITERAL = SCAN_CLOCK_LITERAL,
};

static const struct statement_case {
	struct slice text;
	enum statement_class class;
	enum statement_verb verb;
	struct slice name, value;
	uint32_t marks;
} statement_cases[] = {
#define SLICE(s) \
	{ \
		(const uint8_t *)(s), sizeof(s) - 1 \
	}
#define CASE(text, class, verb, name, value, marks) \
	{SLICE(text), STATEMENT_##class, VERB_##verb, SLICE(name), SLICE(value), marks},
#include "sql/scan_cases.def"
#undef CASE
};

/* Scans a copy of just this size, so that the sanitizer sees a byte read too many. Free with scan_done(). */
static char *scan_copy(const void *text, size_t len, size_t max, bool conforming, struct scan *ret)
{
	char *copy = malloc(len);

	assert_true(copy || len == 0);
	if (len > 0)
		memcpy(copy, text, len);
	assert_int_equal(scan_text(copy, len, max, conforming, ret), 0);
	return copy;
}

static void scan_done(struct scan *s, char *copy)
{
	scan_free(s);
	free(copy);
}

static void check_statement(const struct statement_case *c)
{
	struct scan s;
	char *copy = scan_copy(c->text.bytes, c->text.len, 0, true, &s);
	const struct statement *got = &s.statements[0];

	if (s.count > 1 || got->class != c->class || got->verb != c->verb || got->marks != c->marks ||
	    !slice_equal(got->name, c->name) || !slice_equal(got->value, c->value))
		fail_msg("%.*s: count %u class %s verb %d marks 0x%x name %.*s value %.*s", (int)c->text.len,
			 (const char *)c->text.bytes, s.count, statement_class_name(got->class), (int)got->verb,
			 got->marks, (int)got->name.len, (const char *)got->name.bytes, (int)got->value.len,
			 (const char *)got->value.bytes);
	assert_int_equal(s.marks, c->marks);
	scan_done(&s, copy);
}

static void test_statements(void **state)
{
	assert_true(ARRAY_SIZE(statement_cases) >= 250);
	for (size_t i = 0; i < ARRAY_SIZE(statement_cases); i++)
		check_statement(&statement_cases[i]);
}

/* In any mix of cases, a statement without literals is the same. */
static void test_case_does_not_matter(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(statement_cases); i++) {
		const struct statement_case *c = &statement_cases[i];
		struct scan s;
		char *copy, text[512];

		assert_true(c->text.len < sizeof(text));
		if (c->text.len == 0 || memchr(c->text.bytes, '"', c->text.len) ||
		    memchr(c->text.bytes, '$', c->text.len) || memchr(c->text.bytes, '\'', c->text.len))
			continue;
		for (size_t at = 0; at < c->text.len; at++) {
			uint8_t b = c->text.bytes[at], letter = b | 0x20;

			text[at] = (char)(letter >= 'a' && letter <= 'z' && b < 0x80 && at % 3 ? b ^ 0x20 : b);
		}
		copy = scan_copy(text, c->text.len, 0, true, &s);
		assert_int_equal(s.statements[0].class, c->class);
		assert_int_equal(s.statements[0].verb, c->verb);
		assert_int_equal(s.statements[0].marks, c->marks);
		scan_done(&s, copy);
	}
}

/* Texts, and their statements with a bar between two. */
static const struct split_case {
	const char *text, *statements;
	bool conforming, truncated;
} split_cases[] = {
	{"", "", true},
	{";", "", true},
	{" ; ;; ", "", true},
	{"a", "a", true},
	{" a ; b ", "a|b", true},
	{"a;b;", "a|b", true},
	{";;a;;b;;", "a|b", true},
	{"a;;;b", "a|b", true},
	{"a--;\n;b", "a|b", true},
	{"a--;\r;b", "a|b", true},
	{"a -- x", "a", true},
	{"a; -- x", "a", true},
	{"a; /* ; */ ; b /* ; /* ; */ ; */ c", "a|b /* ; /* ; */ ; */ c", true},
	{"a /*/ ; */ b; c", "a /*/ ; */ b|c", true},
	{"a /**/ ; b", "a|b", true},
	{"a /***/; b", "a|b", true},
	{"a /* **/; b", "a|b", true},
	{"a /* /; */; b", "a|b", true},
	{"a /* *; */; b", "a|b", true},
	{"a /*;/*;*/;*/; b", "a|b", true},
	{"a +/* ; */ b; c", "a +/* ; */ b|c", true},
	{"a <--;\n b; c", "a <--;\n b|c", true},
	{"a */ b; c", "a */ b|c", true},
	{"a - -1; b", "a - -1|b", true},
	{"a *-/* ; */ b; c", "a *-/* ; */ b|c", true},
	{"a @*/* ; */1; b", "a @*/* ; */1|b", true},
	/* strings */
	{"'a;b'; c", "'a;b'|c", true},
	{"'a'';b'; c", "'a'';b'|c", true},
	{"''';'; c", "''';'|c", true},
	{"''; c", "''|c", true},
	{"'\\'; c'", "'\\'|c'", true, true},
	{"'\\'; c'", "'\\'; c'", false},
	{"'\\\\'; c", "'\\\\'|c", false},
	{"'a\\''; c", "'a\\''; c", true, true},
	{"'a\\''; c", "'a\\''|c", false},
	{"E'\\'; c'", "E'\\'; c'", true},
	{"E'\\'; c'; d", "E'\\'; c'|d", true},
	{"e'\\\\'; c", "e'\\\\'|c", true},
	{"e''';'; c", "e''';'|c", true},
	{"E '\\'; c", "E '\\'|c", true},
	{"xE'\\'; c", "xE'\\'|c", true},
	{"1E'\\';c'", "1E'\\';c'", true},
	{"$1E'\\';c'", "$1E'\\';c'", true},
	{"N'\\'; c", "N'\\'|c", true},
	{"N'\\';'; c", "N'\\';'|c", false},
	{"B'1;'; X'F;'; b'\\'; x'\\'", "B'1;'|X'F;'|b'\\'|x'\\'", true},
	{"B'1''\\';'; c", "B'1''\\'|'; c", true, true},
	{"B'1''\\';'; c", "B'1''\\';'|c", false},
	{"U&'a;'; U&\"b;\"; u&';'", "U&'a;'|U&\"b;\"|u&';'", true},
	{"U&'\\'; c", "U&'\\'|c", true},
	{"U &';'; c", "U &';'|c", true},
	{"U&a; U& ';'", "U&a|U& ';'", true},
	{"\"a;\"\"b;\"; c", "\"a;\"\"b;\"|c", true},
	{"\"'\"; c", "\"'\"|c", true},
	{"'\"'; c", "'\"'|c", true},
	{"'a'\n'b;'; c", "'a'\n'b;'|c", true},
	{"E'a'\n'\\';b'; c", "E'a'\n'\\';b'|c", true},
	{"E'a' '\\'; c", "E'a' '\\'|c", true},
	{"E'a' -- '\n -- '\n\t'\\';b'; c", "E'a' -- '\n -- '\n\t'\\';b'|c", true},
	{"E'a' /* x */\n'\\'; c", "E'a' /* x */\n'\\'|c", true},
	{"E'a'\r'\\';b'; c", "E'a'\r'\\';b'|c", true},
	{"'a'\n;'b'", "'a'|'b'", true},
	{"'a'\n--;\n", "'a'", true},
	/* dollar quotes */
	{"$$;$$; b", "$$;$$|b", true},
	{"$$$$; b", "$$$$|b", true},
	{"$a$;$$;$b$;$a$; b", "$a$;$$;$b$;$a$|b", true},
	{"$a$;$A$;$a$; b", "$a$;$A$;$a$|b", true},
	{"$a$;$a;$a$; b", "$a$;$a;$a$|b", true},
	{"$_1\303\251$;$_1\303\251$; b", "$_1\303\251$;$_1\303\251$|b", true},
	{"$a$ $b$a$; b", "$a$ $b$a$|b", true},
	{"$$'$$; b", "$$'$$|b", true},
	{"$$ -- $$; b", "$$ -- $$|b", true},
	{"'$$'; b $$';'$$", "'$$'|b $$';'$$", true},
	{"$1; $2", "$1|$2", true},
	{"$1$$;$$; b", "$1$$;$$|b", true},
	{"$1a$$;$$; b", "$1a$$|$$; b", true, true},
	{"$a; b", "$a|b", true},
	{"$; b", "$|b", true},
	{"a$$; b$$", "a$$|b$$", true},
	{"a$b$; c$b$", "a$b$|c$b$", true},
	{"\303\251$x$; b", "\303\251$x$|b", true},
	{"1$$;$$; b", "1$$;$$|b", true},
	{"1_0$$;2", "1_0$$|2", true},
	{"+$$;$$; b", "+$$;$$|b", true},
	/* parentheses */
	{"CREATE RULE r AS ON INSERT TO t DO (a; b); c", "CREATE RULE r AS ON INSERT TO t DO (a; b)|c", true},
	{"(a;(b;c);d);e", "(a;(b;c);d)|e", true},
	{"a); b", "a)|b", true},
	{"(a; b", "(a; b", true},
	{"'('; b", "'('|b", true},
	{"\"(\"; b", "\"(\"|b", true},
	{"/*(*/a; b", "a|b", true},
	/* bodies */
	{"BEGIN; a; END; b", "BEGIN|a|END|b", true},
	{"begin atomic; a; end", "begin atomic|a|end", true},
	{"SELECT begin atomic; a", "SELECT begin atomic|a", true},
	{"CREATE FUNCTION f() BEGIN ATOMIC a; b; END; c", "CREATE FUNCTION f() BEGIN ATOMIC a; b; END|c", true},
	{"create or replace procedure f() begin atomic end; c", "create or replace procedure f() begin atomic end|c",
	 true},
	{"CREATE FUNCTION f() BEGIN ATOMIC a CASE b END; c; END; d",
	 "CREATE FUNCTION f() BEGIN ATOMIC a CASE b END; c; END|d", true},
	{"CREATE FUNCTION f() BEGIN ATOMIC SELECT CASE WHEN a THEN CASE b WHEN c THEN d END END; END; e",
	 "CREATE FUNCTION f() BEGIN ATOMIC SELECT CASE WHEN a THEN CASE b WHEN c THEN d END END; END|e", true},
	{"CREATE FUNCTION f() BEGIN ATOMIC SELECT 1 end; SELECT 1 case; END; e",
	 "CREATE FUNCTION f() BEGIN ATOMIC SELECT 1 end; SELECT 1 case; END|e", true},
	{"CREATE FUNCTION f() BEGIN ATOMIC SELECT atomic end; END; e",
	 "CREATE FUNCTION f() BEGIN ATOMIC SELECT atomic end; END|e", true},
	{"CREATE FUNCTION f() BEGIN ATOMIC SELECT * FROM begin atomic; END; e",
	 "CREATE FUNCTION f() BEGIN ATOMIC SELECT * FROM begin atomic; END|e", true},
	{"CREATE FUNCTION f() BEGIN ATOMIC CREATE PROCEDURE g() BEGIN ATOMIC a; END; b; END; c",
	 "CREATE FUNCTION f() BEGIN ATOMIC CREATE PROCEDURE g() BEGIN ATOMIC a; END; b; END|c", true},
	{"CREATE FUNCTION f(begin atomic) RETURN 1; c", "CREATE FUNCTION f(begin atomic) RETURN 1|c", true},
	{"CREATE FUNCTION f() AS 'begin atomic'; c", "CREATE FUNCTION f() AS 'begin atomic'|c", true},
	{"CREATE FUNCTION f() \"begin\" ATOMIC a; END; c", "CREATE FUNCTION f() \"begin\" ATOMIC a|END|c", true},
	{"CREATE TABLE begin atomic a; END", "CREATE TABLE begin atomic a|END", true},
	{"CREATE VIEW function begin atomic; END", "CREATE VIEW function begin atomic|END", true},
	{"CREATE OR FUNCTION f() BEGIN ATOMIC a; END", "CREATE OR FUNCTION f() BEGIN ATOMIC a|END", true},
	/* into the end */
	{"a; 'b", "a|'b", true, true},
	{"a; \"b", "a|\"b", true, true},
	{"a; $$b;", "a|$$b;", true, true},
	{"a; /* b;", "a", true, true},
	{"a; b /* ; /* */", "a|b", true, true},
	{"a; E'\\'", "a|E'\\'", true, true},
	{"a; E'\\", "a|E'\\", true, true},
	{"a; U&\"b", "a|U&\"b", true, true},
	{"a; U&'", "a|U&'", true, true},
	{"'", "'", true, true},
	{"\"", "\"", true, true},
	{"$$", "$$", true, true},
	{"/*", "", true, true},
	{"/", "/", true},
	{"-", "-", true},
	{"--", "", true},
	{"$a", "$a", true},
	/* white space and bytes that make no sense */
	{"\ta\v;\fb\r", "a|b", true},
	{"a\240b; c", "a\240b|c", true},
	{"\xff\xfe; \xc3; \xc3'", "\xff\xfe|\xc3|\xc3'", true, true},
	{"\x01; \x7f", "\x01|\x7f", true},
};

static void test_splits(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(split_cases); i++) {
		const struct split_case *c = &split_cases[i];
		char joined[512] = "";
		size_t len = 0;
		struct scan s;
		char *copy = scan_copy(c->text, strlen(c->text), 0, c->conforming, &s);

		for (uint32_t n = 0; n < s.count; n++)
			len += (size_t)snprintf(joined + len, sizeof(joined) - len, "%s%.*s", n > 0 ? "|" : "",
						(int)(s.statements[n].end - s.statements[n].begin),
						c->text + s.statements[n].begin);
		if (strcmp(joined, c->statements) != 0 || s.truncated != c->truncated)
			fail_msg("%s: %s%s", c->text, joined, s.truncated ? " (truncated)" : "");
		scan_done(&s, copy);
	}
}

/* Every start of every text, so that the end comes at every place in every token. */
static void test_any_cut_is_fine(void **state)
{
	struct scan s;

	for (size_t i = 0; i < ARRAY_SIZE(statement_cases); i++)
		for (size_t len = 0; len <= statement_cases[i].text.len; len++)
			scan_done(&s, scan_copy(statement_cases[i].text.bytes, len, 0, len % 2, &s));
	for (size_t i = 0; i < ARRAY_SIZE(split_cases); i++)
		for (size_t len = 0; len <= strlen(split_cases[i].text); len++)
			scan_done(&s, scan_copy(split_cases[i].text, len, 0, split_cases[i].conforming, &s));
}

static void test_max_cuts(void **state)
{
	static const char text[] = "SELECT 1; SELECT 2; DELETE FROM t";
	struct scan s;

	assert_int_equal(scan_text(text, strlen(text), 18, true, &s), 0);
	assert_int_equal(s.count, 2);
	assert_true(s.truncated);
	assert_int_equal(s.statements[0].class, STATEMENT_READ);
	assert_int_equal(s.statements[1].class, STATEMENT_UNKNOWN); /* SELECT 2 may go on */
	scan_free(&s);

	assert_int_equal(scan_text(text, strlen(text), strlen(text), true, &s), 0);
	assert_int_equal(s.count, 3);
	assert_false(s.truncated);
	scan_free(&s);
}

static void test_many_statements(void **state)
{
	uint32_t count = SCAN_STATEMENTS_MAX + 10;
	char *text = malloc(count * 9 + 32);
	struct scan s;
	size_t len = 0;

	assert_non_null(text);
	for (uint32_t i = 0; i < count; i++)
		memcpy(text + (len += 9) - 9, "SELECT 1;", 9);
	memcpy(text + len, "SELECT nextval('s')", 19);
	assert_int_equal(scan_text(text, len + 19, 0, true, &s), 0);
	assert_int_equal(s.count, count + 1);
	assert_true(s.truncated);
	assert_int_equal(s.marks, SCAN_NEXTVAL); /* of all, listed or not */
	for (uint32_t i = 0; i < SCAN_STATEMENTS_MAX; i++) {
		assert_int_equal(s.statements[i].begin, i * 9);
		assert_int_equal(s.statements[i].end, i * 9 + 8);
	}
	scan_free(&s);
	free(text);
}

/* Nothing on a query's way calls malloc: one statement is where the scan is. */
static void test_one_is_not_allocated(void **state)
{
	struct scan s;

	assert_int_equal(scan_text(" SELECT 1; ", 11, 0, true, &s), 0);
	assert_ptr_equal(s.statements, &s.first);
	assert_int_equal(s.first.begin, 1);
	assert_int_equal(s.first.end, 9);
	scan_free(&s);
	scan_free(&s); /* twice is fine */
	assert_int_equal(scan_text(NULL, 0, 0, true, &s), 0);
	assert_int_equal(s.count, 0);
	assert_int_equal(s.statements->class, STATEMENT_EMPTY);
}

static void test_nul_is_a_byte_like_others(void **state)
{
	static const char text[] = "SELECT 1\0; DELETE FROM t\0";
	struct scan s;

	assert_int_equal(scan_text(text, sizeof(text) - 1, 0, true, &s), 0);
	assert_int_equal(s.count, 2);
	assert_int_equal(s.statements[0].end, 9);
	assert_int_equal(s.statements[1].class, STATEMENT_WRITE);
	scan_free(&s);
}

/* Depth is a number here, not a stack. */
static void test_deep_nesting(void **state)
{
	size_t len = 1000000;
	char *text = malloc(len);
	struct scan s;

	assert_non_null(text);
	memset(text, '(', len);
	assert_int_equal(scan_text(text, len, 0, true, &s), 0);
	assert_int_equal(s.count, 1);
	scan_free(&s);
	for (size_t i = 0; i < len; i += 2)
		memcpy(text + i, "/*", 2);
	assert_int_equal(scan_text(text, len, 0, true, &s), 0);
	assert_int_equal(s.count, 0);
	assert_true(s.truncated);
	scan_free(&s);
	free(text);
}

static const struct identifier_case {
	const char *written, *meant;
} identifier_cases[] = {
	{"", ""},
	{"abc", "abc"},
	{"ABC", "abc"},
	{"Select", "select"},
	{"A$1_", "a$1_"},
	{"\303\211t\303\211", "\303\211t\303\211"},
	{"\"ABC\"", "ABC"},
	{"\"a\"\"b\"", "a\"b"},
	{"\"a.b\"", "a.b"},
	{"A.B.\"C\"", "a.b.C"},
	{"a . /* c */ \"B\"", "a.B"},
	{"session characteristics", "session characteristics"},
	{"U&\"d\\0061t\\+000061\"", "data"},
	{"u&\"D\\0041\"\"\"", "DA\""},
	{"U&\"a\\\\b\"", "a\\b"},
	{"U&\"\\00e9\\20ac\\+01F600\\D83D\\DE00\"", "\303\251\342\202\254\360\237\230\200\360\237\230\200"},
	{"U&\"d!0061t!!\" UESCAPE '!'", "dat!"},
	{"U&\"d\\00\"", "d\\00"},
	{"U&\"\\0000\"", "\\0000"},
	{"U&\"\\+110000\"", "\\+110000"},
	{"U&a", "u & a"},
	{"\"a", "a"},
	{"\"", ""},
	{"U&\"", ""},
	{"'x'", "'x'"},
	{"A23456789012345678901234567890123456789012345678901234567890123456789",
	 "a23456789012345678901234567890123456789012345678901234567890123"},
	{"\"1234567890123456789012345678901234567890123456789012345678901\303\251\303\251\"",
	 "1234567890123456789012345678901234567890123456789012345678901\303\251"},
	{"\"12345678901234567890123456789012345678901234567890123456789012\303\251\"",
	 "12345678901234567890123456789012345678901234567890123456789012"},
	{"\"123456789012345678901234567890123456789012345678901234567890\360\237\230\200\"",
	 "123456789012345678901234567890123456789012345678901234567890"},
};

static void test_identifiers(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(identifier_cases); i++) {
		const struct identifier_case *c = &identifier_cases[i];
		size_t len = strlen(c->written), meant = strlen(c->meant);
		char *copy = malloc(len + 1), out[128];

		assert_non_null(copy);
		memcpy(copy, c->written, len);
		assert_int_equal(scan_identifier(slice_make(copy, len), out, sizeof(out)), meant);
		assert_string_equal(out, c->meant);
		for (size_t size = 0; size <= meant; size++) { /* too little room: cut, and ended with NUL */
			assert_int_equal(scan_identifier(slice_make(copy, len), out, size), size > 0 ? size - 1 : 0);
			assert_true(size == 0 || strlen(out) == size - 1);
		}
		free(copy);
	}
}

static void check_word(const char *word, uint16_t code)
{
	char text[64];
	size_t len = strlen(word);

	assert_true(len < sizeof(text));
	assert_int_equal(keyword_find((const uint8_t *)word, len), code);
	for (size_t i = 0; i < len; i++)
		text[i] = word[i] >= 'a' && word[i] <= 'z' ? (char)(word[i] - 0x20) : word[i];
	assert_int_equal(keyword_find((const uint8_t *)text, len), code);
	for (size_t i = 0; i < len; i++) { /* one byte off is another word, or none */
		text[i] = '0';
		assert_int_equal(keyword_find((const uint8_t *)text, len), TOKEN_WORD);
		text[i] = word[i];
	}
	text[len] = 'x';
	assert_int_not_equal(keyword_find((const uint8_t *)text, len + 1), code);
}

static void test_keywords(void **state)
{
#define GROUP(length, letter)
#define WORD(name, text)            check_word(text, KW_##name);
#define FUNCTION(name, text, marks) check_word(text, KW_##name);
#include "sql/keywords.def"
#undef GROUP
#undef WORD
#undef FUNCTION
}

static void test_class_names(void **state)
{
	assert_string_equal(statement_class_name(STATEMENT_EMPTY), "empty");
	assert_string_equal(statement_class_name(STATEMENT_UNKNOWN), "unknown");
	assert_string_equal(statement_class_name((enum statement_class)99), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_statements),
		cmocka_unit_test(test_case_does_not_matter),
		cmocka_unit_test(test_splits),
		cmocka_unit_test(test_any_cut_is_fine),
		cmocka_unit_test(test_max_cuts),
		cmocka_unit_test(test_many_statements),
		cmocka_unit_test(test_one_is_not_allocated),
		cmocka_unit_test(test_nul_is_a_byte_like_others),
		cmocka_unit_test(test_deep_nesting),
		cmocka_unit_test(test_identifiers),
		cmocka_unit_test(test_keywords),
		cmocka_unit_test(test_class_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
