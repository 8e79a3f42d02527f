/*
 * The extended protocol's Parse, Bind, Describe, Execute and Close. In the shared modes statements have other names at
 * the server than the client's (see prepared.h); in session mode everything passes as it is.
 * https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY
 */
#include "session/underway.h"

#include <stdarg.h>
#include <stdatomic.h>

/* Behind the names nothing of a message is looked at, so this much of it must have come. */
#define NAMES_MAX 8192u

static bool push(struct session *s, enum expect_kind kind, uint8_t flags, uint8_t purpose, void *object)
{
	return session_expect(s, kind, flags, purpose, object) == 0 || session_out_of_memory(s);
}

static size_t malformed(struct session *s, const char *what, size_t available)
{
	session_fatal(s, ERROR_PROTOCOL_VIOLATION, what);
	return available;
}

/* ---- Parse ---- */

/* The server shall raise the error, for its transaction must end with it; the client gets our words. */
static bool send_poison(struct session *s, enum proxy_error error, ...)
{
	static const uint8_t bind[] = {'B', 0,   0,   0,   22, 0, 'h', 'p', ' ', 'n', 'o', ' ',
				       's', 'u', 'c', 'h', 0,  0, 0,   0,   0,   0,   0};
	struct buf *copy = malloc(sizeof(*copy));
	va_list args;

	if (!copy)
		return session_out_of_memory(s);
	*copy = BUF_INIT(65536);
	va_start(args, error);
	error_message_va(copy, error, "ERROR", NULL, args);
	va_end(args);
	if (!copy->failed && session_expect(s, EXPECT_BIND, EXPECT_REPLACE, PURPOSE_CLIENT, copy) == 0) {
		conn_send_ref(&s->link->conn, bind, sizeof(bind));
		return true;
	}
	buf_free(copy);
	free(copy);
	return session_out_of_memory(s);
}

/* The rest of the batch is there, and nothing behind it: its messages are measured, not read. */
static bool ends_with_batch(const uint8_t *at, size_t len)
{
	const uint8_t *end = at + len - FRAME_HEADER;

	if (*end != 'S' || get_be32(end + 1) != 4)
		return false;
	do
		at += (size_t)get_be32(at + 1) + 1;
	while (at < end && *at != 'S');
	return at == end;
}

/*
 * A Parse may be answered here only if the server would surely take it: not in a transaction that has failed, nor in
 * one that what is under way may still fail. And outside of a transaction only if its batch could be run again, should
 * the plan turn out to be older than the schema: it is all there, and nothing of it was sent yet (see repair.c).
 */
static bool may_answer_parse(const struct session *s, const uint8_t *whole, size_t available)
{
	const struct link *link = s->link;

	if (link->tx_status == 'I')
		return !link->begin_sent && !link->open_batch && link->expects.answers == 0 &&
		       available <= LINK_BATCH_MAX && ends_with_batch(whole, available);
	return link->tx_status == 'T' && link->expects.count == 0;
}

static bool parse_named(struct session *s, struct slice name, struct statement_text *text, const uint8_t *whole,
			size_t available)
{
	struct statement_set *set = &s->link->statements;

	if ((s->statements ? s->statements->count : 0) >= session_settings(s)->max_client_prepared_statements) {
		if (unlikely(s->worker->pipeline))
			observe_rejected(s, text, proxy_error_info(ERROR_TOO_MANY_STATEMENTS)->sqlstate);
		statement_text_unref(s->worker->statements, text);
		return send_poison(s, ERROR_TOO_MANY_STATEMENTS, session_settings(s)->max_client_prepared_statements);
	}
	if (statement_set_use(set, text->id) && (!may_answer_parse(s, whole, available) || prepared_is_stale(s))) {
		statement_set_remove(set, text->id); /* and prepared anew: the server says if it may be */
		if (!prepared_close_at_link(s, text->id))
			return false;
	}
	if (statement_set_use(set, text->id)) {
		if (!prepared_remember(s, name, text))
			return session_out_of_memory(s);
		count_add(&session_counters(s)->statements_shared_total, 1);
		return prepared_push(s, EXPECT_PARSE, EXPECT_LOCAL, name, text);
	}
	if (!prepared_make_room(s))
		return false;
	if (!prepared_remember(s, name, text))
		return session_out_of_memory(s);
	if (statement_set_add(set, text->id) < 0)
		return session_out_of_memory(s);
	return prepared_push(s, EXPECT_PARSE, 0, name, text) && prepared_send_parse(s, text, text->server_name);
}

