/* Positions: what has been reached, which answer comes after which write, and that they are read as they were written.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cluster/poller.h"
#include "cluster/position.h"

#include <pthread.h>

#define BLOCK   8192u
#define SEGMENT (16u << 20)

/* Columns: where PostgreSQL says that the next record will be inserted; where replay ends. */
static void a_header_is_no_record(void **state)
{
	static const struct {
		uint64_t insert, replay;
		uint32_t block, segment;
	} cases[] = {
		{0x3000060, 0x3000060, BLOCK, SEGMENT},
		{0x3002018, 0x3002000, BLOCK, SEGMENT}, /* the last record filled its page */
		{0x3002019, 0x3002019, BLOCK, SEGMENT},
		{0x3002028, 0x3002028, BLOCK, SEGMENT}, /* 40: a record that began on the page before ends here */
		{0x4000028, 0x4000000, BLOCK, SEGMENT}, /* a segment was switched */
		{0x5000028, 0x5000028, BLOCK, 64u << 20},
		{0x4100028, 0x4100000, BLOCK, 1u << 20},
		{0x3002018, 0x3002018, 32768, SEGMENT}, /* within a page */
		{0x3008018, 0x3008000, 32768, SEGMENT},
		{0x3002018, 0x3002018, 0, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_true(position_end_of_records(cases[i].insert, cases[i].block, cases[i].segment) ==
			    cases[i].replay);
}

static void what_a_standby_has_reached(void **state)
{
	static const struct {
		struct position standby, primary;
		bool reached;
	} cases[] = {
		{{POSITION_REPLAY, 1, 100, 0}, {POSITION_INSERT, 1, 100, 0}, true},
		{{POSITION_REPLAY, 1, 99, 0}, {POSITION_INSERT, 1, 100, 0}, false},
		{{POSITION_REPLAY, 2, 100, 0}, {POSITION_INSERT, 1, 100, 0}, true},  /* its primary was replaced */
		{{POSITION_REPLAY, 1, 900, 0}, {POSITION_INSERT, 2, 100, 0}, false}, /* it went on where others left */
		{{POSITION_REPLAY, 0, 900, 0}, {POSITION_INSERT, 1, 100, 0}, false}, /* does not say */
		{{POSITION_REPLAY, 0, 900, 0}, {POSITION_INSERT, 0, 100, 0}, false},
		{{POSITION_INSERT, 1, 900, 0}, {POSITION_INSERT, 1, 100, 0}, false}, /* no standby any more */
		{{POSITION_REPLAY, 1, 900, 0}, {POSITION_REPLAY, 1, 100, 0}, false}, /* no primary any more */
		{{POSITION_NONE, 1, 900, 0}, {POSITION_INSERT, 1, 100, 0}, false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(position_reached(&cases[i].standby, &cases[i].primary), cases[i].reached);
}

static void an_answer_to_a_question_after_the_write(void **state)
{
	const struct position p = {POSITION_INSERT, 3, 100, 5000}, standby = {POSITION_REPLAY, 3, 100, 5000};

	(void)state;
	assert_true(position_is_after(&p, 3, 4999));
	assert_false(position_is_after(&p, 3, 5000)); /* in the same microsecond: who knows */
	assert_false(position_is_after(&p, 3, 5001));
	assert_false(position_is_after(&p, 4, 4999)); /* it was the primary before */
	assert_false(position_is_after(&standby, 3, 4999));
}

static void none_is_known(void **state)
{
	struct position_cell cell = {0};
	struct position p = {POSITION_INSERT, 1, 7, 8}, found = {0};

	(void)state;
	assert_false(position_read(&cell, &found));
	position_publish(&cell, &p);
	assert_true(position_read(&cell, &found));
	assert_int_equal(found.kind, POSITION_INSERT);
	assert_int_equal(found.timeline, 1);
	assert_int_equal(found.lsn, 7);
	assert_int_equal(found.asked_at, 8);
	p.kind = POSITION_NONE;
	position_publish(&cell, &p);
	assert_false(position_read(&cell, &found));
}

/* ---- many read while one writes ---- */

#define WRITES  200000u /* and then as many as it takes for readers to have been there */
#define READERS 2

struct crowd {
	struct position_cell cell;
	_Atomic bool over;
	_Atomic uint64_t torn, read;
};

/* All fields follow from one number. */
static struct position made_of(uint64_t n)
{
	return (struct position){n % 2 ? POSITION_INSERT : POSITION_REPLAY, (uint32_t)n, n * 3, n * 7};
}

static void *read_on(void *argument)
{
	struct crowd *crowd = argument;
	uint64_t newest = 0;

	while (!atomic_load(&crowd->over)) {
		struct position p, whole;

		if (!position_read(&crowd->cell, &p))
			continue;
		whole = made_of(p.timeline);
		if (p.kind != whole.kind || p.lsn != whole.lsn || p.asked_at != whole.asked_at || p.timeline < newest)
			atomic_fetch_add(&crowd->torn, 1);
		newest = p.timeline;
		atomic_fetch_add(&crowd->read, 1);
	}
	return NULL;
}

static void fields_are_read_as_they_were_written_together(void **state)
{
	struct crowd crowd = {0};
	pthread_t readers[READERS];
	uint64_t n = 0;

	(void)state;
	for (int i = 0; i < READERS; i++)
		assert_int_equal(pthread_create(&readers[i], NULL, read_on, &crowd), 0);
	while (++n < WRITES || atomic_load(&crowd.read) < 1000) {
		const struct position p = made_of(n);

		position_publish(&crowd.cell, &p);
	}
	atomic_store(&crowd.over, true);
	for (int i = 0; i < READERS; i++)
		pthread_join(readers[i], NULL);
	assert_int_equal(atomic_load(&crowd.torn), 0);
}

/* ---- when nodes are asked ---- */

static void pass(usec_t time)
{
	clock_advance(time);
	clock_update();
}

static void asked_only_while_somebody_wants_to_know(void **state)
{
	struct poller p = {0};
	const usec_t interval = 100 * USEC_PER_MSEC;
	uint32_t asked = 0;

	(void)state;
	clock_update();
	assert_false(poller_is_due(&p, interval));
	assert_true(poller_until_due(&p, interval) == USEC_NEVER);
	assert_true(poller_want(&p)); /* nothing is being asked: the thread is woken */
	assert_true(poller_is_due(&p, interval));
	assert_false(poller_is_due(&p, interval)); /* not before the interval is over */
	pass(interval);
	assert_false(poller_want(&p)); /* it is awake */
	assert_true(poller_is_due(&p, interval));
	for (int i = 0; i < 1000; i++) {
		pass(interval);
		asked += poller_is_due(&p, interval);
	}
	assert_true(asked > 10 && asked < 50); /* it ends by itself */
	assert_true(poller_until_due(&p, interval) == USEC_NEVER);
	assert_true(poller_want(&p));
	assert_false(poller_is_due(&p, 0));
}

static void asked_at_once_and_often_while_somebody_waits(void **state)
{
	struct poller p = {0};
	const usec_t interval = 100 * USEC_PER_MSEC;
	uint32_t asked = 0;

	(void)state;
	clock_update();
	assert_true(poller_want(&p));
	assert_true(poller_is_due(&p, interval));
	pass(10 * USEC_PER_MSEC);
	assert_false(poller_is_due(&p, interval));
	assert_true(poller_wait(&p, 1)); /* the thread sleeps until the interval is over */
	assert_false(poller_wait(&p, 1));
	assert_true(poller_until_due(&p, interval) == 0);
	assert_true(poller_is_due(&p, interval));
	assert_false(poller_is_due(&p, interval)); /* but no busy loop */
	for (int i = 0; i < 1000; i++) {
		pass(5 * USEC_PER_MSEC);
		asked += poller_is_due(&p, interval);
	}
	assert_int_equal(asked, 500); /* for as long as it lasts */
	assert_false(poller_wait(&p, -1));
	assert_true(poller_is_awaited(&p));
	assert_false(poller_wait(&p, -1));
	pass(interval);
	assert_false(poller_is_due(&p, interval)); /* nobody wanted to know for a long time */
	assert_true(poller_until_due(&p, interval) == USEC_NEVER);
	assert_true(poller_wait(&p, 1));
	assert_true(poller_is_due(&p, interval));
	assert_false(poller_is_due(&p, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_header_is_no_record),
		cmocka_unit_test(what_a_standby_has_reached),
		cmocka_unit_test(an_answer_to_a_question_after_the_write),
		cmocka_unit_test(none_is_known),
		cmocka_unit_test(fields_are_read_as_they_were_written_together),
		cmocka_unit_test(asked_only_while_somebody_wants_to_know),
		cmocka_unit_test(asked_at_once_and_often_while_somebody_waits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
