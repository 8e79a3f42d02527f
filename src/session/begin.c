/*
 * Deferred BEGIN (pool.defer_begin). In transaction mode a bare BEGIN that comes without a link is answered here, and
 * sent in front of the client's next request, in the same packet. So a transaction costs a round trip less, and a
 * client that thinks between BEGIN and its first statement holds no link.
 *
 *   NONE -> DEFERRED -> SENT -> NONE                 ReadyForQuery of the first request has come
 *               \________\___> FAILED <-> SHOWN -> NONE     a server is in that state
 *
 * From DEFERRED and FAILED a bare COMMIT or ROLLBACK leads to NONE, answered here: that is all of a transaction in
 * which nothing was done.
 *
 * It is sent as Parse, Bind and Execute without a Sync: should it fail, the server skips what is behind it, a simple
 * query too. So nothing of the client's ever runs outside of the transaction that it was told it is in.
 *
 * FAILED: the first request could not be sent or not be answered (no link to be had, a cancel meanwhile, a server that
 * refuses BEGIN or is lost). The client has that error, and ReadyForQuery said 'E'. What it says next is for a server
 * to answer, with all that may be said in a transaction that has failed: one is brought into that state first.
 */
#include "session/session_priv.h"

#include <ctype.h>

/* ---- what is understood: words and commas, nothing that a server could refuse ---- */

#define WORDS_MAX 16u
#define BATCH_MAX 512u /* what is longer goes to the server */

struct words {
	char text[WORDS_MAX][16];
	uint32_t count, at;
};

/* In capitals. false: there is something else, or too much. */
static bool split(const char *text, struct words *ret)
{
	size_t len;

	ret->count = ret->at = 0;
	while (*(text += strspn(text, " \t\r\n"))) {
		len = *text == ',' ? 1 : strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz");
		if (*text == ';')
			return text[1 + strspn(text + 1, " \t\r\n")] == 0;
		if (len == 0 || len >= sizeof(ret->text[0]) || ret->count == WORDS_MAX)
			return false;
		for (size_t i = 0; i < len; i++)
			ret->text[ret->count][i] = (char)toupper((unsigned char)text[i]);
		ret->text[ret->count++][len] = 0;
		text += len;
	}
	return true;
}

static bool take(struct words *w, const char *word)
{
	if (w->at == w->count || strcmp(w->text[w->at], word) != 0)
		return false;
	w->at++;
	return true;
}

static bool is_over(const struct words *w)
{
	return w->at == w->count;
}

/* Those that no server refuses: a standby does SERIALIZABLE and READ WRITE. */
static bool take_mode(struct words *w)
{
	if (take(w, "ISOLATION"))
		return take(w, "LEVEL") && ((take(w, "REPEATABLE") && take(w, "READ")) ||
					    (take(w, "READ") && (take(w, "COMMITTED") || take(w, "UNCOMMITTED"))));
	if (take(w, "READ"))
		return take(w, "ONLY");
	(void)take(w, "NOT");
	return take(w, "DEFERRABLE");
}

/* The tag of its answer; NULL: it is none of the usual ones. */
static const char *read_begin(const char *text)
{
	struct words w;
	const char *tag = "BEGIN";

	if (!split(text, &w))
		return NULL;
	if (take(&w, "START"))
		tag = take(&w, "TRANSACTION") ? "START TRANSACTION" : NULL;
	else if (take(&w, "BEGIN"))
		(void)(take(&w, "WORK") || take(&w, "TRANSACTION"));
	else
		return NULL;
	for (bool first = true; !is_over(&w); first = false)
		if ((!first && take(&w, ",") && is_over(&w)) || !take_mode(&w))
			return NULL;
	return tag;
}

static const char *read_end(const char *text)
{
	struct words w;
	const char *tag;

	if (!split(text, &w))
		return NULL;
	if (take(&w, "COMMIT") || take(&w, "END"))
		tag = "COMMIT";
	else if (take(&w, "ROLLBACK") || take(&w, "ABORT"))
		tag = "ROLLBACK";
	else
		return NULL;
	(void)(take(&w, "WORK") || take(&w, "TRANSACTION"));
	return is_over(&w) ? tag : NULL;
}

