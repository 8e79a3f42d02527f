/*
 * The two rings that io_uring shares with the kernel: requests go into one, completions
 * come out of the other, ring_enter() hands over and waits. Bare system calls: what we
 * need of liburing is these few lines, and Debian's lacks rings of provided buffers.
 */
#ifndef LOOP_RING_H
#define LOOP_RING_H

#include "base/clock.h"

#include <linux/io_uring.h>

struct ring {
	int fd;
	uint32_t *sq_head, *sq_tail, *sq_flags, sq_mask;
	uint32_t filled; /* our side of sq_tail: requests that were written down */
	uint32_t *cq_head, *cq_tail, cq_mask;
	struct io_uring_sqe *requests;
	struct io_uring_cqe *completions;
	uint32_t enter_flags;
	void *memory;
	size_t memory_len, requests_len;
};

/* For the one thread that calls ring_enable(). 0 or -errno. */
int ring_open(struct ring *ring, uint32_t requests, uint32_t completions) MUST_USE;
void ring_close(struct ring *ring);
int ring_enable(struct ring *ring) MUST_USE;
/* A cleared request to be filled in; NULL when there is no room before the next ring_enter(). */
struct io_uring_sqe *ring_request(struct ring *ring);
/* Hands all requests over, then waits for a completion, at most so long; with 0 it only looks. */
void ring_enter(struct ring *ring, usec_t wait);
/* The same, for so many of them. */
void ring_enter_for(struct ring *ring, uint32_t completions, usec_t wait);

static inline uint32_t ring_first(const struct ring *ring)
{
	return *ring->cq_head;
}
static inline uint32_t ring_end(const struct ring *ring)
{
	return __atomic_load_n(ring->cq_tail, __ATOMIC_ACQUIRE);
}
static inline struct io_uring_cqe *ring_completion(const struct ring *ring, uint32_t at)
{
	return &ring->completions[at & ring->cq_mask];
}
/* Those before it are taken. */
static inline void ring_advance_to(struct ring *ring, uint32_t at)
{
	__atomic_store_n(ring->cq_head, at, __ATOMIC_RELEASE);
}
static inline bool ring_says(const struct ring *ring, uint32_t flags)
{
	return __atomic_load_n(ring->sq_flags, __ATOMIC_RELAXED) & flags;
}
/* The kernel holds completions that found no room: those that come now are put behind them. */
static inline bool ring_overflows(const struct ring *ring)
{
	return ring_says(ring, IORING_SQ_CQ_OVERFLOW);
}
/* Entering would do something: without a system call. */
static inline bool ring_has_work(const struct ring *ring)
{
	return ring->filled != __atomic_load_n(ring->sq_head, __ATOMIC_ACQUIRE) ||
	       ring_says(ring, IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
}

#endif
