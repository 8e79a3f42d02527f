/* See prepared.h. Invariant: s->changes_pending counts the entries of link->expects for which is_change() holds, and
 * s->unnamed_pending those of them that are about the unnamed statement. */
#include "session/session_priv.h"

#include "base/log.h"
#include "base/map.h"

#include <stdatomic.h>

/* ---- what the client's names mean ---- */

struct statement_text *prepared_find(const struct session *s, struct slice name)
{
	if (name.len == 0)
		return s->unnamed;
	return s->statements ? map_get(s->statements, name) : NULL;
}

bool prepared_remember(struct session *s, struct slice name, struct statement_text *text)
{
	if (!s->statements) {
		s->statements = calloc(1, sizeof(*s->statements));
		if (!s->statements)
			return false;
	}
	return map_put(s->statements, name, text, NULL) == 0;
}

bool prepared_forget(struct session *s, struct slice name)
{
	struct statement_text *text = s->statements ? map_remove(s->statements, name) : NULL;

	statement_text_unref(s->worker->statements, text);
	return text != NULL;
}

void prepared_forget_unnamed(struct session *s)
{
	s->unnamed_serial++; /* what is under way no longer decides what it is */
	statement_text_unref(s->worker->statements, s->unnamed);
	s->unnamed = NULL;
}

static void forget_portals(struct session *s)
{
	struct slice name;
	void *text;

	if (!s->portals)
		return;
	for (uint32_t at = 0; map_next(s->portals, &at, &name, &text);)
		statement_text_unref(s->worker->statements, text);
	map_free(s->portals);
	free(s->portals);
	s->portals = NULL;
}

void prepared_forget_all(struct session *s)
{
	struct slice name;
	void *text;

	prepared_forget_unnamed(s);
	forget_portals(s);
	if (!s->statements)
		return;
	for (uint32_t at = 0; map_next(s->statements, &at, &name, &text);)
		statement_text_unref(s->worker->statements, text);
	map_free(s->statements);
	free(s->statements);
	s->statements = NULL;
}

uint16_t prepared_name_hash(struct slice name)
{
	return (uint16_t)hash_bytes(name.bytes, name.len);
}

static const struct statement_note *note_of(const struct expect *x)
{
	return x->flags & EXPECT_NOTE ? x->object : NULL;
}

/* Takes `candidate` as the client's name of a statement that the server calls so, unless a better one is known: several
 * names may have the same text, and the hash tells which was meant. */
static bool consider_name(struct statement_id id, struct slice candidate, const char *server_name, uint16_t hash,
			  bool found, struct slice *ret_name)
{
	char name[STATEMENT_NAME_SIZE];

	statement_id_name(id, name);
	if (strcmp(name, server_name) != 0 || (found && prepared_name_hash(candidate) != hash))
		return found;
	*ret_name = candidate;
	return true;
}

bool prepared_client_name(const struct session *s, const char *server_name, uint16_t hash, struct slice *ret_name)
{
	const struct expects *e = &s->link->expects;
	struct slice candidate;
	bool found = false;
	void *text;

	for (uint32_t at = 0; s->statements && map_next(s->statements, &at, &candidate, &text);)
		found = consider_name(((struct statement_text *)text)->id, candidate, server_name, hash, found,
				      ret_name);
	for (uint32_t i = 0; i < e->count; i++) { /* closed meanwhile, by a message behind the one that failed */
		const struct statement_note *note = note_of(expects_at(e, i));

		if (note && note->text && *note->name)
			found = consider_name(note->text->id, slice_str(note->name), server_name, hash, found,
					      ret_name);
	}
	return found;
}

bool prepared_bind_portal(struct session *s, struct slice portal, struct statement_text *text)
{
	struct statement_table *table = s->worker->statements;
	void *old = NULL;

	if (text && !text->info && likely(!s->worker->pipeline))
		text = NULL;
	if (likely(portal.len == 0 && s->bound == text))
		return true;
	if (text)
		statement_text_ref(text);
	if (portal.len == 0) {
		statement_text_unref(table, s->bound);
		s->bound = text;
		return true;
	}
	if (!text) {
		statement_text_unref(table, s->portals ? map_remove(s->portals, portal) : NULL);
		return true;
	}
	if ((!s->portals && !(s->portals = calloc(1, sizeof(*s->portals)))) ||
	    map_put(s->portals, portal, text, &old) < 0) {
		statement_text_unref(table, text);
		return session_out_of_memory(s);
	}
	statement_text_unref(table, old);
	return true;
}

