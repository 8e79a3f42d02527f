/*
 * The ring of a thread: all loops that it runs ask through it and wait in it together, with one system call a turn of
 * the one that leads. Completions name the loop by its seat; what has come for a loop waits in its own queue (come) for
 * its turn to dispatch it.
 *
 * A ring serves the one thread that enabled it, and a request can't be taken from one ring to another. So a loop that
 * goes to another thread (crew.c) takes no request along: all that is under way is cancelled, and waited for. What had
 * come by then goes along, in the loop's queue and its buffers, and is dispatched first; the rest stays in
 * the sockets, and is asked for anew in the ring that the loop is seated in next. Nothing is shown to anybody in
 * between. It costs some microseconds for each connection, idle or not.
 *
 * The own ring of a loop is that of the thread of the same number: used by that thread only, whatever else it runs.
 */
#include "loop/uring_priv.h"

#define AT_ONCE     1024u /* cancellations that are waited for together: completions must find room */
#define A_MOMENT    (10 * USEC_PER_MSEC)
#define COME_LEAST  256u
#define SEATS_LEAST 4u
#define NAME_MASK   (((uint64_t)1 << (KIND_BITS + NUMBER_BITS)) - 1)

static uint64_t seated_name(const struct uring *u, uint64_t its_name)
{
	return (uint64_t)u->seat << (KIND_BITS + NUMBER_BITS) | its_name;
}

/* ---- asking ---- */

struct io_uring_sqe *uring_request(struct uring *u, uint8_t opcode, int fd, enum kind kind, uint32_t number)
{
	struct io_uring_sqe *r = ring_request(&u->at->ring);

	if (!r) {
		uring_look(u->at);
		r = ring_request(&u->at->ring);
	}
	r->opcode = opcode;
	r->fd = fd;
	r->user_data = seated_name(u, name(kind, number));
	u->asked += kind != SEND && kind != DONE;
	return r;
}

/* DONE: nobody needs to hear of it. */
struct io_uring_sqe *uring_cancel(struct uring *u, uint64_t what, enum kind kind, uint32_t number)
{
	struct io_uring_sqe *r = uring_request(u, IORING_OP_ASYNC_CANCEL, -1, kind, number);

	r->addr = seated_name(u, what);
	if (kind == DONE)
		r->flags = IOSQE_CQE_SKIP_SUCCESS;
	return r;
}

/* ---- what has come ---- */

static bool has_come(const struct uring *u)
{
	return u->come_first != u->come_end;
}

static bool put(struct uring *u, const struct io_uring_cqe *c)
{
	if (u->come_end == u->come_cap) {
		uint32_t cap = MAX(u->come_cap * 2, COME_LEAST);
		struct io_uring_cqe *come = realloc(u->come, cap * sizeof(*come));

		if (!come)
			return false;
		u->come = come;
		u->come_cap = cap;
	}
	u->come[u->come_end] = *c;
	u->come[u->come_end++].user_data &= NAME_MASK;
	u->asked -= !(c->flags & IORING_CQE_F_MORE);
	return true;
}

/* To the loops. Out of memory: the rest stays where it is; but what became of sends is known in any case. */
static void sort(struct thread_ring *t)
{
	uint32_t first = ring_first(&t->ring), end = ring_end(&t->ring);
	bool is_full = false;

	for (uint32_t at = first; at != end; at++) {
		struct io_uring_cqe *c = ring_completion(&t->ring, at);

		if (kind_of(c) == SEND) {
			t->results[number_of(c)] = c->res;
			c->user_data = DONE;
		}
		if (!is_full && kind_of(c) != DONE)
			is_full = !put(t->seats[c->user_data >> (KIND_BITS + NUMBER_BITS)]->polling, c);
		first += !is_full;
	}
	ring_advance_to(&t->ring, first);
}

void uring_look(struct thread_ring *t)
{
	ring_enter(&t->ring, 0);
	sort(t);
}

/* ---- sending ---- */

