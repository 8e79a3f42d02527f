/*
 * From conn_send() to the socket. Within a turn output is gathered in iov, an array in
 * turn memory whose elements point to wherever the bytes lie. The flush hands it to the
 * kernel in one call; what isn't taken is copied into `out`, and from then on, until it
 * is gone, EPOLLOUT is asked for and new output goes behind it.
 *
 * queued is always the bytes in out and iov.
 */
#include "loop/loop_priv.h"

#include <limits.h>

#define IOV_FIRST  8
#define IOV_LIMIT  32768 /* more go to out, by copy */
#define OUT_PIECES 64

/* ---- gathering ---- */

static bool grow_iov(struct conn *conn)
{
	uint16_t cap = conn->iov_cap ? conn->iov_cap * 2 : IOV_FIRST;
	struct iovec *iov;

	if (conn->iov_cap >= IOV_LIMIT)
		return conn_keep_output(conn) == 0 && grow_iov(conn);
	iov = loop_turn_alloc(conn->loop, cap * sizeof(*iov));
	if (!iov)
		return false;
	if (conn->iov_count > 0)
		memcpy(iov, conn->iov, conn->iov_count * sizeof(*iov));
	conn->iov = iov;
	conn->iov_cap = cap;
	return true;
}

static void queue(struct conn *conn, const void *bytes, size_t len)
{
	struct iovec *last = conn->iov_count > 0 ? &conn->iov[conn->iov_count - 1] : NULL;

	if (last && (const uint8_t *)last->iov_base + last->iov_len == (const uint8_t *)bytes) {
		last->iov_len += len;
	} else {
		if (conn->iov_count == conn->iov_cap && !grow_iov(conn)) {
			conn->flags |= CONN_NO_MEMORY;
			conn_set_dirty(conn);
			return;
		}
		conn->iov[conn->iov_count++] = (struct iovec){.iov_base = (void *)(uintptr_t)bytes, .iov_len = len};
	}
	conn->queued += len;
	if (conn->queued > CONN_HIGH_WATER)
		conn->flags |= CONN_ABOVE_HIGH;
	conn_set_dirty(conn);
}

static bool takes_output(const struct conn *conn)
{
	return conn->state >= CONN_CONNECTING && conn->state <= CONN_OPEN;
}

void conn_send_ref(struct conn *conn, const void *bytes, size_t len)
{
	if (len > 0 && takes_output(conn))
		queue(conn, bytes, len);
}

void conn_send(struct conn *conn, const void *bytes, size_t len)
{
	const uint8_t *copy;

	if (len == 0 || !takes_output(conn))
		return;
	/* The array first, so that it doesn't come to lie between two copies, which then can be joined. */
	copy = conn->iov || grow_iov(conn) ? turn_copy(conn->loop, bytes, len) : NULL;
	if (!copy) {
		conn->flags |= CONN_NO_MEMORY;
		conn_set_dirty(conn);
		return;
	}
	queue(conn, copy, len);
}

/* ---- what the kernel didn't take ---- */

static int add_to_out(struct conn *conn, const uint8_t *bytes, size_t len, size_t expected)
{
	while (len > 0) {
		struct conn_out *last = conn->out;
		size_t part;

		if (!last || last->end == last->size) {
			struct conn_out *fresh = out_new(conn->loop, MAX(len, expected));

			if (!fresh)
				return -ENOMEM;
			fresh->next = last ? last->next : fresh;
			if (last)
				last->next = fresh;
			conn->out = last = fresh;
		}
		part = MIN(len, last->size - last->end);
		memcpy(last->bytes + last->end, bytes, part);
		last->end += (uint32_t)part;
		bytes += part;
		len -= part;
	}
	return 0;
}

static void forget_iov(struct conn *conn)
{
	conn->iov = NULL;
	conn->iov_count = conn->iov_cap = 0;
}

int conn_keep_output(struct conn *conn)
{
	size_t left = 0;

	for (uint32_t i = 0; i < conn->iov_count; i++)
		left += conn->iov[i].iov_len;
	for (uint32_t i = 0; i < conn->iov_count; i++) {
		if (add_to_out(conn, conn->iov[i].iov_base, conn->iov[i].iov_len, left) < 0)
			return -ENOMEM;
		left -= conn->iov[i].iov_len;
	}
	forget_iov(conn);
	return 0;
}

static void drop_first_out(struct conn *conn)
{
	struct conn_out *first = conn->out->next;

	if (first == conn->out)
		conn->out = NULL;
	else
		conn->out->next = first->next;
	out_free(conn->loop, first);
}

void conn_drop_output(struct conn *conn)
{
	while (conn->out)
		drop_first_out(conn);
	forget_iov(conn);
	conn->queued = 0;
}

