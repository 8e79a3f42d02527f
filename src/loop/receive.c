/*
 * From the socket to ops->received(): one recv() for each readable event, into turn
 * memory; or, with io_uring, bytes that the kernel has put into a buffer by itself
 * (conn_arrived). What the owner leaves is kept in a buffer of the conn's own.
 *
 * Few kept bytes are copied in front of the place where the next ones are received.
 * More than SMALL_KEPT stay where they are and the next are received behind them, so a
 * message that comes in many small pieces isn't copied again for each of them.
 * Kept bytes never move within their buffer: spans of what was consumed before may still
 * be queued somewhere. A buffer that is done with lives until the flush is over.
 */
#include "loop/loop_priv.h"

#define LAST_ROUNDS 16

void conn_forget_kept(struct conn *conn)
{
	if (conn->kept)
		kept_retire(conn->loop, conn->kept);
	conn->kept = NULL;
	conn->kept_at = conn->kept_len = 0;
}

struct slice conn_kept(const struct conn *conn)
{
	return conn->kept_len > 0 ? slice_make(conn->kept->bytes + conn->kept_at, conn->kept_len) : slice_make(NULL, 0);
}

void conn_consume(struct conn *conn, size_t len)
{
	if (conn->state != CONN_OPEN)
		return;
	assert(len <= conn->kept_len && conn->loop->showing != conn);
	conn->kept_at += (uint32_t)len;
	conn->kept_len -= (uint32_t)len;
	if (conn->kept_len == 0)
		conn_forget_kept(conn);
}

bool conn_unread(struct conn *conn, const void *bytes, size_t len)
{
	struct conn_kept *both;
	size_t size = len + conn->kept_len;

	if (conn->state != CONN_OPEN)
		return false;
	assert(conn->loop->showing != conn);
	both = kept_new(conn->loop, size);
	if (!both)
		return false;
	memcpy(both->bytes, bytes, len);
	if (conn->kept_len > 0)
		memcpy(both->bytes + len, conn->kept->bytes + conn->kept_at, conn->kept_len);
	conn_forget_kept(conn);
	conn->kept = both;
	conn->kept_len = (uint32_t)size;
	return true;
}

static bool is_small(const struct conn *conn)
{
	return conn->kept_len <= SMALL_KEPT;
}

/* Makes room for so many behind the kept bytes; doubling keeps the copying linear. */
static bool grow_kept(struct conn *conn, size_t least)
{
	struct conn_kept *old = conn->kept, *grown;

	if (old->size - conn->kept_at - conn->kept_len >= least)
		return true;
	grown = kept_new(conn->loop, MAX((size_t)conn->kept_len * 2, conn->kept_len + (size_t)LOOP_RECEIVE_BYTES));
	if (!grown)
		return false;
	memcpy(grown->bytes, old->bytes + conn->kept_at, conn->kept_len);
	kept_retire(conn->loop, old);
	conn->kept = grown;
	conn->kept_at = 0;
	return true;
}

uint8_t *conn_receive_room(struct conn *conn, size_t *ret_len)
{
	uint8_t *room;
	size_t len;

	if (is_small(conn)) {
		room = turn_room(conn->loop, conn->kept_len, &len);
		if (!room)
			return NULL;
		if (conn->kept_len > 0)
			memcpy(room, conn->kept->bytes + conn->kept_at, conn->kept_len);
		room += conn->kept_len;
		len -= conn->kept_len;
	} else {
		if (!grow_kept(conn, TURN_RECEIVE_LEAST))
			return NULL;
		room = conn->kept->bytes + conn->kept_at + conn->kept_len;
		len = conn->kept->size - conn->kept_at - conn->kept_len;
	}
	*ret_len = MIN(len, LOOP_RECEIVE_BYTES);
	return room;
}

/* False: closed, detached or finished in the callback. */
static bool call_received(struct conn *conn, uint8_t *bytes, size_t len, size_t *ret_used)
{
	struct loop *loop = conn->loop;

	loop->showing = conn;
	*ret_used = conn->ops->received(conn, bytes, len);
	if (loop->showing != conn)
		return false;
	loop->showing = NULL;
	assert(*ret_used <= len);
	return true;
}

