/*
 * The adaptive limit against servers that are modelled: what they do in a second with so many links in use is a
 * formula, with noise from a generator that begins the same each time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pool/limiter.h"

#define LEAST 16u
#define MOST  100u

/* Up to `knee` links each does as much as the first one; more add nothing, and each takes `overload` away. */
struct model {
	double service_us;
	uint32_t knee;
	double overload;
	uint32_t clients; /* each has always something to do */
	double noise;     /* up to so much more or less */
};

struct run {
	const struct model *model;
	struct limiter limiter;
	uint32_t limit; /* in force */
	uint32_t random;
};

static double noise(struct run *run)
{
	run->random = run->random * 1664525u + 1013904223u;
	return 1 + run->model->noise * ((run->random >> 8) / (double)(1u << 23) - 1);
}

static struct limiter_sample window_of(struct run *run, usec_t length)
{
	const struct model *m = run->model;
	uint32_t active = MIN(run->limit, m->clients), useful = MIN(active, m->knee);
	double rate = useful / m->service_us * (1 - m->overload * (active - useful)) * noise(run);
	struct limiter_sample sample = {.length = length, .done = (uint64_t)(rate * (double)length)};

	sample.used = (usec_t)active * length;
	sample.waited = m->clients > run->limit ? sample.done : 0;
	return sample;
}

static struct run begin(const struct model *model, uint32_t start)
{
	struct run run = {.model = model, .limit = start, .random = 1};

	limiter_init(&run.limiter, start);
	return run;
}

static void feed(struct run *run, const struct limiter_sample *sample)
{
	run->limit = limiter_next(&run->limiter, sample, LEAST, MOST);
	assert_in_range(run->limit, LEAST, MOST);
	assert_in_range(run->limiter.limit, LEAST, MOST);
}

/* So many windows, each as long as it takes. */
static void go_on(struct run *run, int windows)
{
	while (windows-- > 0) {
		usec_t length = 100 * USEC_PER_MSEC;
		struct limiter_sample sample;

		while (sample = window_of(run, length), !limiter_is_due(&run->limiter, &sample))
			length += 50 * USEC_PER_MSEC;
		feed(run, &sample);
	}
}

/* The server is what is short: two cores. Fewer do as much, or more. */
static const struct model busy = {.service_us = 100, .knee = 4, .overload = 0.004, .clients = 200},
			  busy_noisy = {.service_us = 100, .knee = 4, .overload = 0.004, .clients = 200, .noise = 0.05},
			  busy_few_clients = {.service_us = 100, .knee = 4, .overload = 0.004, .clients = 64},
			  flat = {.service_us = 100, .knee = 4, .clients = 200},
			  /* it is far away, or sleeps: each link does as much as any other */
	far = {.service_us = 20000, .knee = 100000, .clients = 200},
			  far_noisy = {.service_us = 20000, .knee = 100000, .clients = 200, .noise = 0.08},
			  quick_but_far = {.service_us = 400, .knee = 100000, .clients = 200},
			  /* a large one */
	large = {.service_us = 200, .knee = 40, .overload = 0.004, .clients = 200},
			  large_noisy = {.service_us = 200,
					 .knee = 40,
					 .overload = 0.004,
					 .clients = 200,
					 .noise = 0.05},
			  small_clients = {.service_us = 100, .knee = 4, .overload = 0.004, .clients = 10};

static void converges(void **state)
{
	static const struct {
		const struct model *model;
		uint32_t start, from, to; /* where it has to end */
		int windows;
	} table[] = {
		{&busy, 100, 16, 20, 60},
		{&busy, 16, 16, 20, 60},
		{&busy_noisy, 100, 16, 40, 200},
		{&flat, 100, 16, 20, 60},
		{&busy_few_clients, 100, 16, 20, 60},
		{&far, 16, 100, 100, 8},
		{&far_noisy, 16, 100, 100, 30},
		{&quick_but_far, 16, 100, 100, 8},
		{&large, 16, 32, 50, 60},
		{&large, 100, 32, 50, 60},
		{&large_noisy, 16, 26, 64, 200},
		{&small_clients, 16, 16, 16, 50},
		{&small_clients, 50, 16, 50, 50},
		{&far, 100, 100, 100, 50},
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct run run = begin(table[i].model, table[i].start);

		go_on(&run, table[i].windows);
		if (run.limiter.limit < table[i].from || run.limiter.limit > table[i].to)
			fail_msg("row %zu: it ends at %u", i, run.limiter.limit);
	}
}

/* Trials that don't pay are rare: most of the time what was found is in force. */
static void rests_where_it_is_good(void **state)
{
	struct run run = begin(&far, MOST);
	uint32_t below = 0;

	go_on(&run, 20);
	for (int i = 0; i < 400; i++) {
		go_on(&run, 1);
		below += run.limit < MOST;
	}
	assert_true(below > 0);
	assert_true(below < 40);
	assert_int_equal(run.limiter.limit, MOST);
}

