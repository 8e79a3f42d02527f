/* An event is a log line and more; filters; counts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/event.h"

static struct journal_reader reader; /* large */

static uint64_t bit(enum event_kind kind)
{
	return UINT64_C(1) << kind;
}

static void filters_stand_for_kinds(void **state UNUSED)
{
	uint64_t kinds = 0;

	assert_true(event_filter(NULL, &kinds) && kinds == UINT64_MAX);
	assert_true(event_filter("", &kinds) && kinds == UINT64_MAX);
	assert_true(event_filter("node.down", &kinds) && kinds == bit(EVENT_NODE_DOWN));
	assert_true(event_filter("node.up,lag.*,node.up", &kinds));
	assert_true(kinds == (bit(EVENT_NODE_UP) | bit(EVENT_LAG_EXCEEDED) | bit(EVENT_LAG_WITHIN)));
	assert_true(event_filter("*", &kinds) && kinds == UINT64_MAX >> (64 - EVENT_KIND_COUNT));
	kinds = 5;
	assert_false(event_filter("node", &kinds));
	assert_false(event_filter("node.down,", &kinds));
	assert_false(event_filter(",", &kinds));
	assert_false(event_filter("node.down,no.such", &kinds));
	assert_false(event_filter("node.down ", &kinds));
	assert_int_equal(kinds, 5);
}

static void names_are_unlike_each_other(void **state UNUSED)
{
	for (unsigned i = 0; i < EVENT_KIND_COUNT; i++) {
		const struct event_info *info = event_info(i);
		uint64_t kinds = 0;

		assert_true(event_filter(info->name, &kinds) && kinds == bit(i));
		assert_true(*info->when && *info->action && strchr(info->name, '.'));
	}
}

/* Whatever the log's level. */
static void the_log_says_the_same(void **state UNUSED)
{
	struct journal_entry e, line;

	log_set_level(LOG_WARN);
	assert_int_equal(log_keep(10) + event_keep(10), 0);
	log_event(EVENT_NODE_UP, LOG_INFO, "quiet", kv_str("node", "a"));
	log_event(EVENT_NODE_DOWN, LOG_WARN, "loud", kv_str("node", "b"));
	log_event(EVENT_NODE_DOUBTED, LOG_DEBUG, "quieter");
	log_warn("no event");
	assert_int_equal(event_count(EVENT_NODE_UP), 1);
	assert_int_equal(event_count(EVENT_NODE_DOWN), 1);

	journal_read(&reader, log_journal(), 0);
	assert_true(journal_next(&reader, &line));
	assert_string_equal(line.message, "loud");
	assert_string_equal(line.pairs[0].str, "b");
	assert_true(journal_next(&reader, &line));
	assert_string_equal(line.message, "no event");
	assert_false(journal_next(&reader, &line));

	journal_read(&reader, event_journal(), 0);
	assert_true(journal_next(&reader, &e));
	assert_int_equal(e.kind, EVENT_NODE_UP);
	assert_true(journal_next(&reader, &e));
	assert_string_equal(e.message, "loud");
	assert_int_equal(e.level, LOG_WARN);
	assert_true(journal_next(&reader, &e));
	assert_int_equal(e.level, LOG_INFO); /* an event is nothing less */
	assert_false(journal_next(&reader, &e));
	event_forget();
	log_forget();
	assert_null(event_journal());
	log_event(EVENT_NODE_UP, LOG_INFO, "nobody keeps it");
	assert_int_equal(event_count(EVENT_NODE_UP), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(filters_stand_for_kinds),
		cmocka_unit_test(names_are_unlike_each_other),
		cmocka_unit_test(the_log_says_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
