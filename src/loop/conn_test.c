/* Receiving and sending on plain connections. */
#include "loop/loop_test_one.h"

/* ---- receiving ---- */

static void partial_frames_are_kept_and_shown_again(void **state UNUSED)
{
	struct probe p;
	int fd = open_probe(loop, &p);

	p.unit = 4;
	put(fd, "abc");
	run_until(loop, p.calls == 1);
	assert_int_equal(p.shown, 3);
	assert_int_equal(p.got.len, 0);
	put(fd, "defg");
	run_until(loop, p.calls == 2);
	assert_int_equal(p.shown, 7);
	assert_true(probe_got(&p, "abcd"));
	put(fd, "h");
	run_until(loop, p.calls == 3);
	assert_true(probe_got(&p, "abcdefgh"));
	assert_null(p.conn.kept);
	put(fd, "xy");
	close(fd);
	run_until(loop, p.closed);
	assert_int_equal(p.error, 0);
	assert_int_equal(p.calls, 4);
	probe_end(&p);
}

/* Sizes around those where the way of keeping changes; the bytes come in odd pieces. */
static void frames_of_all_sizes_arrive_whole(void **state UNUSED)
{
	static const size_t units[] = {1, 3, 1000, 4079, 4080, 4081, 5000, 20000, 65536, 70001, 300000, 999999};

	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		size_t len = MAX(units[i] * 3, (size_t)200000) / units[i] * units[i], sent = 0;
		uint8_t *bytes = pattern(len);
		struct probe p;
		int fd = open_probe(loop, &p);

		p.unit = units[i];
		p.conn.keep_max = 2 << 20;
		for (size_t step = 1; sent < len; step = step * 5 % 99991) {
			ssize_t n = write(fd, bytes + sent, MIN(step, len - sent));

			sent += n > 0 ? (size_t)n : 0;
			loop_run_turn(loop, 0);
		}
		run_until(loop, p.got.len == len);
		assert_memory_equal(p.got.bytes, bytes, len);
		free(bytes);
		close(fd);
		probe_end(&p);
	}
}

static void one_receive_for_each_event(void **state UNUSED)
{
	struct probe p;
	int fd = open_probe(loop, &p);
	uint64_t before;

	settle(loop);
	before = loop_counters(loop)->receives;
	for (int i = 0; i < 10; i++) {
		put(fd, "hello");
		run_until(loop, p.got.len == (size_t)(i + 1) * 5);
	}
	settle(loop);
	assert_int_equal(loop_counters(loop)->receives - before, 10);
	close(fd);
	probe_end(&p);
}

static void bytes_come_before_the_end(void **state UNUSED)
{
	struct probe p;
	int fd = open_probe(loop, &p);

	put(fd, "last words");
	close(fd);
	run_until(loop, p.closed);
	assert_true(probe_got(&p, "last words"));
	probe_end(&p);
}

/* How much one wait may bring for a conn. */
static size_t burst(void)
{
	return strcmp(backend, "epoll") == 0 ? LOOP_RECEIVE_BYTES : 4 << 20;
}

static void too_much_kept_stops_reading(void **state UNUSED)
{
	struct probe p;
	int fd = open_probe(loop, &p);
	uint8_t *bytes = pattern(100000);
	uint64_t receives;

	p.unit = 1 << 20;
	p.conn.keep_max = 8192;
	assert_true(write(fd, bytes, 100000) > 8192);
	run_until(loop, conn_is_paused(&p.conn));
	settle(loop);
	receives = loop_counters(loop)->receives;
	assert_true(p.conn.kept_len >= 8192 && p.conn.kept_len < 8192 + burst());
	settle(loop);
	assert_int_equal(loop_counters(loop)->receives, receives);
	p.unit = 0;
	conn_resume(&p.conn);
	run_until(loop, p.got.len == 100000);
	assert_memory_equal(p.got.bytes, bytes, 100000);
	free(bytes);
	close(fd);
	probe_end(&p);
}

static void take_one_then_pause(struct probe *p)
{
	conn_pause(&p->conn);
}

static size_t received_one_byte(struct conn *conn, uint8_t *bytes, size_t len)
{
	struct probe *p = probe_of(conn);

	p->calls++;
	p->shown = len;
	buf_add(&p->got, bytes, 1);
	take_one_then_pause(p);
	return 1;
}

