/*
 * From the server to the client. Runs of messages that need no look are one span, sent by reference. What a message
 * answers is the oldest entry of link->expects: that says if it is for the client, and what it means.
 */
#include "session/answer_priv.h"
#include "session/observe.h"

#include "base/log.h"

/* ---- entries ---- */

static void expect_drop_object(struct session *s, struct expect *x)
{
	if (!x->object)
		return;
	if (x->flags & EXPECT_REPLACE) {
		buf_free(x->object);
		free(x->object);
	} else if (x->flags & EXPECT_NOTE) {
		prepared_note_free(s, x->object);
	} else if (x->kind == EXPECT_PARSE) {
		statement_text_unref(s->worker->statements, x->object);
	} else {
		query_info_unref(x->object);
	}
	x->object = NULL;
}

void expect_drop(struct session *s, struct expect *x)
{
	if (x->request)
		observe_dropped(x->request);
	x->request = NULL;
	expect_drop_object(s, x);
}

void answer_pop(struct session *s, bool skipped)
{
	struct expects *e = &s->link->expects;
	struct expect *x = expects_first(e);

	if (unlikely(x->request))
		observe_settled(s, x->request, skipped);
	prepared_settled(s, x);
	expect_drop_object(s, x);
	expects_pop(e);
	if (unlikely(s->waits_for_name)) {
		s->waits_for_name = false;
		conn_resume(&s->conn);
	}
}

static void pop(struct session *s)
{
	answer_pop(s, /* skipped= */ false);
}

/* After an error the server skips everything up to Sync: what is under way, and what the client still sends. Undone
 * from the newest to the oldest, so that what was there at the beginning is what is there at the end. */
void answer_skip_to_sync(struct session *s)
{
	struct expects *e = &s->link->expects;
	uint32_t count = 0;

	while (count < e->count && expects_at(e, count)->kind != EXPECT_SYNC)
		count++;
	s->skip_to_sync = count == e->count;
	for (uint32_t i = count; i-- > 0;)
		prepared_undo(s, expects_at(e, i), /* failed= */ i == 0);
	for (uint32_t i = 0; i < count; i++)
		answer_pop(s, /* skipped= */ i > 0);
}

void answer_locals(struct session *s)
{
	static const uint8_t parse_complete[] = {'1', 0, 0, 0, 4}, close_complete[] = {'3', 0, 0, 0, 4};
	struct expects *e = &s->link->expects;
	struct expect *x;

	while ((x = expects_first(e)) && (x->flags & EXPECT_LOCAL || x->kind == EXPECT_COPY_END)) {
		if (x->flags & EXPECT_LOCAL)
			conn_send_ref(&s->conn, x->kind == EXPECT_PARSE ? parse_complete : close_complete, 5);
		pop(s);
	}
}

/* ---- giving the link back ---- */

void session_release(struct session *s)
{
	struct link *link = s->link;

	prepared_schema_changed(s);
	if (unlikely(s->measured))
		share_measured(s);
	if (unlikely(s->wrote))
		routing_wrote(s);
	if (unlikely(s->timed))
		routing_measure(s);
	if (unlikely(session_is_away(s)) && !s->worker->routing)
		s->source = s->shard; /* reads were split when it went there */
	s->link = NULL;
	s->transaction_until = 0;
	s->copying_in = s->synced = false;
	s->fault = 0;
	if (s->state == SESSION_ACTIVE)
		session_set_state(s, SESSION_IDLE);
	if (s->paused_for_link || unlikely(s->waits_for_route)) {
		s->paused_for_link = s->waits_for_route = false;
		conn_resume(&s->conn);
	}
	if (unlikely(conn_is_paused(&link->conn)))
		conn_resume(&link->conn); /* for this client's sake, who hasn't read all of the answer yet */
	pool_give_back(link);
}

/* All is answered, and the link stays: from here on its time is not the server's. A link that goes back at once needs
 * none of this, for it was busy as long as it was lent. */
static void note_pause(struct session *s)
{
	struct link *link = s->link;

	if (!link->kept || link->busy_since)
		count_add(&session_stats(s)->query_us,
			  clock_since(link->kept ? link->busy_since : link->lent, clock_now()));
	link->kept = true;
	link->busy_since = 0;
}

