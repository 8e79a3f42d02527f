/*
 * A connection's life. Its states are drawn by what may follow:
 *
 *   CLOSED -> CONNECTING -> OPEN <-> HANDSHAKING      conn_open() goes to OPEN at once
 *   OPEN (or one before it) -> FINISHING -> LINGERING -> CLOSED      and any -> CLOSED
 *
 * A callback may close, detach or finish any connection, its own too. Nobody touches a
 * conn after a callback without having looked whether it still is what it was.
 */
#include "loop/loop_priv.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define KEEP_MAX_DEFAULT  (1u << 20)
#define THROW_AWAY_ROUNDS 16

void conn_set_dirty(struct conn *conn)
{
	if (list_is_empty(&conn->dirty))
		list_push_back(&conn->loop->dirty, &conn->dirty);
}

/* flags: CONN_IN or CONN_OUT; or CONN_NEW, then it cannot fail. */
static int join_loop(struct conn *conn, struct loop *loop, enum conn_state state, uint16_t flags)
{
	struct loop *before = conn->loop;
	int r;

	conn->loop = loop;
	conn->state = (uint8_t)state;
	conn->flags = flags | (loop->is_frozen && !conn->never_frozen ? CONN_FROZEN : 0);
	conn->error = 0;
	r = flags & CONN_NEW ? 0 : loop->poll->add(conn);
	if (r < 0) {
		conn->loop = before;
		conn->state = CONN_CLOSED;
		conn->flags = 0;
		return r;
	}
	list_push_back(&loop->conns, &conn->all);
	count(&loop->counters.open, 1);
	return 0;
}

static void leave_loop(struct conn *conn)
{
	list_remove(&conn->all);
	count(&conn->loop->counters.open, (uint64_t)-1);
}

void conn_set_resumed(struct conn *conn)
{
	if (list_is_empty(&conn->resumed))
		list_push_back(&conn->loop->resumed, &conn->resumed);
}

int conn_socket_error(const struct conn *conn)
{
	int error = 0;
	socklen_t len = sizeof(error);

	return getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0 ? -errno : -error;
}

static bool has_unread_bytes(const struct conn *conn)
{
	int waiting = 0;

	return ioctl(conn->fd, FIONREAD, &waiting) == 0 && waiting > 0;
}

/* ---- what is asked of the kernel ---- */

static bool wants_write(const struct conn *conn)
{
	if (conn->state == CONN_CONNECTING || conn_tls_wants_write(conn))
		return true;
	return conn->out && conn->state != CONN_HANDSHAKING;
}

int poll_update(struct conn *conn)
{
	uint16_t want = 0;
	int r;

	if (conn->state != CONN_CONNECTING && !(conn->flags & CONN_HOLD))
		want |= CONN_IN;
	if (wants_write(conn))
		want |= CONN_OUT;
	if (conn->flags & CONN_NEW) {
		/* Wherever it stands after its first bytes, from now on it is listened to. */
		conn->flags = (uint16_t)((conn->flags & ~(CONN_IN | CONN_OUT | CONN_NEW)) | want);
		r = conn->loop->poll->add(conn);
		if (r < 0)
			conn->flags |= CONN_NEW;
		return r;
	}
	if (conn->flags & CONN_OFF) {
		/* Hung up: only a reader can do something about it; writing would fail at once. */
		if (!(want & CONN_IN))
			return 0;
	} else if (want == (conn->flags & (CONN_IN | CONN_OUT))) {
		return 0;
	}
	r = conn->loop->poll->change(conn, want);
	if (r == 0)
		conn->flags = (uint16_t)((conn->flags & ~(CONN_IN | CONN_OUT | CONN_OFF)) | want);
	return r;
}

int poll_stop(struct conn *conn)
{
	return conn->flags & CONN_RECEIVING ? conn->loop->poll->stop(conn) : 0;
}

/* ---- opening ---- */

