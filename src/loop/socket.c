/* Options of stream sockets. A socket that a listener accepts has the listener's, so nothing is set for each client. */
#include "loop/loop.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

#define KEEPALIVE_PROBES 4 /* that go unanswered, within as much time as went before the first one */

static void set(int fd, int level, int option, int value)
{
	(void)setsockopt(fd, level, option, &value, sizeof(value));
}

void socket_defer_accept(int fd, usec_t silence)
{
	set(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, (int)((silence + USEC_PER_SEC - 1) / USEC_PER_SEC));
}

void socket_set_options(int fd, usec_t keepalive, usec_t user_timeout)
{
	set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	set(fd, SOL_SOCKET, SO_KEEPALIVE, keepalive > 0);
	if (keepalive > 0) { /* by the system's own interval and count it would take eleven minutes more */
		set(fd, IPPROTO_TCP, TCP_KEEPIDLE, (int)MAX(keepalive / USEC_PER_SEC, (usec_t)1));
		set(fd, IPPROTO_TCP, TCP_KEEPINTVL, (int)MAX(keepalive / KEEPALIVE_PROBES / USEC_PER_SEC, (usec_t)1));
		set(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES);
	}
	set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, (int)(user_timeout / USEC_PER_MSEC));
}