void session_maybe_release(struct session *s)
{
	struct link *link = s->link;

	if (!link || s->state != SESSION_ACTIVE || link->expects.count || link->open_batch || link->tx_status != 'I' ||
	    s->syncing || s->synced || (s->left && !s->left_dropped))
		return;
	if (unlikely(s->worker->closing) && !conn_is_resumed(&s->conn)) { /* else its next request comes in this turn */
		session_fatal(s, ERROR_SHUTTING_DOWN, NULL);
		return;
	}
	/* session mode ends for those who have nothing to lose when a reload says so */
	if ((s->mode == POOL_MODE_SESSION && (link->changed || session_settings(s)->mode == POOL_MODE_SESSION)) ||
	    s->pins || settings_learn(s)) {
		note_pause(s);
		hinted_go_on(s); /* for it may wait for no other link, but for the end of what was under way */
		return;
	}
	session_release(s);
}

/* ---- messages ---- */

/* A standby has failed to answer, and is done with what it was asked. */
static enum answer repeat_elsewhere(struct session *s, const struct frame *f)
{
	if (f->body_len != 1 || f->body[0] != 'I')
		s->link->close_when_free = true; /* it was in the transaction of a deferred BEGIN */
	s->link->open_batch = s->link->begin_sent = false;
	(void)routing_repeat(s);
	return ANSWER_GONE;
}

/* The end of a copy may have been sent ahead of its beginning's answer: then it stands behind, and begins no batch. */
static void drop_copy_ends(struct session *s)
{
	const struct expect *x;

	while ((x = expects_first(&s->link->expects)) && x->kind == EXPECT_COPY_END)
		pop(s);
}

static enum answer ready(struct session *s, const struct frame *f)
{
	struct link *link = s->link;
	struct expect *x = expects_first(&link->expects);
	bool swallow;
	usec_t began;

	if (unlikely(s->fault))
		return repair_go_on(s) ? ANSWER_SWALLOW : ANSWER_GONE;
	if (unlikely(s->repeated) && session_is_away(s))
		return repeat_elsewhere(s, f);
	if (!x || !expect_ends_with_ready(x) || f->body_len != 1 || !memchr("ITE", f->body[0], 3))
		return ANSWER_BROKEN;
	link->tx_status = (char)f->body[0];
	swallow = x->flags & EXPECT_SWALLOW;
	if (unlikely(swallow)) {
		uint8_t purpose = x->purpose;
		struct buf error = link->error;

		pop(s);
		if (answer_keeps_error(purpose)) {
			link->error = BUF_INIT(LOOK_MAX);
			if (purpose == PURPOSE_BEGIN)
				begin_shown(s, error.len ? error.bytes : NULL, error.len);
			else
				settings_sync_done(s, error.len ? error.bytes : NULL, error.len);
			buf_free(&error);
		}
		if (unlikely(s->cancels))
			cancel_held_back(s);
		return s->state == SESSION_CLOSED || !s->link ? ANSWER_GONE : ANSWER_SWALLOW;
	}
	began = x->began;
	pop(s);
	if (unlikely(s->begin_state == BEGIN_SENT))
		begin_forget(s);
	if (link->expects.count > 0) {
		drop_copy_ends(s);
		if (unlikely(s->transaction_until) && link->tx_status == 'I') /* else: after_messages() */
			session_limit_transaction(s, session_settings(s)->transaction_timeout);
	}
	latency_answered(s, began, link->tx_status);
	link->open_batch = link->expects.count > 0;
	link->begin_sent = link->begin_sent && link->expects.count > 0;
	link->answering = false;
	if (evidence_is_wanted(s))
		evidence_answered(s);
	s->copying_in = false;
	effects_ready(s, link->tx_status);
	if (unlikely((s->changes_schema || s->changes_catalog) && link->tx_status == 'I')) {
		if (link->expects.count == 0)
			prepared_schema_changed(s);
		else
			prepared_catalog_changed(s);
	}
	if (unlikely(link->settings != s->settings && link->tx_status == 'I' && link->expects.count == 0)) {
		/* RESET took the link to the server's default, the client's default is what it logged in with */
		s->hold_ready = true;
		return settings_sync(s) || s->state != SESSION_CLOSED ? ANSWER_SWALLOW : ANSWER_GONE;
	}
	if (unlikely(s->mode == POOL_MODE_STATEMENT && link->tx_status != 'I')) {
		session_fatal(s, ERROR_STATEMENT_MODE_TRANSACTION, NULL);
		return ANSWER_GONE;
	}
	return ANSWER_PASS;
}

