/*
 * What the worker's stages hear of a session's requests (see stage/stage.h). Without a configured stage there is no
 * pipeline, no entry is marked, and nothing here is called but for a test of w->pipeline.
 */
#include "cluster/node.h"
#include "session/session_priv.h"
#include "session/share_priv.h"

#include "stage/stage.h"

void observe_waits(struct session *s)
{
	if (unlikely(s->worker->pipeline) && !s->asked)
		s->asked = clock_now();
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
	if (r->why < ROUTE_REASON_COUNT)
		r->reason = route_reason_word((enum route_reason)r->why);
}

static void tell(struct request *r)
{
	const struct session *s = r->session;

	r->database = pool_database(session_pool(s));
	r->user = pool_user(session_pool(s));
	r->application = s->application ? s->application : "";
	r->pid = session_pid(s);
	tell_where(r, r->link);
}

/* It is over. link: that it was sent on, or NULL. */
static void answer(const struct session *s, struct request *r, const struct link *link)
{
	r->session = s;
	r->link = link;
	request_answered(r, clock_now());
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

	if (!asked->text.bytes || !pipeline_wants_fingerprint(s->worker->pipeline))
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
	struct request *r = request_new(s->worker->pipeline, asked.text);

	if (!r)
		return NULL;
	r->fingerprint = fingerprint_of(s, &asked);
	r->owner = pool_names(session_pool(s));
	r->run = &s->run;
	r->counters = session_counters(s);
	r->tell = tell;
	r->why = s->worker->routing ? s->route_reason : ROUTE_REASON_COUNT;
	r->extended = asked.extended;
	r->sent = r->served = sent;
	r->began = s->asked ? s->asked : sent;
	s->asked = 0;
	return r;
}

static struct request *sent(struct session *s, struct asked asked)
{
	struct request *r = make(s, asked, clock_now());

	if (!r)
		return NULL;
	list_push_back(&s->requests, &r->node);
	expects_last(&s->link->expects)->flags |= EXPECT_REQUEST;
	return r;
}

void observe_sent(struct session *s, struct slice text, bool complete)
{
	(void)sent(s, (struct asked){.text = text, .is_found = complete, .is_part = !complete});
}

void observe_executed(struct session *s, struct statement_text *statement, uint32_t row_most)
{
	struct request *r = sent(s, asked_statement(statement));

	if (r)
		r->row_most = row_most;
}

void observe_shared(struct session *s, const struct turn *turn, struct slice text)
{
	struct request *r = make(s, turn->text ? asked_statement(turn->text) : asked_text(text), turn->sent);

	if (!r)
		return;
	r->rows = turn->rows;
	memcpy(r->sqlstate, turn->sqlstate, sizeof(r->sqlstate));
	answer(s, r, turn->lane ? turn->lane->link : NULL);
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
	answer(s, r, NULL);
}

static struct request *oldest(const struct session *s)
{
	assert(!list_is_empty(&s->requests));
	return list_entry(list_first(&s->requests), struct request, node);
}

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
	answer(s, r, s->link);
}

/* The statement of a Parse, as far as it is known. */
static struct statement_text *parsed(const struct expect *x)
{
	const struct statement_note *note = x->object;

	if (x->kind != EXPECT_PARSE || !x->object)
		return NULL;
	return x->flags & EXPECT_NOTE ? note->text : x->object;
}

/* Is the execution of what the entry x prepares, binds or describes under way behind it? Where another Parse (or what
 * stands for a refused one) is between them it is of that one, maybe. */
static bool is_executed(const struct expects *e, const struct expect *x)
{
	for (uint32_t i = expects_index(e, x) + 1; i < e->count; i++) {
		const struct expect *behind = expects_at(e, i);

		if (behind->flags & EXPECT_REQUEST)
			return true;
		if (behind->kind == EXPECT_PARSE || behind->flags & EXPECT_REPLACE || expect_ends_with_ready(behind))
			return false;
	}
	return false;
}

/* What is refused before it is executed has failed all the same. */
static NEVER_INLINE void blame(struct session *s, const struct expect *x, struct slice sqlstate)
{
	char state[6] = "";

	if (x->flags & (EXPECT_SWALLOW | EXPECT_REPLACE) || expect_ends_with_ready(x))
		return;
	if (is_executed(&s->link->expects, x)) {
		note_failure(oldest(s), sqlstate);
		s->blamed = true;
	} else if (s->worker->pipeline && parsed(x)) {
		memcpy(state, sqlstate.bytes, MIN(sqlstate.len, sizeof(state) - 1));
		observe_rejected(s, parsed(x), state);
	}
}

void observe_failed(struct session *s, const struct expect *x, struct slice sqlstate)
{
	if (x && x->flags & EXPECT_REQUEST)
		note_failure(oldest(s), sqlstate);
	else if (x && (s->worker->pipeline || !list_is_empty(&s->requests)))
		blame(s, x, sqlstate);
}

/* A pipelined one is the server's business from the answer before it on. */
void observe_settled(struct session *s, bool skipped)
{
	struct request *r = oldest(s);

	if (skipped && !s->blamed) {
		request_free(r);
		return;
	}
	s->blamed = false;
	r->served = MAX(r->sent, s->heard);
	s->heard = clock_now();
	answer(s, r, s->link);
}

uint64_t observe_rows(struct slice tag)
{
	uint64_t rows = 0, power = 1;

	while (tag.len > 0 && tag.bytes[tag.len - 1] >= '0' && tag.bytes[tag.len - 1] <= '9') {
		rows += power * (uint64_t)(tag.bytes[--tag.len] - '0');
		power *= 10;
	}
	return rows;
}

void observe_completed(struct session *s, struct slice tag)
{
	oldest(s)->rows += observe_rows(tag);
}

void observe_suspended(struct session *s)
{
	struct request *r = oldest(s);

	r->rows += r->row_most; /* it stops at no other number */
}

/* The entry behind the oldest marked one goes: a copy failed of it. */
void observe_dropped(struct session *s)
{
	request_free(list_entry(list_first(&s->requests)->next, struct request, node));
}

void observe_end(struct session *s)
{
	while (!list_is_empty(&s->requests))
		request_free(oldest(s));
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
	memcpy(r->sqlstate, s->refused, sizeof(r->sqlstate));
	s->refused[0] = 0;
	answer(s, r, NULL);
}