/* 'now' is read when the text is parsed: with each Parse anew, and nobody else's will do. */
static bool has_clock(const struct statement_text *text)
{
	return text->info && text->info->scan.marks & SCAN_CLOCK_LITERAL;
}

static _Atomic uint64_t clock_statements; /* makes their identities differ */

/* known: it was looked up already; NULL: it was not. */
static struct statement_text *text_of(struct session *s, struct slice name, struct slice parse,
				      struct statement_text *known)
{
	uint64_t meaning = params_meaning(s->settings);
	struct statement_text *text =
		known ? statement_text_ref(known)
		      : statement_table_get(s->worker->statements, &s->worker->queries, parse, meaning);

	if (unlikely(text && name.len && has_clock(text))) {
		statement_text_unref(s->worker->statements, text);
		text = statement_table_get(s->worker->statements, &s->worker->queries, parse,
					   meaning ^ (atomic_fetch_add(&clock_statements, 1) + 1) *
							     UINT64_C(0x9e3779b97f4a7c15));
	}
	return text;
}

/* Nobody can change what the unnamed statement means before the batch ends: its tables are locked. */
static bool is_bound_in_batch(const struct session *s)
{
	const struct link *link = s->link;

	return link->tx_status == 'I' && !link->begin_sent && link->open_batch && link->unnamed_in_batch &&
	       link->expects.answers == 0;
}

static bool parse_unnamed(struct session *s, struct statement_text *text, const struct frame *f, const uint8_t *whole,
			  size_t available)
{
	bool may_skip = s->worker->settings.config->proxy.optimize_unnamed_parse &&
			prepared_link_has_unnamed(s, text) && !has_clock(text) &&
			(s->link->tx_status == 'I' || s->link->unnamed_in_transaction) &&
			(may_answer_parse(s, whole, available) || is_bound_in_batch(s)) &&
			!(s->unnamed_pending && s->unnamed_batch != s->batch) && !prepared_is_stale(s);

	if (may_skip) {
		count_add(&session_counters(s)->statements_shared_total, 1);
		if (!prepared_push_unnamed(s, text, EXPECT_LOCAL))
			return false;
		s->link->shares = true;
		return true;
	}
	if (!prepared_push_unnamed(s, text, 0))
		return false;
	prepared_link_got_unnamed(s, text);
	count_add(&session_counters(s)->statements_prepared_total, 1);
	count_add(&session_stats(s)->server_parses, 1);
	if (unlikely(hints_may_begin(text->parse[0])))
		(void)session_pass_on_text(s, f, whole, available, FRAME_HEADER + 1);
	else
		conn_send_ref(&s->link->conn, whole, frame_size(f));
	return true;
}

/* Too long to be kept: it can't be prepared elsewhere, so the session stays where it is. */
static size_t parse_huge(struct session *s, const struct frame *f, const uint8_t *whole, size_t available)
{
	size_t text_at = FRAME_HEADER + strnlen((const char *)f->body, available - FRAME_HEADER) + 1;

	session_pin(s, PIN_STATEMENT);
	s->link->has_unnamed = false;
	prepared_forget_unnamed(s);
	if (!push(s, EXPECT_PARSE, 0, PURPOSE_CLIENT, NULL))
		return available;
	return session_pass_on_text(s, f, whole, available, text_at);
}

/* The name is taken: the server refuses it, after it has looked at the text, as it always does. */
static bool parse_duplicate(struct session *s, struct slice client_name, struct statement_text *taken,
			    struct slice text)
{
	uint8_t *message;
	size_t size = FRAME_HEADER + STATEMENT_NAME_SIZE + text.len;

