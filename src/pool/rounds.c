/* What is done with all of a thread's shards: once a second, at the end, and for whoever looks at all links. */
#include "pool/pool_priv.h"

/* ---- once a second ---- */

static bool is_too_old(const struct link *link, usec_t now, const struct config_pool *s, bool above_minimum)
{
	return now >= link->expires || link->close_when_free || link_must_leave(link) ||
	       shard_link_is_misplaced(link->owner, link) ||
	       (s->idle_timeout && above_minimum && now - link->used > s->idle_timeout);
}

static void close_old(struct shard *shard, struct list *idle, usec_t now)
{
	const struct config_pool *s = pool_settings(shard->pool);

	for (struct list *node = idle->prev, *before; node != idle; node = before) {
		struct link *link = list_entry(node, struct link, node);
		bool above = atomic_load(&shard->pool->links) > s->min_connections;

		before = node->prev;
		if (!is_too_old(link, now, s, above))
			continue;
		shard_end_idle(shard, link);
		if (list_is_empty(&shard->node))
			return; /* unused: the pool may go */
	}
}

static bool strand(const struct list *links, const struct node *node)
{
	list_for_each (at, links) {
		struct link *link = list_entry(at, struct link, node);

		if (((struct destination *)link->server)->node == node && link->state == LINK_ACTIVE &&
		    !link->held_for_cancel && link->user_ops && link->user_ops->stranded &&
		    link->user_ops->stranded(link))
			return true;
	}
	return false;
}

/* Whose link goes may take any other link out of the list: so it is begun anew each time. */
static void tell_stranded(struct shard *shard)
{
	const struct destination *to = pool_destination(shard->pool);
	uint32_t left = atomic_load(&shard->active_count);

	if (likely(!atomic_load_explicit(&to->node->unhealthy, memory_order_relaxed)))
		return;
	while (left > 0 && (strand(&shard->busy, to->node) || strand(&shard->apart, to->node)))
		left--;
}

static void shard_tick(struct shard *shard)
{
	struct pool *pool = shard->pool;

	if (shard->thread->warmer)
		shard->thread->warmer->tick(shard->thread, shard);
	active_watch_trial(shard);
	shard_drain(shard);
	tell_stranded(shard);
	close_old(shard, &shard->parked, clock_now());
	close_old(shard, &shard->idle, clock_now());
	if (!list_is_empty(&shard->waiters))
		shard_serve(shard); /* the reserve may be open now, or a retry due */
	if (!list_is_empty(&shard->node) && atomic_load(&pool->links) < pool_minimum(pool))
		shard_open_links(shard);
	if (shard->is_kept)
		shard_maybe_unused(shard); /* or not any more */
}

static void close_idle(struct shard *shard)
{
	while (!list_is_empty(&shard->idle) || !list_is_empty(&shard->parked))
		shard_close_oldest_idle(shard);
}

/* What one shard does may empty any other, which leaves the list then: so each is taken out before its turn. */
void thread_each_shard(struct pool_thread *thread, void (*run)(struct shard *shard))
{
	struct list todo, *node;

	list_init(&todo);
	while ((node = list_first(&thread->shards))) {
		list_remove(node);
		list_push_back(&todo, node);
	}
	while ((node = list_first(&todo))) {
		struct shard *shard = list_entry(node, struct shard, node);
		struct pool *pool = pool_ref(shard->pool);

		list_remove(node);
		list_push_back(&thread->shards, node);
		run(shard);
		pool_unref(pool);
	}
}

void pool_thread_tick(struct pool_thread *thread)
{
	thread_each_shard(thread, shard_tick);
}

void pool_thread_close_idle(struct pool_thread *thread)
{
	thread_each_shard(thread, close_idle);
}

static void end_shard(struct shard *shard)
{
	shard_serve(shard); /* fails those who wait */
	close_idle(shard);
	shard_close_opening(shard);
	shard_maybe_unused(shard);
}

void pool_thread_end(struct pool_thread *thread)
{
	thread->ending = true;
	timer_cancel(&thread->pressure);
	thread_each_shard(thread, end_shard);
}

void pool_thread_each_link(struct pool_thread *thread, void (*each)(struct link *link, void *to), void *to)
{
	for (const struct list *node = thread->shards.next; node != &thread->shards; node = node->next) {
		const struct shard *s = list_entry(node, const struct shard, node);
		const struct list *const lists[] = {&s->busy, &s->apart, &s->idle, &s->parked, &s->opening};

		for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
			for (const struct list *n = lists[i]->next; n != lists[i]; n = n->next)
				each(list_entry(n, struct link, node), to);
	}
}

static void count_link(struct link *link, void *to)
{
	(void)link;
	++*(uint32_t *)to;
}

uint32_t pool_thread_links(const struct pool_thread *thread)
{
	uint32_t count = 0;

	pool_thread_each_link((struct pool_thread *)(uintptr_t)thread, count_link, &count);
	return count;
}
