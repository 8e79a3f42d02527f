/* What texts on the console mean. */
#include "console/command.h"

#include "wire/test.h"

struct row {
	const char *text;
	int r;
	enum command_verb verb;
	const char *name, *value, *tag;
};

static const struct row rows[] = {
	{"", 0, COMMAND_EMPTY, "", "", ""},
	{";", 0, COMMAND_EMPTY, "", "", ""},
	{"-- ping", 0, COMMAND_EMPTY, "", "", ""},
	{" /* x */ ; -- y", 0, COMMAND_EMPTY, "", "", ""},
	{"SHOW POOLS", 0, COMMAND_SHOW, "POOLS", "", "SHOW"},
	{"show pools;", 0, COMMAND_SHOW, "pools", "", "SHOW"},
	{"\n\tShow\r\n \"pools\" ; ", 0, COMMAND_SHOW, "pools", "", "SHOW"},
	{"/* who */ show /* what */ lists -- why", 0, COMMAND_SHOW, "lists", "", "SHOW"},
	{"select lists", 0, COMMAND_SHOW, "lists", "", "SHOW"},
	{"SELECT 1", 0, COMMAND_SELECT_ONE, "1", "", "SELECT 1"},
	{"show", -EINVAL, COMMAND_EMPTY, "", "", ""},
	{"show pools lists", -EINVAL, COMMAND_EMPTY, "", "", ""},
	{"show pools; show lists", -EINVAL, COMMAND_EMPTY, "", "", ""},
	{"show pools;;", -EINVAL, COMMAND_EMPTY, "", "", ""},
	{"showpools", -EINVAL, COMMAND_EMPTY, "", "", ""},
	{"show /* never closed", -EINVAL, COMMAND_EMPTY, "", "", ""},
	{"/*", -EINVAL, COMMAND_EMPTY, "", "", ""},
	{"select 1 + 1", -EINVAL, COMMAND_EMPTY, "", "", ""},
	{"PAUSE", 0, COMMAND_PAUSE, "", "", "PAUSE"},
	{"PAUSE shop;", 0, COMMAND_PAUSE, "shop", "", "PAUSE"},
	{"PAUSE \"My \"\"Shop\"\"\"", 0, COMMAND_PAUSE, "My \"Shop\"", "", "PAUSE"},
	{"PAUSE \"shop", -EINVAL, COMMAND_EMPTY, "", "", ""},
	{"PAUSE a-b", -EINVAL, COMMAND_EMPTY, "", "", ""},
	{"PAUSE 'shop'", -EINVAL, COMMAND_EMPTY, "", "", ""},
	{"RESUME shop", 0, COMMAND_RESUME, "shop", "", "RESUME"},
	{"WAIT_CLOSE", 0, COMMAND_WAIT_CLOSE, "", "", "WAIT_CLOSE"},
	{"RECONNECT shop", 0, COMMAND_RECONNECT, "shop", "", "RECONNECT"},
	{"DISABLE", -EINVAL, COMMAND_EMPTY, "", "", ""},
	{"DISABLE shop", 0, COMMAND_DISABLE, "shop", "", "DISABLE"},
	{"ENABLE shop", 0, COMMAND_ENABLE, "shop", "", "ENABLE"},
	{"KILL", 0, COMMAND_KILL, "", "", "KILL"},
	{"KILL_CLIENT 17", 0, COMMAND_KILL_CLIENT, "17", "", "KILL_CLIENT"},
	{"RELOAD", 0, COMMAND_RELOAD, "", "", "RELOAD"},
	{"RELOAD shop", -EINVAL, COMMAND_EMPTY, "", "", ""},
	{"SUSPEND", 0, COMMAND_SUSPEND, "", "", "SUSPEND"},
	{"SHUTDOWN WAIT_FOR_CLIENTS", 0, COMMAND_SHUTDOWN, "WAIT_FOR_CLIENTS", "", "SHUTDOWN"},
	{"SET log_connections = 1", 0, COMMAND_SET, "log_connections", "1", "SET"},
	{"set a to b;", 0, COMMAND_SET, "a", "b", "SET"},
	{"SET q='select ''x''; -- y'", 0, COMMAND_SET, "q", "select 'x'; -- y", "SET"},
	{"SET a", -EINVAL, COMMAND_EMPTY, "", "", ""},
	{"SET a =", -EINVAL, COMMAND_EMPTY, "", "", ""},
	{"SET a = b c", -EINVAL, COMMAND_EMPTY, "", "", ""},
	{"SET = b", -EINVAL, COMMAND_EMPTY, "", "", ""},
	{"ENABLE NODE", 0, COMMAND_ENABLE, "NODE", "", "ENABLE"},
	{"ENABLE node;", 0, COMMAND_ENABLE, "node", "", "ENABLE"},
	{"ENABLE NODE b", 0, COMMAND_NODE, "", "b", "ENABLE NODE"},
	{"enable /* x */ node 10.0.0.1:5432;", 0, COMMAND_NODE, "", "10.0.0.1:5432", "ENABLE NODE"},
	{"ENABLE NODE b FORCE", -EINVAL, COMMAND_EMPTY, "", "", ""},
	{"DISABLE NODE 'my ''b'' '", 0, COMMAND_NODE, "", "my 'b' ", "DISABLE NODE"},
	{"DISABLE NODE [::1]:5432 force ;", 0, COMMAND_NODE, "", "[::1]:5432", "DISABLE NODE"},
	{"DRAIN NODE b", 0, COMMAND_NODE, "", "b", "DRAIN NODE"},
	{"DRAIN NODE b now", -EINVAL, COMMAND_EMPTY, "", "", ""},
	{"DRAIN b", -EINVAL, COMMAND_EMPTY, "", "", ""},
	{"UNDRAIN NODE b c", -EINVAL, COMMAND_EMPTY, "", "", ""},
	{"REMOVE NODE", -EINVAL, COMMAND_EMPTY, "", "", ""},
	{"ADD NODE b:5433", 0, COMMAND_NODE, "", "{\"port\":5433,\"host\":\"b\"}", "ADD NODE"},
	{"ADD NODE b", 0, COMMAND_NODE, "", "{\"host\":\"b\"}", "ADD NODE"},
	{"ADD NODE [::1]:5433", 0, COMMAND_NODE, "", "{\"port\":5433,\"host\":\"::1\"}", "ADD NODE"},
	{"ADD NODE ::1", 0, COMMAND_NODE, "", "{\"host\":\"::1\"}", "ADD NODE"},
	{"add node b:1 name = c weight=50 zone='7' sync=true;", 0, COMMAND_NODE, "",
	 "{\"port\":1,\"host\":\"b\",\"name\":\"c\",\"weight\":50,\"zone\":\"7\",\"sync\":true}", "ADD NODE"},
	{"ADD NODE b:x", 0, COMMAND_NODE, "", "{\"host\":\"b:x\"}", "ADD NODE"},
	{"ADD NODE b name", -EINVAL, COMMAND_EMPTY, "", "", ""},
	{"ADD NODE b name=", -EINVAL, COMMAND_EMPTY, "", "", ""},
	{"ADD NODE b name='a\"b'", -EINVAL, COMMAND_EMPTY, "", "", ""},
	{"ADD NODE b name='a\\'", -EINVAL, COMMAND_EMPTY, "", "", ""},
	{"BEGIN", 0, COMMAND_BEGIN, "", "", "BEGIN"},
	{"START TRANSACTION READ ONLY", 0, COMMAND_BEGIN, "", "", "START TRANSACTION"},
	{"COMMIT", 0, COMMAND_COMMIT, "", "", "COMMIT"},
	{"ROLLBACK", 0, COMMAND_ROLLBACK, "", "", "ROLLBACK"},
	{"DISCARD ALL", 0, COMMAND_IDLE, "", "", "DISCARD ALL"},
	{"DROP TABLE t", -EINVAL, COMMAND_EMPTY, "", "", ""},
};