/* ---- answering ---- */

static bool is_one_statement(const struct query_info *info, enum statement_verb verb)
{
	return info->scan.count == 1 && !info->opaque && info->scan.statements[0].verb == verb;
}

void begin_forget(struct session *s)
{
	query_info_unref(s->begin);
	s->begin = NULL;
	s->begin_state = BEGIN_NONE;
}

static bool may_defer(const struct session *s)
{
	const struct config_pool *p = session_settings(s);

	return p->defer_begin && p->mode == POOL_MODE_TRANSACTION && !s->worker->closing;
}

/* The statement is executed here, if that can be: the tag of its answer. NULL: it can't. */
static const char *run_here(struct session *s, struct query_info *info)
{
	const char *tag = NULL;

	if (s->begin_state == BEGIN_NONE) {
		if (!may_defer(s) || !is_one_statement(info, VERB_BEGIN) || !(tag = read_begin(info->text)))
			return NULL;
		s->begin = query_info_ref(info);
		s->begin_state = BEGIN_DEFERRED;
		s->since = s->transaction_began = clock_now();
		count_add(&session_counters(s)->begins_deferred_total, 1);
		return tag;
	}
	if (is_one_statement(info, VERB_COMMIT) || is_one_statement(info, VERB_ROLLBACK))
		tag = read_end(info->text);
	if (!tag)
		return NULL;
	if (s->begin_state == BEGIN_FAILED)
		tag = "ROLLBACK";
	begin_forget(s);
	latency_ended_here(s);
	count_add(&session_stats(s)->transactions, 1);
	return tag;
}

/* The rest of an answer: from the tag on. */
static void answer(struct session *s, struct buf *out, const char *tag)
{
	message_command_complete(out, tag);
	message_ready(out, begin_status(s));
	session_send_buf(s, out);
	latency_answered_here(s);
	s->batch++;
	s->routed = false;
	count_add(&session_stats(s)->queries, 1);
	begin_set_idle_timer(s);
	if (unlikely(s->worker->closing && s->begin_state == BEGIN_NONE))
		session_fatal(s, ERROR_SHUTTING_DOWN, NULL);
}

bool begin_answers(struct session *s, struct query_info *info, size_t text_len)
{
	struct buf out = BUF_INIT(1024);
	const char *tag;

	if (s->link || (s->begin_state == BEGIN_NONE && !session_settings(s)->defer_begin))
		return false;
	if (text_len > BATCH_MAX || strlen(info->text) != text_len || !(tag = run_here(s, info)))
		return false;
	if (s->unnamed || s->unnamed_pending)
		prepared_forget_unnamed(s); /* a simple query ends it */
	s->begin_by_portal = false;
	answer(s, &out, tag);
	return true;
}

void begin_set_idle_timer(struct session *s)
{
	bool in_transaction = s->begin_state != BEGIN_NONE;
	usec_t limit = in_transaction ? session_settings(s)->idle_transaction_timeout
				      : session_settings(s)->client_idle_timeout;

	if (limit || timer_is_set(&s->timer))
		session_set_timer(s, in_transaction ? TIMER_IDLE_TRANSACTION : TIMER_IDLE, limit);
}

/* ---- the same by the extended protocol ---- */

/* All of a batch: (Parse of the unnamed statement,) Bind, (Describe,) Execute, Sync, of the unnamed portal. */
struct batch {
	size_t len;
	struct slice parse; /* behind the name; empty: none */
	struct slice name;  /* of the statement */
	bool describes;
};

static bool next(struct slice *rest, uint8_t type, struct frame *ret, struct reader *ret_body)
{
	if (frame_read(rest->bytes, rest->len, ret) != FRAME_WHOLE || ret->type != type)
		return false;
	*rest = slice_make(rest->bytes + frame_size(ret), rest->len - frame_size(ret));
	*ret_body = reader_make(ret->body, ret->body_len);
	return true;
}

