/*
 * Taking links and giving them back, in the thread that owns the shard.
 *
 * Why nobody is forgotten: a thread that begins to wait counts itself in pool->waiting before it looks for idle links
 * of other threads; a thread that puts a link among its idle ones counts it in idle_count before it looks at
 * pool->waiting. Both are sequentially consistent, so at least one of the two sees the other.
 */
#include "pool/pool_priv.h"

#include "base/log.h"
#include "wire/frame.h"
#include "wire/message.h"

static void shard_in_use(struct shard *shard)
{
	if (list_is_empty(&shard->node))
		list_push_back(&shard->thread->shards, &shard->node);
}

/* Links that min_connections wants are to be opened again after all were lost. */
static bool is_to_be_kept(const struct shard *shard)
{
	return !shard->thread->ending && pool_minimum(shard->pool) > 0 &&
	       node_takes_new(pool_destination(shard->pool)->node);
}

/* A shard with neither links nor waiters is in nobody's list, so that its pool can go; unless it is kept. */
void shard_maybe_unused(struct shard *shard)
{
	bool keep;

	if (!list_is_empty(&shard->idle) || !list_is_empty(&shard->busy) || !list_is_empty(&shard->opening) ||
	    !list_is_empty(&shard->waiters) || !list_is_empty(&shard->parked) || !list_is_empty(&shard->apart))
		return;
	keep = is_to_be_kept(shard);
	if (!keep)
		list_remove(&shard->node);
	if (keep == shard->is_kept)
		return;
	shard->is_kept = keep;
	if (keep)
		(void)pool_ref(shard->pool);
	else
		pool_unref(shard->pool);
}

static void publish_oldest(struct shard *shard)
{
	struct list *first = list_first(&shard->waiters);

	atomic_store_explicit(&shard->oldest_wait, first ? list_entry(first, struct waiter, node)->since : USEC_NEVER,
			      memory_order_relaxed);
}

struct shard *link_shard(const struct link *link)
{
	return link->owner;
}

bool link_leaves(const struct link *link)
{
	return link->close_when_free || shard_link_is_misplaced(link->owner, link);
}

void pool_count_pinned(struct link *link, int by)
{
	struct shard *shard = link->owner;

	atomic_fetch_add_explicit(&shard->pinned_count, (uint32_t)by, memory_order_relaxed);
	count_add(&shard->thread->counters.links_pinned, (uint64_t)(int64_t)by);
}

/* ---- taking ---- */

static usec_t last_use(const struct list *last)
{
	return last ? list_entry(last, const struct link, node)->used : USEC_NEVER;
}

void shard_publish_oldest_idle(struct shard *shard)
{
	atomic_store(&shard->oldest_idle, MIN(last_use(list_last(&shard->idle)), last_use(list_last(&shard->parked))));
}

void shard_take_in_hand(struct shard *shard, struct link *link)
{
	if (link->in_hand)
		return;
	link->in_hand = true;
	atomic_fetch_add(&shard->pool->in_hand, 1);
}

void shard_out_of_hand(struct shard *shard, struct link *link)
{
	if (likely(!link->in_hand))
		return;
	link->in_hand = false;
	atomic_fetch_sub(&shard->pool->in_hand, 1);
}

void shard_idle_add(struct shard *shard, struct link *link)
{
	bool was_empty = list_is_empty(&shard->idle);

	list_push_front(&shard->idle, &link->node);
	if (was_empty)
		shard_publish_oldest_idle(shard);
	atomic_fetch_add(&shard->idle_count, 1);
	shard_out_of_hand(shard, link);
}

void shard_idle_remove(struct shard *shard, struct link *link)
{
	bool was_last = list_last(&shard->idle) == &link->node;

	list_remove(&link->node);
	if (was_last)
		shard_publish_oldest_idle(shard);
	atomic_fetch_sub(&shard->idle_count, 1);
}

