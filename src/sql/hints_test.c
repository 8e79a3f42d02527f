/* Hints: which comments are some, what they say, and what is not understood. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "sql/hints.h"

/* Reads a copy of just this size, so that the sanitizer sees a byte read too many. The slices are of the copy. */
static char *read_copy(struct slice text, struct hints *ret)
{
	char *copy = malloc(text.len);

	assert_true(copy || text.len == 0);
	if (text.len > 0)
		memcpy(copy, text.bytes, text.len);
	hints_read(slice_make(copy, text.len), ret);
	return copy;
}

static size_t add(char *out, size_t size, size_t at, const char *name, const char *value)
{
	return at + (size_t)snprintf(out + at, size - at, "%s%s=%s", at ? " " : "", name, value);
}

static size_t add_number(char *out, size_t size, size_t at, const char *name, uint64_t value)
{
	return at + (size_t)snprintf(out + at, size - at, "%s%s=%llu", at ? " " : "", name, (unsigned long long)value);
}

static size_t add_text(char *out, size_t size, size_t at, const char *name, struct slice value)
{
	char text[HINT_TEXT_MAX + 1];

	hint_text(value, text);
	return add(out, size, at, name, text);
}

/* All that was said, in one line; numbers for words. Then the kinds of what was not understood. */
static void describe(const struct hints *h, char *out, size_t size)
{
	static const char kinds[] = {'k', 'v', 'u', 'p', 'm'};
	size_t at = 0;

	*out = '\0';
#define SAID(field) (h->said & BIT(HINT_SAID_##field))
#define NUMBER(field) \
	if (SAID(field)) \
		at = add_number(out, size, at, #field, h->field);
#define TEXT(field) \
	if (SAID(field)) \
		at = add_text(out, size, at, #field, h->field);
	NUMBER(route)
	TEXT(node)
	NUMBER(consistency)
	NUMBER(pool)
	NUMBER(cache)
	NUMBER(cache_ttl_ms)
	TEXT(cache_tables)
	NUMBER(cache_refresh)
	NUMBER(semantic)
	NUMBER(timeout_ms)
	NUMBER(lag)
	if (h->lag_is_bytes)
		at = add(out, size, at, "lag", "bytes");
	NUMBER(priority)
	NUMBER(retry)
	TEXT(branch)
	TEXT(tool)
	TEXT(workflow)
	NUMBER(twr)
	NUMBER(prefetch)
#undef SAID
#undef NUMBER
#undef TEXT
	for (uint32_t i = 0; i < MIN(h->problem_count, HINT_PROBLEMS_MAX); i++)
		at += (size_t)snprintf(out + at, size - at, "%s!%c", at ? " " : "", kinds[h->problems[i].kind]);
}

static const struct hint_case {
	const char *text, *said, *stripped;
} cases[] = {
	/* which comments are hints */
	{"SELECT 1", "", "SELECT 1"},
	{"/* helios:route=primary */ SELECT 1", "route=1", " SELECT 1"},
	{"/*helios:route=primary*/SELECT 1", "route=1", "SELECT 1"},
	{"/*  HELIOS:  Route = Primary  */ SELECT 1", "route=1", " SELECT 1"},
	{"/*+ route=primary */ SELECT 1", "route=1", " SELECT 1"},
	{"/*+route=primary*/ SELECT 1", "route=1", " SELECT 1"},
	{"/*+ helios: route=primary */ SELECT 1", "route=1", " SELECT 1"},
	{"-- helios:route=primary\nSELECT 1", "route=1", "SELECT 1"},
	{"--helios: route=primary\r\nSELECT 1", "route=1", "\nSELECT 1"},
	{"-- helios:route=primary", "route=1", ""},
	{" \t\n/* helios:route=any */", "route=6", " \t\n"},
	{"/* x */ /* helios:route=any */ SELECT 1", "route=6", "/* x */  SELECT 1"},
	{"-- x\n/* helios:route=any */ SELECT 1", "route=6", "-- x\n SELECT 1"},
	{"/* route=primary */ SELECT 1", "", "/* route=primary */ SELECT 1"},
	{"--+ route=primary\nSELECT 1", "", "--+ route=primary\nSELECT 1"},
	{"-- route=primary\nSELECT 1", "", "-- route=primary\nSELECT 1"},
	{"/* xhelios:route=primary */ SELECT 1", "", "/* xhelios:route=primary */ SELECT 1"},
	{"/* helios route=primary */ SELECT 1", "", "/* helios route=primary */ SELECT 1"},
	/* only those in front */
	{"SELECT 1 /* helios:route=primary */", "", "SELECT 1 /* helios:route=primary */"},
	{"SELECT '/* helios:route=primary */'", "", "SELECT '/* helios:route=primary */'"},
	{"SELECT 1; /* helios:route=primary */ SELECT 2", "", "SELECT 1; /* helios:route=primary */ SELECT 2"},
	{";/* helios:route=primary */ SELECT 2", "", ";/* helios:route=primary */ SELECT 2"},
	{"/* x /* helios:route=primary */ */ SELECT 1", "", "/* x /* helios:route=primary */ */ SELECT 1"},
	{"-- x /* helios:route=primary */\nSELECT 1", "", "-- x /* helios:route=primary */\nSELECT 1"},
	{"/* x -- */ /* helios:lag=5s */ SELECT 1", "lag=5000", "/* x -- */  SELECT 1"},
	/* without an end there is no comment */
	{"/* helios:route=primary", "", "/* helios:route=primary"},
	{"/* helios:route=primary /* */ SELECT 1", "", "/* helios:route=primary /* */ SELECT 1"},
	{"/*", "", "/*"},
	{"-", "", "-"},
	{"/", "", "/"},
	{"", "", ""},
	/* somebody else's */
	{"/*+ IndexScan(t) Leading((a b)) */ SELECT 1", "", "/*+ IndexScan(t) Leading((a b)) */ SELECT 1"},
	{"/*+ Set(work_mem '1MB') */ SELECT 1", "", "/*+ Set(work_mem '1MB') */ SELECT 1"},
	{"/*+ MAX_EXECUTION_TIME(1) route=primary */ SELECT 1", "",
	 "/*+ MAX_EXECUTION_TIME(1) route=primary */ SELECT 1"},
	{"/*+ other=1 */ SELECT 1", "", "/*+ other=1 */ SELECT 1"},
	{"/*route='%2Fusers',traceparent='00-1-2-01'*/ SELECT 1", "",
	 "/*route='%2Fusers',traceparent='00-1-2-01'*/ SELECT 1"},
	{"/*action='x',tool='y'*/ /* helios:tool=z */ SELECT 1", "tool=z", "/*action='x',tool='y'*/  SELECT 1"},
	{"SELECT 1 /*route='%2Fusers'*/", "", "SELECT 1 /*route='%2Fusers'*/"},
	/* pairs */
	{"/* helios:route=standby,lag=5s,retry=3 */", "route=2 lag=5000 retry=3", ""},
	{"/* helios:route=standby lag=5s\nretry=3 */", "route=2 lag=5000 retry=3", ""},
	{"/* helios: , route = standby ,, lag= 5s , */", "route=2 lag=5000", ""},
	{"/* helios:route=standby,route=primary */", "route=1", ""},
	{"/* helios:route=standby */ /* helios:lag=1s,route=primary */", "route=1 lag=1000", " "},
	{"/* helios: */", "", ""},
	{"/* helios:tool='a b, c=d' */", "tool=a b, c=d", ""},
	{"/* helios:tool=\"a b\",branch=x */", "branch=x tool=a b", ""},
	{"/* helios:tool='it''s' */", "tool=it's", ""},
	{"/* helios:tool='' */", "!v", ""},
	{"/* helios:tool='x */", "tool='x", ""},
	{"/* helios:tool=Mixed_Case-1.2:3/4 */", "tool=Mixed_Case-1.2:3/4", ""},
	/* what is not understood is left out alone */
	{"/* helios:rout=primary */ SELECT 1", "!k", " SELECT 1"},
	{"/* helios:route=primari */ SELECT 1", "!v", " SELECT 1"},
	{"/* helios:route */", "!p", ""},
	{"/* helios:route=,lag=5s */", "lag=5000 !v", ""},
	{"/* helios:=x, lag=5s */", "lag=5000 !k", ""},
	{"/* helios: is great */", "!p !p", ""},
	{"/* helios:route=any /* x */ */", "route=6 !p !p !p", ""},
	{"/* helios:timeout=5 */", "!u", ""},
	{"/* helios:lag=5 */", "!u", ""},
	{"/* helios:timeout=5x */", "!v", ""},
	{"/* helios:timeout=x */", "!v", ""},
	{"/* helios:timeout=-5s */", "!v", ""},
	{"/* helios:timeout=1.5s */", "!v", ""},
	{"/* helios:timeout=12345678901s */", "!v", ""},
	{"/* helios:timeout=5kB */", "!v", ""},
	{"/* helios:retry=101 */", "!v", ""},
	{"/* helios:retry=1s */", "!v", ""},
	/* each key */
	{"/* helios:route=node:replica-2 */", "node=replica-2", ""},
	{"/*+ route=node:10.0.0.1:5432 */", "node=10.0.0.1:5432", ""},
	{"/* helios:route=node: */", "!v", ""},
	{"/* helios:node=db1:5432 */", "node=db1:5432", ""},
	{"/* helios:consistency=strong */", "consistency=1", ""},
	{"/* helios:consistency=Read-Your-Writes */", "consistency=2", ""},
	{"/* helios:consistency=weak */", "consistency=3", ""},
	{"/* helios:pool=tx */", "pool=2", ""},
	{"/* helios:cache=skip,cache_ttl=30 */", "cache=2 cache_ttl_ms=30000", ""},
	{"-- helios:ttl=5m\n", "cache_ttl_ms=300000", ""},
	{"/* helios:ttl=1d */", "cache_ttl_ms=86400000", ""},
	{"/* helios:cache_ttl=200ms */", "cache_ttl_ms=200", ""},
	{"/* helios:tables=a */", "cache_tables=a", ""},
	{"/* helios:cache_tables=a,b.c , d,ttl=1s */", "cache_ttl_ms=1000 cache_tables=a,b.c , d", ""},
	{"/* helios:tables=a,b */", "cache_tables=a,b", ""},
	{"/* helios:refresh=yes */", "cache_refresh=1", ""},
	{"/* helios:nocache_read=off */", "cache_refresh=2", ""},
	{"/* helios:semantic=on,prefetch=0,twr=TRUE */", "semantic=1 twr=1 prefetch=2", ""},
	{"/* helios:semantic_cache=false */", "semantic=2", ""},
	{"/* helios:timeout=500ms */", "timeout_ms=500", ""},
	{"/* helios:timeout=9999999999D */", "timeout_ms=863999999913600000", ""},
	{"/* helios:lag=2h */", "lag=7200000", ""},
	{"/* helios:lag=16MB */", "lag=16777216 lag=bytes", ""},
	{"/* helios:lag=16MB, lag=1s */", "lag=1000", ""},
	{"/* helios:priority=realtime */", "priority=4", ""},
	{"/* helios:retry=yes */", "retry=1", ""},
	{"/* helios:retry=no */", "retry=0", ""},
	{"/* helios:retry=0 */", "retry=0", ""},
	{"/* helios:retry=1 */", "retry=1", ""},
	{"/* helios:retry=7 */", "retry=7", ""},
	{"/* helios:branch=main,workflow=nightly-1 */", "branch=main workflow=nightly-1", ""},
};

static void strip(const char *text, const struct hints *h, char *out)
{
	size_t from = 0, len = 0;

	for (uint32_t i = 0; i < h->comment_count; i++) {
		memcpy(out + len, text + from, h->comments[i].begin - from);
		len += h->comments[i].begin - from;
		from = h->comments[i].end;
	}
	snprintf(out + len, 512 - len, "%s", text + from);
}

static void test_cases(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char said[512], stripped[512];
		struct hints h;
		char *copy = read_copy(slice_str(cases[i].text), &h);

		describe(&h, said, sizeof(said));
		strip(cases[i].text, &h, stripped);
		if (strcmp(said, cases[i].said) != 0 || strcmp(stripped, cases[i].stripped) != 0)
			fail_msg("%s: said \"%s\", without: \"%s\"", cases[i].text, said, stripped);
		free(copy);
	}
}

/* Every word of the table, in both kinds of comment. */
static void test_words(void **state)
{
	static const struct {
		const char *field, *word;
		unsigned int value;
	} words[] = {
#define KEY(name, type, field)
#define VALUE(field, word, value) {#field, word, value},
#include "sql/hints.def"
#undef KEY
#undef VALUE
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		for (int plus = 0; plus < 2; plus++) {
			char text[128], said[512], wanted[128];
			struct hints h;

			snprintf(text, sizeof(text), "/*%s%s=%s*/", plus ? "+" : " helios:", words[i].field,
				 words[i].word);
			snprintf(wanted, sizeof(wanted), "%s=%u", words[i].field, words[i].value);
			hints_read(slice_str(text), &h);
			describe(&h, said, sizeof(said));
			assert_string_equal(said, wanted);
		}
	}
}

static void test_limits(void **state)
{
	char text[3 * HINT_BYTES_MAX];
	size_t len = 0;
	struct hints h;

	(void)state;
	for (uint32_t i = 0; i < HINT_COMMENTS_MAX + 2; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "/*+ retry=%u */", i);
	hints_read(slice_make(text, len), &h);
	assert_int_equal(h.comment_count, HINT_COMMENTS_MAX);
	assert_int_equal(h.retry, HINT_COMMENTS_MAX - 1);
	assert_int_equal(h.problem_count, 2);
	assert_int_equal(h.problems[0].kind, HINT_TOO_MANY);

	len = (size_t)snprintf(text, sizeof(text), "/* helios:");
	for (uint32_t i = 0; i < HINT_PAIRS_MAX + 5; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "retry=%u,", i);
	len += (size_t)snprintf(text + len, sizeof(text) - len, "*/");
	hints_read(slice_make(text, len), &h);
	assert_int_equal(h.retry, HINT_PAIRS_MAX - 1);
	assert_int_equal(h.problem_count, 1);

	/* longer than is looked at: noted if it is a hint, of no interest if it isn't */
	memset(text, ' ', sizeof(text));
	memcpy(text, "/* helios:retry=1", 17);
	memcpy(text + sizeof(text) - 2, "*/", 2);
	hints_read(slice_make(text, sizeof(text)), &h);
	assert_int_equal(h.said, 0);
	assert_int_equal(h.problem_count, 1);
	memcpy(text, "/* license", 10);
	hints_read(slice_make(text, sizeof(text)), &h);
	assert_int_equal(h.problem_count, 0);
	assert_int_equal(h.comment_count, 0);

	memset(text, 'x', sizeof(text));
	memcpy(text, "/*+tool=", 8);
	memcpy(text + 8 + HINT_TEXT_MAX + 1, "*/", 2);
	hints_read(slice_make(text, sizeof(text)), &h);
	assert_int_equal(h.said, 0);
	assert_int_equal(h.problems[0].kind, HINT_VALUE_BAD);
	memcpy(text + 8 + HINT_TEXT_MAX, "*/", 2);
	hints_read(slice_make(text, sizeof(text)), &h);
	assert_int_equal(h.tool.len, HINT_TEXT_MAX);
}

static void test_a_session_sets_them_one_by_one(void **state)
{
	struct hints h = {0};
	struct hint_problem p;

	(void)state;
	assert_true(hints_set(&h, SLICE_LITERAL("Route"), SLICE_LITERAL("REPLICA"), &p));
	assert_int_equal(h.route, HINT_ROUTE_STANDBY);
	assert_false(hints_set(&h, SLICE_LITERAL("route"), SLICE_LITERAL("x"), &p));
	assert_int_equal(p.kind, HINT_VALUE_BAD);
	assert_int_equal(h.route, HINT_ROUTE_STANDBY);
	assert_false(hints_set(&h, SLICE_LITERAL("lsn"), SLICE_LITERAL("x"), &p));
	assert_int_equal(p.kind, HINT_KEY_UNKNOWN);
	assert_true(hints_set(&h, SLICE_LITERAL("tables"), SLICE_LITERAL("a, b"), &p));
	assert_true(slice_equal(h.cache_tables, SLICE_LITERAL("a, b")));
}

static void test_blanks_take_the_place_of_hints(void **state)
{
	static const struct {
		const char *text, *blanked;
	} blanks[] = {
		{"/*+ node=a */SELECT 1", "             SELECT 1"},
		{"-- helios: node=a\nSELECT 1", "                 \nSELECT 1"},
		{"/* helios:\nnode=a*/ /* mine */ SELECT 1", "          \n         /* mine */ SELECT 1"},
		{"/*+ SeqScan(t) */ /*+node=a*/ x", "/*+ SeqScan(t) */             x"},
		{"/* helios: node='\303\274' */ x", "/* helios: node='\303\274' */ x"},
		{"/* helios: oops */x", "                  x"},
		{"SELECT 1 /*+ node=a */", "SELECT 1 /*+ node=a */"},
		{"", ""},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(blanks); i++) {
		char text[128];
		struct hints h;
		size_t end;

		snprintf(text, sizeof(text), "%s", blanks[i].text);
		hints_read(slice_str(text), &h);
		end = hints_blank_end(&h, slice_str(text));
		hints_blank(&h, (uint8_t *)text);
		assert_string_equal(text, blanks[i].blanked);
		assert_string_equal(text + end, blanks[i].text + end);
		assert_true((end > 0) == (strcmp(text, blanks[i].text) != 0));
	}
}

static void test_problems_have_a_text(void **state)
{
	struct hints h;
	char text[256];

	(void)state;
	hints_read(slice_str("/* helios:rout=x, lag=5, oops */"), &h);
	assert_int_equal(h.problem_count, 3);
	hint_problem_text(&h.problems[0], text, sizeof(text));
	assert_string_equal(text, "hint \"rout=x\" ignored: there is no such hint");
	hint_problem_text(&h.problems[1], text, sizeof(text));
	assert_string_equal(text, "hint \"lag=5\" ignored: its value lacks a unit, such as ms or s");
	hint_problem_text(&h.problems[2], text, sizeof(text));
	assert_string_equal(text, "hint \"oops\" ignored: a hint is key=value");
	hint_problem_text(&(struct hint_problem){.kind = HINT_TOO_MANY}, text, sizeof(text));
	assert_non_null(strstr(text, "too many"));
}

static void test_the_last_text_is_not_read_again(void **state)
{
	static struct hints_memo memo;
	char text[] = "/*+ node=ab */SELECT 1", other[] = "/*+ node=ab */SELECT 2", long_text[2 * HINT_BYTES_MAX];
	const struct hints *h;

	(void)state;
	h = hints_recall(&memo, slice_str(text));
	assert_memory_equal(h->node.bytes, "ab", 2);
	memo.hints.retry = 77; /* which no text says: reading would undo it */
	memset(text, 'x', sizeof(text) - 1);
	assert_memory_equal(h->node.bytes, "ab", 2); /* of the copy */
	assert_int_equal(hints_recall(&memo, slice_str("/*+ node=ab */SELECT 1"))->retry, 77);
	assert_int_equal(hints_recall(&memo, slice_str(other))->retry, 0);
	assert_int_equal(hints_recall(&memo, slice_str("/*+ node=ab */"))->said, BIT(HINT_SAID_node));
	assert_int_equal(hints_recall(&memo, slice_str("/*+ node=b */"))->node.len, 1);
	assert_int_equal(hints_recall(&memo, slice_str(""))->said, 0);
	memset(long_text, ' ', sizeof(long_text));
	memcpy(long_text, "/*+ node=ab */", 14);
	assert_int_equal(hints_recall(&memo, slice_make((uint8_t *)long_text, sizeof(long_text)))->said,
			 BIT(HINT_SAID_node));
	memcpy(long_text, "/*+ node=ab, x", 14);
	h = hints_recall(&memo, slice_make((uint8_t *)long_text, sizeof(long_text)));
	assert_int_equal(h->problems[0].kind, HINT_TOO_MANY);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_a_session_sets_them_one_by_one),
		cmocka_unit_test(test_blanks_take_the_place_of_hints),
		cmocka_unit_test(test_problems_have_a_text),
		cmocka_unit_test(test_the_last_text_is_not_read_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
