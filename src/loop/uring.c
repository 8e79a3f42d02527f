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
 *
 * The wait itself, and how a loop goes from one thread to another: uring_thread.c.
 */
#include "loop/uring_priv.h"

#include <poll.h>

#define CALM        (4u << 10) /* a stream that brings less at once is none any more */
#define SLOTS_FIRST 64u
#define STOP_TRIES  8

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

static void ask_to_cancel(struct uring *u, uint32_t number, enum kind kind, enum kind cancel)
{
	struct slot *s = &u->slots[number];

	if (!(s->under_way & BIT(kind)) || (s->under_way & BIT(cancel)))
		return;
	uring_cancel(u, name(kind, number), cancel, number);
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
	r = uring_request(u, IORING_OP_POLL_ADD, s->fd, POLL, number);
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
	r = uring_request(u, IORING_OP_RECV, s->fd, RECEIVE, number);
	r->ioprio = IORING_RECV_MULTISHOT;
	r->flags = IOSQE_BUFFER_SELECT;
	r->buf_group = (uint16_t)u->seat;
	s->under_way |= BIT(RECEIVE);
	conn->flags |= CONN_RECEIVING;
}

/* Whether the kernel may receive for it. */
static bool is_receiver(const struct uring *u, const struct slot *s)
{
	const struct conn *conn = s->object;

	return u->is_lending && conn->state == CONN_OPEN && !conn->tls && !s->is_stream &&
	       (conn->flags & (CONN_IN | CONN_OFF | CONN_ENDED | CONN_READY_FIRST)) == CONN_IN;
}

static void ask_for_conn(struct uring *u, uint32_t number)
{
	struct slot *s = &u->slots[number];
	const struct conn *conn = s->object;
	uint32_t out = conn->flags & CONN_OUT ? EPOLLOUT : 0;

	if (is_receiver(u, s)) {
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

void uring_ask(struct loop *loop)
{
	struct uring *u = loop->polling;

	for (uint32_t i = 0; i < u->changed_count; i++) {
		u->slots[u->changed[i]].is_changed = false;
		ask(u, u->changed[i]);
		slot_free_if_over(u, u->changed[i]);
	}
	u->changed_count = 0;
	if (!u->wakes) {
		struct io_uring_sqe *r = uring_request(u, IORING_OP_POLL_ADD, loop->wake_fd, WAKE, 0);

		r->poll32_events = EPOLLIN;
		r->len = IORING_POLL_ADD_MULTI; /* told of each write; so nobody need read it */
		u->wakes = true;
	}
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
		bytes = uring_hold(loop, (uint16_t)(c->flags >> IORING_CQE_BUFFER_SHIFT), (size_t)MAX(c->res, 0));
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
static uint32_t wanted(const struct uring *u, const struct slot *s, uint32_t events)
{
	const struct conn *conn = s->object;

	if (conn->flags & CONN_OFF)
		return 0;
	if (is_receiver(u, s) || (conn->flags & CONN_RECEIVING))
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
	events = wanted(u, s, (uint32_t)result);
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

	while (u->come_first != u->come_end) {
		struct io_uring_cqe c = u->come[u->come_first++];

		if (kind_of(&c) == DONE)
			continue;
		count(&loop->counters.events, 1);
		handle(loop, &c);
		loop_flush_if_much(loop);
	}
	u->come_first = u->come_end = 0;
}

/* ---- stopping ---- */

/* The slot's next completion of a receive that isn't dispatched; NULL when there is none. */
static struct io_uring_cqe *find_received(const struct uring *u, uint32_t number)
{
	for (uint32_t i = u->come_first; i < u->come_end; i++)
		if (u->come[i].user_data == name(RECEIVE, number))
			return &u->come[i];
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

	for (int i = 0; i < STOP_TRIES && !c && is_ours(u); i++) {
		uring_cancel(u, name(RECEIVE, conn->slot), DONE, 0);
		uring_look(u->at);
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
	uring_look(u->at);
}

static void close_all(struct loop *loop)
{
	struct uring *u = loop->polling;

	if (is_ours(u)) { /* so that sockets that were closed last don't live on for a while */
		uring_ask(loop);
		ring_enter(&u->at->ring, 0);
	}
	uring_close_ring(u);
	uring_free_buffers(u);
	free(u->come);
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
	r = uring_open_ring(u);
	if (r == 0)
		r = uring_make_buffers(u);
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
	.follow = uring_follow,
	.unfollow = uring_unfollow,
	.let_go = uring_let_go,
	.stop = stop,
	.show = show,
	.room = uring_room,
	.recycle = uring_recycle,
};