bool shard_link_is_misplaced(const struct shard *shard, const struct link *link)
{
	const struct destination *to = pool_destination(shard->pool);

	return link->server != to || destination_is_barred(to);
}

/* An idle link, or a parked one. */
void shard_end_idle(struct shard *shard, struct link *link)
{
	if (link->standing == STANDING_PARKED)
		active_unlist(shard, link);
	else
		shard_idle_remove(shard, link);
	link_close(link);
	shard_end_link(shard, link);
}

void shard_close_oldest_idle(struct shard *shard)
{
	struct list *idle = list_last(&shard->idle), *parked = list_last(&shard->parked);
	struct list *last = last_use(parked) <= last_use(idle) ? parked : idle;

	if (last)
		shard_end_idle(shard, list_entry(last, struct link, node));
}

static struct link *pop_idle(struct shard *shard)
{
	struct list *first;

	while ((first = list_first(&shard->idle))) {
		struct link *link = list_entry(first, struct link, node);

		if (likely(!shard_link_is_misplaced(shard, link))) {
			shard_idle_remove(shard, link);
			return link;
		}
		shard_end_idle(shard, link);
	}
	return unlikely(!list_is_empty(&shard->parked)) ? active_unpark(shard) : NULL;
}

static void make_busy(struct shard *shard, struct link *link)
{
	link->lent = clock_now();
	list_push_front(&shard->busy, &link->node);
	atomic_store_explicit(&shard->active_count,
			      atomic_load_explicit(&shard->active_count, memory_order_relaxed) + 1,
			      memory_order_relaxed);
}

static void leave_busy(struct shard *shard, struct link *link)
{
	list_remove(&link->node);
	atomic_store_explicit(&shard->active_count,
			      atomic_load_explicit(&shard->active_count, memory_order_relaxed) - 1,
			      memory_order_relaxed);
	count_add(&shard->done, 1);
	if (unlikely(link->kept)) {
		count_add(&shard->stats.kept_us, clock_now() - link->lent);
		link->kept = false;
		link->busy_since = 0;
	}
	if (likely(link->standing == STANDING_COUNTED))
		count_add(&shard->used, clock_now() - link->lent);
	else {
		count_add(&shard->held, 1);
		count_add(&shard->stats.lent_us, clock_now() - link->lent);
	}
}

struct link *pool_take(struct shard *shard)
{
	struct link *link = list_is_empty(&shard->waiters) ? pop_idle(shard) : NULL;

	if (link)
		make_busy(shard, link);
	return link;
}

/* Those at the front are used most; more of them are not worth the search. */
#define LIKE_LOOK 8

struct link *pool_take_like(struct shard *shard, const struct params *settings, const struct params *reported)
{
	uint32_t epoch = pool_statements_epoch(shard->pool);
	int looked = 0;

	if (!list_is_empty(&shard->waiters))
		return NULL;
	list_for_each (node, &shard->idle) {
		struct link *link = list_entry(node, struct link, node);

		if (looked++ == LIKE_LOOK)
			break;
		if (link->settings != settings || link->reported != reported || link->statements_epoch != epoch ||
		    shard_link_is_misplaced(shard, link) || link->close_when_free)
			continue;
		shard_idle_remove(shard, link);
		make_busy(shard, link);
		return link;
	}
	return NULL;
}

bool pool_has_idle(const struct shard *shard)
{
	return list_is_empty(&shard->waiters) && !list_is_empty(&shard->idle);
}

bool pool_wants_back(const struct link *link, uint32_t coming)
{
	const struct shard *shard = link->owner;

	return atomic_load(&shard->pool->waiting) > coming || link->close_when_free || clock_now() >= link->expires ||
	       shard->thread->ending || shard_link_is_misplaced(shard, link) ||
	       (coming == 0 && budget_wanted_since(link->server) != USEC_NEVER);
}

