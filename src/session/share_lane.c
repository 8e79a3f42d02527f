/*
 * A lane: a link whose user is a line of requests. What the server sends belongs to the first of them until its
 * ReadyForQuery.
 */
#include "session/observe.h"
#include "session/share_priv.h"

#include "base/log.h"

/* A message that is looked into is no longer than this. */
#define LOOK_MAX ((1u << 20) - FRAME_HEADER)

static const struct link_user_ops lane_ops;

static struct counters *lane_counters(const struct lane *lane)
{
	return &lane->group->worker->pool_thread.counters;
}

static const struct config_pool *lane_settings(const struct lane *lane)
{
	return pool_settings(shard_pool(lane->group->shard));
}

/* ---- its life ---- */

static void stalled(struct timer *timer);

struct lane *lane_new(struct share_group *group, struct link *link)
{
	struct lane *lane = slab_take(&group->worker->share.lanes);

	if (!lane)
		return NULL;
	link_lend(link, &lane_ops, lane);
	link->kept = true; /* its turns count their time */
	lane->group = group;
	lane->link = link;
	queue_init(&lane->queue);
	timer_init(&lane->stall, stalled);
	list_push_back(&group->lanes, &lane->node);
	count_add(&lane_counters(lane)->links_shared, 1);
	return lane;
}

void lane_end(struct lane *lane)
{
	struct share_group *group = lane->group;
	struct worker *w = group->worker;
	struct link *link = lane->link;

	assert(lane->queue.count == 0);
	timer_cancel(&lane->stall);
	list_remove(&lane->node);
	count_sub(&lane_counters(lane)->links_shared, 1);
	slab_give(&w->share.lanes, lane);
	share_settle(group); /* before the link is back: so the group is in line for it */
	pool_give_back(link);
}

static uint32_t count_lanes(const struct share_group *group, bool closed)
{
	uint32_t count = 0;

	list_for_each (node, &group->lanes)
		count += list_entry(node, struct lane, node)->queue.closed == closed;
	return count;
}

uint32_t lanes_open(const struct share_group *group)
{
	return count_lanes(group, /* closed= */ false);
}

uint32_t lanes_closed(const struct share_group *group)
{
	return count_lanes(group, /* closed= */ true);
}

/* ---- sending ---- */

static bool is_being_prepared(const struct lane *lane, struct statement_id id)
{
	list_for_each (node, &lane->queue.turns) {
		const struct turn *turn = list_entry(node, struct turn, node);

		if (turn->prepares && statement_id_equal(turn->text->id, id))
			return true;
	}
	return false;
}

bool link_is_like(const struct link *link, const struct session *s)
{
	return link->settings == s->settings && link->reported == s->reported &&
	       link->statements_epoch == pool_statements_epoch(session_pool(s));
}

bool lane_is_for(struct lane *lane, const struct session *s)
{
	if (queue_is_stalled(&lane->queue, clock_now(), lane_settings(lane)->share_stall))
		lane->queue.closed = true;
	return !lane->queue.closed && link_is_like(lane->link, s);
}

bool lane_has_room(const struct lane *lane, const struct statement_text *text)
{
	return queue_has_room(&lane->queue, lane_settings(lane)->share_depth) &&
	       !(text && lane->preparing && is_being_prepared(lane, text->id));
}

/* In front of the batch: what closes statements that make room, and the Parse. false: no memory, nothing is changed. */
static bool prepare(struct lane *lane, struct turn *turn)
{
	struct statement_set *set = &lane->link->statements;
	uint32_t max = MAX(1u, lane_settings(lane)->max_prepared_statements);
	struct buf out = BUF_INIT(SHARE_REQUEST_MAX * 2);
	const struct statement_text *text = turn->text;
	struct statement_id old;
	bool fine;

	while (set->count >= max && turn->closes < UINT8_MAX && statement_set_evict(set, &old)) {
		prepared_add_close(&out, old);
		turn->closes++;
	}
	prepared_add_parse(lane->group->worker, &out, text);
	fine = !out.failed && statement_set_add(set, text->id) == 0;
	if (fine) {
		conn_send(&lane->link->conn, out.bytes, out.len);
		turn->prepares = true;
		lane->preparing++;
		count_add(&lane_counters(lane)->statements_prepared_total, 1);
		count_add(&shard_stats(lane->group->shard)->server_parses, 1);
		count_add(&lane_counters(lane)->statements_evicted_total, turn->closes);
	} else if (turn->closes) {
		lane->link->close_when_free = true; /* they are still there, and nobody knows it */
		turn->closes = 0;
	}
	buf_free(&out);
	return fine;
}

