/*
 * The adaptive limit: how many links of a pool are in use at the same time, below max_connections (limiter.h finds it).
 *
 * It costs nothing as long as nobody waits, for it is not asked when a link is taken: links above the limit are
 * *parked* when they come back, and only what is not parked is idle. A parked link returns, and a new one is opened,
 * only when somebody waits and fewer links than the limit are counted.
 *
 * Links that are held for long are not counted: their clients wait for a lock, think inside of a transaction, or run
 * slow queries, and to hold others up for them could be a deadlock. While somebody waits each thread looks for such
 * links every few milliseconds (its timer `pressure`), and lets others have their places. The windows of limiter.h end
 * there as well; whichever thread comes first judges them.
 *
 * Why nobody is forgotten: room comes to be when a link ends, is set apart, or the limit rises, and whoever does one of
 * these serves the waiters of its own thread and wakes the others. Parking makes no room.
 */
#include "pool/pool_priv.h"

#define PRESSURE_PERIOD (5 * USEC_PER_MSEC) /* and up to a tick of the timers later */
#define TRIAL_PERIOD    (100 * USEC_PER_MSEC)

/* ---- what counts ---- */

bool active_join(struct pool *pool)
{
	uint32_t n = atomic_load(&pool->active.counted);

	do {
		if (n >= atomic_load(&pool->active.limit))
			return false;
	} while (!atomic_compare_exchange_weak(&pool->active.counted, &n, n + 1));
	return true;
}

void active_join_anyway(struct pool *pool)
{
	atomic_fetch_add(&pool->active.counted, 1);
}

void active_leave(struct pool *pool, const struct link *link)
{
	if (!link || link->standing == STANDING_COUNTED)
		atomic_fetch_sub(&pool->active.counted, 1);
	else if (link->standing == STANDING_APART)
		atomic_fetch_sub(&pool->active.apart, 1);
}

bool active_binds(const struct pool *pool)
{
	const struct active *a = &((struct pool *)(uintptr_t)pool)->active;

	return !active_has_room(pool) &&
	       (atomic_load(&a->parked) > 0 ||
		atomic_load(&((struct pool *)(uintptr_t)pool)->links) < pool_settings(pool)->max_connections);
}

/* ---- parking ---- */

static bool is_one_too_many(struct active *a)
{
	uint32_t n = atomic_load_explicit(&a->counted, memory_order_relaxed);

	do {
		if (likely(n <= atomic_load_explicit(&a->limit, memory_order_relaxed)))
			return false;
	} while (!atomic_compare_exchange_weak(&a->counted, &n, n - 1));
	return true;
}

bool active_park(struct shard *shard, struct link *link)
{
	struct active *a = &shard->pool->active;

	if (likely(!is_one_too_many(a)))
		return false;
	link->standing = STANDING_PARKED;
	list_push_front(&shard->parked, &link->node);
	atomic_fetch_add(&shard->parked_count, 1);
	atomic_fetch_add(&a->parked, 1);
	shard_publish_oldest_idle(shard);
	shard_out_of_hand(shard, link);
	return true;
}

void active_unlist(struct shard *shard, struct link *link)
{
	list_remove(&link->node);
	atomic_fetch_sub(&shard->parked_count, 1);
	atomic_fetch_sub(&shard->pool->active.parked, 1);
	shard_publish_oldest_idle(shard);
}

struct link *active_unpark(struct shard *shard)
{
	struct list *first;

	while ((first = list_first(&shard->parked)) && active_join(shard->pool)) {
		struct link *link = list_entry(first, struct link, node);

		active_unlist(shard, link);
		link->standing = STANDING_COUNTED;
		if (likely(!shard_link_is_misplaced(shard, link)))
			return link;
		link_close(link);
		shard_end_link(shard, link);
	}
	return NULL;
}

/* ---- links that are held for long ---- */

void active_set_apart(struct shard *shard, struct link *link)
{
	link->standing = STANDING_APART;
	atomic_fetch_add(&shard->pool->active.apart, 1);
}

void active_look(struct shard *shard)
{
	struct pool *pool = shard->pool;
	usec_t now = clock_now(), bound = MAX(atomic_load(&pool->active.long_use), LIMITER_LONG_LEAST);
	struct list *last;
	uint32_t found = 0;

	while ((last = list_last(&shard->busy))) {
		struct link *link = list_entry(last, struct link, node);

		if (now - link->lent < bound)
			break;
		list_remove(&link->node);
		list_push_front(&shard->apart, &link->node);
		active_leave(pool, link);
		active_set_apart(shard, link);
		found++;
	}
	if (found == 0)
		return;
	count_add(&shard->thread->counters.links_held_long_total, found);
	if (!list_is_empty(&shard->waiters))
		shard_serve(shard);
	if (atomic_load(&pool->waiting) > atomic_load(&shard->waiting_count))
		pool_kick_waiting(pool, shard);
}

