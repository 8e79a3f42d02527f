/*
 * For the tests of loop/: a conn that records what happens to it, and turns of a loop
 * until something is true (ten seconds at most, so that a broken loop fails and doesn't hang).
 */
#ifndef LOOP_LOOP_TEST_UTIL_H
#define LOOP_LOOP_TEST_UTIL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/buf.h"
#include "loop/loop_priv.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

struct probe {
	struct conn conn;
	struct buf got; /* all that was consumed */
	size_t shown;   /* len of the last received() */
	size_t unit;    /* consumes whole multiples of this only */
	int calls, ready, closed, drained, ended, error;
	bool goes_on;       /* behind its peer's end */
	size_t kept_at_end; /* shown by the last ended() */
	char tls_error[160];
	struct conn *to; /* forwards to this one by reference, pauses while it is full */
	void (*on_received)(struct probe *p);
	void (*on_ready)(struct probe *p);
	void (*on_closed)(struct probe *p);
	void (*on_drained)(struct probe *p);
	void *argument;
};

static inline struct probe *probe_of(struct conn *conn)
{
	return container_of(conn, struct probe, conn);
}

static size_t probe_received(struct conn *conn, uint8_t *bytes, size_t len)
{
	struct probe *p = probe_of(conn);
	size_t used = p->unit ? len - len % p->unit : len;

	assert_true(len > 0);
	p->calls++;
	p->shown = len;
	if (p->to) {
		conn_send_ref(p->to, bytes, used);
		if (conn_queued(p->to) > CONN_HIGH_WATER)
			conn_pause(conn);
	} else {
		buf_add(&p->got, bytes, used);
	}
	if (p->on_received)
		p->on_received(p);
	return used;
}

static void probe_closed(struct conn *conn, int error)
{
	struct probe *p = probe_of(conn);

	assert_false(conn_is_open(conn));
	p->closed++;
	p->error = error;
	snprintf(p->tls_error, sizeof(p->tls_error), "%s", conn_tls_error(conn));
	if (p->on_closed)
		p->on_closed(p);
}

static bool probe_ended(struct conn *conn, const uint8_t *bytes, size_t len)
{
	struct probe *p = probe_of(conn);

	assert_true(conn_is_open(conn) && !bytes == !len);
	p->ended++;
	p->kept_at_end = len;
	return p->goes_on;
}

static void probe_drained(struct conn *conn)
{
	struct probe *p = probe_of(conn);

	p->drained++;
	if (p->on_drained)
		p->on_drained(p);
}

static void probe_ready(struct conn *conn)
{
	struct probe *p = probe_of(conn);

	p->ready++;
	if (p->on_ready)
		p->on_ready(p);
}

static const struct conn_ops probe_ops = {.received = probe_received,
					  .closed = probe_closed,
					  .ended = probe_ended,
					  .drained = probe_drained,
					  .ready = probe_ready};

static inline void probe_init(struct probe *p)
{
	*p = (struct probe){.got = BUF_INIT(1 << 30)};
	conn_init(&p->conn, &probe_ops);
}

static inline void probe_end(struct probe *p)
{
	conn_close(&p->conn);
	buf_free(&p->got);
}

static inline bool probe_got(struct probe *p, const char *text)
{
	return p->got.len == strlen(text) && memcmp(p->got.bytes, text, p->got.len) == 0;
}

#define run_until(loop, condition) \
	do { \
		bool met_ = (condition); \
		for (int turns_ = 0; !met_ && turns_ < 20000; turns_++, met_ = (condition)) \
			loop_run_turn((loop), 500); \
		if (!met_) \
			fail_msg("never came true: %s", #condition); \
	} while (0)

/* So many turns that whatever was going to happen has happened. */
static inline void settle(struct loop *loop)
{
	for (int i = 0; i < 8; i++)
		loop_run_turn(loop, 0);
}

static const char *backend = "epoll";

/* Each test program is run for both; where the kernel has no io_uring, or forbids it, meson counts it as skipped. */
static inline void choose_backend(int argc, char **argv)
{
	struct loop *loop;
	int r;

	if (argc < 2)
		return;
	backend = argv[1];
	r = loop_new(backend, NULL, &loop);
	if (r < 0) {
		printf("skipped: %s: %s\n", backend, loop_refusal(r));
		exit(77);
	}
	loop_free(loop);
}

static inline struct loop *new_loop(void)
{
	struct loop *loop;

	assert_int_equal(loop_new(backend, NULL, &loop), 0);
	return loop;
}

static inline void socket_pair(int fds[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
}

/* p gets one end of a pair; the other is returned. */
static inline int open_probe(struct loop *loop, struct probe *p)
{
	int fds[2];

	socket_pair(fds);
	probe_init(p);
	assert_int_equal(conn_open(&p->conn, loop, fds[0]), 0);
	return fds[1];
}

static inline void put(int fd, const char *text)
{
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static inline size_t read_all(int fd, struct buf *into)
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

static inline uint8_t *pattern(size_t len)
{
	uint8_t *bytes = malloc(len);

	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)((i * 2654435761u) >> 13);
	return bytes;
}

#endif
