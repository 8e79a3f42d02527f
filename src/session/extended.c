/*
 * The extended protocol's Parse, Bind, Describe, Execute and Close. In the shared modes a client's statement names lead
 * to identities, by which servers know the statements; what a link lacks is prepared in front of what needs it. In
 * session mode everything passes as it is.
 * https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY
 */
#include "session/session_priv.h"

#include "base/log.h"
#include "base/map.h"

#include <stdarg.h>

/* Behind the names nothing of a message is looked at, so this much of it must have come. */
#define NAMES_MAX 8192u

static bool out_of_memory(struct session *s)
{
	session_fatal(s, ERROR_OUT_OF_MEMORY, NULL);
	return false;
}

static bool push(struct session *s, enum expect_kind kind, uint8_t flags, uint8_t purpose, void *object)
{
	return session_expect(s, kind, flags, purpose, object) == 0 || out_of_memory(s);
}

static size_t malformed(struct session *s, const char *what, size_t available)
{
	session_fatal(s, ERROR_PROTOCOL_VIOLATION, what);
	return available;
}

/* ---- the client's statements ---- */

static struct statement_text *client_statement(const struct session *s, struct slice name)
{
	if (name.len == 0)
		return s->unnamed;
	return s->statements ? map_get(s->statements, name) : NULL;
}

bool session_forget_statement(struct session *s, struct slice name)
{
	struct statement_text *text = s->statements ? map_remove(s->statements, name) : NULL;

	statement_text_unref(s->worker->statements, text);
	return text != NULL;
}

void session_forget_unnamed(struct session *s)
{
	s->unnamed_serial++; /* what is under way no longer decides what it is */
	statement_text_unref(s->worker->statements, s->unnamed);
	s->unnamed = NULL;
}

static uint16_t name_hash(struct slice name)
{
	return (uint16_t)hash_bytes(name.bytes, name.len);
}

/* Takes `candidate` as the client's name of a statement that the server calls so, unless a better one is known: several
 * names may have the same text, and the hash tells which was meant. */
static bool consider_name(struct statement_id id, struct slice candidate, const char *server_name, uint16_t hash,
			  bool found, struct slice *ret_name)
{
	char name[STATEMENT_NAME_SIZE];

	statement_id_name(id, name);
	if (strcmp(name, server_name) != 0 || (found && name_hash(candidate) != hash))
		return found;
	*ret_name = candidate;
	return true;
}

bool session_statement_name(const struct session *s, const char *server_name, uint16_t hash, struct slice *ret_name)
{
	const struct expects *e = &s->link->expects;
	struct slice candidate;
	bool found = false;
	void *text;

	for (uint32_t at = 0; s->statements && map_next(s->statements, &at, &candidate, &text);)
		found = consider_name(((struct statement_text *)text)->id, candidate, server_name, hash, found,
				      ret_name);
	for (uint32_t i = 0; i < e->count; i++) { /* closed meanwhile, by a message behind the one that failed */
		const struct expect *x = expects_at(e, i);
		const struct statement_note *note = x->flags & EXPECT_NOTE ? x->object : NULL;

		if (note && note->text && *note->name)
			found = consider_name(note->text->id, slice_str(note->name), server_name, hash, found,
					      ret_name);
	}
	return found;
}

static void forget_portals(struct session *s)
{
	struct slice name;
	void *info;

	if (!s->portals)
		return;
	for (uint32_t at = 0; map_next(s->portals, &at, &name, &info);)
		query_info_unref(info);
	map_free(s->portals);
	free(s->portals);
	s->portals = NULL;
}

void session_forget_statements(struct session *s)
{
	struct slice name;
	void *text;

	session_forget_unnamed(s);
	forget_portals(s);
	if (!s->statements)
		return;
	for (uint32_t at = 0; map_next(s->statements, &at, &name, &text);)
		statement_text_unref(s->worker->statements, text);
	map_free(s->statements);
	free(s->statements);
	s->statements = NULL;
}

bool session_remember_statement(struct session *s, struct slice name, struct statement_text *text)
{
	if (!s->statements) {
		s->statements = calloc(1, sizeof(*s->statements));
		if (!s->statements)
			return false;
	}
	return map_put(s->statements, name, text, NULL) == 0;
}

/* ---- what a link has ---- */

