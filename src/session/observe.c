/*
 * What the worker's stages hear of a session's requests (see stage/stage.h). Without a configured stage there is no
 * pipeline, no entry is marked, and nothing here is called but for a test of w->pipeline.
 */
#include "session/session_priv.h"

#include "stage/stage.h"

void observe_waits(struct session *s)
{
	if (unlikely(s->worker->pipeline) && !s->asked)
		s->asked = clock_now();
}

/* NULL: no memory; nobody hears of this one, it runs all the same. */
static struct request *make(struct session *s, struct slice text, bool extended, usec_t sent)
{
	struct request *r = request_new(s->worker->pipeline, text);

	if (!r)
		return NULL;
	r->counters = session_counters(s);
	r->database = pool_database(session_pool(s));
	r->user = pool_user(session_pool(s));
	r->application = s->application ? s->application : "";
	r->pid = session_pid(s);
	r->extended = extended;
	r->sent = sent;
	r->began = s->asked ? s->asked : sent;
	s->asked = 0;
	return r;
}

void observe_sent(struct session *s, struct slice text, bool extended)
{
	struct request *r = make(s, text, extended, clock_now());

	if (!r)
		return;
	list_push_back(&s->requests, &r->node);
	expects_last(&s->link->expects)->flags |= EXPECT_REQUEST;
}

void observe_shared(struct session *s, struct slice text, bool extended, usec_t sent, const char *sqlstate)
{
	struct request *r = make(s, text, extended, sent);

	if (!r)
		return;
	list_init(&r->node);
	snprintf(r->sqlstate, sizeof(r->sqlstate), "%s", sqlstate);
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
