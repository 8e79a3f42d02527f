/*
 * What follows from the facts, by tables. A case is a configuration and steps; a step says what each node has just
 * told, and what is to come of it. A node's word:
 *
 *   rw1   read-write on timeline 1        ro1   in recovery on timeline 1
 *   x     the check failed                ?     it answers, but not the monitor
 *   =     not checked in this step        c     not checked, but a client could log in
 *   rw1!  of another cluster              -     never checked so far
 *   rw1*  with any of them: it is named as the leader
 *   ro1@40  replayed up to 40             rw1@90  writes at 90
 *
 * Expected standings, a letter a node: P primary, S standby, D down, U unknown, d disabled, and of those refused: o
 * other cluster, t older timeline, c contested, n not eligible, N not named, g a guest that is no standby.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cluster/topology.h"

#include <stdio.h>
#include <stdlib.h>

#define NODES_MAX 4
#define STEPS_MAX 12

struct step {
	const char *words, *standings;
	enum no_primary why;
	const char *events; /* since the last step, by their names; NULL: not looked at */
};

struct test_case {
	const char *name, *roles; /* p primary, s standby, r replica, g discovered, P S R: the same, but disabled */
	struct step steps[STEPS_MAX];
	bool by_name; /* somebody says who leads */
};

#define UP    NO_PRIMARY_THERE_IS_ONE
#define LOST  NO_PRIMARY_PRIMARY_DOWN
#define DARK  NO_PRIMARY_ALL_DOWN
#define LATER NO_PRIMARY_NOT_KNOWN_YET
#define NONE  NO_PRIMARY_NONE_READ_WRITE
#define NOT   NO_PRIMARY_REFUSED
#define TWO   NO_PRIMARY_SEVERAL
#define LEANS NO_PRIMARY_NAMED_IN_RECOVERY
#define EMPTY NO_PRIMARY_NOBODY_NAMED