static void send_close(struct session *s, struct statement_id id)
{
	struct statement_note *note = malloc(sizeof(*note) + 1);
	char name[STATEMENT_NAME_SIZE];
	struct buf out = BUF_INIT(256);

	if (!note) {
		out_of_memory(s);
		return;
	}
	*note = (struct statement_note){.id = id};
	note->name[0] = 0;
	statement_id_name(id, name);
	message_close(&out, 'S', name);
	if (!out.failed && push(s, EXPECT_CLOSE, EXPECT_SWALLOW | EXPECT_NOTE, PURPOSE_STATEMENT, note))
		conn_send(&s->link->conn, out.bytes, out.len);
	else
		free(note);
	buf_free(&out);
	count_add(&session_counters(s)->statements_evicted_total, 1);
}

/* Room for one more on the link. */
static bool make_room(struct session *s)
{
	struct statement_set *set = &s->link->statements;
	uint32_t max = MAX(1u, session_settings(s)->max_prepared_statements);
	struct statement_id old;

	while (set->count >= max && statement_set_evict(set, &old)) {
		send_close(s, old);
		if (s->state == SESSION_CLOSED)
			return false;
	}
	return true;
}

static bool send_parse(struct session *s, const struct statement_text *text, const char *name)
{
	size_t name_size = strlen(name) + 1, size = FRAME_HEADER + name_size + text->len;
	uint8_t *message = loop_turn_alloc(s->conn.loop, size);

	if (!message)
		return out_of_memory(s);
	message[0] = 'P';
	put_be32(message + 1, (uint32_t)(size - 1));
	memcpy(message + FRAME_HEADER, name, name_size);
	memcpy(message + FRAME_HEADER + name_size, text->parse, text->len);
	conn_send_ref(&s->link->conn, message, size);
	count_add(&session_counters(s)->statements_prepared_total, 1);
	return true;
}

/* Has the link this named statement? If not it is prepared, and the answer swallowed. */
static bool ensure_named(struct session *s, struct statement_text *text, char name[STATEMENT_NAME_SIZE])
{
	struct statement_set *set = &s->link->statements;

	statement_id_name(text->id, name);
	if (likely(statement_set_use(set, text->id)))
		return true;
	if (!make_room(s) || !push(s, EXPECT_PARSE, EXPECT_SWALLOW, PURPOSE_STATEMENT, statement_text_ref(text)))
		return false;
	if (statement_set_add(set, text->id) < 0)
		return out_of_memory(s);
	return send_parse(s, text, name);
}

static bool link_has_unnamed(const struct session *s, const struct statement_text *text)
{
	return s->link->has_unnamed && statement_id_equal(s->link->unnamed, text->id);
}

static void link_got_unnamed(struct session *s, const struct statement_text *text)
{
	s->link->has_unnamed = true;
	s->link->unnamed_in_transaction = true;
	s->link->unnamed = text->id;
}

/* The client has no unnamed statement, but the link may have somebody else's: it must not be met. */
static bool forget_others_unnamed(struct session *s)
{
	struct buf out = BUF_INIT(64);
	bool fine;

	message_close(&out, 'S', "");
	fine = !out.failed && push(s, EXPECT_CLOSE, EXPECT_SWALLOW, PURPOSE_STATEMENT, NULL);
	if (fine)
		conn_send(&s->link->conn, out.bytes, out.len);
	s->link->has_unnamed = false;
	buf_free(&out);
	return fine;
}

static bool ensure_unnamed(struct session *s, struct statement_text *text)
{
	if (!text)
		return s->pins & PIN_STATEMENT || forget_others_unnamed(s);
	if (likely(link_has_unnamed(s, text)))
		return true;
	if (!push(s, EXPECT_PARSE, EXPECT_SWALLOW | EXPECT_UNNAMED, PURPOSE_STATEMENT, statement_text_ref(text)) ||
	    !send_parse(s, text, ""))
		return false;
	link_got_unnamed(s, text);
	return true;
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
		return out_of_memory(s);
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
	return out_of_memory(s);
}

/* What of the session changes the meaning of a statement's text beyond what the server itself re-checks. */
static uint64_t identity_salt(const struct session *s)
{
	const char *path = params_get(s->settings, "search_path");

	return path ? hash_bytes(path, strlen(path)) : 0;
}

