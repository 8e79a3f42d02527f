/* Rows of HeliosDB nodes as facts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cluster/facts_heliosdb.h"

#define NODE_ID "11111111-2222-3333-4444-555555555555"

static const char *const primary[FACTS_HELIOSDB_COLUMNS] = {"170000", "primary", "f", NODE_ID, NULL};
static const char *const standby[FACTS_HELIOSDB_COLUMNS] = {"170000", "standby", "t", NODE_ID, "10.0.0.1:5433"};

static void a_primary(void **state)
{
	/* what was known of the node before, when it was something else */
	struct node_facts f = {.sender_count = 3,
			       .failed_in_row = 2,
			       .timeline = 7,
			       .current_lsn = 1,
			       .tells_log = true,
			       .read_only = true};

	assert_int_equal(facts_take_heliosdb(&f, primary, FACTS_HELIOSDB_COLUMNS), 0);
	assert_true(f.known);
	assert_false(f.in_recovery || f.read_only || f.tells_log || f.receiving);
	assert_int_equal(f.version, 170000);
	assert_true(f.system_id == FACTS_HELIOSDB_SYSTEM);
	assert_true(f.timeline == 0 && f.current_lsn == 0 && f.sender_count == 0 && f.replay_age_us == -1);
	assert_string_equal(f.application_name, NODE_ID);
	assert_string_equal(f.upstream_host, "");
	assert_int_equal(f.failed_in_row, 2);
}

static void a_standby(void **state)
{
	struct node_facts f = {0};

	assert_int_equal(facts_take_heliosdb(&f, standby, FACTS_HELIOSDB_COLUMNS), 0);
	assert_true(f.known && f.in_recovery);
	assert_string_equal(f.upstream_host, "10.0.0.1");
	assert_int_equal(f.upstream_port, 0); /* what is told is that of replication */
}

static void roles(void **state)
{
	static const struct {
		const char *word;
		int r;
		bool in_recovery;
	} cases[] = {
		{"standalone", 0, false}, {"primary", 0, false},
		{"standby", 0, true},     {"observer", -ENOTSUP},
		{"", -ENOTSUP},           {"Primary", -ENOTSUP},
		{"primaryy", -ENOTSUP},   {"a role of tomorrow", -ENOTSUP},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *row[FACTS_HELIOSDB_COLUMNS];
		struct node_facts f = {.version = 77};

		memcpy(row, primary, sizeof(row));
		row[1] = cases[i].word;
		assert_int_equal(facts_take_heliosdb(&f, row, FACTS_HELIOSDB_COLUMNS), cases[i].r);
		assert_int_equal(f.known, cases[i].r == 0);
		assert_int_equal(f.in_recovery, cases[i].in_recovery);
		assert_int_equal(f.version, cases[i].r ? 77 : 170000);
	}
}

/* What must not be missing is, or is no such thing: nothing was taken. */
static void nonsense(void **state)
{
	static const struct {
		uint32_t column;
		const char *text;
	} cases[] = {{0, NULL}, {0, ""},   {0, "17.0"}, {0, "-1"},   {0, "99999999999"}, {0, "99999999999999999999999"},
		     {1, NULL}, {2, NULL}, {2, ""},     {2, "true"}, {2, "x"},           {3, NULL},
		     {3, ""}};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *row[FACTS_HELIOSDB_COLUMNS];
		struct node_facts f = {.timeline = 77};

		memcpy(row, standby, sizeof(row));
		row[cases[i].column] = cases[i].text;
		assert_int_equal(facts_take_heliosdb(&f, row, FACTS_HELIOSDB_COLUMNS), -EPROTO);
		assert_false(f.known);
		assert_int_equal(f.timeline, 77);
	}
}

static void rows_of_another_kind(void **state)
{
	struct node_facts f = {0};

	assert_int_equal(facts_take_heliosdb(&f, primary, FACTS_HELIOSDB_COLUMNS - 1), -EPROTO);
	assert_int_equal(facts_take_heliosdb_sender(&f, primary, FACTS_HELIOSDB_SENDER_COLUMNS - 1), -EPROTO);
	assert_int_equal(f.sender_count, 0);
}

static void senders(void **state)
{
	static const char *const row[] = {NODE_ID, "async", "10.0.0.2:41234"};
	static const char *const v6[] = {NODE_ID, NULL, "[::1]:41234"};
	static const char *const nameless[] = {NULL, "async", "10.0.0.2:41234"};
	static const char *const bare[] = {NODE_ID, "a word that is longer than any of them", NULL};
	struct node_facts f = {0};

	assert_int_equal(facts_take_heliosdb_sender(&f, row, FACTS_HELIOSDB_SENDER_COLUMNS), 0);
	assert_int_equal(facts_take_heliosdb_sender(&f, v6, FACTS_HELIOSDB_SENDER_COLUMNS), 0);
	assert_int_equal(facts_take_heliosdb_sender(&f, nameless, FACTS_HELIOSDB_SENDER_COLUMNS), -EPROTO);
	assert_int_equal(f.sender_count, 2);
	assert_string_equal(f.senders[0].name, NODE_ID);
	assert_string_equal(f.senders[0].sync_state, "async");
	assert_string_equal(f.senders[0].state, "streaming");
	assert_string_equal(f.senders[0].address, "10.0.0.2");
	assert_string_equal(f.senders[1].address, "[::1]");
	for (uint32_t i = 0; i < FACTS_SENDERS_MAX; i++)
		assert_int_equal(facts_take_heliosdb_sender(&f, bare, FACTS_HELIOSDB_SENDER_COLUMNS), 0);
	assert_int_equal(f.sender_count, FACTS_SENDERS_MAX);
	assert_string_equal(f.senders[2].address, "");
	assert_int_equal(strlen(f.senders[2].sync_state), sizeof(f.senders[0].sync_state) - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_primary),
		cmocka_unit_test(a_standby),
		cmocka_unit_test(roles),
		cmocka_unit_test(nonsense),
		cmocka_unit_test(rows_of_another_kind),
		cmocka_unit_test(senders),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
