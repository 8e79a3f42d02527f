/*
 * From the client to the server. Bytes go by reference from the client's receive to the link's send; only the header of
 * a message is looked at, and of a query its text. A message that needs a link while there is none stays with the
 * loop, unread, until the session has one.
 */
#include "session/session_priv.h"

#include "base/log.h"
#include "base/map.h"
#include "session/underway.h"

/* ---- passing on ---- */

static void send_to_link(struct session *s, const uint8_t *bytes, size_t len)
{
	struct link *link = s->link;

	conn_send_ref(&link->conn, bytes, len);
	if (unlikely(conn_queued(&link->conn) > CONN_HIGH_WATER && !s->paused_for_link)) {
		s->paused_for_link = true;
		conn_pause(&s->conn);
	}
}

size_t session_pass_on(struct session *s, const struct frame *f, const uint8_t *whole, size_t available)
{
	size_t now = MIN(frame_size(f), available);

	send_to_link(s, whole, now);
	s->left = frame_size(f) - now;
	s->left_dropped = false;
	return now;
}

size_t session_pass_on_text(struct session *s, const struct frame *f, const uint8_t *whole, size_t available,
			    size_t text_at)
{
	size_t now = MIN(frame_size(f), available), head = 0;
	uint8_t *bytes;

	if (now > text_at && hints_may_begin(whole[text_at]))
		head = hinted_head(s, whole, text_at, now - text_at, &bytes);
	if (head)
		send_to_link(s, bytes, head);
	send_to_link(s, whole + head, now - head);
	s->left = frame_size(f) - now;
	s->left_dropped = false;
	return now;
}

static size_t drop(struct session *s, const struct frame *f, size_t available)
{
	size_t now = MIN(frame_size(f), available);

	s->left = frame_size(f) - now;
	s->left_dropped = true;
	return now;
}

static size_t pass_on_rest(struct session *s, const uint8_t *bytes, size_t len)
{
	size_t now = MIN(s->left, len);

	if (!s->left_dropped && s->link)
		send_to_link(s, bytes, now);
	s->left -= now;
	return now;
}

int session_expect(struct session *s, enum expect_kind kind, uint8_t flags, uint8_t purpose, void *object)
{
	struct link *link = s->link;
	struct expect x = {.kind = (uint8_t)kind, .flags = flags, .purpose = purpose, .object = object};

	if (kind <= EXPECT_FUNCTION && !(flags & EXPECT_SWALLOW))
		x.began = latency_take_begin(s);
	if (!(flags & EXPECT_SWALLOW) && (link->fresh || (link->expects.count == 0 && link->tx_status == 'I'))) {
		link->fresh = false;
		s->learned = false;
		effects_mark(s);
		link->unnamed_in_transaction = false;
		link->shares = link->unnamed_in_batch = false;
		link->batch.len = 0;
	}
	if (unlikely(link->expects.count >= s->worker->settings.config->limits.max_pipeline && !s->paused_for_link)) {
		s->paused_for_link = true; /* goes on when half of them are answered */
		conn_pause(&s->conn);
	}
	if (kind >= EXPECT_PARSE && !(flags & EXPECT_LOCAL))
		link->open_batch = true;
	return expects_push(&link->expects, x);
}

/* Pushes, or ends the session when there is no memory. */
static bool expect(struct session *s, enum expect_kind kind, void *object)
{
	if (likely(session_expect(s, kind, 0, PURPOSE_CLIENT, object) == 0))
		return true;
	session_fatal(s, ERROR_OUT_OF_MEMORY, NULL);
	return false;
}

/* ---- getting a link ---- */

/* Some plan turned out to be older than the schema: the link forgets all its statements, ahead of what comes next. */
static void prepare_anew(struct session *s)
{
	struct link *link = s->link;
	struct buf out = BUF_INIT(256);

	link->statements_epoch = pool_statements_epoch(session_pool(s));
	if (link->statements.count == 0 && !link->has_unnamed)
		return;
	message_query(&out, SLICE_LITERAL("DEALLOCATE ALL"));
	if (out.failed || expects_push(&link->expects, (struct expect){.kind = EXPECT_QUERY,
								       .flags = EXPECT_SWALLOW,
								       .purpose = PURPOSE_STATEMENT}) < 0) {
		link->close_when_free = true; /* no memory: at least it does not stay */
	} else {
		conn_send(&link->conn, out.bytes, out.len);
		statement_set_clear(&link->statements);
		link->has_unnamed = false;
	}
	buf_free(&out);
}

