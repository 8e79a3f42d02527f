/*
 * A standby that fails. What is kept of a batch that went there lets it be repeated on the primary, as long as nothing
 * of the answer was passed on. So what could not be taken back is looked at before it is: what comes in front of the
 * result, and of a result that is not whole as much as a server that goes on would not have sent alone.
 */
#include "session/routing_priv.h"

/* An error that says nothing of the batch, but of the standby. */
static bool is_standbys_own(struct slice sqlstate)
{
	static const char *const states[] = {
		"25006", /* read_only_sql_transaction: it was taken for a read, wrongly */
		"40001", /* canceled by recovery: rows that it needs were removed on the primary */
		"40P01", /* likewise, a deadlock with recovery */
		"57P01", "57P02", "57P03", "57P04", /* the database was dropped; the server stops, crashed, or starts */
		"0A000",                            /* serializable, by the server's own default */
	};

	for (size_t i = 0; i < ARRAY_SIZE(states); i++)
		if (slice_equal(sqlstate, slice_str(states[i])))
			return true;
	return false;
}

/* A whole batch, all there was, outside of a transaction block: and nothing of its answer was passed on. */
static bool can_be_repeated(const struct session *s)
{
	const struct link *link = s->link;
	const struct expects *e = &link->expects;

	return session_is_away(s) && !s->once && link->batch.len && link->tx_status == 'I' && !link->answering &&
	       s->left == 0 && link->left == 0 && s->state == SESSION_ACTIVE && e->count > 0 && e->answers == 1 &&
	       expect_ends_with_ready(expects_last(e));
}

bool routing_failed(struct session *s, struct slice sqlstate)
{
	if (!is_standbys_own(sqlstate) || !can_be_repeated(s))
		return false;
	s->repeated = true;
	conn_pause(&s->conn); /* nothing is to come between it and its repetition */
	return true;
}

#define PREFACE ROUTING_PREFACE
#define RESULT  ROUTING_RESULT
const uint8_t routing_parts[256] = {['1'] = PREFACE, ['2'] = PREFACE, ['3'] = PREFACE, ['t'] = PREFACE, ['T'] = PREFACE,
				    ['n'] = PREFACE, ['D'] = RESULT,  ['C'] = RESULT,  ['I'] = RESULT,  ['s'] = RESULT};

#define FORESEEN_MAX 65536u /* of what comes in front of the first row */
/* Of a longer answer a server sends no less than this at a time, the size of its buffer: what is less, and not whole,
 * is the rest of that buffer, and the server is about to end. So nobody gets a row later for this. */
#define HELD_MAX 8192u

/* The message ends the batch with an error that is the standby's own. */
static NEVER_INLINE bool is_own_failure(struct session *s, const struct frame *f)
{
	struct error_fields e = {0};

	if (!message_read_error(f->body, f->body_len, &e) || !routing_failed(s, e.sqlstate))
		return false;
	pool_saw_error(s->link, e.sqlstate, slice_equal(e.severity, SLICE_LITERAL("FATAL")));
	return true;
}

/* A message, up to here it is so much: may it stay here until it is seen what comes behind it? */
static bool may_be_held(uint8_t type, size_t up_to)
{
	return routing_is_preface(type) || (routing_parts[type] == RESULT && up_to < HELD_MAX);
}

size_t routing_foresee(struct session *s, const uint8_t *bytes, size_t len)
{
	struct frame f;
	size_t at = 0;

	for (;;) {
		enum frame_result r = frame_read(bytes + at, len - at, &f);

		if (r == FRAME_WHOLE) {
			at += frame_size(&f);
			if (may_be_held(f.type, at) || answer_is_farewell(&f))
				continue;
			return f.type == 'E' && !s->repeated && is_own_failure(s, &f) ? at : ROUTING_GO_ON;
		}
		if (r == FRAME_BAD || len > FORESEEN_MAX || (r == FRAME_HEAD && f.body_len > FORESEEN_MAX) ||
		    (r == FRAME_HEAD && !memchr("ENZ", f.type, 3) && !may_be_held(f.type, at + frame_size(&f))) ||
		    !can_be_repeated(s))
			return ROUTING_GO_ON;
		return 0;
	}
}

/* Takes what the batch has changed back, gives the link back, and shows the batch's bytes again. */
bool routing_repeat(struct session *s)
{
	struct link *link = s->link;
	bool cancelled = false;

	if (link->expects.count) {
		s->came = expects_last(&link->expects)->began;
		cancelled = expects_last(&link->expects)->flags & EXPECT_CANCEL;
	}
	for (uint32_t i = link->expects.count; i-- > 0;)
		prepared_undo(s, expects_at(&link->expects, i), /* failed= */ false);
	while (link->expects.count)
		answer_pop(s, /* skipped= */ true);
	if (!conn_unread(&s->conn, link->batch.bytes, link->batch.len)) {
		session_fatal(s, ERROR_OUT_OF_MEMORY, NULL);
		return false;
	}
	link->batch.len = 0;
	if (s->begin_state == BEGIN_SENT)
		s->begin_state = BEGIN_DEFERRED;
	s->repeated = true;
	s->routed = s->skip_to_sync = s->syncing = false;
	session_release(s);
	if (unlikely(cancelled)) { /* on the standby it did not end of that */
		cancel_waiting(s);
		return true;
	}
	count_add(&session_counters(s)->batches_repeated_total, 1);
	conn_resume(&s->conn);
	return true;
}

bool routing_can_leave(const struct session *s)
{
	return !s->repeated && can_be_repeated(s);
}

bool routing_lost(struct session *s)
{
	return (s->repeated || can_be_repeated(s)) && routing_repeat(s);
}