static enum answer command_complete(struct session *s, const struct frame *f)
{
	struct expect *x = expects_first(&s->link->expects);
	struct slice tag = {f->body, f->body_len ? f->body_len - 1 : 0};
	bool swallow;

	if (!x || (x->kind != EXPECT_QUERY && x->kind != EXPECT_EXECUTE))
		return ANSWER_BROKEN;
	swallow = x->flags & EXPECT_SWALLOW;
	if (unlikely(x->request))
		observe_completed(x->request, tag);
	if (unlikely(x->object && !(x->flags & EXPECT_REPLACE)))
		effects_completed(s, x->object, x->statements, tag);
	else if (unlikely(s->mode == POOL_MODE_SESSION && x->kind == EXPECT_EXECUTE))
		prepared_look_at_tag(s, tag);
	if (x->kind == EXPECT_EXECUTE)
		pop(s);
	else if (x->statements < UINT16_MAX)
		x->statements++;
	return swallow ? ANSWER_SWALLOW : ANSWER_PASS;
}

/* The answer to one entry of this kind, and all of it. */
static enum answer completes(struct session *s, enum expect_kind kind)
{
	struct expect *x = expects_first(&s->link->expects);
	bool swallow;

	if (!x || x->kind != kind)
		return ANSWER_BROKEN;
	swallow = x->flags & EXPECT_SWALLOW;
	pop(s);
	return swallow ? ANSWER_SWALLOW : ANSWER_PASS;
}

/* A message within the answer to a query or an Execute; `kind` is another that may have it as its whole answer. */
static enum answer within(struct session *s, enum expect_kind kind)
{
	struct expect *x = expects_first(&s->link->expects);

	if (!x)
		return ANSWER_BROKEN;
	if (x->kind == EXPECT_QUERY)
		return x->flags & EXPECT_SWALLOW ? ANSWER_SWALLOW : ANSWER_PASS;
	return completes(s, kind);
}

/*
 * The server wants copy data, and will ignore Sync and Flush until CopyDone or CopyFail: the Syncs that were sent
 * ahead (libpq sends one with each Execute) get no ReadyForQuery. Another message makes the copy fail, and that is its
 * answer; behind an Execute it is skipped up to Sync like all others.
 */
static enum answer copy_in(struct session *s)
{
	struct expects *e = &s->link->expects;
	struct expects kept = *e;
	bool in_copy = true, simple;

	if (!expects_first(e) || (expects_first(e)->kind != EXPECT_QUERY && expects_first(e)->kind != EXPECT_EXECUTE))
		return ANSWER_BROKEN;
	simple = expects_first(e)->kind == EXPECT_QUERY;
	kept.count = 0;
	kept.answers = 0;
	for (uint32_t i = 0; i < e->count; i++) {
		struct expect x = *expects_at(e, i);

		if (in_copy && i > 0 && x.kind == EXPECT_SYNC) {
			if (!s->came)
				s->came = x.began;
			continue;
		}
		if (in_copy && i > 0 && simple && x.kind != EXPECT_COPY_END) {
			prepared_undo(s, expects_at(e, i), /* failed= */ false);
			prepared_settled(s, &x);
			expect_drop(s, &x);
			in_copy = false;
			continue;
		}
		in_copy = in_copy && i == 0;
		*expects_at(&kept, kept.count++) = x;
		kept.answers += expect_ends_with_ready(&x) && !(x.flags & EXPECT_SWALLOW);
	}
	*e = kept;
	s->copying_in = in_copy;
	return ANSWER_PASS;
}

static enum answer parameter_status(struct session *s, const struct frame *f)
{
	struct link *link = s->link;
	const struct expect *x = expects_first(&link->expects);