void conn_init(struct conn *conn, const struct conn_ops *ops)
{
	*conn = (struct conn){.ops = ops, .fd = -1, .keep_max = KEEP_MAX_DEFAULT};
	list_init(&conn->dirty);
	list_init(&conn->resumed);
	list_init(&conn->all);
}

static int start(struct conn *conn, struct loop *loop, int fd, enum conn_state state, uint16_t flags)
{
	int r;

	assert(conn->fd < 0);
	conn->tls = NULL;
	conn->fd = fd;
	r = join_loop(conn, loop, state, flags);
	if (r < 0)
		conn->fd = -1;
	return r;
}

int conn_open(struct conn *conn, struct loop *loop, int fd)
{
	return start(conn, loop, fd, CONN_OPEN, CONN_IN);
}

/* The kernel is asked behind that: without those bytes, which would only have to be found gone again. */
void conn_open_with_bytes(struct conn *conn, struct loop *loop, int fd)
{
	(void)!start(conn, loop, fd, CONN_OPEN, CONN_NEW | CONN_HOLD);
	conn_set_resumed(conn);
}

int conn_connect(struct conn *conn, struct loop *loop, const struct sockaddr *address, socklen_t len)
{
	int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int one = 1, r;

	if (fd < 0)
		return -errno;
	if (address->sa_family != AF_UNIX)
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	r = connect(fd, address, len) < 0 && errno != EINPROGRESS && errno != EINTR ? -errno : 0;
	if (r == 0)
		r = start(conn, loop, fd, CONN_CONNECTING, CONN_OUT);
	if (r < 0)
		close(fd);
	return r;
}

static void connected(struct conn *conn)
{
	int r = conn_socket_error(conn);

	if (r < 0) {
		conn_fail(conn, r);
		return;
	}
	conn->state = CONN_OPEN;
	conn->flags |= CONN_WRITABLE;
	conn_set_dirty(conn); /* what was queued meanwhile, and EPOLLIN in place of EPOLLOUT */
	conn->ops->ready(conn);
}

/* ---- closing ---- */

static void close_socket(struct conn *conn)
{
	struct loop *loop = conn->loop;

	if (loop) { /* NULL: detached, and then there is nothing but the socket */
		if (loop->showing == conn)
			loop->showing = NULL;
		conn_drop_output(conn);
		if (conn->state >= CONN_FINISHING) {
			if (conn->finish)
				timer_cancel(&conn->finish->timer);
			free(conn->finish);
			conn->finish = NULL;
		} else {
			conn_forget_kept(conn);
		}
		if (!(conn->flags & CONN_NEW))
			loop->poll->remove(conn);
		leave_loop(conn);
	}
	list_remove(&conn->dirty);
	list_remove(&conn->resumed);
	close(conn->fd);
	conn->fd = -1;
	conn->state = CONN_CLOSED;
	conn->flags = 0;
}

void conn_close(struct conn *conn)
{
	if (!conn_is_open(conn))
		return;
	conn_tls_shutdown(conn);
	close_socket(conn);
	conn_tls_free(conn->tls);
	conn->tls = NULL;
}

void conn_fail(struct conn *conn, int error)
{
	struct conn_tls *tls = conn->tls;

	if (error == 0)
		conn_tls_shutdown(conn);
	close_socket(conn);
	conn->ops->closed(conn, error); /* may ask conn_tls_error(), may open it anew */
	if (conn->tls == tls)
		conn->tls = NULL;
	conn_tls_free(tls);
}

static void finish_expired(struct timer *timer)
{
	conn_fail(container_of(timer, struct conn_finish, timer)->conn, 0);
}

