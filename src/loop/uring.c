/*
 * The back end that has the kernel do the work: what is to be written at the end of a turn
 * and what is to be waited for next are handed over in one system call, and what plain
 * connections receive comes by itself, in buffers lent to the kernel.
 *
 * A slot stands for a conn or a listener. What it needs is worked out anew from its state
 * at the time of the system call (ask()), so what changes to and fro within a turn costs
 * nothing. At most two requests are under way for it: a receive that goes on until it is
 * cancelled (plain and open connections), and a poll for one event (all others: TLS,
 * connecting, full, listening). Completions name the slot, never the object; a slot is used
 * again only when nothing is under way for it.
 *
 * Sends are over when the system call returns: they aren't to wait (MSG_DONTWAIT), and
 * tell only if the socket didn't take everything (MSG_WAITALL makes taking a part a
 * failure, IOSQE_CQE_SKIP_SUCCESS silences success; uring_check.c). So the wait isn't woken by them, and
 * nothing can happen to a conn between the request and its result.
 *
 * A stream isn't received in this way: after a whole buffer full the socket is polled and
 * read in large pieces until it calms down. It also bounds what comes for a paused owner.
 */
#include "base/poison.h"
#include "loop/loop_priv.h"
#include "loop/ring.h"
#include "loop/uring_priv.h"

#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define REQUESTS    256u
#define COMPLETIONS 2048u /* more than REQUESTS + BUFFERS, so that results of sends always find room */
#define BUFFERS     256u  /* a power of two */
#define BUFFER_ROOM (16u << 10)
#define BUFFER_STEP (SMALL_KEPT + BUFFER_ROOM + 128) /* not a power of two: they'd share few lines of the cache */
#define BUFFERS_LEN ((size_t)BUFFERS * BUFFER_STEP)
#define CALM        (4u << 10) /* a stream that brings less at once is none any more */
#define SLOTS_FIRST 64u
#define NO_SLOT     UINT32_MAX
#define STOP_TRIES  8

enum { GROUP = 0 }; /* of the buffers */

/* What a completion is of: in the low bits of its name, the slot (or the number of the send) above. */
enum kind { RECEIVE, POLL, CANCEL_RECEIVE, CANCEL_POLL, SEND, WAKE, DONE };
#define KIND_BITS 3

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

struct uring {
	struct ring ring;
	bool is_enabled, wakes; /* wakes: the eventfd is polled */
	pthread_t owner;
	struct slot *slots;
	uint32_t slot_count, slot_cap, free_slots;
	uint32_t *changed, changed_count; /* of slot_cap, like slots */
	struct io_uring_buf_ring *lent;   /* to the kernel */
	uint8_t *buffers;
	uint16_t lent_tail, held[BUFFERS]; /* held: shown in this turn */
	uint32_t held_count;
	struct conn *sent[REQUESTS];
	int32_t results[REQUESTS];
	struct msghdr messages[REQUESTS];
};

static uint64_t name(enum kind kind, uint32_t number)
{
	return (uint64_t)number << KIND_BITS | kind;
}

static enum kind kind_of(const struct io_uring_cqe *c)
{
	return (enum kind)(c->user_data & (BIT(KIND_BITS) - 1));
}

static uint32_t number_of(const struct io_uring_cqe *c)
{
	return (uint32_t)(c->user_data >> KIND_BITS);
}

/* For the end another thread may run turns; the kernel then does nothing for the loop any more. */
static bool is_ours(const struct uring *u)
{
	return u->is_enabled && pthread_equal(u->owner, pthread_self());
}

/* ---- buffers ---- */

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

static void recycle(struct loop *loop)
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

static uint8_t *hold(struct loop *loop, uint16_t id, size_t len)
{
	struct uring *u = loop->polling;
	uint8_t *room = room_of(u, id);

	unpoison(room - SMALL_KEPT, SMALL_KEPT + len);
	u->held[u->held_count++] = id;
	loop->turn.taken += len;
	return room;
}

