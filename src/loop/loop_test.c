/* Plain connections, listeners, messages and turns of the loop. */
#include "loop/loop_test_util.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/un.h>

static struct loop *loop;

static int begin(void **state UNUSED)
{
	loop = new_loop();
	return 0;
}

static int end(void **state UNUSED)
{
	loop_free(loop);
	return 0;
}

/* p gets one end; the other is returned. */
static int open_probe(struct probe *p)
{
	int fds[2];

	socket_pair(fds);
	probe_init(p);
	assert_int_equal(conn_open(&p->conn, loop, fds[0]), 0);
	return fds[1];
}

static void put(int fd, const char *text)
{
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static size_t read_all(int fd, struct buf *into)
{
	size_t before = into->len;
	ssize_t n;

	do {
		uint8_t *to = buf_reserve(into, 1 << 16);

		n = read(fd, to, 1 << 16);
		if (n > 0)
			into->len += (size_t)n;
	} while (n > 0);
	return into->len - before;
}

static uint8_t *pattern(size_t len)
{
	uint8_t *bytes = malloc(len);

	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)((i * 2654435761u) >> 13);
	return bytes;
}

/* ---- receiving ---- */

static void partial_frames_are_kept_and_shown_again(void **state UNUSED)
{
	struct probe p;
	int fd = open_probe(&p);

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
		int fd = open_probe(&p);

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
	int fd = open_probe(&p);
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
	int fd = open_probe(&p);

	put(fd, "last words");
	close(fd);
	run_until(loop, p.closed);
	assert_true(probe_got(&p, "last words"));
	probe_end(&p);
}

