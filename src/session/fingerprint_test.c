/* Wherever a fingerprint was kept, it is that of the text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "session/fingerprint.h"
#include "sql/normalize.h"

static uint64_t right(struct slice text)
{
	struct sql_normalized normalized;
	char nothing[1];

	sql_normalize(text, /* standard_conforming_strings= */ true, nothing, sizeof(nothing), &normalized);
	return normalized.fingerprint;
}

/* Of plain texts, of such that need a look, and of such that have no shape; some are the same but for their literals.
 * More of them than there is room for, so each place is taken by one after the other. */
static struct slice text_number(uint32_t number, char text[128])
{
	static const char *const forms[] = {"SELECT %u AS a%u", "SET work_mem = '%u kB'; SELECT %u AS b",
					    "SELECT %u, $$x$$, c%u FROM t -- no shape",
					    "UPDATE t SET a = %u WHERE d%u > 'x'",
					    "BEGIN; SELECT %u, pg_advisory_lock(%u); COMMIT"};
	int len = snprintf(text, 128, forms[number % ARRAY_SIZE(forms)], number % 1000, number / 11 % 3000);

	return slice_make(text, (size_t)len);
}

/* As session/observe.c does. wanted: is there a stage that wants it? */
static void ask(struct fingerprints *f, struct query_infos *q, struct slice text, bool wanted)
{
	uint64_t fingerprint;

	query_info_unref(query_info_get(q, text, /* complete= */ true));
	if (!wanted)
		return;
	fingerprint = fingerprint_known(text, q);
	if (!fingerprint)
		fingerprint = fingerprint_find(f, text, q);
	assert_true(fingerprint == right(text));
	assert_true(fingerprint_known(text, q) == fingerprint);
	assert_true(fingerprint_find(f, text, NULL) == fingerprint);
}

static void test_more_texts_than_places(void **state)
{
	struct fingerprints f = {0};
	struct query_infos q = {0};
	uint32_t number = 1;
	char text[128];

	assert_int_equal(query_infos_init(&q), 0);
	for (uint32_t i = 0; i < 100000; i++) {
		number = number * 1664525u + 1013904223u;
		ask(&f, &q, text_number((number >> 8) % 40000, text), /* wanted= */ i / 1000 % 3 > 0);
	}
	fingerprints_free(&f);
	query_infos_free(&q);
}

/* Where routing has looked it up before. */
static void test_of_a_text_that_was_looked_up(void **state)
{
	struct fingerprints f = {0};
	struct query_infos q = {0};
	char text[128];

	assert_int_equal(query_infos_init(&q), 0);
	for (uint32_t i = 0; i < 20000; i++) {
		struct slice asked = text_number(i % 5000 * 5, text);

		if (!query_info_reads(&q, asked, 1))
			query_info_mark_reads(&q, asked, 1);
		ask(&f, &q, asked, /* wanted= */ true);
		query_infos_forget_memo(&q);
	}
	fingerprints_free(&f);
	query_infos_free(&q);
}

/* What was found is of that text alone. */
static void test_of_another_text(void **state)
{
	struct fingerprints f = {0};
	struct query_infos q = {0};
	struct slice one = slice_str("SELECT 1 AS one"), two = slice_str("SELECT 1 AS two");

	assert_int_equal(query_infos_init(&q), 0);
	ask(&f, &q, one, /* wanted= */ true);
	assert_true(fingerprint_known(two, &q) == 0);
	assert_true(fingerprint_find(&f, two, &q) == right(two));
	assert_true(fingerprint_known(one, &q) == right(one));
	query_infos_forget_found(&q);
	assert_true(fingerprint_known(one, &q) == 0);
	fingerprints_free(&f);
	query_infos_free(&q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_more_texts_than_places),
		cmocka_unit_test(test_of_a_text_that_was_looked_up),
		cmocka_unit_test(test_of_another_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