static void *map(size_t len)
{
	void *memory = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

static int lend_all(struct uring *u)
{
	struct io_uring_buf_reg reg = {.ring_entries = BUFFERS, .bgid = GROUP};

	u->lent = map(BUFFERS * sizeof(struct io_uring_buf));
	u->buffers = map(BUFFERS_LEN);
	if (!u->lent || !u->buffers)
		return -ENOMEM;
	reg.ring_addr = (uintptr_t)u->lent;
	if (syscall(SYS_io_uring_register, u->ring.fd, IORING_REGISTER_PBUF_RING, &reg, 1) < 0)
		return -errno;
	for (uint16_t id = 0; id < BUFFERS; id++)
		lend(u, id);
	publish_lent(u);
	poison(u->buffers, BUFFERS_LEN);
	return 0;
}

/* ---- slots ---- */

static void touch(struct uring *u, uint32_t number)
{
	struct slot *s = &u->slots[number];

	if (!s->is_changed) {
		s->is_changed = true;
		u->changed[u->changed_count++] = number;
	}
}

static int grow_slots(struct uring *u)
{
	uint32_t cap = u->slot_cap ? u->slot_cap * 2 : SLOTS_FIRST;
	struct slot *slots = realloc(u->slots, cap * sizeof(*slots));
	uint32_t *changed;

	if (!slots)
		return -ENOMEM;
	u->slots = slots;
	changed = realloc(u->changed, cap * sizeof(*changed));
	if (!changed)
		return -ENOMEM;
	u->changed = changed;
	u->slot_cap = cap;
	return 0;
}

static int slot_new(struct loop *loop, int fd, void *object, bool is_listener, uint32_t *ret_slot)
{
	struct uring *u = loop->polling;
	uint32_t number = u->free_slots;
	int r;

	if (number != NO_SLOT) {
		u->free_slots = u->slots[number].next;
	} else {
		r = u->slot_count == u->slot_cap ? grow_slots(u) : 0;
		if (r < 0)
			return r;
		number = u->slot_count++;
	}
	u->slots[number] = (struct slot){.object = object, .fd = fd, .is_listener = is_listener};
	touch(u, number);
	*ret_slot = number;
	return 0;
}

static void slot_free_if_over(struct uring *u, uint32_t number)
{
	struct slot *s = &u->slots[number];

	if (s->object || s->under_way || s->is_changed)
		return;
	s->next = u->free_slots;
	u->free_slots = number;
}

/* ---- asking ---- */

static struct io_uring_sqe *request(struct uring *u, uint8_t opcode, int fd, uint64_t its_name)
{
	struct io_uring_sqe *r = ring_request(&u->ring);

	if (!r) {
		ring_enter(&u->ring, 0);
		r = ring_request(&u->ring);
	}
	r->opcode = opcode;
	r->fd = fd;
	r->user_data = its_name;
	return r;
}

static void ask_to_cancel(struct uring *u, uint32_t number, enum kind kind, enum kind cancel)
{
	struct slot *s = &u->slots[number];

	if (!(s->under_way & BIT(kind)) || (s->under_way & BIT(cancel)))
		return;
	request(u, IORING_OP_ASYNC_CANCEL, -1, name(cancel, number))->addr = name(kind, number);
	s->under_way |= BIT(cancel);
}

static void ask_to_poll(struct uring *u, uint32_t number, uint32_t events)
{
	struct slot *s = &u->slots[number];
	struct io_uring_sqe *r;

	if (s->under_way & BIT(POLL)) {
		if (events & ~(uint32_t)s->polled & (EPOLLIN | EPOLLOUT))
			ask_to_cancel(u, number, POLL, CANCEL_POLL); /* its end leads here again */
		return;
	}
	r = request(u, IORING_OP_POLL_ADD, s->fd, name(POLL, number));
	r->poll32_events = events;
	/* The kernel tells of the peer's end in any case (EPOLLRDHUP), but in this way once, and then of changes. */
	r->len = s->is_half_closed && !(events & EPOLLIN) ? IORING_POLL_ADD_MULTI : 0;
	s->polled = (uint16_t)events;
	s->under_way |= BIT(POLL);
}

static void ask_to_receive(struct uring *u, uint32_t number)
{
	struct slot *s = &u->slots[number];
	struct conn *conn = s->object;
	struct io_uring_sqe *r;

	if (s->under_way & BIT(RECEIVE))
		return;
	r = request(u, IORING_OP_RECV, s->fd, name(RECEIVE, number));
	r->ioprio = IORING_RECV_MULTISHOT;
	r->flags = IOSQE_BUFFER_SELECT;
	r->buf_group = GROUP;
	s->under_way |= BIT(RECEIVE);
	conn->flags |= CONN_RECEIVING;
}

/* Whether the kernel may receive for it. */
static bool is_receiver(const struct slot *s)
{
	const struct conn *conn = s->object;

	return conn->state == CONN_OPEN && !conn->tls && !s->is_stream &&
	       (conn->flags & (CONN_IN | CONN_OFF | CONN_ENDED | CONN_READY_FIRST)) == CONN_IN;
}

static void ask_for_conn(struct uring *u, uint32_t number)
{
	struct slot *s = &u->slots[number];
	const struct conn *conn = s->object;
	uint32_t out = conn->flags & CONN_OUT ? EPOLLOUT : 0;

	if (is_receiver(s)) {
		ask_to_receive(u, number);
		if (out)
			ask_to_poll(u, number, out);
		return;
	}
	ask_to_cancel(u, number, RECEIVE, CANCEL_RECEIVE);
	if ((conn->flags & CONN_OFF) || (s->under_way & BIT(RECEIVE)))
		return;                                                      /* its end leads here again */
	ask_to_poll(u, number, out | (conn->flags & CONN_IN ? EPOLLIN : 0)); /* a hang-up is told in any case */
}

static void ask(struct uring *u, uint32_t number)
{
	struct slot *s = &u->slots[number];

	if (!s->object) {
		ask_to_cancel(u, number, RECEIVE, CANCEL_RECEIVE);
		ask_to_cancel(u, number, POLL, CANCEL_POLL);
	} else if (s->is_listener) {
		ask_to_poll(u, number, EPOLLIN | EPOLLEXCLUSIVE);
	} else {
		ask_for_conn(u, number);
	}
}

static void ask_for_all(struct loop *loop)
{
	struct uring *u = loop->polling;

	for (uint32_t i = 0; i < u->changed_count; i++) {
		u->slots[u->changed[i]].is_changed = false;
		ask(u, u->changed[i]);
		slot_free_if_over(u, u->changed[i]);
	}
	u->changed_count = 0;
	if (!u->wakes) {
		struct io_uring_sqe *r = request(u, IORING_OP_POLL_ADD, loop->wake_fd, name(WAKE, 0));

		r->poll32_events = EPOLLIN;
		r->len = IORING_POLL_ADD_MULTI; /* told of each write; so nobody need read it */
		u->wakes = true;
	}
}

/* ---- sending ---- */

static uint32_t room_for_sends(struct loop *loop)
{
	const struct uring *u = loop->polling;

	/* With half of the buffers in use they shall come back before the kernel waits for more to come. */
	if (!is_ours(u) || ring_first(&u->ring) != ring_end(&u->ring) || u->held_count > BUFFERS / 2)
		return 0;
	return REQUESTS;
}

static uint32_t ask_to_send(struct loop *loop)
{
	struct uring *u = loop->polling;
	uint32_t n = 0;

	list_for_each (node, &loop->later) {
		struct conn *conn = list_entry(node, struct conn, dirty);
		bool one = conn->iov_count == 1;
		struct io_uring_sqe *r = request(u, one ? IORING_OP_SEND : IORING_OP_SENDMSG, conn->fd, name(SEND, n));

		u->messages[n] = (struct msghdr){.msg_iov = conn->iov, .msg_iovlen = conn->iov_count};
		r->addr = one ? (uintptr_t)conn->iov->iov_base : (uintptr_t)&u->messages[n];
		r->len = one ? (uint32_t)conn->iov->iov_len : 1;
		r->msg_flags = URING_SEND_FLAGS;
		r->flags = IOSQE_CQE_SKIP_SUCCESS;
		u->sent[n] = conn;
		u->results[n++] = INT32_MAX; /* all */
	}
	return n;
}

static void find_results(struct uring *u)
{
	for (uint32_t at = ring_first(&u->ring), end = ring_end(&u->ring); at != end; at++) {
		struct io_uring_cqe *c = ring_completion(&u->ring, at);

		if (kind_of(c) == SEND) {
			u->results[number_of(c)] = c->res;
			c->user_data = DONE;
		}
	}
}

/* Where something is left to be done it is dirty again: the flush of this turn goes on from there. */
static void take_result(struct conn *conn, int32_t result)
{
	int r;

	list_remove(&conn->dirty);
	count(&conn->loop->counters.sends, 1);
	if (result == INT32_MAX) {
		conn_sent(conn);
		return;
	}
	r = result >= 0 || result == -EAGAIN ? conn_sent_part(conn, (size_t)MAX(result, 0)) : result;
	if (r < 0) {
		conn_drop_output(conn); /* it points into memory of the turn that is over */
		conn->flags |= CONN_SEND_FAILED;
		conn->error = (uint8_t)-r;
	}
	conn_set_dirty(conn);
}

static void take_results(struct loop *loop, uint32_t n)
{
	struct uring *u = loop->polling;

	if (n == 0)
		return;
	find_results(u);
	for (uint32_t i = 0; i < n; i++)
		take_result(u->sent[i], u->results[i]);
	turn_reset(loop);
}

/* ---- waiting ---- */

static bool uring_wait(struct loop *loop, usec_t wait)
{
	struct uring *u = loop->polling;
	uint32_t sends;

	if (!u->is_enabled) {
		u->owner = pthread_self();
		u->is_enabled = ring_enable(&u->ring) == 0;
	}
	count(&loop->counters.waits, 1);
	if (!is_ours(u))
		return false;
	sends = ask_to_send(loop);
	ask_for_all(loop);
	ring_enter(&u->ring, wait);
	take_results(loop, sends);
	return ring_first(&u->ring) != ring_end(&u->ring);
}

/* ---- what has come ---- */

static bool has_hung_up(int fd, short *ret_events)
{
	struct pollfd p = {.fd = fd};

	*ret_events = poll(&p, 1, 0) > 0 ? p.revents & (POLLHUP | POLLERR) : 0;
	return *ret_events != 0;
}

static bool is_failure(int32_t result)
{
	return result < 0 && result != -ENOBUFS && result != -ECANCELED && result != -EAGAIN && result != -EINTR;
}

static void received(struct loop *loop, uint32_t number, const struct io_uring_cqe *c)
{
	struct uring *u = loop->polling;
	struct slot *s = &u->slots[number];
	struct conn *conn = s->object;
	uint8_t *bytes = NULL;
	short events;

	if (c->flags & IORING_CQE_F_BUFFER)
		bytes = hold(loop, (uint16_t)(c->flags >> IORING_CQE_BUFFER_SHIFT), (size_t)MAX(c->res, 0));
	if (!(c->flags & IORING_CQE_F_MORE)) {
		s->under_way &= (uint8_t)~BIT(RECEIVE);
		if (conn)
			conn->flags &= (uint16_t)~CONN_RECEIVING;
		touch(u, number);
	}
	if (!conn)
		return;
	if (c->res > 0 && bytes) {
		if (c->res == BUFFER_ROOM) {
			s->is_stream = true;
			touch(u, number);
		}
		conn_arrived(conn, bytes, (size_t)c->res);
	} else if (c->res == 0) {
		conn_event(conn, EPOLLIN | (has_hung_up(conn->fd, &events) ? (uint32_t)events : 0));
	} else if (is_failure(c->res)) {
		conn_receive_failed(conn, c->res);
	}
}

/* Of what was polled for some may not be wanted any more; where the kernel receives, it will tell of a hang-up. */
static uint32_t wanted(const struct slot *s, uint32_t events)
{
	const struct conn *conn = s->object;

	if (conn->flags & CONN_OFF)
		return 0;
	if (is_receiver(s) || (conn->flags & CONN_RECEIVING))
		return conn->flags & CONN_OUT ? EPOLLOUT : 0;
	return events & ((conn->flags & CONN_IN ? EPOLLIN : 0u) | (conn->flags & CONN_OUT ? EPOLLOUT : 0u) |
			 (conn_watches_end(conn) ? EPOLLRDHUP : 0u) | EPOLLHUP | EPOLLERR);
}

static void polled(struct loop *loop, uint32_t number, int32_t result, bool is_last)
{
	struct uring *u = loop->polling;
	struct slot *s = &u->slots[number];
	uint64_t before = loop->counters.bytes_in, got;
	uint32_t events;

	if (is_last) {
		s->under_way &= (uint8_t)~BIT(POLL);
		touch(u, number);
	}
	if (!s->object || result <= 0)
		return;
	if ((result & EPOLLRDHUP) && !(s->polled & EPOLLIN))
		s->is_half_closed = true;
	if (s->is_listener) {
		listener_event(s->object);
		return;
	}
	events = wanted(s, (uint32_t)result);
	if (events == 0)
		return;
	conn_event(s->object, events);
	got = loop->counters.bytes_in - before;
	if (got > 0 && got < CALM)
		u->slots[number].is_stream = false;
}

static void cancelled(struct uring *u, uint32_t number, enum kind cancel)
{
	u->slots[number].under_way &= (uint8_t)~BIT(cancel);
	touch(u, number); /* if it failed because its time was bad it is tried again */
}

static void handle(struct loop *loop, const struct io_uring_cqe *c)
{
	struct uring *u = loop->polling;

	switch (kind_of(c)) {
	case RECEIVE:
		received(loop, number_of(c), c);
		break;
	case POLL:
		polled(loop, number_of(c), c->res, !(c->flags & IORING_CQE_F_MORE));
		break;
	case CANCEL_RECEIVE:
	case CANCEL_POLL:
		cancelled(u, number_of(c), kind_of(c));
		break;
	case WAKE:
		u->wakes = c->flags & IORING_CQE_F_MORE;
		break;
	case SEND:
	case DONE:
		break;
	}
}

static void dispatch(struct loop *loop)
{
	struct uring *u = loop->polling;

	while (ring_first(&u->ring) != ring_end(&u->ring)) {
		struct io_uring_cqe c = *ring_completion(&u->ring, ring_first(&u->ring));

		ring_advance(&u->ring);
		if (kind_of(&c) == DONE)
			continue;
		count(&loop->counters.events, 1);
		handle(loop, &c);
		loop_flush_if_much(loop);
	}
}

/* ---- stopping ---- */

/* The slot's next completion of a receive that isn't dispatched; NULL when there is none. */
static struct io_uring_cqe *find_received(const struct uring *u, uint32_t number)
{
	for (uint32_t at = ring_first(&u->ring), end = ring_end(&u->ring); at != end; at++) {
		struct io_uring_cqe *c = ring_completion(&u->ring, at);

		if (c->user_data == name(RECEIVE, number))
			return c;
	}
	return NULL;
}

static bool is_mere_end(const struct io_uring_cqe *c)
{
	return c->res < 0 && !is_failure(c->res) && !(c->flags & IORING_CQE_F_MORE);
}

/* What is found is dispatched in its turn, or by show(). */
static int stop(struct conn *conn)
{
	struct uring *u = conn->loop->polling;
	struct io_uring_cqe *c = find_received(u, conn->slot);

	for (int i = 0; i < STOP_TRIES && !c; i++) {
		request(u, IORING_OP_ASYNC_CANCEL, -1, DONE)->addr = name(RECEIVE, conn->slot);
		ring_enter(&u->ring, 0);
		c = find_received(u, conn->slot);
	}
	if (!c || !is_mere_end(c))
		return -EBUSY;
	c->user_data = DONE;
	conn->flags &= (uint16_t)~CONN_RECEIVING;
	u->slots[conn->slot].under_way &= (uint8_t)~BIT(RECEIVE);
	touch(u, conn->slot);
	return 0;
}

static bool show(struct conn *conn)
{
	struct loop *loop = conn->loop;
	struct uring *u = loop->polling;
	uint32_t number = conn->slot;
	struct io_uring_cqe *found;

	while (u->slots[number].object == conn && (found = find_received(u, number))) {
		struct io_uring_cqe c = *found;

		found->user_data = DONE;
		received(loop, number, &c);
	}
	return u->slots[number].object == conn;
}

/* ---- the rest of the interface ---- */

static int add(struct conn *conn)
{
	return slot_new(conn->loop, conn->fd, conn, /* is_listener= */ false, &conn->slot);
}

static int change(struct conn *conn, uint16_t want UNUSED)
{
	touch(conn->loop->polling, conn->slot);
	return 0;
}

static void leave(struct conn *conn)
{
	touch(conn->loop->polling, conn->slot);
}

static void forget(struct loop *loop, uint32_t number)
{
	struct uring *u = loop->polling;

	u->slots[number].object = NULL;
	touch(u, number);
}

/* What is under way holds the socket open until the end of this turn. */
static void remove_conn(struct conn *conn)
{
	forget(conn->loop, conn->slot);
}

static int listen_on(struct loop_listener *listener)
{
	return slot_new(listener->loop, listener->fd, listener, /* is_listener= */ true, &listener->slot);
}

/* At once: its address may be listened on anew in this turn. */
static void unlisten(struct loop_listener *listener)
{
	struct uring *u = listener->loop->polling;

	forget(listener->loop, listener->slot);
	if (!is_ours(u))
		return;
	ask(u, listener->slot);
	ring_enter(&u->ring, 0);
}

static void close_all(struct loop *loop)
{
	struct uring *u = loop->polling;

	if (is_ours(u)) { /* so that sockets that were closed last don't live on for a while */
		ask_for_all(loop);
		ring_enter(&u->ring, 0);
	}
	ring_close(&u->ring);
	if (u->buffers) {
		unpoison(u->buffers, BUFFERS_LEN);
		munmap(u->buffers, BUFFERS_LEN);
	}
	if (u->lent)
		munmap(u->lent, BUFFERS * sizeof(struct io_uring_buf));
	free(u->slots);
	free(u->changed);
	free(u);
}

static int open_all(struct loop *loop)
{
	struct uring *u;
	int r = uring_check();

	if (r < 0)
		return r;
	u = calloc(1, sizeof(*u));
	if (!u)
		return -ENOMEM;
	u->free_slots = NO_SLOT;
	loop->polling = u;
	r = ring_open(&u->ring, REQUESTS, COMPLETIONS);
	if (r == 0)
		r = lend_all(u);
	if (r < 0)
		close_all(loop);
	return r;
}

const struct poll_ops uring_ops = {
	.name = "io_uring",
	.open = open_all,
	.close = close_all,
	.wait = uring_wait,
	.dispatch = dispatch,
	.add = add,
	.change = change,
	.leave = leave,
	.remove = remove_conn,
	.listen = listen_on,
	.unlisten = unlisten,
	.stop = stop,
	.show = show,
	.room = room_for_sends,
	.recycle = recycle,
};
