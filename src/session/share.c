/* See share.h: the sessions' side of shared links. */
#include "session/share_priv.h"

#include "base/log.h"
#include "base/map.h"

#define BACKLOG_LOOK 16 /* so many of those who wait are looked at for one who fits */

void share_init(struct share *share)
{
	slab_init(&share->turns, sizeof(struct turn), 64);
	slab_init(&share->lanes, sizeof(struct lane), 8);
	slab_init(&share->group_slab, sizeof(struct share_group), 8);
	list_init(&share->groups);
	share->memory = NULL;
}

void share_end(struct share *share)
{
	struct list *node;

	while ((node = list_first(&share->groups))) {
		struct share_group *group = list_entry(node, struct share_group, node);

		lane_drop(list_entry(list_first(&group->lanes), struct lane, node));
	}
}

void share_destroy(struct share *share)
{
	share_memory_free(share->memory);
	slab_destroy(&share->turns);
	slab_destroy(&share->lanes);
	slab_destroy(&share->group_slab);
}

void turn_free(struct worker *w, struct turn *turn)
{
	statement_text_unref(w->statements, turn->text);
	slab_give(&w->share.turns, turn);
}

/* ---- groups ---- */

static struct share_group *group_of(const struct session *s)
{
	return *shard_slot(s->shard);
}

static struct share_group *group_get(struct session *s)
{
	struct share_group *group = group_of(s);

	if (group)
		return group;
	group = slab_take(&s->worker->share.group_slab);
	if (!group)
		return NULL;
	group->worker = s->worker;
	group->shard = s->shard;
	list_init(&group->lanes);
	list_init(&group->backlog);
	list_push_back(&s->worker->share.groups, &group->node);
	*shard_slot(s->shard) = group;
	return group;
}

static void group_free_if_empty(struct share_group *group)
{
	if (group->count > 0)
		return;
	assert(list_is_empty(&group->backlog));
	*shard_slot(group->shard) = NULL;
	list_remove(&group->node);
	slab_give(&group->worker->share.group_slab, group);
}

/* ---- leaving ---- */

static struct turn *detach(struct session *s)
{
	struct turn *turn = s->turn;

	s->turn = NULL;
	session_set_state(s, SESSION_IDLE);
	return turn;
}

void share_return(struct session *s)
{
	detach(s);
	s->share_refused = true;
	count_add(&session_counters(s)->shared_returned_total, 1);
	session_set_timer(s, TIMER_IDLE, session_settings(s)->client_idle_timeout);
	conn_resume(&s->conn);
}

void share_leave(struct session *s)
{
	struct turn *turn = detach(s);
	struct lane *lane = turn->lane;

	if (!lane) {
		list_remove(&turn->node);
		turn_free(s->worker, turn);
		return;
	}
	queue_leave(turn);
	if (queue_first(&lane->queue) != turn)
		return;
	conn_resume(&lane->link->conn); /* it may have been this client that did not take more */
	if (queue_has_others(&lane->queue))
		return; /* when it takes long they are moved away */
	lane_move_others(lane);
	(void)!pool_cancel(lane->link, NULL, NULL);
}

struct link *share_cancellable(struct session *s)
{
	struct turn *turn = s->turn;
	struct lane *lane = turn->lane;

	if (!lane || queue_first(&lane->queue) != turn)
		return NULL;
	lane_move_others(lane);
	assert(queue_may_cancel(&lane->queue, turn));
	return lane->link;
}

void share_drained(struct session *s)
{
	struct lane *lane = s->turn->lane;

	if (lane && queue_first(&lane->queue) == s->turn)
		conn_resume(&lane->link->conn);
}

bool share_in_message(const struct session *s)
{
	const struct lane *lane = s->turn ? s->turn->lane : NULL;

	return lane && queue_first(&lane->queue) == s->turn && lane->link->left && !lane->link->left_swallow;
}

uint64_t share_link_id(const struct session *s)
{
	return s->turn && s->turn->lane ? s->turn->lane->link->id : 0;
}

/* ---- answered ---- */