static const struct test_case cases[] = {
	{"a primary and two standbys",
	 "pss",
	 {{"rw1 - -", "PUU", LATER, ""}, {"= ro1 ro1", "PSS", UP, "PRIMARY_IS"}, {"rw1 ro1 ro1", "PSS", UP, ""}}},
	{"two failed checks are not three",
	 "ps",
	 {{"rw1 ro1", "PS", UP, "PRIMARY_IS"},
	  {"x ro1", "PS", UP, ""},
	  {"x ro1", "PS", UP, ""},
	  {"rw1 ro1", "PS", UP, ""},
	  {"x ro1", "PS", UP, ""}}},
	{"the primary is lost, and comes back after two good checks",
	 "ps",
	 {{"rw1 ro1", "PS", UP, "PRIMARY_IS"},
	  {"x =", "PS", UP, ""},
	  {"x =", "PS", UP, ""},
	  {"x =", "DS", LOST, "NODE_DOWN PRIMARY_LOST"},
	  {"rw1 =", "DS", LOST, ""},
	  {"x =", "DS", LOST, ""},
	  {"rw1 =", "DS", LOST, ""},
	  {"rw1 =", "PS", UP, "NODE_UP PRIMARY_IS"}}},
	{"a node that flaps does not come up",
	 "ps",
	 {{"rw1 ro1", "PS", UP, NULL},
	  {"= x", "PS", UP, ""},
	  {"= x", "PS", UP, ""},
	  {"= x", "PD", UP, "NODE_DOWN"},
	  {"= ro1", "PD", UP, ""},
	  {"= x", "PD", UP, ""},
	  {"= ro1", "PD", UP, ""},
	  {"= x", "PD", UP, ""}}},
	{"a client's login brings a node up at once, but its role is not known until it is asked",
	 "ps",
	 {{"rw1 ro1", "PS", UP, NULL},
	  {"x =", "PS", UP, ""},
	  {"x =", "PS", UP, ""},
	  {"x =", "DS", LOST, NULL},
	  {"c =", "US", LATER, "NODE_UP"},
	  {"rw1 =", "PS", UP, "PRIMARY_IS"}}},
	{"failover: the other is promoted",
	 "pss",
	 {{"rw1 ro1 ro1", "PSS", UP, "PRIMARY_IS"},
	  {"x = =", "PSS", UP, ""},
	  {"x = =", "PSS", UP, ""},
	  {"x ro1 ro1", "DSS", LOST, "NODE_DOWN PRIMARY_LOST"},
	  {"x rw2 ro1", "DPS", UP, "ROLE_CONTRADICTS FAILOVER"},
	  {"ro2 rw2 ro2", "DPS", UP, ""},
	  {"ro2 rw2 ro2", "SPS", UP, "NODE_UP ROLE_CONTRADICTS DEMOTED"}}},
	{"the primary became a standby, in one step",
	 "ps",
	 {{"rw1 ro1", "PS", UP, NULL}, {"ro2 rw2", "SP", UP, "ROLE_CONTRADICTS DEMOTED ROLE_CONTRADICTS FAILOVER"}}},
	{"the primary became a standby and nobody was promoted",
	 "ps",
	 {{"rw1 ro1", "PS", UP, NULL},
	  {"ro1 ro1", "SS", NONE, "ROLE_CONTRADICTS DEMOTED PRIMARY_LOST"},
	  {"rw2 ro1", "PS", UP, "PRIMARY_IS"}}},
	{"the old primary comes back read-write: an older timeline is never used",
	 "ps",
	 {{"rw1 ro1", "PS", UP, NULL},
	  {"x =", "PS", UP, NULL},
	  {"x =", "PS", UP, NULL},
	  {"x rw2", "DP", UP, NULL},
	  {"rw1 rw2", "DP", UP, ""},
	  {"rw1 rw2", "tP", UP, "NODE_UP NODE_REFUSED"},
	  {"rw1 rw2", "tP", UP, ""}}},
	{"nor when it is the only one left",
	 "ps",
	 {{"rw1 ro1", "PS", UP, NULL},
	  {"rw1 rw2", "tP", UP, "NODE_REFUSED ROLE_CONTRADICTS FAILOVER"},
	  {"rw1 x", "tP", UP, ""},
	  {"rw1 x", "tP", UP, ""},
	  {"rw1 x", "tD", NOT, "NODE_DOWN PRIMARY_LOST"}}},
	{"nor at a start, when a standby knows of a newer one",
	 "pss",
	 {{"rw1 - -", "PUU", LATER, ""}, {"rw1 ro2 -", "PSU", LATER, ""}, {"rw1 ro2 x", "tSU", NOT, "NODE_REFUSED"}}},
	{"a standby that was promoted while the primary lives",
	 "ps",
	 {{"rw1 ro1", "PS", UP, NULL}, {"rw1 rw2", "tP", UP, "NODE_REFUSED ROLE_CONTRADICTS FAILOVER"}}},
	{"two read-write nodes on one timeline: none is used, until one is gone",
	 "pss",
	 {{"rw1 ro1 ro1", "PSS", UP, NULL},
	  {"rw1 rw1 ro1", "ccS", TWO, "NODE_REFUSED NODE_REFUSED ROLE_CONTRADICTS PRIMARY_LOST"},
	  {"rw1 rw1 ro1", "ccS", TWO, ""},
	  {"x rw1 ro1", "ccS", TWO, ""},
	  {"x rw1 ro1", "ccS", TWO, ""},
	  {"x rw1 ro1", "DPS", UP, "NODE_DOWN NODE_ACCEPTED FAILOVER"}}},
	{"two promoted at once",
	 "pss",
	 {{"rw1 ro1 ro1", "PSS", UP, NULL},
	  {"x rw2 rw2", "tcc", TWO, NULL},
	  {"x rw2 ro2", "tPS", UP, "NODE_ACCEPTED NODE_ACCEPTED FAILOVER"}}},
	{"a standby of another cluster",
	 "pss",
	 {{"rw1 ro1 -", "PSU", LATER, ""},
	  {"rw1 ro1 ro9!", "PSo", UP, "NODE_REFUSED PRIMARY_IS"},
	  {"rw1 ro1 rw9!", "PSo", UP, "ROLE_CONTRADICTS"},
	  {"rw1 ro1 ro1", "PSS", UP, "NODE_ACCEPTED"}}},
	{"another cluster's primary is not taken when ours is lost",
	 "ps",
	 {{"rw1 ro1", "PS", UP, NULL},
	  {"x rw1!", "Po", UP, NULL},
	  {"x rw1!", "Po", UP, ""},
	  {"x rw1!", "Do", LOST, NULL},
	  {"x rw1!", "Do", LOST, ""}}},
	{"of two that differ the one configured as primary is believed",
	 "sp",
	 {{"rw1! rw1", "oP", UP, "NODE_REFUSED ROLE_CONTRADICTS PRIMARY_IS"}}},
	{"the whole cluster was made anew",
	 "ps",
	 {{"rw5 ro5", "PS", UP, NULL}, {"rw1! ro5", "oS", NONE, NULL}, {"rw1! ro1!", "PS", UP, NULL}}},
	{"all standbys gone",
	 "pss",
	 {{"rw1 ro1 ro1", "PSS", UP, NULL},
	  {"rw1 x x", "PSS", UP, ""},
	  {"rw1 x x", "PSS", UP, ""},
	  {"rw1 x x", "PDD", UP, "NODE_DOWN NODE_DOWN"}}},
	{"all gone",
	 "ps",
	 {{"x x", "UU", LATER, ""}, {"x x", "UU", LATER, ""}, {"x x", "DD", DARK, "NODE_DOWN NODE_DOWN"}}},
	{"roles that contradict the facts: the node is believed",
	 "ps",
	 {{"ro1 rw1", "SP", UP, "ROLE_CONTRADICTS ROLE_CONTRADICTS PRIMARY_IS"}}},
	{"a replica never becomes the primary",
	 "pr",
	 {{"rw1 ro1", "PS", UP, NULL},
	  {"x =", "PS", UP, NULL},
	  {"x =", "PS", UP, NULL},
	  {"x rw2", "Dn", NOT, "NODE_DOWN NODE_REFUSED ROLE_CONTRADICTS PRIMARY_LOST"}}},
	{"the monitor is let in nowhere: the configuration is believed",
	 "ps",
	 {{"? -", "UU", LATER, ""}, {"? ?", "PS", UP, "PRIMARY_IS"}}},
	{"the monitor is let in by one of them only",
	 "ps",
	 {{"? ro1", "US", LATER, ""}, {"rw1 ro1", "PS", UP, "PRIMARY_IS"}}},
	{"the monitor is let in no longer: what was known stays",
	 "ps",
	 {{"rw1 ro1", "PS", UP, NULL}, {"? ?", "PS", UP, ""}, {"? ?", "PS", UP, ""}, {"? ?", "PS", UP, ""}}},
	{"a disabled node", "pS", {{"rw1 ro1", "Pd", UP, "PRIMARY_IS"}}},
	{"only the leader that is named is the primary",
	 "ps",
	 {{"rw1* ro1", "PS", UP, "PRIMARY_IS"},
	  {"rw1* rw2", "PN", UP, "NODE_REFUSED"}, /* promoted behind the back of who names it */
	  {"rw1 rw2*", "NP", UP, "NODE_REFUSED NODE_ACCEPTED FAILOVER"},
	  {"ro2 rw2*", "SP", UP, "NODE_ACCEPTED DEMOTED"}},
	 .by_name = true},
	{"one that is named before it is promoted",
	 "ps",
	 {{"rw1 ro1*", "NS", LEANS, "NODE_REFUSED"}, {"ro1 ro1*", "SS", LEANS, NULL}, {"ro1 rw2*", "SP", UP, NULL}},
	 .by_name = true},
	{"nobody is named: nobody is the primary", "ps", {{"rw1 ro1", "NS", EMPTY, "NODE_REFUSED"}}, .by_name = true},
	{"the leader that is named is down",
	 "ps",
	 {{"rw1* ro1", "PS", UP, NULL},
	  {"x* ro1", "PS", UP, ""},
	  {"x* ro1", "PS", UP, ""},
	  {"x* rw2", "DN", LOST, NULL}},
	 .by_name = true},
	{"the leader that is named may be on an older timeline",
	 "ps",
	 {{"rw1* ro1", "PS", UP, NULL}, {"rw1 rw2*", "NP", UP, NULL}, {"rw1* rw2", "PN", UP, NULL}},
	 .by_name = true},
	{"two read-write on one timeline, and one of them named",
	 "ps",
	 {{"rw1 ro1*", "NS", LEANS, NULL}, {"rw1 rw1*", "NP", UP, NULL}},
	 .by_name = true},
	{"a replica or another cluster's node is not the primary, whoever names it",
	 "rs",
	 {{"rw1* ro1", "nS", NOT, NULL}, {"rw1 ro1*", "nS", LEANS, NULL}, {"ro1 rw1!*", "So", NOT, NULL}},
	 .by_name = true},
	{"the monitor is let in nowhere, and one is named",
	 "ps",
	 {{"? -*", "UU", LATER, ""}, {"? ?*", "SP", UP, "PRIMARY_IS"}},
	 .by_name = true},
	{"a standby that was discovered serves when it has proved to be one",
	 "pg",
	 {{"rw1 -", "PU", UP, "PRIMARY_IS"}, {"rw1 ro1", "PS", UP, ""}, {"x =", "PS", UP, ""}}},
	{"what is discovered counts for nothing before",
	 "pgg",
	 {{"- rw7! ro7!", "UUU", LATER, ""}, {"rw1 rw7! ro7!", "Poo", UP, NULL}}},
	{"a read-write server where a standby was looked for, on a newer timeline",
	 "pg",
	 {{"rw1 -", "PU", UP, NULL}, {"rw1 rw9", "Pg", UP, "NODE_REFUSED"}, {"rw1 ro1", "PS", UP, "NODE_ACCEPTED"}}},
	{"a standby of another cluster was discovered",
	 "pg",
	 {{"rw1 -", "PU", UP, NULL}, {"rw1 ro9!", "Po", UP, "NODE_REFUSED"}, {"rw1 ro1", "PS", UP, NULL}}},
	{"a discovered one that has proved itself may be promoted",
	 "pg",
	 {{"rw1 -", "PU", UP, NULL},
	  {"rw1 ro1", "PS", UP, ""},
	  {"x ro1", "PS", UP, ""},
	  {"x ro1", "PS", UP, ""},
	  {"x rw2", "DP", UP, NULL},
	  {"rw1 rw2", "DP", UP, NULL},
	  {"rw1 rw2", "tP", UP, NULL}}},
	{"no node at all", "", {{"", "", DARK, ""}}},
};