static void take_link(struct session *s, struct link *link)
{
	link_lend(link, &session_link_ops, s);
	s->link = link;
	s->mode = (uint8_t)session_settings(s)->mode;
	link->changed = false;
	link->fresh = true;
	if (unlikely(link->statements_epoch != pool_statements_epoch(session_pool(s))))
		prepare_anew(s);
	session_set_state(s, SESSION_ACTIVE);
}

bool session_need_link(struct session *s)
{
	struct link *link;

	if (likely(!s->link)) {
		link = pool_take(s->source);
		if (unlikely(!link)) {
			if (unlikely(contested_refuses(s)))
				return false;
			observe_waits(s);
			session_set_state(s, SESSION_WAITING);
			session_set_timer(s, TIMER_WAIT, session_settings(s)->query_wait_timeout);
			if (!pool_wait(s->source, &s->waiter)) {
				struct buf out = BUF_INIT(1024);

				error_message(&out, ERROR_TOO_MANY_WAITING, NULL);
				session_fail_request(s, out.bytes, out.len);
				buf_free(&out);
			}
			return false;
		}
		take_link(s, link);
	}
	link = s->link;
	if (link->fresh || (link->tx_status == 'I' && link->expects.count == 0))
		return settings_sync(s) && (likely(s->begin_state == BEGIN_NONE) || begin_go_on(s));
	return !s->syncing;
}

void session_use_link(struct session *s, struct link *link)
{
	take_link(s, link);
	session_set_timer(s, TIMER_WAIT, 0);
	conn_resume(&s->conn);
}

static void granted(struct waiter *waiter, struct link *link)
{
	struct session *s = container_of(waiter, struct session, waiter);

	if (s->state == SESSION_WELCOMING || s->state == SESSION_AUTH) {
		login_link_granted(s, link);
		return;
	}
	session_use_link(s, link);
}

/* The standby that was chosen can't be had; the primary can, maybe. */
static void wait_at_home(struct session *s)
{
	s->repeated = true;
	s->routed = false;
	session_set_state(s, SESSION_IDLE);
	session_set_timer(s, TIMER_WAIT, 0);
	conn_resume(&s->conn);
}

static void failed(struct waiter *waiter, const struct link_failure *failure)
{
	struct session *s = container_of(waiter, struct session, waiter);

	if (s->state == SESSION_WELCOMING || s->state == SESSION_AUTH)
		login_link_failed(s, failure);
	else if (session_is_away(s))
		wait_at_home(s);
	else
		session_fail_request(s, failure->error, failure->error_len);
}

const struct waiter_ops session_waiter_ops = {.granted = granted, .failed = failed};

/* ---- failing ---- */

/* The same error, but not FATAL: the session goes on. */
static void send_error(struct session *s, const uint8_t *error, size_t len)
{
	struct buf out = BUF_INIT(len + 65536);

	if (message_error_as(&out, error, len, "ERROR"))
		session_send_buf(s, &out);
	else
		buf_free(&out);
	count_add(&session_counters(s)->query_errors_total, 1);
}

static void send_ready(struct session *s, char status)
{
	uint8_t ready[] = {'Z', 0, 0, 0, 5, (uint8_t)status};

	conn_send(&s->conn, ready, sizeof(ready));
}

/*
 * What waits at the head of the client's bytes is to be answered with an error, as the server would: a simple query or
 * function call gets the error and ReadyForQuery, an extended message the error, and all up to Sync is skipped.
 */
void session_fail_request(struct session *s, const uint8_t *error, size_t len)
{
	begin_fail(s);
	send_error(s, error, len);
	s->fail_next = true;
	if (unlikely(s->worker->pipeline))
		observe_refusal(s, error, len);
	if (s->link && s->link->expects.count == 0)
		session_release(s);
	else if (s->state == SESSION_WAITING)
		session_set_state(s, SESSION_IDLE);
	begin_set_idle_timer(s);
	conn_resume(&s->conn);
}

