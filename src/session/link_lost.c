/* A session whose link ends, or serves it no longer: it goes on without, if nothing is lost with it. */
#include "session/session_priv.h"

/* Exactly one answer is owed, none of it was given, nothing else is lost with the link. */
static bool can_survive(const struct session *s)
{
	const struct link *link = s->link;

	return s->state == SESSION_ACTIVE && s->mode != POOL_MODE_SESSION && !s->pins && link->tx_status == 'I' &&
	       link->expects.answers <= 1 && !link->answering && !link->fatal && s->left == 0 && link->left == 0 &&
	       !s->copying_in &&
	       (link->expects.count == 0 ||
		expect_ends_with_ready(expects_at(&link->expects, link->expects.count - 1)));
}

/* It goes on without its link: if an answer is owed, it is this error. */
static void survive(struct session *s, struct slice sqlstate, const uint8_t *error, size_t len)
{
	struct expects *e = &s->link->expects;
	struct buf out = BUF_INIT(len + 4096);
	bool owed = e->answers;

	observe_failed(s, expects_first(e), sqlstate);
	latency_lost(s);
	s->syncing = false;
	if (s->begin_state != BEGIN_DEFERRED)
		begin_fail(s);
	if (owed) {
		(void)!message_error_as(&out, error, len, "ERROR");
		message_ready(&out, begin_status(s));
		session_send_buf(s, &out);
		count_add(&session_counters(s)->query_errors_total, 1);
	}
	for (uint32_t i = e->count; i-- > 0;)
		prepared_undo(s, expects_at(e, i), /* failed= */ i == 0);
	for (bool first = true; e->count; first = false)
		answer_pop(s, /* skipped= */ !first);
	session_release(s);
	conn_resume(&s->conn);
	if (owed)
		cancel_drop_held(s); /* what they were for is answered */
	else
		cancel_held_back(s);
}

void answer_begin_refused(struct session *s, struct slice sqlstate, const uint8_t *error, size_t len)
{
	struct buf out = BUF_INIT(len + 4096);

	s->link->close_when_free = true;
	if (can_survive(s)) {
		survive(s, sqlstate, error, len);
		return;
	}
	(void)!message_error_as(&out, error, len, "FATAL");
	session_fatal_bytes(s, out.bytes, out.len, "a transaction that was deferred could not begin");
	buf_free(&out);
}

void answer_lost(struct link *link, int error)
{
	struct session *s = link->user;
	const char *why = error ? strerror(-error) : "the server closed the connection";
	bool in_transaction = link->tx_status != 'I' || s->begin_state != BEGIN_NONE;
	struct buf out = BUF_INIT(4096);

	if (s->state == SESSION_REPLICATION && s->said_goodbye) {
		link->close_when_free = true;
		session_finish(s, "closed by the client");
		return;
	}
	count_add(&session_counters(s)->links_lost_total, 1);
	session_log(LOG_WARN, s, "server connection lost", why);
	link->close_when_free = true;
	if (unlikely(session_is_away(s)) && s->state == SESSION_ACTIVE && routing_lost(s))
		return;
	if (link->left && !link->left_swallow) {
		session_finish(
			s, "the server closed its connection in the middle of a message"); /* no other fits in there */
		return;
	}
	if (link->fatal && s->state != SESSION_WELCOMING) {
		session_finish(s, "the server ended its connection"); /* it told the client why */
		return;
	}
	if (s->state == SESSION_WELCOMING || !can_survive(s)) {
		session_fatal(s, in_transaction ? ERROR_SERVER_LOST_IN_TRANSACTION : ERROR_SERVER_LOST, why);
		return;
	}
	error_message_as(&out, ERROR_SERVER_LOST, "ERROR", why);
	survive(s, SLICE_LITERAL("08006"), out.bytes, out.len);
	buf_free(&out);
}

void answer_expelled(struct link *link)
{
	session_fatal(link->user, node_bars(link_node(link)) & NODE_BARRED ? ERROR_NODE_BARRED : ERROR_NODE_DRAINED,
		      NULL);
}

/* A read runs on the primary instead; all else waits, for nobody knows what became of it. */
bool answer_stranded(struct link *link)
{
	struct session *s = link->user;

	if (!session_is_away(s) || !routing_can_leave(s))
		return false;
	session_log(LOG_INFO, s, "its standby is down: a read that has no answer yet is run again",
		    link_node(link)->name);
	link->close_when_free = true;
	(void)routing_repeat(s);
	return true;
}