void conn_finish(struct conn *conn, usec_t linger)
{
	struct loop *loop = conn->loop;
	struct conn_finish *finish;

	if (conn->state == CONN_CLOSED || conn->state >= CONN_FINISHING)
		return;
	if (loop->showing == conn)
		loop->showing = NULL;
	if (conn->state != CONN_OPEN)
		conn_drop_output(conn);
	conn_forget_kept(conn);
	finish = malloc(sizeof(*finish));
	if (finish) {
		finish->conn = conn;
		timer_init(&finish->timer, finish_expired);
		finish->timer.always = true;
		timer_set(loop->timers, &finish->timer, clock_now() + linger);
	} else {
		conn->flags |= CONN_NO_MEMORY;
	}
	conn->finish = finish;
	conn->state = CONN_FINISHING;
	list_remove(&conn->resumed);
	conn_set_dirty(conn);
}

static void throw_away(struct conn *conn)
{
	uint8_t bytes[16 << 10];

	for (int i = 0; i < THROW_AWAY_ROUNDS; i++) {
		ssize_t n = recv(conn->fd, bytes, sizeof(bytes), 0);

		if (n == (ssize_t)sizeof(bytes))
			continue;
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			conn_fail(conn, 0);
		return;
	}
}

void conn_finish_written(struct conn *conn)
{
	conn_tls_shutdown(conn);
	if (!has_unread_bytes(conn)) {
		conn_fail(conn, 0);
		return;
	}
	shutdown(conn->fd, SHUT_WR);
	conn->state = CONN_LINGERING;
	conn->flags &= (uint16_t)~CONN_HOLD;
	if (poll_update(conn) < 0)
		conn_fail(conn, 0);
	else
		throw_away(conn);
}

/* ---- events ---- */

bool conn_keeps_last_bytes(struct conn *conn, int error)
{
	if (!conn->ops->left || conn->ops->left(conn, /* altogether= */ true))
		return true;
	if (conn->state == CONN_OPEN)
		conn_fail(conn, error);
	return false;
}

/* The peer sends no more, though not all it sent was read. It is told of once. */
static void end_is_seen(struct conn *conn)
{
	bool is_paused = conn->flags & CONN_PAUSED; /* else it is frozen, and hears of it when it is read again */
	int r;

	if (is_paused)
		conn->flags |= CONN_LEFT;
	r = conn->loop->poll->change(conn, conn->flags & (CONN_IN | CONN_OUT));
	if (r < 0)
		conn_fail(conn, r);
	else if (is_paused && conn->ops->left)
		(void)!conn->ops->left(conn, /* altogether= */ false);
}

/*
 * Something came for a paused conn, or a frozen one. A hang-up is reported whether one asks for it or not,
 * so when there still are bytes to be read nothing is asked for until it is resumed. Who is only frozen is told nothing
 * before that.
 */
static void hold(struct conn *conn, uint32_t events)
{
	int r = 0;

	if (!(events & (EPOLLHUP | EPOLLERR))) {
		conn->flags |= CONN_HOLD;
		r = poll_update(conn);
	} else if (conn_is_only_frozen(conn) || conn->kept_len > 0 || has_unread_bytes(conn) ||
		   conn_tls_has_bytes(conn)) {
		if (!conn_is_only_frozen(conn) && !conn_keeps_last_bytes(conn, conn_socket_error(conn)))
			return;
		conn->loop->poll->leave(conn);
		conn->flags |= CONN_HOLD | CONN_OFF;
	} else {
		conn_fail(conn, conn_socket_error(conn));
		return;
	}
	if (r < 0)
		conn_fail(conn, r);
}

/* Its end was heard; now it is gone altogether. */
static void event_after_end(struct conn *conn, uint32_t events)
{
	if (events & (EPOLLHUP | EPOLLERR))
		conn_fail(conn, conn_socket_error(conn));
}

static void event_while_finishing(struct conn *conn, uint32_t events)
{
	if (events & (EPOLLHUP | EPOLLERR)) {
		conn_fail(conn, conn_socket_error(conn));
		return;
	}
	conn->flags |= CONN_HOLD;
	if (poll_update(conn) < 0)
		conn_fail(conn, 0);
}

void conn_ready_first(struct conn *conn)
{
	conn->flags &= (uint16_t)~CONN_READY_FIRST;
	conn->ops->ready(conn); /* there will be another event for the bytes */
}

