/*
 * Running a batch again whose plan was older than the schema. A client that sends a Parse never hears, from PostgreSQL,
 * of a plan made before that; through the proxy its Parse may have been answered without the server, for somebody
 * else's. So a batch that uses what was prepared before it is kept. When it fails of its plan, before anything of it
 * was answered by the server, its statements are prepared anew and it is run again, and the client sees only that.
 *
 * Which statements are prepared anew: those that the batch itself parses, and those whose result it has described
 * before they are executed, for a client that goes by an older RowDescription would misread the new rows. Parameters in
 * binary whose type the server chose count as going by an older ParameterDescription.
 */
#include "session/session_priv.h"

#define FRESH_MAX 32u /* statements of one batch that are prepared anew */

enum fault {
	FAULT_NONE,
	FAULT_RESULT, /* the plan's result has changed */
	FAULT_TEXT,   /* the text means nothing (any more), by what the plan knows */
	FAULT_LOST,   /* the server does not have it: somebody's function said DEALLOCATE ALL */
};

/*
 * A walk over the messages of the batch and their entries in link->expects. First dry, to see if it can be done; then
 * in earnest: each entry moves to the end of the line, behind those of what is sent in front of its message.
 */
struct walk {
	struct session *s;
	bool dry;
	enum fault fault;
	struct slice batch;
	uint32_t at;   /* of the entry whose turn it is; 0 unless dry */
	uint32_t left; /* entries that are not done with, that one included */
	bool fresh_unnamed;
	uint32_t fresh_count;
	struct statement_id fresh[FRESH_MAX];
};

/* ---- the kept messages ---- */

static NEVER_INLINE void keep_more(struct buf *batch, const uint8_t *bytes, size_t len)
{
	buf_clear(batch);
	if (buf_reserve(batch, len)) /* else it can't be run again, and the client hears why it failed */
		buf_add(batch, bytes, len);
}

void repair_keep(struct link *link, const uint8_t *bytes, size_t len)
{
	struct buf *batch = &link->batch;

	if (link->tx_status != 'I' || link->expects.answers != 1 || len > LINK_BATCH_MAX)
		return; /* whether it is a whole batch is seen when it is needed */
	if (unlikely(batch->cap < len)) {
		keep_more(batch, bytes, len);
		return;
	}
	batch->len = len;
	memcpy(batch->bytes, bytes, len);
}

/* The message at the head of rest, which are whole ones. */
static bool next_message(struct slice *rest, struct frame *ret)
{
	if (frame_read(rest->bytes, rest->len, ret) != FRAME_WHOLE)
		return false;
	*rest = slice_make(rest->bytes + frame_size(ret), rest->len - frame_size(ret));
	return true;
}

/* Of a Parse, Bind, Describe or Close: the statement's name. *ret_portal: the portal's, of those that name one. */
static struct slice statement_of(const struct frame *f, struct slice *ret_portal)
{
	struct reader r = reader_make(f->body, f->body_len);
	bool of_portal = false;
	struct slice name;

	*ret_portal = (struct slice){0};
	if (f->type == 'D' || f->type == 'C')
		of_portal = read_u8(&r) == 'P';
	if (of_portal || f->type == 'B' || f->type == 'E')
		*ret_portal = read_cstring(&r);
	name = of_portal || f->type == 'E' ? (struct slice){0} : read_cstring(&r);
	return name;
}

static bool describes_statement(const struct frame *f)
{
	return f->type == 'D' && f->body_len && f->body[0] == 'S';
}

/* Has the batch a Parse of this name, in front of the message? */
static bool is_parsed(const struct walk *w, const struct frame *before, struct slice name)
{
	struct slice rest = w->batch, portal;
	struct frame f;

	while (next_message(&rest, &f) && f.body < before->body)
		if (f.type == 'P' && slice_equal(statement_of(&f, &portal), name))
			return true;
	return false;
}