struct statement_text *prepared_portal(const struct session *s, struct slice portal)
{
	if (portal.len == 0)
		return s->bound;
	return s->portals ? map_get(s->portals, portal) : NULL;
}

/* ---- what is under way ---- */

bool prepared_is_deallocate(const struct expect *x)
{
	const struct query_info *info = x->object;

	return (x->kind == EXPECT_QUERY || x->kind == EXPECT_EXECUTE) && !(x->flags & EXPECT_REPLACE) && info &&
	       info->deallocates;
}

static bool is_change(const struct expect *x)
{
	return x->object && (x->kind == EXPECT_PARSE || x->kind == EXPECT_CLOSE || prepared_is_deallocate(x));
}

static bool is_unnamed(const struct expect *x)
{
	const struct statement_note *note = note_of(x);

	if (x->flags & EXPECT_SWALLOW)
		return x->flags & EXPECT_UNNAMED;
	return note ? *note->name == 0 : x->kind == EXPECT_PARSE;
}

/* Does the fate of this entry decide whether the server knows the identity? */
static bool is_about(const struct expect *x, struct statement_id id)
{
	const struct statement_note *note = note_of(x);
	const struct statement_text *text = note ? note->text : x->object;

	if (x->flags & EXPECT_LOCAL || is_unnamed(x))
		return false;
	if (x->kind == EXPECT_CLOSE)
		return note && !note->text && statement_id_equal(note->id, id);
	return text && statement_id_equal(text->id, id);
}

/* Does the entry's DEALLOCATE end the statement of this name, if it is executed? */
static bool ends_name(const struct expect *x, struct slice name)
{
	const struct query_info *info = x->object;
	char ended[256];

	if (info->opaque || info->scan.count > SCAN_STATEMENTS_MAX)
		return true;
	for (uint32_t i = 0; i < info->scan.count; i++) {
		const struct statement *st = &info->scan.statements[i];

		if (st->verb == VERB_DEALLOCATE_ALL || st->verb == VERB_DISCARD_ALL)
			return true;
		if (st->verb == VERB_DEALLOCATE && scan_identifier(st->name, ended, sizeof(ended)) > 0 &&
		    slice_equal(slice_str(ended), name))
			return true;
	}
	return false;
}

/*
 * Within one batch nothing is undecided: if the one message fails, the other is skipped. But for a DEALLOCATE, which
 * has its effect when it is executed.
 */
bool prepared_name_is_undecided(const struct session *s, struct slice name)
{
	const struct expects *e = &s->link->expects;
	const struct statement_text *text;
	bool sync_between = false;

	if (name.len == 0)
		return s->unnamed_pending && s->unnamed_batch != s->batch;
	text = s->changes_pending ? prepared_find(s, name) : NULL;
	for (uint32_t i = s->changes_pending ? e->count : 0; i-- > 0;) {
		const struct expect *x = expects_at(e, i);
		const struct statement_note *note = note_of(x);

		sync_between = sync_between || x->kind == EXPECT_SYNC;
		if (unlikely(prepared_is_deallocate(x)) &&
		    (sync_between || x->kind == EXPECT_QUERY || ends_name(x, name)))
			return true;
		if (!sync_between || !is_change(x))
			continue;
		if ((note && slice_equal(slice_str(note->name), name)) || (text && is_about(x, text->id)))
			return true;
	}
	return false;
}

void prepared_wait_for_name(struct session *s)
{
	static const uint8_t flush_message[] = {'H', 0, 0, 0, 4};

	s->waits_for_name = true;
	if (!expect_ends_with_ready(expects_last(&s->link->expects)))
		conn_send_ref(&s->link->conn, flush_message, sizeof(flush_message));
}