void conn_output_advance(struct conn *conn, size_t len)
{
	conn->queued -= len;
	while (len > 0 && conn->out) {
		struct conn_out *first = conn->out->next;
		size_t part = MIN(len, first->end - first->start);

		first->start += (uint32_t)part;
		len -= part;
		if (first->start == first->end)
			drop_first_out(conn);
	}
	while (len > 0) {
		size_t part = MIN(len, conn->iov->iov_len);

		conn->iov->iov_base = (uint8_t *)conn->iov->iov_base + part;
		conn->iov->iov_len -= part;
		len -= part;
		if (conn->iov->iov_len == 0) {
			conn->iov++;
			conn->iov_count--;
			conn->iov_cap--;
		}
	}
}

/* ---- writing ---- */

/* Hands the kernel what it may take in one call. 1: all of that was taken; 0: the socket is full; or -errno. */
static int write_once(struct conn *conn, struct iovec *iov, size_t iov_count)
{
	struct msghdr message = {.msg_iov = iov, .msg_iovlen = MIN(iov_count, IOV_MAX)};
	size_t asked = 0;
	ssize_t n;

	for (size_t i = 0; i < message.msg_iovlen; i++)
		asked += iov[i].iov_len;
	do {
		count(&conn->loop->counters.sends, 1);
		n = iov_count == 1 ? send(conn->fd, iov->iov_base, iov->iov_len, MSG_NOSIGNAL)
				   : sendmsg(conn->fd, &message, MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? 0 : -errno;
	count(&conn->loop->counters.bytes_out, (size_t)n);
	conn_output_advance(conn, (size_t)n);
	return (size_t)n == asked;
}

static int write_out(struct conn *conn)
{
	struct iovec pieces[OUT_PIECES];
	struct conn_out *chunk = conn->out;
	size_t n = 0;

	do {
		chunk = chunk->next;
		pieces[n++] = (struct iovec){chunk->bytes + chunk->start, chunk->end - chunk->start};
	} while (chunk != conn->out && n < OUT_PIECES);
	return write_once(conn, pieces, n);
}

int conn_write_plain(struct conn *conn)
{
	int r = 1;

	if (conn_is_full(conn))
		return conn_keep_output(conn);
	conn->flags &= (uint16_t)~CONN_WRITABLE;
	while (r > 0 && conn->out)
		r = write_out(conn);
	while (r > 0 && conn->iov_count > 0)
		r = write_once(conn, conn->iov, conn->iov_count);
	return r < 0 ? r : conn_keep_output(conn);
}

/* ---- the flush ---- */

bool conn_may_send_later(const struct conn *conn)
{
	return conn->state == CONN_OPEN && !conn->tls && !conn->out && conn->iov_count > 0 &&
	       conn->iov_count <= IOV_MAX &&
	       !(conn->flags &
		 (CONN_OUT | CONN_ABOVE_HIGH | CONN_ENDED | CONN_NO_MEMORY | CONN_SEND_FAILED | CONN_NEW));
}

void conn_sent(struct conn *conn)
{
	count(&conn->loop->counters.bytes_out, conn->queued);
	conn->queued = 0;
	forget_iov(conn);
}

int conn_sent_part(struct conn *conn, size_t len)
{
	count(&conn->loop->counters.bytes_out, len);
	conn_output_advance(conn, len);
	return conn_keep_output(conn);
}

static int write_queued(struct conn *conn)
{
	if (unlikely(conn->flags & CONN_SEND_FAILED)) {
		int r = -conn->error;

		conn->flags &= (uint16_t)~CONN_SEND_FAILED;
		conn->error = 0;
		return r;
	}
	if (conn->state == CONN_CONNECTING || conn->state == CONN_HANDSHAKING)
		return conn_keep_output(conn);
	return conn->tls ? conn_tls_write(conn) : conn_write_plain(conn);
}

void conn_flush(struct conn *conn)
{
	int r;

	if (conn->flags & CONN_NO_MEMORY) {
		conn_fail(conn, -ENOMEM);
		return;
	}
	r = write_queued(conn);
	if (r == -EPIPE || r == -ECONNRESET) {
		conn_receive_last(conn, r);
		return;
	}
	if (r == 0 && conn->state == CONN_FINISHING && conn->queued == 0) {
		conn_finish_written(conn);
		return;
	}
	if (r == 0)
		r = poll_update(conn);
	if (r < 0) {
		conn_fail(conn, r);
		return;
	}
	if (unlikely(conn->flags & CONN_ENDED) && conn->queued == 0 && list_is_empty(&conn->resumed))
		list_push_back(&conn->loop->resumed, &conn->resumed); /* its owner may have waited for this to close */
	if ((conn->flags & CONN_ABOVE_HIGH) && conn->queued < CONN_LOW_WATER) {
		conn->flags &= (uint16_t)~CONN_ABOVE_HIGH;
		if (conn->ops->drained)
			conn->ops->drained(conn);
	}
}
