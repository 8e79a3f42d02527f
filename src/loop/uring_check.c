/*
 * Whether this kernel's sends do as uring.c needs it: silent when the socket takes everything, else a completion with
 * how much it took, at once. If some kernel did otherwise, bytes would be lost or sent twice: it isn't used then.
 */
#include "loop/uring_priv.h"

#include <unistd.h>

enum { SMALL = 8, LARGE = 1 << 20, SILENCE = INT32_MIN };

/* What the completion says. */
static int32_t try_to_send(struct ring *ring, int fd, const uint8_t *bytes, uint32_t len)
{
	struct io_uring_sqe *request = ring_request(ring);
	int32_t result = SILENCE;

	request->opcode = IORING_OP_SEND;
	request->fd = fd;
	request->addr = (uintptr_t)bytes;
	request->len = len;
	request->msg_flags = URING_SEND_FLAGS;
	request->flags = IOSQE_CQE_SKIP_SUCCESS;
	ring_enter(ring, 0);
	while (ring_first(ring) != ring_end(ring)) {
		result = ring_completion(ring, ring_first(ring))->res;
		ring_advance_to(ring, ring_first(ring) + 1);
	}
	return result;
}

static bool sends_are_told(struct ring *ring, const int fds[2], const uint8_t *bytes)
{
	int32_t part;

	if (try_to_send(ring, fds[0], bytes, SMALL) != SILENCE)
		return false;
	part = try_to_send(ring, fds[0], bytes, LARGE);
	if (part <= 0 || part >= LARGE || try_to_send(ring, fds[0], bytes, SMALL) != -EAGAIN)
		return false;
	shutdown(fds[0], SHUT_WR);
	return try_to_send(ring, fds[0], bytes, SMALL) == -EPIPE;
}

int uring_check(void)
{
	uint8_t *bytes = calloc(1, LARGE);
	struct ring ring = {.fd = -1};
	int fds[2] = {-1, -1}, r = -ENOMEM;

	if (!bytes)
		return r;
	r = ring_open(&ring, 4, 8);
	if (r < 0)
		goto out;
	r = socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0 ? -errno : ring_enable(&ring);
	if (r == 0 && !sends_are_told(&ring, fds, bytes))
		r = -EPROTONOSUPPORT;
	if (fds[0] >= 0) {
		close(fds[0]);
		close(fds[1]);
	}
	ring_close(&ring);
out:
	free(bytes);
	return r;
}
