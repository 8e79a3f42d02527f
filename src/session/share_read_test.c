/* Which bytes are one request that may be shared, and which are not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "session/share_read.h"

#define QUERY "Q\0\0\0\x0dSELECT 1\0"
#define PARSE "P\0\0\0\x10\0SELECT 1\0\0\0"
#define PARSE_NAMED \
	"P\0\0\0\x11" \
	"a\0SELECT 1\0\0\0"
#define BIND       "B\0\0\0\x0c\0\0\0\0\0\0\0\0"
#define BIND_NAMED "B\0\0\0\x0d\0a\0\0\0\0\0\0\0"
#define BIND_PORTAL \
	"B\0\0\0\x0d" \
	"p\0\0\0\0\0\0\0\0"
#define DESCRIBE    "D\0\0\0\x06P\0"
#define DESCRIBE_S  "D\0\0\0\x06S\0"
#define EXECUTE     "E\0\0\0\x09\0\0\0\0\0"
#define EXECUTE_ONE "E\0\0\0\x09\0\0\0\0\x01"
#define SYNC        "S\0\0\0\x04"
#define FLUSH       "H\0\0\0\x04"

#define CASE(text, fine) \
	{ \
		text, sizeof(text) - 1, fine \
	}

static const struct {
	const char *bytes;
	size_t len;
	bool fine;
} cases[] = {
	CASE(QUERY, true),
	CASE(PARSE BIND DESCRIBE EXECUTE SYNC, true),
	CASE(PARSE BIND EXECUTE SYNC, true),
	CASE(BIND DESCRIBE EXECUTE SYNC, true),
	CASE(BIND_NAMED EXECUTE SYNC, true),
	CASE("", false),
	CASE(QUERY QUERY, false),
	CASE(QUERY SYNC, false),
	CASE("Q\0\0\0\x0cSELECT 1", false),
	CASE("Q\0\0\0\x0dSELE\0T 1\0", false),
	CASE("Q\0\0\0\x04", false),
	CASE(PARSE SYNC, false),
	CASE(PARSE_NAMED BIND_NAMED EXECUTE SYNC, false),
	CASE(PARSE BIND_NAMED EXECUTE SYNC, false),
	CASE(BIND_PORTAL EXECUTE SYNC, false),
	CASE(BIND DESCRIBE_S EXECUTE SYNC, false),
	CASE(BIND EXECUTE_ONE SYNC, false),
	CASE(BIND EXECUTE FLUSH, false),
	CASE(BIND EXECUTE EXECUTE SYNC, false),
	CASE(BIND EXECUTE SYNC SYNC, false),
	CASE(BIND EXECUTE SYNC QUERY, false),
	CASE(BIND DESCRIBE DESCRIBE EXECUTE SYNC, false),
	CASE(BIND SYNC, false),
	CASE(EXECUTE SYNC, false),
	CASE(SYNC, false),
	CASE("X\0\0\0\x04", false),
	CASE("B\0\0\0\x05\0" EXECUTE SYNC, false),
	CASE("P\0\0\0\x05\0" BIND EXECUTE SYNC, false),
};

static void test_cases(void **state)
{
	struct share_request r;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		if (share_read((const uint8_t *)cases[i].bytes, cases[i].len, &r) != cases[i].fine)
			fail_msg("case %zu", i);
}

/* No beginning of a request is one. */
static void test_beginnings(void **state)
{
	struct share_request r;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		for (size_t len = 0; cases[i].fine && len < cases[i].len; len++)
			assert_false(share_read((const uint8_t *)cases[i].bytes, len, &r));
}

static void test_parts(void **state)
{
	static const char batch[] = BIND_NAMED DESCRIBE EXECUTE SYNC;
	struct share_request r;

	(void)state;
	assert_true(share_read((const uint8_t *)QUERY, sizeof(QUERY) - 1, &r));
	assert_false(r.is_batch);
	assert_true(slice_equal(r.sql, SLICE_LITERAL("SELECT 1")));
	assert_true(share_read((const uint8_t *)batch, sizeof(batch) - 1, &r));
	assert_true(r.is_batch);
	assert_int_equal(r.parse.len, 0);
	assert_true(slice_equal(r.name, SLICE_LITERAL("a")));
	assert_int_equal(r.values.len, 6);
	assert_int_equal(r.rest.len, sizeof(DESCRIBE EXECUTE SYNC) - 1);
	assert_ptr_equal(r.values.bytes + r.values.len, r.rest.bytes); /* they are sent as one */
	assert_true(share_read((const uint8_t *)PARSE BIND EXECUTE SYNC, sizeof(PARSE BIND EXECUTE SYNC) - 1, &r));
	assert_int_equal(r.parse.len, 11);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),
		cmocka_unit_test(test_beginnings),
		cmocka_unit_test(test_parts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