static void too_much_kept_stops_reading(void **state UNUSED)
{
	struct probe p;
	int fd = open_probe(&p);
	uint8_t *bytes = pattern(100000);
	uint64_t receives;

	p.unit = 1 << 20;
	p.conn.keep_max = 8192;
	assert_true(write(fd, bytes, 100000) > 8192);
	run_until(loop, conn_is_paused(&p.conn));
	settle(loop);
	receives = loop_counters(loop)->receives;
	assert_true(p.conn.kept_len >= 8192 && p.conn.kept_len < 8192 + LOOP_RECEIVE_BYTES);
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
	int fd = open_probe(&p);
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
	int fd = open_probe(&p);

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
	int fd = open_probe(&p);

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

static void a_hang_up_while_paused_closes(void **state UNUSED)
{
	struct probe p;
	int fd = open_probe(&p);

	conn_pause(&p.conn);
	close(fd);
	run_until(loop, p.closed);
	assert_int_equal(p.calls, 0);
	probe_end(&p);
}

static void a_hang_up_while_paused_loses_no_bytes(void **state UNUSED)
{
	struct probe p;
	int fd = open_probe(&p);
	uint64_t waits;

	conn_pause(&p.conn);
	put(fd, "bye");
	close(fd);
	settle(loop);
	assert_int_equal(p.closed, 0);
	waits = loop_counters(loop)->waits;
	loop_run_turn(loop, 20000);
	assert_int_equal(loop_counters(loop)->waits, waits + 1);
	assert_int_equal(loop->event_count, 0); /* it slept: the hang-up doesn't spin */
	conn_resume(&p.conn);
	run_until(loop, p.closed);
	assert_true(probe_got(&p, "bye"));
	probe_end(&p);
}

static void peeking_takes_nothing(void **state UNUSED)
{
	struct probe p;
	int fd = open_probe(&p);
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
	int fd = open_probe(&p);
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
	loop_run_turn(loop, 0);
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
	int fd = open_probe(&p);
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
	int source = open_probe(&from), reader = open_probe(&to);
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
		source[i] = open_probe(&from[i]);
		reader[i] = open_probe(&to[i]);
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

/* What the other side said before it closed is heard even though writing fails first. */
static void a_failed_write_still_reads(void **state UNUSED)
{
	struct probe p;
	int fd = open_probe(&p);

	put(fd, "FATAL");
	close(fd);
	conn_send_ref(&p.conn, "query", 5);
	p.conn.flags |= CONN_PAUSED; /* so that the event doesn't read first */
	loop->event_count = loop->event_at = 0;
	p.conn.flags &= (uint16_t)~CONN_PAUSED;
	list_remove(&p.conn.dirty);
	conn_flush(&p.conn);
	assert_int_equal(p.closed, 1);
	assert_int_equal(p.error, -EPIPE);
	assert_true(probe_got(&p, "FATAL"));
	probe_end(&p);
}

/* ---- closing ---- */

static void close_self(struct probe *p)
{
	conn_close(&p->conn);
}

static void closing_in_ones_own_callback(void **state UNUSED)
{
	struct probe p;
	int fd = open_probe(&p);

	p.unit = 100;
	p.on_received = close_self;
	put(fd, "abc");
	run_until(loop, p.calls == 1);
	settle(loop);
	assert_int_equal(p.closed, 0);
	assert_null(p.conn.kept);
	close(fd);
	/* The same out of a kept buffer. */
	fd = open_probe(&p);
	p.unit = 100;
	put(fd, "abc");
	run_until(loop, p.calls == 1);
	p.on_received = close_self;
	conn_resume(&p.conn);
	loop_run_turn(loop, 0);
	assert_int_equal(p.calls, 2);
	assert_false(conn_is_open(&p.conn));
	close(fd);
	probe_end(&p);
}

static void reopen_self(struct probe *p)
{
	int fds[2];

	conn_close(&p->conn);
	socket_pair(fds);
	assert_int_equal(conn_open(&p->conn, loop, fds[0]), 0);
	p->on_received = NULL;
	*(int *)p->argument = fds[1];
}

static void a_reopened_conn_gets_nothing_of_the_old_one(void **state UNUSED)
{
	struct probe p;
	int fresh, fd = open_probe(&p);

	p.unit = 100;
	p.argument = &fresh;
	p.on_received = reopen_self;
	put(fd, "secret");
	run_until(loop, p.calls == 1);
	assert_int_equal(p.conn.kept_len, 0);
	p.unit = 1;
	put(fresh, "new");
	run_until(loop, p.calls == 2);
	assert_true(probe_got(&p, "new"));
	close(fd);
	close(fresh);
	probe_end(&p);
}

static void close_the_other(struct probe *p)
{
	struct probe *next = p->argument;

	conn_close(&next->conn);
}

static void closing_another_of_the_same_batch(void **state UNUSED)
{
	struct probe a, b;
	int fd_a = open_probe(&a), fd_b = open_probe(&b);

	a.argument = &b;
	b.argument = &a;
	a.on_received = b.on_received = close_the_other;
	put(fd_a, "x");
	put(fd_b, "x");
	loop_run_turn(loop, 1000);
	assert_int_equal(a.calls + b.calls, 1);
	settle(loop);
	assert_int_equal(a.calls + b.calls, 1);
	assert_int_equal(a.closed + b.closed, 0);
	close(fd_a);
	close(fd_b);
	probe_end(&a);
	probe_end(&b);
}

struct owner {
	struct probe probe;
	struct loop_deferred deferred;
};

static int freed;

static void free_owner(struct loop_deferred *deferred)
{
	struct owner *owner = container_of(deferred, struct owner, deferred);

	freed++;
	probe_end(&owner->probe);
	free(owner);
}

static void defer_free(struct probe *p)
{
	loop_defer(loop, &container_of(p, struct owner, probe)->deferred);
}

static void owners_are_freed_at_the_end_of_the_turn(void **state UNUSED)
{
	freed = 0;
	for (int i = 0; i < 3; i++) {
		struct owner *owner = calloc(1, sizeof(*owner));
		int fd = open_probe(&owner->probe);

		owner->deferred.run = free_owner;
		owner->probe.on_closed = defer_free;
		put(fd, "x");
		close(fd);
	}
	run_until(loop, freed == 3);
}

static void finishing_writes_first(void **state UNUSED)
{
	struct probe p;
	int fd = open_probe(&p);
	uint8_t *bytes = pattern(1 << 20);
	struct buf got = BUF_INIT(2 << 20);

	conn_send_ref(&p.conn, bytes, 1 << 20);
	conn_finish(&p.conn, 5 * USEC_PER_SEC);
	conn_finish(&p.conn, 5 * USEC_PER_SEC);
	conn_send_ref(&p.conn, "more", 4); /* too late */
	assert_int_equal(p.closed, 0);
	put(fd, "ignored");
	for (int i = 0; i < 10000 && !p.closed; i++) {
		loop_run_turn(loop, 0);
		read_all(fd, &got);
		if (got.len == 1 << 20)
			shutdown(fd, SHUT_WR);
	}
	read_all(fd, &got);
	assert_int_equal(got.len, 1 << 20);
	assert_memory_equal(got.bytes, bytes, got.len);
	assert_int_equal(p.closed, 1);
	assert_int_equal(p.error, 0);
	assert_int_equal(p.calls, 0);
	assert_int_equal(read(fd, bytes, 1), 0);
	free(bytes);
	buf_free(&got);
	close(fd);
	probe_end(&p);
}

static void finishing_with_a_quiet_peer_is_immediate(void **state UNUSED)
{
	struct probe p;
	int fd = open_probe(&p);
	char text[8];

	conn_send(&p.conn, "bye", 3);
	conn_finish(&p.conn, 3600 * USEC_PER_SEC);
	assert_int_equal(p.closed, 0);
	loop_run_turn(loop, 0);
	assert_int_equal(p.closed, 1);
	assert_int_equal(read(fd, text, 8), 3);
	assert_int_equal(read(fd, text, 8), 0);
	close(fd);
	probe_end(&p);
}

static void finishing_has_an_end(void **state UNUSED)
{
	struct probe p;
	int fd = open_probe(&p);
	uint8_t *bytes = pattern(4 << 20);

	conn_send_ref(&p.conn, bytes, 4 << 20);
	conn_finish(&p.conn, 5 * USEC_PER_SEC);
	settle(loop);
	assert_int_equal(p.closed, 0);
	clock_advance(6 * USEC_PER_SEC);
	run_until(loop, p.closed);
	assert_int_equal(p.error, 0);
	free(bytes);
	close(fd);
	probe_end(&p);
}

/* ---- connecting and listening ---- */

static int listen_on_loopback(struct sockaddr_in *address)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(*address);

	*address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	assert_int_equal(bind(fd, (struct sockaddr *)address, len), 0);
	assert_int_equal(listen(fd, 64), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)address, &len), 0);
	return fd;
}

