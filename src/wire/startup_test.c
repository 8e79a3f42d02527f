/*
 * Unit tests: first packets, honest and hostile, and the splitting of "options".
 */
#include "wire/test.h"

#include <stdio.h>

#include "wire/startup.h"

#define PACKET(body) SLICE_LITERAL("\0\0\0" body)

static void test_reads_requests(void **state)
{
	static const struct {
		struct slice bytes;
		int result;
		enum startup_kind kind;
	} cases[] = {
		{PACKET("\10\4\322\26\57"), 8, STARTUP_SSL},
		{PACKET("\10\4\322\26\60"), 8, STARTUP_GSSENC},
		{PACKET("\20\4\322\26\56\0\0\0\1abcd"), 16, STARTUP_CANCEL},
		{PACKET("\11\0\3\0\0\0"), 9, STARTUP_SESSION},
		{PACKET("\22\0\3\0\0user\0app\0\0"), 18, STARTUP_SESSION},
		/* another version is left to the caller, whatever follows */
		{PACKET("\14\0\2\0\0what"), 12, STARTUP_SESSION},
		/* only the first packet is looked at */
		{PACKET("\10\4\322\26\57\26\3\1"), 8, STARTUP_SSL},
		/* not there yet */
		{SLICE_LITERAL(""), 0, 0},
		{SLICE_LITERAL("\0\0\0"), 0, 0},
		{SLICE_LITERAL("\0\0\47\20"), 0, 0},
		{PACKET("\10\4\322\26"), 0, 0},
		/* lengths that cannot be */
		{PACKET("\0"), -EMSGSIZE, 0},
		{PACKET("\7"), -EMSGSIZE, 0},
		{SLICE_LITERAL("\0\0\47\21"), -EMSGSIZE, 0},
		{SLICE_LITERAL("\377\377\377\377"), -EMSGSIZE, 0},
		{SLICE_LITERAL("GET / HTTP/1.0"), -EMSGSIZE, 0},
		/* malformed inside */
		{PACKET("\10\0\3\0\0"), -EPROTO, 0},
		{PACKET("\15\0\3\0\0user\0"), -EPROTO, 0},
		{PACKET("\14\0\3\0\0user"), -EPROTO, 0},
		{PACKET("\21\0\3\0\0user\0app\0"), -EPROTO, 0},
		{PACKET("\23\0\3\0\0user\0app\0\0x"), -EPROTO, 0},
		{PACKET("\11\4\322\26\57x"), -EPROTO, 0},
		{PACKET("\17\4\322\26\56\0\0\0\1abc"), -EPROTO, 0},
		{PACKET("\12\4\322\26\56\0\0"), -EPROTO, 0},
	};
	struct startup s;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(startup_read(cases[i].bytes.bytes, cases[i].bytes.len, &s), cases[i].result);
		if (cases[i].result > 0)
			assert_int_equal(s.kind, cases[i].kind);
	}
}

static void test_reads_parameters(void **state)
{
	static const struct slice packet =
		PACKET("\75\0\3\0\2user\0app\0_pq_.x\0on\0user\0other\0options\0-c a=b\0empty\0\0\0");
	struct startup s;

	assert_int_equal(startup_read(packet.bytes, packet.len, &s), packet.len);
	assert_int_equal(s.major, 3);
	assert_int_equal(s.minor, 2);
	assert_int_equal(s.parameter_count, 4);
	assert_int_equal(s.protocol_option_count, 1);
	assert_slice_is(s.protocol_options[0], "_pq_.x");
	assert_string_equal(startup_get(&s, "user"), "other");
	assert_string_equal(startup_get(&s, "options"), "-c a=b");
	assert_string_equal(startup_get(&s, "empty"), "");
	assert_null(startup_get(&s, "database"));
}

static void test_reads_cancel_keys(void **state)
{
	uint8_t packet[12 + CANCEL_KEY_MAX + 1] = {0, 0, 0, 0, 0x04, 0xd2, 0x16, 0x2e, 0, 0, 1, 2, 'k'};
	struct startup s;

	put_be32(packet, 12 + CANCEL_KEY_MAX);
	assert_int_equal(startup_read(packet, sizeof(packet), &s), 12 + CANCEL_KEY_MAX);
	assert_int_equal(s.cancel_pid, 0x102);
	assert_int_equal(s.cancel_key.len, CANCEL_KEY_MAX);
	assert_int_equal(s.cancel_key.bytes[0], 'k');
	put_be32(packet, 12 + CANCEL_KEY_MAX + 1);
	assert_int_equal(startup_read(packet, sizeof(packet), &s), -EPROTO);
}

