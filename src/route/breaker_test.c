/* Circuit breakers: the judgement by tables, the states by a clock that is held. */
#include "route/breaker.h"
#include "cluster/changes.h"
#include "wire/test.h"

#include <stdio.h>

/* ---- the window: pure ---- */

#define SEC(n) ((n)*USEC_PER_SEC)

static const struct breaker_settings usual_settings = {
	.enabled = true,
	.failure_threshold = 5,
	.failure_rate = 50,
	.minimum_calls = 10,
	.window_calls = 100,
	.success_threshold = 2,
	.max_probes = 2,
	.window = SEC(30),
	.open = SEC(10),
};

/* "g100 f5 t10 s20": good calls, failures, seconds that pass (with a look each), slow calls. */
static enum breaker_verdict run(const struct breaker_settings *s, const char *script, struct breaker_window *w)
{
	struct breaker_counts counts = {0};
	enum breaker_verdict verdict = VERDICT_WELL;
	usec_t now = SEC(1000);
	unsigned n;
	char what;
	int used;

	breaker_window_begin(w, now, &counts);
	for (; verdict == VERDICT_WELL && sscanf(script, " %c%u%n", &what, &n, &used) == 2; script += used) {
		for (unsigned i = 0; i < n && verdict == VERDICT_WELL; i++) {
			counts.calls += what != 't';
			counts.failures += what == 'f';
			counts.slow += what == 's';
			if (what == 't')
				now += SEC(1);
			if (what != 't' && what != 'f') /* nobody looks at calls that are good */
				continue;
			breaker_window_add(w, s, now, &counts, what == 'f');
			verdict = breaker_window_judge(w, s, now, &counts);
			if (what == 't' && verdict == VERDICT_WELL)
				breaker_window_learn(w, now, &counts);
		}
	}
	return verdict;
}

static void judges_what_happened_last(void **state)
{
	static const struct {
		const char *script;
		enum breaker_verdict expected;
	} cases[] = {
		{"", VERDICT_WELL},
		{"g1000 t5", VERDICT_WELL},
		{"f4", VERDICT_WELL},
		{"f5", VERDICT_FAILS},
		{"g100000 t1 f4", VERDICT_WELL},
		{"g100000 t1 f5", VERDICT_FAILS}, /* however many were good before */
		{"g100000 f5", VERDICT_FAILS},
		{"f1 t1 f1 t1 f1 t1 f1 t1 f1", VERDICT_FAILS},
		{"f1 t20 f1 t20 f1 t20 f1 t20 f1", VERDICT_WELL}, /* too far apart */
		{"f4 t31 f1", VERDICT_WELL},
		{"f4 t28 f1", VERDICT_FAILS},
		{"f4 g4 f1", VERDICT_FAILS},                                       /* 5 of 9 */
		{"f4 g6 f1", VERDICT_WELL},                                        /* 5 of 11 */
		{"f4 g6 f1 g1 f1", VERDICT_WELL},                                  /* 6 of 13 */
		{"g1 f1 g1 f1 g1 f1 g1 f1 g1 f1", VERDICT_FAILS},                  /* every other one */
		{"g2 f1 g2 f1 g2 f1 g2 f1 g2 f1 g2 f1 g2 f1 g2 f1", VERDICT_WELL}, /* every third */
		{"f4 g200 f4", VERDICT_WELL},
		{"s9 t1", VERDICT_WELL}, /* slow ones do not matter by these settings */
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct breaker_window w = {0};
		enum breaker_verdict verdict = run(&usual_settings, cases[i].script, &w);

		if (verdict != cases[i].expected)
			fail_msg("%s: %d, not %d", cases[i].script, verdict, cases[i].expected);
	}
}

static void judges_slow_calls(void **state)
{
	static const struct {
		const char *script;
		enum breaker_verdict expected;
	} cases[] = {
		{"s9 t1", VERDICT_WELL},            /* too few to tell */
		{"s10 t1", VERDICT_SLOW},           /* */
		{"s8 g2 t1", VERDICT_SLOW},         /* 80 % */
		{"s7 g3 t1", VERDICT_WELL},         /* 70 % */
		{"s5 t1 s5 t1", VERDICT_SLOW},      /* together they are enough */
		{"s5 t31 s5 t1", VERDICT_WELL},     /* not so long apart */
		{"g10000 t1 s10 t1", VERDICT_SLOW}, /* since a second ago */
		{"g10000 s10 t1", VERDICT_WELL},    /* within one second they can't be told apart */
		{"s1000 t1", VERDICT_SLOW},         /* more than window_calls at once */
		{"s6 f5", VERDICT_FAILS},
	};
	struct breaker_settings s = usual_settings;

	s.slow_rate = 80;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct breaker_window w = {0};
		enum breaker_verdict verdict = run(&s, cases[i].script, &w);

		if (verdict != cases[i].expected)
			fail_msg("%s: %d, not %d", cases[i].script, verdict, cases[i].expected);
	}
}