/* Does the client learn what its portal returns before it executes it? */
static bool is_described(const struct walk *w, const struct frame *bind)
{
	struct slice rest = w->batch, bound, portal, name = statement_of(bind, &bound);
	bool described = false;
	struct frame f;

	while (next_message(&rest, &f)) {
		struct slice of = statement_of(&f, &portal);

		if (describes_statement(&f))
			described = described || slice_equal(of, name);
		if (f.body <= bind->body || !slice_equal(portal, bound))
			continue;
		if (f.type == 'B')
			break;
		described = described || (f.type == 'D' && !describes_statement(&f));
		if (f.type == 'E' && !described)
			return false;
	}
	return true;
}

/* The type of each parameter is the Parse's own choice. */
static bool is_typed(const struct statement_text *text, uint32_t from, uint32_t to)
{
	struct reader r = reader_make(text->parse, text->len);
	uint32_t given;

	read_cstring(&r);
	given = read_u16(&r);
	for (uint32_t i = 0; i < MIN(given, to); i++)
		if (read_u32(&r) == 0 && i >= from)
			return false;
	return given >= to;
}

/* Whatever types the server now chooses for parameters, and however many columns there are now: the Bind is right. */
static bool bind_fits(const struct frame *bind, const struct statement_text *text)
{
	struct reader r = reader_make(bind->body, bind->body_len), format;
	uint16_t formats, values;
	bool fits = true;

	read_cstring(&r);
	read_cstring(&r);
	formats = read_u16(&r);
	format = r;
	read_slice(&r, formats * (size_t)2);
	values = read_u16(&r);
	for (uint16_t i = 0; i < formats; i++)
		if (read_u16(&format) != 0) /* binary; one format is for all */
			fits = fits && is_typed(text, formats == 1 ? 0 : i, formats == 1 ? values : i + 1u);
	for (uint16_t i = 0; i < values && !r.failed; i++) {
		uint32_t len = read_u32(&r);

		if (len != UINT32_MAX)
			read_slice(&r, len);
	}
	return fits && read_u16(&r) <= 1 && !r.failed;
}

/* ---- what names meant ---- */

static const struct statement_note *note_of(const struct expect *x)
{
	return x->flags & EXPECT_NOTE ? x->object : NULL;
}

/* The statement of this name when the entry had its turn: later ones may have closed or replaced it. */
static struct statement_text *named_at(const struct walk *w, struct slice name)
{
	for (uint32_t i = 0; i < w->left; i++) {
		const struct expect *x = expects_at(&w->s->link->expects, w->at + i);
		const struct statement_note *note = x->flags & EXPECT_SWALLOW ? NULL : note_of(x);

		if (note && note->text && slice_equal(slice_str(note->name), name))
			return x->kind == EXPECT_CLOSE ? note->text : name.len ? NULL : note->previous;
		if (!name.len && !note && x->kind == EXPECT_PARSE && !(x->flags & EXPECT_SWALLOW))
			return x->flags & EXPECT_SAME ? x->object : NULL;
	}
	return prepared_find(w->s, name);
}

/* ---- what is sent ---- */

static bool is_fresh(const struct walk *w, struct statement_id id)
{
	for (uint32_t i = 0; i < w->fresh_count; i++)
		if (statement_id_equal(w->fresh[i], id))
			return true;
	return false;
}

static bool add_fresh(struct walk *w, struct statement_id id)
{
	if (w->fresh_count == FRESH_MAX)
		return false;
	w->fresh[w->fresh_count++] = id;
	return true;
}

static void send_message(const struct walk *w, const struct frame *f)
{
	if (!w->dry)
		conn_send(&w->s->link->conn, f->body - FRAME_HEADER, frame_size(f));
}

static bool prepare_anew(struct walk *w, struct statement_text *text, bool named)
{
	if (named && !add_fresh(w, text->id))
		return false;
	w->fresh_unnamed = w->fresh_unnamed || !named;
	return w->dry || prepared_again(w->s, text, named);
}

static bool send_renamed(const struct walk *w, const struct frame *f, struct slice name, const char *server_name)
{
	struct slice rest;

	if (w->dry)
		return true;
	if (!session_send_renamed_head(w->s, f, name, server_name, &rest))
		return false;
	conn_send(&w->s->link->conn, rest.bytes, rest.len);
	return true;
}

