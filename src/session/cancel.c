/*
 * CancelRequest: the key that a client was given leads to its session, wherever that is; what the session runs now is
 * cancelled, or its waiting ends. The process id is (worker, slot); the secret tells sessions apart that had the
 * same slot. A link that is being cancelled does not change hands until the server is done with the cancel, so that
 * nobody else's query can be hit. A cancel that would hit what the proxy put in front of the client's query waits until
 * the server is done with that. A key that leads nowhere may be one of the process before (cancel_relay.c).
 */
#include "session/cancel_priv.h"

#include "base/log.h"

#include <openssl/crypto.h>

/* A process id that drivers take for one: positive, not zero. */
#define SLOT_BITS 23

uint32_t session_pid(const struct session *s)
{
	return (s->worker->pool_thread.index << SLOT_BITS | s->slot) + 1;
}

static void comes_back(struct loop_message *message, void *thread)
{
	struct cancel_message *m = container_of(message, struct cancel_message, message);

	(void)thread;
	m->over(m);
}

void cancel_is_over(void *message)
{
	struct cancel_message *m = message;

	wipe(m->key, sizeof(m->key));
	m->message.run = comes_back;
	loop_post(m->from->pool_thread.loop, &m->message);
}

static struct session *find(struct worker *w, const struct cancel_message *m)
{
	uint32_t slot = (m->pid - 1) & ((1u << SLOT_BITS) - 1);
	struct session *s = slot < w->slot_count ? w->slots[slot] : NULL;

	if (!s || ((uintptr_t)s & 1) || m->key_len != (s->long_key ? 32 : 4) ||
	    CRYPTO_memcmp(s->secret, m->key, m->key_len) != 0)
		return NULL;
	return s;
}

/* What the server runs is the proxy's own: without its settings, for one, what the client asks for must not run. */
static bool is_behind_ours(const struct session *s)
{
	const struct expect *x = expects_first(&s->link->expects);

	return x && x->flags & EXPECT_SWALLOW && expect_ends_with_ready(x);
}

/* ---- a request that no server has ---- */

static bool owes_nothing(const struct session *s)
{
	const struct link *link = s->link;

	return !link || (link->expects.answers == 0 && !link->open_batch && link->tx_status == 'I' && !s->pins &&
			 (s->mode != POOL_MODE_SESSION || link->fresh));
}

/*
 * It stands at the head of its client's bytes. What it waited for has come, or is no longer to be waited for, and it is
 * shown again before this turn is over; or it has a link that is not ready for it. A cancel that comes now is for it:
 * there is nothing else that it could be for.
 */
static bool request_waits(const struct session *s)
{
	struct slice kept = conn_kept(&s->conn);
	enum frame_result r;
	struct frame f;

	if ((s->state != SESSION_IDLE && s->state != SESSION_ACTIVE) || s->fail_next || s->skip_to_sync ||
	    s->hold_ready || s->left || !owes_nothing(s))
		return false;
	r = frame_read(kept.bytes, kept.len, &f);
	if (r != FRAME_WHOLE && !(r == FRAME_HEAD && f.body_len > s->worker->settings.config->limits.max_message_kept))
		return false; /* it is its rest that is waited for */
	return memchr("QFPBDEC", f.type, 7);
}

void cancel_waiting(struct session *s)
{
	struct buf out = BUF_INIT(1024);

	(void)routing_stop_waiting(s);
	s->repeated = false;
	s->routed = true; /* to where it is canceled */
	error_message(&out, ERROR_CANCELED_WAITING, NULL);
	session_fail_request(s, out.bytes, out.len);
	buf_free(&out);
}

/* ---- a cancel that the server may have missed ---- */

/*
 * A server that has not begun with a request takes its cancel for one of nothing. That may be so when the cancel was
 * held back, for it is sent when the proxy's own is done; and when the request has only just got its link. So such a
 * cancel is repeated, as long as the request still runs.
 */
#define AGAIN_AFTER (20 * USEC_PER_MSEC)
#define TRIES_MAX   10u
#define JUST_SENT   (100 * USEC_PER_MSEC)

static bool cancel_session(struct session *s, struct cancel_message *m);

/*
 * And only where one too many can hit nothing else: nothing was sent behind it, and when it is over its link is given
 * back, which waits for the end of cancels.
 */
static bool still_runs(const struct session *s)
{
	const struct link *link = s ? s->link : NULL;
	const struct expect *x = link ? expects_first(&link->expects) : NULL;

	if (s && s->state == SESSION_SHARED)
		return share_is_cancelled(s);
	return x && x->flags & EXPECT_CANCEL && link->expects.answers == 1 && link->tx_status == 'I' &&
	       !link->begin_sent && s->mode != POOL_MODE_SESSION && !s->pins;
}

