/*
 * The rules of shared links, proved for three clients and one link by looking at every state that any order of events
 * can lead to: requests, answers, cancels (of which each may arrive at the server at any later time), clients that
 * leave, and stalls. In each state the queue is built anew and the real functions are called.
 *
 * The server of this model answers in order; a cancel that arrives hits what it runs at that time, whatever that is.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "session/share_queue.h"

#define CLIENTS    3
#define DEPTH      3
#define NOBODY     0xff
#define STATES_MAX 100000u

struct session { /* as far as this test goes */
	uint8_t index;
};

/* All that decides what can happen next. */
struct state {
	uint8_t asked[DEPTH];  /* whose requests the server has, oldest first */
	uint8_t wanted[DEPTH]; /* does he still wait for the answer here? */
	uint8_t count, closed;
	uint8_t waits[CLIENTS]; /* has one request, here or, when `own_way`, elsewhere */
	uint8_t own_way[CLIENTS];
	uint8_t cancel;  /* whose cancel is under way to the server, or NOBODY; the link is held until it is over */
	uint8_t was_hit; /* the first one was hit: it will fail */
};

static struct state states[STATES_MAX];
static uint32_t state_count;
static uint64_t transitions;

static void add_state(const struct state *s)
{
	transitions++;
	for (uint32_t i = 0; i < state_count; i++)
		if (memcmp(&states[i], s, sizeof(*s)) == 0)
			return;
	assert_true(state_count < STATES_MAX);
	states[state_count++] = *s;
}

/* ---- the real queue of a state, and back ---- */

static struct session sessions[CLIENTS] = {{0}, {1}, {2}};
static struct turn turns[DEPTH];
static struct queue queue;
static struct state *now; /* for moved() */

static void build(const struct state *s)
{
	queue_init(&queue);
	for (uint8_t i = 0; i < s->count; i++) {
		turns[i] = (struct turn){.session = s->wanted[i] ? &sessions[s->asked[i]] : NULL};
		queue_add(&queue, &turns[i], 0);
	}
	queue.closed = s->closed;
}

static void take_over(struct state *s)
{
	s->closed = queue.closed;
	assert_int_equal(queue.count, s->count);
	for (uint8_t i = 0; i < s->count; i++)
		s->wanted[i] = turns[i].session != NULL;
}

static void moved(struct session *session)
{
	assert_true(now->waits[session->index]);
	assert_false(now->own_way[session->index]);
	now->own_way[session->index] = true;
}

/* ---- events ---- */

/* An empty queue that is closed is a link that went back to its pool; it can be shared again once no cancel is out. */
static void settle(struct state *s)
{
	if (s->count == 0 && s->cancel == NOBODY)
		s->closed = s->was_hit = false;
	if (s->count == 0)
		s->was_hit = false;
}

static void ask(struct state s, uint8_t client)
{
	if (s.waits[client] || !queue_has_room(&queue, DEPTH))
		return;
	assert_true(s.cancel == NOBODY); /* nobody is added while one is out */
	turns[s.count] = (struct turn){.session = &sessions[client]};
	queue_add(&queue, &turns[s.count], 0);
	s.asked[s.count] = client;
	s.count++;
	s.waits[client] = true;
	take_over(&s);
	add_state(&s);
}

static void answer(struct state s)
{
	struct turn *turn;
	uint8_t client = s.asked[0];

	if (s.count == 0)
		return;
	turn = queue_take(&queue, 0);
	assert_ptr_equal(turn, &turns[0]);
	if (turn->session) {
		assert_int_equal(turn->session->index, client); /* whose answer it is */
		assert_true(s.waits[client] && !s.own_way[client]);
		s.waits[client] = false;
	}
	memmove(s.asked, s.asked + 1, DEPTH - 1);
	memmove(s.wanted, s.wanted + 1, DEPTH - 1);
	s.asked[DEPTH - 1] = s.wanted[DEPTH - 1] = 0;
	s.count--;
	s.was_hit = false;
	s.closed = queue.closed;
	settle(&s);
	add_state(&s);
}

static uint8_t place_of(const struct state *s, uint8_t client)
{
	for (uint8_t i = 0; i < s->count; i++)
		if (s->wanted[i] && s->asked[i] == client)
			return i;
	return NOBODY;
}

