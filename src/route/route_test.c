/* Where a read goes, by tables: lag, and what must have been replayed. */
#include "route/route.h"
#include "route/writers.h"
#include "wire/test.h"

#define MS(n) ((n)*USEC_PER_MSEC)
#define NODES 3u /* a: the primary; b, c: standbys */

struct fixture {
	struct node nodes[NODES];
	struct topology *topology;
	struct route_rules rules;
	struct route_ask ask;
	struct balance_state balance;
};

static const struct access reads = {.level = ACCESS_READS};

static void place(struct node *node, enum position_kind kind, uint32_t timeline, uint64_t lsn, usec_t asked_at)
{
	position_publish(&node->position,
			 &(struct position){.kind = kind, .timeline = timeline, .lsn = lsn, .asked_at = asked_at});
}

static void begin(struct fixture *f)
{
	memset(f, 0, sizeof(*f));
	f->topology = calloc(1, sizeof(*f->topology) + NODES * sizeof(f->topology->nodes[0]));
	assert_non_null(f->topology);
	f->topology->count = NODES;
	f->topology->timeline = 1;
	f->topology->primary = &f->nodes[0];
	for (uint32_t i = 0; i < NODES; i++) {
		struct topology_node *n = &f->topology->nodes[i];

		atomic_store(&f->nodes[i].enabled, true);
		atomic_store(&f->nodes[i].weight, 100);
		*n = (struct topology_node){.node = &f->nodes[i],
					    .enabled = true,
					    .up = true,
					    .standing = i ? STANDING_STANDBY : STANDING_PRIMARY,
					    .takes_reads = i != 0,
					    .facts.known = true};
		place(&f->nodes[i], i ? POSITION_REPLAY : POSITION_INSERT, 1, 1000, MS(1));
	}
	f->rules = (struct route_rules){
		.lag_matters = true,
		.own_writes = READ_YOUR_WRITES_SESSION,
		.max_lag = MS(100),
		.balance = {.strategy = BALANCE_ROUND_ROBIN, .primary_reads = PRIMARY_READS_LAST_RESORT}};
	f->ask = (struct route_ask){.access = &reads, .has_catalog = true};
}

/* 'a', 'b' or 'c'; '-': refused. */
static char decide(struct fixture *f, struct route_choice *ret)
{
	route_decide(&f->rules, f->topology, &f->ask, NULL, &f->balance, MS(1), ret);
	return ret->refused ? '-' : ret->node ? (char)('a' + (ret->node - f->nodes)) : 'a';
}

static void end(struct fixture *f)
{
	free(f->topology);
}