void conn_event(struct conn *conn, uint32_t events)
{
	if (events & EPOLLOUT) {
		conn->flags |= CONN_WRITABLE;
		conn_set_dirty(conn);
	}
	switch ((enum conn_state)conn->state) {
	case CONN_CONNECTING:
		connected(conn);
		return;
	case CONN_HANDSHAKING:
		if (unlikely(conn->flags & CONN_FROZEN) && !(events & (EPOLLOUT | EPOLLHUP | EPOLLERR)))
			hold(conn, events);
		else
			conn_tls_handshake_due(conn);
		return;
	case CONN_OPEN:
	case CONN_FINISHING:
	case CONN_LINGERING:
		break;
	case CONN_CLOSED:
		return;
	}
	if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR))) {
		if (unlikely(events & EPOLLRDHUP) && !(conn->flags & CONN_LEFT))
			end_is_seen(conn);
		return;
	}
	if (conn->state == CONN_FINISHING)
		event_while_finishing(conn, events);
	else if (conn->state == CONN_LINGERING)
		throw_away(conn);
	else if (unlikely(conn->flags & CONN_ENDED))
		event_after_end(conn, events);
	else if (conn->flags & (CONN_PAUSED | CONN_FROZEN))
		hold(conn, events);
	else if (unlikely(conn->flags & CONN_READY_FIRST))
		conn_ready_first(conn);
	else
		conn_receive(conn, events);
}

/* ---- reading on demand ---- */

void conn_pause(struct conn *conn)
{
	conn->flags |= CONN_PAUSED;
}

void conn_resume(struct conn *conn)
{
	conn->flags &= (uint16_t)~CONN_PAUSED;
	if (conn->state != CONN_OPEN)
		return;
	if (conn->kept_len > 0 || (conn->flags & CONN_HOLD) || conn->loop->showing == conn || conn_tls_has_bytes(conn))
		conn_set_resumed(conn);
}

bool conn_is_resumed(const struct conn *conn)
{
	return !list_is_empty(&conn->resumed);
}

void conn_end_input(struct conn *conn)
{
	if (conn->state != CONN_OPEN)
		return;
	conn->flags |= CONN_ENDED | CONN_HOLD;
	conn_set_resumed(conn);
}

bool conn_is_paused(const struct conn *conn)
{
	return conn->flags & CONN_PAUSED;
}

int conn_peek(struct conn *conn, void *bytes, size_t len)
{
	ssize_t n;

	if (conn->state != CONN_OPEN || conn->tls)
		return -EINVAL;
	do {
		n = recv(conn->fd, bytes, len, MSG_PEEK);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : (int)n;
}

void conn_ready_before_first_receive(struct conn *conn)
{
	conn->flags |= CONN_READY_FIRST;
}

/* ---- from thread to thread ---- */

int conn_detach(struct conn *conn)
{
	struct loop *loop = conn->loop;
	bool showing = loop && loop->showing == conn;

	if (conn->state != CONN_OPEN || conn->queued > 0 || (conn->kept_len > 0 && !showing) ||
	    conn_tls_has_bytes(conn) || (conn->flags & CONN_TLS_BEGUN) || conn->error || poll_stop(conn) < 0)
		return -EBUSY;
	if (showing)
		loop->showing = NULL;
	conn_forget_kept(conn);
	conn_drop_output(conn);
	list_remove(&conn->dirty);
	list_remove(&conn->resumed);
	if (!(conn->flags & CONN_NEW))
		loop->poll->remove(conn);
	leave_loop(conn);
	conn->loop = NULL;
	conn->state = CONN_CLOSED;
	conn->flags = 0;
	return 0;
}

int conn_attach(struct conn *conn, struct loop *loop)
{
	assert(conn->fd >= 0 && !conn->loop);
	return join_loop(conn, loop, CONN_OPEN, CONN_IN);
}