/* ---- the steps ---- */

static char places[NODES_MAX]; /* as nodes: only who they are counts */

struct run {
	const struct test_case *test;
	struct topology_settings settings;
	struct topology_input inputs[NODES_MAX];
	struct node_facts facts[NODES_MAX];
	struct topology *topology;
	uint32_t count;
	usec_t now;
	uint64_t events;
};

static void begin(struct run *run, const char *roles)
{
	*run = (struct run){.settings = {.failure_threshold = 3,
					 .success_threshold = 2,
					 .when_contested = WRITES_REFUSED,
					 .monitored = true},
			    .count = (uint32_t)strlen(roles),
			    .now = 1000};
	for (uint32_t i = 0; i < run->count; i++) {
		char role = roles[i] | 0x20;

		run->inputs[i] = (struct topology_input){.node = (struct node *)(void *)&places[i],
							 .host = "10.0.0.1",
							 .port = 5000 + i,
							 .discovered = role == 'g',
							 .configured = role == 'p'   ? NODE_PRIMARY
								       : role != 'r' ? NODE_STANDBY
										     : NODE_REPLICA,
							 .enabled = roles[i] >= 'a',
							 .judged_up = true,
							 .facts = &run->facts[i]};
		run->facts[i].replay_age_us = -1;
	}
}

