/*
 * While several nodes are read-write on one timeline, nobody can tell which has what clients wrote. Then queries for
 * the primary wait, or with [topology] when_contested = "refuse" they fail: here.
 */
#include "session/session_priv.h"

#include "cluster/cluster.h"

static const struct topology *contested_topology(const struct worker *w)
{
	const struct cluster *c = atomic_load_explicit(&w->shared->cluster, memory_order_acquire);
	const struct topology *t = c ? cluster_now(c) : NULL;

	return t && t->writes == WRITES_REFUSED ? t : NULL;
}

static void refuse(struct session *s, const struct topology *t)
{
	struct buf out = BUF_INIT(4096), names = BUF_INIT(1024);

	for (uint32_t i = 0; i < t->count; i++)
		if (t->nodes[i].standing == STANDING_CONTESTED)
			buf_printf(&names, "%s%s", names.len ? ", " : "", t->nodes[i].node->name);
	pool_wait_end(&s->waiter);
	count_add(&session_counters(s)->writes_refused_total, 1);
	error_message(&out, ERROR_CONTESTED, NULL, names.failed ? "" : buf_cstr(&names));
	session_fail_request(s, out.bytes, out.len);
	buf_free(&names);
	buf_free(&out);
}

bool contested_refuses(struct session *s)
{
	const struct topology *t = contested_topology(s->worker);

	if (likely(!t) || session_is_away(s) || !pool_follows_primary(session_pool(s)))
		return false;
	refuse(s, t);
	return true;
}

static bool waits_for_primary(const struct session *s)
{
	return s->state == SESSION_WAITING && !s->replay_until && !session_is_away(s) &&
	       pool_follows_primary(session_pool(s));
}

/* Those that were waiting when it began. */
void contested_tick(struct worker *w)
{
	const struct topology *t = contested_topology(w);
	struct list *node, *next;

	if (likely(!t))
		return;
	for (node = w->sessions.next; node != &w->sessions; node = next) {
		next = node->next;
		if (waits_for_primary(list_entry(node, struct session, node)))
			refuse(list_entry(node, struct session, node), t); /* closes nobody */
	}
}
