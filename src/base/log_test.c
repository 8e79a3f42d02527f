/* Log lines as others read them, and a log that never waits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log_priv.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define WALL 1795441345123456ull /* 2026-11-23 13:42:25.123 UTC */
#define END  ((struct kv){.type = KV_END})

static char path[] = "/tmp/log_test_XXXXXX";
static char moved[sizeof(path) + 2];

/* ---- the form of a line ---- */

static const char *format_line(enum log_format format, const char *message, const struct kv *pairs)
{
	static char line[LOG_LINE_MAX + 1];

	line[log_line_format(line, format, LOG_WARN, WALL, message, pairs)] = '\0';
	return line;
}

static void values_are_escaped(void **state UNUSED)
{
	static const struct {
		const char *value, *text, *json;
	} cases[] = {
		{"app", "app", "\"app\""},
		{"", "\"\"", "\"\""},
		{"two words", "\"two words\"", "\"two words\""},
		{"a=b", "\"a=b\"", "\"a=b\""},
		{"say \"x\"", "\"say \\\"x\\\"\"", "\"say \\\"x\\\"\""},
		{"back\\slash", "\"back\\\\slash\"", "\"back\\\\slash\""},
		{"x\n2026-11-23 forged", "\"x\\n2026-11-23 forged\"", "\"x\\n2026-11-23 forged\""},
		{"tab\tcr\r", "\"tab\\tcr\\r\"", "\"tab\\tcr\\r\""},
		{"esc\x1b[2J", "\"esc\\x1b[2J\"", "\"esc\\u001b[2J\""},
		{"del\x7f", "\"del\\x7f\"", "\"del\\u007f\""},
		{"gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f", "\"gr\xc3\xbc\xc3\x9f\""},
		{"\xf0\x9f\x90\x98", "\xf0\x9f\x90\x98", "\"\xf0\x9f\x90\x98\""},
		{"bad\xff", "\"bad\\xff\"", "\"bad\\ufffd\""},
		{"cut\xc3", "\"cut\\xc3\"", "\"cut\\ufffd\""},
		{"\xc0\xaf", "\"\\xc0\\xaf\"", "\"\\ufffd\\ufffd\""}, /* overlong */
		{"\xe0\x80\xaf", "\"\\xe0\\x80\\xaf\"", "\"\\ufffd\\ufffd\\ufffd\""},
		{"\xed\xa0\x80", "\"\\xed\\xa0\\x80\"", "\"\\ufffd\\ufffd\\ufffd\""}, /* surrogate */
		{"\xc2\x85", "\"\\xc2\\x85\"", "\"\\ufffd\\ufffd\""},                 /* C1: next line */
		{"\xe2\x80\xa8", "\"\\xe2\\x80\\xa8\"", "\"\\ufffd\\ufffd\\ufffd\""}, /* line separator */
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct kv pairs[] = {kv_str("user", cases[i].value), kv_str("none", NULL), kv_uint("n", 7), END};
		char expected[256];

		snprintf(expected, sizeof(expected), "2026-11-23 13:42:25.123 UTC warning login refused user=%s n=7\n",
			 cases[i].text);
		assert_string_equal(format_line(LOG_FORMAT_TEXT, "login refused", pairs), expected);
		snprintf(expected, sizeof(expected),
			 "{\"ts\":\"2026-11-23T13:42:25.123Z\",\"level\":\"warning\",\"msg\":\"login refused\","
			 "\"user\":%s,\"n\":7}\n",
			 cases[i].json);
		assert_string_equal(format_line(LOG_FORMAT_JSON, "login refused", pairs), expected);
	}
}

static void messages_are_escaped_and_numbers_are_not(void **state UNUSED)
{
	const struct kv pairs[] = {kv_int("i", INT64_MIN), kv_uint("u", UINT64_MAX),
				   kv_slice("s", slice_make("a\0b", 3)), END};

	assert_string_equal(format_line(LOG_FORMAT_TEXT, "a\nb \"c\"", pairs),
			    "2026-11-23 13:42:25.123 UTC warning a\\nb \"c\" i=-9223372036854775808 "
			    "u=18446744073709551615 s=\"a\\x00b\"\n");
	assert_string_equal(format_line(LOG_FORMAT_JSON, "a\nb \"c\"", pairs),
			    "{\"ts\":\"2026-11-23T13:42:25.123Z\",\"level\":\"warning\",\"msg\":\"a\\nb \\\"c\\\"\","
			    "\"i\":-9223372036854775808,\"u\":18446744073709551615,\"s\":\"a\\u0000b\"}\n");
}