static void end(struct run *run)
{
	free(run->topology);
}

static void fail_check(struct node_facts *f)
{
	f->last = CHECK_FAILED;
	f->failed_in_row++;
	f->good_in_row = 0;
	f->failed_at = f->checked_at;
}

static void tell(struct node_facts *f, const char *word)
{
	const char *at = strchr(word, '@');
	uint64_t lsn = at ? strtoull(at + 1, NULL, 10) : 0;

	f->known = true;
	f->known_at = f->checked_at;
	f->in_recovery = word[1] == 'o';
	f->timeline = (uint32_t)atoi(word + 2);
	f->system_id = strchr(word, '!') ? 666 : 42;
	f->current_lsn = f->in_recovery ? 0 : lsn;
	f->replay_lsn = f->in_recovery ? lsn : 0;
}

static void hear(struct run *run, uint32_t i, const char *word)
{
	struct node_facts *f = &run->facts[i];

	if (*word == '-' || *word == '=')
		return;
	if (*word == 'c') {
		run->inputs[i].answered_at = run->now;
		return;
	}
	f->checked_at = run->now;
	if (*word == 'x') {
		fail_check(f);
		return;
	}
	f->last = *word == '?' ? CHECK_REFUSED : CHECK_GOOD;
	f->failed_in_row = 0;
	f->good_in_row++;
	if (*word == 'r')
		tell(f, word);
}

