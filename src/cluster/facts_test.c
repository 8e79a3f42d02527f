/* Rows of servers as facts: what makes sense is taken whole, what does not changes nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cluster/facts.h"

#define CLOCK "1700000000000000"

static const char *const primary[FACTS_NODE_COLUMNS] = {
	"150004", "0", "off", "0",  "7301234567890123456", "0000000A", "83886408", NULL,    NULL, NULL,
	CLOCK,    "0", NULL,  NULL, "walreceiver",         "8192",     "16777216", "helios"};
static const char *const standby[FACTS_NODE_COLUMNS] = {
	"170001", "1",        "on",       "1",        "18446744073709551615",
	"b",      NULL,       "83886408", "83886300", "-1500",
	CLOCK,    "1",        "10.0.0.1", "5433",     "standby1",
	"8192",   "16777216", "helios"};

static void a_primary(void **state)
{
	struct node_facts f = {.sender_count = 3, .failed_in_row = 2};

	assert_int_equal(facts_take_node(&f, primary, FACTS_NODE_COLUMNS, 1700000000500000, 200000), 0);
	assert_true(f.known);
	assert_int_equal(f.version, 150004);
	assert_false(f.in_recovery || f.read_only || f.replay_paused || f.receiving);
	assert_true(f.system_id == 7301234567890123456ull);
	assert_int_equal(f.timeline, 10); /* the name of a file is hexadecimal */
	assert_int_equal(f.current_lsn, 83886408);
	assert_int_equal(f.receive_lsn, 0);
	assert_int_equal(f.replay_age_us, -1);
	assert_int_equal(f.clock_skew_us,
			 -400000); /* half a second behind, of which a half of the round trip is ours */
	assert_int_equal(f.sender_count, 0);
	assert_int_equal(f.failed_in_row, 2);
}

static void a_standby(void **state)
{
	struct node_facts f = {0};

	assert_int_equal(facts_take_node(&f, standby, FACTS_NODE_COLUMNS, 0, 0), 0);
	assert_true(f.in_recovery && f.read_only && f.replay_paused && f.receiving);
	assert_true(f.system_id == UINT64_MAX);
	assert_int_equal(f.timeline, 11);
	assert_int_equal(f.replay_lsn, 83886300);
	assert_string_equal(f.upstream_host, "10.0.0.1");
	assert_int_equal(f.upstream_port, 5433);
	assert_string_equal(f.application_name, "standby1");
}

/* Each column in turn is nonsense: all that have to be numbers are refused, and nothing was taken. */
static void nonsense(void **state)
{
	static const char *const words[] = {"", "x", "-", "12x", "99999999999999999999999", " 1"};

	for (size_t w = 0; w < ARRAY_SIZE(words); w++) {
		for (uint32_t column = 0; column < FACTS_NODE_COLUMNS; column++) {
			const char *row[FACTS_NODE_COLUMNS];
			struct node_facts f = {.timeline = 77};
			bool is_text = column == 2 || column == 12 || column == 14;

			memcpy(row, standby, sizeof(row));
			row[column] = words[w];
			if (is_text || (column == 9 && *words[w] == ' '))
				continue;
			assert_int_equal(facts_take_node(&f, row, FACTS_NODE_COLUMNS, 0, 0), -EPROTO);
			assert_false(f.known);
			assert_int_equal(f.timeline, 77);
		}
	}
}

static void rows_of_another_kind(void **state)
{
	struct node_facts f = {0};
	const char *row[FACTS_NODE_COLUMNS] = {0};

	assert_int_equal(facts_take_node(&f, primary, FACTS_NODE_COLUMNS - 1, 0, 0), -EPROTO);
	assert_int_equal(facts_take_node(&f, row, FACTS_NODE_COLUMNS, 0, 0), -EPROTO);
	assert_int_equal(facts_take_sender(&f, primary, 2), -EPROTO);
	assert_int_equal(f.sender_count, 0);
}

static void more_senders_than_are_kept(void **state)
{
	static const char *const row[FACTS_SENDER_COLUMNS] = {
		"a name that is longer than any that PostgreSQL would let through, which are 63 bytes", NULL, "sync",
		"10.0.0.9"};
	struct node_facts f = {0};

	for (uint32_t i = 0; i < FACTS_SENDERS_MAX + 5; i++)
		assert_int_equal(facts_take_sender(&f, row, FACTS_SENDER_COLUMNS), 0);
	assert_int_equal(f.sender_count, FACTS_SENDERS_MAX);
	assert_int_equal(strlen(f.senders[0].name), FACTS_NAME_MAX - 1);
	assert_string_equal(f.senders[0].state, "");
	assert_string_equal(f.senders[15].sync_state, "sync");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_primary),
		cmocka_unit_test(a_standby),
		cmocka_unit_test(nonsense),
		cmocka_unit_test(rows_of_another_kind),
		cmocka_unit_test(more_senders_than_are_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