struct acceptor {
	struct loop_listener listener;
	int fds[64], count;
	bool stop_after_one;
};

static void accepted(struct loop_listener *listener, int fd, const struct sockaddr *address, socklen_t len UNUSED)
{
	struct acceptor *a = container_of(listener, struct acceptor, listener);

	assert_int_equal(address->sa_family, AF_INET);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	a->fds[a->count++] = fd;
	if (a->stop_after_one)
		loop_unlisten(listener);
}

static void connecting_over_loopback(void **state UNUSED)
{
	struct sockaddr_in address;
	struct acceptor a = {.listener = {.fd = listen_on_loopback(&address), .accepted = accepted}};
	struct probe client, server;
	int value = 0;
	socklen_t len = sizeof(value);

	assert_int_equal(loop_listen(loop, &a.listener), 0);
	probe_init(&client);
	probe_init(&server);
	assert_int_equal(conn_connect(&client.conn, loop, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(client.ready, 0);
	conn_send(&client.conn, "early", 5); /* kept until it is connected */
	run_until(loop, a.count == 1 && client.ready == 1);
	assert_int_equal(conn_open(&server.conn, loop, a.fds[0]), 0);
	assert_int_equal(getsockopt(server.conn.fd, IPPROTO_TCP, TCP_NODELAY, &value, &len), 0);
	assert_true(value);
	run_until(loop, probe_got(&server, "early"));
	conn_send(&server.conn, "answer", 6);
	run_until(loop, probe_got(&client, "answer"));
	conn_close(&server.conn);
	run_until(loop, client.closed);
	assert_int_equal(client.error, 0);
	loop_unlisten(&a.listener);
	close(a.listener.fd);
	probe_end(&client);
	probe_end(&server);
}

static void a_reset_is_told(void **state UNUSED)
{
	struct sockaddr_in address;
	int listener = listen_on_loopback(&address), fd;
	struct linger reset = {.l_onoff = 1};
	struct probe p, paused;

	probe_init(&p);
	probe_init(&paused);
	assert_int_equal(conn_connect(&p.conn, loop, (struct sockaddr *)&address, sizeof(address)), 0);
	run_until(loop, p.ready);
	fd = accept(listener, NULL, NULL);
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(fd);
	run_until(loop, p.closed);
	assert_int_equal(p.error, -ECONNRESET);

	assert_int_equal(conn_connect(&paused.conn, loop, (struct sockaddr *)&address, sizeof(address)), 0);
	run_until(loop, paused.ready);
	conn_pause(&paused.conn);
	fd = accept(listener, NULL, NULL);
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(fd);
	run_until(loop, paused.closed);
	assert_int_equal(paused.error, -ECONNRESET);
	close(listener);
	probe_end(&p);
	probe_end(&paused);
}

static void a_refused_connect_is_told(void **state UNUSED)
{
	struct sockaddr_in address;
	struct sockaddr_un nowhere = {.sun_family = AF_UNIX, .sun_path = "/nonexistent/socket"};
	struct probe p;

	close(listen_on_loopback(&address));
	probe_init(&p);
	assert_int_equal(conn_connect(&p.conn, loop, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(p.closed, 0);
	run_until(loop, p.closed);
	assert_int_equal(p.error, -ECONNREFUSED);
	assert_int_equal(p.ready, 0);
	assert_int_equal(conn_connect(&p.conn, loop, (struct sockaddr *)&nowhere, sizeof(nowhere)), -ENOENT);
	assert_false(conn_is_open(&p.conn));
	probe_end(&p);
}

static int connect_blocking(const struct sockaddr_in *address)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(fd, (const struct sockaddr *)address, sizeof(*address)), 0);
	return fd;
}

static void many_are_accepted_at_once(void **state UNUSED)
{
	struct sockaddr_in address;
	struct acceptor a = {.listener = {.fd = listen_on_loopback(&address), .accepted = accepted}};
	int clients[20];

	for (int i = 0; i < 20; i++)
		clients[i] = connect_blocking(&address);
	a.stop_after_one = true;
	assert_int_equal(loop_listen(loop, &a.listener), 0);
	run_until(loop, a.count == 1);
	settle(loop);
	assert_int_equal(a.count, 1);
	a.stop_after_one = false;
	assert_int_equal(loop_listen(loop, &a.listener), 0);
	loop_run_turn(loop, 1000);
	assert_int_equal(a.count, 20);
	loop_unlisten(&a.listener);
	close(a.listener.fd);
	for (int i = 0; i < 20; i++) {
		close(clients[i]);
		close(a.fds[i]);
	}
}

static void running_out_of_descriptors_pauses_accepting(void **state UNUSED)
{
	struct sockaddr_in address;
	struct acceptor a = {.listener = {.fd = listen_on_loopback(&address), .accepted = accepted}};
	int client = connect_blocking(&address);
	struct rlimit before, none;
	uint64_t waits;

	assert_int_equal(loop_listen(loop, &a.listener), 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = (rlim_t)client; /* all below are taken */
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	loop_run_turn(loop, 1000);
	assert_int_equal(a.count, 0);
	assert_true(timer_is_set(&a.listener.retry));
	waits = loop_counters(loop)->waits;
	loop_run_turn(loop, 10000);
	assert_int_equal(loop_counters(loop)->waits, waits + 1);
	assert_int_equal(loop->event_count, 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	clock_advance(200 * USEC_PER_MSEC);
	run_until(loop, a.count == 1);
	loop_unlisten(&a.listener);
	close(a.listener.fd);
	close(a.fds[0]);
	close(client);
}

/* ---- memory ---- */

static void spare_memory_is_given_back(void **state UNUSED)
{
	struct probe p;
	int fd = open_probe(&p);

	p.unit = 10;
	put(fd, "abc");
	run_until(loop, p.calls == 1);
	put(fd, "defghij");
	run_until(loop, p.got.len == 10);
	assert_non_null(loop->turn.spare);
	assert_non_null(loop->turn.small_kept);
	assert_null(p.conn.kept);
	clock_advance(11 * USEC_PER_SEC);
	settle(loop);
	assert_null(loop->turn.spare);
	assert_null(loop->turn.small_kept);
	close(fd);
	probe_end(&p);
}

static void turn_memory_of_any_size(void **state UNUSED)
{
	static const size_t sizes[] = {1, 7, 8, 100, 60000, 65536, 200000, 262144, 3000000, 1, 30};
	uint8_t *at[ARRAY_SIZE(sizes)];

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		at[i] = loop_turn_alloc(loop, sizes[i]);
		assert_non_null(at[i]);
		assert_int_equal((uintptr_t)at[i] % 8, 0);
		memset(at[i], (int)i, sizes[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		assert_int_equal(at[i][0], i);
		assert_int_equal(at[i][sizes[i] - 1], i);
	}
	loop_run_turn(loop, 0);
}

static void other_back_ends_are_refused(void **state UNUSED)
{
	struct loop *another;

	assert_int_equal(loop_new("io_uring", NULL, &another), -ENOTSUP);
	assert_int_equal(loop_new("auto", NULL, &another), 0);
	loop_free(another);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
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
		TEST(a_hang_up_while_paused_closes),
		TEST(a_hang_up_while_paused_loses_no_bytes),
		TEST(peeking_takes_nothing),
		TEST(a_turn_is_one_write),
		TEST(more_pieces_than_the_kernel_takes_at_once),
		TEST(forwarding_to_a_slow_reader),
		TEST(a_turn_of_many_megabytes),
		TEST(a_failed_write_still_reads),
		TEST(closing_in_ones_own_callback),
		TEST(a_reopened_conn_gets_nothing_of_the_old_one),
		TEST(closing_another_of_the_same_batch),
		TEST(owners_are_freed_at_the_end_of_the_turn),
		TEST(finishing_writes_first),
		TEST(finishing_with_a_quiet_peer_is_immediate),
		TEST(finishing_has_an_end),
		TEST(connecting_over_loopback),
		TEST(a_reset_is_told),
		TEST(a_refused_connect_is_told),
		TEST(many_are_accepted_at_once),
		TEST(running_out_of_descriptors_pauses_accepting),
		TEST(spare_memory_is_given_back),
		TEST(turn_memory_of_any_size),
		TEST(other_back_ends_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