bool pool_is_short(const struct shard *shard)
{
	struct pool *pool = shard->pool;
	uint32_t waiting = atomic_load(&pool->waiting);

	if (!list_is_empty(&shard->idle) || atomic_load(&pool->opening) + pool_idle_anywhere(pool) > waiting)
		return false;
	return atomic_load(&pool->links) >= pool_settings(pool)->max_connections || !active_has_room(pool) ||
	       (waiting > 0 && atomic_load(&pool->opening) == 0);
}

void pool_mark_short(struct shard *shard)
{
	shard->short_at = clock_now();
}

bool pool_was_short(const struct shard *shard)
{
	return shard->short_at && clock_now() - shard->short_at < USEC_PER_SEC;
}

void **shard_slot(struct shard *shard)
{
	return &shard->slot;
}

void **shard_warm_slot(struct shard *shard)
{
	return &shard->warm_slot;
}

void pool_each_recent(struct shard *shard, uint32_t max, void (*each)(struct link *link, void *to), void *to)
{
	const struct list *const lists[] = {&shard->busy, &shard->idle};

	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		uint32_t left = max;

		for (struct list *node = lists[i]->next; node != lists[i] && left > 0; node = node->next, left--)
			each(list_entry(node, struct link, node), to);
	}
}

bool pool_line_is_full(const struct shard *shard, uint32_t more)
{
	uint32_t limit = pool_settings(shard->pool)->max_waiting_clients;

	return limit && atomic_load(&shard->pool->waiting) + more >= limit;
}

bool pool_wait(struct shard *shard, struct waiter *waiter)
{
	if (pool_line_is_full(shard, 0))
		return false;
	pool_wait_since(shard, waiter, clock_now());
	return true;
}

/* Behind all who have waited as long; most come last. */
static void stand_in_line(struct shard *shard, struct waiter *waiter)
{
	struct list *before = shard->waiters.prev;

	while (before != &shard->waiters && list_entry(before, struct waiter, node)->since > waiter->since)
		before = before->prev;
	list_insert_after(before, &waiter->node);
}

void pool_wait_since(struct shard *shard, struct waiter *waiter, usec_t since)
{
	shard_in_use(shard);
	waiter->shard = shard;
	waiter->since = since;
	stand_in_line(shard, waiter);
	atomic_fetch_add(&shard->waiting_count, 1);
	atomic_fetch_add(&shard->pool->waiting, 1);
	publish_oldest(shard);
	count_add(&shard->thread->counters.link_waits_total, 1);
	if (likely(!waiter->for_many))
		count_add(&shard->thread->counters.clients_waiting, 1);
	shard_serve(shard);
	if (!list_is_empty(&shard->waiters) && !active_is_off(shard->pool)) {
		if (active_binds(shard->pool))
			count_add(&shard->thread->counters.active_limit_waits_total, 1);
		active_watch(shard);
	}
}

void pool_wait_end(struct waiter *waiter)
{
	struct shard *shard = waiter->shard;
	struct list *next;

	if (list_is_empty(&waiter->node))
		return;
	list_remove(&waiter->node);
	atomic_fetch_sub(&shard->waiting_count, 1);
	atomic_fetch_sub(&shard->pool->waiting, 1);
	publish_oldest(shard);
	next = list_first(&shard->waiters);
	budget_want_end(shard->pool, waiter->since, next ? list_entry(next, struct waiter, node)->since : 0);
	if (likely(!waiter->for_many))
		count_sub(&shard->thread->counters.clients_waiting, 1);
	count_add(&shard->thread->counters.link_wait_us, clock_now() - waiter->since);
	count_add(&shard->stats.wait_us, clock_now() - waiter->since);
	latency_add(&shard->thread->latencies, LATENCY_WAIT, clock_now() - waiter->since);
	shard_maybe_unused(shard);
}

