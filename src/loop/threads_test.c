/* What other threads may do to a loop; to be run under ThreadSanitizer too. */
#include "loop/loop_test_util.h"

#include <pthread.h>

#define SENDERS 4
#define EACH    20000

struct note {
	struct loop_message message;
	int sender, number;
};

struct receiver {
	struct loop *loop;
	int next[SENDERS], total;
};

static void *run_loop(void *argument)
{
	loop_run(argument);
	return NULL;
}

static void note_came(struct loop_message *message, void *thread)
{
	struct note *note = container_of(message, struct note, message);
	struct receiver *receiver = thread;

	assert_int_equal(note->number, receiver->next[note->sender]); /* in the order each sent them */
	receiver->next[note->sender]++;
	if (++receiver->total == SENDERS * EACH)
		loop_stop(receiver->loop);
	free(note);
}

struct sender {
	struct loop *loop;
	int id;
};

static void *send_notes(void *argument)
{
	struct sender *sender = argument;

	for (int i = 0; i < EACH; i++) {
		struct note *note = malloc(sizeof(*note));

		*note = (struct note){.message.run = note_came, .sender = sender->id, .number = i};
		loop_post(sender->loop, &note->message);
		if (i % 1000 == 0)
			usleep(200); /* so that the loop falls asleep now and then */
	}
	return NULL;
}

static void messages_from_four_threads(void **state UNUSED)
{
	struct receiver receiver = {0};
	struct sender senders[SENDERS];
	pthread_t loop_thread, threads[SENDERS];
	uint64_t seen;

	assert_int_equal(loop_new(backend, &receiver, &receiver.loop), 0);
	assert_int_equal(pthread_create(&loop_thread, NULL, run_loop, receiver.loop), 0);
	for (int i = 0; i < SENDERS; i++) {
		senders[i] = (struct sender){receiver.loop, i};
		assert_int_equal(pthread_create(&threads[i], NULL, send_notes, &senders[i]), 0);
	}
	do { /* any thread may look at the counters */
		usleep(100);
		seen = __atomic_load_n(&loop_counters(receiver.loop)->messages, __ATOMIC_RELAXED);
	} while (seen < SENDERS * EACH);
	for (int i = 0; i < SENDERS; i++)
		pthread_join(threads[i], NULL);
	pthread_join(loop_thread, NULL);
	assert_int_equal(receiver.total, SENDERS * EACH);
	loop_free(receiver.loop);
}

/* One sleeps whenever the other sends: a lost wake-up would hang this for ever. */
struct player {
	struct loop *loop, *other;
	struct loop_message message;
	struct player *opponent;
	int played;
	bool is_last;
};

static void play(struct loop_message *message UNUSED, void *thread)
{
	struct player *me = thread;

	if (++me->played == 20000)
		loop_stop(me->loop);
	if (me->played < 20000 || !me->is_last)
		loop_post(me->other, &me->opponent->message);
}

static void wake_ups_are_not_lost(void **state UNUSED)
{
	struct player a = {.message.run = play}, b = {.message.run = play, .is_last = true};
	pthread_t threads[2];

	assert_int_equal(loop_new(backend, &a, &a.loop), 0);
	assert_int_equal(loop_new(backend, &b, &b.loop), 0);
	a.other = b.loop;
	b.other = a.loop;
	a.opponent = &b;
	b.opponent = &a;
	loop_post(a.loop, &a.message);
	assert_int_equal(pthread_create(&threads[0], NULL, run_loop, a.loop), 0);
	assert_int_equal(pthread_create(&threads[1], NULL, run_loop, b.loop), 0);
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	assert_int_equal(a.played, 20000);
	loop_free(a.loop);
	loop_free(b.loop);
}

/* A connection goes to and fro between two threads while its peer keeps talking. */
struct move {
	struct loop_message message;
	struct probe *probe;
	struct loop *to;
};

static struct loop *loops[2];
static struct move move;
static int moves;

static void arrive(struct loop_message *message, void *thread UNUSED)
{
	struct move *m = container_of(message, struct move, message);

	assert_int_equal(conn_attach(&m->probe->conn, m->to), 0);
}

static size_t answer_and_move(struct conn *conn, uint8_t *bytes, size_t len)
{
	struct probe *p = probe_of(conn);

	assert_int_equal(bytes[len - 1], 'q');
	/* Everything is consumed, nothing is queued: it may go, out of its own callback. */
	move = (struct move){.message.run = arrive, .probe = p, .to = conn->loop == loops[0] ? loops[1] : loops[0]};
	assert_int_equal(write(conn->fd, "a", 1), 1);
	if (conn_detach(conn) == 0) {
		moves++;
		loop_post(move.to, &move.message);
	}
	return len;
}

static const struct conn_ops moving = {.received = answer_and_move, .closed = probe_closed};

static void connections_move_between_threads(void **state UNUSED)
{
	struct probe p;
	pthread_t threads[2];
	int fds[2];
	char c;

	socket_pair(fds);
	assert_int_equal(fcntl(fds[1], F_SETFL, 0), 0);
	loops[0] = new_loop();
	loops[1] = new_loop();
	probe_init(&p);
	p.conn.ops = &moving;
	assert_int_equal(conn_open(&p.conn, loops[0], fds[0]), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, run_loop, loops[i]), 0);
	for (int i = 0; i < 2000; i++) {
		assert_int_equal(write(fds[1], "q", 1), 1);
		assert_int_equal(read(fds[1], &c, 1), 1);
	}
	loop_stop(loops[0]);
	loop_stop(loops[1]);
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	assert_int_equal(moves, 2000);
	loop_free(loops[0]); /* runs the last message, if it is still there */
	loop_free(loops[1]);
	close(fds[0]);
	close(fds[1]);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages_from_four_threads),
		cmocka_unit_test(wake_ups_are_not_lost),
		cmocka_unit_test(connections_move_between_threads),
	};

	choose_backend(argc, argv);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