static void send_again(struct timer *timer)
{
	struct cancel_message *m = container_of(timer, struct cancel_message, again);
	struct session *s = find(m->at, m);

	list_remove(&m->node);
	if (!still_runs(s) || !cancel_session(s, m))
		cancel_is_over(m);
}

/* The server has closed the connection over which it was asked. */
static void look_again(void *message)
{
	struct cancel_message *m = message;

	if (m->at->closing || !still_runs(find(m->at, m)) || ++m->tries == TRIES_MAX) {
		cancel_is_over(m);
		return;
	}
	timer_init(&m->again, send_again);
	list_push_back(&m->at->cancels, &m->node);
	timer_set(loop_timers(m->at->pool_thread.loop), &m->again, clock_now() + AGAIN_AFTER);
}

void cancels_end(struct worker *w)
{
	struct list *node;

	while ((node = list_first(&w->cancels))) {
		struct cancel_message *m = list_entry(node, struct cancel_message, node);

		list_remove(node);
		timer_cancel(&m->again);
		cancel_is_over(m);
	}
}

/* The client's oldest request: its entries up to ReadyForQuery. */
static void mark_request(struct expects *e)
{
	for (uint32_t i = 0; i < e->count; i++) {
		struct expect *x = expects_at(e, i);

		x->flags |= EXPECT_CANCEL;
		if (expect_ends_with_ready(x) && !(x->flags & EXPECT_SWALLOW))
			break;
	}
}

/* What the server runs is to be cancelled. */
static bool send_cancel(struct session *s, struct link *link, struct cancel_message *m)
{
	usec_t sent = s->link ? link->lent : share_sent(s);

	if (s->link)
		mark_request(&link->expects);
	else
		share_mark_cancelled(s);
	if (s->fault || clock_since(sent, clock_now()) < JUST_SENT)
		m->at = s->worker;
	if (pool_cancel(link, m->at ? look_again : cancel_is_over, m) == 0)
		return true;
	session_log(LOG_WARN, s, "could not send a cancel to the server", NULL);
	return false;
}

/* The proxy's own runs in front of the client's request, if there is one. Settings that it waits for may be hit, for
 * then it was not sent, and ends with the same error; if they are missed, it ends when they are accepted. */
static bool hold_back(struct session *s, struct cancel_message *m)
{
	if (!s->link->expects.answers && !s->link->open_batch && !request_waits(s))
		return false;
	if (s->syncing)
		(void)!pool_cancel(s->link, NULL, NULL);
	m->next = s->cancels;
	s->cancels = m;
	return true;
}

/* true: m goes on, with the cancel to the server, or is held back. */
static bool cancel_session(struct session *s, struct cancel_message *m)
{
	struct link *link = s->state == SESSION_SHARED ? share_cancellable(s) : s->link;

	if (s->state == SESSION_CONSOLE) {
		console_cancelled(s);
	} else if (s->state == SESSION_WAITING || (s->state == SESSION_SHARED && !link)) {
		pool_wait_end(&s->waiter);
		if (s->turn)
			share_leave(s);
		cancel_waiting(s);
	} else if (link && s->link && is_behind_ours(s)) {
		return hold_back(s, m);
	} else if (request_waits(s)) {
		cancel_waiting(s);
	} else if (link && (link->expects.count || link->tx_status != 'I' || s->state == SESSION_REPLICATION ||
			    s->state == SESSION_SHARED)) {
		return send_cancel(s, link, m);
	}
	return false;
}

void cancel_held_back(struct session *s)
{
	struct cancel_message *m = s->cancels, *next;

	s->cancels = NULL;
	if (m && s->link)
		mark_request(&s->link->expects);
	for (; m; m = next) {
		next = m->next;
		m->at = s->worker;
		if (!cancel_session(s, m))
			cancel_is_over(m);
	}
}

void cancel_drop_held(struct session *s)
{
	struct cancel_message *m = s->cancels, *next;

	s->cancels = NULL;
	for (; m; m = next) {
		next = m->next;
		cancel_is_over(m);
	}
}

static void cancel_arrives(struct loop_message *message, void *thread)
{
	struct cancel_message *m = container_of(message, struct cancel_message, message);
	struct worker *w = thread;
	struct session *s = find(w, m);

	if (s ? !s->logged || !cancel_session(s, m) : !cancel_ask_predecessors(w, m))
		cancel_is_over(m);
}