void statement_note_free(struct session *s, struct statement_note *note)
{
	statement_text_unref(s->worker->statements, note->text);
	statement_text_unref(s->worker->statements, note->previous);
	free(note);
}

/* A change to the client's statements is under way, to the server or (LOCAL) no further than here. The note gets a
 * reference to the text of its own, and takes `previous` over. */
static bool push_noted(struct session *s, enum expect_kind kind, uint8_t flags, struct slice name,
		       struct statement_text *text, struct statement_text *previous)
{
	struct statement_note *note = malloc(sizeof(*note) + name.len + 1);

	if (!note)
		return out_of_memory(s);
	*note = (struct statement_note){.text = statement_text_ref(text), .previous = previous};
	memcpy(note->name, name.bytes, name.len);
	note->name[name.len] = 0;
	if (name.len)
		s->names_pending++;
	else
		s->unnamed_pending++;
	if (session_expect(s, kind, flags | EXPECT_NOTE, PURPOSE_CLIENT, note) == 0)
		return true;
	statement_note_free(s, note);
	return out_of_memory(s);
}

/*
 * A Parse may be answered here only if the server would surely take it: not in a transaction that has failed, nor in
 * one that what is under way may still fail.
 */
static bool may_answer_parse(const struct session *s)
{
	const struct link *link = s->link;

	return link->tx_status == 'I' ? !link->begin_sent : link->tx_status == 'T' && link->expects.count == 0;
}

/* Whether the link has it hangs on the fate of an earlier batch, which prepares the same text. */
static bool is_undecided(const struct session *s, struct statement_id id)
{
	const struct expects *e = &s->link->expects;
	bool sync_between = false;

	for (uint32_t i = s->names_pending ? e->count : 0; i-- > 0;) {
		const struct expect *x = expects_at(e, i);
		const struct statement_note *note = x->flags & EXPECT_NOTE ? x->object : NULL;

		sync_between = sync_between || x->kind == EXPECT_SYNC;
		if (sync_between && note && note->text && x->kind == EXPECT_PARSE &&
		    statement_id_equal(note->text->id, id))
			return true;
	}
	return false;
}

static bool parse_named(struct session *s, struct slice name, struct statement_text *text)
{
	char server_name[STATEMENT_NAME_SIZE];
	struct statement_set *set = &s->link->statements;

	if ((s->statements ? s->statements->count : 0) >= session_settings(s)->max_client_prepared_statements) {
		statement_text_unref(s->worker->statements, text);
		return send_poison(s, ERROR_TOO_MANY_STATEMENTS, session_settings(s)->max_client_prepared_statements);
	}
	if (statement_set_use(set, text->id) && !may_answer_parse(s)) {
		send_close(s, text->id); /* and prepared anew: the server says if it may be */
		statement_set_remove(set, text->id);
		if (s->state == SESSION_CLOSED)
			return false;
	}
	if (statement_set_use(set, text->id)) {
		if (!session_remember_statement(s, name, text))
			return out_of_memory(s);
		count_add(&session_counters(s)->statements_shared_total, 1);
		return push_noted(s, EXPECT_PARSE, EXPECT_LOCAL, name, text, NULL);
	}
	statement_id_name(text->id, server_name);
	if (!make_room(s))
		return false;
	if (!session_remember_statement(s, name, text))
		return out_of_memory(s);
	if (statement_set_add(set, text->id) < 0)
		return out_of_memory(s);
	return push_noted(s, EXPECT_PARSE, 0, name, text, NULL) && send_parse(s, text, server_name);
}

/* The unnamed statement is another now; the entry knows how to take it back. */
static bool push_unnamed(struct session *s, struct statement_text *text, uint8_t flags)
{
	struct statement_text *previous = s->unnamed;

	s->unnamed = text;
	s->unnamed_batch = s->batch;
	s->unnamed_serial++;
	if (previous && previous != text) {
		if (!push_noted(s, EXPECT_PARSE, flags, SLICE_LITERAL(""), text, previous))
			return false;
	} else {
		statement_text_unref(s->worker->statements, previous);
		s->unnamed_pending++;
		if (!push(s, EXPECT_PARSE, flags | (previous ? EXPECT_SAME : 0), PURPOSE_CLIENT,
			  statement_text_ref(text)))
			return false;
	}
	expects_last(&s->link->expects)->name_hash = s->unnamed_serial;
	return true;
}