static size_t fail_this(struct session *s, const struct frame *f, size_t available)
{
	s->fail_next = false;
	if (unlikely(s->worker->pipeline))
		observe_refused(s, f, available);
	if (f->type == 'Q' || f->type == 'F' || f->type == 'S') {
		latency_answered_here(s);
		send_ready(s, begin_status(s));
		s->routed = false;
	} else {
		s->skip_to_sync = true;
	}
	return drop(s, f, available);
}

/* ---- simple queries ---- */

static void answer_simple(struct session *s, const char *tag)
{
	struct buf out = BUF_INIT(1024);

	message_command_complete(&out, tag);
	message_ready(&out, 'I');
	latency_answered_here(s);
	session_send_buf(s, &out);
}

/*
 * In the shared modes, outside of a transaction and without a pinned link, the proxy keeps prepared statements for the
 * server; so it answers what would end them.
 */
static bool answers_itself(struct session *s, const struct query_info *info)
{
	const struct statement *st = &info->scan.statements[0];
	char name[256];

	if (info->scan.count != 1 || info->opaque || s->begin_state != BEGIN_NONE ||
	    session_settings(s)->mode == POOL_MODE_SESSION)
		return false;
	if (s->link && (s->pins || s->link->expects.count || s->link->tx_status != 'I'))
		return false;
	switch (st->verb) {
	case VERB_DEALLOCATE:
		scan_identifier(st->name, name, sizeof(name));
		if (!prepared_forget(s, slice_str(name)))
			return false;
		answer_simple(s, "DEALLOCATE");
		return true;
	case VERB_DEALLOCATE_ALL:
		prepared_forget_all(s);
		answer_simple(s, "DEALLOCATE ALL");
		return true;
	case VERB_DISCARD_ALL:
		if (s->settings != s->startup_settings)
			return false; /* the server has to tell what the parameters are then */
		prepared_forget_all(s);
		answer_simple(s, "DISCARD ALL");
		return true;
	default:
		return false;
	}
}

/* In a transaction, or behind other messages, the server has to see an error for its own state to be right: it gets
 * something that it refuses, and the client gets our error in place of the server's. */
static bool send_refused(struct session *s, const struct buf *error)
{
	struct buf out = BUF_INIT(1024), *copy = malloc(sizeof(*copy));

	if (!copy)
		return false;
	*copy = BUF_INIT(65536);
	buf_add(copy, error->bytes, error->len);
	message_query(&out, SLICE_LITERAL("refused by the proxy"));
	if (copy->failed || out.failed || session_expect(s, EXPECT_QUERY, EXPECT_REPLACE, PURPOSE_CLIENT, copy) < 0) {
		buf_free(copy);
		free(copy);
		buf_free(&out);
		return false;
	}
	conn_send(&s->link->conn, out.bytes, out.len);
	s->link->has_unnamed = false;
	buf_free(&out);
	return true;
}

/* A query's text, or what has come of it. */
static struct slice text_there(const struct frame *f, size_t available)
{
	return available < frame_size(f) ? slice_make(f->body, available - FRAME_HEADER)
					 : slice_make(f->body, f->body_len - 1);
}

static size_t refuse_query(struct session *s, const struct frame *f, size_t available, enum proxy_error error,
			   const char *what)
{
	struct buf out = BUF_INIT(4096);

	error_message(&out, error, NULL, what ? what : "this", pool_mode_name(session_settings(s)->mode));
	if (s->link) {
		if (!send_refused(s, &out))
			session_fatal(s, ERROR_OUT_OF_MEMORY, NULL);
		else if (unlikely(s->worker->pipeline))
			observe_query(s, expects_last(&s->link->expects), text_there(f, available),
				      available >= frame_size(f));
	} else {
		begin_fail(s);
		latency_answered_here(s);
		if (unlikely(s->worker->pipeline)) {
			observe_refusal(s, out.bytes, out.len);
			observe_refused(s, f, available);
		}
		send_error(s, out.bytes, out.len);
		send_ready(s, begin_status(s));
	}
	buf_free(&out);
	return drop(s, f, available);
}

static NEVER_INLINE size_t pass_on_hinted(struct session *s, const struct frame *f, const uint8_t *whole,
					  size_t available)
{
	hinted_tell_of(s, text_there(f, available));
	return session_pass_on_text(s, f, whole, available, FRAME_HEADER);
}