/* As with a client that sends many queries at once: each resume shows the rest, and nothing is copied. */
static void a_pipeline_is_shown_piece_by_piece(void **state UNUSED)
{
	static const struct conn_ops one_byte = {.received = received_one_byte, .closed = probe_closed};
	struct probe p;
	int fd = open_probe(loop, &p);
	struct conn_kept *kept;

	p.conn.ops = &one_byte;
	put(fd, "abcdefghij");
	run_until(loop, p.calls == 1);
	kept = p.conn.kept;
	for (int i = 2; i <= 10; i++) {
		assert_ptr_equal(p.conn.kept, kept);
		conn_resume(&p.conn);
		assert_int_equal(p.calls, i - 1); /* not inside the call */
		loop_run_turn(loop, 0);
		assert_int_equal(p.calls, i);
		assert_int_equal(p.shown, 11 - i);
	}
	assert_null(p.conn.kept);
	assert_true(probe_got(&p, "abcdefghij"));
	close(fd);
	probe_end(&p);
}

static void resuming_without_a_pause_shows_again(void **state UNUSED)
{
	struct probe p;
	int fd = open_probe(loop, &p);

	p.unit = 4;
	put(fd, "ab");
	run_until(loop, p.calls == 1);
	settle(loop);
	assert_int_equal(p.calls, 1);
	p.unit = 1;
	conn_resume(&p.conn);
	loop_run_turn(loop, 0);
	assert_true(probe_got(&p, "ab"));
	close(fd);
	probe_end(&p);
}

static void pausing_is_lazy(void **state UNUSED)
{
	struct probe p;
	int fd = open_probe(loop, &p);

	conn_pause(&p.conn);
	settle(loop);
	assert_true(p.conn.flags & CONN_IN); /* nothing came: no system call */
	conn_resume(&p.conn);
	put(fd, "a");
	run_until(loop, p.got.len == 1);

	conn_pause(&p.conn);
	put(fd, "b");
	settle(loop);
	assert_false(p.conn.flags & CONN_IN);
	assert_int_equal(p.calls, 1);
	conn_resume(&p.conn);
	run_until(loop, probe_got(&p, "ab"));
	assert_true(p.conn.flags & CONN_IN);
	close(fd);
	probe_end(&p);
}

static void peeking_takes_nothing(void **state UNUSED)
{
	struct probe p;
	int fd = open_probe(loop, &p);
	char c[4];

	conn_ready_before_first_receive(&p.conn);
	put(fd, "\x16"
		"abc");
	run_until(loop, p.ready == 1);
	assert_int_equal(p.calls, 0);
	assert_int_equal(conn_peek(&p.conn, c, 1), 1);
	assert_int_equal(c[0], 0x16);
	run_until(loop, p.got.len == 4);
	assert_int_equal(p.ready, 1);
	assert_int_equal(conn_peek(&p.conn, c, 1), -EAGAIN);
	close(fd);
	probe_end(&p);
}

/* ---- sending ---- */

static void a_turn_is_one_write(void **state UNUSED)
{
	struct probe p;
	int fd = open_probe(loop, &p);
	struct buf got = BUF_INIT(1 << 20);
	uint64_t sends = loop_counters(loop)->sends;
	static const char text[] = "0123456789";

	for (int i = 0; i < 100; i++)
		conn_send(&p.conn, text, 10);
	assert_int_equal(p.conn.iov_count, 1); /* copies lie side by side */
	conn_send_ref(&p.conn, text, 4);
	conn_send_ref(&p.conn, text + 4, 6);
	conn_send_ref(&p.conn, text, 10);
	assert_int_equal(p.conn.iov_count, 3); /* contiguous ones are joined */
	assert_int_equal(conn_queued(&p.conn), 1020);
	settle(loop); /* io_uring writes it when it waits for the next turn */
	assert_int_equal(loop_counters(loop)->sends - sends, 1);
	assert_int_equal(conn_queued(&p.conn), 0);
	assert_null(p.conn.iov);
	assert_int_equal(read_all(fd, &got), 1020);
	for (int i = 0; i < 102; i++)
		assert_memory_equal(got.bytes + i * 10, text, 10);
	buf_free(&got);
	close(fd);
	probe_end(&p);
}