static void go(struct run *run, const char *words)
{
	struct topology *before = run->topology;
	char copy[100], *rest = copy;
	bool any_named = false;

	run->now += USEC_PER_SEC;
	run->events = before ? before->event_count : 0;
	snprintf(copy, sizeof(copy), "%s", words);
	for (uint32_t i = 0; i < run->count; i++) {
		const char *word = strsep(&rest, " ");

		run->inputs[i].named = !any_named && strchr(word, '*');
		any_named |= run->inputs[i].named;
		hear(run, i, word);
	}
	run->settings.leader_is_named = run->test && run->test->by_name;
	run->topology = topology_make(&run->settings, run->inputs, run->count, before, /* wall= */ run->now);
	assert_non_null(run->topology);
	free(before);
}

static void check_standings(const struct run *run, const char *expected, const char *where)
{
	static const char letters[] = {
		[STANDING_UNKNOWN] = 'U',      [STANDING_PRIMARY] = 'P',   [STANDING_STANDBY] = 'S',
		[STANDING_DOWN] = 'D',         [STANDING_DISABLED] = 'd',  [STANDING_OTHER_CLUSTER] = 'o',
		[STANDING_OLD_TIMELINE] = 't', [STANDING_CONTESTED] = 'c', [STANDING_NOT_ELIGIBLE] = 'n',
		[STANDING_NOT_NAMED] = 'N',    [STANDING_STRANGER] = 'g'};
	char found[NODES_MAX + 1] = "";

	for (uint32_t i = 0; i < run->count; i++)
		found[i] = letters[run->topology->nodes[i].standing];
	if (strcmp(found, expected) != 0)
		fail_msg("%s: standings %s, expected %s", where, found, expected);
}

static void check_events(const struct run *run, const char *expected, const char *where)
{
	char found[400] = "";

	for (uint64_t i = run->events; i < run->topology->event_count; i++) {
		const struct topology_event *e = topology_event(run->topology, i);

		assert_non_null(e);
		snprintf(found + strlen(found), sizeof(found) - strlen(found), "%s%s", *found ? " " : "",
			 topology_event_name(e->kind));
	}
	if (strcmp(found, expected) != 0)
		fail_msg("%s: events '%s', expected '%s'", where, found, expected);
}

