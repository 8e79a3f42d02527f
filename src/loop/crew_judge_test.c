#include "loop/crew_judge.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define MS USEC_PER_MSEC

#define WINDOW (20 * MS)

struct step {
	uint32_t windows; /* so many like this */
	uint32_t batch_most, batch_sum, busy_most, busy_sum;
	uint64_t work;
	uint32_t expected; /* after each of them */
};

/* Each begins with `active` threads of `most`, and knows nothing. */
static void run(uint32_t active, uint32_t most, const struct step *steps, size_t count)
{
	struct crew_memory memory = {0};
	usec_t now = USEC_PER_SEC;

	for (size_t i = 0; i < count; i++) {
		const struct step *s = &steps[i];
		const struct crew_window window = {s->batch_most, s->batch_sum, s->busy_most,
						   s->busy_sum,   s->work,      WINDOW};

		for (uint32_t k = 0; k < s->windows; k++) {
			now += WINDOW;
			active = crew_judge(&memory, &window, now, active, most);
			if (active != s->expected)
				fail_msg("step %zu, window %u: %u threads, not %u", i, k, active, s->expected);
		}
	}
}

#define RUN(active, most, ...) \
	do { \
		static const struct step steps_[] = {__VA_ARGS__}; \
		run(active, most, steps_, ARRAY_SIZE(steps_)); \
	} while (0)

#define LATE_ONE(work) 130, 130, 40, 40, work
#define LATE_TWO(work) 130, 260, 40, 80, work /* the same, or neither late nor calm, of two */
#define FINE_TWO(work) 60, 110, 40, 70, work
#define CALM_TWO(work) 10, 20, 10, 20, work

/* Three windows tell, ten measure what is done so far. */
static void splits_when_late(void **state)
{
	(void)state;
	RUN(1, 2, {12, LATE_ONE(100), 1}, {1, LATE_ONE(100), 2}, {1, LATE_TWO(100), 2});
	RUN(1, 2, {12, 20, 20, 80, 80, 100, 1}, {1, 20, 20, 80, 80, 100, 2});
	RUN(1, 2, {40, 120, 120, 75, 75, 100, 1});
	/* two windows alone are a stall */
	RUN(1, 2, {2, 900, 900, 90, 90, 100, 1}, {1, 20, 20, 20, 20, 100, 1}, {2, 900, 900, 90, 90, 100, 1},
	    {20, 20, 20, 20, 20, 100, 1});
	/* many at once while there is little to do: it was not let run */
	RUN(1, 2, {40, 900, 900, 20, 20, 100, 1});
	/* either reason counts */
	RUN(1, 2, {1, LATE_ONE(100), 1}, {1, 20, 20, 90, 90, 100, 1}, {10, LATE_ONE(100), 1}, {1, LATE_ONE(100), 2});
	/* and it must last */
	RUN(1, 2, {8, LATE_ONE(100), 1}, {1, 20, 20, 20, 20, 100, 1}, {90, LATE_ONE(100), 1});
}

static void a_split_is_kept_when_more_is_done_by_it(void **state)
{
	(void)state;
	RUN(1, 2, {12, LATE_ONE(100), 1}, {1, LATE_ONE(100), 2}, {10, LATE_TWO(105), 2}, {500, FINE_TWO(100), 2});
	RUN(1, 2, {12, LATE_ONE(100), 1}, {1, LATE_ONE(100), 2}, {9, LATE_TWO(104), 2}, {1, LATE_TWO(104), 1});
	/* the first windows are those of the move */
	RUN(1, 2, {12, LATE_ONE(100), 1}, {1, LATE_ONE(100), 2}, {2, LATE_TWO(900), 2}, {7, LATE_TWO(100), 2},
	    {1, LATE_TWO(100), 1});
	/* what is calm meanwhile needs no verdict */
	RUN(1, 2, {12, LATE_ONE(100), 1}, {1, LATE_ONE(100), 2}, {1, CALM_TWO(900), 1});
}

static void a_split_in_vain_is_not_tried_so_soon(void **state)
{
	(void)state;
	RUN(1, 2, {12, LATE_ONE(100), 1}, {10, LATE_ONE(100), 2}, {110, LATE_ONE(100), 1}, {10, LATE_ONE(100), 2},
	    {210, LATE_ONE(100), 1}, {10, LATE_ONE(100), 2}, {410, LATE_ONE(100), 1}, {10, LATE_ONE(100), 2});
}