static void observe(struct session *s, const struct turn *turn)
{
	struct share_request r;
	struct slice kept = conn_kept(&s->conn);

	if (turn->text)
		observe_shared(s, statement_text_sql(turn->text), /* extended= */ true, turn->sent, turn->sqlstate);
	else if (share_read(kept.bytes, turn->request_len, &r))
		observe_shared(s, r.sql, /* extended= */ false, turn->sent, turn->sqlstate);
}

void share_answered(struct worker *w, struct turn *turn)
{
	struct session *s = turn->session;
	struct counters *counters = &w->pool_thread.counters;

	if (!s) {
		turn_free(w, turn);
		return;
	}
	if (unlikely(turn->returns)) {
		share_return(s);
		turn_free(w, turn);
		return;
	}
	detach(s);
	if (unlikely(w->pipeline))
		observe(s, turn);
	conn_consume(&s->conn, turn->request_len);
	count_add(&counters->queries_total, 1);
	count_add(&counters->transactions_total, 1);
	count_add(&counters->shared_requests_total, 1);
	count_add(&counters->bytes_received_total, turn->request_len);
	turn_free(w, turn);
	if (unlikely(timer_is_set(&s->timer) || session_settings(s)->client_idle_timeout))
		session_set_timer(s, TIMER_IDLE, session_settings(s)->client_idle_timeout);
	if (unlikely(w->closing))
		session_fatal(s, ERROR_SHUTTING_DOWN, NULL);
	else
		conn_resume(&s->conn);
}

/* ---- a place ---- */

static uint32_t lanes_max(const struct session *s)
{
	return MAX(1u, session_settings(s)->share_connections / MAX(1u, s->worker->shared->worker_count));
}

/* The emptiest that takes it. *ret_any: there is one that takes it, though it may be full. */
static struct lane *find_lane(const struct share_group *group, const struct session *s,
			      const struct statement_text *text, bool *ret_any)
{
	const struct config_pool *p = session_settings(s);
	struct lane *best = NULL;

	*ret_any = false;
	list_for_each (node, &group->lanes) {
		struct lane *lane = list_entry(node, struct lane, node);

		if (!lane_fits(lane, s, text))
			continue;
		*ret_any = true;
		if (queue_has_room(&lane->queue, p->share_depth) && (!best || lane->queue.count < best->queue.count))
			best = lane;
	}
	return best;
}

static struct lane *open_lane(struct share_group *group, struct session *s)
{
	struct link *link = pool_take_like(s->shard, s->settings, s->reported);

	return link ? lane_new(group, link) : NULL;
}

/* What the client's statements are from here on, as if the server had read the request. */
static void remember(struct session *s, const struct share_request *r, struct statement_text *text)
{
	if (r->is_batch && r->parse.len == 0)
		return;
	s->batch++;
	if (s->unnamed || s->unnamed_pending)
		prepared_forget_unnamed(s);
	if (r->is_batch) {
		s->unnamed = statement_text_ref(text);
		count_add(&session_counters(s)->statements_shared_total, 1);
	}
}

static void wait_in_backlog(struct share_group *group, struct session *s, struct turn *turn)
{
	turn->sent = clock_now();
	list_push_back(&group->backlog, &turn->node);
	list_for_each (node, &group->lanes)
		lane_watch(list_entry(node, struct lane, node));
	session_set_timer(s, TIMER_WAIT, session_settings(s)->query_wait_timeout);
	count_add(&session_counters(s)->shared_waits_total, 1);
}

static void arm_query_timer(struct session *s)
{
	usec_t limit = session_settings(s)->query_timeout;

	if (unlikely(limit || timer_is_set(&s->timer)))
		session_set_timer(s, TIMER_QUERY, limit);
}

/* On a lane, or in the line for one. false: neither. */
static bool place(struct session *s, struct turn *turn, const struct share_request *r)
{
	struct share_group *group = group_get(s);
	struct lane *lane, *opened = NULL;
	bool any;

	if (!group)
		return false;
	lane = find_lane(group, s, turn->text, &any);
	if (turn->alone || !lane || group->count < lanes_max(s))
		opened = open_lane(group, s);
	lane = opened || turn->alone ? opened : lane;
	if (lane && lane_send(lane, turn, r)) {
		arm_query_timer(s);
		return true;
	}
	if (!lane && any && !turn->alone) {
		wait_in_backlog(group, s, turn);
		return true;
	}
	if (opened)
		lane_end(opened);
	else
		group_free_if_empty(group);
	return false;
}

