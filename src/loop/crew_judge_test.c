#include "loop/crew_judge.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define MS USEC_PER_MSEC

struct step {
	usec_t now;
	uint32_t batch_most, batch_sum, busy_most, busy_sum, expected;
};

/* Each begins with `active` threads of `most`, and knows nothing. */
static void run(uint32_t active, uint32_t most, const struct step *steps, size_t count)
{
	struct crew_memory memory = {0};

	for (size_t i = 0; i < count; i++) {
		const struct step *s = &steps[i];
		const struct crew_window window = {s->batch_most, s->batch_sum, s->busy_most, s->busy_sum};

		active = crew_judge(&memory, &window, s->now, active, most);
		if (active != s->expected)
			fail_msg("step %zu: %u threads, not %u", i, active, s->expected);
	}
}

#define RUN(active, most, ...) \
	do { \
		static const struct step steps_[] = {__VA_ARGS__}; \
		run(active, most, steps_, ARRAY_SIZE(steps_)); \
	} while (0)

static void splits_when_late(void **state)
{
	(void)state;
	RUN(1, 2, {20 * MS, 130, 130, 40, 40, 1}, {40 * MS, 130, 130, 40, 40, 1}, {60 * MS, 130, 130, 40, 40, 2},
	    {80 * MS, 130, 260, 40, 80, 2});
	RUN(1, 2, {20 * MS, 20, 20, 80, 80, 1}, {40 * MS, 20, 20, 80, 80, 1}, {60 * MS, 20, 20, 80, 80, 2});
	RUN(1, 2, {20 * MS, 120, 120, 75, 75, 1}, {40 * MS, 120, 120, 75, 75, 1}, {60 * MS, 120, 120, 75, 75, 1},
	    {80 * MS, 120, 120, 75, 75, 1});
	/* two windows alone are a stall */
	RUN(1, 2, {20 * MS, 900, 900, 90, 90, 1}, {40 * MS, 900, 900, 90, 90, 1}, {60 * MS, 20, 20, 20, 20, 1},
	    {80 * MS, 900, 900, 90, 90, 1});
	/* many at once while there is little to do: it was not let run */
	RUN(1, 2, {20 * MS, 900, 900, 20, 20, 1}, {40 * MS, 900, 900, 20, 20, 1}, {60 * MS, 900, 900, 20, 20, 1},
	    {80 * MS, 900, 900, 20, 20, 1});
	/* either reason counts */
	RUN(1, 2, {20 * MS, 130, 130, 40, 40, 1}, {40 * MS, 20, 20, 90, 90, 1}, {60 * MS, 130, 130, 40, 40, 2});
}

static void doubles_and_stops_at_the_most(void **state)
{
	static const uint32_t expected[] = {1, 1, 2, 2, 2, 4, 4, 4, 6, 6, 6, 6};
	struct step steps[ARRAY_SIZE(expected)];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(expected); i++)
		steps[i] = (struct step){(i + 1) * 20 * MS, 0, 0, 99, 99, expected[i]};
	run(1, 6, steps, ARRAY_SIZE(steps));
	for (size_t i = 0; i < ARRAY_SIZE(expected); i++)
		steps[i].expected = 1;
	run(1, 1, steps, ARRAY_SIZE(steps));
}

static void joins_when_calm_for_long(void **state)
{
	(void)state;
	RUN(2, 2, {20 * MS, 10, 20, 10, 20, 2}, {200 * MS, 10, 20, 10, 20, 2}, {220 * MS, 10, 20, 10, 20, 1},
	    {900 * MS, 10, 10, 10, 10, 1});
	/* what all do together counts */
	RUN(2, 2, {20 * MS, 60, 110, 10, 20, 2}, {400 * MS, 60, 110, 10, 20, 2});
	RUN(2, 2, {20 * MS, 10, 20, 40, 70, 2}, {400 * MS, 10, 20, 40, 70, 2});
	/* and it begins anew after a window that was not calm */
	RUN(2, 2, {20 * MS, 10, 20, 10, 20, 2}, {200 * MS, 60, 110, 10, 20, 2}, {220 * MS, 10, 20, 10, 20, 2},
	    {400 * MS, 10, 20, 10, 20, 2}, {420 * MS, 10, 20, 10, 20, 1});
}

/* Each of many has at least an event a wait: what half of them would have is what counts. */
static void many_join_by_halves(void **state)
{
	(void)state;
	RUN(9, 16, {20 * MS, 30, 270, 10, 90, 9}, {220 * MS, 30, 270, 10, 90, 5}, {240 * MS, 50, 250, 18, 90, 5},
	    {440 * MS, 50, 250, 18, 90, 3}, {460 * MS, 80, 240, 30, 90, 3}, {900 * MS, 80, 240, 30, 90, 3});
}

static usec_t split(struct crew_memory *memory, usec_t now)
{
	static const struct crew_window late = {200, 200, 90, 90};

	while (crew_judge(memory, &late, now, 1, 2) == 1)
		now += 20 * MS;
	return now;
}

/* Joins, and is late at once, `times` times. Returns when it last joined; it is split 60 ms later. */
static usec_t regret(struct crew_memory *memory, usec_t now, int times)
{
	static const struct crew_window calm = {10, 20, 10, 20};
	usec_t joined = now;

	for (int i = 0; i < times; i++) {
		while (crew_judge(memory, &calm, now, 2, 2) == 2)
			now += 20 * MS;
		joined = now;
		assert_int_equal(split(memory, now + 20 * MS), now + 60 * MS);
		now += 80 * MS;
	}
	return joined;
}

/* How long it takes until it joins, when it is calm from a moment after `split` on. */
static usec_t patience(struct crew_memory *memory, usec_t *joined)
{
	usec_t from = *joined + 80 * MS;

	*joined = regret(memory, from, 1);
	return *joined - from;
}

static void a_wrong_join_is_not_tried_so_soon(void **state)
{
	static const struct crew_window calm = {10, 20, 10, 20};
	struct crew_memory memory = {0};
	usec_t joined = 0, now;

	(void)state;
	assert_int_equal(patience(&memory, &joined), 200 * MS);
	assert_int_equal(patience(&memory, &joined), 400 * MS);
	assert_int_equal(patience(&memory, &joined), 800 * MS);
	for (int i = 0; i < 10; i++)
		(void)patience(&memory, &joined);
	assert_int_equal(patience(&memory, &joined), 60 * USEC_PER_SEC); /* at most */
	/* one that lasted was right */
	for (now = joined + 80 * MS; crew_judge(&memory, &calm, now, 2, 2) == 2;)
		now += 20 * MS;
	joined = split(&memory, now + 2 * USEC_PER_SEC) - 60 * MS;
	assert_int_equal(patience(&memory, &joined), 200 * MS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(splits_when_late),
		cmocka_unit_test(doubles_and_stops_at_the_most),
		cmocka_unit_test(joins_when_calm_for_long),
		cmocka_unit_test(many_join_by_halves),
		cmocka_unit_test(a_wrong_join_is_not_tried_so_soon),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
