/*
 * How long requests take, from their receipt to ReadyForQuery: each entry that ends with one knows when it began, so
 * those of a pipeline are counted one by one. Times are those of turns (clock_now()), so nothing reads a clock for
 * this.
 *
 * What the proxy answers by itself is no request here, unless it had to wait for that.
 */
#include "session/session_priv.h"

void latency_waits(struct session *s, const uint8_t *bytes, size_t len)
{
	struct frame f;

	if (!s->came && frame_read(bytes, len, &f) == FRAME_WHOLE)
		s->came = clock_now();
}

/* A pipelined one is the server's business from the answer before it on. */
void latency_answered_apart(struct session *s, usec_t began, char status)
{
	struct link *link = s->link;
	usec_t now = clock_now();

	latency_add(session_latencies(s), LATENCY_QUERY, clock_since(began, now));
	latency_add(session_latencies(s), LATENCY_SERVER,
		    clock_since(MAX(began, MAX(link->lent, link->answered)), now));
	if (link->expects.count)
		link->answered = now;
	if (!s->transaction_began)
		s->transaction_began = began;
	if (status != 'I')
		return;
	latency_add(session_latencies(s), LATENCY_TRANSACTION, clock_since(s->transaction_began, now));
	s->transaction_began = 0;
}

void latency_answered_shared(struct session *s, usec_t began, usec_t sent)
{
	usec_t now = clock_now();

	latency_add(session_latencies(s), LATENCY_QUERY, clock_since(began, now));
	latency_add(session_latencies(s), LATENCY_TRANSACTION, clock_since(began, now));
	latency_add(session_latencies(s), LATENCY_SERVER, clock_since(sent, now));
}

void latency_answered_here(struct session *s)
{
	if (!s->came)
		return;
	latency_add(session_latencies(s), LATENCY_QUERY, clock_since(s->came, clock_now()));
	s->came = 0;
}

void latency_lost(struct session *s)
{
	const struct expects *e = &s->link->expects;

	for (uint32_t i = 0; i < e->count; i++)
		if (expects_at(e, i)->began)
			latency_add(session_latencies(s), LATENCY_QUERY,
				    clock_since(expects_at(e, i)->began, clock_now()));
	if (s->begin_state == BEGIN_NONE)
		s->transaction_began = 0;
}

void latency_ended_here(struct session *s)
{
	if (s->transaction_began)
		latency_add(session_latencies(s), LATENCY_TRANSACTION, clock_since(s->transaction_began, clock_now()));
	s->transaction_began = 0;
}