static void large_thresholds_fit_into_the_window(void **state)
{
	struct breaker_settings s = usual_settings;
	struct breaker_window w = {0};

	s.failure_threshold = 10000;
	s.window_calls = 0;
	assert_int_equal(run(&s, "g5000 f9999", &w), VERDICT_WELL);
	assert_int_equal(run(&s, "g5000 f11000", &w), VERDICT_FAILS);
	s.window_calls = 100; /* 10000 failures of 100 calls there are never but at once */
	assert_int_equal(run(&s, "g50 f9000", &w), VERDICT_WELL);
}

static void learns_what_is_usual(void **state)
{
	struct breaker_settings s = usual_settings;
	struct breaker_window w = {0};
	struct breaker_counts counts = {0};
	usec_t now = SEC(1000);

	breaker_window_begin(&w, now, &counts);
	for (int i = 0; i < 7200; i++) { /* one in ten fails, for two hours */
		now += SEC(1);
		counts.calls += 100;
		counts.failures += 10;
		breaker_window_learn(&w, now, &counts);
	}
	assert_in_range((int)(w.usual * 1000), 98, 101);
	s.adaptive = true;
	s.failure_rate = 1;
	breaker_window_begin(&w, now, &counts);
	counts.calls += 100;
	counts.failures += 20; /* 10 are usual, and 5 + 10 + 3 * sqrt(10) = 24.5 */
	assert_int_equal(breaker_window_judge(&w, &s, now, &counts), VERDICT_WELL);
	counts.calls += 5;
	counts.failures += 5; /* 25 of 105: 5 + 10.5 + 9.7 */
	assert_int_equal(breaker_window_judge(&w, &s, now, &counts), VERDICT_WELL);
	counts.calls++;
	counts.failures++;
	assert_int_equal(breaker_window_judge(&w, &s, now, &counts), VERDICT_FAILS);
	s.adaptive = false;
	counts.failures -= 10;
	assert_int_equal(breaker_window_judge(&w, &s, now, &counts), VERDICT_FAILS);
}

/* ---- the states ---- */

struct fixture {
	struct config *config;
	struct node_list *nodes;
	struct breakers *breakers;
	struct node *node;
};

static struct config *config_of(const char *more)
{
	struct config_report report;
	struct config *c = NULL;
	char text[1000];

	snprintf(text, sizeof(text),
		 "[[nodes]]\nhost = \"127.0.0.1\"\nport = 1\nrole = \"primary\"\n"
		 "[[nodes]]\nhost = \"127.0.0.1\"\nport = 2\nrole = \"standby\"\n%s",
		 more);
	config_report_init(&report, false);
	assert_int_equal(config_load_text(text, strlen(text), "test", &c, &report), 0);
	config_report_free(&report);
	return c;
}

#define ON \
	"[circuit_breaker]\nenabled = true\nfailure_threshold = 3\nopen_secs = 10\nsuccess_threshold = 2\n" \
	"half_open_max_probes = 2\n"

static void begin(struct fixture *f, const char *more)
{
	clock_update();
	f->config = config_of(more);
	f->nodes = node_list_new(f->config);
	f->breakers = breakers_new(f->nodes, f->config);
	f->node = node_list_at(f->nodes, 0);
}

static void end(struct fixture *f)
{
	breakers_free(f->breakers);
	node_list_free(f->nodes);
	config_free(f->config);
}

static void wait_for(usec_t time)
{
	clock_advance(time);
	clock_update();
}

static struct breaker_view look(const struct node *node)
{
	struct breaker_view v;

	assert_true(breaker_look(node, &v));
	return v;
}

/* false: it was rejected. */
static bool call(struct node *node, enum breaker_failure failure)
{
	breaker_ticket ticket;

	if (!breaker_begin(node, 0, &ticket))
		return false;
	breaker_end(node, 0, ticket, failure, 0);
	return true;
}

