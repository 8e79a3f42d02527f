/* The wheel against a clock that the test holds: never early, at most a tick late, cheap to put off. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "loop/timer.h"

#define TICK (10 * USEC_PER_MSEC)

struct probe {
	struct timer timer;
	usec_t wanted;
	int fired;
};

static usec_t now;
static struct timer_wheel *wheel;

static void check_time(struct timer *timer)
{
	struct probe *p = container_of(timer, struct probe, timer);

	p->fired++;
	assert_true(now >= p->wanted);
	assert_false(timer_is_set(timer));
}

/* Goes on to `until` as a loop would: from one moment the wheel asks for to the next. */
static void run_until(usec_t until)
{
	for (;;) {
		usec_t wait = timer_wheel_next(wheel, now);

		if (wait > until - now)
			break;
		now += wait;
		timer_wheel_run(wheel, now);
	}
	now = until;
	timer_wheel_run(wheel, now);
}

static int begin(void **state UNUSED)
{
	now = 123456789;
	wheel = timer_wheel_new(now);
	return wheel ? 0 : -1;
}

static int end(void **state UNUSED)
{
	timer_wheel_free(wheel);
	return 0;
}

static void each_delay_is_met(void **state UNUSED)
{
	static const usec_t delays[] = {
		0,
		1,
		9999,
		10000,
		10001,
		2549999,
		2550000,
		2560000,
		2560001,
		2570000,
		5119999,
		163 * USEC_PER_SEC,
		164 * USEC_PER_SEC,
		3600 * USEC_PER_SEC,
		11000 * USEC_PER_SEC,
		86400 * USEC_PER_SEC,
		20 * 86400 * USEC_PER_SEC,
	};

	for (size_t i = 0; i < ARRAY_SIZE(delays); i++) {
		struct probe p = {.wanted = now + delays[i]};

		timer_init(&p.timer, check_time);
		timer_set(wheel, &p.timer, p.wanted);
		if (delays[i] > 0) {
			run_until(p.wanted - 1);
			assert_int_equal(p.fired, 0);
		}
		run_until(p.wanted + 2 * TICK);
		assert_int_equal(p.fired, 1);
		assert_true(timer_wheel_next(wheel, now) == USEC_NEVER);
	}
}

static void thousands_of_random_ones(void **state UNUSED)
{
	enum { N = 5000 };
	struct probe *p = calloc(N, sizeof(*p));
	usec_t begun = now, last = 0;

	srandom(7);
	for (int i = 0; i < N; i++) {
		usec_t delay = (usec_t)random() >> (random() % 24);

		p[i].wanted = now + delay;
		last = MAX(last, p[i].wanted);
		timer_init(&p[i].timer, check_time);
		timer_set(wheel, &p[i].timer, p[i].wanted);
	}
	for (int step = 1; step <= 1000; step++) {
		run_until(begun + (last - begun) / 1000 * (usec_t)step);
		for (int i = 0; i < N; i++)
			assert_int_equal(p[i].fired, now >= p[i].wanted + TICK ? 1
						     : now < p[i].wanted       ? 0
									       : p[i].fired);
	}
	run_until(last + 2 * TICK);
	for (int i = 0; i < N; i++)
		assert_int_equal(p[i].fired, 1);
	free(p);
}

static void putting_off_moves_nothing(void **state UNUSED)
{
	struct probe p = {.wanted = now + USEC_PER_SEC};
	struct list *neighbour;

	timer_init(&p.timer, check_time);
	timer_set(wheel, &p.timer, p.wanted);
	neighbour = p.timer.node.next;
	for (int i = 0; i < 100; i++) {
		p.wanted += USEC_PER_SEC;
		timer_set(wheel, &p.timer, p.wanted);
		assert_ptr_equal(p.timer.node.next, neighbour);
	}
	run_until(p.wanted - 1);
	assert_int_equal(p.fired, 0);
	run_until(p.wanted + TICK);
	assert_int_equal(p.fired, 1);
}

static void setting_earlier_and_cancelling(void **state UNUSED)
{
	struct probe p = {.wanted = now + USEC_PER_SEC};

	timer_init(&p.timer, check_time);
	timer_set(wheel, &p.timer, now + 3600 * USEC_PER_SEC);
	timer_set(wheel, &p.timer, p.wanted);
	run_until(p.wanted + TICK);
	assert_int_equal(p.fired, 1);
	timer_set(wheel, &p.timer, now + USEC_PER_SEC);
	timer_cancel(&p.timer);
	timer_cancel(&p.timer);
	run_until(now + 2 * USEC_PER_SEC); /* the wheel may look once where the timer was */
	assert_int_equal(p.fired, 1);
	assert_true(timer_wheel_next(wheel, now) == USEC_NEVER);
	timer_set(wheel, &p.timer, now + USEC_PER_SEC);
	timer_set(wheel, &p.timer, USEC_NEVER);
	assert_false(timer_is_set(&p.timer));
	run_until(now + 10 * USEC_PER_SEC);
	assert_int_equal(p.fired, 1);
}