static bool is_bare_bind(struct reader *r, struct slice *ret_name)
{
	struct slice portal = read_cstring(r);

	*ret_name = read_cstring(r);
	return portal.len == 0 && read_u16(r) == 0 && read_u16(r) == 0 && read_u16(r) <= 1 && !r->failed;
}

static bool read_batch(const uint8_t *bytes, size_t len, struct batch *ret)
{
	struct slice rest = slice_make(bytes, MIN(len, BATCH_MAX));
	struct reader r;
	struct frame f;

	*ret = (struct batch){0};
	if (next(&rest, 'P', &f, &r)) {
		if (read_cstring(&r).len)
			return false;
		ret->parse = read_rest(&r);
	}
	if (!next(&rest, 'B', &f, &r) || !is_bare_bind(&r, &ret->name) || (ret->parse.len && ret->name.len))
		return false;
	if (next(&rest, 'D', &f, &r)) {
		ret->describes = read_u8(&r) == 'P' && read_cstring(&r).len == 0 && reader_done(&r);
		if (!ret->describes)
			return false;
	}
	if (!next(&rest, 'E', &f, &r) || read_cstring(&r).len || read_u32(&r) || !reader_done(&r) ||
	    !next(&rest, 'S', &f, &r) || f.body_len)
		return false;
	ret->len = (size_t)(rest.bytes - bytes);
	return true;
}

/* A reference; NULL: there is none, or it is nothing that would be answered here. */
static struct statement_text *statement_of(struct session *s, const struct batch *b)
{
	struct statement_text *text;
	const char *sql = (const char *)b->parse.bytes; /* bytes of a batch follow, and end it */

	if (!b->parse.len) {
		text = prepared_find(s, b->name);
		return text && text->info ? statement_text_ref(text) : NULL;
	}
	if (s->begin_state == BEGIN_NONE && strncasecmp(sql, "BEGIN", 5) != 0 && strncasecmp(sql, "START", 5) != 0)
		return NULL;
	return statement_table_get(s->worker->statements, &s->worker->queries, b->parse, params_meaning(s->settings));
}

/* The batch was answered: what it leaves to the client. */
static bool remember(struct session *s, const struct batch *b, struct statement_text *text)
{
	if (b->parse.len) {
		prepared_forget_unnamed(s);
		s->unnamed = statement_text_ref(text);
	}
	s->begin_by_portal = true;
	return prepared_bind_portal(s, SLICE_LITERAL(""), s->begin_state == BEGIN_NONE ? NULL : text);
}

static void add_empty(struct buf *out, uint8_t type)
{
	const uint8_t message[] = {type, 0, 0, 0, 4};

	buf_add(out, message, sizeof(message));
}

size_t begin_answers_batch(struct session *s, const uint8_t *bytes, size_t len)
{
	struct buf out = BUF_INIT(1024);
	struct statement_text *text;
	const char *tag = NULL;
	struct batch b;

	if ((s->begin_state == BEGIN_NONE && !may_defer(s)) || !read_batch(bytes, len, &b) ||
	    !(text = statement_of(s, &b)))
		return 0;
	if (text->info && text->len == strlen(text->info->text) + 3) /* no types of parameters */
		tag = run_here(s, text->info);
	if (tag && remember(s, &b, text)) {
		if (b.parse.len)
			add_empty(&out, '1');
		add_empty(&out, '2');
		if (b.describes)
			add_empty(&out, 'n');
		answer(s, &out, tag);
		if (unlikely(s->worker->pipeline) && s->state != SESSION_CLOSED)
			observe_answered_here(s, statement_text_sql(text), text);
	}
	statement_text_unref(s->worker->statements, text);
	return tag ? b.len : 0;
}

bool begin_comes(struct session *s, const uint8_t *bytes, size_t len)
{
	const struct statement_text *text;
	struct batch b;
	struct frame f;

	if (s->begin_state != BEGIN_NONE || !may_defer(s) || frame_read(bytes, len, &f) != FRAME_WHOLE)
		return false;
	if (f.type == 'Q')
		return f.body_len && f.body_len <= BATCH_MAX && f.body[f.body_len - 1] == 0 &&
		       read_begin((const char *)f.body) != NULL;
	if (!read_batch(bytes, len, &b))
		return false;
	if (b.parse.len)
		return read_begin((const char *)b.parse.bytes) != NULL;
	text = prepared_find(s, b.name);
	return text && read_begin((const char *)text->parse);
}

