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

/* Where it went. link NULL: nowhere. */
static void say_where(struct request *r, const struct session *s, const struct link *link)
{
	static const char *const roles[] = {
		[NODE_PRIMARY] = "primary", [NODE_STANDBY] = "standby", [NODE_REPLICA] = "replica"};
	struct node *node = link ? link_node(link) : NULL;

	if (!node)
		return;
	r->node_name = node->name;
	r->host = node->host;
	r->port = node->port;
	r->role = roles[atomic_load_explicit(&node->role, memory_order_relaxed)];
	if (s->worker->routing && s->route_reason < ROUTE_REASON_COUNT)
		r->reason = route_reason_word((enum route_reason)s->route_reason);
}

/* NULL: no memory; nobody hears of this one, it runs all the same. */
static struct request *make(struct session *s, const struct link *link, struct slice text, bool extended, usec_t sent)
{
	struct request *r = request_new(s->worker->pipeline, text);

	if (!r)
		return NULL;
	r->counters = session_counters(s);
	r->database = pool_database(session_pool(s));
	r->user = pool_user(session_pool(s));
	r->application = s->application ? s->application : "";
	r->pid = session_pid(s);
	say_where(r, s, link);
	r->extended = extended;
	r->sent = sent;
	r->began = s->asked ? s->asked : sent;
	s->asked = 0;
	return r;
}

void observe_sent(struct session *s, struct slice text, bool extended)
{
	struct request *r = make(s, s->link, text, extended, clock_now());

	if (!r)
		return;
	list_push_back(&s->requests, &r->node);
	expects_last(&s->link->expects)->flags |= EXPECT_REQUEST;
}

void observe_shared(struct session *s, const struct turn *turn, struct slice text)
{
	struct request *r =
		make(s, turn->lane ? turn->lane->link : NULL, text, /* extended= */ turn->text != NULL, turn->sent);

	if (!r)
		return;
	snprintf(r->sqlstate, sizeof(r->sqlstate), "%s", turn->sqlstate);
	request_answered(r, clock_now());
}

static struct request *oldest(const struct session *s)
{
	assert(!list_is_empty(&s->requests));
	return list_entry(list_first(&s->requests), struct request, node);
}

void observe_failed(struct session *s, const struct expect *x, struct slice sqlstate)
{
	if (x && x->flags & EXPECT_REQUEST)
		snprintf(oldest(s)->sqlstate, sizeof(oldest(s)->sqlstate), "%.*s", (int)MIN(sqlstate.len, (size_t)5),
			 (const char *)sqlstate.bytes);
}

void observe_settled(struct session *s, bool skipped)
{
	if (skipped)
		request_free(oldest(s));
	else
		request_answered(oldest(s), clock_now());
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

void observe_refused(struct session *s, const struct frame *f, size_t available)
{
	struct request *r = s->refused[0] ? make(s, NULL, text_of(f, available), f->type != 'Q', clock_now()) : NULL;

	if (!r)
		return;
	memcpy(r->sqlstate, s->refused, sizeof(r->sqlstate));
	s->refused[0] = 0;
	request_answered(r, clock_now());
}
