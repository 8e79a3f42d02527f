/*
 * Reads that wait until a standby has replayed what they must see ([lag_routing] wait). Such a session is WAITING, its
 * bytes are with the loop, and it is in its worker's list; while somebody is in one, the cluster's thread asks the
 * nodes for their positions every few milliseconds, and tells the workers. Then what waits is shown once more, and
 * decided anew: it may go, or waits on, up to the time that was set when it began.
 *
 * And SHOW helios.lsn, which waits for the position of the session's own writes in the same way.
 */
#include "session/routing_priv.h"

#include "cluster/cluster.h"

#include <stdio.h>
#include <strings.h>

static void await(struct worker *w, int more)
{
	struct cluster *c = atomic_load_explicit(&w->shared->cluster, memory_order_acquire);

	atomic_fetch_add(&w->replaying_count, (uint32_t)more);
	count_add(&w->pool_thread.counters.clients_awaiting_replay, (uint64_t)more);
	if (c)
		cluster_await_positions(c, more);
}

bool routing_wait(struct session *s, usec_t limit)
{
	usec_t now = clock_now();

	if (!s->replay_until) {
		s->replay_until = limit == USEC_NEVER ? USEC_NEVER : now + limit;
		count_add(&session_counters(s)->replay_waits_total, 1);
	}
	if (now >= s->replay_until)
		return false;
	s->fit = NULL; /* what waits is decided the long way when it is shown again */
	observe_waits(s);
	session_set_state(s, SESSION_WAITING);
	session_set_timer(s, TIMER_REPLAY, s->replay_until == USEC_NEVER ? 0 : s->replay_until - now);
	list_push_back(&s->worker->replaying, &s->replaying);
	await(s->worker, 1);
	return true;
}

static bool leave(struct session *s)
{
	if (list_is_empty(&s->replaying))
		return false;
	list_remove(&s->replaying);
	count_add(&session_counters(s)->replay_wait_us_total, clock_since(s->since, clock_now()));
	await(s->worker, -1);
	if (s->timer_meaning == TIMER_REPLAY)
		session_set_timer(s, TIMER_REPLAY, 0);
	return true;
}

bool routing_stop_waiting(struct session *s)
{
	s->replay_until = 0;
	return leave(s);
}

void routing_wait_over(struct session *s)
{
	if (!leave(s))
		return;
	session_set_state(s, SESSION_IDLE);
	conn_resume(&s->conn);
}

void routing_end_waits(struct worker *w)
{
	struct list *node;

	while ((node = list_first(&w->replaying)))
		routing_wait_over(list_entry(node, struct session, replaying));
}

/* ---- from the cluster's thread ---- */

static void told(struct loop_message *message, void *thread)
{
	struct worker *w = thread;

	(void)message;
	atomic_store(&w->positions_are_told, false);
	routing_end_waits(w); /* they come back, those that must */
}

void routing_positions_told(struct worker *w)
{
	if (atomic_load(&w->replaying_count) == 0 || atomic_exchange(&w->positions_are_told, true))
		return;
	w->positions_told.run = told;
	loop_post(w->pool_thread.loop, &w->positions_told);
}

/* ---- SHOW helios.lsn ---- */

#define SHOW_LSN "show helios.lsn"

bool routing_is_show_lsn(const uint8_t *bytes, size_t len)
{
	struct frame f;
	size_t text = sizeof(SHOW_LSN) - 1, end;

	if (len < FRAME_HEADER + text || *bytes != 'Q' || (bytes[FRAME_HEADER] | 0x20) != 's' ||
	    frame_read(bytes, len, &f) != FRAME_WHOLE || f.body_len <= text ||
	    strncasecmp((const char *)f.body, SHOW_LSN, text) != 0)
		return false;
	for (end = text; end < f.body_len && f.body[end] && strchr(" \t\r\n;", f.body[end]); end++)
		;
	return end + 1 == f.body_len && !f.body[end];
}

bool routing_show_lsn(struct session *s, const struct topology *t)
{
	usec_t limit = session_settings(s)->query_wait_timeout;
	bool known = routing_find_own(s, t);

	cluster_want_positions(atomic_load_explicit(&s->worker->shared->cluster, memory_order_relaxed));
	if (!known && routing_wait(s, limit ? limit : USEC_NEVER))
		return false;
	s->replay_until = 0;
	s->source = s->shard;
	s->routed = s->fail_next = s->tells_lsn = true;
	return true;
}

static void no_problem(void *to, const char *text)
{
	(void)to;
	(void)text;
}

/* The later one of what it has written, and what it was told to see. */
static uint64_t token(const struct session *s)
{
	const struct wish_rights rights = wish_rights_of(s->worker->settings.config, pool_user(session_pool(s)));
	const struct wish_listener nobody = {.problem = no_problem};
	struct route_wish wish;

	wishes_read(s->settings, NULL, s->worker->shared->nodes, &rights, &nobody, &wish);
	return MAX(s->own_lsn, wish.lsn);
}

void routing_tell_lsn(struct session *s)
{
	struct buf out = BUF_INIT(1024);
	uint64_t lsn = token(s);
	char text[24];

	s->tells_lsn = s->routed = false;
	if (s->wrote_at) {
		error_message(&out, ERROR_LSN_UNKNOWN, NULL);
	} else {
		snprintf(text, sizeof(text), "%X/%X", (unsigned)(lsn >> 32), (unsigned)lsn);
		message_row_description(&out, &(const char *){"helios.lsn"}, 1);
		message_data_row(&out, &(const char *){text}, 1);
		message_command_complete(&out, "SHOW");
	}
	message_ready(&out, 'I');
	session_send_buf(s, &out);
}