bool prepared_is_undecided(const struct session *s, struct statement_id id)
{
	const struct expects *e = &s->link->expects;
	bool sync_between = false;

	for (uint32_t i = s->changes_pending ? e->count : 0; i-- > 0;) {
		const struct expect *x = expects_at(e, i);

		sync_between = sync_between || x->kind == EXPECT_SYNC;
		if (sync_between && is_change(x) && !prepared_is_deallocate(x) && is_about(x, id))
			return true;
	}
	return false;
}

static bool push(struct session *s, enum expect_kind kind, uint8_t flags, uint8_t purpose, void *object)
{
	const struct expect *x;

	if (session_expect(s, kind, flags, purpose, object) < 0)
		return session_out_of_memory(s);
	x = expects_last(&s->link->expects);
	if (!is_change(x))
		return true;
	s->changes_pending++;
	if (is_unnamed(x)) {
		s->unnamed_pending++;
		s->unnamed_batch = s->batch;
	}
	return true;
}

void prepared_pushed_deallocate(struct session *s)
{
	s->changes_pending += is_change(expects_last(&s->link->expects));
}

static bool send_stand_in(struct session *s, const char *name)
{
	struct buf out = BUF_INIT(1024);
	bool fine;

	message_close(&out, 'S', name);
	message_parse(&out, name, SLICE_LITERAL(""), NULL, 0);
	fine = !out.failed && push(s, EXPECT_CLOSE, EXPECT_SWALLOW, PURPOSE_STATEMENT, NULL) &&
	       push(s, EXPECT_PARSE, EXPECT_SWALLOW, PURPOSE_STATEMENT, NULL);
	if (fine)
		conn_send(&s->link->conn, out.bytes, out.len);
	buf_free(&out);
	return fine;
}

bool prepared_before_deallocate(struct session *s, const struct query_info *info)
{
	char name[256];

	if (s->mode == POOL_MODE_SESSION)
		return true;
	for (uint32_t i = 0; i < MIN(info->scan.count, SCAN_STATEMENTS_MAX); i++) {
		const struct statement *st = &info->scan.statements[i];

		if (st->verb != VERB_DEALLOCATE || scan_identifier(st->name, name, sizeof(name)) == 0)
			continue;
		if (prepared_name_is_undecided(s, slice_str(name))) {
			prepared_wait_for_name(s);
			return false;
		}
		if (prepared_find(s, slice_str(name)) && strncmp(name, "hp_", 3) != 0 && !send_stand_in(s, name))
			return false;
	}
	return true;
}

void prepared_settled(struct session *s, const struct expect *x)
{
	if (likely(!s->changes_pending) || !is_change(x))
		return;
	s->changes_pending--;
	if (!prepared_is_deallocate(x) && is_unnamed(x))
		s->unnamed_pending--;
}

void prepared_note_free(struct session *s, struct statement_note *note)
{
	statement_text_unref(s->worker->statements, note->text);
	statement_text_unref(s->worker->statements, note->previous);
	free(note);
}

/* Takes `previous` over. */
static bool push_noted(struct session *s, enum expect_kind kind, uint8_t flags, struct slice name,
		       struct statement_text *text, struct statement_text *previous)
{
	struct statement_note *note = malloc(sizeof(*note) + name.len + 1);

	if (!note)
		return session_out_of_memory(s);
	*note = (struct statement_note){.text = statement_text_ref(text), .previous = previous};
	memcpy(note->name, name.bytes, name.len);
	note->name[name.len] = 0;
	if (push(s, kind, flags | EXPECT_NOTE, PURPOSE_CLIENT, note))
		return true;
	prepared_note_free(s, note);
	return false;
}

bool prepared_push(struct session *s, enum expect_kind kind, uint8_t flags, struct slice name,
		   struct statement_text *text)
{
	return push_noted(s, kind, flags, name, text, NULL);
}