static struct probe pair[2];

static void again(struct timer *timer)
{
	struct probe *p = container_of(timer, struct probe, timer);

	if (++p->fired < 5)
		timer_set(wheel, timer, now + 50 * USEC_PER_MSEC);
	timer_cancel(&pair[1].timer); /* due in the same tick: must not fire */
}

static void callbacks_set_and_cancel(void **state UNUSED)
{
	for (int i = 0; i < 2; i++) {
		pair[i] = (struct probe){.wanted = now + TICK};
		timer_init(&pair[i].timer, i == 0 ? again : check_time);
		timer_set(wheel, &pair[i].timer, pair[i].wanted);
	}
	run_until(now + USEC_PER_SEC);
	assert_int_equal(pair[0].fired, 5);
	assert_int_equal(pair[1].fired, 0);
}

static void a_leap_of_the_clock(void **state UNUSED)
{
	struct probe p = {.wanted = now + 5 * USEC_PER_SEC}, q = {.wanted = now + 400 * 86400 * USEC_PER_SEC};

	timer_init(&p.timer, check_time);
	timer_init(&q.timer, check_time);
	timer_set(wheel, &p.timer, p.wanted);
	timer_set(wheel, &q.timer, q.wanted);
	now += 365 * 86400 * USEC_PER_SEC;
	timer_wheel_run(wheel, now);
	assert_int_equal(p.fired, 1);
	assert_int_equal(q.fired, 0);
	run_until(q.wanted + TICK);
	assert_int_equal(q.fired, 1);
}

/* Each keeps what was left of its time, whenever it was set, and whichever slot it lies in. */
static void a_frozen_wheel_puts_all_off(void **state UNUSED)
{
	static const usec_t delays[] = {TICK, 30 * TICK, 100 * TICK, 5000 * TICK, 300000 * TICK};
	struct probe probes[ARRAY_SIZE(delays)], runs = {.wanted = now + 50 * TICK}, cancelled = {0}, late = {0};
	usec_t frozen_at = now;

	timer_init(&runs.timer, check_time);
	runs.timer.always = true;
	timer_set(wheel, &runs.timer, runs.wanted);
	timer_init(&cancelled.timer, check_time);
	timer_set(wheel, &cancelled.timer, now + TICK);
	timer_init(&late.timer, check_time);
	for (size_t i = 0; i < ARRAY_SIZE(delays); i++) {
		probes[i] = (struct probe){.wanted = now + 200 * TICK + delays[i]};
		timer_init(&probes[i].timer, check_time);
		timer_set(wheel, &probes[i].timer, now + delays[i]);
	}
	timer_wheel_freeze(wheel);
	run_until(now + 60 * TICK);
	assert_int_equal(runs.fired, 1);
	assert_true(timer_is_set(&probes[0].timer)); /* it is due */
	timer_cancel(&cancelled.timer);
	late.wanted = now + 40 * TICK;
	timer_set(wheel, &late.timer, late.wanted);
	timer_set(wheel, &probes[1].timer, probes[1].wanted - 200 * TICK + TICK); /* later, though it is due */
	run_until(frozen_at + 200 * TICK);
	timer_wheel_thaw(wheel, 200 * TICK);
	for (size_t i = 0; i < ARRAY_SIZE(delays); i++) {
		assert_int_equal(probes[i].fired, 0);
		run_until(probes[i].wanted + 2 * TICK);
		assert_int_equal(probes[i].fired, 1);
	}
	assert_int_equal(cancelled.fired, 0);
	assert_int_equal(late.fired, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(each_delay_is_met, begin, end),
		cmocka_unit_test_setup_teardown(thousands_of_random_ones, begin, end),
		cmocka_unit_test_setup_teardown(putting_off_moves_nothing, begin, end),
		cmocka_unit_test_setup_teardown(setting_earlier_and_cancelling, begin, end),
		cmocka_unit_test_setup_teardown(callbacks_set_and_cancel, begin, end),
		cmocka_unit_test_setup_teardown(a_leap_of_the_clock, begin, end),
		cmocka_unit_test_setup_teardown(a_frozen_wheel_puts_all_off, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