void shard_fail_waiters(struct shard *shard, const struct link_failure *failure)
{
	struct list failed;
	struct list *node;

	list_init(&failed);
	while ((node = list_first(&shard->waiters))) { /* first all out, then told: telling may make new ones */
		struct waiter *w = list_entry(node, struct waiter, node);

		pool_wait_end(w);
		list_push_back(&failed, &w->node);
	}
	while ((node = list_first(&failed))) {
		struct waiter *w = list_entry(node, struct waiter, node);

		list_remove(&w->node);
		w->ops->failed(w, failure);
	}
}

/* ---- handing on ---- */

static void grant(struct shard *shard, struct link *link)
{
	struct waiter *w = list_entry(list_first(&shard->waiters), struct waiter, node);

	pool_wait_end(w);
	count_add(&shard->waited, 1);
	shard_in_use(shard);
	make_busy(shard, link);
	shard_out_of_hand(shard, link);
	w->ops->granted(w, link);
}

/* The thread (not this one) whose first waiter has waited longest; its `since` in *ret_since. */
static struct shard *oldest_elsewhere(const struct shard *shard, usec_t *ret_since)
{
	struct pool *pool = shard->pool;
	struct shard *oldest = NULL;

	*ret_since = USEC_NEVER;
	for (uint32_t i = 0; i < atomic_load_explicit(&pool->pools->thread_count, memory_order_relaxed); i++) {
		struct shard *s = atomic_load_explicit(&pool->shards[i], memory_order_acquire);
		usec_t since =
			s && s != shard ? atomic_load_explicit(&s->oldest_wait, memory_order_relaxed) : USEC_NEVER;

		if (since < *ret_since) {
			*ret_since = since;
			oldest = s;
		}
	}
	return oldest;
}

/* A link that moves costs some system calls and a wake-up, so the longer all wait the more is overlooked. */
static bool is_much_older(usec_t since, usec_t own_since)
{
	usec_t now = clock_now(), own_wait = now > own_since ? now - own_since : 0;

	return own_since > since + POOL_FAIRNESS_SLACK + own_wait / 8;
}

/* Moves the link to a waiter of another thread if that one is to be preferred. */
static bool hand_elsewhere(struct shard *shard, struct link *link)
{
	struct list *first = list_first(&shard->waiters);
	uint32_t here = atomic_load_explicit(&shard->waiting_count, memory_order_relaxed);
	struct shard *to;
	usec_t since;

	if (atomic_load(&shard->pool->waiting) <= here)
		return false;
	to = oldest_elsewhere(shard, &since);
	if (!to || (first && !is_much_older(since, list_entry(first, struct waiter, node)->since)))
		return false;
	return shard_move_link(shard, link, to->thread->index);
}

/* Since when somebody has waited for a link of the pool; USEC_NEVER: nobody does. */
static usec_t oldest_anywhere(const struct shard *shard)
{
	struct list *first = list_first(&shard->waiters);
	usec_t since = USEC_NEVER;

	if (atomic_load(&shard->pool->waiting) > 0)
		oldest_elsewhere(shard, &since);
	return first ? MIN(since, list_entry(first, struct waiter, node)->since) : since;
}

/* Some other pool has waited for the link's room for much longer than anybody has for the link. */
static bool must_make_room(const struct shard *shard, const struct link *link)
{
	usec_t wanted = budget_wanted_since(link->server), since;

	if (likely(wanted == USEC_NEVER))
		return false;
	since = oldest_anywhere(shard);
	return since != USEC_NEVER && since > wanted + POOL_EVICTION_SLACK; /* without waiters it becomes idle first */
}

