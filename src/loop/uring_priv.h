/* What uring.c and uring_check.c share. */
#ifndef LOOP_URING_PRIV_H
#define LOOP_URING_PRIV_H

#include <sys/socket.h>

#define URING_SEND_FLAGS (MSG_NOSIGNAL | MSG_DONTWAIT | MSG_WAITALL)

int uring_check(void); /* 0 or -errno: -EPROTONOSUPPORT */

#endif