bool cancel_begin(struct cancel_message *m, uint32_t pid, struct slice key)
{
	const struct sessions_shared *shared = m->from->shared;
	uint32_t index = (pid - 1) >> SLOT_BITS;

	if (key.len > sizeof(m->key))
		return false;
	if (index >= shared->worker_count) { /* the process before may have had more of them */
		if (shared->predecessors.count == 0)
			return false;
		index = m->from->pool_thread.index;
	}
	m->message.run = cancel_arrives;
	m->pid = pid;
	m->key_len = (uint32_t)key.len;
	memcpy(m->key, key.bytes, key.len);
	loop_post(shared->workers[index]->pool_thread.loop, &m->message);
	return true;
}

/* ---- a statement that takes too long ---- */

/* Who waits for the end of the cancel; by then he may be gone. */
struct overdue {
	struct worker *worker;
	uint32_t slot;
	uint64_t serial;
};

static void overdue_is_over(void *argument)
{
	struct overdue *o = argument;
	struct worker *w = o->worker;
	struct session *s = o->slot < w->slot_count ? w->slots[o->slot] : NULL;

	if (s && !((uintptr_t)s & 1) && s->serial == o->serial) {
		s->cancelling = false;
		if (!s->link || s->link->expects.answers == 0)
			hinted_go_on(s);
	}
	free(o);
}

bool cancel_overdue(struct session *s)
{
	struct overdue *o = is_behind_ours(s) ? NULL : malloc(sizeof(*o));

	if (!o)
		return false;
	*o = (struct overdue){s->worker, s->slot, s->serial};
	if (pool_cancel(s->link, overdue_is_over, o) == 0) {
		s->cancelling = true;
		return true;
	}
	free(o);
	return false;
}

/* ---- asked for by an operator ---- */

static void forget(struct cancel_message *m)
{
	free(m);
}

/* Rather than idle, or idle in a transaction. */
static bool is_at_work(struct session *s)
{
	switch (s->state) {
	case SESSION_WAITING:
	case SESSION_SHARED:
	case SESSION_REPLICATION:
		return true;
	case SESSION_CONSOLE:
		return console_is_at_work(s);
	default:
		return (s->link && s->link->expects.answers > 0) || request_waits(s);
	}
}

static struct session *find_session(const struct worker *w, uint32_t pid)
{
	uint32_t slot = (pid - 1) & ((1u << SLOT_BITS) - 1);
	struct session *s = slot < w->slot_count ? w->slots[slot] : NULL;

	return s && !((uintptr_t)s & 1) && session_pid(s) == pid && s->logged ? s : NULL;
}

struct node *worker_session_node(struct worker *w, uint32_t pid)
{
	const struct session *s = find_session(w, pid);
	const struct link *link = !s ? NULL : s->link ? s->link : share_link(s);

	return link ? link_node(link) : NULL;
}

/* As if its client had asked, with the key that it was given; but nobody is there who would ask once more, should the
 * server not have begun yet. */
enum cancel_verdict worker_cancel_session(struct worker *w, uint32_t pid)
{
	struct session *s = find_session(w, pid);
	struct cancel_message *m;

	if (!s)
		return CANCEL_NO_SESSION;
	if (!is_at_work(s))
		return CANCEL_NOTHING_RUNS;
	if (hinted_cancel(s)) {
		session_tell(s, EVENT_SESSION_CANCELLED, "cancelled by an operator");
		return CANCEL_BEGUN;
	}
	m = malloc(sizeof(*m));
	if (!m)
		return CANCEL_NO_MEMORY;
	*m = (struct cancel_message){.from = w, .over = forget, .pid = pid, .key_len = s->long_key ? 32 : 4};
	memcpy(m->key, s->secret, m->key_len);
	session_tell(s, EVENT_SESSION_CANCELLED, "cancelled by an operator");
	if (!cancel_session(s, m))
		cancel_is_over(m);
	return CANCEL_BEGUN;
}

/* ---- asked for by a client ---- */

static void close_cancel_connection(struct cancel_message *m)
{
	struct worker *w = m->from;
	struct session *s = m->from_slot < w->slot_count ? w->slots[m->from_slot] : NULL;

	if (s && !((uintptr_t)s & 1) && s->serial == m->from_serial)
		session_close(s, "cancel request");
	free(m);
}

bool cancel_request(struct session *s, uint32_t pid, struct slice key)
{
	struct cancel_message *m = malloc(sizeof(*m));

	if (!m)
		return false;
	*m = (struct cancel_message){
		.from = s->worker, .over = close_cancel_connection, .from_slot = s->slot, .from_serial = s->serial};
	if (cancel_begin(m, pid, key))
		return true;
	free(m);
	return false;
}
