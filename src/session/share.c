/* See share.h: the sessions' side of shared links. */
#include "session/share_priv.h"

#include "base/log.h"
#include "base/map.h"

#define BACKLOG_LOOK 16 /* so many of those who wait are looked at for one who fits */

static void return_all(struct share_group *group);

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
		struct list *lane = list_first(&group->lanes);

		if (lane)
			lane_drop(list_entry(lane, struct lane, node));
		else
			return_all(group);
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

static const struct waiter_ops group_waiter_ops;

static struct share_group *group_of(const struct session *s)
{
	return *shard_slot(s->source);
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
	group->shard = s->source;
	list_init(&group->lanes);
	list_init(&group->backlog);
	list_init(&group->waiter.node);
	group->waiter.shard = s->source;
	group->waiter.ops = &group_waiter_ops;
	group->waiter.for_many = true;
	list_push_back(&s->worker->share.groups, &group->node);
	*shard_slot(s->source) = group;
	return group;
}

static void group_free_if_empty(struct share_group *group)
{
	if (!list_is_empty(&group->lanes) || !list_is_empty(&group->backlog))
		return;
	*shard_slot(group->shard) = NULL;
	list_remove(&group->node);
	slab_give(&group->worker->share.group_slab, group);
}

/* ---- the backlog ---- */

static void join_backlog(struct share_group *group, struct session *s, struct turn *turn)
{
	turn->sent = clock_now();
	list_push_back(&group->backlog, &turn->node);
	group->waiting++;
	pool_mark_short(group->shard);
	list_for_each (node, &group->lanes)
		lane_watch(list_entry(node, struct lane, node));
	session_set_timer(s, TIMER_WAIT, session_settings(s)->query_wait_timeout);
	count_add(&session_counters(s)->shared_waits_total, 1);
	count_add(&session_counters(s)->clients_waiting, 1);
}

static void leave_backlog(struct turn *turn)
{
	struct session *s = turn->session;

	list_remove(&turn->node);
	group_of(s)->waiting--;
	count_sub(&session_counters(s)->clients_waiting, 1);
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
	const struct turn *turn;

	if (!s->came)
		s->came = s->since;
	turn = detach(s);
	s->share_refused = true;
	count_add(&session_counters(s)->shared_returned_total, 1);
	session_set_timer(s, TIMER_IDLE, session_settings(s)->client_idle_timeout);
	conn_resume(&s->conn);
	if (unlikely(turn->cancelled))
		cancel_waiting(s);
}

void share_send_home(struct session *s)
{
	s->repeated = true;
	s->routed = false;
	count_add(&session_counters(s)->batches_repeated_total, 1);
	share_return(s);
}

