/*
 * Texts that may have hints, on their way to a server: comments that are hints are blanked, what is wrong with them is
 * told, and a time-out of theirs is kept. Where hints lead is routing's business (routing.c); all here is for texts of
 * any pool and mode.
 *
 * A batch with a time-out (s->timeout) has the server connection for itself: nothing is sent behind it, nor in front of
 * the end of a cancel that it led to, for that could hit what was sent.
 */
#include "session/session_priv.h"

#include "session/wishes.h"
#include "sql/hints.h"

static bool are_heeded(const struct worker *w)
{
	return w->settings.config->routing_hints.enabled;
}

static bool are_stripped(const struct worker *w)
{
	return are_heeded(w) && w->settings.config->routing_hints.strip_hints;
}

/* ---- stripping ---- */

void hinted_blank(struct worker *w, uint8_t *text, size_t len)
{
	if (len == 0 || !hints_may_begin(*text) || !are_stripped(w))
		return;
	hints_blank(hints_recall(&w->hints, slice_make(text, len)), text);
}

size_t hinted_head(struct session *s, const uint8_t *whole, size_t text_at, size_t len, uint8_t **ret_head)
{
	const struct slice text = {whole + text_at, len};
	const struct hints *h;
	size_t end;

	if (!are_stripped(s->worker))
		return 0;
	h = hints_recall(&s->worker->hints, text);
	end = hints_blank_end(h, text);
	*ret_head = end ? loop_turn_alloc(s->conn.loop, text_at + end) : NULL;
	if (!*ret_head)
		return 0; /* without memory it goes as it is */
	memcpy(*ret_head, whole, text_at + end);
	hints_blank(h, *ret_head + text_at);
	return text_at + end;
}

/* ---- telling ---- */

/* Nothing fits into the middle of a message that is being passed on. */
void hinted_tell(void *to, const char *text)
{
	struct session *s = to;
	struct buf out = BUF_INIT(4096);

	if (s->link && s->link->left)
		return;
	error_message(&out, ERROR_HINT_IGNORED, NULL, text);
	session_send_buf(s, &out);
	count_add(&session_counters(s)->hints_ignored_total, 1);
}

void hinted_tell_of(struct session *s, struct slice text)
{
	const struct wish_listener listener = {.problem = hinted_tell, .to = s};
	const struct config *c = s->worker->settings.config;
	struct wish_rights rights;
	const struct hints *h;

	if (!are_heeded(s->worker) || (s->link && s->link->left))
		return; /* what is told but once is told next time */
	h = hints_recall(&s->worker->hints, text);
	if (!h->said && !h->problem_count)
		return;
	rights = wish_rights_of(c, pool_user(session_pool(s)));
	wishes_tell_of(h, &rights, &listener, &s->told_hints);
}

/* ---- time-outs ---- */

static bool is_busy(const struct session *s)
{
	return s->cancelling || s->link->expects.answers > 0;
}

void hinted_configure(struct worker *w, const struct config *config)
{
	w->hinted_up_to = config->routing_default.timeout ? UINT8_MAX : HINT_FIRST_MAX;
}

/* false: it must wait. */
static bool keep_timeout(struct session *s, usec_t timeout)
{
	if (!timeout)
		return true;
	if (s->link && is_busy(s)) {
		s->waits_for_route = true;
		return false;
	}
	s->timeout = timeout;
	if (s->timer_meaning == TIMER_STATEMENT)
		session_set_timer(s, TIMER_IDLE, 0); /* that of one whose server connection was lost */
	return true;
}

bool hinted_begin(struct session *s, struct slice text)
{
	usec_t timeout = s->worker->settings.config->routing_default.timeout;
	const struct hints *h;

	if (text.len > 0 && hints_may_begin(*text.bytes) && are_heeded(s->worker)) {
		h = hints_recall(&s->worker->hints, text);
		if (h->said & BIT(HINT_SAID_timeout_ms))
			timeout = h->timeout_ms * USEC_PER_MSEC;
	}
	return keep_timeout(s, timeout);
}

bool hinted_begin_unseen(struct session *s)
{
	return s->timeout || keep_timeout(s, s->worker->settings.config->routing_default.timeout);
}

bool hinted_shares(const struct session *s, struct slice text)
{
	const struct hints *h;

	if (text.len == 0 || !hinted_may_begin(s, *text.bytes))
		return true;
	if (s->worker->settings.config->routing_default.timeout)
		return false; /* who has a time-out has the link for himself */
	if (!are_heeded(s->worker))
		return true;
	h = hints_recall(&s->worker->hints, text);
	return h->comment_count == 0 && h->problem_count == 0;
}

bool hinted_holds(struct session *s, uint8_t type)
{
	const struct link *link = s->link;

	if (!link || (link->expects.count == 0 && !link->open_batch && !is_busy(s))) {
		s->timeout = 0; /* it is over, or was never sent */
		return false;
	}
	if (!is_busy(s) || s->copying_in || !strchr("QPBDECFS", type))
		return false;
	s->waits_for_route = true;
	return true;
}

void hinted_go_on(struct session *s)
{
	if (!s->waits_for_route)
		return;
	s->waits_for_route = false;
	conn_resume(&s->conn);
}

void hinted_answered(struct session *s)
{
	if (is_busy(s))
		return;
	s->timeout = 0;
	hinted_go_on(s);
}

void hinted_arm_timer(struct session *s)
{
	usec_t limit = session_settings(s)->query_timeout;

	if (s->timer_meaning == TIMER_STATEMENT || s->timer_meaning == TIMER_QUERY)
		return;
	if (limit && limit <= s->timeout)
		session_set_timer(s, TIMER_QUERY, limit);
	else
		session_set_timer(s, TIMER_STATEMENT, s->timeout);
}

/* A server that had not begun may miss a cancel, so it is sent again for as long as the statement runs. */
#define AGAIN_AFTER (100 * USEC_PER_MSEC)
#define BY_OPERATOR 1u /* as s->timeout: it was over when somebody said so */

void hinted_overdue(struct session *s)
{
	const struct link *link = s->link;

	if (!link || link->expects.answers == 0)
		return;
	if (!s->cancelling && cancel_overdue(s) && s->timeout != BY_OPERATOR) {
		count_add(&session_counters(s)->hint_timeouts_total, 1);
		session_log(LOG_DEBUG, s, "statement cancelled", "the time-out of its hint has passed");
	}
	session_set_timer(s, TIMER_STATEMENT, AGAIN_AFTER);
}

bool hinted_cancel(struct session *s)
{
	const struct link *link = s->link;

	if (s->state != SESSION_ACTIVE || !link || link->expects.answers != 1 ||
	    !expect_ends_with_ready(expects_last(&link->expects)) || s->left || s->syncing)
		return false;
	if (!s->cancelling && !cancel_overdue(s))
		return false;
	s->timeout = BY_OPERATOR;
	if (s->timer_meaning != TIMER_QUERY || !s->timer_due) /* else that ends it, should this cancel be missed */
		session_set_timer(s, TIMER_STATEMENT, AGAIN_AFTER);
	return true;
}