	if (!link_parameter_status(link, f->body, f->body_len))
		return ANSWER_BROKEN;
	if ((x && x->flags & EXPECT_SWALLOW) || (link->poses && strcmp((const char *)f->body, "in_hot_standby") == 0))
		return ANSWER_SWALLOW;
	params_assign(&s->reported, link->reported);
	return ANSWER_PASS;
}

/* Kinds that must be whole before they are looked at. */
static bool needs_whole(const struct session *s, const struct frame *f)
{
	const struct expect *x = expects_first(&s->link->expects);
	uint8_t type = f->type;

	if (unlikely(x && x->purpose == PURPOSE_LEARN && type == 'D'))
		return true;
	return type == 'Z' || type == 'C' || type == 'E' || type == 'S' || (type == 'N' && f->body_len <= FAREWELL_MAX);
}

static enum answer answer_message(struct session *s, const struct frame *f, const uint8_t *whole)
{
	const struct expect *x;

	switch (f->type) {
	case 'D':
		x = expects_first(&s->link->expects);
		if (unlikely(x && x->purpose == PURPOSE_LEARN))
			settings_learned_row(s, f);
		FALLTHROUGH;
	case 'd':
		x = expects_first(&s->link->expects);
		return !x ? ANSWER_BROKEN : x->flags & EXPECT_SWALLOW ? ANSWER_SWALLOW : ANSWER_PASS;
	case 'Z':
		return ready(s, f);
	case 'C':
		return command_complete(s, f);
	case 'T':
		x = expects_first(&s->link->expects);
		return x && x->kind == EXPECT_EXECUTE ? ANSWER_PASS : within(s, EXPECT_DESCRIBE);
	case 'n':
		return completes(s, EXPECT_DESCRIBE);
	case 't':
		x = expects_first(&s->link->expects);
		return !x || x->kind != EXPECT_DESCRIBE ? ANSWER_BROKEN
		       : s->link->batch.len             ? ANSWER_LOOK
							: ANSWER_PASS;
	case '1':
		return completes(s, EXPECT_PARSE);
	case '2':
		return completes(s, EXPECT_BIND);
	case '3':
		return completes(s, EXPECT_CLOSE);
	case 'I':
		return within(s, EXPECT_EXECUTE);
	case 's':
		x = expects_first(&s->link->expects);
		if (unlikely(x && x->request))
			observe_suspended(x->request);
		return completes(s, EXPECT_EXECUTE);
	case 'E':
		return answer_server_error(s, f, whole);
	case 'S':
		return parameter_status(s, f);
	case 'N':
		return answer_server_notice(s, f);
	case 'A':
		return ANSWER_PASS;
	case 'G':
		return copy_in(s);
	case 'H':
	case 'W':
	case 'c':
	case 'V':
		return expects_first(&s->link->expects) ? ANSWER_PASS : ANSWER_BROKEN;
	default:
		return ANSWER_BROKEN;
	}
}

/* ---- the stream ---- */

static void pass_span(struct session *s, const uint8_t *from, const uint8_t *to)
{
	if (from == to)
		return;
	conn_send_ref(&s->conn, from, (size_t)(to - from));
	s->link->answering = true;
	count_add(&session_stats(s)->bytes_sent, (uint64_t)(to - from));
	if (unlikely(conn_queued(&s->conn) > CONN_HIGH_WATER))
		conn_pause(&s->link->conn);
}

static void broken(struct session *s, const struct frame *f)
{
	char type[40];

	snprintf(type, sizeof(type), "message type 0x%02x, %u bytes", f->type, f->body_len);
	session_log(LOG_WARN, s, "the server sent what the protocol does not allow; closing the connection to it",
		    type);
	s->link->close_when_free = true;
	session_fatal(s, ERROR_SERVER_PROTOCOL, "unexpected message");
}