static bool is_at_end(const uint8_t *at, const uint8_t *end)
{
	while (at < end && strchr(" \t\r\n\f\v;", *at))
		at++;
	return at == end;
}

/* It has several statements, or may have. */
static bool has_several(const struct session *s, struct slice text)
{
	const uint8_t *semicolon = memchr(text.bytes, ';', text.len);
	struct scan scan;
	bool several;

	if (!semicolon || is_at_end(semicolon, text.bytes + text.len))
		return false;
	if (params_marks(s->reported) & PARAMS_ENCODING)
		return true; /* who knows what is within its characters */
	if (scan_text((const char *)text.bytes, text.len, 0, !(params_marks(s->reported) & PARAMS_BACKSLASHES), &scan) <
	    0)
		return true;
	several = scan.count > 1 || scan.truncated;
	scan_free(&scan);
	return several;
}

/* By [pool] simple_query. */
static bool is_refused_by_protocol(const struct session *s, struct slice text, bool complete, enum proxy_error *ret)
{
	bool single = session_settings(s)->simple_query == SIMPLE_QUERY_SINGLE;

	*ret = single ? ERROR_SEVERAL_STATEMENTS : ERROR_SIMPLE_QUERY_REFUSED;
	return !single || !complete || has_several(s, text);
}

static size_t simple_query(struct session *s, const struct frame *f, const uint8_t *whole, size_t available)
{
	bool complete = available >= frame_size(f);
	size_t text_len = MIN(f->body_len, available - FRAME_HEADER);
	enum proxy_error error;
	const char *what = NULL;
	struct query_info *info;
	struct expect *x;

	if (!complete && f->body_len <= s->worker->settings.config->limits.max_message_kept)
		return 0;
	if (complete && (f->body_len == 0 || f->body[f->body_len - 1] != 0)) {
		session_fatal(s, ERROR_PROTOCOL_VIOLATION, "a query without its end");
		return available;
	}
	if (!complete && text_len < HINT_BYTES_MAX) /* else hints may be cut */
		return 0;
	if (unlikely(s->limits_simple) &&
	    is_refused_by_protocol(s, slice_make(f->body, text_len - complete), complete, &error)) {
		query_infos_forget_found(&s->worker->queries); /* it was of another text */
		return refuse_query(s, f, available, error, NULL);
	}
	if (text_len > 0 && unlikely(hinted_may_begin(s, *f->body)) && !hinted_begin(s, text_there(f, available)))
		return 0;
	info = query_info_get(&s->worker->queries, slice_make(f->body, complete ? text_len - 1 : text_len), complete);
	if (unlikely(info)) {
		if (effects_before(s, info, &error, &what) == POLICY_REFUSED) {
			query_info_unref(info);
			return refuse_query(s, f, available, error, what);
		}
		if (complete && (begin_answers(s, info, text_len - 1) || answers_itself(s, info))) {
			if (unlikely(s->worker->pipeline))
				observe_answered_here(s, slice_make(f->body, text_len - 1), /* statement= */ NULL);
			query_info_unref(info);
			return frame_size(f);
		}
	}
	if (!session_need_link(s)) {
		query_info_unref(info);
		return 0;
	}
	if (unlikely(info && info->scan.marks & SCAN_SESSION_ADVISORY_LOCK))
		session_pin(s, PIN_ADVISORY);
	if (unlikely(info && info->deallocates) && !prepared_before_deallocate(s, info)) {
		query_info_unref(info);
		return s->waits_for_name ? 0 : available;
	}
	if (!expect(s, EXPECT_QUERY, info))
		return available;
	if (unlikely(info && info->deallocates))
		prepared_pushed_deallocate(s);
	if (unlikely(info))
		prepared_note_changes(s, info);
	x = expects_last(&s->link->expects);
	underway_query(s, x, f->body, complete ? text_len - 1 : text_len);
	s->unnamed_kept = false;
	if (unlikely(s->worker->pipeline))
		observe_query(s, x, slice_make(f->body, complete ? text_len - 1 : text_len), complete);
	s->link->begin_sent = s->link->begin_sent || info;
	if (s->mode == POOL_MODE_SESSION && (info || memchr(f->body, '(', text_len) || memchr(f->body, '$', text_len)))
		s->link->changed = true; /* a function, or a DO, may do anything */
	s->link->has_unnamed = false;    /* a simple query ends the unnamed statement */
	s->batch++;
	if (s->unnamed || s->unnamed_pending)
		prepared_forget_unnamed(s);
	count_add(&session_stats(s)->queries, 1);
	return text_len > 0 && unlikely(hints_may_begin(*f->body)) ? pass_on_hinted(s, f, whole, available)
								   : session_pass_on(s, f, whole, available);
}

