/* Many TLS handshakes at once take turns. */
#include "loop/tls_test_util.h"

#define CROWD 20

static bool is_open(struct probe *p)
{
	return p->ready > 0;
}

static uint32_t count_of(struct probe *probes, bool (*is)(struct probe *p))
{
	uint32_t n = 0;

	for (size_t i = 0; i < CROWD; i++)
		n += is(&probes[i]);
	return n;
}

static bool has_begun(struct probe *p)
{
	return p->conn.tls && p->conn.tls->begun;
}

/* Those that are served already get what came for them in each turn; the crowd is through one after the other. */
static void a_crowd_waits_in_line(void **state UNUSED)
{
	static struct probe clients[CROWD], servers[CROWD];
	uint32_t begun_at_first = 0, steps = 0;
	int fds[2], fd;

	make_contexts();
	fd = open_probe(loop, &client);
	for (size_t i = 0; i < CROWD; i++) {
		socket_pair(fds);
		probe_init(&clients[i]);
		probe_init(&servers[i]);
		assert_int_equal(conn_open(&clients[i].conn, loop, fds[0]), 0);
		assert_int_equal(conn_open(&servers[i].conn, loop, fds[1]), 0);
		assert_int_equal(conn_start_tls(&servers[i].conn, server_context, true, NULL, SLICE_LITERAL("")), 0);
		assert_int_equal(conn_start_tls(&clients[i].conn, client_context, false, NULL, SLICE_LITERAL("")), 0);
	}
	for (int turn = 0; count_of(servers, is_open) < CROWD && turn < 1000; turn++) {
		uint32_t before = steps;

		put(fd, "x");
		loop_run_turn(loop, 500);
		assert_int_equal(client.got.len, turn + 1);
		steps = count_of(servers, is_open) + count_of(clients, is_open) + count_of(servers, has_begun) +
			count_of(clients, has_begun);
		assert_true(steps - before <= 8); /* of four handshakes, each of which may begin and end in one step */
		if (begun_at_first == 0 && count_of(servers, is_open) > 0)
			begun_at_first = count_of(servers, has_begun);
	}
	assert_int_equal(count_of(servers, is_open), CROWD);
	assert_in_range(begun_at_first, 1, CROWD - 1);
	for (size_t i = 0; i < CROWD; i++) {
		probe_end(&clients[i]);
		probe_end(&servers[i]);
	}
	close(fd);
}

/* Nobody waits for who has left, or for what makes no sense. */
static void some_of_a_crowd_leave(void **state UNUSED)
{
	static struct probe servers[CROWD];
	int ends[CROWD], fds[2];

	make_contexts();
	for (size_t i = 0; i < CROWD; i++) {
		socket_pair(fds);
		ends[i] = fds[0];
		probe_init(&servers[i]);
		assert_int_equal(conn_open(&servers[i].conn, loop, fds[1]), 0);
		assert_int_equal(conn_start_tls(&servers[i].conn, server_context, true, NULL, SLICE_LITERAL("")), 0);
		put(ends[i], i % 2 ? "no handshake at all" : "\x16\x03\x01\x02");
		if (i % 5 == 0)
			close(ends[i]);
	}
	loop_run_turn(loop, 0);
	conn_close(&servers[1].conn); /* in line */
	conn_finish(&servers[3].conn, USEC_PER_SEC);
	settle(loop);
	for (size_t i = 2; i < CROWD; i++)
		assert_int_equal(servers[i].closed, i % 2 || i % 5 == 0);
	loop_close_all(loop);
	for (size_t i = 0; i < CROWD; i++) {
		probe_end(&servers[i]);
		if (i % 5)
			close(ends[i]);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(a_crowd_waits_in_line),
		TEST(some_of_a_crowd_leave),
	};

	choose_backend(argc, argv);
	return cmocka_run_group_tests(tests, make_certificates, remove_certificates);
}
