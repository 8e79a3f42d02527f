/*
 * What the loop asks of the kernel. Level-triggered; a connection is registered for
 * reading once, and changes only when there is a reason: output the socket didn't take,
 * or bytes that came while their reader was paused.
 */
#include "loop/loop_priv.h"

#include <limits.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define TARGET_MASK 3u

int poll_open(struct loop *loop)
{
	int r;

	loop->wake_fd = -1;
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0)
		return -errno;
	loop->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	r = loop->wake_fd < 0 ? -errno : poll_add(loop, loop->wake_fd, NULL, POLL_WAKE, EPOLLIN);
	if (r < 0)
		poll_close(loop);
	return r;
}

void poll_close(struct loop *loop)
{
	if (loop->wake_fd >= 0)
		close(loop->wake_fd);
	if (loop->epoll_fd >= 0)
		close(loop->epoll_fd);
	loop->wake_fd = loop->epoll_fd = -1;
}

/* Rounded up: waking early for a timer would only mean waiting again. */
static int to_ms(usec_t wait)
{
	if (wait > (usec_t)(INT_MAX - 1) * 1000)
		return -1;
	return (int)((wait + 999) / 1000);
}

void poll_wait(struct loop *loop, usec_t wait)
{
	int n = epoll_wait(loop->epoll_fd, loop->events, EVENTS_AT_ONCE, to_ms(wait));

	loop->event_at = 0;
	loop->event_count = MAX(n, 0);
	count(&loop->counters.waits, 1);
}

static struct epoll_event make_event(void *object, enum poll_target target, uint32_t events)
{
	return (struct epoll_event){.events = events, .data.u64 = (uint64_t)(uintptr_t)object | target};
}

int poll_add(struct loop *loop, int fd, void *object, enum poll_target target, uint32_t events)
{
	struct epoll_event event = make_event(object, target, events);

	return epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

int poll_change(struct loop *loop, int fd, void *object, uint32_t events)
{
	struct epoll_event event = make_event(object, POLL_CONN, events);

	return epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, fd, &event) < 0 ? -errno : 0;
}

static void forget_events(struct loop *loop, void *object)
{
	for (int i = loop->event_at; i < loop->event_count; i++) {
		if ((loop->events[i].data.u64 & ~(uint64_t)TARGET_MASK) == (uint64_t)(uintptr_t)object)
			loop->events[i].data.u64 = 0;
	}
}

void poll_remove(struct loop *loop, int fd, void *object)
{
	epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	forget_events(loop, object);
}

static bool wants_write(const struct conn *conn)
{
	if (conn->state == CONN_CONNECTING || conn_tls_wants_write(conn))
		return true;
	return conn->out && conn->state != CONN_HANDSHAKING;
}

int poll_update(struct conn *conn)
{
	uint16_t want = 0;
	uint32_t events;
	int r;

	if (conn->state != CONN_CONNECTING && !(conn->flags & CONN_HOLD))
		want |= CONN_IN;
	if (wants_write(conn))
		want |= CONN_OUT;
	if (conn->flags & CONN_NEW) {
		/* wherever it stands after its first bytes, from now on it is listened to */
	} else if (conn->flags & CONN_OFF) {
		/* Hung up: only a reader can do something about it; writing would fail at once. */
		if (!(want & CONN_IN))
			return 0;
	} else if (want == (conn->flags & (CONN_IN | CONN_OUT))) {
		return 0;
	}
	events = (want & CONN_IN ? EPOLLIN : 0u) | (want & CONN_OUT ? EPOLLOUT : 0u);
	if (conn->flags & (CONN_OFF | CONN_NEW))
		r = poll_add(conn->loop, conn->fd, conn, POLL_CONN, events);
	else
		r = poll_change(conn->loop, conn->fd, conn, events);
	if (r == 0)
		conn->flags = (uint16_t)((conn->flags & ~(CONN_IN | CONN_OUT | CONN_OFF | CONN_NEW)) | want);
	return r;
}