/* Whatever the length, a line ends as it must: the value is cut, what is behind it left out. */
static void long_lines_are_cut(void **state UNUSED)
{
	static char value[2 * LOG_LINE_MAX];

	for (size_t len = LOG_LINE_MAX - 200; len < sizeof(value) - 1; len += len < LOG_LINE_MAX + 20 ? 1 : 997) {
		static const char fillers[] = {'x', '\x01', '"'};

		for (size_t f = 0; f < ARRAY_SIZE(fillers); f++) {
			const struct kv pairs[] = {kv_str("long", value), kv_str("user", "app"), kv_uint("n", 1), END};

			memset(value, fillers[f], len);
			value[len] = '\0';
			for (int format = 0; format < 2; format++) {
				const char *line = format_line((enum log_format)format, "m", pairs);
				size_t n = strlen(line);

				assert_true(n <= LOG_LINE_MAX);
				assert_ptr_equal(strchr(line, '\n'), line + n - 1);
				if (format == LOG_FORMAT_JSON)
					assert_int_equal(line[n - 2], '}');
				if (len > LOG_LINE_MAX)
					assert_non_null(strstr(line, "..."));
			}
		}
	}
}

static void levels_have_names(void **state UNUSED)
{
	enum log_level level = LOG_INFO;

	assert_int_equal(log_level_parse("warning", &level), 0);
	assert_int_equal(level, LOG_WARN);
	assert_int_equal(log_level_parse("warn", &level), 0);
	assert_int_equal(log_level_parse("trace", &level), 0);
	assert_int_equal(level, LOG_TRACE);
	assert_int_equal(log_level_parse("loud", &level), -EINVAL);
	assert_int_equal(level, LOG_TRACE);
}

/* ---- the file ---- */

static void read_file(const char *from, struct buf *into)
{
	int fd = open(from, O_RDONLY);
	ssize_t n;

	assert_true(fd >= 0);
	buf_clear(into);
	while ((n = read(fd, buf_reserve(into, 1 << 16), 1 << 16)) > 0)
		into->len += (size_t)n;
	close(fd);
}

static size_t lines_of(const struct buf *b)
{
	size_t lines = 0;

	for (size_t i = 0; i < b->len; i++)
		lines += b->bytes[i] == '\n';
	return lines;
}

static void *write_many(void *argument UNUSED)
{
	char name[200];

	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	for (unsigned int i = 0; i < 20000; i++)
		log_info("many", kv_uint("i", i), kv_str("name", name + i % 190));
	return NULL;
}

/* More than the ring holds: some lines may be dropped, those that are there are whole, and the sum is right. */
static void lines_of_many_threads_are_whole(void **state UNUSED)
{
	struct buf b = BUF_INIT(1 << 28);
	pthread_t threads[4];
	size_t reported = 0, many = 0;
	uint64_t dropped = log_dropped();
	char *line, *end;

	assert_int_equal(log_start(path, LOG_FORMAT_TEXT, LOG_INFO), 0);
	log_debug("below the level");
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, write_many, NULL), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	usleep(200000); /* there is room again: what was dropped is said with the next line */
	log_info("the last");
	log_stop();
	read_file(path, &b);
	assert_null(strstr(buf_cstr(&b), "below"));
	assert_non_null(strstr(buf_cstr(&b), " UTC info the last\n"));
	for (line = (char *)b.bytes; (end = strchr(line, '\n')); line = end + 1) {
		unsigned long n;

		*end = '\0';
		assert_memory_equal(line, "20", 2);
		if (strstr(line, " info many i=")) {
			assert_int_equal(line[strlen(line) - 1], 'n');
			many++;
		} else if (sscanf(line, "%*s %*s UTC warning log lines were dropped lines=%lu", &n) == 1) {
			reported += n;
		}
	}
	dropped = log_dropped() - dropped;
	assert_int_equal(many + dropped, 80000);
	assert_int_equal(reported, dropped);
	buf_free(&b);
}

/* The lines are written by a thread. */
static void wait_for_lines(const char *file, uint32_t count)
{
	struct buf b = BUF_INIT(1 << 20);

	for (int i = 0; i < 10000; i++) {
		read_file(file, &b);
		if (lines_of(&b) >= count)
			break;
		usleep(1000);
	}
	assert_int_equal(lines_of(&b), count);
	buf_free(&b);
}