static bool parse_unnamed(struct session *s, struct statement_text *text, const struct frame *f, const uint8_t *whole)
{
	bool may_skip = s->worker->settings.config->proxy.optimize_unnamed_parse && link_has_unnamed(s, text) &&
			(s->link->tx_status == 'I' || s->link->unnamed_in_transaction) && may_answer_parse(s) &&
			!(s->unnamed_pending && s->unnamed_batch != s->batch);

	if (may_skip) {
		count_add(&session_counters(s)->statements_shared_total, 1);
		return push_unnamed(s, text, EXPECT_LOCAL);
	}
	if (!push_unnamed(s, text, 0))
		return false;
	link_got_unnamed(s, text);
	conn_send_ref(&s->link->conn, whole, frame_size(f));
	count_add(&session_counters(s)->statements_prepared_total, 1);
	return true;
}

/* Too long to be kept: it can't be prepared elsewhere, so the session stays where it is. */
static size_t parse_huge(struct session *s, const struct frame *f, const uint8_t *whole, size_t available)
{
	session_pin(s, PIN_STATEMENT);
	s->link->has_unnamed = false;
	session_forget_unnamed(s);
	if (!push(s, EXPECT_PARSE, 0, PURPOSE_CLIENT, NULL))
		return available;
	return session_pass_on(s, f, whole, available);
}

/* The name is taken: the server refuses it, after it has looked at the text, as it always does. */
static bool parse_duplicate(struct session *s, struct slice client_name, struct statement_text *taken,
			    struct slice text)
{
	char name[STATEMENT_NAME_SIZE];
	uint8_t *message;
	size_t size = FRAME_HEADER + sizeof(name) + text.len;

	if (!ensure_named(s, taken, name) || !push(s, EXPECT_PARSE, 0, PURPOSE_CLIENT, NULL))
		return false;
	expects_last(&s->link->expects)->name_hash = name_hash(client_name);
	message = loop_turn_alloc(s->conn.loop, size);
	if (!message)
		return out_of_memory(s);
	message[0] = 'P';
	put_be32(message + 1, (uint32_t)(size - 1));
	memcpy(message + FRAME_HEADER, name, sizeof(name));
	memcpy(message + FRAME_HEADER + sizeof(name), text.bytes, text.len);
	conn_send_ref(&s->link->conn, message, size);
	return true;
}

static size_t parse(struct session *s, const struct frame *f, uint8_t *whole, size_t available)
{
	bool complete = available >= frame_size(f);
	struct reader r = reader_make(f->body, MIN(f->body_len, available - FRAME_HEADER));
	struct slice name = read_cstring(&r);
	struct statement_text *text;
	enum proxy_error error;
	const char *what;
	bool fine;

	if (!complete)
		return parse_huge(s, f, whole, available);
	if (r.failed || !memchr(r.at, 0, reader_left(&r)))
		return malformed(s, "malformed Parse", available);
	if (name.len && client_statement(s, name))
		return parse_duplicate(s, name, client_statement(s, name), read_rest(&r)) ? frame_size(f) : available;
	text = statement_table_get(s->worker->statements, &s->worker->queries, read_rest(&r), identity_salt(s));
	if (!text) {
		out_of_memory(s);
		return available;
	}
	if (name.len && is_undecided(s, text->id)) {
		statement_text_unref(s->worker->statements, text);
		s->waits_for_name = true;
		return 0;
	}
	if (text->info && effects_before(s, text->info, &error, &what) == POLICY_REFUSED) {
		send_poison(s, error, what ? what : "this", pool_mode_name((enum pool_mode)s->mode));
		statement_text_unref(s->worker->statements, text);
		return frame_size(f);
	}
	fine = name.len ? parse_named(s, name, text) : parse_unnamed(s, text, f, whole);
	return fine ? frame_size(f) : available;
}

/* ---- Bind, Describe, Execute, Close ---- */

/* The message with another statement name: a new head, the rest by reference. */
static bool send_renamed(struct session *s, const struct frame *f, const uint8_t *whole, size_t available,
			 struct slice before, const char *name, size_t rest_from)
{
	size_t name_size = strlen(name) + 1, head = FRAME_HEADER + before.len + name_size;
	size_t rest = frame_size(f) - rest_from, now = MIN(frame_size(f), available) - rest_from;
	uint8_t *message = loop_turn_alloc(s->conn.loop, head);