static void more_pieces_than_the_kernel_takes_at_once(void **state UNUSED)
{
	enum { PIECES = 40000 };
	struct probe p;
	int fd = open_probe(loop, &p);
	struct buf got = BUF_INIT(1 << 20);
	uint8_t *bytes = pattern(2 * PIECES);

	for (size_t i = 0; i < PIECES; i++)
		conn_send_ref(&p.conn, bytes + 2 * i, 1);
	for (int i = 0; i < 10000 && got.len < PIECES; i++) {
		loop_run_turn(loop, 500);
		read_all(fd, &got);
	}
	assert_int_equal(got.len, PIECES);
	for (size_t i = 0; i < PIECES; i++)
		assert_int_equal(got.bytes[i], bytes[2 * i]);
	free(bytes);
	buf_free(&got);
	close(fd);
	probe_end(&p);
}

static void resume_source(struct probe *p)
{
	conn_resume(p->argument);
}

/* A fast sender, a slow reader: by reference, in bounded memory, in order. */
static void forwarding_to_a_slow_reader(void **state UNUSED)
{
	enum { TOTAL = 8 << 20 };
	uint8_t *bytes = pattern(TOTAL);
	struct buf got = BUF_INIT(TOTAL * 2);
	struct probe from, to;
	int source = open_probe(loop, &from), reader = open_probe(loop, &to);
	size_t sent = 0, most = 0;

	from.to = &to.conn;
	from.unit = 7; /* so that there always is a rest to be kept */
	to.on_drained = resume_source;
	to.argument = &from.conn;
	for (int i = 0; got.len < TOTAL - 7 && i < 200000; i++) {
		ssize_t n = sent < TOTAL ? write(source, bytes + sent, MIN(TOTAL - sent, (size_t)50000)) : 0;

		sent += n > 0 ? (size_t)n : 0;
		loop_run_turn(loop, 0);
		most = MAX(most, conn_queued(&to.conn));
		if (i % 16 == 15) {
			uint8_t *at = buf_reserve(&got, 100000);

			n = read(reader, at, 100000);
			got.len += n > 0 ? (size_t)n : 0;
		}
	}
	assert_int_equal(got.len, TOTAL / 7 * 7);
	assert_memory_equal(got.bytes, bytes, got.len);
	assert_true(to.drained > 0);
	assert_true(most > CONN_HIGH_WATER && most < CONN_HIGH_WATER + 2 * LOOP_RECEIVE_BYTES);
	assert_null(to.conn.out);
	settle(loop);
	assert_false(to.conn.flags & CONN_OUT);
	free(bytes);
	buf_free(&got);
	close(source);
	close(reader);
	probe_end(&from);
	probe_end(&to);
}

/* Many at once in one turn: more than LOOP_TURN_BYTES, so it is flushed in between. */
static void a_turn_of_many_megabytes(void **state UNUSED)
{
	enum { PAIRS = 40, EACH = 60000 };
	struct probe *from = calloc(PAIRS, sizeof(*from)), *to = calloc(PAIRS, sizeof(*to));
	uint8_t *bytes = pattern(EACH);
	int source[PAIRS], reader[PAIRS];
	uint64_t turns;

	for (int i = 0; i < PAIRS; i++) {
		source[i] = open_probe(loop, &from[i]);
		reader[i] = open_probe(loop, &to[i]);
		from[i].to = &to[i].conn;
		assert_int_equal(write(source[i], bytes, EACH), EACH);
	}
	turns = loop_counters(loop)->turns;
	loop_run_turn(loop, 0);
	assert_int_equal(loop_counters(loop)->turns, turns + 1);
	for (int i = 0; i < PAIRS; i++) {
		struct buf got = BUF_INIT(1 << 20);

		for (int n = 0; n < 1000 && got.len < EACH; n++) {
			read_all(reader[i], &got);
			loop_run_turn(loop, 0);
		}
		assert_int_equal(got.len, EACH);
		assert_memory_equal(got.bytes, bytes, EACH);
		buf_free(&got);
		close(source[i]);
		close(reader[i]);
		probe_end(&from[i]);
		probe_end(&to[i]);
	}
	free(from);
	free(to);
	free(bytes);
}

