/*
 * What the worker's stages hear of a session's requests (see stage/stage.h). Without a configured stage there is no
 * pipeline, no entry is marked, and nothing here is called but for a test of w->pipeline.
 */
#include "cluster/node.h"
#include "session/observe.h"
#include "session/share_priv.h"
#include "session/underway.h"

void observe_waits(struct session *s)
{
	if (unlikely(s->worker->pipeline) && !s->asked)
		s->asked = clock_now();
}

static inline struct session *session_of(const struct request *r)
{
	return container_of(r->asker, struct session, asker);
}

/* Where it went, as far as a server was asked. */
static void tell_where(struct request *r, const struct link *link)
{
	static const char *const roles[] = {
		[NODE_PRIMARY] = "primary", [NODE_STANDBY] = "standby", [NODE_REPLICA] = "replica"};
	struct node *node = link ? link_node(link) : NULL;

	r->node_name = r->host = r->role = r->reason = NULL;
	r->port = 0;
	if (!node)
		return;
	r->node_name = node->name;
	r->host = node->host;
	r->port = node->port;
	r->role = roles[atomic_load_explicit(&node->role, memory_order_relaxed)];
	if (session_of(r)->worker->routing && r->why < ROUTE_REASON_COUNT)
		r->reason = route_reason_word((enum route_reason)r->why);
}

void observe_tell(struct request *r)
{
	const struct session *s = session_of(r);

	r->database = pool_database(session_pool(s));
	r->user = pool_user(session_pool(s));
	r->application = s->application ? s->application : "";
	r->pid = session_pid(s);
	tell_where(r, r->link);
}

static NEVER_INLINE void free_statement(const struct request *r)
{
	statement_text_free(session_of(r)->worker->statements, r->statement);
}

static inline void leave(struct request *r)
{
	struct statement_text *statement = r->statement;

	if (statement && unlikely(--statement->references == 0))
		free_statement(r);
	request_free(r);
}

/* It is over, and freed. link: that it was sent on, or NULL. */
static inline void answer(struct request *r, const struct link *link, usec_t now)
{
	r->link = link;
	request_tell_stages(r, now);
	leave(r);
}

/* ---- what is asked ---- */

/* All but its fingerprint. */
static inline void begin(struct session *s, struct request *r, bool extended, usec_t sent)
{
	r->asker = &s->asker;
	r->why = s->route_reason;
	r->extended = extended;
	r->sent = r->began = sent;
	if (unlikely(s->asked)) {
		r->began = s->asked;
		s->asked = 0;
	}
}

/* What was asked. statement NULL: a simple query, or one that is not known. */
struct asked {
	struct slice text;
	struct statement_text *statement;
	bool extended;
	bool is_found; /* text is what w->queries was asked for last */
	bool is_part;  /* more of it is to come: how much there is by now is chance */
};

static struct asked asked_text(struct slice text)
{
	return (struct asked){.text = text};
}

static struct asked asked_statement(struct statement_text *statement)
{
	return (struct asked){.text = statement_text_sql(statement), .statement = statement, .extended = true};
}

static uint64_t fingerprint_of(struct session *s, const struct asked *asked)
{
	struct fingerprints *f = &s->worker->fingerprints;

	if (!asked->text.bytes || !s->worker->pipeline->wants_fingerprint)
		return 0;
	if (asked->statement)
		return fingerprint_of_statement(f, asked->statement);
	if (unlikely(asked->is_part))
		return fingerprint_find(f, slice_make(asked->text.bytes, MIN(asked->text.len, HINT_BYTES_MAX)), NULL);
	return fingerprint_find(f, asked->text, asked->is_found ? &s->worker->queries : NULL);
}

/* NULL: no memory; nobody hears of this one, it runs all the same. */
static struct request *make(struct session *s, struct asked asked, usec_t sent)
{
	struct pipeline *p = s->worker->pipeline;
	struct request *r = asked.statement ? request_new_of(p, asked.text) : request_new(p, asked.text);

	if (!r)
		return NULL;
	begin(s, r, asked.extended, sent);
	r->served = sent;
	if (asked.statement)
		r->statement = statement_text_ref(asked.statement);
	r->fingerprint = fingerprint_of(s, &asked);
	return r;
}

