/*
 * What links tell of their nodes becomes evidence for circuit breakers: logins, lost connections, errors. Nothing here
 * is called while breakers are off.
 */
#include "session/session_priv.h"

#include "route/breaker.h"

static bool opening(struct pool_thread *thread, struct node *node, uint32_t *ret_ticket)
{
	return breaker_begin(node, thread->index, ret_ticket);
}

/* What the proxy itself lacks (a secret) is not the node's fault. */
static enum breaker_failure judge_login(const struct node *node, const struct link_failure *failure, bool timed_out)
{
	if (!failure || failure->wants_password)
		return BREAKER_GOOD;
	if (failure->from_server)
		return breaker_judge_error(node, slice_str(failure->sqlstate));
	if (strcmp(failure->sqlstate, "08001") != 0 && strcmp(failure->sqlstate, "08006") != 0)
		return BREAKER_GOOD;
	return timed_out ? BREAKER_TIMEOUT : BREAKER_CONNECTION;
}

static void opened(struct pool_thread *thread, struct node *node, uint32_t ticket, const struct link_failure *failure,
		   usec_t took, bool timed_out)
{
	breaker_end(node, thread->index, ticket, judge_login(node, failure, timed_out), took);
}

static void given_up(struct node *node, uint32_t ticket)
{
	breaker_give_up(node, ticket);
}

static void answered(struct pool_thread *thread, struct node *node, uint32_t ticket, usec_t took)
{
	breaker_end(node, thread->index, ticket, BREAKER_GOOD, took);
}

static void lost(struct pool_thread *thread, struct node *node, uint32_t ticket)
{
	breaker_end(node, thread->index, ticket, BREAKER_CONNECTION, /* took= */ 0);
}

static bool failed(struct pool_thread *thread, struct node *node, uint32_t ticket, struct slice sqlstate)
{
	enum breaker_failure failure = breaker_judge_error(node, sqlstate);

	if (failure != BREAKER_GOOD)
		breaker_end(node, thread->index, ticket, failure, /* took= */ 0);
	return failure != BREAKER_GOOD;
}

void evidence_follow(struct worker *w)
{
	static const struct pool_watcher watcher = {.opening = opening,
						    .opened = opened,
						    .given_up = given_up,
						    .answered = answered,
						    .lost = lost,
						    .failed = failed};

	w->pool_thread.watcher = w->shared->breakers && breakers_enabled(w->shared->breakers) ? &watcher : NULL;
}

void evidence_asked(struct session *s)
{
	struct link *link = s->link;

	if (!link->asked)
		link->asked = clock_now();
	if (!link->ticket)
		link->ticket = breaker_join(link_node(link));
}

/* What a client takes to send the data of a COPY is not the server's time. */
void evidence_answered(struct session *s)
{
	struct link *link = s->link;

	pool_saw_answer(link, s->copying_in || !link->asked ? 0 : clock_since(link->asked, clock_now()));
	link->asked = link->expects.answers ? clock_now() : 0;
}

void evidence_tick(const struct worker *w)
{
	if (w->pool_thread.index == 0 && w->shared->breakers)
		breakers_tick(w->shared->breakers);
}