/* After received(): what it left is kept by now. */
static bool check_kept(struct conn *conn)
{
	if (unlikely(conn->flags & CONN_TLS_BEGUN)) {
		conn->flags &= (uint16_t)~CONN_TLS_BEGUN;
		if (conn->kept_len > 0) {
			/* They could be passed off as if they had come encrypted. */
			conn_tls_set_error(conn, "bytes were sent ahead of the TLS handshake");
			conn_fail(conn, -EPROTO);
			return false;
		}
	}
	if (unlikely(conn->kept_len >= conn->keep_max))
		conn_pause(conn);
	return true;
}

static bool show_kept(struct conn *conn)
{
	size_t used;

	if (!call_received(conn, conn->kept->bytes + conn->kept_at, conn->kept_len, &used))
		return false;
	conn->kept_at += (uint32_t)used;
	conn->kept_len -= (uint32_t)used;
	if (conn->kept_len == 0)
		conn_forget_kept(conn);
	return check_kept(conn);
}

static bool show_turn_memory(struct conn *conn, uint8_t *bytes, size_t len)
{
	size_t used;

	if (!call_received(conn, bytes, len, &used))
		return false;
	if (used < len) {
		conn->kept = kept_new(conn->loop, len - used);
		if (!conn->kept) {
			conn_fail(conn, -ENOMEM);
			return false;
		}
		memcpy(conn->kept->bytes, bytes + used, len - used);
		conn->kept_len = (uint32_t)(len - used);
	}
	return check_kept(conn);
}

bool conn_received(struct conn *conn, uint8_t *room, size_t len)
{
	count(&conn->loop->counters.bytes_in, len);
	if (is_small(conn)) {
		room -= conn->kept_len;
		len += conn->kept_len;
		turn_take(conn->loop, len);
		conn_forget_kept(conn);
		return show_turn_memory(conn, room, len);
	}
	conn->kept_len += (uint32_t)len;
	return show_kept(conn);
}

/* They came for a paused owner, or a frozen loop. */
static bool keep(struct conn *conn, const uint8_t *bytes, size_t len)
{
	if (!conn->kept) {
		conn->kept = kept_new(conn->loop, len);
		conn->kept_at = conn->kept_len = 0;
	}
	if (!conn->kept || !grow_kept(conn, len))
		return false;
	memcpy(conn->kept->bytes + conn->kept_at + conn->kept_len, bytes, len);
	conn->kept_len += (uint32_t)len;
	return true;
}

void conn_arrived(struct conn *conn, uint8_t *bytes, size_t len)
{
	int r;

	count(&conn->loop->counters.receives, 1);
	count(&conn->loop->counters.bytes_in, len);
	if (conn->state != CONN_OPEN || (conn->flags & CONN_ENDED))
		return; /* nobody wants them any more */
	if (conn->flags & (CONN_PAUSED | CONN_FROZEN)) {
		conn->flags |= CONN_HOLD;
		r = keep(conn, bytes, len) ? poll_update(conn) : -ENOMEM;
		if (r < 0)
			conn_fail(conn, r);
		return;
	}
	if (is_small(conn)) {
		if (conn->kept_len > 0)
			memcpy(bytes - conn->kept_len, conn->kept->bytes + conn->kept_at, conn->kept_len);
		bytes -= conn->kept_len;
		len += conn->kept_len;
		conn_forget_kept(conn);
		show_turn_memory(conn, bytes, len);
	} else if (!keep(conn, bytes, len)) {
		conn_fail(conn, -ENOMEM);
	} else {
		show_kept(conn);
	}
}

void conn_receive_failed(struct conn *conn, int error)
{
	bool is_frozen = conn_is_only_frozen(conn);

	if (!is_frozen && (conn->state != CONN_OPEN || !(conn->flags & CONN_PAUSED) || conn->kept_len == 0)) {
		conn_fail(conn, error);
		return;
	}
	if (!is_frozen && !conn_keeps_last_bytes(conn, error))
		return;
	conn->loop->poll->leave(conn);
	conn->error = (uint8_t)-error;
	conn->flags |= CONN_HOLD | CONN_OFF;
}