/* Results must find room, and not stand behind others in the kernel. */
static bool can_send(const struct thread_ring *t)
{
	return ring_first(&t->ring) == ring_end(&t->ring) && !ring_overflows(&t->ring);
}

uint32_t uring_room(struct loop *loop)
{
	const struct uring *u = loop->polling;

	/* With half of the buffers in use they shall come back before the kernel waits for more to come. */
	if (!is_ours(u) || has_come(u) || !can_send(u->at) || u->held_count > BUFFERS / 2)
		return 0;
	return REQUESTS;
}

/* False: not all of it. */
static bool ask_to_send(struct loop *loop, uint32_t *n)
{
	struct uring *u = loop->polling;
	struct thread_ring *t = u->at;

	list_for_each (node, &loop->later) {
		struct conn *conn = list_entry(node, struct conn, dirty);
		bool one = conn->iov_count == 1;
		struct io_uring_sqe *r;

		if (*n == REQUESTS)
			return false;
		r = uring_request(u, one ? IORING_OP_SEND : IORING_OP_SENDMSG, conn->fd, SEND, *n);
		t->messages[*n] = (struct msghdr){.msg_iov = conn->iov, .msg_iovlen = conn->iov_count};
		r->addr = one ? (uintptr_t)conn->iov->iov_base : (uintptr_t)&t->messages[*n];
		r->len = one ? (uint32_t)conn->iov->iov_len : 1;
		r->msg_flags = URING_SEND_FLAGS;
		r->flags = IOSQE_CQE_SKIP_SUCCESS;
		t->sent[*n] = conn;
		t->results[(*n)++] = INT32_MAX; /* all */
	}
	return true;
}

/* Where something is left to be done it is dirty again: the flush of this turn goes on from there. */
static void take_result(struct conn *conn, int32_t result)
{
	struct loop *loop = conn->loop;
	int r;

	list_remove(&conn->dirty);
	count(&loop->counters.sends, 1);
	if (result == INT32_MAX) {
		conn_sent(conn);
	} else {
		r = result >= 0 || result == -EAGAIN ? conn_sent_part(conn, (size_t)MAX(result, 0)) : result;
		if (r < 0) {
			conn_drop_output(conn); /* it points into memory of the turn that is over */
			conn->flags |= CONN_SEND_FAILED;
			conn->error = (uint8_t)-r;
		}
		conn_set_dirty(conn);
	}
	if (list_is_empty(&loop->later))
		turn_reset(loop);
}

/* ---- waiting ---- */

static bool any_has_come(const struct loop *lead)
{
	list_for_each (node, &lead->followers)
		if (has_come(list_entry(node, struct loop, following)->polling))
			return true;
	return has_come(lead->polling);
}

static void say_who_may_be_ready(const struct loop *lead)
{
	list_for_each (node, &lead->followers) {
		struct loop *follower = list_entry(node, struct loop, following);

		follower->may_be_ready |= has_come(follower->polling);
	}
}

/* Sends come first: the ring has room for all of them. False: some have to wait. */
static bool ask_for_all(struct loop *lead, uint32_t *sends)
{
	struct thread_ring *t = ((struct uring *)lead->polling)->at;
	bool all = can_send(t);

	if (all) {
		all = ask_to_send(lead, sends);
		list_for_each (node, &lead->followers)
			all &= ask_to_send(list_entry(node, struct loop, following), sends);
	}
	uring_ask(lead);
	list_for_each (node, &lead->followers)
		uring_ask(list_entry(node, struct loop, following));
	return all;
}

static int seat(struct loop *loop, struct thread_ring *t);

static void begin(struct loop *loop)
{
	struct uring *u = loop->polling;

	if (!u->own->is_enabled) {
		u->own->owner = pthread_self();
		u->own->is_enabled = ring_enable(&u->own->ring) == 0;
	}
	if (!u->is_seated && u->own->is_enabled && pthread_equal(u->own->owner, pthread_self()))
		(void)!seat(loop, u->own); /* without memory: in the next turn */
}

