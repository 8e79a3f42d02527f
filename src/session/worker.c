/* See worker.h. */
#include "session/observe.h"
#include "session/underway.h"

#include "base/log.h"

#define CLOSING_TICK (50 * USEC_PER_MSEC)

/* What is done to one session may close any other: so each is taken out before its turn. */
static void each_session(struct worker *w, void (*run)(struct session *s))
{
	struct list todo, *node;

	list_init(&todo);
	while ((node = list_first(&w->sessions))) {
		list_remove(node);
		list_push_back(&todo, node);
	}
	while ((node = list_first(&todo))) {
		list_remove(node);
		list_push_back(&w->sessions, node);
		run(list_entry(node, struct session, node));
	}
}

static bool has_work(const struct session *s)
{
	if (s->state == SESSION_REPLICATION)
		return !replication_may_end(s);
	/* resumed: a link was given to it just now, and what it is for comes with the next step of this turn */
	return s->state == SESSION_WAITING || s->replay_until || s->state == SESSION_SHARED ||
	       (s->state == SESSION_ACTIVE && conn_is_resumed(&s->conn)) || s->begin_state != BEGIN_NONE ||
	       (s->link && (s->link->tx_status != 'I' || s->link->expects.count || s->link->open_batch || s->left));
}

static void close_session(struct session *s)
{
	session_fatal(s, ERROR_SHUTTING_DOWN, NULL);
}

static void close_if_free(struct session *s)
{
	if (!has_work(s))
		close_session(s);
}

/* Most close when their link becomes free; this finds those that never got one. */
static void close_free_sessions(struct worker *w)
{
	each_session(w, close_if_free);
}

static void worker_tick(struct timer *timer)
{
	struct pool_thread *t = container_of(timer, struct pool_thread, tick);
	struct worker *w = container_of(t, struct worker, pool_thread);

	pool_thread_tick(t);
	evidence_tick(w);
	contested_tick(w);
	prewarm_tick(w);
	if (w->closing)
		close_free_sessions(w);
	timer_set(loop_timers(t->loop), timer, clock_now() + (w->closing ? CLOSING_TICK : USEC_PER_SEC));
}

int worker_init(struct worker *w, struct sessions_shared *shared, struct pools *pools)
{
	w->shared = shared;
	w->free_slot = UINT32_MAX;
	list_init(&w->sessions);
	list_init(&w->cancels);
	list_init(&w->replaying);
	auth_queries_init(&w->auth);
	slab_init(&w->session_slab, sizeof(struct session), 64);
	share_init(&w->share);
	prewarm_init(w);
	suspension_join(w);
	w->statements = statement_table_new();
	if (!w->statements || query_infos_init(&w->queries) < 0 ||
	    pipeline_new(shared->stages, w->settings.config, /* before= */ NULL, &w->pipeline) < 0) {
		query_infos_free(&w->queries);
		statement_table_free(w->statements);
		return -ENOMEM;
	}
	pipeline_set_worker(w->pipeline, &w->pool_thread.counters, observe_tell);
	(void)routing_configure(w, w->settings.config);
	hinted_configure(w, w->settings.config);
	evidence_follow(w);
	pools_join(pools, &w->pool_thread);
	timer_init(&w->pool_thread.tick, worker_tick);
	timer_set(loop_timers(w->pool_thread.loop), &w->pool_thread.tick, clock_now() + USEC_PER_SEC);
	return 0;
}

void worker_destroy(struct worker *w)
{
	timer_cancel(&w->pool_thread.tick);
	timer_cancel(&w->suspension.look);
	pipeline_unref(w->pipeline);
	routing_end(w);
	statement_table_free(w->statements);
	query_infos_free(&w->queries);
	fingerprints_free(&w->fingerprints);
	auth_queries_free(&w->auth);
	introductions_forget(w);
	scram_cache_free(w->scram_cache);
	share_destroy(&w->share);
	buf_free(&w->shown);
	slab_destroy(&w->session_slab);
	free(w->slots);
}

/* ---- listening ---- */

struct newcomer { /* accepted by one worker for another */
	struct loop_message message;
	struct sockaddr_storage address;
	int fd;
	bool speaks_first;
};

static void newcomer_arrives(struct loop_message *message, void *thread)
{
	struct newcomer *n = container_of(message, struct newcomer, message);
	struct worker *w = thread;

	session_new(w, n->fd, (const struct sockaddr *)&n->address, n->speaks_first);
	atomic_fetch_sub(&w->coming, 1);
	free(n);
}

static uint32_t clients_of(struct worker *w)
{
	return atomic_load_explicit(&w->session_count_seen, memory_order_relaxed) +
	       atomic_load_explicit(&w->coming, memory_order_relaxed);
}