	if (!message)
		return out_of_memory(s);
	message[0] = f->type;
	put_be32(message + 1, (uint32_t)(head - 1 + rest));
	memcpy(message + FRAME_HEADER, before.bytes, before.len);
	memcpy(message + FRAME_HEADER + before.len, name, name_size);
	conn_send_ref(&s->link->conn, message, head);
	conn_send_ref(&s->link->conn, whole + rest_from, now);
	s->left = rest - now;
	s->left_dropped = false;
	return true;
}

static bool remember_portal(struct session *s, struct slice portal, struct query_info *info)
{
	void *old = NULL;

	if (portal.len == 0) {
		query_info_unref(s->bound);
		s->bound = query_info_ref(info);
		return true;
	}
	if (!info && !s->portals)
		return true;
	if (!info) {
		query_info_unref(map_remove(s->portals, portal));
		return true;
	}
	if (!s->portals && !(s->portals = calloc(1, sizeof(*s->portals))))
		return out_of_memory(s);
	if (map_put(s->portals, portal, query_info_ref(info), &old) < 0)
		return out_of_memory(s);
	query_info_unref(old);
	return true;
}

static size_t bind_message(struct session *s, const struct frame *f, uint8_t *whole, size_t available)
{
	struct reader r = reader_make(f->body, MIN(f->body_len, available - FRAME_HEADER));
	struct slice portal = read_cstring(&r), name = read_cstring(&r);
	size_t names_end = (size_t)(r.at - whole);
	struct statement_text *text;
	char server_name[STATEMENT_NAME_SIZE];

	if (r.failed) {
		if (available < frame_size(f) && available < NAMES_MAX)
			return 0;
		return malformed(s, "malformed Bind", available);
	}
	text = client_statement(s, name);
	if (!remember_portal(s, portal, text ? text->info : NULL))
		return available;
	if (!text || name.len == 0) {
		/* an unknown name is the server's to refuse, unless SQL PREPARE made it known there */
		if ((name.len == 0 && !ensure_unnamed(s, text)) || !push(s, EXPECT_BIND, 0, PURPOSE_CLIENT, NULL))
			return available;
		return session_pass_on(s, f, whole, available);
	}
	if (!ensure_named(s, text, server_name) || !push(s, EXPECT_BIND, 0, PURPOSE_CLIENT, NULL))
		return available;
	expects_last(&s->link->expects)->name_hash = name_hash(name);
	if (!send_renamed(s, f, whole, available, slice_make(portal.bytes, portal.len + 1), server_name, names_end))
		return available;
	return MIN(frame_size(f), available);
}

static size_t describe(struct session *s, const struct frame *f, uint8_t *whole, size_t available)
{
	struct reader r = reader_make(f->body, f->body_len);
	uint8_t what = read_u8(&r);
	struct slice name = read_cstring(&r);
	struct statement_text *text;
	char server_name[STATEMENT_NAME_SIZE];

	if (!reader_done(&r))
		return malformed(s, "malformed Describe", available);
	text = what == 'S' ? client_statement(s, name) : NULL;
	if (what == 'S' && name.len == 0 && !ensure_unnamed(s, text))
		return available;
	if (text && name.len) {
		if (!ensure_named(s, text, server_name) || !push(s, EXPECT_DESCRIBE, 0, PURPOSE_CLIENT, NULL))
			return available;
		expects_last(&s->link->expects)->name_hash = name_hash(name);
		return send_renamed(s, f, whole, available, slice_make("S", 1), server_name, frame_size(f))
			       ? frame_size(f)
			       : available;
	}
	if (!push(s, EXPECT_DESCRIBE, 0, PURPOSE_CLIENT, NULL))
		return available;
	return session_pass_on(s, f, whole, available);
}

