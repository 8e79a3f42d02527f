/* A frozen loop: nothing is read, nothing is lost, the order stays. */
#include "loop/tls_test_util.h"

#include <netinet/in.h>

/* ---- plain connections ---- */

static void what_comes_is_shown_after_the_thaw(void **state UNUSED)
{
	struct probe p;
	int fd = open_probe(loop, &p);
	uint64_t events;

	put(fd, "one,");
	run_until(loop, probe_got(&p, "one,"));
	loop_freeze(loop);
	loop_freeze(loop);
	put(fd, "two,");
	settle(loop);
	put(fd, "three");
	settle(loop);
	events = loop_counters(loop)->events;
	loop_run_turn(loop, 20000);
	assert_int_equal(loop_counters(loop)->events, events); /* it slept */
	assert_int_equal(p.calls, 1);
	loop_thaw(loop);
	loop_thaw(loop);
	run_until(loop, probe_got(&p, "one,two,three"));
	put(fd, "!");
	run_until(loop, probe_got(&p, "one,two,three!"));
	close(fd);
	run_until(loop, p.closed);
	probe_end(&p);
}

static void a_part_that_was_kept_comes_first(void **state UNUSED)
{
	struct probe p;
	int fd = open_probe(loop, &p);

	p.unit = 4;
	put(fd, "abcde");
	run_until(loop, p.calls == 1);
	loop_freeze(loop);
	put(fd, "fg");
	settle(loop);
	loop_thaw(loop);
	put(fd, "h");
	run_until(loop, probe_got(&p, "abcdefgh"));
	close(fd);
	probe_end(&p);
}

/* From one connection to another, frozen again and again. */
static void a_stream_passes_byte_for_byte(void **state UNUSED)
{
	enum { LEN = 10 << 20 };
	uint8_t *bytes = pattern(LEN);
	struct buf got = BUF_INIT(LEN * 2);
	struct probe from, to;
	int in = open_probe(loop, &from), out = open_probe(loop, &to), turns = 0;
	size_t sent = 0;

	from.to = &to.conn;
	for (; got.len < LEN; turns++) {
		ssize_t n = write(in, bytes + sent, LEN - sent);

		sent += n > 0 ? (size_t)n : 0;
		if (turns % 7 == 2)
			loop_freeze(loop);
		if (turns % 7 == 5)
			loop_thaw(loop);
		loop_run_turn(loop, 500);
		read_all(out, &got);
		if (conn_queued(&to.conn) < CONN_LOW_WATER && conn_is_paused(&from.conn))
			conn_resume(&from.conn);
		assert_true(turns < 200000);
	}
	assert_int_equal(got.len, LEN);
	assert_memory_equal(got.bytes, bytes, LEN);
	free(bytes);
	buf_free(&got);
	close(in);
	close(out);
	probe_end(&from);
	probe_end(&to);
}

static void owners_pause_and_resume_as_ever(void **state UNUSED)
{
	struct probe paused, resumed;
	int fd = open_probe(loop, &paused), fd_resumed = open_probe(loop, &resumed);

	conn_pause(&resumed.conn);
	put(fd_resumed, "early,");
	settle(loop);
	loop_freeze(loop);
	conn_pause(&paused.conn);
	conn_resume(&resumed.conn);
	assert_true(conn_is_paused(&paused.conn) && !conn_is_paused(&resumed.conn));
	put(fd, "x");
	put(fd_resumed, "late");
	settle(loop);
	assert_int_equal(paused.calls + resumed.calls, 0);
	loop_thaw(loop);
	run_until(loop, probe_got(&resumed, "early,late"));
	settle(loop);
	assert_int_equal(paused.calls, 0);
	assert_true(conn_is_paused(&paused.conn));
	conn_resume(&paused.conn);
	run_until(loop, probe_got(&paused, "x"));
	close(fd);
	close(fd_resumed);
	probe_end(&paused);
	probe_end(&resumed);
}

/* ---- ends ---- */

static void an_end_is_told_after_the_thaw(void **state UNUSED)
{
	for (int altogether = 0; altogether < 2; altogether++) {
		struct probe p;
		int fd = open_probe(loop, &p);
		uint64_t events;

		p.goes_on = true;
		settle(loop);
		loop_freeze(loop);
		put(fd, "bye");
		settle(loop);
		if (altogether)
			close(fd);
		else
			shutdown(fd, SHUT_WR);
		settle(loop);
		events = loop_counters(loop)->events;
		loop_run_turn(loop, 20000);
		assert_int_equal(loop_counters(loop)->events, events);
		assert_int_equal(p.calls + p.ended + p.closed, 0);
		loop_thaw(loop);
		run_until(loop, altogether ? p.closed : p.ended);
		assert_true(probe_got(&p, "bye"));
		assert_int_equal(p.closed, altogether);
		if (!altogether)
			close(fd);
		run_until(loop, p.closed);
		probe_end(&p);
	}
}