/* ---- the other messages ---- */

static size_t function_call(struct session *s, const struct frame *f, const uint8_t *whole, size_t available)
{
	if (!session_need_link(s))
		return 0;
	if (!expect(s, EXPECT_FUNCTION, NULL))
		return available;
	count_add(&session_stats(s)->queries, 1);
	return session_pass_on(s, f, whole, available);
}

/* Without a link all that came before was answered here: so is Sync. */
static size_t sync(struct session *s, const struct frame *f, const uint8_t *whole, size_t available)
{
	if (f->body_len != 0) {
		session_fatal(s, ERROR_PROTOCOL_VIOLATION, "malformed Sync");
		return available;
	}
	if (!s->link) {
		s->skip_to_sync = false;
		latency_answered_here(s);
		send_ready(s, begin_status(s));
		return FRAME_HEADER;
	}
	s->skip_to_sync = false;
	s->batch++;
	if (!s->copying_in && !expect(s, EXPECT_SYNC, NULL))
		return available;
	return session_pass_on(s, f, whole, available);
}

static size_t flush(struct session *s, const struct frame *f, const uint8_t *whole, size_t available)
{
	s->came = 0; /* the client may think about the answer before it sends the rest */
	if (!s->link)
		return drop(s, f, available);
	answer_locals(s);
	return session_pass_on(s, f, whole, available);
}

/* Copy data without a copy is what is left of one that failed: PostgreSQL ignores it, too. */
static size_t copy_message(struct session *s, const struct frame *f, const uint8_t *whole, size_t available)
{
	if (!s->link)
		return drop(s, f, available);
	if (f->type != 'd') {
		if (s->link->expects.count && !expect(s, EXPECT_COPY_END, NULL))
			return available;
		s->copying_in = false;
	}
	return session_pass_on(s, f, whole, available);
}

/* The message, which ends a batch, was taken or not: what comes behind it may go elsewhere. */
static size_t end_batch(struct session *s, size_t taken)
{
	if (taken)
		s->routed = false;
	return taken;
}

/* The copy fails of it, and that is its answer. */
static size_t break_copy(struct session *s, const struct frame *f, const uint8_t *whole, size_t available)
{
	s->copying_in = false;
	s->routed = s->routed && f->type != 'Q' && f->type != 'F';
	return session_pass_on(s, f, whole, available);
}

/* One message, or its beginning. Bytes taken; 0: it must wait, for its rest or for a link. */
static size_t one_message(struct session *s, const struct frame *f, uint8_t *whole, size_t available)
{
	if (unlikely(s->fail_next && f->type != 'X'))
		return fail_this(s, f, available);
	if (unlikely(s->skip_to_sync && f->type != 'S' && f->type != 'X'))
		return drop(s, f, available);
	if (unlikely(s->copying_in && strchr("QPBDECF", f->type)))
		return break_copy(s, f, whole, available);
	switch (f->type) {
	case 'Q':
		return end_batch(s, simple_query(s, f, whole, available));
	case 'P':
	case 'B':
	case 'D':
	case 'C':
	case 'E':
		return extended_request(s, f, whole, available);
	case 'S':
		return end_batch(s, sync(s, f, whole, available));
	case 'H':
		return flush(s, f, whole, available);
	case 'd':
	case 'c':
	case 'f':
		return copy_message(s, f, whole, available);
	case 'F':
		return end_batch(s, function_call(s, f, whole, available));
	case 'X':
		conn_end_input(&s->conn);
		return available;
	default:
		session_fatal(s, ERROR_PROTOCOL_VIOLATION, "invalid frontend message type");
		return available;
	}
}

/* ---- the client's end ---- */