void share_leave(struct session *s)
{
	struct turn *turn = detach(s);
	struct lane *lane = turn->lane;

	if (!lane) {
		leave_backlog(turn);
		turn_free(s->worker, turn);
		if (list_is_empty(&group_of(s)->backlog))
			share_settle(group_of(s));
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

void share_mark_cancelled(struct session *s)
{
	s->turn->cancelled = true;
}

bool share_is_cancelled(const struct session *s)
{
	return s->turn && s->turn->cancelled;
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

const struct link *share_link(const struct session *s)
{
	return s->turn && s->turn->lane ? s->turn->lane->link : NULL;
}

usec_t share_sent(const struct session *s)
{
	return s->turn && s->turn->lane ? s->turn->sent : 0;
}

/* ---- answered ---- */

static void observe(struct session *s, const struct turn *turn)
{
	struct share_request r;
	struct slice kept = conn_kept(&s->conn);

	if (turn->text)
		observe_shared(s, turn, statement_text_sql(turn->text));
	else if (share_read(kept.bytes, turn->request_len, &r))
		observe_shared(s, turn, r.sql);
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
	latency_answered_shared(s, s->came ? s->came : s->since, turn->sent);
	s->came = 0;
	detach(s);
	if (unlikely(w->pipeline))
		observe(s, turn);
	conn_consume(&s->conn, turn->request_len);
	s->routed = false;
	if (unlikely(s->wrote)) {
		routing_note_write(s);
		routing_wrote(s);
	}
	count_add(&session_stats(s)->queries, 1);
	count_add(&session_stats(s)->transactions, 1);
	count_add(&session_stats(s)->query_us, clock_since(turn->sent, clock_now()));
	count_add(&counters->shared_requests_total, 1);
	count_add(&session_stats(s)->bytes_received, turn->request_len);
	turn_free(w, turn);
	if (unlikely(timer_is_set(&s->timer) || session_settings(s)->client_idle_timeout))
		session_set_timer(s, TIMER_IDLE, session_settings(s)->client_idle_timeout);
	if (unlikely(w->closing))
		session_fatal(s, ERROR_SHUTTING_DOWN, NULL);
	else
		conn_resume(&s->conn);
}

/* ---- a place ---- */

/* The emptiest that takes it. *ret_any: there is one that takes it, though it may be full. */
static struct lane *find_lane(const struct share_group *group, const struct session *s,
			      const struct statement_text *text, bool *ret_any)
{
	struct lane *best = NULL;

	*ret_any = false;
	list_for_each (node, &group->lanes) {
		struct lane *lane = list_entry(node, struct lane, node);

		if (!lane_is_for(lane, s))
			continue;
		*ret_any = true;
		if (lane_has_room(lane, text) && (!best || lane->queue.count < best->queue.count))
			best = lane;
	}
	return best;
}

static struct lane *open_lane(struct share_group *group, struct session *s)
{
	struct link *link = pool_take_like(s->source, s->settings, s->reported);
	struct lane *lane = link ? lane_new(group, link) : NULL;

	if (link && !lane)
		pool_give_back(link);
	return lane;
}

/* What the client's statements are from here on, as if the server had read the request. */
static void remember(struct session *s, const struct share_request *r, struct statement_text *text)
{
	if (r->is_batch && r->parse.len == 0) {
		count_add(&session_stats(s)->binds, 1);
		return;
	}
	s->batch++;
	if (s->unnamed || s->unnamed_pending)
		prepared_forget_unnamed(s);
	if (r->is_batch) {
		s->unnamed = statement_text_ref(text);
		count_add(&session_counters(s)->statements_shared_total, 1);
	}
}

/* There is a lane for it, `lane` is the emptiest that takes it now (NULL: none). Is it time for another one? */
static bool wants_another(const struct share_group *group, const struct lane *lane, const struct session *s)
{
	const struct config_pool *p = session_settings(s);

	if (p->share_connections)
		return lanes_open(group) < MAX(1u, p->share_connections / MAX(1u, s->worker->shared->worker_count));
	return !lane || lane->queue.count >= (p->share_depth + 1) / 2;
}

/* May there be a first lane for it on a link that is idle? */
static bool wants_first(const struct session *s)
{
	return session_settings(s)->share != SHARE_AUTO || pool_was_short(s->source);
}

/* All links are somebody's, and none of the group's takes any more: only waiting can help. */
static bool may_wait(const struct share_group *group, const struct session *s)
{
	return lanes_open(group) == 0 && pool_is_short(s->source) && !pool_line_is_full(s->source, group->waiting);
}

static bool give_up(struct share_group *group)
{
	group_free_if_empty(group);
	return false;
}

/* On a lane, or in the line for one: then the group is to be settled. false: neither. */
static bool place(struct session *s, struct turn *turn, const struct share_request *r)
{
	struct share_group *group = group_get(s);
	struct lane *lane, *opened = NULL;
	bool any;

	if (!group)
		return false;
	lane = find_lane(group, s, turn->text, &any);
	if (any ? wants_another(group, lane, s) : wants_first(s)) {
		opened = open_lane(group, s);
		if (!opened && pool_has_idle(s->source))
			return give_up(group); /* it goes on a link of its own, which then has the settings of a lane */
		if (!opened && any)
			pool_open_one(s->source);
	}
	lane = opened ? opened : lane;
	if (lane && lane_send(lane, turn, r)) {
		session_arm_query_timer(s);
		return true;
	}
	if (!lane && (any || may_wait(group, s))) {
		join_backlog(group, s, turn);
		return true;
	}
	if (opened) {
		lane_end(opened);
		return false;
	}
	return give_up(group);
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

	if (p->mode == POOL_MODE_SESSION || s->limits_simple || p->transaction_timeout || p->track_parameters.count ||
	    s->fail_next || s->skip_to_sync || s->left || s->syncing || s->begin_state != BEGIN_NONE ||
	    s->worker->closing)
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
	struct slice sql;
	uint64_t key;

	if (unlikely(s->share_refused)) {
		s->share_refused = false;
		return false;
	}
	if (!may_share(s) || !share_read(bytes, len, &r))
		return false;
	if (r.is_batch && !(text = statement_of(s, &r)))
		return false;
	sql = text ? statement_text_sql(text) : r.sql;
	if (!hinted_shares(s, sql)) {
		statement_text_unref(w->statements, text);
		return false;
	}
	key = text ? text->id.low : share_key(r.sql);
	verdict = share_judge(w->share.memory, key, sql, p->share_max_cost, SHARE_RUNS);
	if (verdict == SHARE_ALONE) {
		s->measured = key;
		s->measured_batch = s->batch + 1;
	}
	turn = verdict == SHARE_YES ? slab_take(&w->share.turns) : NULL;
	if (!turn) {
		statement_text_unref(w->statements, text);
		return false;
	}
	turn->session = s;
	turn->text = text;
	turn->key = key;
	turn->request_len = (uint32_t)len;
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
	if (!turn->lane && lanes_open(group_of(s)) == 0)
		share_settle(group_of(s)); /* last: it may be granted a link, or be told that there is none */
	return true;
}

void share_measured(struct session *s)
{
	if (s->batch == s->measured_batch && s->worker->share.memory)
		share_learn(s->worker->share.memory, s->measured, clock_now() - s->link->lent);
	s->measured = 0;
}

/* ---- those who wait ---- */

/* It does not wait any longer, and goes the way of a link of its own. */
static void return_turn(struct turn *turn)
{
	struct session *s = turn->session;

	leave_backlog(turn);
	share_return(s);
	turn_free(s->worker, turn);
}

static void return_all(struct share_group *group)
{
	list_for_each (node, &group->backlog)
		return_turn(list_entry(node, struct turn, node));
	share_settle(group);
}

/* While its bytes are being shown they are not kept yet: then it is to be shown them once more. */
static void serve(struct lane *lane, struct turn *turn)
{
	struct session *s = turn->session;
	struct slice kept = conn_kept(&s->conn);
	struct share_request r;

	leave_backlog(turn);
	if (kept.len >= turn->request_len && share_read(kept.bytes, turn->request_len, &r) &&
	    lane_send(lane, turn, &r)) {
		session_arm_query_timer(s);
		return;
	}
	share_return(s);
	turn_free(s->worker, turn);
}

void share_serve(struct lane *lane)
{
	int looked = 0;

	list_for_each (node, &lane->group->backlog) {
		struct turn *turn = list_entry(node, struct turn, node);

		if (looked++ == BACKLOG_LOOK || !lane_has_room(lane, NULL))
			break;
		if (!lane_is_for(lane, turn->session) || !lane_has_room(lane, turn->text))
			continue;
		serve(lane, turn);
		looked = 0;
	}
}

/* A lane is open: who fits none waits for a link of his own. */
static void return_unlike(struct share_group *group)
{
	bool any;

	list_for_each (node, &group->backlog) {
		struct turn *turn = list_entry(node, struct turn, node);

		(void)find_lane(group, turn->session, turn->text, &any);
		if (!any)
			return_turn(turn);
	}
}

void share_settle(struct share_group *group)
{
	struct list *first;

	if (lanes_open(group) > 0)
		return_unlike(group);
	first = list_first(&group->backlog);
	if (lanes_open(group) > 0 || !first)
		pool_wait_end(&group->waiter);
	else if (list_is_empty(&group->waiter.node)) {
		pool_wait_since(group->shard, &group->waiter, list_entry(first, struct turn, node)->sent);
		return; /* it may have been granted a link, and all be over */
	}
	group_free_if_empty(group);
}

static void group_granted(struct waiter *waiter, struct link *link)
{
	struct share_group *group = container_of(waiter, struct share_group, waiter);
	struct turn *first = list_entry(list_first(&group->backlog), struct turn, node);
	struct session *s = first->session;
	struct lane *lane = link_is_like(link, s) ? lane_new(group, link) : NULL;

	if (!lane) {
		leave_backlog(first);
		detach(s);
		turn_free(s->worker, first);
		session_use_link(s, link);
	} else {
		share_serve(lane);
		if (lane->queue.count == 0) {
			lane_end(lane);
			return;
		}
	}
	share_settle(group);
}

static void group_failed(struct waiter *waiter, const struct link_failure *failure)
{
	struct share_group *group = container_of(waiter, struct share_group, waiter);

	list_for_each (node, &group->backlog) {
		struct turn *turn = list_entry(node, struct turn, node);
		struct session *s = turn->session;

		leave_backlog(turn);
		if (session_is_away(s)) {
			share_send_home(s);
		} else {
			detach(s);
			session_fail_request(s, failure->error, failure->error_len);
		}
		turn_free(group->worker, turn);
	}
	share_settle(group);
}

static const struct waiter_ops group_waiter_ops = {.granted = group_granted, .failed = group_failed};
