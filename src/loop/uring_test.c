/* What only io_uring has: one system call a turn, buffers lent to the kernel, receives under way. */
#include "loop/loop_test_one.h"

static uint64_t waits(void)
{
	return loop_counters(loop)->waits;
}

static void echo(struct probe *p)
{
	conn_send(&p->conn, "pong", 4);
}

static void a_question_and_its_answer_are_one_wait_each(void **state UNUSED)
{
	enum { ROUNDS = 100 };
	struct probe p;
	int fd = open_probe(loop, &p);
	struct buf got = BUF_INIT(1 << 20);
	uint64_t before;

	p.on_received = echo;
	settle(loop);
	before = waits();
	for (int i = 0; i < ROUNDS; i++) {
		put(fd, "ping");
		loop_run_turn(loop, USEC_PER_SEC); /* writes the last answer, then waits for the next question */
		assert_int_equal(p.calls, i + 1);
		assert_int_equal(conn_queued(&p.conn), 4);
		assert_int_equal(read_all(fd, &got), i == 0 ? 0 : 4);
	}
	assert_int_equal(waits() - before, ROUNDS);
	settle(loop);
	assert_int_equal(read_all(fd, &got), 4);
	buf_free(&got);
	close(fd);
	probe_end(&p);
}

/* The socket takes a part of what the wait writes: the wait ends, and the rest follows. */
static void what_is_taken_in_part_is_finished(void **state UNUSED)
{
	enum { LEN = 200000 }; /* below CONN_HIGH_WATER: above it isn't left to the wait */
	struct probe p;
	int fd = open_probe(loop, &p), small = 4096;
	uint8_t *bytes = pattern(LEN);
	struct buf got = BUF_INIT(1 << 20);

	assert_int_equal(setsockopt(p.conn.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
	settle(loop);
	for (size_t at = 0; at < LEN; at += LEN / 4) /* in pieces that aren't joined: sendmsg */
		conn_send_ref(&p.conn, bytes + at + (at ? 0 : 1), LEN / 4 - (at ? 0 : 1));
	loop_run_turn(loop, 0);
	assert_true(conn_queued(&p.conn) > 0);
	loop_run_turn(loop, 3600 * USEC_PER_SEC); /* does not sleep */
	assert_true(conn_queued(&p.conn) > 0 && conn_queued(&p.conn) < LEN - 1);
	for (int i = 0; i < 100000 && got.len < LEN - 1; i++) {
		read_all(fd, &got);
		loop_run_turn(loop, 500);
	}
	assert_int_equal(got.len, LEN - 1);
	assert_memory_equal(got.bytes, bytes + 1, LEN - 1);
	assert_int_equal(conn_queued(&p.conn), 0);
	free(bytes);
	buf_free(&got);
	close(fd);
	probe_end(&p);
}

/* Nobody is told of a write that went well, but of one that failed; what the peer said before is heard. */
static void a_send_to_one_who_left_fails(void **state UNUSED)
{
	struct probe p;
	int fd = open_probe(loop, &p);

	settle(loop);
	conn_send(&p.conn, "x", 1);
	loop_run_turn(loop, 0);
	put(fd, "FATAL");
	close(fd);
	run_until(loop, p.closed);
	assert_true(probe_got(&p, "FATAL"));
	probe_end(&p);
}

/* The write side fails while bytes lie in a buffer that isn't shown yet. */
static void what_came_before_a_failure_is_shown(void **state UNUSED)
{
	struct probe first, p;
	int fd_first = open_probe(loop, &first), fd = open_probe(loop, &p);

	settle(loop);
	put(fd, "FAT");
	put(fd_first, "x");
	/* Both have come by now, and nothing is shown: a turn's beginning without its rest. */
	loop->poll->wait(loop, 0);
	put(fd, "AL");
	close(fd);
	conn_send(&p.conn, "query", 5);
	list_remove(&p.conn.dirty);
	conn_flush(&p.conn);
	assert_int_equal(p.closed, 1);
	assert_true(probe_got(&p, "FATAL"));
	run_until(loop, probe_got(&first, "x"));
	close(fd_first);
	probe_end(&first);
	probe_end(&p);
}

/* More have something to say than there are buffers: all are heard, in their turn. */
static void more_than_there_are_buffers(void **state UNUSED)
{
	enum { CONNS = 700 };
	struct probe *p = calloc(CONNS, sizeof(*p));
	int *fd = calloc(CONNS, sizeof(*fd));

	for (int round = 0; round < 3; round++) {
		size_t heard = 0;

		for (int i = 0; i < CONNS; i++) {
			if (round == 0)
				fd[i] = open_probe(loop, &p[i]);
			p[i].got.len = 0;
			p[i].on_received = echo;
		}
		if (round == 1)
			settle(loop); /* all receives are under way; in the first round none */
		for (int i = 0; i < CONNS; i++)
			put(fd[i], "hello");
		for (int turn = 0; turn < 1000 && heard < CONNS; turn++) {
			loop_run_turn(loop, 500);
			heard = 0;
			for (int i = 0; i < CONNS; i++)
				heard += probe_got(&p[i], "hello");
		}
		assert_int_equal(heard, CONNS);
	}
	settle(loop);
	for (int i = 0; i < CONNS; i++) {
		char bytes[64];

		assert_int_equal(read(fd[i], bytes, sizeof(bytes)), 12);
		close(fd[i]);
		probe_end(&p[i]);
	}
	free(p);
	free(fd);
}

static void bytes_for_a_paused_owner_are_kept_in_order(void **state UNUSED)
{
	struct probe p;
	int fd = open_probe(loop, &p);

	settle(loop);
	conn_pause(&p.conn);
	put(fd, "a");
	loop_run_turn(loop, 0);
	assert_int_equal(p.conn.kept_len, 1);
	assert_false(p.conn.flags & CONN_IN);
	put(fd, "b"); /* before the kernel knows that no more is wanted */
	loop_run_turn(loop, 0);
	settle(loop);
	put(fd, "c"); /* stays in the socket */
	settle(loop);
	assert_true(p.conn.kept_len < 3);
	assert_false(p.conn.flags & CONN_RECEIVING);
	conn_resume(&p.conn);
	run_until(loop, p.got.len == 3);
	assert_true(probe_got(&p, "abc"));
	close(fd);
	run_until(loop, p.closed);
	probe_end(&p);
}

static void an_error_is_told_behind_what_is_kept(void **state UNUSED)
{
	struct probe p;
	int fd = open_probe(loop, &p);

	settle(loop);
	conn_pause(&p.conn);
	put(fd, "bye");
	settle(loop);
	conn_receive_failed(&p.conn, -ETIMEDOUT);
	settle(loop);
	assert_int_equal(p.closed, 0);
	conn_resume(&p.conn);
	run_until(loop, p.closed);
	assert_true(probe_got(&p, "bye"));
	assert_int_equal(p.error, -ETIMEDOUT);
	close(fd);
	probe_end(&p);
}

static void who_has_something_to_read_does_not_move(void **state UNUSED)
{
	struct probe p;
	int fd = open_probe(loop, &p);

	settle(loop);
	put(fd, "came");
	loop->poll->wait(loop, 0); /* taken, but not shown */
	assert_int_equal(conn_detach(&p.conn), -EBUSY);
	settle(loop);
	assert_true(probe_got(&p, "came"));
	assert_int_equal(conn_detach(&p.conn), 0);
	put(fd, "late");
	settle(loop);
	assert_true(probe_got(&p, "came"));
	assert_int_equal(conn_attach(&p.conn, loop), 0);
	run_until(loop, probe_got(&p, "camelate"));
	close(fd);
	run_until(loop, p.closed);
	probe_end(&p);
}

/* The kernel reports a peer's end to every poll: who waits for something else must not be woken for ever. */
static void an_end_that_nobody_can_hear_yet_does_not_spin(void **state UNUSED)
{
	struct probe p;
	int fd = open_probe(loop, &p);
	uint64_t events;

	settle(loop);
	p.goes_on = true;
	conn_pause(&p.conn);
	put(fd, "a");
	loop_run_turn(loop, 1000);
	put(fd, "b");
	shutdown(fd, SHUT_WR);
	settle(loop);
	events = loop_counters(loop)->events;
	for (int i = 0; i < 10; i++)
		loop_run_turn(loop, 100);
	assert_int_equal(loop_counters(loop)->events, events);
	conn_resume(&p.conn);
	run_until(loop, p.ended == 1);
	assert_true(probe_got(&p, "ab"));
	settle(loop);
	events = loop_counters(loop)->events;
	for (int i = 0; i < 10; i++)
		loop_run_turn(loop, 100);
	assert_int_equal(loop_counters(loop)->events, events);
	close(fd);
	run_until(loop, p.closed);
	probe_end(&p);
}

/* A stream is read in large pieces, what follows in small ones again. */
static void a_stream_and_then_small_talk(void **state UNUSED)
{
	enum { LEN = 1 << 20 };
	struct probe p;
	int fd = open_probe(loop, &p);
	uint8_t *bytes = pattern(LEN);
	uint64_t receives = loop_counters(loop)->receives;
	size_t sent = 0;

	while (p.got.len < LEN) {
		ssize_t n = write(fd, bytes + sent, LEN - sent);

		sent += n > 0 ? (size_t)n : 0;
		loop_run_turn(loop, 500);
	}
	assert_memory_equal(p.got.bytes, bytes, LEN);
	assert_true(loop_counters(loop)->receives - receives < LEN / (16 << 10));
	for (int i = 0; i < 3; i++) {
		size_t before = p.got.len;

		put(fd, "small");
		run_until(loop, p.got.len == before + 5);
	}
	settle(loop);
	assert_true(p.conn.flags & CONN_RECEIVING);
	free(bytes);
	close(fd);
	probe_end(&p);
}

/* Slots are used again only when the kernel is done with them: many come and go, and none hears another's bytes. */
static void conns_that_come_and_go(void **state UNUSED)
{
	for (int i = 0; i < 2000; i++) {
		struct probe p;
		int fd = open_probe(loop, &p);
		char text[16];

		snprintf(text, sizeof(text), "%d", i);
		if (i % 3 == 0)
			loop_run_turn(loop, 0);
		put(fd, text);
		if (i % 2 == 0) {
			run_until(loop, p.calls == 1);
			assert_true(probe_got(&p, text));
		}
		probe_end(&p);
		close(fd);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(a_question_and_its_answer_are_one_wait_each),
		TEST(what_is_taken_in_part_is_finished),
		TEST(a_send_to_one_who_left_fails),
		TEST(what_came_before_a_failure_is_shown),
		TEST(more_than_there_are_buffers),
		TEST(bytes_for_a_paused_owner_are_kept_in_order),
		TEST(an_error_is_told_behind_what_is_kept),
		TEST(who_has_something_to_read_does_not_move),
		TEST(an_end_that_nobody_can_hear_yet_does_not_spin),
		TEST(a_stream_and_then_small_talk),
		TEST(conns_that_come_and_go),
	};

	choose_backend(argc, argv);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