bool prepared_push_unnamed(struct session *s, struct statement_text *text, uint8_t flags)
{
	struct statement_text *previous = s->unnamed;

	s->unnamed = text;
	s->unnamed_serial++;
	if (previous && previous != text) {
		if (!push_noted(s, EXPECT_PARSE, flags, SLICE_LITERAL(""), text, previous))
			return false;
	} else {
		statement_text_unref(s->worker->statements, previous);
		if (!push(s, EXPECT_PARSE, flags | (previous ? EXPECT_SAME : 0), PURPOSE_CLIENT,
			  statement_text_ref(text)))
			return false;
	}
	expects_last(&s->link->expects)->name_hash = s->unnamed_serial;
	return true;
}

/* ---- undoing ---- */

/* What was to be there before a later Parse of the unnamed statement is not there after all. */
static void forget_as_previous(struct session *s, struct statement_id id)
{
	const struct expects *e = &s->link->expects;

	for (uint32_t i = 1; i < e->count; i++) {
		struct expect *x = expects_at(e, i);
		struct statement_note *note = x->flags & EXPECT_NOTE ? x->object : NULL;

		if (x->kind != EXPECT_PARSE || (note && *note->name))
			continue;
		x->flags &= (uint8_t)~EXPECT_SAME;
		if (note && note->previous && statement_id_equal(note->previous->id, id)) {
			statement_text_unref(s->worker->statements, note->previous);
			note->previous = NULL;
		}
	}
}

static void undo_unnamed(struct session *s, const struct expect *x, const struct statement_text *text, bool failed)
{
	const struct statement_note *note = note_of(x);

	if (x->flags & EXPECT_SWALLOW)
		return;
	if (s->unnamed_serial != x->name_hash) { /* a later Parse has replaced it */
		if (!(x->flags & EXPECT_SAME) || failed)
			forget_as_previous(s, text->id);
		return;
	}
	if (!(x->flags & EXPECT_SAME) || failed) {
		prepared_forget_unnamed(s);
		if (note && note->previous && !failed)
			s->unnamed = statement_text_ref(note->previous);
	}
	s->unnamed_serial = (uint16_t)(x->name_hash - 1); /* of what it was before */
}

/* The statement is not at the server after all: a Close of ours that comes behind this entry has nothing to close. */
static void not_at_link(struct session *s, const struct expect *parse, struct statement_id id)
{
	const struct expects *e = &s->link->expects;

	statement_set_remove(&s->link->statements, id);
	for (uint32_t i = e->count; i-- > 0 && expects_at(e, i) != parse;) {
		struct expect *x = expects_at(e, i);
		struct statement_note *note = x->flags & EXPECT_NOTE ? x->object : NULL;

		if (x->kind == EXPECT_CLOSE && x->flags & EXPECT_SWALLOW && note && statement_id_equal(note->id, id))
			note->gone = true;
	}
}

/* This Close was skipped, but a later batch, which may be executed, closes the same: then it has something to close. */
static bool is_closed_later(struct session *s, const struct expect *close, struct statement_id id)
{
	const struct expects *e = &s->link->expects;
	bool sync_between = false;

	for (uint32_t i = expects_index(e, close) + 1; i < e->count; i++) {
		const struct expect *x = expects_at(e, i);
		struct statement_note *note = x->flags & EXPECT_NOTE ? x->object : NULL;

		sync_between = sync_between || x->kind == EXPECT_SYNC;
		if (!sync_between || x->kind != EXPECT_CLOSE || !(x->flags & EXPECT_SWALLOW) || !note ||
		    !statement_id_equal(note->id, id))
			continue;
		note->gone = false;
		return true;
	}
	return false;
}

static void undo_close(struct session *s, const struct expect *x)
{
	const struct statement_note *note = note_of(x);

	if (!note)
		return;
	if (x->flags & EXPECT_SWALLOW) {
		if (!note->gone && !is_closed_later(s, x, note->id) &&
		    statement_set_add(&s->link->statements, note->id) < 0)
			s->link->close_when_free = true;
	} else if (*note->name == 0) {
		if (s->unnamed_serial == x->name_hash) {
			s->unnamed = statement_text_ref(note->text);
			s->unnamed_serial--;
		}
	} else if (!prepared_remember(s, slice_str(note->name), statement_text_ref(note->text))) {
		session_log(LOG_WARN, s, "out of memory: a statement that was not closed is forgotten", NULL);
	}
}

