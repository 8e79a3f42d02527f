/* Durations, sizes, addresses; substitution; lists of messages. */
#include "config/substitute.h"
#include "config/units.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static void durations_are_read(void **state)
{
	static const struct {
		const char *text;
		int r;
		usec_t us;
	} cases[] = {
		{"0", 0, 0},
		{"5", 0, 5000000},
		{"5s", 0, 5000000},
		{" 250 ms ", 0, 250000},
		{"7us", 0, 7},
		{"1.5h", 0, 5400000000},
		{"10min", 0, 600000000},
		{"10m", 0, 600000000},
		{"1d", 0, 86400000000},
		{"1D", 0, 86400000000},
		{"0.001", 0, 1000},
		{"", -EINVAL, 0},
		{"s", -EINVAL, 0},
		{"-5s", -EINVAL, 0},
		{"5 s s", -EINVAL, 0},
		{"5sx", -EINVAL, 0},
		{"5e3", -EINVAL, 0},
		{"0x10", -EINVAL, 0},
		{"5,5s", -EINVAL, 0},
		{"5 fortnights", -EINVAL, 0},
		{"99999999999999999999d", -ERANGE, 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		usec_t us = 0;

		assert_int_equal(duration_parse(cases[i].text, USEC_PER_SEC, &us), cases[i].r);
		assert_int_equal(us, cases[i].us);
	}
}

static void durations_are_printed(void **state)
{
	char text[DURATION_TEXT];

	assert_string_equal(duration_print(0, text), "0s");
	assert_string_equal(duration_print(5000000, text), "5s");
	assert_string_equal(duration_print(300000000, text), "5min");
	assert_string_equal(duration_print(3600000000, text), "1h");
	assert_string_equal(duration_print(1500000, text), "1500ms");
	assert_string_equal(duration_print(7, text), "7us");
	assert_string_equal(duration_print(31536000ull * USEC_PER_SEC, text), "365d");
}

static void numbers_become_durations(void **state)
{
	usec_t us;

	assert_int_equal(duration_from_number(0.5, USEC_PER_SEC, &us), 0);
	assert_int_equal(us, 500000);
	assert_int_equal(duration_from_number(-1, USEC_PER_SEC, &us), -ERANGE);
	assert_int_equal(duration_from_number(1e300 * 1e300, USEC_PER_SEC, &us), -ERANGE);
	assert_int_equal(duration_from_number(0.0 / 0.0, USEC_PER_SEC, &us), -ERANGE);
}

static void sizes_are_read_and_printed(void **state)
{
	char text[SIZE_TEXT];
	uint64_t n;

	assert_int_equal(size_parse("64kB", &n), 0);
	assert_int_equal(n, 65536);
	assert_int_equal(size_parse("1 MB", &n), 0);
	assert_int_equal(n, 1048576);
	assert_int_equal(size_parse("2g", &n), 0);
	assert_int_equal(n, 2147483648u);
	assert_int_equal(size_parse("123", &n), 0);
	assert_int_equal(n, 123);
	assert_int_equal(size_parse("5s", &n), -EINVAL);
	assert_int_equal(size_parse("99999999999TB", &n), -ERANGE);
	assert_string_equal(size_print(65536, text), "64kB");
	assert_string_equal(size_print(1048576, text), "1MB");
	assert_string_equal(size_print(1000, text), "1000");
	assert_string_equal(size_print(0, text), "0");
}

static void addresses_are_split(void **state)
{
	static const struct {
		const char *text;
		int r;
		const char *host;
		uint32_t port;
		bool exposed;
	} cases[] = {
		{"127.0.0.1:6432", 0, "127.0.0.1", 6432, false},
		{"127.9.9.9:1", 0, "127.9.9.9", 1, false},
		{"0.0.0.0:6432", 0, "0.0.0.0", 6432, true},
		{"[::1]:6432", 0, "::1", 6432, false},
		{"[::]:6432", 0, "::", 6432, true},
		{"[::ffff:127.0.0.1]:1", 0, "::ffff:127.0.0.1", 1, false},
		{"localhost:9090", 0, "localhost", 9090, false},
		{"pg.example.org:5432", 0, "pg.example.org", 5432, true},
		{":6432", 0, "", 6432, true},
		{"unix:/run/x.sock", 0, "/run/x.sock", 0, false},
		{"unix:x.sock", -EINVAL, "", 0, false},
		{"host", -EINVAL, "", 0, false},
		{"host:", -EINVAL, "", 0, false},
		{"host:0", -EINVAL, "", 0, false},
		{"host:65536", -EINVAL, "", 0, false},
		{"host:6432x", -EINVAL, "", 0, false},
		{"host:+6432", -EINVAL, "", 0, false},
		{"::1:6432", -EINVAL, "", 0, false},
		{"[::1:6432", -EINVAL, "", 0, false},
		{"[:6432", -EINVAL, "", 0, false},
		{"a b:6432", -EINVAL, "", 0, false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char host[HOST_MAX + 1] = "";
		uint32_t port = 0;

		assert_int_equal(address_split(cases[i].text, host, &port), cases[i].r);
		assert_string_equal(host, cases[i].host);
		assert_int_equal(port, cases[i].port);
		assert_int_equal(address_is_exposed(cases[i].text), cases[i].exposed);
	}
}

static void check_substitution(const char *text, int r, const char *expected, uint32_t errors)
{
	struct buf out = BUF_INIT(1 << 20);
	struct config_report report;
	struct line_map map;
	struct arena arena;

	arena_init(&arena, 1024);
	config_report_init(&report, false);
	assert_int_equal(substitute(text, strlen(text), "t", &out, &arena, &map, &report), r);
	if (r == 0)
		assert_string_equal(buf_cstr(&out), expected);
	assert_int_equal(report.errors, errors);
	config_report_free(&report);
	arena_destroy(&arena);
	buf_free(&out);
}

static void variables_are_substituted(void **state)
{
	setenv("T_SET", "value", 1);
	setenv("T_EMPTY", "", 1);
	setenv("T_NESTED", "${T_SET}", 1);
	unsetenv("T_UNSET");
	check_substitution("a = ${T_SET}", 0, "a = value", 0);
	check_substitution("${T_SET}${T_SET}\n", 0, "valuevalue\n", 0);
	check_substitution("${T_UNSET:-d}", 0, "d", 0);
	check_substitution("${T_UNSET:-}", 0, "", 0);
	check_substitution("${T_EMPTY:-d}", 0, "", 0);
	check_substitution("${T_SET:-d}", 0, "value", 0);
	check_substitution("${T_UNSET:-a}b}", 0, "ab}", 0);
	check_substitution("${T_NESTED}", 0, "${T_SET}", 0);
	check_substitution("${T_UNSET} ${T_UNSET}\n${T_UNSET}", -EINVAL, NULL, 3);
	check_substitution("  # ${T_UNSET}\nx # ${T_SET}", 0, "  # ${T_UNSET}\nx # value", 0);
	check_substitution("${", 0, "${", 0);
	check_substitution("$", 0, "$", 0);
	check_substitution("$${T_SET}", 0, "$value", 0);
	check_substitution("${T_SET", 0, "${T_SET", 0);
	check_substitution("${1A} ${} ${A-B} ${A:B} ${A:?x}", 0, "${1A} ${} ${A-B} ${A:B} ${A:?x}", 0);
	check_substitution("${T_UNSET:-a\nb}", 0, "${T_UNSET:-a\nb}", 0);
	check_substitution("", 0, "", 0);
}

static void lines_are_mapped(void **state)
{
	struct buf out = BUF_INIT(1 << 20);
	const char *text = "one\n${T_LINES}\nthree";
	struct config_report report;
	struct line_map map;
	struct arena arena;

	setenv("T_LINES", "a\nb\nc", 1);
	arena_init(&arena, 1024);
	config_report_init(&report, false);
	assert_int_equal(substitute(text, strlen(text), "t", &out, &arena, &map, &report), 0);
	assert_string_equal(buf_cstr(&out), "one\na\nb\nc\nthree");
	assert_int_equal(line_map_get(&map, 1), 1);
	assert_int_equal(line_map_get(&map, 2), 2);
	assert_int_equal(line_map_get(&map, 4), 2);
	assert_int_equal(line_map_get(&map, 5), 3);
	assert_int_equal(line_map_get(&map, 99), 3);
	assert_true(line_map_is_substituted(&map, 3));
	assert_false(line_map_is_substituted(&map, 1));
	assert_false(line_map_is_substituted(&map, 5));
	buf_free(&out);

	out = BUF_INIT(8);
	assert_int_equal(substitute(text, strlen(text), "t", &out, &arena, &map, &report), -E2BIG);
	buf_free(&out);
	config_report_free(&report);
	arena_destroy(&arena);
}

static void messages_are_sorted_and_bounded(void **state)
{
	struct config_report report;
	const struct report_message *m;

	config_report_init(&report, false);
	report_add(&report, REPORT_ERROR, "a", 9, 0, "%s", "third");
	report_add(&report, REPORT_ERROR, "b", 1, 0, "fourth");
	report_add(&report, REPORT_WARNING, "a", 2, 0, "first");
	report_add(&report, REPORT_NOTICE, "a", 2, 0, "second");
	report_sort(&report);
	m = report.first;
	assert_string_equal(m->text, "first");
	assert_string_equal(m->next->text, "second");
	assert_string_equal(m->next->next->text, "third");
	assert_string_equal(m->next->next->next->text, "fourth");
	for (int i = 0; i < 2000; i++)
		report_add(&report, REPORT_ERROR, "a", 1, 0, "more");
	assert_int_equal(report.errors, 2002);
	config_report_free(&report);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(durations_are_read),       cmocka_unit_test(durations_are_printed),
		cmocka_unit_test(numbers_become_durations), cmocka_unit_test(sizes_are_read_and_printed),
		cmocka_unit_test(addresses_are_split),      cmocka_unit_test(variables_are_substituted),
		cmocka_unit_test(lines_are_mapped),         cmocka_unit_test(messages_are_sorted_and_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