	if (!prepared_ensure(s, taken) || !push(s, EXPECT_PARSE, 0, PURPOSE_CLIENT, NULL))
		return false;
	expects_last(&s->link->expects)->name_hash = prepared_name_hash(client_name);
	message = loop_turn_alloc(s->conn.loop, size);
	if (!message)
		return session_out_of_memory(s);
	message[0] = 'P';
	put_be32(message + 1, (uint32_t)(size - 1));
	memcpy(message + FRAME_HEADER, taken->server_name, STATEMENT_NAME_SIZE);
	memcpy(message + FRAME_HEADER + STATEMENT_NAME_SIZE, text.bytes, text.len);
	hinted_blank(s->worker, message + FRAME_HEADER + STATEMENT_NAME_SIZE,
		     strnlen((const char *)text.bytes, text.len));
	conn_send_ref(&s->link->conn, message, size);
	return true;
}

static size_t parse(struct session *s, const struct frame *f, uint8_t *whole, size_t available)
{
	bool complete = available >= frame_size(f);
	const struct routing_memo *memo = routing_memo(s, whole);
	struct reader r = reader_make(f->body, MIN(f->body_len, available - FRAME_HEADER));
	struct slice name;
	struct statement_text *text;
	enum proxy_error error;
	const char *what;
	bool fine;

	s->bound_mark = UNDERWAY_UNKNOWN;
	if (!complete)
		return parse_huge(s, f, whole, available);
	name = memo ? memo->name : read_cstring(&r);
	if (memo)
		r.at = memo->behind; /* and what is behind it was found to be a text */
	else if (r.failed || !memchr(r.at, 0, reader_left(&r)))
		return malformed(s, "malformed Parse", available);
	if (name.len && prepared_find(s, name))
		return parse_duplicate(s, name, prepared_find(s, name), read_rest(&r)) ? frame_size(f) : available;
	if (unlikely(hinted_may_begin(s, *r.at)) && !hinted_begin(s, slice_str((const char *)r.at)))
		return 0;
	text = text_of(s, name, read_rest(&r), memo ? memo->text : NULL);
	if (!text) {
		session_out_of_memory(s);
		return available;
	}
	if (name.len && prepared_is_undecided(s, text->id)) {
		statement_text_unref(s->worker->statements, text);
		s->waits_for_name = true;
		return 0;
	}
	if (name.len)
		count_add(&session_stats(s)->client_parses, 1);
	if (text->info && effects_before(s, text->info, &error, &what) == POLICY_REFUSED) {
		send_poison(s, error, what ? what : "this", pool_mode_name((enum pool_mode)s->mode));
		if (unlikely(s->worker->pipeline) && s->state != SESSION_CLOSED)
			observe_rejected(s, text, proxy_error_info(error)->sqlstate);
		statement_text_unref(s->worker->statements, text);
		return frame_size(f);
	}
	if (unlikely(hints_may_begin(text->parse[0])))
		hinted_tell_of(s, statement_text_sql(text));
	fine = name.len ? parse_named(s, name, text, whole, available) : parse_unnamed(s, text, f, whole, available);
	return fine ? frame_size(f) : available;
}

/* ---- Bind, Describe, Execute, Close ---- */

/* The message with another statement name: a new head, the rest by reference. available: from its first byte on. */
static bool send_renamed(struct session *s, const struct frame *f, size_t available, struct slice name,
			 const char *server_name)
{
	struct slice rest;
	size_t missing = frame_size(f) - MIN(frame_size(f), available);

	if (!session_send_renamed_head(s, f, name, server_name, &rest))
		return false;
	conn_send_ref(&s->link->conn, rest.bytes, rest.len - missing);
	s->left = missing;
	s->left_dropped = false;
	return true;
}