/* ---- sending ---- */

static bool send_begin(struct session *s)
{
	static const uint8_t bind_and_execute[] = {'B', 0,   0, 0, 12, 0, 0, 0, 0, 0, 0, 0,
						   0,   'E', 0, 0, 0,  9, 0, 0, 0, 0, 0};
	static const uint8_t close_portal[] = {'C', 0, 0, 0, 6, 'P', 0};
	static const uint8_t kinds[] = {EXPECT_PARSE, EXPECT_BIND, EXPECT_EXECUTE, EXPECT_CLOSE};
	struct link *link = s->link;
	size_t text_size = strlen(s->begin->text) + 1, size = FRAME_HEADER + 1 + text_size + 2;
	uint8_t *parse = loop_turn_alloc(s->conn.loop, size);

	if (!parse)
		return session_out_of_memory(s);
	/* behind a simple query there is no unnamed portal that the client could find */
	for (size_t i = 0; i < ARRAY_SIZE(kinds) - s->begin_by_portal; i++)
		if (session_expect(s, (enum expect_kind)kinds[i], EXPECT_SWALLOW, PURPOSE_BEGIN, NULL) < 0)
			return session_out_of_memory(s);
	parse[0] = 'P';
	put_be32(parse + 1, (uint32_t)(size - 1));
	parse[FRAME_HEADER] = 0;
	memcpy(parse + FRAME_HEADER + 1, s->begin->text, text_size);
	hinted_blank(s->worker, parse + FRAME_HEADER + 1, text_size - 1);
	memset(parse + size - 2, 0, 2);
	conn_send_ref(&link->conn, parse, size);
	conn_send_ref(&link->conn, bind_and_execute, sizeof(bind_and_execute));
	if (!s->begin_by_portal)
		conn_send_ref(&link->conn, close_portal, sizeof(close_portal));
	link->has_unnamed = false;
	link->begin_sent = true;
	s->begin_state = BEGIN_SENT;
	return true;
}

/* The server gets a transaction that has failed, with the modes that the client's has (AND CHAIN takes them over). */
static bool show_failed(struct session *s)
{
	struct buf sql = BUF_INIT(65536), out = BUF_INIT(65536);
	bool fine;

	buf_printf(&sql, "%s\n;ROLLBACK TO SAVEPOINT \"of a transaction that has failed\"", s->begin->text);
	message_query(&out, slice_make(sql.bytes, sql.len));
	fine = !sql.failed && !out.failed && session_expect(s, EXPECT_QUERY, EXPECT_SWALLOW, PURPOSE_BEGIN, NULL) == 0;
	if (fine) {
		conn_send(&s->link->conn, out.bytes, out.len);
		s->link->has_unnamed = false;
		s->begin_state = BEGIN_SHOWN;
	}
	buf_free(&sql);
	buf_free(&out);
	return fine || session_out_of_memory(s);
}

bool begin_go_on(struct session *s)
{
	switch ((enum begin_state)s->begin_state) {
	case BEGIN_DEFERRED:
		return send_begin(s);
	case BEGIN_FAILED:
		(void)show_failed(s);
		return false;
	case BEGIN_SHOWN:
		return false;
	case BEGIN_NONE:
	case BEGIN_SENT:
		break;
	}
	return true;
}

void begin_shown(struct session *s, const uint8_t *error, size_t len)
{
	if (s->link->tx_status == 'E') {
		begin_forget(s);
		conn_resume(&s->conn);
		return;
	}
	s->begin_state = BEGIN_FAILED;
	s->link->close_when_free = true;
	if (error)
		session_fail_request(s, error, len); /* not even the BEGIN could be: and so it stays */
	else
		session_fatal(s, ERROR_SERVER_PROTOCOL, "an error was expected");
}
