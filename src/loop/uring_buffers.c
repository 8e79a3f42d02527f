/*
 * The buffers into which the kernel receives by itself. They are the loop's, and go with it from ring to ring: each
 * ring has them as a group that is named by the loop's seat. Where they can't be lent nothing is received by itself:
 * all conns are polled then (is_receiver() in uring.c).
 */
#include "base/log.h"
#include "base/poison.h"
#include "loop/uring_priv.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BUFFER_STEP (SMALL_KEPT + BUFFER_ROOM + 128) /* not a power of two: they'd share few lines of the cache */
#define BUFFERS_LEN ((size_t)BUFFERS * BUFFER_STEP)
#define LENT_LEN    (BUFFERS * sizeof(struct io_uring_buf))

static uint8_t *room_of(const struct uring *u, uint16_t id)
{
	return u->buffers + (size_t)id * BUFFER_STEP + SMALL_KEPT;
}

static void lend(struct uring *u, uint16_t id)
{
	struct io_uring_buf *entry = &u->lent->bufs[u->lent_tail++ & (BUFFERS - 1)];

	entry->addr = (uintptr_t)room_of(u, id);
	entry->len = BUFFER_ROOM;
	entry->bid = id;
}

static void publish_lent(struct uring *u)
{
	__atomic_store_n(&u->lent->tail, u->lent_tail, __ATOMIC_RELEASE);
}

void uring_recycle(struct loop *loop)
{
	struct uring *u = loop->polling;

	if (u->held_count == 0)
		return;
	for (uint32_t i = 0; i < u->held_count; i++) {
		poison(room_of(u, u->held[i]) - SMALL_KEPT, BUFFER_STEP);
		lend(u, u->held[i]);
	}
	u->held_count = 0;
	publish_lent(u);
}

uint8_t *uring_hold(struct loop *loop, uint16_t id, size_t len)
{
	struct uring *u = loop->polling;
	uint8_t *room = room_of(u, id);

	unpoison(room - SMALL_KEPT, SMALL_KEPT + len);
	u->held[u->held_count++] = id;
	loop->turn.taken += len;
	return room;
}

/* Bytes that have come and aren't shown went along with the loop. */
static void find_used(const struct uring *u, bool used[BUFFERS])
{
	for (uint32_t i = 0; i < u->held_count; i++)
		used[u->held[i]] = true;
	for (uint32_t i = u->come_first; i < u->come_end; i++)
		if (u->come[i].flags & IORING_CQE_F_BUFFER)
			used[u->come[i].flags >> IORING_CQE_BUFFER_SHIFT] = true;
}

static int lend_or_take_back(struct uring *u, unsigned int what)
{
	struct io_uring_buf_reg reg = {.bgid = (uint16_t)u->seat};

	if (what == IORING_REGISTER_PBUF_RING) {
		reg.ring_addr = (uintptr_t)u->lent;
		reg.ring_entries = BUFFERS;
	}
	return syscall(SYS_io_uring_register, u->at->ring.fd, what, &reg, 1) < 0 ? -errno : 0;
}

/* A ring begins at the first entry, whatever came of it in the one before. */
void uring_lend(struct uring *u)
{
	bool used[BUFFERS] = {0};
	int r;

	u->lent_tail = 0;
	publish_lent(u);
	r = lend_or_take_back(u, IORING_REGISTER_PBUF_RING);
	u->is_lending = r == 0;
	if (r < 0) {
		log_warn("io_uring takes no buffers: it is asked what is ready, as with epoll",
			 kv_str("reason", strerror(-r)));
		return;
	}
	find_used(u, used);
	for (uint16_t id = 0; id < BUFFERS; id++)
		if (!used[id])
			lend(u, id);
	publish_lent(u);
}

void uring_take_back(struct uring *u)
{
	if (u->is_lending)
		(void)lend_or_take_back(u, IORING_UNREGISTER_PBUF_RING);
	u->is_lending = false;
}

static void *map(size_t len)
{
	void *memory = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

int uring_make_buffers(struct uring *u)
{
	u->lent = map(LENT_LEN);
	u->buffers = map(BUFFERS_LEN);
	if (!u->lent || !u->buffers)
		return -ENOMEM;
	poison(u->buffers, BUFFERS_LEN);
	return 0;
}

void uring_free_buffers(struct uring *u)
{
	if (u->buffers) {
		unpoison(u->buffers, BUFFERS_LEN);
		munmap(u->buffers, BUFFERS_LEN);
	}
	if (u->lent)
		munmap(u->lent, LENT_LEN);
}