static bool may_prepare_anew(const struct walk *w, const struct frame *f, struct slice name,
			     const struct statement_text *text, bool failed)
{
	if (is_parsed(w, f, name) || (failed && w->fault == FAULT_LOST))
		return true;
	if (w->fault != FAULT_RESULT)
		return false;
	return f->type == 'D' || (is_described(w, f) && bind_fits(f, text));
}

/* A Bind, or a Describe of a statement. failed: it is the one that failed. */
static bool repeat_use(struct walk *w, const struct frame *f, bool failed)
{
	struct slice portal, name = statement_of(f, &portal);
	struct statement_text *text = named_at(w, name);
	bool fresh = text && (name.len ? is_fresh(w, text->id) : w->fresh_unnamed);

	if (text && !fresh) {
		if (may_prepare_anew(w, f, name, text, failed))
			fresh = prepare_anew(w, text, name.len > 0);
		if (!fresh && (failed || w->s->state == SESSION_CLOSED || w->fresh_count == FRESH_MAX))
			return false;
	}
	if (failed && !text)
		return false;
	if (text && name.len)
		return send_renamed(w, f, name, text->server_name);
	send_message(w, f);
	return true;
}

/* A Parse that the server skipped. */
static bool repeat_parse(struct walk *w, const struct expect *x, const struct frame *f)
{
	const struct statement_note *note = note_of(x);
	const struct statement_text *text = note ? note->text : x->object;
	bool unnamed = x->flags & EXPECT_SWALLOW ? x->flags & EXPECT_UNNAMED : !note || !*note->name;

	if (!text)
		return false; /* one that the server is to refuse */
	if (!unnamed && !add_fresh(w, text->id))
		return false;
	w->fresh_unnamed = w->fresh_unnamed || unnamed;
	if (!unnamed || !f || hints_may_begin(text->parse[0]))
		return w->dry || prepared_send_parse(w->s, text, unnamed ? "" : text->server_name);
	send_message(w, f);
	return true;
}

/* What the proxy had put in front of a message, and the server skipped with it. */
static bool repeat_own(struct walk *w, const struct expect *x)
{
	const struct statement_note *note = note_of(x);
	struct buf out = BUF_INIT(256);

	if (x->kind == EXPECT_PARSE)
		return repeat_parse(w, x, NULL);
	if (x->kind != EXPECT_CLOSE || !note)
		return false;
	if (w->dry)
		return true;
	prepared_add_close(&out, note->id);
	if (out.failed)
		return session_out_of_memory(w->s);
	conn_send(&w->s->link->conn, out.bytes, out.len);
	buf_free(&out);
	return true;
}

/* The client's message and its entry. */
static bool repeat_message(struct walk *w, const struct expect *x, const struct frame *f, bool failed)
{
	static const char types[] = {[EXPECT_SYNC] = 'S',     [EXPECT_PARSE] = 'P',   [EXPECT_BIND] = 'B',
				     [EXPECT_DESCRIBE] = 'D', [EXPECT_EXECUTE] = 'E', [EXPECT_CLOSE] = 'C'};

	if (x->kind >= ARRAY_SIZE(types) || types[x->kind] != f->type || x->flags & EXPECT_REPLACE ||
	    prepared_is_deallocate(x))
		return false;
	if (x->flags & EXPECT_LOCAL)
		return true;
	if (f->type == 'P')
		return repeat_parse(w, x, f);
	if (f->type == 'B' || describes_statement(f))
		return repeat_use(w, f, failed);
	send_message(w, f);
	return true;
}

/* The entry whose turn it was is done with. */
static void step(struct walk *w)
{
	struct expects *e = &w->s->link->expects;
	struct expect x = *expects_first(e);

	w->left--;
	if (w->dry) {
		w->at++;
		return;
	}
	expects_pop(e);
	(void)!expects_push(e, x); /* there is room: its own */
}