/* One resets the connection (it left bytes unread), over TCP. */
static void a_reset_is_told_after_the_thaw(void **state UNUSED)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(address);
	struct linger at_once = {.l_onoff = 1};
	int listener = socket(AF_INET, SOCK_STREAM, 0), fd = socket(AF_INET, SOCK_STREAM, 0), peer;
	struct probe p;

	assert_int_equal(bind(listener, (struct sockaddr *)&address, len), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &len), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, len), 0);
	peer = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
	assert_true(peer >= 0);
	probe_init(&p);
	assert_int_equal(conn_open(&p.conn, loop, peer), 0);
	settle(loop);
	loop_freeze(loop);
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	close(fd);
	settle(loop);
	assert_int_equal(p.closed, 0);
	loop_thaw(loop);
	run_until(loop, p.closed);
	assert_int_equal(p.error, -ECONNRESET);
	close(listener);
	probe_end(&p);
}

/* What was kept unseen is heard although nothing more can be written. */
static void last_words_of_one_who_left(void **state UNUSED)
{
	struct probe p;
	int fd = open_probe(loop, &p);

	settle(loop);
	loop_freeze(loop);
	put(fd, "FAT");
	settle(loop);
	put(fd, "AL");
	close(fd);
	conn_send(&p.conn, "query", 5);
	run_until(loop, p.closed);
	assert_true(probe_got(&p, "FATAL"));
	loop_thaw(loop);
	probe_end(&p);
}

/* ---- what goes on ---- */

static void what_is_queued_is_written(void **state UNUSED)
{
	enum { LEN = 1 << 20 };
	uint8_t *bytes = pattern(LEN);
	struct buf got = BUF_INIT(LEN * 2);
	struct probe p, slow;
	int fd = open_probe(loop, &p), never_read = open_probe(loop, &slow);

	conn_send(&p.conn, bytes, LEN);
	conn_send(&slow.conn, bytes, LEN);
	loop_run_turn(loop, 0);
	loop_freeze(loop);
	assert_int_equal(loop_unwritten(loop), 2);
	for (int i = 0; i < 20000 && got.len < LEN; i++) {
		loop_run_turn(loop, 500);
		read_all(fd, &got);
	}
	settle(loop);
	assert_memory_equal(got.bytes, bytes, LEN);
	assert_int_equal(loop_unwritten(loop), 1);
	assert_int_equal(loop_fail_unwritten(loop), 1);
	assert_int_equal(slow.closed, 1);
	assert_int_equal(slow.error, -ETIMEDOUT);
	assert_int_equal(loop_unwritten(loop), 0);
	assert_int_equal(p.closed, 0);
	conn_send(&p.conn, "bye", 3);
	conn_finish(&p.conn, USEC_PER_SEC); /* who closes is not kept, either */
	run_until(loop, p.closed);
	loop_thaw(loop);
	free(bytes);
	buf_free(&got);
	close(fd);
	close(never_read);
	probe_end(&p);
	probe_end(&slow);
}

static void some_are_never_frozen(void **state UNUSED)
{
	struct probe before, later;
	int fd = open_probe(loop, &before), fd_later = open_probe(loop, &later);

	conn_never_freeze(&before.conn);
	loop_freeze(loop);
	put(fd, "a");
	put(fd_later, "b");
	run_until(loop, probe_got(&before, "a"));
	settle(loop);
	assert_int_equal(later.calls, 0);
	conn_never_freeze(&later.conn);
	run_until(loop, probe_got(&later, "b"));
	put(fd_later, "c");
	run_until(loop, probe_got(&later, "bc"));
	loop_thaw(loop);
	close(fd);
	close(fd_later);
	probe_end(&before);
	probe_end(&later);
}

static void newcomers_are_frozen(void **state UNUSED)
{
	struct probe p, moved, ahead;
	int fd, fd_moved, fds[2];
	struct loop *other = new_loop();

	fd_moved = open_probe(other, &moved);
	loop_freeze(loop);
	fd = open_probe(loop, &p);
	put(fd, "x");
	assert_int_equal(conn_detach(&moved.conn), 0);
	assert_int_equal(conn_attach(&moved.conn, loop), 0);
	put(fd_moved, "y");
	socket_pair(fds);
	probe_init(&ahead);
	put(fds[1], "z");
	conn_open_with_bytes(&ahead.conn, loop, fds[0]);
	settle(loop);
	assert_int_equal(p.calls + moved.calls + ahead.calls, 0);
	loop_thaw(loop);
	run_until(loop, probe_got(&p, "x") && probe_got(&moved, "y") && probe_got(&ahead, "z"));
	close(fd);
	close(fd_moved);
	close(fds[1]);
	probe_end(&p);
	probe_end(&moved);
	probe_end(&ahead);
	loop_free(other);
}

static struct probe *order[2];

static void note_order(struct probe *p)
{
	order[order[0] ? 1 : 0] = p;
}

static void some_are_heard_first(void **state UNUSED)
{
	struct probe client_like, server_like;
	int fd = open_probe(loop, &client_like), fd_server = open_probe(loop, &server_like);

	client_like.on_received = server_like.on_received = note_order;
	server_like.conn.thaws_first = true;
	order[0] = order[1] = NULL;
	loop_freeze(loop);
	put(fd, "x");
	settle(loop);
	put(fd_server, "y");
	settle(loop);
	loop_thaw(loop);
	run_until(loop, order[1]);
	assert_ptr_equal(order[0], &server_like);
	assert_ptr_equal(order[1], &client_like);
	close(fd);
	close(fd_server);
	probe_end(&client_like);
	probe_end(&server_like);
}