static void undo_parse(struct session *s, const struct expect *x, bool failed)
{
	const struct statement_note *note = note_of(x);
	const struct statement_text *text = note ? note->text : x->object;

	if (!text)
		return;
	if (note && *note->name)
		prepared_forget(s, slice_str(note->name));
	else
		undo_unnamed(s, x, text, failed);
	if (x->flags & EXPECT_LOCAL)
		return;
	if (s->link->has_unnamed && statement_id_equal(s->link->unnamed, text->id))
		s->link->has_unnamed = false;
	if (!is_unnamed(x))
		not_at_link(s, x, text->id);
}

void prepared_undo(struct session *s, const struct expect *x, bool failed)
{
	if (x->kind == EXPECT_CLOSE)
		undo_close(s, x);
	else if (x->kind == EXPECT_PARSE)
		undo_parse(s, x, failed);
}

/* ---- what the link has ---- */

void prepared_add_close(struct buf *out, struct statement_id id)
{
	char name[STATEMENT_NAME_SIZE];

	statement_id_name(id, name);
	message_close(out, 'S', name);
}

bool prepared_close_at_link(struct session *s, struct statement_id id)
{
	struct statement_note *note = malloc(sizeof(*note) + 1);
	struct buf out = BUF_INIT(256);
	bool fine;

	if (!note)
		return session_out_of_memory(s);
	*note = (struct statement_note){.id = id};
	note->name[0] = 0;
	prepared_add_close(&out, id);
	fine = !out.failed && push(s, EXPECT_CLOSE, EXPECT_SWALLOW | EXPECT_NOTE, PURPOSE_STATEMENT, note);
	if (fine)
		conn_send(&s->link->conn, out.bytes, out.len);
	else
		free(note);
	buf_free(&out);
	count_add(&session_counters(s)->statements_evicted_total, 1);
	return fine;
}

bool prepared_make_room(struct session *s)
{
	struct statement_set *set = &s->link->statements;
	uint32_t max = MAX(1u, session_settings(s)->max_prepared_statements);
	struct statement_id old;

	while (set->count >= max && statement_set_evict(set, &old))
		if (!prepared_close_at_link(s, old))
			return false;
	return true;
}

static size_t parse_size(const struct statement_text *text, const char *name)
{
	return FRAME_HEADER + strlen(name) + 1 + text->len;
}

/* As a server is to have it: without what only we understand. */
static void write_parse(struct worker *w, uint8_t *message, const struct statement_text *text, const char *name)
{
	size_t name_size = strlen(name) + 1;

	message[0] = 'P';
	put_be32(message + 1, (uint32_t)(parse_size(text, name) - 1));
	memcpy(message + FRAME_HEADER, name, name_size);
	memcpy(message + FRAME_HEADER + name_size, text->parse, text->len);
	hinted_blank(w, message + FRAME_HEADER + name_size, strlen((const char *)text->parse));
}

void prepared_add_parse(struct worker *w, struct buf *out, const struct statement_text *text)
{
	size_t size = parse_size(text, text->server_name);
	uint8_t *message = buf_reserve(out, size);

	if (!message)
		return;
	write_parse(w, message, text, text->server_name);
	out->len += size;
}

bool prepared_send_parse(struct session *s, const struct statement_text *text, const char *name)
{
	size_t size = parse_size(text, name);
	uint8_t *message = loop_turn_alloc(s->conn.loop, size);

	if (!message)
		return session_out_of_memory(s);
	write_parse(s->worker, message, text, name);
	conn_send_ref(&s->link->conn, message, size);
	count_add(&session_counters(s)->statements_prepared_total, 1);
	count_add(&session_stats(s)->server_parses, 1);
	return true;
}

