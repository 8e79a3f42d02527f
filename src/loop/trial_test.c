#include "loop/spin_judge.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define MS     USEC_PER_MSEC
#define WINDOW (20 * MS)

/* ---- the trial ---- */

struct step {
	uint32_t windows; /* so many like this */
	uint64_t work;
	bool wanted, with; /* with the change after each of them */
};

static const struct trial_rules rules = {
	.windows = 2,
	.settling = 1,
	.wins = 2,
	.losses = 2,
	.gain = 10,
	.hold = 10 * WINDOW,
	.rest = 5 * WINDOW,
	.rest_most = 12 * WINDOW,
	.forget = 50 * WINDOW,
};

static void run(const struct step *steps, size_t count)
{
	struct trial trial = {0};
	usec_t now = USEC_PER_SEC;

	for (size_t i = 0; i < count; i++) {
		const struct trial_window window = {steps[i].work, WINDOW, steps[i].wanted};

		for (uint32_t k = 0; k < steps[i].windows; k++) {
			now += WINDOW;
			if (trial_step(&trial, &rules, &window, now) != steps[i].with)
				fail_msg("step %zu, window %u: not %s it", i, k, steps[i].with ? "with" : "without");
		}
	}
}

#define RUN(...) \
	do { \
		static const struct step steps_[] = {__VA_ARGS__}; \
		run(steps_, ARRAY_SIZE(steps_)); \
	} while (0)

/* The window in which it begins, two without, of which the last goes over; two with, of which the last goes back. */
#define BEGINS \
	{ \
		1, 100, true, false \
	}
#define WITHOUT \
	{1, 100, true, false}, \
	{ \
		1, 100, true, true \
	}
#define WITH(w) \
	{1, w, true, true}, \
	{ \
		1, w, true, false \
	}
#define WITH_KEPT(w) \
	{ \
		2, w, true, true \
	}

static void what_brings_more_is_kept(void **state)
{
	(void)state;
	RUN(BEGINS, WITHOUT, WITH(110), WITHOUT, WITH_KEPT(110), {9, 0, true, true});
	RUN(BEGINS, WITHOUT, WITH(109), WITHOUT, WITH(109), {5, 0, true, false});
	/* one pair that is lost is not the verdict */
	RUN(BEGINS, WITHOUT, WITH(110), WITHOUT, WITH(50), WITHOUT, WITH_KEPT(110), {9, 0, true, true});
	RUN(BEGINS, WITHOUT, WITH(50), WITHOUT, WITH(110), WITHOUT, WITH(50), {5, 0, true, false});
}

static void the_first_windows_of_a_half_do_not_count(void **state)
{
	(void)state;
	RUN(BEGINS, {1, 900, true, false}, {1, 100, true, true}, {1, 0, true, true}, {1, 110, true, false}, WITHOUT,
	    WITH_KEPT(110));
}

static void nothing_is_tried_that_is_not_wanted(void **state)
{
	(void)state;
	RUN({1000, 100, false, false});
	/* whose reason ends in the middle has no verdict, and comes again only after a rest */
	RUN(BEGINS, WITHOUT, {1, 900, false, false}, {4, 100, true, false}, BEGINS, WITHOUT, WITH(110));
	RUN(BEGINS, {1, 100, false, false}, {4, 100, true, false}, BEGINS, WITHOUT);
	/* what is kept stays so: who wanted it decides what that means meanwhile */
	RUN(BEGINS, WITHOUT, WITH(110), WITHOUT, WITH_KEPT(110), {30, 0, false, true}, {1, 100, true, false}, WITHOUT);
}

static void what_is_kept_is_tried_again(void **state)
{
	(void)state;
	RUN(BEGINS, WITHOUT, WITH(110), WITHOUT, WITH_KEPT(110), {9, 200, true, true}, BEGINS, WITHOUT, WITH(110),
	    WITHOUT, WITH_KEPT(110), {9, 200, true, true}, BEGINS, WITHOUT, WITH(90), WITHOUT, WITH(90),
	    {4, 0, true, false}, BEGINS, WITHOUT);
}

#define LOST BEGINS, WITHOUT, WITH(90), WITHOUT, WITH(90)

static void rests_longer_each_time(void **state)
{
	(void)state;
	RUN(LOST, {4, 0, true, false}, LOST, {9, 0, true, false}, LOST, {11, 0, true, false}, LOST,
	    {11, 0, true, false}, BEGINS, WITHOUT);
	/* one that was kept makes up for it */
	RUN(LOST, {4, 0, true, false}, BEGINS, WITHOUT, WITH(110), WITHOUT, WITH_KEPT(110), {9, 0, true, true}, LOST,
	    {4, 0, true, false}, BEGINS, WITHOUT);
}

static void another_load_is_another_trial(void **state)
{
	(void)state;
	RUN(LOST, {4, 0, true, false}, LOST, {4, 0, true, false}, {49, 0, false, false}, LOST, {4, 0, true, false},
	    BEGINS, WITHOUT);
	RUN(BEGINS, WITHOUT, WITH(110), WITHOUT, WITH_KEPT(110), {49, 0, false, true}, BEGINS, WITHOUT);
}