static size_t execute(struct session *s, const struct frame *f, uint8_t *whole, size_t available)
{
	struct reader r = reader_make(f->body, f->body_len);
	struct slice portal = read_cstring(&r);
	struct query_info *info;

	read_u32(&r);
	if (!reader_done(&r))
		return malformed(s, "malformed Execute", available);
	info = portal.len == 0 ? s->bound : s->portals ? map_get(s->portals, portal) : NULL;
	if (unlikely(info && info->scan.marks & SCAN_SESSION_ADVISORY_LOCK))
		session_pin(s, PIN_ADVISORY);
	if (!push(s, EXPECT_EXECUTE, 0, PURPOSE_CLIENT, query_info_ref(info)))
		return available;
	s->link->begin_sent = s->link->begin_sent || info;
	count_add(&session_counters(s)->queries_total, 1);
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
		fine = push_noted(s, EXPECT_CLOSE, EXPECT_LOCAL, name, text, NULL);
	else
		fine = push(s, EXPECT_CLOSE, EXPECT_LOCAL, PURPOSE_CLIENT, NULL);
	if (text && fine)
		session_forget_statement(s, name);
	if (s->link && fine)
		answer_locals(s);
	return fine ? frame_size(f) : available;
}

static size_t close_unnamed(struct session *s, const struct frame *f, const uint8_t *whole, size_t available)
{
	bool fine = s->unnamed ? push_noted(s, EXPECT_CLOSE, 0, SLICE_LITERAL(""), s->unnamed, NULL)
			       : push(s, EXPECT_CLOSE, 0, PURPOSE_CLIENT, NULL);

	if (!fine)
		return available;
	session_forget_unnamed(s);
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
	struct statement_text *text = what == 'S' && name.len && s->statements ? map_get(s->statements, name) : NULL;

	if (!reader_done(&r))
		return malformed(s, "malformed Close", available);
	if (what == 'S' && name.len == 0 && s->link)
		return close_unnamed(s, f, whole, available);
	if (what == 'S' && name.len == 0)
		session_forget_unnamed(s);
	if (text || !s->link)
		return close_here(s, f, available, name, text);
	if (!push(s, EXPECT_CLOSE, 0, PURPOSE_CLIENT, NULL))
		return available;
	return session_pass_on(s, f, whole, available);
}

/* ---- session mode ---- */

static size_t as_it_is(struct session *s, const struct frame *f, const uint8_t *whole, size_t available)
{
	static const uint8_t kinds[] = {['P'] = EXPECT_PARSE,
					['B'] = EXPECT_BIND,
					['D'] = EXPECT_DESCRIBE,
					['E'] = EXPECT_EXECUTE,
					['C'] = EXPECT_CLOSE};

	if (!session_need_link(s))
		return 0;
	if (f->type == 'P')
		s->link->changed = true;
	if (f->type == 'E')
		count_add(&session_counters(s)->queries_total, 1);
	if (!push(s, kinds[f->type], 0, PURPOSE_CLIENT, NULL))
		return available;
	return session_pass_on(s, f, whole, available);
}

/*
 * What a name means may hang on whether an earlier batch fails: its Parse or Close is not answered yet. Within one
 * batch nothing hangs on it: if the one fails, the other is skipped.
 */
static bool must_wait_for_name(struct session *s, struct slice name)
{
	const struct expects *e = &s->link->expects;
	bool sync_between = false;

	if (name.len == 0)
		return s->unnamed_pending && s->unnamed_batch != s->batch;
	for (uint32_t i = s->names_pending ? e->count : 0; i-- > 0;) {
		const struct expect *x = expects_at(e, i);
		const struct statement_note *note = x->flags & EXPECT_NOTE ? x->object : NULL;

		sync_between = sync_between || x->kind == EXPECT_SYNC;
		if (note && sync_between && slice_equal(slice_str(note->name), name))
			return true;
	}
	return false;
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
	struct slice name;

	if (available < frame_size(f)) {
		if (f->type == 'D' || f->type == 'E' || f->type == 'C') {
			if (f->body_len > NAMES_MAX)
				return malformed(s, "a name is too long", available);
			return 0;
		}
		if (f->body_len <= keep)
			return 0;
	}
	if (session_settings(s)->mode == POOL_MODE_SESSION)
		return as_it_is(s, f, whole, available);
	if (f->type == 'C' && !s->link)
		return close_message(s, f, whole, available);
	if (!session_need_link(s))
		return 0;
	if (unlikely(s->names_pending || s->unnamed_pending) && named_statement(f, available, &name) &&
	    must_wait_for_name(s, name)) {
		s->waits_for_name = true;
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