/*
 * Of those that the same thread runs now: the one with the fewest, so that each thread has its share when the load asks
 * for more of them. The one that leads may have two more: the first clients are served with one wait a turn.
 */
static struct worker *least_loaded(struct worker *w)
{
	struct worker *best = w, *lead = w;

	for (uint32_t i = 0; i < w->shared->worker_count; i++) {
		struct worker *other = w->shared->workers[i];

		if (!loop_shares_thread(other->pool_thread.loop, w->pool_thread.loop))
			continue;
		if (loop_leads(other->pool_thread.loop))
			lead = other;
		if (clients_of(other) < clients_of(best))
			best = other;
	}
	return clients_of(lead) <= clients_of(best) + 1 ? lead : best;
}

static void accepted(struct loop_listener *listener, int fd, const struct sockaddr *address, socklen_t len)
{
	struct worker *w = listener->owner, *to = least_loaded(w);
	struct newcomer *n;

	if (!session_admit(w, fd))
		return;
	n = to == w ? NULL : malloc(sizeof(*n));
	if (!n) {
		session_new(w, fd, address, listener->speaks_first);
		return;
	}
	*n = (struct newcomer){.message.run = newcomer_arrives, .fd = fd, .speaks_first = listener->speaks_first};
	memcpy(&n->address, address, len);
	atomic_fetch_add(&to->coming, 1);
	loop_post(to->pool_thread.loop, &n->message);
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

/* Routing was off, and nobody looked. */
static void may_have_written(struct session *s)
{
	routing_wrote(s);
	s->wrote = s->link != NULL;
}

static void take_reload(struct session *s)
{
	session_set_limits(s);
	routing_forget(s);
	if (s->login)
		login_reloaded(s);
}

void worker_reload(struct worker *w, const struct worker_settings *fresh)
{
	struct pipeline *pipeline;

	w->settings = *fresh;
	if (pipeline_new(w->shared->stages, fresh->config, w->pipeline, &pipeline) < 0) {
		log_error("no memory to configure the stages anew: they go on as before");
	} else {
		pipeline_unref(w->pipeline); /* requests under way have a reference */
		pipeline_set_worker(pipeline, &w->pool_thread.counters, observe_tell);
		w->pipeline = pipeline;
	}
	if (routing_configure(w, fresh->config))
		each_session(w, may_have_written);
	hinted_configure(w, fresh->config);
	routing_end_waits(w); /* by the new rules it may be another wait, or none */
	evidence_follow(w);
	auth_queries_forget_all(&w->auth);
	introductions_forget(w);
	each_session(w, take_reload);
}

/* ---- the end ---- */

void worker_drain(struct worker *w)
{
	w->closing = true;
	close_free_sessions(w);
	pool_thread_close_idle(&w->pool_thread);
	timer_set(loop_timers(w->pool_thread.loop), &w->pool_thread.tick, clock_now() + CLOSING_TICK);
}

void worker_drain_nodes(struct worker *w)
{
	pool_thread_drain(&w->pool_thread);
}

void worker_follow_nodes(struct worker *w)
{
	if (!w->routing && routing_configure(w, w->settings.config))
		each_session(w, may_have_written);
	pool_thread_drain(&w->pool_thread);
}

void worker_end(struct worker *w)
{
	w->closing = true;
	worker_stop_listening(w);
	worker_take_no_visitors(w);
	each_session(w, close_session);
	cancels_end(w);
	share_end(&w->share);
	prewarm_end(w);
	pool_thread_end(&w->pool_thread);
}

bool worker_is_quiet(const struct worker *w)
{
	return __atomic_load_n(&loop_counters(w->pool_thread.loop)->open, __ATOMIC_RELAXED) == 0;
}

/* ---- for people ---- */

/* Of what is under way; as long as the next call. */
static const char *shown_text(struct worker *w, struct slice text, uint32_t most)
{
	struct slice cut = underway_cut(text, most);

	if (!text.bytes || most == 0)
		return NULL;
	w->shown = w->shown.max ? w->shown : BUF_INIT(STATEMENT_BYTES_MAX + 1);
	buf_clear(&w->shown);
	buf_add(&w->shown, cut.bytes, cut.len);
	return w->shown.failed ? NULL : buf_cstr(&w->shown);
}

static void view_of(struct session *s, struct session_view *v, char *address, size_t size)
{
	const struct link *link = s->link ? s->link : share_link(s);
	struct underway u = underway_of(s);
	uint32_t most = s->worker->settings.config->admin.statement_bytes;
	usec_t now = clock_now();

	session_address_text(s, address, size);
	*v = (struct session_view){
		.worker = s->worker->pool_thread.index,
		.pid = session_pid(s),
		.address = address,
		.database = session_database(s) ? session_database(s) : "",
		.user = session_user(s) ? session_user(s) : "",
		.application = s->application ? s->application : "",
		.state = session_state_name(s->state),
		.tls = conn_tls_version(&s->conn),
		.connected_us = now - s->connected,
		.state_us = now - s->since,
		.link = link ? link->id : 0,
		.backend_pid = link ? link->backend_pid : 0,
		.node = link ? link_node(link)->name : "",
		.statement = shown_text(s->worker, u.text, most),
		.statement_is_cut = u.text.len > most,
		.query_us = u.since ? MAX(now - u.since, (usec_t)1) : 0,
		.pinned = s->pins != 0,
		.logged_in = s->logged,
		.waits = s->state == SESSION_WAITING,
		.runs = s->state == SESSION_SHARED || (s->link && s->link->expects.answers > 0),
		.replicates = s->state == SESSION_REPLICATION,
		.statements = s->statements ? s->statements->count : 0,
		.conn = &s->conn,
	};
	if (s->state == SESSION_ACTIVE && s->link->expects.answers == 0)
		v->state = s->link->tx_status == 'I' ? "idle" : "idle in transaction";
	if (s->state == SESSION_IDLE && s->begin_state != BEGIN_NONE)
		v->state = "idle in transaction";
}

void worker_each_session(struct worker *w, void (*each)(const struct session_view *view, void *to), void *to)
{
	list_for_each (node, &w->sessions) {
		struct session_view v;
		char address[80];

		view_of(list_entry(node, struct session, node), &v, address, sizeof(address));
		each(&v, to);
	}
}

uint32_t worker_some_sessions(struct worker *w, uint32_t slot, uint32_t count,
			      void (*each)(const struct session_view *view, void *to), void *to)
{
	for (; slot < w->slot_count && count > 0; slot++) {
		struct session *s = w->slots[slot];
		struct session_view v;
		char address[80];

		if ((uintptr_t)s & 1)
			continue;
		view_of(s, &v, address, sizeof(address));
		each(&v, to);
		count--;
	}
	return slot < w->slot_count ? slot : 0;
}

struct query_table *worker_queries(struct worker *w)
{
	return pipeline_queries(w->pipeline);
}

static bool is_of(const struct session *s, const char *database)
{
	return s->shard && (!database || strcmp(pool_database(session_pool(s)), database) == 0);
}

uint32_t worker_kill_sessions(struct worker *w, const char *database)
{
	struct list todo, *node;
	uint32_t killed = 0;

	list_init(&todo);
	while ((node = list_first(&w->sessions))) { /* as in each_session() */
		list_remove(node);
		list_push_back(&todo, node);
	}
	while ((node = list_first(&todo))) {
		struct session *s = list_entry(node, struct session, node);

		list_remove(node);
		list_push_back(&w->sessions, node);
		if (!is_of(s, database))
			continue;
		session_fatal(s, ERROR_ADMIN_KILL, NULL);
		killed++;
	}
	return killed;
}

struct link_visit {
	void (*each)(const struct link_view *view, void *to);
	void *to;
};

static void view_link(struct link *link, void *argument)
{
	const struct link_visit *visit = argument;
	const struct session *user = link->user_ops == &session_link_ops ? link->user : NULL;
	struct link_view v = {
		.link = link,
		.pool = shard_pool(link_shard(link)),
		.state = link->state < LINK_IDLE    ? "new"
			 : link->state == LINK_IDLE ? (link->held_for_cancel ? "being_canceled" : "idle")
			 : link->user               ? "active"
						    : "tested",
		.application = "",
		.leaves = link_leaves(link),
	};

	if (link->state == LINK_ACTIVE && user) {
		v.client = session_pid(user);
		v.application = user->application ? user->application : "";
	}
	visit->each(&v, visit->to);
}

void worker_each_link(struct worker *w, void (*each)(const struct link_view *view, void *to), void *to)
{
	struct link_visit visit = {each, to};

	pool_thread_each_link(&w->pool_thread, view_link, &visit);
}

void session_tell(const struct session *s, enum event_kind kind, const char *message)
{
	const struct pool *pool = s->shard ? session_pool(s) : NULL;

	event_write(kind, LOG_INFO, message,
		    (const struct kv[]){kv_uint("pid", session_pid(s)),
					kv_str("user", pool ? pool_user(pool) : NULL),
					kv_str("database", pool ? pool_database(pool) : NULL),
					{.type = KV_END}});
}

bool worker_kill_session(struct worker *w, uint32_t pid)
{
	list_for_each (node, &w->sessions) {
		struct session *s = list_entry(node, struct session, node);

		if (session_pid(s) == pid) {
			session_tell(s, EVENT_SESSION_KILLED, "session closed by an operator");
			session_fatal(s, ERROR_ADMIN_KILL, NULL);
			return true;
		}
	}
	return false;
}