/* As in a child between fork and exec: the kernel would go on reporting the socket by a pointer to what was the conn.
 */
static void a_closed_socket_that_lives_elsewhere_is_forgotten(void **state UNUSED)
{
	struct probe p;
	int fd = open_probe(loop, &p), elsewhere = dup(p.conn.fd);
	uint64_t events;

	settle(loop);
	probe_end(&p);
	memset(&p, 0xff, sizeof(p));
	settle(loop);
	events = loop_counters(loop)->events;
	put(fd, "late");
	loop_run_turn(loop, 0);
	assert_int_equal(loop_counters(loop)->events, events);
	close(elsewhere);
	close(fd);
}

/* ---- those that come with bytes ---- */

/* As open_probe(); it has sent this already. */
static int open_with_bytes(struct probe *p, const char *text)
{
	int fds[2];

	socket_pair(fds);
	put(fds[1], text);
	probe_init(p);
	conn_open_with_bytes(&p->conn, loop, fds[0]);
	assert_int_equal(p->calls, 0);
	return fds[1];
}

static void bytes_that_came_with_it_are_received_in_the_same_turn(void **state UNUSED)
{
	struct probe p;
	int fd = open_with_bytes(&p, "first");

	loop_run_turn(loop, 0);
	assert_true(probe_got(&p, "first"));
	loop_run_turn(loop, 0);
	assert_int_equal(loop_counters(loop)->receives, 1); /* it joined the set without them */
	put(fd, "next");
	loop_run_turn(loop, 0);
	assert_true(probe_got(&p, "firstnext"));
	close(fd);
	run_until(loop, p.closed);
	assert_int_equal(p.error, 0);
	probe_end(&p);
}

static void one_that_was_thought_to_come_with_bytes(void **state UNUSED)
{
	struct probe p;
	int fd = open_with_bytes(&p, "");

	settle(loop);
	assert_int_equal(p.calls, 0);
	put(fd, "late");
	run_until(loop, probe_got(&p, "late"));
	close(fd);
	run_until(loop, p.closed);
	probe_end(&p);
}

static void answer(struct probe *p)
{
	conn_send_ref(&p->conn, "answer", 6);
}

static void it_is_answered_in_the_same_turn(void **state UNUSED)
{
	struct buf got = BUF_INIT(1u << 20);
	struct probe p;
	int fd = open_with_bytes(&p, "question");

	p.on_received = answer;
	loop_run_turn(loop, 0);
	read_all(fd, &got);
	assert_string_equal(buf_cstr(&got), "answer");
	close(fd);
	run_until(loop, p.closed);
	buf_free(&got);
	probe_end(&p);
}

static void pause_it(struct probe *p)
{
	conn_pause(&p->conn);
}

static void its_owner_may_pause_it(void **state UNUSED)
{
	struct probe p;
	int fd = open_with_bytes(&p, "abcde");

	p.unit = 4;
	p.on_received = pause_it;
	loop_run_turn(loop, 0);
	assert_true(probe_got(&p, "abcd"));
	put(fd, "fgh");
	settle(loop);
	assert_int_equal(p.calls, 1);
	p.on_received = NULL;
	conn_resume(&p.conn);
	run_until(loop, probe_got(&p, "abcdefgh"));
	close(fd);
	run_until(loop, p.closed);
	probe_end(&p);
}

static void it_is_noticed_that_a_paused_one_leaves(void **state UNUSED)
{
	struct probe p;
	int fd = open_with_bytes(&p, "a");

	p.on_received = pause_it;
	loop_run_turn(loop, 0);
	close(fd);
	run_until(loop, p.closed);
	probe_end(&p);
}

static void finish(struct probe *p)
{
	conn_send_ref(&p->conn, "bye", 3);
	conn_finish(&p->conn, USEC_PER_SEC);
}

static void shut(struct probe *p)
{
	conn_close(&p->conn);
}

static void detach(struct probe *p)
{
	assert_int_equal(conn_detach(&p->conn), 0);
}