/* All that was sent so far is answered, or half of a deep pipeline is. */
static void after_messages(struct session *s)
{
	struct link *link = s->link;
	const struct config_pool *p;

	if (unlikely(s->paused_for_link && conn_queued(&link->conn) < CONN_LOW_WATER &&
		     link->expects.count <= s->worker->settings.config->limits.max_pipeline / 2)) {
		s->paused_for_link = false;
		conn_resume(&s->conn);
	}
	if (link->expects.answers || link->open_batch || s->state != SESSION_ACTIVE)
		return;
	if (unlikely(s->timeout))
		hinted_answered(s);
	p = session_settings(s);
	if (link->tx_status != 'I') {
		note_pause(s);
		if (unlikely(s->waits_for_route)) {
			s->waits_for_route = false;
			conn_resume(&s->conn);
		}
		if (unlikely(p->idle_transaction_timeout || timer_is_set(&s->timer)))
			session_set_timer(s, TIMER_IDLE_TRANSACTION, p->idle_transaction_timeout);
		return;
	}
	if (unlikely(p->client_idle_timeout || timer_is_set(&s->timer))) {
		s->transaction_until = 0;
		session_set_timer(s, TIMER_IDLE, p->client_idle_timeout);
	}
	session_maybe_release(s);
}

/*
 * The parameters of a statement have come. Its rows follow at once, or an error for which the batch is run again: then
 * the client must not have both answers. size: of the message. Bytes of both, if it is run again; 0: not all of the
 * next one is there; size: it is like any other.
 */
static NEVER_INLINE size_t look_behind(struct session *s, const uint8_t *bytes, size_t len, size_t size)
{
	struct error_fields e = {0};
	struct frame f;
	enum frame_result r = len > size ? frame_read(bytes + size, len - size, &f) : FRAME_SHORT;

	if (r == FRAME_SHORT || (r == FRAME_HEAD && f.type == 'E' && f.body_len <= LOOK_MAX))
		return 0;
	if (r != FRAME_WHOLE || f.type != 'E' || !message_read_error(f.body, f.body_len, &e) || !repair_begin(s, &e))
		return size;
	return size + frame_size(&f);
}

/* An error comes, and what is in front of it, if anything, was not passed on yet: all of it is dropped, if the batch is
 * run again. Bytes; 0: it is like any other. */
static NEVER_INLINE size_t skip_failed(struct session *s, const uint8_t *bytes, size_t len)
{
	size_t skip = 0;

	if (session_is_away(s) && s->link->batch.len && !s->link->answering &&
	    (*bytes == 'E' || (s->leaves_nothing && routing_is_preface(*bytes))))
		skip = routing_foresee(s, bytes, len);
	return skip == ROUTING_GO_ON ? 0 : skip;
}

/* What has come of the answers: it is looked at up to `at`, and passed on, or dropped, up to `from`. */
struct stream {
	uint8_t *bytes;
	size_t len, at, from;
};

enum step {
	STEP_NEXT,   /* the next message */
	STEP_WAIT,   /* more of it is to come first */
	STEP_GONE,   /* the link is not the session's any more */
	STEP_BROKEN, /* the protocol does not allow it */
};

static inline void pass(struct session *s, struct stream *st)
{
	pass_span(s, st->bytes + st->from, st->bytes + st->at);
	st->from = st->at;
}

/* What comes next is not for the client. */
static inline void drop(struct session *s, struct stream *st, size_t len)
{
	pass(s, st);
	st->from = st->at += len;
}

/* The rest of a message that was not whole. */
static inline void take_rest(struct link *link, struct stream *st)
{
	st->at = MIN(link->left, st->len);
	link->left -= st->at;
	if (link->left_swallow)
		st->from = st->at;
}

/* An error comes whose batch is run again: it is dropped, with what was looked at behind `from`. */
static inline bool drop_failed(struct session *s, struct stream *st, size_t from)
{
	size_t skip = skip_failed(s, st->bytes + from, st->len - from);

	if (skip == 0)
		return false;
	pass_span(s, st->bytes + st->from, st->bytes + from);
	st->from = st->at = from + skip;
	return true;
}

