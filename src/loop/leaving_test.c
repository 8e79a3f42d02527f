/* How it is noticed that the other side has ended or is gone, and what of its words still counts. */
#include "loop/loop_test_one.h"

/* ---- it hangs up while its reader is paused ---- */

static void a_hang_up_while_paused_closes(void **state UNUSED)
{
	struct probe p;
	int fd = open_probe(loop, &p);

	conn_pause(&p.conn);
	close(fd);
	run_until(loop, p.closed);
	assert_int_equal(p.calls, 0);
	probe_end(&p);
}

static void a_hang_up_while_paused_loses_no_bytes(void **state UNUSED)
{
	struct probe p;
	int fd = open_probe(loop, &p);
	uint64_t waits, events;

	conn_pause(&p.conn);
	put(fd, "bye");
	close(fd);
	settle(loop);
	assert_int_equal(p.closed, 0);
	waits = loop_counters(loop)->waits;
	events = loop_counters(loop)->events;
	loop_run_turn(loop, 20000);
	assert_int_equal(loop_counters(loop)->waits, waits + 1);
	assert_int_equal(loop_counters(loop)->events, events); /* it slept: the hang-up doesn't spin */
	conn_resume(&p.conn);
	run_until(loop, p.closed);
	assert_true(probe_got(&p, "bye"));
	probe_end(&p);
}

static size_t all_at_once(struct conn *conn UNUSED, uint8_t *bytes UNUSED, size_t len)
{
	return len;
}

static int ends_seen, hang_ups_seen;
static bool wants_last_bytes;

static void count_closed(struct conn *conn, int error)
{
	probe_of(conn)->closed++;
	probe_of(conn)->error = error;
}

static bool count_left(struct conn *conn, bool altogether)
{
	assert_true(conn_is_open(conn) && conn_is_paused(conn));
	ends_seen += !altogether;
	hang_ups_seen += altogether;
	return wants_last_bytes;
}

static const struct conn_ops left_ops = {.received = all_at_once, .closed = count_closed, .left = count_left};

/* Behind bytes that nobody reads now: its owner hears of it, once of each, and no turn is spun for it. */
static void an_end_behind_unread_bytes_is_told(void **state UNUSED)
{
	for (int wanted = 0; wanted < 2; wanted++) {
		struct probe p;
		int fd = open_probe(loop, &p);
		uint64_t events;

		p.conn.ops = &left_ops;
		ends_seen = hang_ups_seen = 0;
		wants_last_bytes = wanted;
		conn_pause(&p.conn);
		put(fd, "unread");
		settle(loop);
		assert_int_equal(ends_seen + hang_ups_seen, 0);
		shutdown(fd, SHUT_WR);
		run_until(loop, ends_seen == 1);
		settle(loop);
		events = loop_counters(loop)->events;
		loop_run_turn(loop, 20000);
		assert_int_equal(loop_counters(loop)->events, events);
		assert_int_equal(hang_ups_seen + p.closed, 0); /* it may still read, whatever the owner said */
		close(fd);
		run_until(loop, hang_ups_seen == 1);
		settle(loop);
		assert_int_equal(p.closed, !wanted);
		if (wanted) {
			conn_resume(&p.conn);
			run_until(loop, p.closed);
		}
		assert_int_equal(ends_seen, 1);
		probe_end(&p);
	}
}

/* ---- the peer's end ---- */

static void a_peer_that_ended_may_still_read(void **state UNUSED)
{
	struct probe p;
	int fd = open_probe(loop, &p);
	char bytes[16];

	p.unit = 4;
	p.goes_on = true;
	put(fd, "abcdef");
	shutdown(fd, SHUT_WR);
	run_until(loop, p.ended == 1);
	assert_true(probe_got(&p, "abcd"));
	assert_int_equal(p.kept_at_end, 2);
	settle(loop);
	assert_int_equal(p.ended, 1); /* it isn't asked again without a reason */
	conn_send(&p.conn, "answer", 6);
	run_until(loop, p.ended == 2);
	assert_int_equal(read(fd, bytes, sizeof(bytes)), 6);
	p.goes_on = false;
	conn_resume(&p.conn);
	run_until(loop, p.closed);
	assert_int_equal(p.error, 0);
	assert_int_equal(p.ended, 3);
	settle(loop); /* io_uring lets go of the socket when it waits again */
	assert_int_equal(read(fd, bytes, sizeof(bytes)), 0);
	close(fd);
	probe_end(&p);
}

static void a_peer_that_ended_and_then_left_is_noticed(void **state UNUSED)
{
	for (int paused = 0; paused < 2; paused++) {
		struct probe p;
		int fd = open_probe(loop, &p);

		p.goes_on = true;
		shutdown(fd, SHUT_WR);
		run_until(loop, p.ended == 1);
		if (paused)
			conn_pause(&p.conn);
		close(fd);
		run_until(loop, p.closed);
		assert_int_equal(p.ended, 1);
		probe_end(&p);
	}
}

/* What it sent is shown first, and the owner is asked when it wants bytes again. */
static void an_end_waits_for_a_paused_owner(void **state UNUSED)
{
	struct probe p;
	int fd = open_probe(loop, &p);

	p.unit = 4;
	p.goes_on = true;
	conn_pause(&p.conn);
	put(fd, "abcdef");
	shutdown(fd, SHUT_WR);
	settle(loop);
	assert_int_equal(p.ended + p.calls, 0);
	conn_resume(&p.conn);
	run_until(loop, p.ended == 1);
	assert_true(probe_got(&p, "abcd"));
	conn_pause(&p.conn);
	conn_send(&p.conn, "x", 1);
	settle(loop);
	assert_int_equal(p.ended, 1);
	p.unit = 1; /* what is kept is shown again before the owner is asked */
	p.goes_on = false;
	conn_resume(&p.conn);
	run_until(loop, p.closed);
	assert_true(probe_got(&p, "abcdef"));
	assert_int_equal(p.kept_at_end, 0);
	close(fd);
	probe_end(&p);
}

static void end_after_this(struct probe *p)
{
	conn_end_input(&p->conn);
}

static void an_owner_may_end_the_input(void **state UNUSED)
{
	struct probe p;
	int fd = open_probe(loop, &p);

	p.on_received = end_after_this;
	p.goes_on = true;
	put(fd, "last");
	run_until(loop, p.ended == 1);
	put(fd, "more");
	settle(loop);
	assert_int_equal(p.calls, 1);
	assert_true(probe_got(&p, "last"));
	close(fd);
	run_until(loop, p.closed);
	probe_end(&p);
}

/* What the other side said before it closed is heard even though writing fails first. */
static void a_failed_write_still_reads(void **state UNUSED)
{
	struct probe p;
	int fd = open_probe(loop, &p);

	put(fd, "FATAL");
	close(fd);
	conn_send_ref(&p.conn, "query", 5);
	list_remove(&p.conn.dirty);
	conn_flush(&p.conn); /* before the event that would read first */
	assert_int_equal(p.closed, 1);
	assert_int_equal(p.error, -EPIPE);
	assert_true(probe_got(&p, "FATAL"));
	probe_end(&p);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(a_hang_up_while_paused_closes),
		TEST(a_hang_up_while_paused_loses_no_bytes),
		TEST(an_end_behind_unread_bytes_is_told),
		TEST(a_peer_that_ended_may_still_read),
		TEST(a_peer_that_ended_and_then_left_is_noticed),
		TEST(an_end_waits_for_a_paused_owner),
		TEST(an_owner_may_end_the_input),
		TEST(a_failed_write_still_reads),
	};

	choose_backend(argc, argv);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
