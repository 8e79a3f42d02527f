/*
 * Unit tests: messages are what the protocol's manual says, byte for byte; errors are read back whatever they hold.
 */
#include "wire/test.h"

#include "wire/errors.h"
#include "wire/frame.h"
#include "wire/message.h"

#define BUF_MAX 65536

static void test_backend_messages(void **state)
{
	const struct slice options[] = {SLICE_LITERAL("_pq_.x"), SLICE_LITERAL("_pq_.y")};
	struct buf b = BUF_INIT(BUF_MAX);

	message_auth_ok(&b);
	assert_buf_is(&b, "R\0\0\0\10\0\0\0\0");
	buf_clear(&b);
	message_parameter_status(&b, "TimeZone", "UTC");
	assert_buf_is(&b, "S\0\0\0\21TimeZone\0UTC\0");
	buf_clear(&b);
	message_backend_key(&b, 0x01020304, SLICE_LITERAL("abcd"));
	assert_buf_is(&b, "K\0\0\0\14\1\2\3\4"
			  "abcd");
	buf_clear(&b);
	message_ready(&b, 'T');
	assert_buf_is(&b, "Z\0\0\0\5T");
	buf_clear(&b);
	message_command_complete(&b, "SELECT 1");
	assert_buf_is(&b, "C\0\0\0\15SELECT 1\0");
	buf_clear(&b);
	message_negotiate_version(&b, 2, options, ARRAY_SIZE(options));
	assert_buf_is(&b, "v\0\0\0\32\0\3\0\2\0\0\0\2_pq_.x\0_pq_.y\0");
	buf_free(&b);
}

static void test_rows(void **state)
{
	const char *const names[] = {"a", "b"};
	const char *const values[] = {"", NULL};
	struct buf b = BUF_INIT(BUF_MAX);

	message_row_description(&b, names, 2);
	assert_buf_is(&b, "T\0\0\0\56\0\2"
			  "a\0\0\0\0\0\0\0\0\0\0\31\377\377\377\377\377\377\0\0"
			  "b\0\0\0\0\0\0\0\0\0\0\31\377\377\377\377\377\377\0\0");
	buf_clear(&b);
	message_data_row(&b, values, 2);
	assert_buf_is(&b, "D\0\0\0\16\0\2\0\0\0\0\377\377\377\377");
	buf_free(&b);
}

static void test_frontend_messages(void **state)
{
	const char *const names[] = {"user", "database"}, *const values[] = {"app", "shop"};
	const uint32_t types[] = {23, 25};
	struct buf b = BUF_INIT(BUF_MAX);

	message_startup(&b, 2, names, values, 2);
	assert_buf_is(&b, "\0\0\0\40\0\3\0\2user\0app\0database\0shop\0\0");
	buf_clear(&b);
	message_ssl_request(&b);
	assert_buf_is(&b, "\0\0\0\10\4\322\26\57");
	buf_clear(&b);
	message_cancel_request(&b, 1, SLICE_LITERAL("abcd"));
	assert_buf_is(&b, "\0\0\0\20\4\322\26\56\0\0\0\1"
			  "abcd");
	buf_clear(&b);
	message_query(&b, SLICE_LITERAL("SELECT 1"));
	assert_buf_is(&b, "Q\0\0\0\15SELECT 1\0");
	buf_clear(&b);
	message_parse(&b, "s", SLICE_LITERAL("q"), types, 2);
	assert_buf_is(&b, "P\0\0\0\22s\0q\0\0\2\0\0\0\27\0\0\0\31");
	buf_clear(&b);
	message_close(&b, 'S', "s");
	message_sync(&b);
	message_terminate(&b);
	message_password(&b, "x");
	assert_buf_is(&b, "C\0\0\0\7Ss\0S\0\0\0\4X\0\0\0\4p\0\0\0\6x\0");
	buf_free(&b);
}

/* What can't be sent as it is isn't sent at all. */
static void test_refuses_to_build(void **state)
{
	struct buf b = BUF_INIT(BUF_MAX), small = BUF_INIT(8);

	message_query(&b, slice_make("a\0b", 3));
	assert_true(b.failed);
	buf_clear(&b);
	message_data_row(&b, NULL, 0);
	assert_buf_is(&b, "D\0\0\0\6\0\0");
	message_query(&small, SLICE_LITERAL("longer than the buffer"));
	assert_true(small.failed);
	buf_free(&b);
	buf_free(&small);
}

static void test_error_is_read_back(void **state)
{
	struct buf b = BUF_INIT(BUF_MAX);
	struct error_fields e;
	struct frame f = {0};

	message_error(&b, "FATAL", "53300", "too many", "a detail", "a hint");
	assert_int_equal(frame_read(b.bytes, b.len, &f), FRAME_WHOLE);
	assert_int_equal(f.type, 'E');
	assert_true(message_read_error(f.body, f.body_len, &e));
	assert_slice_is(e.severity, "FATAL");
	assert_slice_is(e.sqlstate, "53300");
	assert_slice_is(e.message, "too many");
	assert_slice_is(e.detail, "a detail");
	assert_slice_is(e.hint, "a hint");
	assert_slice_is(e.routine, "");
	buf_clear(&b);
	message_notice(&b, "WARNING", "01000", "careful", NULL);
	assert_int_equal(frame_read(b.bytes, b.len, &f), FRAME_WHOLE);
	assert_int_equal(f.type, 'N');
	assert_true(message_read_error(f.body, f.body_len, &e));
	assert_slice_is(e.hint, "");
	buf_free(&b);
}