static void reopening_after_a_rotation(void **state UNUSED)
{
	struct buf b = BUF_INIT(1 << 20);

	unlink(path);
	assert_int_equal(log_start(path, LOG_FORMAT_JSON, LOG_TRACE), 0);
	log_trace("before");
	wait_for_lines(path, 1);
	assert_int_equal(rename(path, moved), 0);
	log_info("still the old one");
	wait_for_lines(moved, 2);
	log_reopen();
	log_info("the new one");
	log_stop();
	log_info("last words");
	read_file(moved, &b);
	assert_int_equal(lines_of(&b), 2);
	read_file(path, &b);
	assert_int_equal(lines_of(&b), 2);
	assert_non_null(strstr(buf_cstr(&b), "\"msg\":\"the new one\"}\n"));
	assert_non_null(strstr(buf_cstr(&b), "\"msg\":\"last words\"}\n"));
	buf_free(&b);
}

static void a_full_disk_costs_lines_only(void **state UNUSED)
{
	struct buf b = BUF_INIT(1 << 20);
	uint64_t dropped = log_dropped();

	unlink(path);
	assert_int_equal(symlink("/dev/full", path), 0);
	assert_int_equal(log_start(path, LOG_FORMAT_TEXT, LOG_INFO), 0);
	for (int i = 0; i < 100; i++)
		log_error("nowhere to go");
	for (int i = 0; i < 1000 && log_dropped() - dropped < 100; i++)
		usleep(1000);
	assert_int_equal(log_dropped() - dropped, 100);
	unlink(path); /* room again */
	log_reopen();
	log_info("it works");
	log_stop();
	read_file(path, &b);
	assert_int_equal(lines_of(&b), 2);
	assert_non_null(strstr(buf_cstr(&b), "info it works\n"));
	assert_non_null(strstr(buf_cstr(&b), "warning log lines were dropped lines=100\n"));
	buf_free(&b);
}

static void a_log_that_cannot_be_opened(void **state UNUSED)
{
	assert_int_equal(log_start("/nonexistent/log", LOG_FORMAT_TEXT, LOG_INFO), -ENOENT);
	log_stop();
}

/* A reader that stopped reading, as of a pipe to a logger: nobody but the writer waits for it. */
static void a_stuck_reader_holds_nobody_up(void **state UNUSED)
{
	uint64_t dropped = log_dropped();
	int reader;
	char bytes[4096];

	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	reader = open(path, O_RDONLY | O_NONBLOCK);
	assert_true(reader >= 0);
	assert_int_equal(log_start(path, LOG_FORMAT_TEXT, LOG_INFO), 0);
	for (int i = 0; i < 40000; i++)
		log_info("into the pipe", kv_int("i", i));
	assert_true(log_dropped() > dropped);
	assert_int_equal(fcntl(reader, F_SETFL, 0), 0);
	dropped = 0;
	for (ssize_t n; dropped < 100000 && (n = read(reader, bytes, sizeof(bytes))) > 0;)
		dropped += (uint64_t)n;
	close(reader); /* the writer meets EPIPE, not SIGPIPE */
	log_info("nobody reads this");
	log_stop();
}

static void floods_are_limited(void **state UNUSED)
{
	struct log_limit limit = {0};
	uint32_t suppressed = 99;
	int passed = 0;

	clock_update();
	for (int i = 0; i < 100; i++)
		passed += log_limit_pass(&limit, 3, USEC_PER_SEC, &suppressed);
	assert_int_equal(passed, 3);
	assert_int_equal(suppressed, 0);
	clock_advance(2 * USEC_PER_SEC);
	clock_update();
	assert_true(log_limit_pass(&limit, 3, USEC_PER_SEC, &suppressed));
	assert_int_equal(suppressed, 97);
	assert_true(log_limit_pass(&limit, 3, USEC_PER_SEC, &suppressed));
	assert_int_equal(suppressed, 0);
}

static int make_path(void **state UNUSED)
{
	int fd = mkstemp(path);

	snprintf(moved, sizeof(moved), "%s.1", path);
	return fd < 0 ? -1 : close(fd);
}

static int remove_path(void **state UNUSED)
{
	unlink(path);
	unlink(moved);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_are_escaped),
		cmocka_unit_test(messages_are_escaped_and_numbers_are_not),
		cmocka_unit_test(long_lines_are_cut),
		cmocka_unit_test(levels_have_names),
		cmocka_unit_test(lines_of_many_threads_are_whole),
		cmocka_unit_test(reopening_after_a_rotation),
		cmocka_unit_test(a_full_disk_costs_lines_only),
		cmocka_unit_test(a_log_that_cannot_be_opened),
		cmocka_unit_test(a_stuck_reader_holds_nobody_up),
		cmocka_unit_test(floods_are_limited),
	};

	return cmocka_run_group_tests(tests, make_path, remove_path);
}