static void what_is_lost_rests(void **state)
{
	struct trial trial = {.phase = TRIAL_KEPT, .until = USEC_NEVER, .wanted_at = USEC_PER_SEC};
	const struct trial_window window = {100, WINDOW, true};
	usec_t now = USEC_PER_SEC, began = now;

	(void)state;
	assert_true(trial_step(&trial, &rules, &window, now));
	trial_lose(&trial, &rules, now);
	for (; trial.phase == TRIAL_RESTING; now += WINDOW)
		assert_false(trial_step(&trial, &rules, &window, now));
	assert_int_equal(now - WINDOW - began, rules.rest);
}

/* ---- whether to spin ---- */

struct load {
	const char *name;
	struct spin_window window;
	bool has_reason;
};

/* Each is seen for long, and does half as much again while it spins. */
static const struct load loads[] = {
	{"one client", {.events = 400, .waits = 400, .soon = 400, .length = WINDOW}, true},
	{"three a wait", {.events = 900, .waits = 300, .soon = 300, .length = WINDOW}, true},
	{"a crowd", {.events = 901, .waits = 300, .soon = 300, .length = WINDOW}, false},
	{"answers that take long", {.events = 400, .waits = 400, .soon = 299, .length = WINDOW}, false},
	{"one that thinks now and then", {.events = 400, .waits = 400, .soon = 300, .length = WINDOW}, true},
	{"a pause", {.events = 400, .waits = 400, .soon = 400, .length = 61 * MS}, false},
	{"hardly anything", {.events = 19, .waits = 19, .soon = 19, .length = WINDOW}, false},
	{"nothing", {.length = WINDOW}, false},
};

static bool ever_spins(const struct spin_window *without)
{
	struct trial trial = {0};
	usec_t now = USEC_PER_SEC;
	bool spins = false, ever = false;

	for (int i = 0; i < 100; i++) {
		struct spin_window window = *without;

		window.work = spins ? 300 : 200;
		now += window.length;
		spins = spin_judge(&trial, &window, now);
		ever = ever || spins;
	}
	return ever;
}

static void spins_only_with_a_reason(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(loads); i++)
		if (ever_spins(&loads[i].window) != loads[i].has_reason)
			fail_msg("%s: %s", loads[i].name, loads[i].has_reason ? "never spins" : "spins");
}

/* Of so many windows; `gain`: per cent of work that spinning brings; `lost`: of its time that others take. */
static uint32_t spinning_windows(uint32_t windows, uint64_t gain, usec_t lost)
{
	const struct spin_window *one = &loads[0].window;
	struct trial trial = {0};
	usec_t now = USEC_PER_SEC;
	uint32_t count = 0;
	bool spins = false;

	for (uint32_t i = 0; i < windows; i++) {
		struct spin_window window = *one;

		window.work = spins ? 1000 + 10 * gain : 1000;
		window.lost = spins ? WINDOW * lost / 100 : 0;
		now += WINDOW;
		spins = spin_judge(&trial, &window, now);
		count += spins;
	}
	return count;
}

static void spins_as_long_as_it_pays(void **state)
{
	(void)state;
	assert_in_range(spinning_windows(3000, 30, 0), 2900, 3000);
	assert_in_range(spinning_windows(3000, 8, 0), 2900, 3000);
	assert_in_range(spinning_windows(3000, 7, 0), 2, 12); /* a minute: two windows each time, after 2, 4, 8, 16 s */
	assert_in_range(spinning_windows(3000, 30, 10), 2900, 3000);
	assert_in_range(spinning_windows(3000, 30, 11), 1, 6); /* others need the core */
}

/* What is kept spins in no window after one that gave no reason for it. */
static void pauses_with_the_reason(void **state)
{
	const struct spin_window *one = &loads[0].window, *none = &loads[3].window;
	struct trial trial = {0};
	usec_t now = USEC_PER_SEC;

	(void)state;
	for (; trial.phase != TRIAL_KEPT; now += WINDOW) {
		struct spin_window window = *one;

		window.work = trial.phase == TRIAL_WITH ? 300 : 200;
		(void)spin_judge(&trial, &window, now);
	}
	assert_false(spin_judge(&trial, none, now));
	assert_true(spin_judge(&trial, one, now + WINDOW));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_brings_more_is_kept),
		cmocka_unit_test(the_first_windows_of_a_half_do_not_count),
		cmocka_unit_test(nothing_is_tried_that_is_not_wanted),
		cmocka_unit_test(what_is_kept_is_tried_again),
		cmocka_unit_test(rests_longer_each_time),
		cmocka_unit_test(another_load_is_another_trial),
		cmocka_unit_test(what_is_lost_rests),
		cmocka_unit_test(spins_only_with_a_reason),
		cmocka_unit_test(spins_as_long_as_it_pays),
		cmocka_unit_test(pauses_with_the_reason),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