/* As cancel_session() does. */
static void cancel(struct state s, uint8_t client)
{
	uint8_t at = place_of(&s, client);

	if (at == NOBODY)
		return;
	now = &s;
	if (at > 0) {
		queue_leave(&turns[at]);
		s.waits[client] = false; /* it is told so by the proxy */
	} else if (s.cancel == NOBODY) {
		queue_move_others(&queue, moved);
		assert_true(queue_may_cancel(&queue, &turns[0]));
		s.cancel = client;
	}
	take_over(&s);
	add_state(&s);
}

/* It hits what the server runs now. Nobody but who asked for it may feel that. */
static void cancel_arrives(struct state s)
{
	if (s.cancel == NOBODY)
		return;
	if (s.count > 0) {
		assert_true(!s.wanted[0] || s.asked[0] == s.cancel);
		s.was_hit = true;
	}
	s.cancel = NOBODY;
	settle(&s);
	add_state(&s);
}

static void leave(struct state s, uint8_t client)
{
	uint8_t at = place_of(&s, client);

	if (at == NOBODY)
		return;
	now = &s;
	queue_leave(&turns[at]);
	s.waits[client] = false;
	if (at == 0 && !queue_has_others(&queue)) {
		queue_move_others(&queue, moved);
		assert_true(queue_may_cancel(&queue, &turns[0]));
		if (s.cancel == NOBODY)
			s.cancel = client; /* his query is stopped */
	}
	take_over(&s);
	add_state(&s);
}

static void stall(struct state s)
{
	if (s.count == 0)
		return;
	now = &s;
	queue_move_others(&queue, moved);
	take_over(&s);
	for (uint8_t i = 1; i < s.count; i++)
		assert_false(s.wanted[i]);
	add_state(&s);
}

static void answered_elsewhere(struct state s, uint8_t client)
{
	if (!s.own_way[client])
		return;
	assert_true(s.waits[client]);
	assert_int_equal(place_of(&s, client), NOBODY);
	s.own_way[client] = s.waits[client] = false;
	add_state(&s);
}

/* Each that waits will be answered once, here or elsewhere. */
static void check(const struct state *s)
{
	for (uint8_t client = 0; client < CLIENTS; client++) {
		uint8_t places = 0;

		for (uint8_t i = 0; i < s->count; i++)
			places += s->wanted[i] && s->asked[i] == client;
		assert_int_equal(places, s->waits[client] && !s->own_way[client]);
	}
}

static void all_interleavings(void **state)
{
	struct state first;

	(void)state;
	memset(&first, 0, sizeof(first));
	first.cancel = NOBODY;
	add_state(&first);
	for (uint32_t i = 0; i < state_count; i++) {
		struct state s = states[i];

		check(&s);
		for (uint8_t client = 0; client < CLIENTS; client++) {
			build(&s);
			ask(s, client);
			build(&s);
			cancel(s, client);
			build(&s);
			leave(s, client);
			answered_elsewhere(s, client);
		}
		build(&s);
		answer(s);
		cancel_arrives(s);
		build(&s);
		stall(s);
	}
	print_message("%u states, %llu transitions\n", state_count, (unsigned long long)transitions);
	assert_true(state_count > 500);
}

static void who_is_first_for_long_stalls_the_queue(void **state)
{
	struct turn turn = {0}, other = {0};
	struct queue q;

	(void)state;
	queue_init(&q);
	queue_add(&q, &turn, 5);
	assert_true(queue_has_room(&q, 2));
	queue_add(&q, &other, 7);
	assert_false(queue_has_room(&q, 2));
	assert_false(queue_is_stalled(&q, 14, 10));
	assert_true(queue_is_stalled(&q, 15, 10));
	assert_ptr_equal(queue_take(&q, 20), &turn);
	assert_false(queue_is_stalled(&q, 29, 10));
	assert_true(queue_is_stalled(&q, 30, 10));
	assert_ptr_equal(queue_take(&q, 31), &other);
	assert_false(queue_is_stalled(&q, 100, 10));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_interleavings),
		cmocka_unit_test(who_is_first_for_long_stalls_the_queue),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
