/* Closing, connecting, listening, and the memory of a turn. */
#include "loop/loop_test_one.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/un.h>

/* ---- closing ---- */

static void close_self(struct probe *p)
{
	conn_close(&p->conn);
}

static void closing_in_ones_own_callback(void **state UNUSED)
{
	struct probe p;
	int fd = open_probe(loop, &p);

	p.unit = 100;
	p.on_received = close_self;
	put(fd, "abc");
	run_until(loop, p.calls == 1);
	settle(loop);
	assert_int_equal(p.closed, 0);
	assert_null(p.conn.kept);
	close(fd);
	/* The same out of a kept buffer. */
	fd = open_probe(loop, &p);
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
	int fresh, fd = open_probe(loop, &p);

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
	int fd_a = open_probe(loop, &a), fd_b = open_probe(loop, &b);

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
		int fd = open_probe(loop, &owner->probe);

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
	int fd = open_probe(loop, &p);
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
	int fd = open_probe(loop, &p);
	char text[8];

	conn_send(&p.conn, "bye", 3);
	conn_finish(&p.conn, 3600 * USEC_PER_SEC);
	assert_int_equal(p.closed, 0);
	loop_run_turn(loop, 0);
	assert_int_equal(p.closed, 1);
	assert_int_equal(read(fd, text, 8), 3);
	loop_run_turn(loop, 0); /* io_uring lets go of the socket when it waits again */
	assert_int_equal(read(fd, text, 8), 0);
	close(fd);
	probe_end(&p);
}

static void finishing_has_an_end(void **state UNUSED)
{
	struct probe p;
	int fd = open_probe(loop, &p);
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

	socket_set_options(a.listener.fd, 60 * USEC_PER_SEC, 0); /* whom it accepts has the same */
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
	assert_int_equal(getsockopt(server.conn.fd, SOL_SOCKET, SO_KEEPALIVE, &value, &len), 0);
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
	loop_run_turn(loop, 1000); /* one at first: most often there is no other */
	loop_run_turn(loop, 1000); /* they come turn after turn: all of them */
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
	uint64_t waits, events;

	assert_int_equal(loop_listen(loop, &a.listener), 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = (rlim_t)client; /* all below are taken */
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	loop_run_turn(loop, 1000);
	assert_int_equal(a.count, 0);
	assert_true(timer_is_set(&a.listener.retry));
	waits = loop_counters(loop)->waits;
	events = loop_counters(loop)->events;
	loop_run_turn(loop, 10000);
	assert_int_equal(loop_counters(loop)->waits, waits + 1);
	assert_int_equal(loop_counters(loop)->events, events);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	clock_advance(200 * USEC_PER_MSEC);
	run_until(loop, a.count == 1);
	loop_unlisten(&a.listener);
	close(a.listener.fd);
	close(a.fds[0]);
	close(client);
}

/* ---- spinning ---- */

static void asks_again_before_it_sleeps(void **state UNUSED)
{
	const struct loop_counters *c = loop_counters(loop);
	struct probe p;
	int fd = open_probe(loop, &p);

	loop_run_turn(loop, 0);
	atomic_store(&loop->spin, 2 * USEC_PER_MSEC);
	atomic_store(&loop->soon, 10 * USEC_PER_SEC);
	loop_run_turn(loop, 3 * USEC_PER_MSEC);
	assert_true(c->spins >= 1 && c->spun_us >= 2 * USEC_PER_MSEC);
	assert_int_equal(c->waits - c->spins, 2); /* then it slept */
	assert_int_equal(c->soon, 1);
	loop_run_turn(loop, USEC_PER_MSEC); /* no longer than it shall wait */
	assert_int_equal(c->waits - c->spins, 3);
	assert_int_equal(write(fd, "x", 1), 1);
	atomic_store(&loop->spin, 5 * USEC_PER_SEC);
	run_until(loop, p.got.len == 1);
	close(fd);
	run_until(loop, p.closed);
	probe_end(&p);
}

/* ---- memory ---- */

static void spare_memory_is_given_back(void **state UNUSED)
{
	struct probe p;
	int fd = open_probe(loop, &p);

	p.unit = 10;
	put(fd, "abc");
	run_until(loop, p.calls == 1);
	put(fd, "defghij");
	run_until(loop, p.got.len == 10);
	conn_send(&p.conn, "x", 1);
	settle(loop);
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

static void auto_is_one_of_them(void **state UNUSED)
{
	struct loop *another;

	assert_string_equal(loop_backend(loop), backend);
	assert_int_equal(loop_new("auto", NULL, &another), 0);
	assert_true(strcmp(loop_backend(another), "epoll") == 0 || strcmp(loop_backend(another), "io_uring") == 0);
	loop_free(another);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
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
		TEST(asks_again_before_it_sleeps),
		TEST(spare_memory_is_given_back),
		TEST(turn_memory_of_any_size),
		TEST(auto_is_one_of_them),
	};

	choose_backend(argc, argv);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