/* What needs more than observe_sent() and observe_executed() do by themselves, which call no function otherwise. */
static NEVER_INLINE void send_text(struct session *s, struct expect *x, struct slice text)
{
	x->request = make(s, (struct asked){.text = text, .is_found = true}, clock_now());
}

void observe_sent_part(struct session *s, struct expect *x, struct slice text)
{
	x->request = make(s, (struct asked){.text = text, .is_part = true}, clock_now());
}

static NEVER_INLINE void send_statement(struct session *s, struct expect *x, struct statement_text *statement,
					uint32_t row_most)
{
	struct request *r = make(s, asked_statement(statement), clock_now());

	if (r)
		r->row_most = row_most;
	x->request = r;
}

/* Is it the copy that is kept for people, and the whole of it? While it is under way it's that of no other. */
static inline bool is_kept(const struct link *link, const struct expect *x, struct slice text)
{
	return x->name_hash == UNDERWAY_KEPT && link->text_len == text.len;
}

void observe_sent(struct session *s, struct expect *x, struct slice text)
{
	struct worker *w = s->worker;
	struct pipeline *p = w->pipeline;
	struct request *r = p->spares;
	uint64_t fingerprint;

	if (unlikely(!r || !is_kept(s->link, x, text) || !(fingerprint = fingerprint_known(text, &w->queries)))) {
		send_text(s, x, text);
		return;
	}
	p->spares = r->next;
	request_begin(r, slice_make(s->link->text, text.len));
	begin(s, r, /* extended= */ false, clock_of_turn());
	r->fingerprint = fingerprint;
	x->request = r;
}

void observe_executed(struct session *s, struct expect *x, struct statement_text *statement, uint32_t row_most)
{
	struct pipeline *p = s->worker->pipeline;
	struct request *r = p->spares;

	if (unlikely(!r || !statement || !statement->fingerprint)) {
		send_statement(s, x, statement, row_most);
		return;
	}
	p->spares = r->next;
	request_begin(r, statement_text_sql(statement));
	begin(s, r, /* extended= */ true, clock_of_turn());
	r->statement = statement_text_ref(statement);
	r->row_most = row_most;
	r->fingerprint = statement->fingerprint;
	x->request = r;
}

void observe_shared(struct session *s, const struct turn *turn, struct slice text)
{
	struct request *r = make(s, turn->text ? asked_statement(turn->text) : asked_text(text), turn->sent);

	if (!r)
		return;
	r->rows = turn->rows;
	memcpy(r->sqlstate, turn->sqlstate, sizeof(turn->sqlstate));
	answer(r, turn->lane ? turn->lane->link : NULL, clock_now());
}

void observe_answered_here(struct session *s, struct slice text, struct statement_text *statement)
{
	struct request *r;

	if (s->state == SESSION_CLOSED)
		return;
	r = make(s, statement ? asked_statement(statement) : asked_text(text), clock_now());
	if (!r)
		return;
	r->here = true;
	answer(r, NULL, clock_now());
}

/* ---- how it ends ---- */

static void note_failure(struct request *r, struct slice sqlstate)
{
	snprintf(r->sqlstate, sizeof(r->sqlstate), "%.*s", (int)MIN(sqlstate.len, (size_t)5),
		 (const char *)sqlstate.bytes);
}

void observe_rejected(struct session *s, struct statement_text *statement, const char *sqlstate)
{
	struct request *r = make(s, asked_statement(statement), clock_now());

	if (!r)
		return;
	note_failure(r, slice_str(sqlstate));
	answer(r, s->link, clock_now());
}

/* The statement of a Parse, as far as it is known. */
static struct statement_text *parsed(const struct expect *x)
{
	const struct statement_note *note = x->object;

	if (x->kind != EXPECT_PARSE || !x->object)
		return NULL;
	return x->flags & EXPECT_NOTE ? note->text : x->object;
}

/* The execution of what the entry x prepares, binds or describes, if it is under way behind it. Where another Parse (or
 * what stands for a refused one) is between them it is of that one, maybe. */
static struct request *execution_of(const struct expects *e, const struct expect *x)
{
	for (uint32_t i = expects_index(e, x) + 1; i < e->count; i++) {
		const struct expect *behind = expects_at(e, i);

		if (behind->request)
			return behind->request;
		if (behind->kind == EXPECT_PARSE || behind->flags & EXPECT_REPLACE || expect_ends_with_ready(behind))
			return NULL;
	}
	return NULL;
}