static void test_reads_commands(void **state)
{
	struct command c;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		int r = command_read(slice_str(rows[i].text), &c);

		if (r != rows[i].r)
			fail_msg("%s: %d", rows[i].text, r);
		if (r < 0)
			continue;
		assert_int_equal(c.verb, rows[i].verb);
		assert_string_equal(c.name, rows[i].name);
		assert_string_equal(c.value, rows[i].value);
		assert_string_equal(c.tag, rows[i].tag);
	}
}

static void test_refuses_words_that_are_too_long(void **state)
{
	char text[COMMAND_NAME_MAX + 16] = "PAUSE ";
	struct command c;

	(void)state;
	memset(text + 6, 'x', COMMAND_NAME_MAX - 1);
	assert_int_equal(command_read(slice_str(text), &c), 0);
	assert_int_equal(strlen(c.name), COMMAND_NAME_MAX - 1);
	text[6 + COMMAND_NAME_MAX - 1] = 'x';
	assert_int_equal(command_read(slice_str(text), &c), -E2BIG);
}

static void test_refuses_a_nul_in_quotes(void **state)
{
	struct command c;

	(void)state;
	assert_int_equal(command_read(SLICE_LITERAL("PAUSE \"a\0b\""), &c), -EINVAL);
	assert_int_equal(command_read(SLICE_LITERAL("PAUSE a\0"), &c), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reads_commands),
		cmocka_unit_test(test_refuses_words_that_are_too_long),
		cmocka_unit_test(test_refuses_a_nul_in_quotes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