/* Whatever the facts: what the header promises of any topology. */
static void check_invariants(const struct run *run, const char *where)
{
	const struct topology *t = run->topology;
	uint32_t primaries = 0;

	for (uint32_t i = 0; i < t->count; i++) {
		const struct topology_node *n = &t->nodes[i];

		if (n->node != t->primary)
			continue;
		primaries++;
		if (n->standing != STANDING_PRIMARY || !n->up || !n->enabled)
			fail_msg("%s: the primary stands as %s", where, standing_name(n->standing));
		if (!t->by_configuration && (n->facts.in_recovery || n->facts.timeline < t->timeline))
			fail_msg("%s: the primary is no primary", where);
	}
	assert_int_equal(primaries, t->primary ? 1 : 0);
	assert_int_equal(t->primary != NULL, t->why == NO_PRIMARY_THERE_IS_ONE);
	assert_int_equal(t->primary != NULL, t->writes == WRITES_GO);
}

static void every_case(void **state)
{
	for (size_t c = 0; c < ARRAY_SIZE(cases); c++) {
		const struct test_case *test = &cases[c];
		struct run run;

		begin(&run, test->roles);
		run.test = test;
		for (size_t s = 0; s < STEPS_MAX && test->steps[s].words; s++) {
			const struct step *step = &test->steps[s];
			char where[200];

			snprintf(where, sizeof(where), "%s, step %zu (%s)", test->name, s + 1, step->words);
			go(&run, step->words);
			check_standings(&run, step->standings, where);
			check_invariants(&run, where);
			if (run.topology->why != step->why)
				fail_msg("%s: '%s', expected '%s'", where, no_primary_text(run.topology->why),
					 no_primary_text(step->why));
			if (step->events)
				check_events(&run, step->events, where);
		}
		end(&run);
	}
}

/* Words by chance, for a long time: what must hold always holds. */
static void run_at_random(const struct test_case *test)
{
	static const char *const words[] = {"rw1", "rw2", "rw3", "ro1",  "ro2",  "ro3",  "x",  "x",
					    "?",   "=",   "c",   "rw1!", "ro9!", "rw1*", "=*", "ro2*"};
	struct run run;

	srandom(1);
	begin(&run, test->roles);
	run.test = test;
	for (int i = 0; i < 20000; i++) {
		char step[40];

		snprintf(step, sizeof(step), "%s %s %s", words[(size_t)random() % ARRAY_SIZE(words)],
			 words[(size_t)random() % ARRAY_SIZE(words)], words[(size_t)random() % ARRAY_SIZE(words)]);
		go(&run, step);
		check_invariants(&run, step);
	}
	end(&run);
}

static void any_facts_at_all(void **state)
{
	static const struct test_case kinds[] = {{.roles = "psr"},
						 {.roles = "pgs"},
						 {.roles = "psr", .by_name = true},
						 {.roles = "pgs", .by_name = true}};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		run_at_random(&kinds[i]);
}

/* ---- what tables would not show ---- */

static void who_takes_reads(void **state)
{
	struct run run;

	(void)state;
	begin(&run, "pss");
	run.inputs[1].spared = true;
	go(&run, "rw1 ro1 ro1");
	assert_false(topology_node_takes_reads(&run.topology->nodes[0]));
	assert_false(topology_node_takes_reads(&run.topology->nodes[1]));
	assert_true(topology_node_takes_reads(&run.topology->nodes[2]) && run.topology->has_standby);
	run.inputs[2].spared = true;
	go(&run, "= = ro1");
	assert_false(topology_node_takes_reads(&run.topology->nodes[2]) || run.topology->has_standby);
	/* it went on on a newer timeline than the leader that is named: another history */
	run.inputs[1].spared = run.inputs[2].spared = false;
	run.test = &(const struct test_case){.by_name = true};
	go(&run, "rw1* ro1 ro2");
	assert_true(topology_node_takes_reads(&run.topology->nodes[1]));
	assert_false(topology_node_takes_reads(&run.topology->nodes[2]));
	end(&run);
}