static size_t bind_message(struct session *s, const struct frame *f, uint8_t *whole, size_t available)
{
	const struct routing_memo *memo = routing_memo(s, whole);
	struct slice portal, name;
	struct statement_text *text;
	uint16_t hash;

	if (memo) {
		name = memo->name;
		portal = slice_make(f->body, (size_t)(name.bytes - f->body) - 1);
		text = memo->text;
	} else {
		struct reader r = reader_make(f->body, MIN(f->body_len, available - FRAME_HEADER));

		portal = read_cstring(&r);
		name = read_cstring(&r);
		if (r.failed && available < frame_size(f) && available < NAMES_MAX)
			return 0;
		if (r.failed)
			return malformed(s, "malformed Bind", available);
		text = prepared_find(s, name);
	}
	if (unlikely(text && hinted_may_begin(s, text->parse[0])) && !hinted_begin(s, statement_text_sql(text)))
		return 0;
	if (!prepared_bind_portal(s, portal, text))
		return available;
	if (portal.len == 0)
		s->bound_mark = text ? UNDERWAY_UNNAMED : UNDERWAY_UNKNOWN;
	if (!text || name.len == 0) {
		/* an unknown name is the server's to refuse, unless SQL PREPARE made it known there */
		if ((name.len == 0 && !prepared_ensure_unnamed(s, text)) ||
		    !push(s, EXPECT_BIND, 0, PURPOSE_CLIENT, NULL))
			return available;
		s->link->shares = s->link->shares || !s->link->unnamed_in_transaction;
		s->link->unnamed_in_batch = true;
		return session_pass_on(s, f, whole, available);
	}
	if (!prepared_ensure(s, text) || !push(s, EXPECT_BIND, 0, PURPOSE_CLIENT, NULL))
		return available;
	s->link->shares = true;
	count_add(&session_stats(s)->binds, 1);
	hash = prepared_name_hash(name);
	expects_last(&s->link->expects)->name_hash = hash;
	if (portal.len == 0)
		s->bound_mark = underway_mark_of(hash);
	if (!send_renamed(s, f, available, name, text->server_name))
		return available;
	return MIN(frame_size(f), available);
}

static size_t describe(struct session *s, const struct frame *f, uint8_t *whole, size_t available)
{
	struct reader r = reader_make(f->body, f->body_len);
	uint8_t what = read_u8(&r);
	struct slice name = read_cstring(&r);
	struct statement_text *text;

	if (!reader_done(&r))
		return malformed(s, "malformed Describe", available);
	text = what == 'S' ? prepared_find(s, name) : NULL;
	if (what == 'S' && name.len == 0 && !prepared_ensure_unnamed(s, text))
		return available;
	if (text && name.len) {
		if (!prepared_ensure(s, text) || !push(s, EXPECT_DESCRIBE, 0, PURPOSE_CLIENT, NULL))
			return available;
		s->link->shares = true;
		expects_last(&s->link->expects)->name_hash = prepared_name_hash(name);
		return send_renamed(s, f, available, name, text->server_name) ? frame_size(f) : available;
	}
	if (!push(s, EXPECT_DESCRIBE, 0, PURPOSE_CLIENT, NULL))
		return available;
	s->link->shares = s->link->shares || text;
	return session_pass_on(s, f, whole, available);
}

static size_t execute(struct session *s, const struct frame *f, uint8_t *whole, size_t available)
{
	struct reader r = reader_make(f->body, f->body_len);
	struct slice portal = read_cstring(&r);
	uint32_t most = read_u32(&r);
	struct statement_text *text;
	struct query_info *info;
	struct expect *x;

	if (!reader_done(&r))
		return malformed(s, "malformed Execute", available);
	text = prepared_portal(s, portal);
	info = text ? text->info : NULL;
	if (unlikely(info && info->scan.marks & SCAN_SESSION_ADVISORY_LOCK))
		session_pin(s, PIN_ADVISORY);
	if (unlikely(info && info->deallocates) && !prepared_before_deallocate(s, info))
		return s->waits_for_name ? 0 : available;
	if (!push(s, EXPECT_EXECUTE, 0, PURPOSE_CLIENT, query_info_ref(info)))
		return available;
	x = expects_last(&s->link->expects);
	if (likely(portal.len == 0))
		x->name_hash = s->bound_mark;
	if (unlikely(info && info->deallocates))
		prepared_pushed_deallocate(s);
	if (unlikely(info))
		prepared_note_changes(s, info);
	if (unlikely(s->worker->pipeline))
		observe_executed(s, x, text, most);
	s->link->begin_sent = s->link->begin_sent || info;
	count_add(&session_stats(s)->queries, 1);
	return session_pass_on(s, f, whole, available);
}

