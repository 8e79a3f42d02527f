#include "loop/ring.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Newer than Debian's kernel headers. */
#define ENTER_NO_IOWAIT   (1u << 7)
#define FEATURE_NO_IOWAIT (1u << 17)

static uint32_t *at(const struct ring *ring, uint32_t offset)
{
	return (uint32_t *)(void *)((uint8_t *)ring->memory + offset);
}

static int map(struct ring *ring, const struct io_uring_params *p)
{
	size_t requests_end = p->sq_off.array + p->sq_entries * sizeof(uint32_t);
	size_t completions_end = p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe);

	ring->memory_len = MAX(requests_end, completions_end);
	ring->memory = mmap(NULL, ring->memory_len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring->fd,
			    IORING_OFF_SQ_RING);
	if (ring->memory == MAP_FAILED)
		return -errno;
	ring->requests_len = p->sq_entries * sizeof(struct io_uring_sqe);
	ring->requests = mmap(NULL, ring->requests_len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring->fd,
			      IORING_OFF_SQES);
	return ring->requests == MAP_FAILED ? -errno : 0;
}

static void find_parts(struct ring *ring, const struct io_uring_params *p)
{
	ring->sq_head = at(ring, p->sq_off.head);
	ring->sq_tail = at(ring, p->sq_off.tail);
	ring->sq_flags = at(ring, p->sq_off.flags);
	ring->sq_mask = p->sq_entries - 1;
	ring->cq_head = at(ring, p->cq_off.head);
	ring->cq_tail = at(ring, p->cq_off.tail);
	ring->cq_mask = p->cq_entries - 1;
	ring->completions = (struct io_uring_cqe *)(void *)at(ring, p->cq_off.cqes);
	ring->filled = *ring->sq_tail;
	for (uint32_t i = 0; i < p->sq_entries; i++)
		at(ring, p->sq_off.array)[i] = i;
}

/*
 * SINGLE_ISSUER and DEFER_TASKRUN: completions come into being only inside of ring_enter(), on our thread. SUBMIT_ALL:
 * a request that fails doesn't hold up those behind it. Kernels before 6.1 refuse this combination.
 */
int ring_open(struct ring *ring, uint32_t requests, uint32_t completions)
{
	struct io_uring_params p = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
					     IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_R_DISABLED |
					     IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE,
				    .cq_entries = completions};
	int r;

	*ring = (struct ring){.memory = MAP_FAILED, .requests = MAP_FAILED};
	ring->fd = (int)syscall(SYS_io_uring_setup, requests, &p);
	if (ring->fd < 0)
		return -errno;
	if (!(p.features & IORING_FEAT_SINGLE_MMAP) || !(p.features & IORING_FEAT_EXT_ARG))
		r = -EINVAL;
	else
		r = map(ring, &p);
	if (r < 0) {
		ring_close(ring);
		return r;
	}
	find_parts(ring, &p);
	/* A thread that waits for its clients isn't one that waits for a disk. */
	ring->enter_flags = p.features & FEATURE_NO_IOWAIT ? ENTER_NO_IOWAIT : 0;
	return 0;
}

void ring_close(struct ring *ring)
{
	if (ring->requests != MAP_FAILED)
		munmap(ring->requests, ring->requests_len);
	if (ring->memory != MAP_FAILED)
		munmap(ring->memory, ring->memory_len);
	if (ring->fd >= 0)
		close(ring->fd);
	ring->fd = -1;
}

int ring_enable(struct ring *ring)
{
	return syscall(SYS_io_uring_register, ring->fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) < 0 ? -errno : 0;
}

struct io_uring_sqe *ring_request(struct ring *ring)
{
	struct io_uring_sqe *request;

	if (ring->filled - __atomic_load_n(ring->sq_head, __ATOMIC_ACQUIRE) > ring->sq_mask)
		return NULL;
	request = &ring->requests[ring->filled++ & ring->sq_mask];
	memset(request, 0, sizeof(*request));
	return request;
}

static uint32_t not_handed_over(const struct ring *ring)
{
	return ring->filled - __atomic_load_n(ring->sq_head, __ATOMIC_ACQUIRE);
}

void ring_enter(struct ring *ring, usec_t wait)
{
	ring_enter_for(ring, wait > 0, wait);
}

void ring_enter_for(struct ring *ring, uint32_t completions, usec_t wait)
{
	struct __kernel_timespec time = {.tv_sec = (int64_t)(wait / USEC_PER_SEC),
					 .tv_nsec = (long long)(wait % USEC_PER_SEC) * 1000};
	struct io_uring_getevents_arg arg = {.ts = wait > 0 && wait != USEC_NEVER ? (uintptr_t)&time : 0};
	uint32_t flags = IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG | ring->enter_flags;

	__atomic_store_n(ring->sq_tail, ring->filled, __ATOMIC_RELEASE);
	do { /* again when memory is short for a moment */
		long n = syscall(SYS_io_uring_enter, ring->fd, not_handed_over(ring), completions, flags, &arg,
				 sizeof(arg));

		assert(n >= 0 || (errno != EBADF && errno != EEXIST && errno != EINVAL && errno != EFAULT));
	} while (not_handed_over(ring) > 0);
}