void shard_offer(struct shard *shard, struct link *link)
{
	assert(link->state == LINK_IDLE);
	shard_in_use(shard);
	if (unlikely(link->standing == STANDING_APART)) {
		active_leave(shard->pool, link);
		active_join_anyway(shard->pool);
		link->standing = STANDING_COUNTED;
	}
	if (unlikely(shard->thread->ending || shard_link_is_misplaced(shard, link) || must_make_room(shard, link))) {
		link_close(link);
		shard_end_link(shard, link);
		return;
	}
	if (unlikely(active_park(shard, link))) {
		if (budget_wanted_since(link->server) != USEC_NEVER)
			shard_close_oldest_idle(shard);
		return;
	}
	if (unlikely(hand_elsewhere(shard, link)))
		return;
	if (!list_is_empty(&shard->waiters)) {
		grant(shard, link);
		return;
	}
	shard_idle_add(shard, link);
	/* somebody may have begun to wait elsewhere just before the link was seen to be idle */
	if (unlikely(atomic_load(&shard->pool->waiting) > 0)) {
		shard_take_in_hand(shard, link);
		shard_idle_remove(shard, link);
		if (hand_elsewhere(shard, link))
			return;
		shard_idle_add(shard, link);
	}
	if (unlikely(budget_wanted_since(link->server) != USEC_NEVER))
		shard_close_oldest_idle(shard);
}

/* It stays in hand meanwhile: whoever begins to wait now gets it sooner than one that would be opened for him. */
void shard_offer_new(struct shard *shard, struct link *link)
{
	const struct pool_warmer *warmer = shard->thread->warmer;

	if (!warmer || shard->thread->ending || shard_link_is_misplaced(shard, link) ||
	    atomic_load(&shard->pool->waiting) > 0 || budget_wanted_since(link->server) != USEC_NEVER ||
	    !warmer->opened(shard->thread, link)) {
		shard_offer(shard, link);
		return;
	}
	shard_in_use(shard);
	make_busy(shard, link);
}

void shard_serve(struct shard *shard)
{
	while (!list_is_empty(&shard->waiters)) {
		struct link *link = pop_idle(shard);

		if (!link)
			break;
		if (unlikely(list_is_empty(&shard->waiters))) { /* closing misplaced ones served the last of them */
			shard_idle_add(shard, link);
			return;
		}
		grant(shard, link);
	}
	if (list_is_empty(&shard->waiters))
		return;
	pool_ask_for_idle(shard);
	shard_open_links(shard);
}

void shard_end_link(struct shard *shard, struct link *link)
{
	struct pool *pool = shard->pool;

	list_remove(&link->node);
	active_leave(pool, link);
	shard_out_of_hand(shard, link);
	atomic_fetch_sub(&((struct destination *)link->server)->links, 1);
	atomic_fetch_add_explicit(&pool->closed, 1, memory_order_relaxed);
	count_add(&shard->thread->counters.links_closed_total, 1);
	if (!budget_give(pool, link->server, oldest_anywhere(shard)) && atomic_load(&pool->waiting) > 0) {
		if (!list_is_empty(&shard->waiters))
			shard_serve(shard);
		pool_kick_waiting(pool, shard);
	}
	shard_maybe_unused(shard);
	pool_unref(pool);
}

/* ---- giving back ---- */

static void close_link(struct shard *shard, struct link *link)
{
	if (unlikely(!conn_is_open(&link->conn)))
		watch_lost(shard, link);
	if (unlikely(link->ticket))
		watch_given_up(shard, link);
	leave_busy(shard, link);
	link_close(link);
	shard_end_link(shard, link);
}

static void release_clean(struct shard *shard, struct link *link)
{
	link_take_back(link);
	if (unlikely(!list_is_empty(&link->cancels_under_way))) {
		link->held_for_cancel = true; /* stays in the busy list until cancel_done() */
		return;
	}
	leave_busy(shard, link);
	shard_offer(shard, link);
}

static void cancel_done(struct link *link)
{
	struct shard *shard = link->owner;

	if (!link->held_for_cancel || !list_is_empty(&link->cancels_under_way))
		return;
	link->held_for_cancel = false;
	leave_busy(shard, link);
	shard_offer(shard, link);
}

struct reset_answer {
	struct link *link;
	bool failed, over, is_idle;
};