static void opens_probes_and_closes(void **state)
{
	struct fixture f;
	breaker_ticket a, b, c;

	begin(&f, ON);
	for (int i = 0; i < 3; i++) {
		assert_true(breaker_allows(f.node));
		assert_true(call(f.node, BREAKER_CONNECTION));
	}
	assert_int_equal(look(f.node).state, BREAKER_OPEN);
	assert_false(breaker_allows(f.node));
	assert_false(call(f.node, BREAKER_GOOD));
	assert_int_equal(look(f.node).rejected, 1);
	assert_true(breaker_allows(node_list_at(f.nodes, 1))); /* another node's is its own */
	wait_for(SEC(11));
	assert_true(breaker_allows(f.node)); /* due: who asks first finds it half open */
	assert_true(breaker_begin(f.node, 0, &a));
	assert_int_equal(look(f.node).state, BREAKER_HALF_OPEN);
	assert_true(breaker_begin(f.node, 1, &b));
	assert_false(breaker_allows(f.node));
	assert_false(breaker_begin(f.node, 2, &c)); /* no more than two at a time */
	breaker_give_up(f.node, b);
	assert_true(breaker_begin(f.node, 2, &c));
	breaker_end(f.node, 0, a, BREAKER_GOOD, 0);
	assert_int_equal(look(f.node).state, BREAKER_HALF_OPEN);
	breaker_end(f.node, 2, c, BREAKER_GOOD, 0);
	assert_int_equal(look(f.node).state, BREAKER_CLOSED);
	assert_true(call(f.node, BREAKER_CONNECTION)); /* what was before is forgotten */
	assert_int_equal(look(f.node).state, BREAKER_CLOSED);
	assert_true(atomic_load(&f.node->ramp_since) > 0); /* it gets its share bit by bit */
	end(&f);
}

static void a_failed_probe_opens_it_again(void **state)
{
	struct fixture f;
	struct breaker_view v;
	breaker_ticket early, late;

	begin(&f, ON);
	for (int i = 0; i < 3; i++)
		call(f.node, BREAKER_CONNECTION);
	wait_for(SEC(11));
	breakers_tick(f.breakers);
	assert_int_equal(look(f.node).state, BREAKER_HALF_OPEN);
	assert_true(breaker_begin(f.node, 0, &early));
	assert_true(call(f.node, BREAKER_TIMEOUT));
	assert_int_equal(look(f.node).state, BREAKER_OPEN);
	wait_for(SEC(11));
	assert_true(breaker_begin(f.node, 0, &late));
	breaker_end(f.node, 0, early, BREAKER_CONNECTION, 0); /* of an earlier time: says nothing */
	assert_int_equal(look(f.node).state, BREAKER_HALF_OPEN);
	breaker_end(f.node, 0, late, BREAKER_GOOD, 0);
	assert_true(call(f.node, BREAKER_GOOD));
	v = look(f.node);
	assert_int_equal(v.state, BREAKER_CLOSED);
	assert_int_equal(v.opened, 2);
	assert_int_equal(v.change_count, 5);
	assert_int_equal(v.changes[0].why, BREAKER_BECAUSE_PROBES_GOOD);
	assert_int_equal(v.changes[4].why, BREAKER_BECAUSE_FAILURES);
	assert_in_range(v.time_in[BREAKER_OPEN], SEC(22), SEC(60));
	end(&f);
}

/* Connections that are open go on being used: what is good there closes it, too. */
static void calls_that_were_not_begun_as_probes(void **state)
{
	struct fixture f;
	breaker_ticket probe;

	begin(&f, ON);
	for (int i = 0; i < 3; i++)
		call(f.node, BREAKER_CONNECTION);
	breaker_end(f.node, 0, 0, BREAKER_GOOD, 0); /* while it is open it does not matter */
	breaker_end(f.node, 0, 0, BREAKER_GOOD, 0);
	assert_int_equal(look(f.node).state, BREAKER_OPEN);
	wait_for(SEC(11));
	assert_true(breaker_begin(f.node, 0, &probe));
	breaker_end(f.node, 1, 0, BREAKER_CONNECTION, 0); /* of something that broke long ago */
	assert_int_equal(look(f.node).state, BREAKER_HALF_OPEN);
	breaker_end(f.node, 0, probe, BREAKER_GOOD, 0);
	breaker_end(f.node, 0, 0, BREAKER_GOOD, 0);
	assert_int_equal(look(f.node).state, BREAKER_CLOSED);
	assert_int_equal(breaker_join(f.node), 0);
	end(&f);
}