/* Those of the proxy's own in front of the client's next entry. */
static bool repeat_owns(struct walk *w)
{
	const struct expect *x;

	while (w->left && (x = expects_at(&w->s->link->expects, w->at))->flags & EXPECT_SWALLOW) {
		if (!repeat_own(w, x))
			return false;
		step(w);
	}
	return true;
}

/* Messages whose entries are gone already: answered here. */
static uint32_t count_answered(const struct walk *w)
{
	struct slice rest = w->batch;
	uint32_t messages = 0, entries = 0;
	struct frame f;

	while (next_message(&rest, &f))
		messages += f.type != 'H';
	for (uint32_t i = 0; i < w->left; i++)
		entries += !(expects_at(&w->s->link->expects, w->at + i)->flags & EXPECT_SWALLOW);
	return messages - MIN(messages, entries);
}

static bool walk(struct session *s, enum fault fault, bool dry)
{
	struct walk w = {.s = s,
			 .dry = dry,
			 .fault = fault,
			 .batch = slice_make(s->link->batch.bytes, s->link->batch.len),
			 .left = s->link->expects.count};
	uint32_t skip = count_answered(&w);
	struct slice rest = w.batch;
	bool failed = true; /* the first that is left */
	struct frame f;

	while (next_message(&rest, &f)) {
		if (skip && f.type != 'H') {
			skip--;
			continue;
		}
		if (f.type == 'H') {
			send_message(&w, &f);
			continue;
		}
		if (!repeat_owns(&w) || !w.left || !repeat_message(&w, expects_at(&s->link->expects, w.at), &f, failed))
			return false;
		step(&w);
		failed = false;
	}
	return w.left == 0 && rest.len == 0;
}

/* ---- when ---- */

static bool is_state(const struct error_fields *e, const char *sqlstate)
{
	return e->sqlstate.len == 5 && memcmp(e->sqlstate.bytes, sqlstate, strlen(sqlstate)) == 0;
}

static enum fault fault_of(const struct error_fields *e)
{
	if (prepared_error_is_stale(e))
		return FAULT_RESULT;
	/* 26000 counts if it is one of ours that the server does not know */
	if (is_state(e, "26000"))
		return prepared_error_names_ours(e) ? FAULT_LOST : FAULT_NONE;
	return is_state(e, "42") && !is_state(e, "42501") ? FAULT_TEXT : FAULT_NONE;
}

/* One batch is under way, all of it was sent, outside of a transaction, and the server has answered nothing of it. */
static bool is_untouched(const struct session *s)
{
	const struct link *link = s->link;
	const struct expects *e = &link->expects;
	const struct expect *x = expects_first(e);

	return link->batch.len && link->tx_status == 'I' && s->begin_state == BEGIN_NONE && !link->answering &&
	       s->left == 0 && s->mode != POOL_MODE_SESSION && e->answers == 1 &&
	       expects_last(e)->kind == EXPECT_SYNC && (x->kind == EXPECT_BIND || x->kind == EXPECT_DESCRIBE) &&
	       !(x->flags & EXPECT_SWALLOW);
}

/* Of a Describe the server has answered the first half by then, the parameters: it must not have been passed on. */
bool repair_begin(struct session *s, const struct error_fields *e)
{
	enum fault fault = fault_of(e);

	if (fault == FAULT_RESULT || fault == FAULT_LOST)
		pool_forget_statements(session_pool(s)); /* all links prepare their statements anew */
	if (fault == FAULT_NONE || !s->link->expects.count || !is_untouched(s) || !walk(s, fault, /* dry= */ true))
		return false;
	s->fault = (uint8_t)fault;
	conn_pause(&s->conn); /* nothing is to come between it and its repetition */
	return true;
}

bool repair_go_on(struct session *s)
{
	enum fault fault = (enum fault)s->fault;

	s->fault = FAULT_NONE;
	if (!walk(s, fault, /* dry= */ false)) {
		session_fatal(s, ERROR_SERVER_PROTOCOL, "a batch could not be repeated"); /* or it is closed */
		return false;
	}
	buf_clear(&s->link->batch); /* once is enough */
	count_add(&session_counters(s)->batches_repeated_total, 1);
	conn_resume(&s->conn);
	return true;
}