/* The load changes while trials are rare. */
static void follows_the_load(void **state)
{
	struct run run = begin(&busy, 16);

	go_on(&run, 200);
	assert_in_range(run.limiter.limit, 16, 20);
	run.model = &far;
	go_on(&run, 16);
	assert_int_equal(run.limiter.limit, MOST);
	run.model = &busy;
	go_on(&run, 60);
	assert_in_range(run.limiter.limit, 16, 20);
	run.model = &busy_few_clients; /* and with the line empty at a high limit */
	run.limit = run.limiter.limit = MOST;
	go_on(&run, 60);
	assert_in_range(run.limiter.limit, 16, 20);
}

/* Clients wait while each use takes as long as before: more links are what lacks. */
static void rises_when_only_waiting_grows(void **state)
{
	struct model m = quick_but_far;
	struct run run;

	m.clients = 12;
	run = begin(&m, 16);
	go_on(&run, 50);
	assert_int_equal(run.limiter.limit, 16);
	m.clients = 90;
	go_on(&run, 12);
	assert_int_equal(run.limiter.limit, MOST);
}

static void a_stall_changes_nothing(void **state)
{
	struct limiter_sample nothing = {.length = USEC_PER_SEC, .waited = 5};
	struct run run = begin(&busy, 16);
	uint32_t before;

	go_on(&run, 100);
	before = run.limiter.limit;
	for (int i = 0; i < 10; i++)
		feed(&run, &nothing);
	assert_int_equal(run.limiter.limit, before);
	assert_int_equal(run.limit, before);    /* no trial is left in force */
	nothing.done = nothing.waited = 100000; /* the first window behind a long pause counts as little */
	nothing.length = 60 * USEC_PER_SEC;
	feed(&run, &nothing);
	assert_int_equal(run.limit, before);
	go_on(&run, 20);
	assert_in_range(run.limiter.limit, 16, 20);
}

/* A window on which something else was at work tells nothing. */
static void a_disturbed_trial_is_made_again(void **state)
{
	struct run run = begin(&far, 50);
	struct limiter_sample sample = window_of(&run, USEC_PER_SEC);

	feed(&run, &sample);
	assert_int_equal(run.limit, 100); /* is tried */
	sample.done = sample.waited = 1000;
	feed(&run, &sample);
	assert_int_equal(run.limit, 50);
	sample.done = sample.waited = 500; /* it was 2500 before */
	feed(&run, &sample);
	assert_int_equal(run.limiter.limit, 50);
	assert_int_equal(run.limit, 100);
}

static void long_uses_raise_it(void **state)
{
	struct run run = begin(&busy, 16);
	struct limiter_sample sample = {
		.length = USEC_PER_SEC, .done = 200, .held = 150, .waited = 200, .used = 250000};

	feed(&run, &sample);
	assert_int_equal(run.limit, 32);
	feed(&run, &sample);
	feed(&run, &sample);
	assert_int_equal(run.limit, MOST);
}

static void some_waiting_raises_it_slowly(void **state)
{
	struct run run = begin(&busy, 20);
	struct limiter_sample sample = {.length = USEC_PER_SEC, .done = 1000, .waited = 200, .used = 10 * USEC_PER_SEC};

	feed(&run, &sample);
	assert_int_equal(run.limit, 21);
	feed(&run, &sample);
	assert_int_equal(run.limit, 22);
}

/* Also where a reload moved the bounds, or turned them around. */
static void stays_within_its_bounds(void **state)
{
	struct run run = begin(&busy, 50);
	struct limiter_sample sample = window_of(&run, USEC_PER_SEC);

	for (uint32_t most = 60; most > 0; most--) {
		uint32_t limit = limiter_next(&run.limiter, &sample, 8, most);

		assert_in_range(limit, 8, MAX(most, 8));
	}
	for (uint32_t least = 1; least < 60; least++)
		assert_in_range(limiter_next(&run.limiter, &sample, least, 60), least, 60);
}

static void what_long_means(void **state)
{
	struct limiter limiter;

	limiter_init(&limiter, 16);
	assert_int_equal(limiter_long_use(&limiter), LIMITER_LONG_LEAST);
	limiter.usual = 3 * USEC_PER_MSEC;
	assert_int_equal(limiter_long_use(&limiter), 12 * USEC_PER_MSEC);
	limiter.usual = USEC_PER_SEC;
	assert_int_equal(limiter_long_use(&limiter), LIMITER_LONG_MOST);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(converges),
		cmocka_unit_test(rests_where_it_is_good),
		cmocka_unit_test(follows_the_load),
		cmocka_unit_test(rises_when_only_waiting_grows),
		cmocka_unit_test(a_stall_changes_nothing),
		cmocka_unit_test(a_disturbed_trial_is_made_again),
		cmocka_unit_test(long_uses_raise_it),
		cmocka_unit_test(some_waiting_raises_it_slowly),
		cmocka_unit_test(stays_within_its_bounds),
		cmocka_unit_test(what_long_means),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