/* They are probes, too, as long as there is room for them. */
static void calls_on_open_connections_join(void **state)
{
	struct fixture f;
	breaker_ticket a, b;

	begin(&f, ON);
	for (int i = 0; i < 3; i++)
		call(f.node, BREAKER_CONNECTION);
	assert_int_equal(breaker_join(f.node), 0);
	wait_for(SEC(11));
	breakers_tick(f.breakers);
	a = breaker_join(f.node);
	b = breaker_join(f.node);
	assert_true(a != 0 && b != 0);
	assert_int_equal(breaker_join(f.node), 0);
	assert_false(breaker_allows(f.node));
	breaker_end(f.node, 0, a, BREAKER_GOOD, 0);
	assert_true(breaker_allows(f.node));
	breaker_end(f.node, 0, b, BREAKER_ERROR_OF_NODE, 0);
	assert_int_equal(look(f.node).state, BREAKER_OPEN);
	assert_int_equal(look(f.node).rejected, 0);
	end(&f);
}

/* A probe whose end is never told does not keep others away for good. */
static void probes_that_got_lost(void **state)
{
	struct fixture f;
	breaker_ticket t;

	begin(&f, ON);
	for (int i = 0; i < 3; i++)
		call(f.node, BREAKER_CONNECTION);
	wait_for(SEC(11));
	assert_true(breaker_begin(f.node, 0, &t) && breaker_begin(f.node, 0, &t));
	assert_false(breaker_begin(f.node, 0, &t));
	wait_for(SEC(61));
	assert_true(breaker_begin(f.node, 0, &t));
	end(&f);
}

static void what_counts_is_by_configuration(void **state)
{
	static const struct {
		const char *more;
		enum breaker_failure failure;
		usec_t took;
		enum breaker_state expected;
	} cases[] = {
		{ON, BREAKER_GOOD, 0, BREAKER_CLOSED},
		{ON, BREAKER_ERROR_OF_NODE, 0, BREAKER_OPEN},
		{ON, BREAKER_CONNECTION, 0, BREAKER_OPEN},
		{ON "count_connection_errors = false\n", BREAKER_CONNECTION, 0, BREAKER_CLOSED},
		{ON, BREAKER_TIMEOUT, 0, BREAKER_OPEN},
		{ON "count_timeouts = false\n", BREAKER_TIMEOUT, 0, BREAKER_CLOSED},
		{ON, BREAKER_GOOD, SEC(3), BREAKER_CLOSED},
		{ON "timeout = 3\n", BREAKER_GOOD, SEC(3), BREAKER_OPEN},
		{ON "[circuit_breaker.failure_conditions]\ntimeout_secs = 3\n", BREAKER_GOOD, SEC(3), BREAKER_OPEN},
		{ON "slow_call_rate = 50\nminimum_calls = 4\n", BREAKER_GOOD, SEC(3), BREAKER_CLOSED}, /* three calls */
		{ON "slow_call_rate = 50\nminimum_calls = 3\n", BREAKER_GOOD, SEC(3), BREAKER_OPEN},
		{ON "slow_call_rate = 50\nminimum_calls = 3\n", BREAKER_GOOD, SEC(1), BREAKER_CLOSED},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct fixture f;

		begin(&f, cases[i].more);
		for (int k = 0; k < 3; k++)
			breaker_end(f.node, 0, 0, cases[i].failure, cases[i].took);
		breakers_tick(f.breakers);
		if (look(f.node).state != cases[i].expected)
			fail_msg("case %zu: %s", i, breaker_state_name(look(f.node).state));
		end(&f);
	}
}