bool prepared_ensure(struct session *s, struct statement_text *text)
{
	struct statement_set *set = &s->link->statements;

	if (likely(statement_set_use(set, text->id)))
		return true;
	if (!prepared_make_room(s) ||
	    !push(s, EXPECT_PARSE, EXPECT_SWALLOW, PURPOSE_STATEMENT, statement_text_ref(text)))
		return false;
	if (statement_set_add(set, text->id) < 0)
		return session_out_of_memory(s);
	return prepared_send_parse(s, text, text->server_name);
}

bool prepared_link_has_unnamed(const struct session *s, const struct statement_text *text)
{
	return s->link->has_unnamed && statement_id_equal(s->link->unnamed, text->id);
}

void prepared_link_got_unnamed(struct session *s, const struct statement_text *text)
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

bool prepared_ensure_unnamed(struct session *s, struct statement_text *text)
{
	if (!text)
		return s->pins & PIN_STATEMENT || forget_others_unnamed(s);
	if (likely(prepared_link_has_unnamed(s, text)))
		return true;
	if (!push(s, EXPECT_PARSE, EXPECT_SWALLOW | EXPECT_UNNAMED, PURPOSE_STATEMENT, statement_text_ref(text)) ||
	    !prepared_send_parse(s, text, ""))
		return false;
	prepared_link_got_unnamed(s, text);
	return true;
}

bool prepared_again(struct session *s, struct statement_text *text, bool named)
{
	uint8_t flags = named ? EXPECT_SWALLOW : EXPECT_SWALLOW | EXPECT_UNNAMED;

	return (!named || prepared_close_at_link(s, text->id)) &&
	       push(s, EXPECT_PARSE, flags, PURPOSE_STATEMENT, statement_text_ref(text)) &&
	       prepared_send_parse(s, text, named ? text->server_name : "");
}

/* ---- changes of the schema ---- */

static _Atomic uint32_t schema_changes; /* under way, of all sessions */

void prepared_schema_changes(struct session *s)
{
	if (!s->changes_schema)
		atomic_fetch_add(&schema_changes, 1);
	s->changes_schema = true;
}

void prepared_note_changes(struct session *s, const struct query_info *info)
{
	if (info->changes_schema)
		prepared_schema_changes(s);
	if (info->changes_catalog)
		s->changes_catalog = true;
}

void prepared_look_at_tag(struct session *s, struct slice tag)
{
	static const char *const beginnings[] = {"ALTER ", "CREATE ", "DROP ", "IMPORT "};

	for (size_t i = 0; i < ARRAY_SIZE(beginnings); i++)
		if (tag.len > strlen(beginnings[i]) && memcmp(tag.bytes, beginnings[i], strlen(beginnings[i])) == 0) {
			prepared_schema_changes(s);
			s->changes_catalog = true;
		}
}

/* Whatever it was, it has been committed, or has failed. What is sent behind it may do so again: the flag stays. */
void prepared_catalog_changed(struct session *s)
{
	if (unlikely(s->changes_catalog))
		catalogs_schema_changed(s->worker->shared->catalogs, pool_server_database(session_pool(s)));
}

/* First the pools are told, then it is no longer under way: in between both are true, and never neither. */
void prepared_schema_changed(struct session *s)
{
	prepared_catalog_changed(s);
	s->changes_catalog = false;
	if (likely(!s->changes_schema))
		return;
	s->changes_schema = false;
	pool_schema_changed(session_pool(s));
	atomic_fetch_sub(&schema_changes, 1);
}

bool prepared_schema_is_changing(void)
{
	return atomic_load(&schema_changes) > 0;
}

bool prepared_is_stale(const struct session *s)
{
	return prepared_schema_is_changing() || s->link->statements_epoch != pool_statements_epoch(session_pool(s));
}

/* ---- errors ---- */

bool prepared_error_is_stale(const struct error_fields *e)
{
	return slice_equal(e->sqlstate, SLICE_LITERAL("0A000")) &&
	       slice_equal(e->routine, SLICE_LITERAL("RevalidateCachedQuery"));
}

bool prepared_error_names_ours(const struct error_fields *e)
{
	return e->message.len && memmem(e->message.bytes, e->message.len, "\"hp_", 4);
}
