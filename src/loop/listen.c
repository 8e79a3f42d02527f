/*
 * Listeners. Several loops may share one listening socket (EPOLLEXCLUSIVE wakes one of
 * them). When descriptors or memory run out, accepting pauses: the waiting connections
 * stay in the kernel's queue, and the loop doesn't spin on a socket it can't empty.
 */
#include "loop/loop_priv.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

#define ACCEPTS_AT_ONCE 64
#define RETRY_AFTER     (100 * USEC_PER_MSEC)

enum { NOT_LISTENING, LISTENING, WAITING_TO_RETRY, RESTING };

static int begin(struct loop_listener *listener)
{
	int r = listener->loop->poll->listen(listener);

	if (r == 0)
		listener->state = LISTENING;
	return r;
}

static void wait_to_retry(struct loop_listener *listener)
{
	if (listener->state == LISTENING)
		listener->loop->poll->unlisten(listener);
	listener->state = WAITING_TO_RETRY;
	timer_set(listener->loop->timers, &listener->retry, clock_now() + RETRY_AFTER);
}

static void retry(struct timer *timer)
{
	struct loop_listener *listener = container_of(timer, struct loop_listener, retry);

	if (begin(listener) < 0)
		wait_to_retry(listener);
}

/* Of a unix socket, and where the kernel can't tell, that is not so. */
static bool speaks_first(int fd)
{
	int seconds = 0;
	socklen_t len = sizeof(seconds);

	return getsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds, &len) == 0 && seconds > 0;
}

int loop_listen(struct loop *loop, struct loop_listener *listener)
{
	listener->loop = loop;
	listener->speaks_first = speaks_first(listener->fd);
	listener->state = NOT_LISTENING;
	timer_init(&listener->retry, retry);
	listener->retry.always = true;
	return begin(listener);
}

void loop_unlisten(struct loop_listener *listener)
{
	if (listener->state == LISTENING)
		listener->loop->poll->unlisten(listener);
	if (listener->state == WAITING_TO_RETRY)
		timer_cancel(&listener->retry);
	listener->state = NOT_LISTENING;
}

void loop_rest_listening(struct loop_listener *listener)
{
	if (listener->state == NOT_LISTENING)
		return;
	loop_unlisten(listener);
	listener->state = RESTING;
}

void loop_go_on_listening(struct loop_listener *listener)
{
	if (listener->state == RESTING && begin(listener) < 0)
		wait_to_retry(listener);
}

static bool is_shortage(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

/*
 * Errors of one waiting connection (ECONNABORTED, network errors): the next may be fine. Most often there is one, and
 * asking for another is a call in vain; only when they come turn after turn the whole queue is emptied.
 */
void listener_event(struct loop_listener *listener)
{
	uint64_t turn = listener->loop->counters.turns;
	int most = turn - listener->turn <= 1 ? ACCEPTS_AT_ONCE : 1;

	listener->turn = turn;
	for (int i = 0; i < most && listener->state == LISTENING; i++) {
		struct sockaddr_storage address;
		socklen_t len = sizeof(address);
		int fd = accept4(listener->fd, (struct sockaddr *)&address, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			count(&listener->loop->counters.accepts, 1);
			listener->accepted(listener, fd, (struct sockaddr *)&address,
					   MIN(len, (socklen_t)sizeof(address)));
		} else if (errno == EAGAIN) {
			return;
		} else if (is_shortage(errno) || errno == EBADF || errno == EINVAL || errno == ENOTSOCK) {
			wait_to_retry(listener);
		}
	}
}