/* ---- windows ---- */

static struct limiter_sample sum_up(const struct pool *pool)
{
	struct limiter_sample sum = {0};

	for (uint32_t i = 0; i < atomic_load_explicit(&pool->pools->thread_count, memory_order_relaxed); i++) {
		struct shard *s =
			atomic_load_explicit(&((struct pool *)(uintptr_t)pool)->shards[i], memory_order_acquire);

		if (!s)
			continue;
		sum.done += atomic_load_explicit(&s->done, memory_order_relaxed);
		sum.held += atomic_load_explicit(&s->held, memory_order_relaxed);
		sum.waited += atomic_load_explicit(&s->waited, memory_order_relaxed);
		sum.used += atomic_load_explicit(&s->used, memory_order_relaxed);
	}
	return sum;
}

/* The window is over if it is long enough. What is to be in force; `limit` when nothing changes. */
static uint32_t window_limit(struct pool *pool, uint32_t limit)
{
	const struct config_pool *s = pool_settings(pool);
	struct active *a = &pool->active;
	struct limiter_sample sum = sum_up(pool);
	struct limiter_sample sample = {
		.length = clock_now() - a->since,
		.done = sum.done - a->sum.done,
		.held = sum.held - a->sum.held,
		.waited = sum.waited - a->sum.waited,
		.used = sum.used - a->sum.used,
	};

	if (limit != a->in_force) { /* a reload turned it on */
		limiter_init(&a->limiter, limit);
		a->in_force = limit;
	} else if (!limiter_is_due(&a->limiter, &sample)) {
		return limit;
	} else {
		limit = limiter_next(&a->limiter, &sample, s->min_active, s->max_connections);
		atomic_store(&a->long_use, limiter_long_use(&a->limiter));
	}
	a->since = clock_now();
	a->sum = sum;
	return limit;
}

static void judge(struct shard *shard)
{
	struct pool *pool = shard->pool;
	struct active *a = &pool->active;
	uint32_t limit, next;
	bool rises = false;

	if (active_is_off(pool) || atomic_exchange(&a->judging, true))
		return;
	limit = next = atomic_load(&a->limit);
	if (limit != ACTIVE_UNLIMITED)
		next = window_limit(pool, limit);
	/* a reload may have turned it off meanwhile */
	if (next != limit && atomic_compare_exchange_strong(&a->limit, &limit, next)) {
		a->in_force = next;
		rises = next > limit;
		count_add(&shard->thread->counters.active_limit_changes_total, 1);
	}
	atomic_store(&a->trying, a->limiter.phase != LIMITER_BEFORE);
	atomic_store(&a->judging, false);
	if (rises)
		pool_kick_waiting(pool, shard);
}

/* ---- while somebody waits ---- */

static void under_pressure(struct shard *shard)
{
	if (active_is_off(shard->pool))
		return;
	if (list_is_empty(&shard->waiters)) {
		active_watch_trial(shard);
		return;
	}
	active_look(shard);
	if (!active_has_room(shard->pool))
		pool_ask_to_set_apart(shard);
	judge(shard);
	shard_serve(shard);
	if (!list_is_empty(&shard->waiters))
		active_watch(shard);
}

void active_watch_trial(struct shard *shard)
{
	struct pool_thread *t = shard->thread;

	judge(shard);
	if (atomic_load(&shard->pool->active.trying) && !timer_is_set(&t->pressure))
		timer_set(loop_timers(t->loop), &t->pressure, clock_now() + TRIAL_PERIOD);
}

static void pressure(struct timer *timer)
{
	thread_each_shard(container_of(timer, struct pool_thread, pressure), under_pressure);
}

void active_watch(struct shard *shard)
{
	struct pool_thread *t = shard->thread;

	if (!timer_is_set(&t->pressure) || t->pressure.deadline > clock_now() + PRESSURE_PERIOD)
		timer_set(loop_timers(t->loop), &t->pressure, clock_now() + PRESSURE_PERIOD);
}

void active_thread_init(struct pool_thread *thread)
{
	timer_init(&thread->pressure, pressure);
}

/* ---- settings ---- */

void active_follow(struct pool *pool)
{
	const struct config_pool *s = pool_settings(pool);
	struct active *a = &pool->active;
	/* it begins where it is in nobody's way */
	bool is_on = s->adaptive && s->mode != POOL_MODE_SESSION && s->min_active < s->max_connections;
	uint32_t limit = atomic_load(&a->limit);

	if (is_on && (limit == 0 || limit == ACTIVE_UNLIMITED))
		atomic_store(&a->limit, s->max_connections);
	if (is_on || limit == ACTIVE_UNLIMITED)
		return;
	atomic_store(&a->limit, ACTIVE_UNLIMITED);
	pool_kick_waiting(pool, NULL);
}