static void writes_when_contested_follow_the_policy(void **state)
{
	struct run run;

	begin(&run, "ps");
	go(&run, "rw1 rw1");
	assert_int_equal(run.topology->writes, WRITES_REFUSED);
	run.settings.when_contested = WRITES_HELD;
	go(&run, "rw1 rw1");
	assert_int_equal(run.topology->writes, WRITES_HELD);
	run.settings.when_contested = WRITES_REFUSED;
	go(&run, "rw1 ro1");
	assert_int_equal(run.topology->writes, WRITES_GO);
	go(&run, "ro1 ro1");
	assert_int_equal(run.topology->writes, WRITES_HELD);
	end(&run);
}

static int64_t lag_us(const struct run *run)
{
	return run->topology->nodes[1].lag_us;
}

static int64_t lag_bytes(const struct run *run)
{
	return run->topology->nodes[1].lag_bytes;
}

/* A step is a second; the primary and the standby are asked together. */
static void lag_is_measured_by_our_clock(void **state)
{
	struct run run;

	begin(&run, "ps");
	go(&run, "rw1@100 ro1@100");
	assert_int_equal(lag_bytes(&run), 0);
	assert_int_equal(lag_us(&run), 0);
	go(&run, "rw1@150 ro1@100");
	assert_int_equal(lag_bytes(&run), 50);
	assert_int_equal(lag_us(&run), 1000000); /* a second ago the primary was where the standby is now */
	go(&run, "rw1@190 ro1@100");
	go(&run, "rw1@200 ro1@160");
	assert_int_equal(lag_bytes(&run), 40);
	assert_int_equal(lag_us(&run), 2000000);
	go(&run, "rw1@200 ro1@200"); /* an idle primary, and a standby that is there */
	go(&run, "rw1@200 ro1@200");
	assert_int_equal(lag_us(&run), 0);
	run.facts[1].clock_skew_us = 3600 * 1000000ll; /* its clock is of no account */
	run.facts[1].replay_age_us = 7200 * 1000000ll;
	go(&run, "rw1@200 ro1@200");
	assert_int_equal(lag_us(&run), 0);
	end(&run);
}

static void lag_of_one_that_does_not_move(void **state)
{
	struct run run;

	begin(&run, "ps");
	go(&run, "rw1@100 ro1@100");
	for (int i = 1; i <= 1000; i++) { /* far more than there are samples */
		char step[60];

		snprintf(step, sizeof(step), "rw1@%d ro1@100", 100 + i);
		go(&run, step);
		assert_int_equal(lag_bytes(&run), i);
		assert_true(run.topology->track.count <= LAG_SAMPLES);
		assert_int_equal(lag_us(&run), i * 1000000ll);
	}
	end(&run);
}

static void lag_that_is_not_known(void **state)
{
	struct run run;

	begin(&run, "ps");
	go(&run, "x ro1@100"); /* there never was a primary */
	assert_int_equal(lag_bytes(&run), TOPOLOGY_LAG_NONE);
	assert_int_equal(lag_us(&run), TOPOLOGY_LAG_NONE);
	go(&run, "rw1@100 ro1"); /* the standby does not say */
	assert_int_equal(lag_bytes(&run), TOPOLOGY_LAG_NONE);
	go(&run, "rw1@200 ro1@150");
	assert_int_equal(lag_bytes(&run), 50);
	go(&run, "ro1@200 rw2@120"); /* positions of the old timeline are forgotten */
	assert_int_equal(run.topology->nodes[0].lag_bytes, 0);
	go(&run, "ro2@120 rw2@130");
	assert_int_equal(run.topology->nodes[0].lag_bytes, 10);
	assert_int_equal(lag_bytes(&run), TOPOLOGY_LAG_NONE); /* it is the primary now */
	end(&run);
}