static void errors_that_speak_of_the_node(void **state)
{
	static const struct {
		const char *more, *sqlstate;
		enum breaker_failure expected;
	} cases[] = {
		{ON, "42601", BREAKER_GOOD},
		{ON, "23505", BREAKER_GOOD},
		{ON, "22012", BREAKER_GOOD},
		{ON, "28P01", BREAKER_GOOD},
		{ON, "57014", BREAKER_GOOD},
		{ON, "25P03", BREAKER_GOOD},
		{ON, "P0001", BREAKER_GOOD},
		{ON, "", BREAKER_GOOD},
		{ON, "0A000", BREAKER_GOOD},
		{ON, "08006", BREAKER_CONNECTION},
		{ON, "08P01", BREAKER_GOOD},
		{ON, "53100", BREAKER_ERROR_OF_NODE},
		{ON, "53200", BREAKER_ERROR_OF_NODE},
		{ON, "53300", BREAKER_GOOD},
		{ON, "57P01", BREAKER_ERROR_OF_NODE},
		{ON, "57P02", BREAKER_ERROR_OF_NODE},
		{ON, "57P03", BREAKER_ERROR_OF_NODE},
		{ON, "57P04", BREAKER_GOOD},
		{ON, "58030", BREAKER_ERROR_OF_NODE},
		{ON, "XX000", BREAKER_ERROR_OF_NODE},
		{ON, "XX002", BREAKER_ERROR_OF_NODE},
		{ON, "40P01", BREAKER_GOOD},
		{ON "ignore_transient = false\n", "40P01", BREAKER_ERROR_OF_NODE},
		{ON "ignore_transient = false\n", "53300", BREAKER_ERROR_OF_NODE},
		{ON "ignore_transient = false\n", "23505", BREAKER_GOOD},
		{ON "error_codes = [\"57p03\", \"22\"]\n", "57P03", BREAKER_ERROR_OF_NODE},
		{ON "error_codes = [\"57p03\", \"22\"]\n", "57P01", BREAKER_GOOD},
		{ON "error_codes = [\"57p03\", \"22\"]\n", "22012", BREAKER_ERROR_OF_NODE},
		{ON "error_codes = [\"57p03\", \"22\"]\n", "08001", BREAKER_CONNECTION},
		{"", "57P01", BREAKER_GOOD},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct fixture f;

		begin(&f, cases[i].more);
		if (breaker_judge_error(f.node, slice_str(cases[i].sqlstate)) != cases[i].expected)
			fail_msg("case %zu: %s", i, cases[i].sqlstate);
		end(&f);
	}
}

#define KINDS \
	"[circuit_breaker.sync_modes]\nsync_threshold = 2\nsync_cooldown_secs = 1\nsemisync_threshold = 3\n" \
	"async_threshold = 6\nasync_cooldown_secs = 60\n"

/* How many failures in a row it takes, and for how long it is open then. */
static void kinds_of_standbys_have_thresholds_of_their_own(void **state)
{
	static const struct {
		const char *sync_state;
		int failures;
		usec_t open;
	} cases[] = {
		{"", 4, SEC(10)},      {"sync", 2, SEC(1)},       {"quorum", 3, SEC(10)},
		{"async", 6, SEC(60)}, {"potential", 6, SEC(60)}, {"whatever", 4, SEC(10)},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct fixture f;
		int failures = 0;

		begin(&f, "[circuit_breaker]\nenabled = true\nfailure_threshold = 4\nopen = \"10s\"\n" KINDS);
		node_set_sync(f.node, cases[i].sync_state);
		while (breaker_allows(f.node) && failures < 10) {
			assert_true(call(f.node, BREAKER_CONNECTION));
			failures++;
		}
		assert_int_equal(failures, cases[i].failures);
		assert_in_range(look(f.node).retry_in, cases[i].open / 10 + 1, cases[i].open);
		end(&f);
	}
}

static void off_and_on_again(void **state)
{
	struct fixture f;
	struct config *fresh;
	struct breaker_view v;

	begin(&f, "");
	for (int i = 0; i < 100; i++)
		assert_true(call(f.node, BREAKER_CONNECTION));
	assert_false(breaker_look(f.node, &v));
	fresh = config_of(ON);
	breakers_reload(f.breakers, fresh);
	for (int i = 0; i < 3; i++)
		assert_true(call(f.node, BREAKER_CONNECTION));
	assert_false(breaker_allows(f.node));
	breakers_reload(f.breakers, f.config);
	assert_true(breaker_allows(f.node));
	breakers_reload(f.breakers, fresh);
	assert_true(breaker_allows(f.node));
	assert_int_equal(look(f.node).changes[0].why, BREAKER_BECAUSE_DISABLED);
	config_free(fresh);
	end(&f);
}