static size_t close_here(struct session *s, const struct frame *f, size_t available, struct slice name,
			 struct statement_text *text)
{
	static const uint8_t close_complete[] = {'3', 0, 0, 0, 4};
	bool fine = true;

	if (!s->link)
		conn_send_ref(&s->conn, close_complete, sizeof(close_complete));
	else if (text)
		fine = prepared_push(s, EXPECT_CLOSE, EXPECT_LOCAL, name, text);
	else
		fine = push(s, EXPECT_CLOSE, EXPECT_LOCAL, PURPOSE_CLIENT, NULL);
	if (text && fine)
		prepared_forget(s, name);
	if (s->link && fine)
		answer_locals(s);
	return fine ? frame_size(f) : available;
}

static size_t close_unnamed(struct session *s, const struct frame *f, const uint8_t *whole, size_t available)
{
	bool fine = s->unnamed ? prepared_push(s, EXPECT_CLOSE, 0, SLICE_LITERAL(""), s->unnamed)
			       : push(s, EXPECT_CLOSE, 0, PURPOSE_CLIENT, NULL);

	if (!fine)
		return available;
	prepared_forget_unnamed(s);
	s->unnamed_batch = s->batch;
	expects_last(&s->link->expects)->name_hash = s->unnamed_serial;
	s->link->has_unnamed = false;
	return session_pass_on(s, f, whole, available);
}

/* A statement is only the client's to forget: the link keeps it for whoever prepares the same. */
static size_t close_message(struct session *s, const struct frame *f, const uint8_t *whole, size_t available)
{
	struct reader r = reader_make(f->body, f->body_len);
	uint8_t what = read_u8(&r);
	struct slice name = read_cstring(&r);
	struct statement_text *text = what == 'S' && name.len ? prepared_find(s, name) : NULL;

	if (!reader_done(&r))
		return malformed(s, "malformed Close", available);
	s->bound_mark = UNDERWAY_UNKNOWN;
	if (what == 'S' && name.len == 0 && s->link)
		return close_unnamed(s, f, whole, available);
	if (what == 'S' && name.len == 0)
		prepared_forget_unnamed(s);
	else if (name.len == 0)
		s->begin_by_portal = false; /* it was that of a BEGIN, maybe */
	if (text || !s->link)
		return close_here(s, f, available, name, text);
	if (!push(s, EXPECT_CLOSE, 0, PURPOSE_CLIENT, NULL))
		return available;
	return session_pass_on(s, f, whole, available);
}

/* ---- session mode ---- */

/* Nothing hangs on names and texts here, but stages want to know what is executed. */
static void learn_texts(struct session *s, const struct frame *f, size_t available)
{
	struct reader r = reader_make(f->body, MIN(f->body_len, available - FRAME_HEADER));
	struct slice first = read_cstring(&r), rest = read_rest(&r), name;
	struct statement_text *text;
	bool full = s->statements && s->statements->count >= session_settings(s)->max_client_prepared_statements;

	if (r.failed || available < frame_size(f) || (full && first.len && f->type == 'P'))
		return;
	if (f->type == 'B') {
		r = reader_make(rest.bytes, rest.len);
		name = read_cstring(&r);
		(void)prepared_bind_portal(s, first, r.failed ? NULL : prepared_find(s, name));
	} else if (f->type == 'P' &&
		   (text = statement_table_get(s->worker->statements, &s->worker->queries, rest, 0))) {
		prepared_forget(s, first);
		if (first.len == 0) {
			prepared_forget_unnamed(s);
			s->unnamed = text;
		} else if (!prepared_remember(s, first, text)) {
			statement_text_unref(s->worker->statements, text);
		}
	}
}

static void observe_execute(struct session *s, const struct frame *f)
{
	struct reader r = reader_make(f->body, f->body_len);
	struct statement_text *text = prepared_portal(s, read_cstring(&r));

	observe_executed(s, expects_last(&s->link->expects), text, read_u32(&r));
}