static void test_reads_errors_of_any_shape(void **state)
{
	static const struct {
		struct slice body;
		bool well_formed;
		const char *severity, *sqlstate;
	} cases[] = {
		{SLICE_LITERAL("SFEHLER\0VERROR\0C42601\0Mtext\0\0"), true, "ERROR", "42601"},
		{SLICE_LITERAL("SERROR\0\0"), true, "ERROR", ""},
		{SLICE_LITERAL("?new\0Rroutine\0\0"), true, "", ""},
		{SLICE_LITERAL("\0"), true, "", ""},
		{SLICE_LITERAL(""), false, NULL, NULL},
		{SLICE_LITERAL("SERROR\0"), false, NULL, NULL},
		{SLICE_LITERAL("SERROR"), false, NULL, NULL},
		{SLICE_LITERAL("SERROR\0\0more"), false, NULL, NULL},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct error_fields e;

		assert_int_equal(message_read_error(cases[i].body.bytes, cases[i].body.len, &e), cases[i].well_formed);
		if (!cases[i].well_formed)
			continue;
		assert_slice_is(e.severity, cases[i].severity);
		assert_slice_is(e.sqlstate, cases[i].sqlstate);
		assert_non_null(e.hint.bytes);
	}
}

static void test_error_with_another_severity(void **state)
{
	static const struct {
		struct slice body;
		bool well_formed;
		struct slice expected; /* without type and length */
	} cases[] = {
		{SLICE_LITERAL("SFATAL\0VFATAL\0C57P03\0Mtext\0\0"), true,
		 SLICE_LITERAL("SERROR\0VERROR\0C57P03\0Mtext\0\0")},
		{SLICE_LITERAL("SFATAL\0C57P03\0\0"), true, SLICE_LITERAL("SERROR\0VERROR\0C57P03\0\0")},
		{SLICE_LITERAL("C3D000\0SFEHLER\0Mm\0Dd\0Hh\0P1\0p2\0qq\0Ww\0st\0dt\0nn\0Ff\0L3\0RR\0?new\0VERROR\0\0"),
		 true,
		 SLICE_LITERAL("SERROR\0VERROR\0C3D000\0Mm\0Dd\0Hh\0P1\0p2\0qq\0Ww\0st\0dt\0nn\0Ff\0L3\0RR\0?new\0\0")},
		{SLICE_LITERAL("M\0\0"), true, SLICE_LITERAL("SERROR\0VERROR\0M\0\0")},
		{SLICE_LITERAL("\0"), true, SLICE_LITERAL("SERROR\0VERROR\0\0")},
		{SLICE_LITERAL(""), false},
		{SLICE_LITERAL("SFATAL\0"), false},
		{SLICE_LITERAL("SFATAL"), false},
		{SLICE_LITERAL("SFATAL\0\0more"), false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct buf in = BUF_INIT(BUF_MAX), out = BUF_INIT(BUF_MAX);
		struct frame f = {0};
		size_t at = message_begin(&in, 'E');

		buf_add(&in, cases[i].body.bytes, cases[i].body.len);
		message_end(&in, at);
		buf_add_str(&out, "before");
		assert_int_equal(message_error_as(&out, in.bytes, in.len, "ERROR"), cases[i].well_formed);
		if (cases[i].well_formed) {
			assert_int_equal(frame_read(out.bytes + 6, out.len - 6, &f), FRAME_WHOLE);
			assert_int_equal(f.type, 'E');
			assert_int_equal(f.body_len, cases[i].expected.len);
			assert_memory_equal(f.body, cases[i].expected.bytes, cases[i].expected.len);
		} else {
			assert_buf_is(&out, "before");
		}
		for (size_t cut = 0; cut < in.len; cut++) /* not whole: the frame's length is looked at, too */
			assert_false(message_error_as(&out, in.bytes, cut, "ERROR"));
		in.bytes[0] = 'N';
		assert_false(message_error_as(&out, in.bytes, in.len, "ERROR"));
		buf_free(&in);
		buf_free(&out);
	}
}

/* Texts of any length are kept whole, as long as the buf takes them. */
static void test_error_with_another_severity_is_not_cut(void **state)
{
	struct buf in = BUF_INIT(BUF_MAX), out = BUF_INIT(BUF_MAX), small = BUF_INIT(1000);
	struct error_fields e;
	char text[30001];

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	message_error(&in, "FATAL", "XX000", text, "detail", "hint");
	assert_false(in.failed);
	assert_true(message_error_as(&out, in.bytes, in.len, "ERROR"));
	assert_true(message_read_error(out.bytes + FRAME_HEADER, out.len - FRAME_HEADER, &e));
	assert_slice_is(e.severity, "ERROR");
	assert_slice_is(e.message, text);
	assert_slice_is(e.hint, "hint");
	assert_true(message_error_as(&small, in.bytes, in.len, "ERROR"));
	assert_true(small.failed);
	buf_free(&in);
	buf_free(&out);
	buf_free(&small);
}

/* ------------------------------------------------------------------ errors.def */

static void test_error_table_is_sound(void **state)
{
	for (unsigned id = 0; id < PROXY_ERROR_COUNT; id++) {
		const struct proxy_error_info *info = proxy_error_info(id);

		assert_true(strcmp(info->severity, "ERROR") == 0 || strcmp(info->severity, "FATAL") == 0 ||
			    strcmp(info->severity, "NOTICE") == 0);
		assert_int_equal(info->fatal, info->severity[0] == 'F');
		assert_int_equal(strlen(info->sqlstate), 5);
		assert_int_equal(strspn(info->sqlstate, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"), 5);
		assert_true(*info->message && *info->hint && *info->when && *info->name);
		for (const char *c = strchr(info->message, '%'); c; c = strchr(c + 1, '%'))
			assert_true(c[1] == 's' || c[1] == 'u');
	}
}

static void test_error_message(void **state)
{
	struct buf b = BUF_INIT(BUF_MAX);
	struct error_fields e;

	error_message(&b, ERROR_PASSWORD_FAILED, NULL, "app");
	assert_true(message_read_error(b.bytes + FRAME_HEADER, b.len - FRAME_HEADER, &e));
	assert_slice_is(e.severity, "FATAL");
	assert_slice_is(e.sqlstate, "28P01");
	assert_slice_is(e.message, "password authentication failed for user \"app\"");
	assert_slice_is(e.detail, "");
	assert_true(e.hint.len > 0);
	buf_free(&b);
}

/* A name of any length makes a bounded text, cut between characters. */
static void test_error_message_is_bounded(void **state)
{
	struct buf b = BUF_INIT(BUF_MAX);
	struct error_fields e;
	char name[4096] = "";

	for (size_t lead = 0; lead < 3; lead++) {
		memset(name, 'x', lead);
		for (size_t i = lead; i + 4 <= sizeof(name); i += 3)
			memcpy(name + i, "\xe2\x82\xac", 4);
		buf_clear(&b);
		error_message(&b, ERROR_NO_SUCH_DATABASE, "detail", name);
		assert_true(message_read_error(b.bytes + FRAME_HEADER, b.len - FRAME_HEADER, &e));
		assert_in_range(e.message.len, 1019, 1023);
		assert_memory_equal(e.message.bytes + e.message.len - 3, "\xe2\x82\xac", 3);
	}
	buf_free(&b);
}

struct taken {
	char types[8];
	size_t count, most;
};

static bool take(void *to, const struct frame *f)
{
	struct taken *t = to;

	t->types[t->count++] = (char)f->type;
	return t->count < t->most;
}

static void test_frames_are_taken_when_whole(void **state)
{
	static const uint8_t bytes[] = "A\0\0\0\4B\0\0\0\6xyC\0\0\0\4";
	static const size_t ends[] = {5, 12, 17};
	size_t done = 0;

	(void)state;
	for (size_t len = 0; len < sizeof(bytes); len++) { /* however much has come */
		struct taken t = {.most = 8};
		size_t whole = 0;

		while (whole < ARRAY_SIZE(ends) && ends[whole] <= len)
			whole++;
		assert_true(frames_take(bytes, len, 2, take, &t, &done));
		assert_int_equal(done, whole ? ends[whole - 1] : 0);
		assert_int_equal(t.count, whole);
		assert_memory_equal(t.types, "ABC", whole);
	}
	for (size_t most = 1; most <= ARRAY_SIZE(ends); most++) { /* and no more than is wanted */
		struct taken t = {.most = most};

		assert_true(frames_take(bytes, sizeof(bytes) - 1, 2, take, &t, &done));
		assert_int_equal(done, ends[most - 1]);
		assert_int_equal(t.count, most);
	}
	for (size_t len = 10; len < sizeof(bytes); len++) { /* too long: that is known from its head on */
		struct taken t = {.most = 8};

		assert_false(frames_take(bytes, len, 1, take, &t, &done));
		assert_int_equal(t.count, 1);
	}
	assert_false(frames_take((const uint8_t *)"A\0\0\0\3", 5, 2, take, &(struct taken){.most = 8}, &done));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_backend_messages),
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_frontend_messages),
		cmocka_unit_test(test_refuses_to_build),
		cmocka_unit_test(test_error_is_read_back),
		cmocka_unit_test(test_reads_errors_of_any_shape),
		cmocka_unit_test(test_error_with_another_severity),
		cmocka_unit_test(test_error_with_another_severity_is_not_cut),
		cmocka_unit_test(test_error_table_is_sound),
		cmocka_unit_test(test_error_message),
		cmocka_unit_test(test_error_message_is_bounded),
		cmocka_unit_test(test_frames_are_taken_when_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
