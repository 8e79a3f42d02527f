/*
 * The back end that runs everywhere. Level-triggered; a connection is registered for
 * reading once, and changes only when there is a reason: output the socket didn't take,
 * or bytes that came while their reader was paused.
 */
#include "loop/loop_priv.h"

#include <limits.h>
#include <unistd.h>

#define EVENTS_AT_ONCE 256

/* In the low bits of an event's pointer. */
enum target { TARGET_CONN, TARGET_LISTENER, TARGET_WAKE, TARGET_FOLLOWER, TARGET_MASK = 3 };

struct epoll {
	int fd, at, count;
	struct epoll_event events[EVENTS_AT_ONCE];
};

static int control(struct loop *loop, int op, int fd, void *object, enum target target, uint32_t events)
{
	struct epoll *epoll = loop->polling;
	struct epoll_event event = {.events = events, .data.u64 = (uint64_t)(uintptr_t)object | target};

	return epoll_ctl(epoll->fd, op, fd, &event) < 0 ? -errno : 0;
}

static void close_all(struct loop *loop)
{
	struct epoll *epoll = loop->polling;

	if (epoll->fd >= 0)
		close(epoll->fd);
	free(epoll);
}

static int open_all(struct loop *loop)
{
	struct epoll *epoll = malloc(sizeof(*epoll));
	int r;

	if (!epoll)
		return -ENOMEM;
	epoll->at = epoll->count = 0;
	epoll->fd = epoll_create1(EPOLL_CLOEXEC);
	loop->polling = epoll;
	r = epoll->fd < 0 ? -errno : control(loop, EPOLL_CTL_ADD, loop->wake_fd, NULL, TARGET_WAKE, EPOLLIN);
	if (r < 0)
		close_all(loop);
	return r;
}

/* Rounded up: waking early for a timer would only mean waiting again. */
static int to_ms(usec_t wait)
{
	if (wait > (usec_t)(INT_MAX - 1) * 1000)
		return -1;
	return (int)((wait + 999) / 1000);
}

static bool wait_for_events(struct loop *loop, usec_t wait)
{
	struct epoll *epoll = loop->polling;
	int n = epoll_wait(epoll->fd, epoll->events, EVENTS_AT_ONCE, to_ms(wait));

	epoll->at = 0;
	epoll->count = MAX(n, 0);
	count(&loop->counters.waits, 1);
	return n > 0;
}

static void follower_event(struct loop *follower)
{
	follower->may_be_ready = true;
}

static void wake_event(struct loop *loop)
{
	uint64_t drained;

	(void)!read(loop->wake_fd, &drained, sizeof(drained));
}

/* What it leads to may change those that are still to come: see forget_events(). */
static void dispatch(struct loop *loop)
{
	struct epoll *epoll = loop->polling;

	count(&loop->counters.events, (uint64_t)epoll->count);
	while (epoll->at < epoll->count) {
		const struct epoll_event event = epoll->events[epoll->at++];
		void *object = (void *)(uintptr_t)(event.data.u64 & ~(uint64_t)TARGET_MASK);

		switch (event.data.u64 & TARGET_MASK) {
		case TARGET_CONN:
			if (object) /* else it was closed meanwhile */
				conn_event(object, event.events);
			break;
		case TARGET_LISTENER:
			listener_event(object);
			break;
		case TARGET_WAKE:
			wake_event(loop);
			break;
		case TARGET_FOLLOWER:
			follower_event(object);
			break;
		}
		loop_flush_if_much(loop);
	}
	epoll->at = epoll->count = 0; /* a turn without a wait brings nothing */
}

static uint32_t events_of(const struct conn *conn, uint16_t want)
{
	return (want & CONN_IN ? EPOLLIN : 0u) | (want & CONN_OUT ? EPOLLOUT : 0u) |
	       (conn_watches_end(conn) ? EPOLLRDHUP : 0u);
}

static int add(struct conn *conn)
{
	return control(conn->loop, EPOLL_CTL_ADD, conn->fd, conn, TARGET_CONN, events_of(conn, conn->flags));
}

static int change(struct conn *conn, uint16_t want)
{
	int op = conn->flags & CONN_OFF ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;

	return control(conn->loop, op, conn->fd, conn, TARGET_CONN, events_of(conn, want));
}

static void forget_events(struct epoll *epoll, void *object)
{
	for (int i = epoll->at; i < epoll->count; i++) {
		if ((epoll->events[i].data.u64 & ~(uint64_t)TARGET_MASK) == (uint64_t)(uintptr_t)object)
			epoll->events[i].data.u64 = TARGET_CONN;
	}
}

static void leave(struct conn *conn)
{
	control(conn->loop, EPOLL_CTL_DEL, conn->fd, NULL, TARGET_CONN, 0);
	forget_events(conn->loop->polling, conn);
}

/* Closing alone would leave it in the set while a forked child, about to exec, has the socket, too. */
static void remove_conn(struct conn *conn)
{
	if (!(conn->flags & CONN_OFF))
		leave(conn);
}

static int listen_on(struct loop_listener *listener)
{
	return control(listener->loop, EPOLL_CTL_ADD, listener->fd, listener, TARGET_LISTENER,
		       EPOLLIN | EPOLLEXCLUSIVE);
}

static void unlisten(struct loop_listener *listener)
{
	control(listener->loop, EPOLL_CTL_DEL, listener->fd, NULL, TARGET_LISTENER, 0);
	forget_events(listener->loop->polling, listener);
}

/* A set that has something is readable itself. */
static int follow(struct loop *loop, struct loop *lead)
{
	struct epoll *epoll = loop->polling;

	return control(lead, EPOLL_CTL_ADD, epoll->fd, loop, TARGET_FOLLOWER, EPOLLIN);
}

static void unfollow(struct loop *loop, struct loop *lead)
{
	struct epoll *epoll = loop->polling;

	control(lead, EPOLL_CTL_DEL, epoll->fd, NULL, TARGET_FOLLOWER, 0);
}

const struct poll_ops epoll_ops = {
	.name = "epoll",
	.open = open_all,
	.close = close_all,
	.wait = wait_for_events,
	.dispatch = dispatch,
	.add = add,
	.change = change,
	.leave = leave,
	.remove = remove_conn,
	.listen = listen_on,
	.unlisten = unlisten,
	.follow = follow,
	.unfollow = unfollow,
};