/* What is refused before it is executed has failed all the same. */
static NEVER_INLINE void blame(struct session *s, const struct expect *x, struct slice sqlstate)
{
	struct request *execution;
	char state[6] = "";

	if (x->flags & (EXPECT_SWALLOW | EXPECT_REPLACE) || expect_ends_with_ready(x))
		return;
	execution = execution_of(&s->link->expects, x);
	if (execution) {
		note_failure(execution, sqlstate);
		s->blamed = true;
	} else if (s->worker->pipeline && parsed(x)) {
		memcpy(state, sqlstate.bytes, MIN(sqlstate.len, sizeof(state) - 1));
		observe_rejected(s, parsed(x), state);
	}
}

void observe_failed(struct session *s, const struct expect *x, struct slice sqlstate)
{
	if (x && x->request)
		note_failure(x->request, sqlstate);
	else if (x)
		blame(s, x, sqlstate);
}

/* A pipelined one is the server's business from the answer before it on. */
void observe_settled(struct session *s, struct request *r, bool skipped)
{
	usec_t now = clock_of_turn();

	if (unlikely(skipped) && !s->blamed) {
		observe_dropped(r);
		return;
	}
	s->blamed = false;
	r->served = MAX(r->sent, s->heard);
	s->heard = now;
	answer(r, s->link, now);
}

void observe_dropped(struct request *r)
{
	leave(r);
}

uint64_t observe_rows_at_end(struct slice tag)
{
	uint64_t rows = 0, power = 1;

	while (tag.len > 0 && tag.bytes[tag.len - 1] >= '0' && tag.bytes[tag.len - 1] <= '9') {
		rows += power * (uint64_t)(tag.bytes[--tag.len] - '0');
		power *= 10;
	}
	return rows;
}

void observe_suspended(struct request *r)
{
	r->rows += r->row_most; /* it stops at no other number */
}

/* ---- without a server ---- */

void observe_refusal(struct session *s, const uint8_t *error, size_t len)
{
	struct error_fields e = {0};
	struct frame f;

	s->refused[0] = 0;
	if (frame_read(error, len, &f) == FRAME_WHOLE && f.type == 'E' && message_read_error(f.body, f.body_len, &e))
		snprintf(s->refused, sizeof(s->refused), "%.*s", (int)MIN(e.sqlstate.len, (size_t)5),
			 (const char *)e.sqlstate.bytes);
}

/* As far as it has come: of a query all of it, of a Parse what is behind its name. */
static struct slice text_of(const struct frame *f, size_t available)
{
	struct slice text = {f->body,
			     available > FRAME_HEADER ? MIN(available - FRAME_HEADER, (size_t)f->body_len) : 0};
	const uint8_t *nul = memchr(text.bytes, 0, text.len);

	if (f->type != 'Q' && f->type != 'P')
		return (struct slice){0};
	if (f->type == 'P') {
		text = nul ? slice_make(nul + 1, text.len - (size_t)(nul + 1 - text.bytes)) : (struct slice){0};
		nul = text.len ? memchr(text.bytes, 0, text.len) : NULL;
	}
	return nul ? slice_make(text.bytes, (size_t)(nul - text.bytes)) : text;
}

/* What a Bind binds. */
static struct asked bound_by(const struct session *s, const struct frame *f, size_t available)
{
	struct reader r =
		reader_make(f->body, available > FRAME_HEADER ? MIN(f->body_len, available - FRAME_HEADER) : 0);
	struct slice name;

	read_cstring(&r);
	name = read_cstring(&r);
	return asked_statement(r.failed ? NULL : prepared_find(s, name));
}

void observe_refused(struct session *s, const struct frame *f, size_t available)
{
	struct asked asked = {.text = text_of(f, available), .extended = f->type != 'Q'};
	struct request *r = NULL;

	if (f->type == 'B')
		asked = bound_by(s, f, available);
	if (s->refused[0])
		r = make(s, asked, clock_now());
	if (!r)
		return;
	memcpy(r->sqlstate, s->refused, sizeof(s->refused));
	s->refused[0] = 0;
	answer(r, NULL, clock_now());
}
