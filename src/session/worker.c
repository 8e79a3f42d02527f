/* See worker.h. */
#include "session/session_priv.h"

#include "base/log.h"

static void worker_tick(struct timer *timer)
{
	struct pool_thread *t = container_of(timer, struct pool_thread, tick);

	pool_thread_tick(t);
	timer_set(loop_timers(t->loop), timer, clock_now() + USEC_PER_SEC);
}

int worker_init(struct worker *w, struct sessions_shared *shared, struct pools *pools)
{
	w->shared = shared;
	w->free_slot = UINT32_MAX;
	list_init(&w->sessions);
	list_init(&w->auth_waiting);
	slab_init(&w->session_slab, sizeof(struct session), 64);
	w->statements = statement_table_new();
	if (!w->statements || query_infos_init(&w->queries) < 0)
		return -ENOMEM;
	pools_join(pools, &w->pool_thread);
	timer_init(&w->pool_thread.tick, worker_tick);
	timer_set(loop_timers(w->pool_thread.loop), &w->pool_thread.tick, clock_now() + USEC_PER_SEC);
	return 0;
}

void worker_destroy(struct worker *w)
{
	timer_cancel(&w->pool_thread.tick);
	statement_table_free(w->statements);
	query_infos_free(&w->queries);
	slab_destroy(&w->session_slab);
	free(w->slots);
}

/* ---- listening ---- */

static void accepted(struct loop_listener *listener, int fd, const struct sockaddr *address, socklen_t len)
{
	struct worker *w = listener->owner;

	session_new(w, fd, address, len);
}

int worker_listen(struct worker *w, int fd)
{
	struct loop_listener *l = &w->listeners[w->listener_count];

	if (w->listener_count == LISTENERS_MAX)
		return -ENOSPC;
	*l = (struct loop_listener){.loop = w->pool_thread.loop, .fd = fd, .accepted = accepted, .owner = w};
	w->listener_count++;
	return loop_listen(w->pool_thread.loop, l);
}

void worker_stop_listening(struct worker *w)
{
	for (uint32_t i = 0; i < w->listener_count; i++)
		loop_unlisten(&w->listeners[i]);
	w->listener_count = 0;
}

void worker_reload(struct worker *w, const struct worker_settings *fresh)
{
	w->settings = *fresh;
	list_for_each(node, &w->sessions) {
		struct session *s = list_entry(node, struct session, node);

		if (s->login)
			login_reloaded(s);
	}
}

/* ---- the end ---- */

static bool has_work(const struct session *s)
{
	return s->state == SESSION_WAITING ||
	       (s->link && (s->link->tx_status != 'I' || s->link->expects.count || s->left)) || s->state == SESSION_REPLICATION;
}

void worker_drain(struct worker *w, bool now)
{
	w->closing = true;
	list_for_each(node, &w->sessions) {
		struct session *s = list_entry(node, struct session, node);

		if (now || !has_work(s))
			session_fatal(s, ERROR_SHUTTING_DOWN, NULL);
	}
	pool_thread_close_idle(&w->pool_thread);
}

void worker_stop(struct worker *w)
{
	loop_stop(w->pool_thread.loop);
}

/* ---- for people ---- */

static void view_of(struct session *s, struct session_view *v, char *address, size_t size)
{
	usec_t now = clock_now();

	session_address_text(s, address, size);
	*v = (struct session_view){
		.worker = s->worker->pool_thread.index, .pid = session_pid(s), .address = address,
		.database = s->shard ? pool_database(session_pool(s)) : "", .user = s->shard ? pool_user(session_pool(s)) : "",
		.application = s->application ? s->application : "", .state = session_state_name(s->state),
		.tls = conn_tls_version(&s->conn), .connected_us = now - s->connected, .state_us = now - s->since,
		.link = s->link ? s->link->id : 0, .pinned = s->pins != 0,
	};
	if (s->state == SESSION_ACTIVE && s->link->expects.answers == 0)
		v->state = s->link->tx_status == 'I' ? "idle" : "idle in transaction";
}

void worker_each_session(struct worker *w, void (*each)(const struct session_view *view, void *to), void *to)
{
	list_for_each(node, &w->sessions) {
		struct session_view v;
		char address[80];

		view_of(list_entry(node, struct session, node), &v, address, sizeof(address));
		each(&v, to);
	}
}

bool worker_kill_session(struct worker *w, uint32_t pid)
{
	list_for_each(node, &w->sessions) {
		struct session *s = list_entry(node, struct session, node);

		if (session_pid(s) == pid) {
			session_fatal(s, ERROR_ADMIN_KILL, NULL);
			return true;
		}
	}
	return false;
}