static struct statement_text *statement_of(struct session *s, const struct share_request *r)
{
	struct statement_text *text;

	if (r->parse.len) /* the server is to parse it each time, or would say that its tables are others now */
		return !s->worker->settings.config->proxy.optimize_unnamed_parse || prepared_schema_is_changing()
			       ? NULL
			       : statement_table_get(s->worker->statements, &s->worker->queries, r->parse,
						     params_meaning(s->settings));
	text = prepared_find(s, r->name);
	return text && text->len <= SHARE_REQUEST_MAX ? statement_text_ref(text) : NULL;
}

static bool may_share(struct session *s)
{
	const struct config_pool *p = session_settings(s);

	if (p->mode == POOL_MODE_SESSION || p->track_parameters.count || s->fail_next || s->skip_to_sync || s->left ||
	    s->syncing || s->worker->closing)
		return false;
	if (unlikely(!s->worker->share.memory))
		s->worker->share.memory = share_memory_new();
	return s->worker->share.memory != NULL;
}

bool share_request(struct session *s, const uint8_t *bytes, size_t len)
{
	const struct config_pool *p = session_settings(s);
	struct worker *w = s->worker;
	struct statement_text *text = NULL;
	struct share_request r;
	enum share_verdict verdict;
	struct turn *turn;
	uint64_t key;

	if (unlikely(s->share_refused)) {
		s->share_refused = false;
		return false;
	}
	if (!may_share(s) || !share_read(bytes, len, &r))
		return false;
	if (r.is_batch && !(text = statement_of(s, &r)))
		return false;
	key = text ? text->id.low : share_key(r.sql);
	verdict = share_judge(w->share.memory, key, text ? statement_text_sql(text) : r.sql, p->share_max_cost,
			      SHARE_RUNS);
	turn = verdict == SHARE_NEVER ? NULL : slab_take(&w->share.turns);
	if (!turn) {
		statement_text_unref(w->statements, text);
		return false;
	}
	turn->session = s;
	turn->text = text;
	turn->key = key;
	turn->request_len = (uint32_t)len;
	turn->alone = verdict == SHARE_ALONE;
	turn->tells_parse = r.parse.len > 0;
	turn->describes = r.rest.len > 0 && r.rest.bytes[0] == 'D';
	list_init(&turn->node);
	if (!place(s, turn, &r)) {
		turn_free(w, turn);
		return false;
	}
	remember(s, &r, text);
	s->turn = turn;
	session_set_state(s, SESSION_SHARED);
	return true;
}

/* ---- those who wait ---- */

static void leave_backlog(struct turn *turn)
{
	struct session *s = turn->session;

	list_remove(&turn->node);
	share_return(s);
	turn_free(s->worker, turn);
}

static bool serve(struct lane *lane, struct turn *turn)
{
	struct session *s = turn->session;
	struct share_request r;

	if (!lane_fits(lane, s, turn->text))
		return false;
	list_remove(&turn->node);
	if (share_read(conn_kept(&s->conn).bytes, turn->request_len, &r) && lane_send(lane, turn, &r)) {
		arm_query_timer(s);
		return true;
	}
	share_return(s);
	turn_free(s->worker, turn);
	return true;
}

void share_serve(struct lane *lane)
{
	struct share_group *group = lane->group;
	const struct config_pool *p = pool_settings(shard_pool(group->shard));
	int looked = 0;

	list_for_each (node, &group->backlog) {
		if (looked++ == BACKLOG_LOOK || !queue_has_room(&lane->queue, p->share_depth))
			break;
		if (serve(lane, list_entry(node, struct turn, node)))
			looked = 0;
	}
}

void share_prune(struct share_group *group)
{
	bool any;

	list_for_each (node, &group->backlog) {
		struct turn *turn = list_entry(node, struct turn, node);

		(void)find_lane(group, turn->session, turn->text, &any);
		if (!any)
			leave_backlog(turn);
	}
	group_free_if_empty(group);
}