/* false: there is no more to be seen. */
static bool take_reset_message(void *to, const struct frame *f)
{
	struct reset_answer *answer = to;

	answer->failed =
		f->type == 'E' || (f->type == 'S' && !link_parameter_status(answer->link, f->body, f->body_len));
	answer->over = f->type == 'Z';
	answer->is_idle = answer->over && f->body_len == 1 && f->body[0] == 'I';
	return !answer->failed && !answer->over;
}

/* reset_query is under way: the shard is the link's user until it is done. */
static size_t reset_received(struct link *link, uint8_t *bytes, size_t len)
{
	struct reset_answer answer = {.link = link};
	size_t done;

	if (!frames_take(bytes, len, FRAME_BODY_MAX, take_reset_message, &answer, &done) || answer.failed) {
		log_warn("reset_query failed; closing the server connection", kv_uint("link", link->id));
		close_link(link->owner, link);
		return len;
	}
	if (!answer.over)
		return done;
	if (answer.is_idle && done == len)
		release_clean(link->owner, link);
	else
		close_link(link->owner, link);
	return len;
}

static void reset_lost(struct link *link, int error)
{
	(void)error;
	close_link(link->owner, link);
}

static const struct link_user_ops reset_ops = {.received = reset_received, .lost = reset_lost};

static bool names_discard_all(const char *query)
{
	return strcasecmp(query, "DISCARD ALL") == 0;
}

/* DISCARD ALL and the like: what we believe of the link is what it was born with. */
static void begin_reset(struct shard *shard, struct link *link, const char *query)
{
	struct buf out = BUF_INIT(65536);

	message_query(&out, slice_str(query));
	if (out.failed) {
		close_link(shard, link);
		return;
	}
	conn_send(&link->conn, out.bytes, out.len);
	buf_free(&out);
	if (names_discard_all(query)) {
		statement_set_clear(&link->statements);
		link->has_unnamed = false;
		params_assign(&link->settings, NULL);
	}
	link->dirty = false;
	link->user_ops = &reset_ops;
	link->user = NULL;
	count_add(&shard->thread->counters.resets_total, 1);
}

static bool is_reusable(const struct link *link)
{
	return link->state == LINK_ACTIVE && !link->close_when_free && conn_is_open(&link->conn) &&
	       !shard_link_is_misplaced(link->owner, link) && link->tx_status == 'I' && link->expects.count == 0 &&
	       !link->open_batch && link->left == 0 && clock_now() < link->expires;
}

void pool_give_back(struct link *link)
{
	struct shard *shard = link->owner;
	const struct config_pool *s = pool_settings(shard->pool);

	if (unlikely(!is_reusable(link))) {
		close_link(shard, link);
		return;
	}
	if (likely(s->reset != RESET_ALWAYS && !link->dirty)) {
		release_clean(shard, link);
		return;
	}
	if (s->reset == RESET_NEVER)
		release_clean(shard, link);
	else if (*s->reset_query)
		begin_reset(shard, link, s->reset_query);
	else
		close_link(shard, link);
}

/* ---- cancelling ---- */

int pool_cancel(struct link *link, void (*over)(void *argument), void *argument)
{
	struct shard *shard = link->owner;
	struct secret secret;
	struct link_target target;
	socklen_t len = sizeof(target.addresses[0]);
	int r = pool_target(shard->pool, link->server, &target, &secret);

	if (r < 0)
		return r;
	/* where the link leads, for a name may have several addresses (a unix socket has one) */
	if (target.addresses[0].ss_family != AF_UNIX &&
	    getpeername(link->conn.fd, (struct sockaddr *)&target.addresses[0], &len) == 0)
		target.address_lens[0] = len;
	target.address_count = 1;
	r = link_cancel(link, &target, cancel_done, over, argument);
	if (r == 0) {
		count_add(&shard->thread->counters.cancels_forwarded_total, 1);
	}
	tls_context_unref(target.tls);
	secret_wipe(&secret);
	return r;
}