static void no_more_than_so_much_history(void **state)
{
	struct fixture f;

	begin(&f, ON);
	for (int i = 0; i < 3; i++)
		call(f.node, BREAKER_CONNECTION);
	for (int i = 0; i < 20; i++) {
		wait_for(SEC(11));
		assert_true(call(f.node, BREAKER_CONNECTION));
	}
	assert_int_equal(look(f.node).transitions, 41);
	assert_int_equal(look(f.node).change_count, BREAKER_HISTORY);
	end(&f);
}

/* ---- many threads ---- */

#define CALLERS 4u

struct caller {
	struct fixture *f;
	uint32_t index;
	uint64_t made;
};

static void *call_often(void *argument)
{
	struct caller *c = argument;

	for (uint32_t i = 0; i < 20000; i++) {
		breaker_ticket ticket;

		clock_update();
		if (!breaker_begin(c->f->node, c->index, &ticket))
			continue;
		c->made++;
		breaker_end(c->f->node, c->index, ticket, i % 3000 < 20 ? BREAKER_CONNECTION : BREAKER_GOOD, 1);
	}
	return NULL;
}

static void nothing_is_lost_between_threads(void **state)
{
	struct caller callers[CALLERS];
	pthread_t threads[CALLERS];
	struct fixture f;
	uint64_t made = 0;

	begin(&f, "[circuit_breaker]\nenabled = true\nopen_ms = 1\nfailure_threshold = 3\nfailure_rate = 1\n");
	for (uint32_t i = 0; i < CALLERS; i++) {
		callers[i] = (struct caller){&f, i, 0};
		assert_int_equal(pthread_create(&threads[i], NULL, call_often, &callers[i]), 0);
	}
	for (int i = 0; i < 50; i++)
		breakers_tick(f.breakers);
	for (uint32_t i = 0; i < CALLERS; i++) {
		pthread_join(threads[i], NULL);
		made += callers[i].made;
	}
	assert_int_equal(look(f.node).total.calls, made);
	assert_int_equal(look(f.node).total.calls + look(f.node).rejected, CALLERS * 20000);
	end(&f);
}

/* Since it was asked last. */
static bool was_told(void)
{
	static uint64_t last;
	uint64_t before = last;

	last = changes_now();
	return last != before;
}

static void what_reads_hang_on_is_told(void **state)
{
	struct config_health health = {.failure_threshold = 1, .success_threshold = 1};
	struct fixture f;

	(void)state;
	begin(&f, ON);
	(void)was_told();
	node_set_lag(f.node, 5, 0);
	assert_true(was_told());
	node_set_lag(f.node, 5, 7);
	assert_true(was_told());
	node_set_lag(f.node, 5, 7);
	assert_false(was_told());
	node_checked(f.node, /* good= */ false, &health);
	assert_true(was_told());
	node_checked(f.node, /* good= */ false, &health);
	assert_false(was_told());
	node_answered(f.node);
	assert_true(was_told());
	node_drain(f.node, USEC_NEVER);
	assert_true(was_told());
	assert_true(node_undrain(f.node));
	assert_true(was_told());
	assert_int_equal(node_list_reload(f.nodes, f.config), 0); /* weights and zones may be others */
	assert_true(was_told());
	for (int i = 0; i < 3; i++) {
		assert_false(was_told());
		assert_true(call(f.node, BREAKER_CONNECTION));
	}
	assert_true(was_told());
	end(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(judges_what_happened_last),
		cmocka_unit_test(judges_slow_calls),
		cmocka_unit_test(large_thresholds_fit_into_the_window),
		cmocka_unit_test(learns_what_is_usual),
		cmocka_unit_test(opens_probes_and_closes),
		cmocka_unit_test(a_failed_probe_opens_it_again),
		cmocka_unit_test(calls_that_were_not_begun_as_probes),
		cmocka_unit_test(calls_on_open_connections_join),
		cmocka_unit_test(probes_that_got_lost),
		cmocka_unit_test(what_counts_is_by_configuration),
		cmocka_unit_test(errors_that_speak_of_the_node),
		cmocka_unit_test(kinds_of_standbys_have_thresholds_of_their_own),
		cmocka_unit_test(off_and_on_again),
		cmocka_unit_test(no_more_than_so_much_history),
		cmocka_unit_test(nothing_is_lost_between_threads),
		cmocka_unit_test(what_reads_hang_on_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
