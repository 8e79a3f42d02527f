/* Server-sent events, however the bytes are cut. */
#include "client/sse.h"

#include "wire/test.h"

#include <stdio.h>

struct told {
	char text[512];
	int count, stop_after;
};

static bool tell(void *argument, const struct sse *sse)
{
	struct told *t = argument;
	size_t len = strlen(t->text);

	snprintf(t->text + len, sizeof(t->text) - len, "%s|%s|%.*s;", sse->id, sse->event, (int)sse->data.len,
		 (const char *)sse->data.bytes);
	return ++t->count != t->stop_after;
}

static const struct row {
	const char *bytes, *told;
} rows[] = {
	{"data: a\n\n", "||a;"},
	{"data:a\n\ndata: b\n\n", "||a;||b;"},
	{"id: 7\nevent: node.down\ndata: {\"x\":1}\n\n", "7|node.down|{\"x\":1};"},
	{": heartbeat\n\n: another\n\ndata: a\n\n", "||a;"},
	{"data: a\ndata: b\n\n", "||a\nb;"},
	{"data: a\r\n\r\ndata: b\r\rdata: c\n\n", "||a;||b;||c;"},
	{"id: 1\ndata: a\n\nevent: k\n\ndata: b\n\n", "1||a;1||b;"}, /* the id stays, the event's name does not */
	{"event: without data\n\n", ""},
	{"data\n\n", "||;"},
	{"nothing known: x\nretry: 5\ndata: a\n\n", "||a;"},
	{"data: half", ""},
	{"data:  two\n\n", "|| two;"}, /* one blank is the field's */
};

/* Whole, and in two pieces at every place. */
static void test_reads_events(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		size_t len = strlen(rows[i].bytes);

		for (size_t cut = 0; cut <= len; cut++) {
			struct told told = {0};
			struct sse sse;

			sse_init(&sse, tell, &told);
			assert_true(sse_read(&sse, rows[i].bytes, cut));
			assert_true(sse_read(&sse, rows[i].bytes + cut, len - cut));
			assert_string_equal(told.text, rows[i].told);
			sse_free(&sse);
		}
	}
}

static void test_stops_when_told_to(void **state)
{
	struct told told = {.stop_after = 1};
	struct sse sse;

	sse_init(&sse, tell, &told);
	assert_false(sse_read(&sse, "data: a\n\ndata: b\n\n", 18));
	assert_int_equal(told.count, 1);
	sse_free(&sse);
}

static void test_begins_anew_and_keeps_the_id(void **state)
{
	struct told told = {0};
	struct sse sse;

	sse_init(&sse, tell, &told);
	assert_true(sse_read(&sse, "id: 5\ndata: a\n\ndata: half", 24));
	sse_begin(&sse);
	assert_true(sse_read(&sse, "data: b\n\n", 9));
	assert_string_equal(told.text, "5||a;5||b;");
	sse_free(&sse);
}

static void test_is_bounded(void **state)
{
	static char line[4096];
	struct told told = {0};
	struct sse sse;
	size_t fed = 0;

	memset(line, 'x', sizeof(line));
	sse_init(&sse, tell, &told);
	while (sse_read(&sse, line, sizeof(line))) {
		fed += sizeof(line);
		assert_true(fed <= SSE_LINE_MAX);
	}
	sse_free(&sse);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reads_events),
		cmocka_unit_test(test_stops_when_told_to),
		cmocka_unit_test(test_begins_anew_and_keeps_the_id),
		cmocka_unit_test(test_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
