/* When the next primary is waited for, and for how long. */
#include "cluster/loss.h"

#include "cluster/node.h"
#include "wire/test.h"

#define SEC(n) ((n)*USEC_PER_SEC)

static struct node primary;
static const struct loss_settings thirty = {.hold_for = SEC(30)};

static void pass(usec_t time)
{
	clock_advance(time);
	clock_update();
}

/* Looks, and is what needs a primary waiting? */
static bool waits(struct loss *loss, const struct loss_settings *s, const struct topology *t, bool fails)
{
	loss_look(loss, s, t, fails);
	return (!t->primary || fails) && loss_is_waited_for(loss, s, t);
}

static void refuse(void)
{
	atomic_store(&primary.refused_at, clock_now());
}

static void let_in(void)
{
	atomic_store(&primary.answered_at, clock_now());
}

static void it_is_waited_for_that_long_since_the_loss(void **state)
{
	struct topology there = {.primary = &primary}, gone = {.why = NO_PRIMARY_PRIMARY_DOWN};
	struct loss loss = {0};

	(void)state;
	clock_update();
	let_in();
	assert_false(waits(&loss, &thirty, &there, false));
	assert_true(loss_is_waited_for(&loss, &thirty, &there)); /* should it fail */
	assert_true(waits(&loss, &thirty, &there, true));
	pass(SEC(20));
	assert_true(waits(&loss, &thirty, &gone, false)); /* the same loss, known by now */
	pass(SEC(11));
	assert_false(waits(&loss, &thirty, &gone, false));
	assert_true(loss.gave_up);
	pass(SEC(100));
	assert_false(waits(&loss, &thirty, &gone, false));
	let_in();
	assert_false(waits(&loss, &thirty, &there, false));
	assert_int_equal(loss.since, 0);
	assert_false(loss.gave_up);
	assert_true(waits(&loss, &thirty, &gone, false)); /* the next one is another */
}

/* Checks get in, and clients do not: each time it looks well for a moment, and that is no new loss. */
static void good_checks_alone_do_not_end_it(void **state)
{
	struct topology there = {.primary = &primary};
	struct loss loss = {0};
	int held = 0;

	(void)state;
	clock_update();
	let_in();
	for (int second = 0; second < 120; second++) {
		pass(SEC(1));
		refuse();
		held += waits(&loss, &thirty, &there, true);
		loss_look(&loss, &thirty, &there, false);
	}
	assert_in_range(held, 29, 31);
	let_in();
	loss_look(&loss, &thirty, &there, false);
	assert_int_equal(loss.since, 0);
	refuse();
	loss_look(&loss, &thirty, &there, true);
	pass(SEC(31)); /* nobody has tried since */
	loss_look(&loss, &thirty, &there, false);
	assert_int_equal(loss.since, 0);
}

static void who_is_waited_for(void **state)
{
	static const struct {
		enum no_primary why;
		bool by_configuration, leader_is_named;
		struct loss_settings s;
		bool at_once, later; /* is it, when it is lost, and an hour after */
	} rows[] = {
		{NO_PRIMARY_ALL_DOWN, false, false, {.hold_for = SEC(30)}, true, false},
		{NO_PRIMARY_NONE_READ_WRITE, false, false, {.hold_for = SEC(30)}, true, false},
		{NO_PRIMARY_ALL_DOWN, false, false, {.hold_for = 0}, false, false},
		{NO_PRIMARY_ALL_DOWN, true, false, {.hold_for = SEC(30)}, false, false},
		{NO_PRIMARY_SEVERAL, false, false, {.hold_for = SEC(30)}, false, false},
		{NO_PRIMARY_NOBODY_NAMED, false, true, {.hold_for = SEC(30)}, false, false},
		{NO_PRIMARY_NOBODY_NAMED, false, true, {.names_next = true}, true, true},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct topology t = {.why = rows[i].why,
					   .by_configuration = rows[i].by_configuration,
					   .leader_is_named = rows[i].leader_is_named};
		struct loss loss = {0};

		clock_update();
		assert_int_equal(waits(&loss, &rows[i].s, &t, false), rows[i].at_once);
		pass(SEC(3600));
		assert_int_equal(waits(&loss, &rows[i].s, &t, false), rows[i].later);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_is_waited_for_that_long_since_the_loss),
		cmocka_unit_test(good_checks_alone_do_not_end_it),
		cmocka_unit_test(who_is_waited_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