/* > 0: bytes were shown; 0: the peer closed; -EAGAIN: nothing there; -ECANCELED: the conn is not ours any more. */
static int receive_once(struct conn *conn)
{
	size_t len;
	uint8_t *room;
	ssize_t n;

	if (unlikely(conn->error) && !(conn->flags & CONN_SEND_FAILED))
		return -conn->error;
	room = conn_receive_room(conn, &len);
	if (!room)
		return -ENOMEM;
	count(&conn->loop->counters.receives, 1);
	do {
		n = recv(conn->fd, room, len, 0);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if (n > 0 && !conn_received(conn, room, (size_t)n))
		return -ECANCELED;
	return n > 0;
}

bool conn_hear_end(struct conn *conn)
{
	struct loop *loop = conn->loop;
	bool goes_on;
	int r;

	conn->flags |= CONN_ENDED | CONN_HOLD;
	loop->showing = conn;
	goes_on = conn->ops->ended && !(conn->flags & CONN_OFF) && /* off: it had hung up before */
		  conn->ops->ended(conn, conn->kept_len ? conn->kept->bytes + conn->kept_at : NULL, conn->kept_len);
	if (loop->showing != conn)
		return false;
	loop->showing = NULL;
	r = goes_on ? poll_update(conn) : 0;
	if (!goes_on || r < 0)
		conn_fail(conn, r);
	return goes_on && r == 0;
}

bool conn_receive(struct conn *conn, uint32_t events)
{
	int r;

	if (conn->flags & CONN_RECEIVING)
		return true; /* what is taken already comes first */
	if (conn->tls)
		return conn_tls_receive(conn);
	r = receive_once(conn);
	if (likely(r > 0))
		return true;
	if (r == -ECANCELED)
		return false;
	if (r == -EAGAIN && !(events & (EPOLLHUP | EPOLLERR)))
		return true;
	if (r == 0 && !(events & (EPOLLHUP | EPOLLERR)))
		return conn_hear_end(conn);
	/* Hung up or failed, though not readable: epoll would tell so for ever. */
	conn_fail(conn, r == -EAGAIN ? conn_socket_error(conn) : r);
	return false;
}

/*
 * When it was held, there are bytes in the socket too. EPOLLIN is asked for again only
 * if the owner isn't full after those: a slow reader behind it costs no epoll_ctl(). A new
 * one joins the epoll set here in any case, so that its leaving is heard of.
 */
void conn_show_again(struct conn *conn)
{
	int r;

	if (unlikely(conn->flags & CONN_READY_FIRST) && conn_may_read(conn))
		conn_ready_first(conn);
	if (conn_may_read(conn) && conn->kept_len > 0 && !show_kept(conn))
		return;
	if (unlikely(conn->flags & CONN_ENDED)) {
		if (conn_may_read(conn))
			conn_hear_end(conn);
		return;
	}
	if (conn_may_read(conn) && ((conn->flags & CONN_HOLD) || conn_tls_has_bytes(conn)) && !conn_receive(conn, 0))
		return;
	if (conn->flags & CONN_ENDED || !(conn_may_read(conn) || conn->flags & CONN_NEW))
		return;
	conn->flags &= (uint16_t)~CONN_HOLD;
	if (conn->flags & CONN_NEW && !list_is_empty(&conn->dirty))
		return; /* first the answer, then the epoll set: the flush sees to both */
	r = poll_update(conn);
	if (r < 0)
		conn_fail(conn, r);
}

void conn_receive_last(struct conn *conn, int error)
{
	conn_drop_output(conn);
	conn->flags &= (uint16_t)~CONN_FROZEN; /* it ends here: there is nothing to wait for */
	if (poll_stop(conn) < 0 && !conn->loop->poll->show(conn))
		return;
	if (unlikely(conn->loop->is_frozen) && conn_may_read(conn) && conn->kept_len > 0 && !show_kept(conn))
		return; /* that was kept unseen */
	for (int i = 0; i < LAST_ROUNDS && conn_may_read(conn) && !conn->tls && !(conn->flags & CONN_ENDED); i++) {
		int r = receive_once(conn);

		if (r == -ECANCELED)
			return;
		if (r <= 0)
			break;
	}
	conn_fail(conn, error);
}
