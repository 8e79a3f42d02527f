/* What a server says beside its results: errors, each of which is for the client or for the proxy alone, and notices.
 */
#include "session/answer_priv.h"
#include "session/observe.h"

/* Servers know statements by our names, clients by their own. True: it was sent with those. */
static bool send_with_client_names(struct session *s, const struct frame *f, const uint8_t *whole, uint16_t hash)
{
	size_t size = frame_size(f), name_len = STATEMENT_NAME_SIZE - 1;
	const uint8_t *at = memmem(whole, size, "\"hp_", 4);
	char name[STATEMENT_NAME_SIZE];
	struct slice own;
	struct buf out = BUF_INIT(LOOK_MAX + 1024);

	if (!at || (size_t)(whole + size - at) < name_len + 2)
		return false;
	memcpy(name, at + 1, name_len);
	name[name_len] = 0;
	if (!prepared_client_name(s, name, hash, &own))
		return false;
	buf_add(&out, whole, (size_t)(at + 1 - whole));
	buf_add(&out, own.bytes, own.len);
	buf_add(&out, at + 1 + name_len, size - (size_t)(at + 1 + name_len - whole));
	if (!out.failed)
		put_be32(out.bytes + 1, (uint32_t)(out.len - 1));
	session_send_buf(s, &out);
	return true;
}

/* The client has all it asked for, and goes on with another link: what ends this one is not its business. */
static bool is_done_with(const struct session *s)
{
	const struct link *link = s->link;

	return link->expects.count == 0 && link->tx_status == 'I' && !link->open_batch && !s->pins &&
	       s->mode != POOL_MODE_SESSION;
}

/* Of settings it is kept until they are settled (and of a transaction that is to fail). What else the proxy asks leaves
 * the link in doubt, and nobody is told.
 */
static void swallow_error(struct link *link, const struct expect *x, const uint8_t *whole, size_t size)
{
	if (!answer_keeps_error(x->purpose)) {
		link->close_when_free = true;
		return;
	}
	buf_clear(&link->error);
	link->error.max = LOOK_MAX;
	buf_add(&link->error, whole, size);
}

enum answer answer_server_error(struct session *s, const struct frame *f, const uint8_t *whole)
{
	struct link *link = s->link;
	struct expect *x = expects_first(&link->expects);
	bool extended = x && !expect_ends_with_ready(x), fatal, told = false;
	struct error_fields e = {0};

	if (!message_read_error(f->body, f->body_len, &e))
		return ANSWER_BROKEN;
	fatal = slice_equal(e.severity, SLICE_LITERAL("FATAL")) || slice_equal(e.severity, SLICE_LITERAL("PANIC"));
	link->close_when_free = link->close_when_free || fatal;
	pool_saw_error(link, e.sqlstate, fatal);
	if (x && x->flags & EXPECT_SWALLOW && x->kind == EXPECT_QUERY) {
		swallow_error(link, x, whole, frame_size(f));
		return ANSWER_SWALLOW;
	}
	if (unlikely(fatal && is_done_with(s)))
		return ANSWER_SWALLOW;
	if (unlikely(x && x->purpose == PURPOSE_BEGIN && !fatal)) {
		answer_begin_refused(s, e.sqlstate, whole, frame_size(f));
		return ANSWER_GONE;
	}
	if (unlikely(repair_begin(s, &e)) || (unlikely(session_is_away(s)) && routing_failed(s, e.sqlstate)))
		return ANSWER_SWALLOW;
	link->fatal = fatal;
	observe_failed(s, x, e.sqlstate);
	s->error_in_batch = true;
	s->copying_in = false;
	count_add(&session_counters(s)->query_errors_total, 1);
	if (unlikely(x && prepared_is_deallocate(x) && s->mode != POOL_MODE_SESSION))
		link->close_when_free = true; /* what stood in for the client's statement may be left there */
	if (x && x->flags & EXPECT_REPLACE) {
		const struct buf *ours = x->object;

		conn_send(&s->conn, ours->bytes, ours->len);
		told = true;
	} else if (extended && s->mode != POOL_MODE_SESSION) {
		told = send_with_client_names(s, f, whole, x->name_hash);
	}
	if (extended)
		answer_skip_to_sync(s);
	return told ? ANSWER_SWALLOW : ANSWER_PASS;
}

bool answer_is_farewell(const struct frame *f)
{
	struct error_fields e;

	return f->type == 'N' && f->body_len <= FAREWELL_MAX && message_read_error(f->body, f->body_len, &e) &&
	       (slice_equal(e.sqlstate, SLICE_LITERAL("57P01")) || slice_equal(e.sqlstate, SLICE_LITERAL("57P02")));
}

enum answer answer_server_notice(const struct session *s, const struct frame *f)
{
	const struct expect *x = expects_first(&s->link->expects);

	/* a client whose connection goes on is not to be told that it ends */
	if (s->mode != POOL_MODE_SESSION && answer_is_farewell(f))
		return ANSWER_SWALLOW;
	return x && x->flags & EXPECT_SWALLOW && x->kind == EXPECT_QUERY ? ANSWER_SWALLOW : ANSWER_PASS;
}