static int packet_of_many(uint8_t *packet, const char *pair, size_t pair_len, unsigned count, struct startup *s)
{
	size_t len = 8;

	put_be32(packet + 4, 3u << 16);
	for (unsigned i = 0; i < count; i++, len += pair_len)
		memcpy(packet + len, pair, pair_len);
	packet[len++] = 0;
	put_be32(packet, (uint32_t)len);
	return startup_read(packet, len, s);
}

static void test_limits_parameters(void **state)
{
	static uint8_t packet[STARTUP_MAX];
	struct startup s;

	assert_true(packet_of_many(packet, "a\0b", 4, STARTUP_PARAMETERS_MAX, &s) > 0);
	assert_int_equal(s.parameter_count, STARTUP_PARAMETERS_MAX);
	assert_int_equal(packet_of_many(packet, "a\0b", 4, STARTUP_PARAMETERS_MAX + 1, &s), -EPROTO);
	assert_true(packet_of_many(packet, "_pq_.a\0", 8, STARTUP_PARAMETERS_MAX, &s) > 0);
	assert_int_equal(packet_of_many(packet, "_pq_.a\0", 8, STARTUP_PARAMETERS_MAX + 1, &s), -EPROTO);
}

/* ------------------------------------------------------------------ options */

static int add_setting(void *to, const char *name, const char *value)
{
	buf_printf(to, "%s=%s;", name, value);
	return strcmp(name, "refused") == 0 ? -EPERM : 0;
}

static void test_splits_options(void **state)
{
	static const struct {
		const char *options;
		int result;
		const char *settings, *bad;
	} cases[] = {
		{"", 0, "", NULL},
		{"  \t\n ", 0, "", NULL},
		{"-c geqo=off", 0, "geqo=off;", NULL},
		{"-cgeqo=off --work-mem=64MB", 0, "geqo=off;work_mem=64MB;", NULL},
		{"  --a-b-c=d-e-f\t-c\nx=  ", 0, "a_b_c=d-e-f;x=;", NULL},
		{"-c search_path=a,\\ b --x=\\\\y", 0, "search_path=a, b;x=\\y;", NULL},
		{"-c a=b=c", 0, "a=b=c;", NULL},
		{"-c a=b\\", 0, "a=b;", NULL},
		{"-c a=b -c", -EINVAL, "a=b;", "-c"},
		{"-c geqo", -EINVAL, "", "geqo"},
		{"-c =x", -EINVAL, "", "=x"},
		{"--", 0, "", NULL},
		{"-c a=b --", 0, "a=b;", NULL},
		{"-- -c a=b", -EINVAL, "", "-c"},
		{"--=x", -EINVAL, "", "--=x"},
		{"-", -EINVAL, "", "-"},
		{"-d 5", -EINVAL, "", "-d"},
		{"\\", -EINVAL, "", ""},
		{"a=b", -EINVAL, "", "a=b"},
		{"-c refused=1 -c a=b", -EPERM, "refused=1;", "refused=1"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct buf settings = BUF_INIT(4096);
		char bad[64] = "";

		assert_int_equal(startup_split_options(cases[i].options, add_setting, &settings, bad, sizeof(bad)),
				 cases[i].result);
		assert_string_equal(buf_cstr(&settings), cases[i].settings);
		if (cases[i].bad)
			assert_string_equal(bad, cases[i].bad);
		buf_free(&settings);
	}
}

static void test_splits_long_options(void **state)
{
	static char options[STARTUP_MAX + 64];
	struct buf settings = BUF_INIT(2 * STARTUP_MAX);
	char bad[8];

	snprintf(options, sizeof(options), "-c a=");
	memset(options + 5, 'x', STARTUP_MAX - 10);
	assert_int_equal(startup_split_options(options, add_setting, &settings, bad, sizeof(bad)), 0);
	memset(options + 5, 'x', STARTUP_MAX + 10);
	assert_int_equal(startup_split_options(options, add_setting, &settings, bad, sizeof(bad)), -EINVAL);
	assert_string_equal(bad, "a=xxxxx");
	buf_free(&settings);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reads_requests),    cmocka_unit_test(test_reads_parameters),
		cmocka_unit_test(test_reads_cancel_keys), cmocka_unit_test(test_limits_parameters),
		cmocka_unit_test(test_splits_options),    cmocka_unit_test(test_splits_long_options),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
