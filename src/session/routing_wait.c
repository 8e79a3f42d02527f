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
	count_add(&session_counters(s)->replay_wait_us, clock_since(s->since, clock_now()));
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
	struct route_wish wish = {0};

	wishes_read(s->settings, NULL, s->worker->shared->nodes, &rights, &nobody, &wish);
	return MAX(s->own_lsn, wish.lsn);
}

/* It gets the setting as if it had said SET, and the server shows that: in any protocol, with any driver. */
bool routing_show_lsn(struct session *s, const struct topology *t)
{
	usec_t limit = session_settings(s)->query_wait_timeout;
	bool known = routing_find_own(s, t);
	uint64_t lsn;
	char sql[64];

	if (!known && routing_wait(s, limit ? limit : USEC_NEVER))
		return false;
	s->replay_until = 0;
	s->source = s->shard;
	s->routed = true;
	if (!known) {
		routing_refuse(s, ERROR_LSN_UNKNOWN);
		return !s->fail_next;
	}
	lsn = token(s);
	snprintf(sql, sizeof(sql), "SET helios.lsn TO '%X/%X'", (unsigned)(lsn >> 32), (unsigned)lsn);
	params_set(&s->settings, "helios.lsn", sql);
	return true;
}