/* Once a minute it is seen whether what is done has become another thing. */
static void a_split_that_was_kept_is_looked_at_again(void **state)
{
	(void)state;
	RUN(1, 2, {12, LATE_ONE(100), 1}, {10, LATE_TWO(110), 2}, {3000, FINE_TWO(110), 2}, {10, FINE_TWO(110), 1},
	    {10, FINE_TWO(110), 2}, {10, FINE_TWO(110), 1});
}

static void doubles_and_stops_at_the_most(void **state)
{
	(void)state;
	RUN(1, 6, {12, 0, 0, 99, 99, 100, 1}, {11, 0, 0, 99, 190, 200, 2}, {10, 0, 0, 99, 190, 200, 2},
	    {11, 0, 0, 99, 390, 400, 4}, {10, 0, 0, 99, 390, 400, 4}, {500, 0, 0, 99, 590, 600, 6});
	RUN(1, 1, {100, 0, 0, 99, 99, 100, 1});
}

static void joins_when_calm_for_long(void **state)
{
	(void)state;
	RUN(2, 2, {10, CALM_TWO(0), 2}, {1, CALM_TWO(0), 1}, {40, 10, 10, 10, 10, 0, 1});
	/* what all do together counts */
	RUN(2, 2, {40, 60, 110, 10, 20, 0, 2});
	RUN(2, 2, {40, 10, 20, 40, 70, 0, 2});
	/* and it begins anew after a window that was not calm */
	RUN(2, 2, {9, CALM_TWO(0), 2}, {1, FINE_TWO(0), 2}, {10, CALM_TWO(0), 2}, {1, CALM_TWO(0), 1});
}

/* Each of many has at least an event a wait: what half of them would have is what counts. */
static void many_join_by_halves(void **state)
{
	(void)state;
	RUN(9, 16, {10, 30, 270, 10, 90, 0, 9}, {1, 30, 270, 10, 90, 0, 5}, {10, 50, 250, 18, 90, 0, 5},
	    {1, 50, 250, 18, 90, 0, 3}, {40, 80, 240, 30, 90, 0, 3});
}

/* Returns when it splits. */
static usec_t split(struct crew_memory *memory, usec_t now)
{
	static const struct crew_window late = {130, 130, 40, 40, 100, WINDOW};

	while (crew_judge(memory, &late, now, 1, 2) == 1)
		now += WINDOW;
	return now;
}

/* Joins, and is late after `pause`. Returns how long it was calm before it joined; *at: when it split, now and then. */
static usec_t patience(struct crew_memory *memory, usec_t *at, usec_t pause)
{
	static const struct crew_window more = {130, 260, 40, 80, 200, WINDOW}, calm = {10, 20, 10, 20, 100, WINDOW};
	usec_t now = *at + WINDOW, from;

	while (memory->trial.phase != TRIAL_KEPT) {
		assert_int_equal(crew_judge(memory, &more, now, 2, 2), 2);
		now += WINDOW;
	}
	for (from = now; crew_judge(memory, &calm, now, 2, 2) == 2;)
		now += WINDOW;
	*at = split(memory, now + pause);
	return now - from;
}

static void a_wrong_join_is_not_tried_so_soon(void **state)
{
	struct crew_memory memory = {0};
	usec_t at = split(&memory, USEC_PER_SEC);

	(void)state;
	assert_int_equal(patience(&memory, &at, WINDOW), 200 * MS);
	assert_int_equal(patience(&memory, &at, WINDOW), 400 * MS);
	assert_int_equal(patience(&memory, &at, WINDOW), 800 * MS);
	for (int i = 0; i < 6; i++)
		(void)patience(&memory, &at, WINDOW);
	assert_int_equal(patience(&memory, &at, WINDOW), 60 * USEC_PER_SEC); /* at most */
	/* one that lasted was right */
	(void)patience(&memory, &at, 2 * USEC_PER_SEC);
	assert_int_equal(patience(&memory, &at, WINDOW), 200 * MS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(splits_when_late),
		cmocka_unit_test(a_split_is_kept_when_more_is_done_by_it),
		cmocka_unit_test(a_split_in_vain_is_not_tried_so_soon),
		cmocka_unit_test(a_split_that_was_kept_is_looked_at_again),
		cmocka_unit_test(doubles_and_stops_at_the_most),
		cmocka_unit_test(joins_when_calm_for_long),
		cmocka_unit_test(many_join_by_halves),
		cmocka_unit_test(a_wrong_join_is_not_tried_so_soon),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
