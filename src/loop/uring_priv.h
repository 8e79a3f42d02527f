/* What uring.c, uring_thread.c, uring_buffers.c and uring_check.c share. */
#ifndef LOOP_URING_PRIV_H
#define LOOP_URING_PRIV_H

#include "loop/loop_priv.h"
#include "loop/ring.h"

#include <pthread.h>
#include <sys/socket.h>

#define URING_SEND_FLAGS (MSG_NOSIGNAL | MSG_DONTWAIT | MSG_WAITALL)

#define REQUESTS    256u
#define COMPLETIONS 2048u /* more than REQUESTS, and what a turn brings most often */
#define BUFFERS     256u  /* a power of two */
#define BUFFER_ROOM (16u << 10)
#define NO_SLOT     UINT32_MAX

/* What a completion is of: in the low bits of its name, the slot (or the number of the send) above, and then the loop.
 */
enum kind { RECEIVE, POLL, CANCEL_RECEIVE, CANCEL_POLL, SEND, WAKE, DONE };
#define KIND_BITS   3
#define NUMBER_BITS 32

struct slot {
	void *object; /* NULL: gone; the slot waits for what is under way */
	int fd;
	uint32_t next;     /* of the free ones */
	uint16_t polled;   /* the events that are polled for */
	uint8_t under_way; /* BIT(enum kind) */
	bool is_listener;
	bool is_stream;
	bool is_half_closed; /* its peer has ended, and it waits for something else */
	bool is_changed;     /* in the list of those that are to be asked for anew */
};

/* Of a thread: the loop that leads there, and those that follow it, share it. */
struct thread_ring {
	struct ring ring;
	bool is_enabled;
	pthread_t owner;
	struct loop **seats; /* NULL: free */
	uint32_t seat_count;
	struct conn *sent[REQUESTS];
	int32_t results[REQUESTS];
	struct msghdr messages[REQUESTS];
};

/* Of a loop. */
struct uring {
	struct thread_ring *at;  /* where it asks: `own` when it leads */
	struct thread_ring *own; /* of the thread that bears its number */
	uint32_t seat;           /* in the ring where it is */
	bool is_seated;          /* false: between two threads, nothing is under way */
	bool wakes;              /* the eventfd is polled */
	bool is_lending;         /* else it is polled only */
	uint32_t asked;          /* requests that will have one more completion */
	struct slot *slots;
	uint32_t slot_count, slot_cap, free_slots;
	uint32_t *changed, changed_count; /* of slot_cap, like slots */
	struct io_uring_cqe *come;        /* what isn't dispatched: [come_first, come_end) */
	uint32_t come_first, come_end, come_cap;
	struct io_uring_buf_ring *lent; /* to the kernel */
	uint8_t *buffers;
	uint16_t lent_tail, held[BUFFERS]; /* held: shown in this turn */
	uint32_t held_count;
};

static inline uint64_t name(enum kind kind, uint32_t number)
{
	return (uint64_t)number << KIND_BITS | kind;
}

static inline enum kind kind_of(const struct io_uring_cqe *c)
{
	return (enum kind)(c->user_data & (BIT(KIND_BITS) - 1));
}

static inline uint32_t number_of(const struct io_uring_cqe *c)
{
	return (uint32_t)(c->user_data >> KIND_BITS);
}

/* For the end another thread may run turns; the kernel then does nothing for the loop any more. */
static inline bool is_ours(const struct uring *u)
{
	return u->is_seated && u->at->is_enabled && pthread_equal(u->at->owner, pthread_self());
}

int uring_check(void); /* 0 or -errno: -EPROTONOSUPPORT */

/* ---- uring.c ---- */
/* Of all that were touched. */
void uring_ask(struct loop *loop);

/* ---- uring_thread.c ---- */
int uring_open_ring(struct uring *u);
void uring_close_ring(struct uring *u);
struct io_uring_sqe *uring_request(struct uring *u, uint8_t opcode, int fd, enum kind kind, uint32_t number);
struct io_uring_sqe *uring_cancel(struct uring *u, uint64_t what, enum kind kind, uint32_t number);
/* Hands over what is asked; what has come is with its loop then. */
void uring_look(struct thread_ring *t);
bool uring_wait(struct loop *loop, usec_t wait);
uint32_t uring_room(struct loop *loop);
int uring_follow(struct loop *loop, struct loop *lead);
void uring_unfollow(struct loop *loop, struct loop *lead);
void uring_let_go(struct loop *loop);

/* ---- uring_buffers.c ---- */
int uring_make_buffers(struct uring *u);
void uring_free_buffers(struct uring *u);
/* To the ring where it is seated; all that aren't in use. */
void uring_lend(struct uring *u);
void uring_take_back(struct uring *u);
uint8_t *uring_hold(struct loop *loop, uint16_t id, size_t len);
void uring_recycle(struct loop *loop);

#endif