static int accepts;

static void count_accepted(struct loop_listener *listener UNUSED, int fd, const struct sockaddr *address UNUSED,
			   socklen_t len UNUSED)
{
	accepts++;
	close(fd);
}

static void listeners_rest(void **state UNUSED)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(address);
	struct loop_listener listener = {.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0),
					 .accepted = count_accepted};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	accepts = 0;
	assert_int_equal(bind(listener.fd, (struct sockaddr *)&address, len), 0);
	assert_int_equal(listen(listener.fd, 5), 0);
	assert_int_equal(getsockname(listener.fd, (struct sockaddr *)&address, &len), 0);
	assert_int_equal(loop_listen(loop, &listener), 0);
	settle(loop);
	loop_rest_listening(&listener);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, len), 0);
	settle(loop);
	assert_int_equal(accepts, 0);
	loop_go_on_listening(&listener);
	loop_go_on_listening(&listener);
	run_until(loop, accepts == 1);
	loop_unlisten(&listener);
	loop_rest_listening(&listener);
	loop_go_on_listening(&listener); /* it did not listen before */
	close(fd);
	close(listener.fd);
}

/* ---- timers ---- */

static int expirations;

static void count_expired(struct timer *timer UNUSED)
{
	expirations++;
}

static void timers_stand_still(void **state UNUSED)
{
	struct timer stands, runs;

	timer_init(&stands, count_expired);
	timer_init(&runs, count_expired);
	runs.always = true;
	expirations = 0;
	timer_set(loop_timers(loop), &stands, clock_now() + 20 * USEC_PER_MSEC);
	timer_set(loop_timers(loop), &runs, clock_now() + 40 * USEC_PER_MSEC);
	loop_freeze(loop);
	run_until(loop, !timer_is_set(&runs));
	assert_int_equal(expirations, 1);
	assert_true(timer_is_set(&stands));
	loop_thaw(loop);
	run_until(loop, !timer_is_set(&stands));
	assert_int_equal(expirations, 2);
}

/* ---- TLS ---- */

static void a_handshake_waits(void **state UNUSED)
{
	for (int turns = 0; turns < 6; turns++) { /* at each of its steps */
		start("db.test", ALPN, ALPN);
		conn_never_freeze(&client.conn); /* it alone is the peer: nothing of it is the proxy's */
		for (int i = 0; i < turns; i++)
			loop_run_turn(loop, 0);
		loop_freeze(loop);
		settle(loop);
		conn_send(&client.conn, "question", 8);
		settle(loop);
		assert_int_equal(server.calls, 0);
		if (turns == 0)
			assert_int_equal(server.ready, 0);
		loop_thaw(loop);
		run_until(loop, probe_got(&server, "question"));
		conn_close(&client.conn);
		run_until(loop, server.closed);
		probe_end(&client);
		probe_end(&server);
		probe_init(&client);
		probe_init(&server);
	}
}

static void records_wait(void **state UNUSED)
{
	enum { LEN = 1 << 20 };
	uint8_t *bytes = pattern(LEN);

	start_and_wait("db.test");
	conn_never_freeze(&client.conn);
	conn_send(&client.conn, bytes, LEN);
	for (int i = 0; server.got.len < LEN; i++) {
		if (i % 5 == 1)
			loop_freeze(loop);
		if (i % 5 == 4)
			loop_thaw(loop);
		loop_run_turn(loop, 500);
		assert_true(i < 20000);
	}
	loop_thaw(loop);
	assert_int_equal(server.got.len, LEN);
	assert_memory_equal(server.got.bytes, bytes, LEN);
	loop_freeze(loop);
	conn_send(&client.conn, "bye", 3);
	settle(loop);
	conn_close(&client.conn);
	settle(loop);
	assert_int_equal(server.closed, 0);
	assert_int_equal(server.got.len, LEN);
	loop_thaw(loop);
	run_until(loop, server.closed);
	assert_int_equal(server.got.len, LEN + 3);
	free(bytes);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(what_comes_is_shown_after_the_thaw),
		TEST(a_part_that_was_kept_comes_first),
		TEST(a_stream_passes_byte_for_byte),
		TEST(owners_pause_and_resume_as_ever),
		TEST(an_end_is_told_after_the_thaw),
		TEST(a_reset_is_told_after_the_thaw),
		TEST(last_words_of_one_who_left),
		TEST(what_is_queued_is_written),
		TEST(some_are_never_frozen),
		TEST(newcomers_are_frozen),
		TEST(some_are_heard_first),
		TEST(listeners_rest),
		TEST(timers_stand_still),
		TEST(a_handshake_waits),
		TEST(records_wait),
	};

	choose_backend(argc, argv);
	return cmocka_run_group_tests(tests, make_certificates, remove_certificates);
}