static bool send_batch(struct lane *lane, struct turn *turn, const struct share_request *r)
{
	struct conn *conn = &lane->link->conn;
	uint8_t head[FRAME_HEADER + 1 + STATEMENT_NAME_SIZE] = {'B'};

	if (!statement_set_use(&lane->link->statements, turn->text->id) && !prepare(lane, turn))
		return false;
	put_be32(head + 1, (uint32_t)(sizeof(head) - 1 + r->values.len));
	memcpy(head + FRAME_HEADER + 1, turn->text->server_name, STATEMENT_NAME_SIZE);
	conn_send(conn, head, sizeof(head));
	conn_send_ref(conn, r->values.bytes, r->values.len + r->rest.len);
	return true;
}

bool lane_send(struct lane *lane, struct turn *turn, const struct share_request *r)
{
	struct link *link = lane->link;
	usec_t now = clock_now();

	if (r->is_batch) {
		if (!send_batch(lane, turn, r))
			return false;
	} else {
		link->has_unnamed = false; /* a simple query ends the unnamed statement */
		conn_send_ref(&link->conn, r->bytes, r->len);
	}
	turn->lane = lane;
	turn->sent = now;
	queue_add(&lane->queue, turn, now);
	if (lane->queue.count > 1 || !list_is_empty(&lane->group->backlog))
		lane_watch(lane);
	return true;
}

/* ---- what takes long ---- */

void lane_move_others(struct lane *lane)
{
	queue_move_others(&lane->queue, share_return);
	share_settle(lane->group);
}

void lane_watch(struct lane *lane)
{
	if (!timer_is_set(&lane->stall))
		timer_set(loop_timers(lane->link->conn.loop), &lane->stall,
			  lane->queue.since + lane_settings(lane)->share_stall);
}

/* Nobody wants it, and nobody could be hit instead. */
static void cancel_orphan(struct lane *lane)
{
	const struct turn *first = queue_first(&lane->queue);

	if (first && !first->session && queue_may_cancel(&lane->queue, first))
		(void)!pool_cancel(lane->link, NULL, NULL);
}

static void stalled(struct timer *timer)
{
	struct lane *lane = container_of(timer, struct lane, stall);

	if (lane->queue.count < 2 && list_is_empty(&lane->group->backlog))
		return;
	if (!queue_is_stalled(&lane->queue, clock_now(), lane_settings(lane)->share_stall)) {
		lane_watch(lane);
		return;
	}
	count_add(&lane_counters(lane)->shared_stalls_total, 1);
	lane_move_others(lane);
	cancel_orphan(lane);
}

/* ---- the end of the link ---- */

/* The first one's answer will never be whole. On a standby, nothing of it was passed on: it is the primary's turn. */
static void fail_first(struct session *s, const struct turn *turn, const uint8_t *error, size_t len, bool inside)
{
	if (session_is_away(s) && !turn->told && !s->worker->closing) {
		share_send_home(s);
		return;
	}
	s->turn = NULL;
	session_set_state(s, SESSION_IDLE);
	if (inside)
		session_finish(s, "the server closed its connection in the middle of a message");
	else if (turn->told)
		session_fatal_bytes(s, error, len, "server connection lost");
	else
		session_fail_request(s, error, len);
}

/* error: what the first one is told; a whole ErrorResponse. */
static void lose(struct lane *lane, const uint8_t *error, size_t len)
{
	struct worker *w = lane->group->worker;
	struct link *link = lane->link;
	bool inside = link->left && !link->left_swallow;
	struct turn *first, *turn;

	link->close_when_free = true;
	lane_move_others(lane);
	first = lane->queue.count ? queue_take(&lane->queue, clock_now()) : NULL;
	while (lane->queue.count) {
		turn = queue_take(&lane->queue, clock_now());
		turn_free(w, turn);
	}
	if (first && first->session)
		fail_first(first->session, first, error, len, inside);
	if (first)
		turn_free(w, first);
	lane_end(lane);
}

static void lose_for(struct lane *lane, const char *why)
{
	struct buf out = BUF_INIT(4096);

	error_message_as(&out, ERROR_SERVER_LOST, "ERROR", why);
	lose(lane, out.bytes, out.failed ? 0 : out.len);
	buf_free(&out);
}