/* The standby is asked a moment ahead of the primary: what the primary wrote meanwhile is not held against it. */
static void a_standby_is_compared_with_what_was_before_it(void **state)
{
	struct run run;

	begin(&run, "ps");
	go(&run, "rw1@100 ro1@100");
	go(&run, "= ro1@100");
	go(&run, "rw1@900 =");
	assert_int_equal(lag_bytes(&run), 0);
	go(&run, "= ro1@100");
	assert_int_equal(lag_bytes(&run), 800);
	end(&run);
}

static void upstreams_and_synchronous_standbys(void **state)
{
	struct run run;
	const struct topology_node *nodes;

	begin(&run, "pss");
	for (int i = 1; i < 3; i++) {
		run.facts[i].receiving = true;
		snprintf(run.facts[i].upstream_host, sizeof(run.facts[i].upstream_host), "10.0.0.1");
		run.facts[i].upstream_port = (uint16_t)(5000 + i - 1); /* the second from the first: a cascade */
		snprintf(run.facts[i].application_name, FACTS_NAME_MAX, "name%d", i);
	}
	run.facts[0].sender_count = 1;
	run.facts[0].senders[0] = (struct facts_sender){"name1", "streaming", "sync"};
	go(&run, "rw1@100 ro1@90 ro1@80");
	nodes = run.topology->nodes;
	assert_ptr_equal(nodes[1].upstream, nodes[0].node);
	assert_ptr_equal(nodes[2].upstream, nodes[1].node);
	assert_string_equal(nodes[1].sync_state, "sync");
	assert_string_equal(nodes[2].sync_state, "");
	assert_int_equal(nodes[2].lag_bytes, 20); /* behind the primary, not behind its upstream */
	run.facts[0].sender_count = 2;            /* two of one name */
	run.facts[0].senders[1] = (struct facts_sender){"name1", "streaming", "async"};
	go(&run, "rw1@100 ro1@90 ro1@80");
	assert_string_equal(run.topology->nodes[1].sync_state, "");
	end(&run);
}

static void without_monitors_the_configuration_is_believed(void **state)
{
	struct run run;

	begin(&run, "sp");
	run.settings.monitored = false;
	go(&run, "- -");
	check_standings(&run, "SP", "without monitors");
	run.inputs[1].judged_up = false;
	go(&run, "- -");
	check_standings(&run, "SD", "without monitors");
	assert_int_equal(run.topology->why, NO_PRIMARY_PRIMARY_DOWN);
	end(&run);
	begin(&run, "s");
	run.settings.monitored = false;
	go(&run, "-");
	check_standings(&run, "P", "the only node");
	end(&run);
}

static void failovers_are_remembered(void **state)
{
	struct run run;

	begin(&run, "ps");
	go(&run, "rw1 ro1");
	assert_int_equal(run.topology->last_failover_wall, 0);
	go(&run, "ro2 rw2");
	assert_int_equal(run.topology->last_failover_wall, run.now);
	for (int i = 0; i < 100; i++)
		go(&run, i % 2 ? "rw2 rw2" : "ro2 rw2");
	assert_int_equal(run.topology->failovers, 1);
	assert_null(topology_event(run.topology, 0)); /* forgotten */
	assert_non_null(topology_event(run.topology, run.topology->event_count - TOPOLOGY_HISTORY));
	assert_null(topology_event(run.topology, run.topology->event_count));
	end(&run);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_case),
		cmocka_unit_test(any_facts_at_all),
		cmocka_unit_test(who_takes_reads),
		cmocka_unit_test(writes_when_contested_follow_the_policy),
		cmocka_unit_test(lag_is_measured_by_our_clock),
		cmocka_unit_test(lag_of_one_that_does_not_move),
		cmocka_unit_test(lag_that_is_not_known),
		cmocka_unit_test(a_standby_is_compared_with_what_was_before_it),
		cmocka_unit_test(upstreams_and_synchronous_standbys),
		cmocka_unit_test(without_monitors_the_configuration_is_believed),
		cmocka_unit_test(failovers_are_remembered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