static void it_may_end_with_its_first_bytes(void **state UNUSED)
{
	struct buf got = BUF_INIT(1u << 20);
	struct probe p;
	int fd = open_with_bytes(&p, "a");

	p.on_received = finish;
	loop_run_turn(loop, 0);
	assert_int_equal(p.closed, 1);
	read_all(fd, &got);
	assert_string_equal(buf_cstr(&got), "bye");
	buf_free(&got);
	close(fd);
	probe_end(&p);
	fd = open_with_bytes(&p, "b");
	p.on_received = shut;
	settle(loop);
	assert_false(conn_is_open(&p.conn));
	close(fd);
	probe_end(&p);
	fd = open_with_bytes(&p, "c");
	conn_close(&p.conn); /* before they were received */
	settle(loop);
	assert_int_equal(p.calls, 0);
	close(fd);
}

static void it_may_move_with_its_first_bytes(void **state UNUSED)
{
	struct probe p;
	int fd = open_with_bytes(&p, "a");

	p.on_received = detach;
	settle(loop);
	p.on_received = NULL;
	assert_int_equal(conn_attach(&p.conn, loop), 0);
	put(fd, "b");
	run_until(loop, probe_got(&p, "ab"));
	close(fd);
	run_until(loop, p.closed);
	probe_end(&p);
}

static void it_may_have_left_already(void **state UNUSED)
{
	struct probe p;
	int fd = open_with_bytes(&p, "words");

	close(fd);
	run_until(loop, p.closed);
	assert_true(probe_got(&p, "words"));
	probe_end(&p);
	fd = open_with_bytes(&p, "");
	close(fd);
	run_until(loop, p.closed);
	assert_int_equal(p.calls, 0);
	probe_end(&p);
}

static void peek_first(struct probe *p)
{
	char byte;

	assert_int_equal(conn_peek(&p->conn, &byte, 1), 1);
	assert_int_equal(p->calls, 0);
}

static void it_may_be_peeked_at(void **state UNUSED)
{
	struct probe p;
	int fd = open_with_bytes(&p, "peek");

	conn_ready_before_first_receive(&p.conn);
	p.on_ready = peek_first;
	loop_run_turn(loop, 0);
	assert_int_equal(p.ready, 1);
	assert_true(probe_got(&p, "peek"));
	close(fd);
	run_until(loop, p.closed);
	probe_end(&p);
}

static void closing_all_tells_every_owner(void **state UNUSED)
{
	struct probe probes[3];
	int fds[3];

	for (size_t i = 0; i < ARRAY_SIZE(probes); i++)
		fds[i] = open_probe(loop, &probes[i]);
	conn_finish(&probes[1].conn, USEC_PER_SEC);
	assert_int_equal(loop_counters(loop)->open, 3);
	assert_false(loop_is_over(loop));
	loop_close_all(loop);
	assert_int_equal(loop_counters(loop)->open, 0);
	loop_run_turn(loop, 0);
	assert_true(loop_is_over(loop));
	for (size_t i = 0; i < ARRAY_SIZE(probes); i++) {
		assert_int_equal(probes[i].closed, 1);
		assert_int_equal(probes[i].error, -ECANCELED);
		probe_end(&probes[i]);
		close(fds[i]);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(partial_frames_are_kept_and_shown_again),
		TEST(frames_of_all_sizes_arrive_whole),
		TEST(one_receive_for_each_event),
		TEST(bytes_come_before_the_end),
		TEST(too_much_kept_stops_reading),
		TEST(a_pipeline_is_shown_piece_by_piece),
		TEST(resuming_without_a_pause_shows_again),
		TEST(pausing_is_lazy),
		TEST(peeking_takes_nothing),
		TEST(a_turn_is_one_write),
		TEST(more_pieces_than_the_kernel_takes_at_once),
		TEST(forwarding_to_a_slow_reader),
		TEST(a_turn_of_many_megabytes),
		TEST(a_closed_socket_that_lives_elsewhere_is_forgotten),
		TEST(bytes_that_came_with_it_are_received_in_the_same_turn),
		TEST(one_that_was_thought_to_come_with_bytes),
		TEST(it_is_answered_in_the_same_turn),
		TEST(its_owner_may_pause_it),
		TEST(it_is_noticed_that_a_paused_one_leaves),
		TEST(it_may_end_with_its_first_bytes),
		TEST(it_may_move_with_its_first_bytes),
		TEST(it_may_have_left_already),
		TEST(it_may_be_peeked_at),
		TEST(closing_all_tells_every_owner),
	};

	choose_backend(argc, argv);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
