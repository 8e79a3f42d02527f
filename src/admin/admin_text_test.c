/* text.c: paths, tokens, numbers, and names of any bytes. */
#include "admin/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static void check_match(const char *pattern, const char *path, const char *argument)
{
	struct slice found = {0};

	if (!argument) {
		assert_false(path_match(pattern, path, &found));
		return;
	}
	assert_true(path_match(pattern, path, &found));
	assert_true(slice_equal(found, slice_str(argument)));
}

static void test_paths(void **state)
{
	check_match("/health", "/health", "");
	check_match("/health", "/health/", NULL);
	check_match("/health", "/healthz", NULL);
	check_match("/health", "/healt", NULL);
	check_match("/health", "", NULL);
	check_match("/", "/", "");
	check_match("/sessions/{pid}", "/sessions/42", "42");
	check_match("/sessions/{pid}", "/sessions/", NULL);
	check_match("/sessions/{pid}", "/sessions", NULL);
	check_match("/sessions/{pid}", "/sessions/4/2", NULL);
	check_match("/nodes/{address}/drain", "/nodes/db1:5432/drain", "db1:5432");
	check_match("/nodes/{address}/drain", "/nodes//drain", NULL);
	check_match("/nodes/{address}/drain", "/nodes/db1:5432/drain/", NULL);
	check_match("/nodes/{address...}", "/nodes//run/postgresql:5432", "/run/postgresql:5432");
	check_match("/nodes/{address...}", "/nodes/", NULL);
	check_match("/{a}/x/{b}", "/1/x/2", "2");
	check_match("/nodes/{address...}", "/nodes/{address...}", "{address...}");
}

static void test_bearer(void **state)
{
	assert_string_equal(bearer_token("Bearer secret"), "secret");
	assert_string_equal(bearer_token("bearer  secret"), "secret");
	assert_string_equal(bearer_token("Bearer secret "), "secret ");
	assert_string_equal(bearer_token("Bearer "), "");
	assert_null(bearer_token(NULL));
	assert_null(bearer_token(""));
	assert_null(bearer_token("Bearer"));
	assert_null(bearer_token("Basic secret"));
}

static void test_hosts(void **state)
{
	static const char *const local[] = {"127.0.0.1",     "127.0.0.1:9090", "10.1.2.3:80",   "[::1]:9090",
					    "[2001:db8::1]", "localhost",      "LocalHost:9090"};
	static const char *const foreign[] = {"",
					      "evil.example",
					      "evil.example:9090",
					      "localhost.evil.example",
					      "127.0.0.1.evil.example",
					      "[::1",
					      "[evil.example]",
					      "::1",
					      "[]",
					      ":9090",
					      "127.0.0.1127.0.0.1127.0.0.1127.0.0.1127.0.0.1127.0.0.1127.0.0.1"};

	for (size_t i = 0; i < ARRAY_SIZE(local); i++)
		assert_true(host_is_local(local[i]));
	for (size_t i = 0; i < ARRAY_SIZE(foreign); i++)
		assert_false(host_is_local(foreign[i]));
	assert_true(host_is("Proxy.example:9090", "proxy.example"));
	assert_true(host_is("proxy.example", "proxy.example"));
	assert_false(host_is("proxy.example.evil", "proxy.example"));
	assert_false(host_is("", "proxy.example"));
}

static void check_unescape(const char *text, const char *expected)
{
	char copy[64];

	snprintf(copy, sizeof(copy), "%s", text);
	assert_int_equal(url_unescape(copy), strlen(expected));
	assert_string_equal(copy, expected);
}

static void test_unescape(void **state)
{
	check_unescape("", "");
	check_unescape("/nodes/db%31%3a5432", "/nodes/db1:5432");
	check_unescape("%41%4A%6a", "AJj");
	check_unescape("%", "%");
	check_unescape("%4", "%4");
	check_unescape("%4g%g4%%41", "%4g%g4%A");
	check_unescape("/pools%00.html", "/pools%00.html"); /* must not end there */
	check_unescape("%2541", "%41");                     /* once */
}

static void test_types(void **state)
{
	assert_true(type_is_json("application/json"));
	assert_true(type_is_json("Application/JSON; charset=utf-8"));
	assert_false(type_is_json("application/jsonp"));
	assert_false(type_is_json("text/plain"));
	assert_false(type_is_json(NULL));
}

static void test_origins(void **state)
{
	assert_true(origin_is_host(NULL, "127.0.0.1:9090"));
	assert_true(origin_is_host("http://127.0.0.1:9090", "127.0.0.1:9090"));
	assert_true(origin_is_host("https://Proxy.example", "proxy.example"));
	assert_false(origin_is_host("http://evil.example", "127.0.0.1:9090"));
	assert_false(origin_is_host("http://127.0.0.1:9090.evil.example", "127.0.0.1:9090"));
	assert_false(origin_is_host("null", "127.0.0.1:9090"));
	assert_false(origin_is_host("http://127.0.0.1:9090", NULL));
}

static void test_numbers(void **state)
{
	uint64_t n;

	assert_true(parse_number("0", 10, &n) && n == 0);
	assert_true(parse_number("10", 10, &n) && n == 10);
	assert_true(parse_number("007", 10, &n) && n == 7);
	assert_true(parse_number("5", 5, &n) && n == 5);
	assert_true(parse_number("18446744073709551615", UINT64_MAX, &n) && n == UINT64_MAX);
	assert_false(parse_number("18446744073709551616", UINT64_MAX, &n));
	assert_false(parse_number("6", 5, &n));
	assert_false(parse_number("11", 10, &n));
	assert_false(parse_number("", 10, &n));
	assert_false(parse_number("-1", 10, &n));
	assert_false(parse_number("+1", 10, &n));
	assert_false(parse_number(" 1", 10, &n));
	assert_false(parse_number("1x", 10, &n));
	assert_false(parse_number("\xb2", 10, &n));
}

static void test_times(void **state)
{
	char text[32];

	format_time(0, text, sizeof(text));
	assert_string_equal(text, "1970-01-01T00:00:00.000Z");
	format_time(1795444305123999ull, text, sizeof(text));
	assert_string_equal(text, "2026-11-23T14:31:45.123Z");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_paths),   cmocka_unit_test(test_bearer), cmocka_unit_test(test_origins),
		cmocka_unit_test(test_hosts),   cmocka_unit_test(test_types),  cmocka_unit_test(test_unescape),
		cmocka_unit_test(test_numbers), cmocka_unit_test(test_times),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