static inline enum step take_message(struct session *s, struct link *link, struct stream *st, const struct frame *f)
{
	size_t size = frame_size(f), have = MIN(size, st->len - st->at), both;
	enum answer answer;

	if (link->expects.count && expects_first(&link->expects)->flags & EXPECT_LOCAL && !s->repeated) {
		if (unlikely(f->type == 'E') && drop_failed(s, st, st->at))
			return STEP_NEXT;
		/* answered here, and told in front of what answers the next: one packet, one wake-up */
		pass(s, st);
		answer_locals(s);
	}
	if (unlikely(f->type == 'E') && st->from < st->at && drop_failed(s, st, st->from))
		return STEP_NEXT;
	if (f->type == 'E' || f->type == 'Z') /* these may send more than themselves: keep the order */
		pass(s, st);
	answer = answer_message(s, f, st->bytes + st->at);
	if (unlikely(answer >= ANSWER_LOOK)) {
		if (answer == ANSWER_BROKEN)
			return STEP_BROKEN;
		if (answer == ANSWER_GONE) {
			st->at += have;
			return STEP_GONE;
		}
		both = look_behind(s, st->bytes + st->at, st->len - st->at, size);
		if (both == 0)
			return STEP_WAIT;
		if (both > size) {
			drop(s, st, both);
			return STEP_NEXT;
		}
	}
	if (answer == ANSWER_SWALLOW)
		drop(s, st, have);
	else
		st->at += have;
	link->left = size - have;
	link->left_swallow = answer == ANSWER_SWALLOW;
	if (link->expects.count && (expects_first(&link->expects)->flags & EXPECT_LOCAL ||
				    expects_first(&link->expects)->kind == EXPECT_COPY_END)) {
		pass(s, st);
		answer_locals(s);
	}
	return STEP_NEXT;
}

/* may_be_repeated: elsewhere, as long as nothing of the answer is passed on. */
static inline enum step next_message(struct session *s, struct link *link, struct stream *st, struct frame *f,
				     bool *may_be_repeated)
{
	enum frame_result r = frame_read(st->bytes + st->at, st->len - st->at, f);
	size_t skip;

	if (r == FRAME_SHORT)
		return STEP_WAIT;
	if (r == FRAME_HEAD && needs_whole(s, f))
		return f->body_len <= LOOK_MAX ? STEP_WAIT : STEP_BROKEN;
	if (r == FRAME_BAD)
		return STEP_BROKEN;
	if (unlikely(*may_be_repeated) && !link->answering && routing_is_foreseen(f->type)) {
		skip = routing_foresee(s, st->bytes + st->at, st->len - st->at);
		if (skip == 0)
			return STEP_WAIT;
		*may_be_repeated = skip != ROUTING_GO_ON;
		if (*may_be_repeated) {
			drop(s, st, skip);
			return STEP_NEXT;
		}
	}
	return take_message(s, link, st, f);
}

static size_t answer_received(struct link *link, uint8_t *bytes, size_t len)
{
	struct session *s = link->user;
	struct stream st = {.bytes = bytes, .len = len};
	enum step step = STEP_NEXT;
	struct frame f = {0};
	bool may_be_repeated = false;

	if (unlikely(s->wrote))
		routing_note_write(s);
	if (unlikely(s->state == SESSION_REPLICATION))
		return replication_answer(s, bytes, len);
	if (link->left)
		take_rest(link, &st);
	if (unlikely(session_is_away(s)) && link->batch.len)
		may_be_repeated = !(routing_ends_ready(bytes, len) &&
				    (s->leaves_nothing || routing_is_answered(bytes + st.at, len - st.at)));
	while (st.at < len && step == STEP_NEXT)
		step = next_message(s, link, &st, &f, &may_be_repeated);
	if (unlikely(step == STEP_GONE))
		return st.at;
	pass(s, &st);
	if (unlikely(step == STEP_BROKEN)) {
		broken(s, &f);
		return len;
	}
	if (link->expects.count == 0)
		link->answering = false;
	if (st.at == len)
		after_messages(s);
	if (unlikely(s->ended && !s->paused_for_link))
		conn_resume(&s->conn); /* was this the last it waited for? */
	return st.at;
}

/* ---- for the link ---- */

static void answer_drained(struct link *link)
{
	struct session *s = link->user;

	if (s->paused_for_link) {
		s->paused_for_link = false;
		conn_resume(&s->conn);
	}
}

const struct link_user_ops session_link_ops = {
	.received = answer_received,
	.lost = answer_lost,
	.drained = answer_drained,
	.expelled = answer_expelled,
	.stranded = answer_stranded,
};