/* A follower's was done with the lead's. */
bool uring_wait(struct loop *loop, usec_t wait)
{
	struct uring *u = loop->polling;
	uint32_t sends = 0;
	bool all;

	if (unlikely(!u->is_seated))
		begin(loop);
	if (!is_ours(u) || u->at != u->own)
		return has_come(u);
	count(&loop->counters.waits, 1);
	all = ask_for_all(loop, &sends);
	if (!all || any_has_come(loop))
		wait = 0;
	if (wait > 0 || ring_has_work(&u->at->ring))
		ring_enter(&u->at->ring, wait);
	sort(u->at);
	for (uint32_t i = 0; i < sends; i++)
		take_result(u->at->sent[i], u->at->results[i]);
	say_who_may_be_ready(loop);
	return any_has_come(loop);
}

/* ---- from thread to thread ---- */

static int find_seat(struct thread_ring *t, uint32_t *ret_seat)
{
	uint32_t i = 0, more;
	struct loop **seats;

	while (i < t->seat_count && t->seats[i])
		i++;
	if (i == t->seat_count) {
		more = MAX(t->seat_count, SEATS_LEAST);
		seats = realloc(t->seats, (t->seat_count + more) * sizeof(struct loop *));
		if (!seats)
			return -ENOMEM;
		t->seats = seats;
		memset(&seats[i], 0, more * sizeof(struct loop *));
		t->seat_count += more;
	}
	*ret_seat = i;
	return 0;
}

/* What was under way is asked for anew when its end is dispatched. */
static int seat(struct loop *loop, struct thread_ring *t)
{
	struct uring *u = loop->polling;
	int r = find_seat(t, &u->seat);

	if (r < 0)
		return r;
	t->seats[u->seat] = loop;
	u->at = t;
	u->is_seated = true;
	uring_lend(u);
	return 0;
}

/* Those whose end has come already are asked for in vain; that says nothing. */
static void cancel_all(struct uring *u)
{
	for (uint32_t i = 0; i < u->slot_count; i++) {
		if (u->slots[i].under_way & BIT(RECEIVE))
			uring_cancel(u, name(RECEIVE, i), DONE, 0);
		if (u->slots[i].under_way & BIT(POLL))
			uring_cancel(u, name(POLL, i), DONE, 0);
	}
	if (u->wakes)
		uring_cancel(u, name(WAKE, 0), DONE, 0);
}

/* All that was queued is written. */
void uring_let_go(struct loop *loop)
{
	struct uring *u = loop->polling;
	uint32_t before;

	if (!is_ours(u))
		return;
	while (u->asked > 0) {
		cancel_all(u);
		do { /* what was just being done can't be cancelled: that is found out after a moment */
			before = u->asked;
			ring_enter_for(&u->at->ring, MIN(before, AT_ONCE), A_MOMENT);
			sort(u->at);
		} while (u->asked > 0 && u->asked < before);
	}
	uring_take_back(u);
	u->at->seats[u->seat] = NULL;
	u->at = u->own;
	u->is_seated = false;
}

int uring_follow(struct loop *loop, struct loop *lead)
{
	struct uring *u = loop->polling, *leading = lead->polling;

	begin(lead);
	return is_ours(leading) && !u->is_seated ? seat(loop, leading->at) : -EBUSY;
}

void uring_unfollow(struct loop *loop, struct loop *lead UNUSED)
{
	uring_let_go(loop);
}

/* ---- the ring itself ---- */

int uring_open_ring(struct uring *u)
{
	struct thread_ring *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return -ENOMEM;
	r = ring_open(&t->ring, REQUESTS, COMPLETIONS);
	if (r < 0) {
		free(t);
		return r;
	}
	u->at = u->own = t;
	return 0;
}

void uring_close_ring(struct uring *u)
{
	if (!u->own)
		return;
	ring_close(&u->own->ring);
	free(u->own->seats);
	free(u->own);
}