static void lane_lost(struct link *link, int error)
{
	struct lane *lane = link->user;
	const char *why = error ? strerror(-error) : "the server closed the connection";

	count_add(&lane_counters(lane)->links_lost_total, 1);
	log_warn("shared server connection lost", kv_uint("link", link->id), kv_str("reason", why),
		 kv_uint("requests", lane->queue.count));
	lose_for(lane, why);
}

void lane_drop(struct lane *lane)
{
	lose_for(lane, "the proxy closed it");
}

static void broken(struct lane *lane, uint8_t type)
{
	log_warn("the server sent what the protocol does not allow; closing the connection to it",
		 kv_uint("link", lane->link->id), kv_uint("type", type));
	lose_for(lane, "the server sent what the protocol does not allow");
}

/* ---- receiving ---- */

enum answer { PASS, SWALLOW, OVER, BROKEN, GONE };

static void pass(struct lane *lane, struct turn *turn, const uint8_t *from, const uint8_t *to)
{
	static const uint8_t parse_complete[] = {'1', 0, 0, 0, 4};
	struct session *s = turn->session;

	if (from == to || !s)
		return;
	if (turn->tells_parse && !turn->told)
		conn_send_ref(&s->conn, parse_complete, sizeof(parse_complete));
	turn->told = true;
	conn_send_ref(&s->conn, from, (size_t)(to - from));
	count_add(&session_stats(s)->bytes_sent, (uint64_t)(to - from));
	if (unlikely(conn_queued(&s->conn) > CONN_HIGH_WATER))
		conn_pause(&lane->link->conn);
}

static void parse_settled(struct lane *lane, struct turn *turn, bool done)
{
	if (!turn->prepares)
		return;
	turn->prepares = false;
	lane->preparing--;
	if (!done)
		statement_set_remove(&lane->link->statements, turn->text->id);
}

/*
 * An error that a link of its own might not have given, or would have told in other words: the statement could not be
 * prepared, or is not what it was. As long as nothing of the answer was passed on, the request can take its own way.
 * The server's own words are for a client that goes by an older description of its rows (as in repair.c); not for one
 * whose Parse was not sent, whatever (42...) its text means by now.
 */
static bool is_of_sharing(struct lane *lane, const struct turn *turn, const struct error_fields *e)
{
	struct pool *pool = shard_pool(lane->group->shard);
	bool stale = prepared_error_is_stale(e), named = prepared_error_names_ours(e);
	bool otherwise =
		turn->tells_parse && !turn->prepares && e->sqlstate.len == 5 && memcmp(e->sqlstate.bytes, "42", 2) == 0;

	if (!turn->text)
		return false;
	if (stale || (named && slice_equal(e->sqlstate, SLICE_LITERAL("26000"))))
		pool_forget_statements(pool);
	if (otherwise) { /* the link's statements are made anew when it is taken next */
		lane->link->statements_epoch = pool_statements_epoch(pool) - 1;
		lane->queue.closed = true;
	}
	return turn->prepares || named || otherwise || (stale && (turn->describes || turn->tells_parse));
}

static enum answer error(struct lane *lane, struct turn *turn, const struct frame *f, const uint8_t *whole)
{
	struct error_fields e = {0};
	bool fatal;

	if (!message_read_error(f->body, f->body_len, &e))
		return BROKEN;
	fatal = slice_equal(e.severity, SLICE_LITERAL("FATAL")) || slice_equal(e.severity, SLICE_LITERAL("PANIC"));
	pool_saw_error(lane->link, e.sqlstate, fatal);
	if (fatal) {
		log_info("the server ended a shared connection", kv_uint("link", lane->link->id),
			 kv_slice("sqlstate", e.sqlstate), kv_slice("message", e.message));
		lose(lane, whole, frame_size(f));
		return GONE;
	}
	turn->returns = is_of_sharing(lane, turn, &e) && !turn->told;
	parse_settled(lane, turn, /* done= */ false);
	if (turn->returns)
		return SWALLOW;
	if (turn->session) {
		snprintf(turn->sqlstate, sizeof(turn->sqlstate), "%.*s", (int)MIN(e.sqlstate.len, (size_t)5),
			 (const char *)e.sqlstate.bytes);
		count_add(&lane_counters(lane)->query_errors_total, 1);
	}
	return PASS;
}