/* Does some of its batch still wait for an answer? What the server holds back for a Sync that never comes is asked for:
 * behind a Flush of the client's it would have been sent. */
static bool batch_is_owed(struct session *s)
{
	static const uint8_t flush_message[] = {'H', 0, 0, 0, 4};
	const struct expects *e = &s->link->expects;
	bool owed = false;

	answer_locals(s);
	for (uint32_t i = 0; i < e->count && !owed; i++)
		owed = !(expects_at(e, i)->flags & EXPECT_SWALLOW);
	if (owed && !s->flushed_at_end)
		conn_send_ref(&s->link->conn, flush_message, sizeof(flush_message));
	s->flushed_at_end = s->flushed_at_end || owed;
	return owed;
}

bool request_is_owed(struct session *s, const uint8_t *bytes, size_t len)
{
	struct frame f;
	uint32_t answers;
	bool half = s->left && !s->left_dropped;

	if (frame_read(bytes, len, &f) == FRAME_WHOLE)
		return true;           /* it waits for a link, its settings, or the fate of a name */
	if (!s->link || s->copying_in) /* a copy without its end fails */
		return false;
	if (s->syncing || s->hold_ready)
		return true;
	answers = s->link->expects.answers;
	if (half && answers && expect_ends_with_ready(expects_last(&s->link->expects)))
		answers--; /* the server never sees all of this query */
	return answers > 0 || (!half && batch_is_owed(s));
}

void session_arm_query_timer(struct session *s)
{
	const struct config_pool *p = session_settings(s);
	usec_t limit = p->query_timeout;

	if (unlikely(p->transaction_timeout) && !s->transaction_until)
		session_limit_transaction(s, p->transaction_timeout);
	if (unlikely(s->timeout))
		hinted_arm_timer(s);
	else if (unlikely(limit || timer_is_set(&s->timer)) && s->timer_meaning != TIMER_QUERY)
		session_set_timer(s, TIMER_QUERY, limit);
}

static size_t take_requests(struct session *s, uint8_t *bytes, size_t len)
{
	size_t at = 0, taken;
	bool from_message = s->left == 0, routes = s->worker->routing;
	struct frame f;

	s->synced = false;
	if (unlikely(routes) && !s->routed && from_message && !routing_begin(s, bytes, len)) {
		latency_waits(s, bytes, len);
		return 0;
	}
	if (!s->link && unlikely(session_settings(s)->share != SHARE_OFF) && share_request(s, bytes, len))
		return 0;
	while (at < len) {
		if (s->left) {
			at += pass_on_rest(s, bytes + at, len - at);
			continue;
		}
		switch (frame_read(bytes + at, len - at, &f)) {
		case FRAME_SHORT:
			goto out;
		case FRAME_BAD:
			session_fatal(s, ERROR_PROTOCOL_VIOLATION, "invalid message length");
			return len;
		case FRAME_HEAD:
		case FRAME_WHOLE:
			break;
		}
		if ((unlikely(s->timeout) && hinted_holds(s, f.type)) ||
		    (unlikely(routes) && !s->routed && !routing_begin(s, bytes + at, len - at))) {
			latency_waits(s, bytes + at, len - at);
			break;
		}
		taken = one_message(s, &f, bytes + at, len - at);
		if (unlikely(s->state == SESSION_CLOSED))
			return len;
		if (taken == 0) {
			latency_waits(s, bytes + at, len - at);
			break;
		}
		at += taken;
		if (unlikely(s->paused_for_link && conn_is_paused(&s->conn)))
			break;
	}
out:
	count_add(&session_stats(s)->bytes_received, at);
	if (s->link && s->link->expects.answers) {
		if (unlikely(s->link->kept && !s->link->busy_since))
			s->link->busy_since = clock_now();
		session_arm_query_timer(s);
		if (evidence_is_wanted(s))
			evidence_asked(s);
	}
	if (s->link && (s->link->shares || session_is_away(s)) && from_message)
		repair_keep(s->link, bytes, len);
	return at;
}

size_t request_received(struct session *s, uint8_t *bytes, size_t len)
{
	size_t taken = take_requests(s, bytes, len);

	if (unlikely(s->worker->routing))
		routing_forget_memo(s->worker);
	return taken;
}