/* b lags 1 ms, c as said. */
static void lag_is_limited_by_hint_user_node_and_rules(void **state)
{
	static const struct {
		usec_t lag, of_rules, of_node, of_user, of_hint;
		bool fit;
	} cases[] = {
		{MS(50), MS(100), 0, 0, 0, true},
		{MS(150), MS(100), 0, 0, 0, false},
		{MS(150), MS(100), MS(200), 0, 0, true}, /* meant to be late */
		{MS(50), MS(100), MS(20), 0, 0, false},
		{MS(150), MS(100), MS(200), MS(90), 0, false}, /* the user's counts more */
		{MS(150), MS(100), MS(20), MS(160), 0, true},
		{MS(150), MS(100), MS(200), MS(160), MS(10), false}, /* and the hint's most */
		{MS(150), MS(100), MS(20), MS(20), MS(500), true},
		{MS(150), 0, 0, 0, 0, true}, /* no limit */
		{NODE_LAG_UNKNOWN, MS(100), 0, 0, 0, false},
		{NODE_LAG_UNKNOWN, MS(100), MS(200), 0, 0, false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct config_user user = {.max_lag = cases[i].of_user};
		struct fixture f;

		begin(&f);
		f.rules.max_lag = cases[i].of_rules;
		assert_int_equal(route_rules_for_user(&f.rules, &user), cases[i].of_user != 0);
		f.ask.wish.limits_lag = cases[i].of_hint != 0;
		f.ask.wish.max_lag = cases[i].of_hint;
		atomic_store(&f.nodes[2].lag_us, cases[i].lag);
		atomic_store(&f.nodes[2].max_lag, cases[i].of_node);
		if ((route_why_not(&f.rules, f.topology, &f.ask, 2) == NULL) != cases[i].fit)
			fail_msg("case %zu", i);
		end(&f);
	}
}

static void what_differs_for_a_user(void **state)
{
	struct route_rules rules = {.own_writes = READ_YOUR_WRITES_SESSION, .lag_matters = true};
	const struct config_user none = {0}, some = {.max_lag_bytes = 5, .read_your_writes = READ_YOUR_WRITES_GLOBAL};

	(void)state;
	assert_false(route_rules_for_user(&rules, &none));
	assert_false(route_heeds_others(&rules));
	assert_true(route_rules_for_user(&rules, &some));
	assert_int_equal(rules.max_lag_bytes, 5);
	assert_false(rules.max_lag_is_wished); /* its time is still the node's */
	assert_true(route_heeds_others(&rules));
	rules.lag_matters = false;
	assert_false(route_heeds_others(&rules));
}

/* Standbys have replayed up to 1000. */
static void writes_are_waited_for(void **state)
{
	static const struct {
		enum read_your_writes scope;
		enum primary_reads primary_reads;
		uint64_t own, others, wished;
		bool wrote, eventual;
		char to; /* 's': a standby */
		bool may_wait;
	} cases[] = {
		{READ_YOUR_WRITES_SESSION, PRIMARY_READS_LAST_RESORT, 1000, 0, 0, false, false, 's', false},
		{READ_YOUR_WRITES_SESSION, PRIMARY_READS_LAST_RESORT, 1001, 0, 0, false, false, 'a', true},
		{READ_YOUR_WRITES_SESSION, PRIMARY_READS_LAST_RESORT, 0, 0, 0, true, false, 'a', true},
		{READ_YOUR_WRITES_SESSION, PRIMARY_READS_LAST_RESORT, 0, 0, 1001, false, false, 'a', true},
		{READ_YOUR_WRITES_SESSION, PRIMARY_READS_NEVER, 1001, 0, 0, false, false, '-', true},
		{READ_YOUR_WRITES_SESSION, PRIMARY_READS_LAST_RESORT, 1001, 0, 0, true, true, 's', false},
		{READ_YOUR_WRITES_OFF, PRIMARY_READS_LAST_RESORT, 1001, 0, 0, true, false, 's', false},
		{READ_YOUR_WRITES_OFF, PRIMARY_READS_LAST_RESORT, 0, 0, 1001, false, false, 'a', true},
		{READ_YOUR_WRITES_USER, PRIMARY_READS_LAST_RESORT, 0, 1001, 0, false, false, 'a', true},
		{READ_YOUR_WRITES_USER, PRIMARY_READS_LAST_RESORT, 5, 1000, 0, false, false, 's', false},
		{READ_YOUR_WRITES_GLOBAL, PRIMARY_READS_LAST_RESORT, 1001, 5, 0, false, false, 'a', true},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct route_choice choice;
		struct fixture f;
		char to;

		begin(&f);
		f.rules.own_writes = cases[i].scope;
		f.rules.balance.primary_reads = cases[i].primary_reads;
		f.ask.own = (struct position){cases[i].own ? POSITION_INSERT : POSITION_NONE, 1, cases[i].own, 0};
		f.ask.others =
			(struct position){cases[i].others ? POSITION_INSERT : POSITION_NONE, 1, cases[i].others, 0};
		f.ask.wish = (struct route_wish){.lsn = cases[i].wished, .eventual = cases[i].eventual};
		f.ask.wrote = cases[i].wrote;
		to = decide(&f, &choice);
		if ((cases[i].to == 's' ? to != 'b' && to != 'c' : to != cases[i].to) ||
		    choice.may_wait != cases[i].may_wait)
			fail_msg("case %zu: %c %d", i, to, choice.may_wait);
		assert_int_equal(choice.reason, cases[i].to == 's' ? ROUTE_READ : ROUTE_OWN_WRITES);
		end(&f);
	}
}

static void who_waited_is_told_apart(void **state)
{
	struct route_choice choice;
	struct fixture f;

	(void)state;
	begin(&f);
	f.ask.waits = true;
	assert_int_not_equal(decide(&f, &choice), 'a');
	assert_int_equal(choice.reason, ROUTE_WAITED);
	assert_true(route_reason_is_standby(ROUTE_WAITED));
	f.topology->nodes[1].takes_reads = f.topology->nodes[2].takes_reads =
		false; /* nobody is left to be waited for */
	assert_int_equal(decide(&f, &choice), 'a');
	assert_int_equal(choice.reason, ROUTE_NO_STANDBY);
	assert_false(choice.may_wait);
	end(&f);
}

/* ---- writers ---- */

static void times_of_writes_only_grow(void **state)
{
	static struct writers w;
	uint32_t app = writers_cell_of("app");

	(void)state;
	assert_in_range(app, 1, WRITERS_CELLS - 1);
	assert_int_equal(writers_cell_of("app"), app);
	assert_int_equal(writers_last(&w, app), 0);
	writers_note(&w, app, MS(5));
	writers_note(&w, app, MS(3));
	assert_int_equal(writers_last(&w, app), MS(5));
	assert_int_equal(writers_last(&w, WRITERS_ANYBODY), 0);
	writers_note_all(&w, MS(4));
	assert_int_equal(writers_last(&w, app), MS(5));
	assert_int_equal(writers_last(&w, WRITERS_ANYBODY), MS(4));
}

static void the_first_position_behind_a_write_is_kept(void **state)
{
	struct writers_known known = {0};
	struct position p = {POSITION_INSERT, 1, 700, MS(5)};

	(void)state;
	assert_true(writers_settle(&known, 0, NULL, 1)); /* nobody wrote */
	assert_int_equal(known.lsn, 0);
	assert_false(writers_settle(&known, MS(5), NULL, 1));
	assert_false(writers_settle(&known, MS(5), &p, 1)); /* asked for at that moment: not behind it */
	p.asked_at = MS(6);
	assert_false(writers_settle(&known, MS(5), &p, 2)); /* of the primary before */
	assert_true(writers_settle(&known, MS(5), &p, 1));
	assert_int_equal(known.lsn, 700);
	p = (struct position){POSITION_INSERT, 1, 900, MS(8)};
	assert_true(writers_settle(&known, MS(5), &p, 1));
	assert_int_equal(known.lsn, 700); /* a later one would be harder to reach */
	assert_false(writers_settle(&known, MS(9), &p, 1));
	assert_int_equal(known.lsn, 700);
}

static struct config_node_alias alias_of(const char *const *names, uint32_t count)
{
	return (struct config_node_alias){.name = "x", .nodes = {names, count}};
}

static void a_name_stands_for_several_nodes(void **state)
{
	static const char *const names[] = {"c", "a", "gone"};
	const struct config_node_alias standby = alias_of(names, 1), both = alias_of(names, 3);
	struct route_choice choice;
	struct fixture f;
	uint32_t primary = 0;

	(void)state;
	begin(&f);
	f.nodes[0].name = (char *)"a";
	f.nodes[1].name = (char *)"b";
	f.nodes[2].name = (char *)"c";
	f.ask.wish = (struct route_wish){.target = TARGET_ALIAS, .alias = &standby};
	for (int i = 0; i < 4; i++)
		assert_int_equal(decide(&f, &choice), 'c');
	assert_int_equal(choice.reason, ROUTE_WISH_STANDBY);
	f.ask.wish = (struct route_wish){.target = TARGET_ALIAS, .alias = &both, .alias_has_primary = true};
	for (int i = 0; i < 4; i++) {
		char node = decide(&f, &choice);

		assert_true(node == 'a' || node == 'c');
		primary += node == 'a';
	}
	assert_int_equal(primary, 2); /* in turn */
	atomic_store(&f.nodes[2].lag_us, MS(500));
	f.rules.balance.primary_reads = PRIMARY_READS_NEVER;
	assert_int_equal(decide(&f, &choice), 'a'); /* it was asked for */
	f.ask.wish.alias_has_primary = false;
	assert_int_equal(decide(&f, &choice), '-');
	end(&f);
}

static void a_default_is_what_nobody_has_to_wish(void **state)
{
	struct config config = {
		.lag_routing = {.enabled = true},
		.load_balancer = {.read_strategy = BALANCE_ROUND_ROBIN, .primary_reads = PRIMARY_READS_LAST_RESORT},
		.routing_default = {.auto_detect_writes = true}};
	struct node *nodes[ROUTE_FIT_MAX];
	struct route_rules rules;
	struct position none = {0}, least;
	struct fixture f;

	(void)state;
	begin(&f);
	route_rules_from(&config, &rules);
	assert_false(rules.has_wish);
	rules.lag_matters = false;
	assert_int_equal(route_find_fit(&rules, f.topology, &none, MS(1), nodes, &least), 2);
	config.routing_default.read_target = READ_TARGET_ANY;
	route_rules_from(&config, &rules);
	assert_int_equal(rules.balance.primary_reads, PRIMARY_READS_EQUAL);
	config.load_balancer.primary_reads = PRIMARY_READS_NEVER;
	route_rules_from(&config, &rules);
	assert_int_equal(rules.balance.primary_reads, PRIMARY_READS_NEVER);
	config.routing_default = (struct config_routing_default){.auto_detect_writes = false};
	route_rules_from(&config, &rules);
	assert_int_equal(rules.wish.target, TARGET_PRIMARY);
	assert_int_equal(route_find_fit(&rules, f.topology, &none, MS(1), nodes, &least), 0);
	config.routing_default =
		(struct config_routing_default){.auto_detect_writes = true, .consistency = CONSISTENCY_EVENTUAL};
	config.routing_hints.max_lag_override = MS(7);
	route_rules_from(&config, &rules);
	assert_true(rules.has_wish && rules.wish.eventual && rules.wish.limits_lag);
	assert_int_equal(rules.wish.max_lag, MS(7));
	end(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lag_is_limited_by_hint_user_node_and_rules),
		cmocka_unit_test(what_differs_for_a_user),
		cmocka_unit_test(writes_are_waited_for),
		cmocka_unit_test(who_waited_is_told_apart),
		cmocka_unit_test(times_of_writes_only_grow),
		cmocka_unit_test(the_first_position_behind_a_write_is_kept),
		cmocka_unit_test(a_name_stands_for_several_nodes),
		cmocka_unit_test(a_default_is_what_nobody_has_to_wish),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