static enum answer parameter_status(struct lane *lane, const struct turn *turn, const struct frame *f)
{
	if (!link_parameter_status(lane->link, f->body, f->body_len))
		return BROKEN;
	if (turn->session)
		params_assign(&turn->session->reported, lane->link->reported);
	return PASS;
}

static enum answer message(struct lane *lane, struct turn *turn, const struct frame *f, const uint8_t *whole)
{
	switch (f->type) {
	case 'C':
		if (unlikely(lane->group->worker->pipeline))
			turn->rows += observe_rows(slice_make(f->body, f->body_len ? f->body_len - 1 : 0));
		return PASS;
	case 'D':
	case 'T':
	case 'n':
	case 'I':
	case 'N':
		return PASS;
	case '2':
		return turn->text ? PASS : BROKEN;
	case 'Z':
		return f->body_len == 1 && f->body[0] == 'I' && !turn->prepares && !turn->closes ? OVER : BROKEN;
	case 'E':
		return error(lane, turn, f, whole);
	case '1':
		if (!turn->prepares)
			return BROKEN;
		parse_settled(lane, turn, /* done= */ true);
		return SWALLOW;
	case '3':
		if (!turn->closes)
			return BROKEN;
		turn->closes--;
		return SWALLOW;
	case 'S':
		return parameter_status(lane, turn, f);
	case 'A':
		return SWALLOW; /* no client of a shared link listens */
	default:
		return BROKEN;
	}
}

/* Those who wait for links of their own are to have it. Then those who wait for this lane are in line with them. */
static void close_if_wanted(struct lane *lane)
{
	if (lane->queue.closed || !pool_wants_back(lane->link, lanes_closed(lane->group)))
		return;
	lane->queue.closed = true;
	share_settle(lane->group);
}

/* The first is answered. false: the lane is gone. */
static bool turn_over(struct lane *lane)
{
	struct worker *w = lane->group->worker;
	struct turn *turn;
	usec_t now = clock_now(), since = lane->queue.since;

	turn = queue_take(&lane->queue, now);
	if (turn->sqlstate[0] == 0 && !turn->returns)
		share_learn(w->share.memory, turn->key, now - MAX(since, turn->sent));
	if (unlikely(w->pool_thread.watcher != NULL))
		pool_saw_answer(lane->link, clock_since(MAX(since, turn->sent), now));
	close_if_wanted(lane);
	share_answered(w, turn);
	share_serve(lane);
	if (lane->queue.count > 0)
		return true;
	lane_end(lane);
	return false;
}

static bool needs_whole(uint8_t type)
{
	return type == 'Z' || type == 'E' || type == 'S' || type == 'C';
}

static size_t lane_received(struct link *link, uint8_t *bytes, size_t len)
{
	struct lane *lane = link->user;
	struct turn *turn = queue_first(&lane->queue);
	size_t at = 0, from = 0;
	struct frame f = {0};

	if (link->left) {
		at = MIN(link->left, len);
		link->left -= at;
		if (link->left_swallow)
			from = at;
	}
	while (at < len) {
		enum frame_result r = frame_read(bytes + at, len - at, &f);
		enum answer answer;
		size_t have;

		if (r == FRAME_SHORT || (r == FRAME_HEAD && needs_whole(f.type) && f.body_len <= LOOK_MAX))
			break;
		if (f.type == 'E') { /* it may end the client's connection: what came before it is said before */
			pass(lane, turn, bytes + from, bytes + at);
			from = at;
		}
		answer = r == FRAME_BAD || (r == FRAME_HEAD && needs_whole(f.type))
				 ? BROKEN
				 : message(lane, turn, &f, bytes + at);
		if (unlikely(answer == GONE))
			return len;
		if (unlikely(answer == BROKEN)) {
			pass(lane, turn, bytes + from, bytes + at);
			broken(lane, f.type);
			return len;
		}
		have = MIN(frame_size(&f), len - at);
		if (answer == SWALLOW || (answer == OVER && turn->returns)) {
			pass(lane, turn, bytes + from, bytes + at);
			from = at + have;
		}
		at += have;
		link->left = frame_size(&f) - have;
		link->left_swallow = answer == SWALLOW || !turn->session;
		if (answer == OVER) {
			pass(lane, turn, bytes + from, bytes + at);
			from = at;
			if (!turn_over(lane))
				return at;
			turn = queue_first(&lane->queue);
		}
	}
	pass(lane, turn, bytes + from, bytes + at);
	return at;
}

static const struct link_user_ops lane_ops = {.received = lane_received, .lost = lane_lost};