static bool parse_begins(struct session *s, const struct frame *f, size_t available)
{
	struct reader r = reader_make(f->body, MIN(f->body_len, available - FRAME_HEADER));
	struct slice text;

	read_cstring(&r);
	text = read_cstring(&r);
	if (r.failed || text.len == 0 || !hinted_may_begin(s, *text.bytes))
		return true;
	if (!hinted_begin(s, text))
		return false;
	if (hints_may_begin(*text.bytes))
		hinted_tell_of(s, text);
	return true;
}

static size_t as_it_is(struct session *s, const struct frame *f, const uint8_t *whole, size_t available)
{
	static const uint8_t kinds[] = {['P'] = EXPECT_PARSE,
					['B'] = EXPECT_BIND,
					['D'] = EXPECT_DESCRIBE,
					['E'] = EXPECT_EXECUTE,
					['C'] = EXPECT_CLOSE};

	if (!session_need_link(s) || (f->type == 'P' && !parse_begins(s, f, available)) ||
	    (f->type == 'B' && unlikely(s->worker->hinted_up_to > HINT_FIRST_MAX) && !hinted_begin_unseen(s)))
		return 0;
	if (f->type == 'P')
		s->link->changed = true;
	if (f->type != 'E')
		underway_learn(s, f, available);
	if (unlikely(s->worker->pipeline))
		learn_texts(s, f, available);
	if (s->state == SESSION_CLOSED || !push(s, kinds[f->type], 0, PURPOSE_CLIENT, NULL))
		return available;
	if (f->type == 'E') {
		if (f->body_len && f->body[0] == 0)
			expects_last(&s->link->expects)->name_hash = s->bound_mark;
		count_add(&session_stats(s)->queries, 1);
		if (unlikely(s->worker->pipeline))
			observe_execute(s, f);
	}
	if (f->type == 'P')
		return session_pass_on_text(
			s, f, whole, available,
			FRAME_HEADER + strnlen((const char *)f->body, MIN(f->body_len, available - FRAME_HEADER)) + 1);
	return session_pass_on(s, f, whole, available);
}

/* The statement that the message names. false: it names none. */
static bool named_statement(const struct frame *f, size_t available, struct slice *ret_name)
{
	struct reader r = reader_make(f->body, MIN(f->body_len, available - FRAME_HEADER));

	if (f->type == 'E' || ((f->type == 'D' || f->type == 'C') && read_u8(&r) != 'S'))
		return false;
	if (f->type == 'B')
		read_cstring(&r); /* portal */
	*ret_name = read_cstring(&r);
	return !r.failed && !(f->type == 'P' && ret_name->len == 0);
}

size_t extended_request(struct session *s, const struct frame *f, uint8_t *whole, size_t available)
{
	uint64_t keep = s->worker->settings.config->limits.max_message_kept;
	const struct config_pool *p = session_settings(s);
	struct slice name;
	size_t answered;

	if (available < frame_size(f)) {
		if (f->type == 'D' || f->type == 'E' || f->type == 'C') {
			if (f->body_len > NAMES_MAX)
				return malformed(s, "a name is too long", available);
			return 0;
		}
		if (f->body_len <= keep || (f->type == 'P' && available < NAMES_MAX)) /* else hints may be cut */
			return 0;
	}
	if (p->mode == POOL_MODE_SESSION)
		return as_it_is(s, f, whole, available);
	if (!s->link) {
		if (f->type == 'C')
			return close_message(s, f, whole, available);
		if (unlikely(p->defer_begin || s->begin_state != BEGIN_NONE) &&
		    (answered = begin_answers_batch(s, whole, available)))
			return answered;
	}
	if (!session_need_link(s))
		return 0;
	if (unlikely(s->changes_pending) && named_statement(f, available, &name) &&
	    prepared_name_is_undecided(s, name)) {
		prepared_wait_for_name(s);
		return 0;
	}
	switch (f->type) {
	case 'P':
		return parse(s, f, whole, available);
	case 'B':
		return bind_message(s, f, whole, available);
	case 'D':
		return describe(s, f, whole, available);
	case 'E':
		return execute(s, f, whole, available);
	default:
		return close_message(s, f, whole, available);
	}
}
