/*
 * What threads tell each other of a pool: a link moves, somebody waits, room is wanted. A message holds a reference to
 * its pool. When a thread is ending, what arrives is closed (shard_offer()).
 */
#include "pool/pool_priv.h"

struct pool_message {
	struct loop_message message;
	struct pool *pool;
	struct link *link;
	uint32_t from;
};

static int post(struct pool *pool, uint32_t thread, void (*run)(struct loop_message *, void *), struct link *link,
		uint32_t from)
{
	struct pool_message *m = malloc(sizeof(*m));

	if (!m)
		return -ENOMEM;
	*m = (struct pool_message){.message.run = run, .pool = pool_ref(pool), .link = link, .from = from};
	loop_post(pool->pools->threads[thread]->loop, &m->message);
	return 0;
}

static void link_arrives(struct loop_message *message, void *thread)
{
	struct pool_message *m = container_of(message, struct pool_message, message);
	struct pool_thread *t = thread;
	struct shard *shard = pool_shard(m->pool, t);

	assert(shard); /* it asked, so it is there */
	m->link->owner = shard;
	count_add(&t->counters.links_moved_total, 1);
	if (conn_attach(&m->link->conn, t->loop) < 0) {
		link_close(m->link);
		shard_end_link(shard, m->link);
	} else {
		shard_offer(shard, m->link);
		if (unlikely(!list_is_empty(&shard->waiters) && atomic_load(&m->pool->active.parked) > 0))
			shard_serve(shard); /* the limit may have risen by more than one */
	}
	pool_unref(m->pool);
	free(m);
}

bool shard_move_link(struct shard *from, struct link *link, uint32_t to_thread)
{
	if (conn_detach(&link->conn) < 0)
		return false;
	shard_take_in_hand(from, link);
	if (post(from->pool, to_thread, link_arrives, link, from->thread->index) == 0)
		return true;
	if (conn_attach(&link->conn, from->thread->loop) < 0)
		link->close_when_free = true; /* closed by the next tick */
	return false;
}

static void kicked(struct loop_message *message, void *thread)
{
	struct pool_message *m = container_of(message, struct pool_message, message);
	struct shard *shard = pool_shard(m->pool, thread);

	if (shard)
		shard_serve(shard);
	pool_unref(m->pool);
	free(m);
}

/* A link that nobody here has a use for; it is in no list, and in hand. NULL: none. */
static struct link *free_link(struct shard *shard)
{
	struct list *first = list_first(&shard->idle);
	struct link *link;

	if (!list_is_empty(&shard->waiters))
		return NULL;
	if (!first) {
		link = active_unpark(shard);
		if (link)
			shard_take_in_hand(shard, link);
		return link;
	}
	link = list_entry(first, struct link, node);
	shard_take_in_hand(shard, link);
	shard_idle_remove(shard, link);
	return link;
}

static void asked_for_idle(struct loop_message *message, void *thread)
{
	struct pool_message *m = container_of(message, struct pool_message, message);
	struct shard *shard = pool_shard(m->pool, thread);
	struct shard *asker = atomic_load(&m->pool->shards[m->from]);

	if (shard && asker && atomic_load(&asker->waiting_count) > 0) {
		struct link *link = free_link(shard);

		if (link) {
			if (!shard_move_link(shard, link, m->from)) /* not now; the tick of who waits asks again */
				shard_idle_add(shard, link);
		} else {
			/* somebody here was quicker: it must not count on this link any more */
			(void)!post(m->pool, m->from, kicked, NULL, m->from);
		}
	}
	pool_unref(m->pool);
	free(m);
}

void pool_ask_for_idle(struct shard *shard)
{
	struct pool *pool = shard->pool;
	bool room = active_has_room(pool);

	for (uint32_t i = 0; i < atomic_load_explicit(&pool->pools->thread_count, memory_order_relaxed); i++) {
		struct shard *s = atomic_load_explicit(&pool->shards[i], memory_order_acquire);

		if (s && s != shard &&
		    (atomic_load(&s->idle_count) > 0 || (room && atomic_load(&s->parked_count) > 0))) {
			(void)!post(pool, i, asked_for_idle, NULL,
				    shard->thread->index); /* without memory: the tick serves */
			return;
		}
	}
}

void pool_kick_waiting(struct pool *pool, const struct shard *but)
{
	for (uint32_t i = 0; i < atomic_load_explicit(&pool->pools->thread_count, memory_order_relaxed); i++) {
		struct shard *s = atomic_load_explicit(&pool->shards[i], memory_order_acquire);

		if (s && s != but && atomic_load(&s->waiting_count) > 0)
			(void)!post(pool, i, kicked, NULL, i);
	}
}

static void moved(struct loop_message *message, void *thread)
{
	struct pool_message *m = container_of(message, struct pool_message, message);
	struct shard *shard = pool_shard(m->pool, thread);

	if (shard)
		shard_leave_old_destination(shard);
	pool_unref(m->pool);
	free(m);
}

void pool_tell_moved(struct pool *pool)
{
	for (uint32_t i = 0; i < atomic_load_explicit(&pool->pools->thread_count, memory_order_relaxed); i++) {
		struct shard *s = atomic_load_explicit(&pool->shards[i], memory_order_acquire);

		if (s && (atomic_load(&s->opening_count) > 0 || atomic_load(&s->waiting_count) > 0))
			(void)!post(pool, i, moved, NULL, i); /* without memory: they time out, or fail */
	}
}

static void renewed(struct loop_message *message, void *thread)
{
	struct pool_message *m = container_of(message, struct pool_message, message);
	struct shard *shard = pool_shard(m->pool, thread);

	if (shard) {
		shard_close_misplaced(shard);
		shard_leave_old_destination(shard);
	}
	pool_unref(m->pool);
	free(m);
}

void pool_tell_renewed(struct pool *pool)
{
	for (uint32_t i = 0; i < atomic_load_explicit(&pool->pools->thread_count, memory_order_relaxed); i++)
		if (atomic_load_explicit(&pool->shards[i], memory_order_acquire))
			(void)!post(pool, i, renewed, NULL, i); /* without memory: the tick closes them */
}

/* ---- room for other pools ---- */

static void evict(struct loop_message *message, void *thread)
{
	struct pool_message *m = container_of(message, struct pool_message, message);
	struct shard *shard = pool_shard(m->pool, thread);

	if (shard && budget_wanted_since(pool_destination(m->pool)) != USEC_NEVER)
		shard_close_oldest_idle(shard);
	pool_unref(m->pool);
	free(m);
}

void pool_ask_to_evict(struct pool *pool, uint32_t thread)
{
	(void)!post(pool, thread, evict, NULL, thread); /* without memory: the tick asks again */
}

/* ---- the adaptive limit ---- */

static void asked_to_set_apart(struct loop_message *message, void *thread)
{
	struct pool_message *m = container_of(message, struct pool_message, message);
	struct shard *shard = pool_shard(m->pool, thread);

	if (shard)
		active_look(shard);
	pool_unref(m->pool);
	free(m);
}

void pool_ask_to_set_apart(struct shard *shard)
{
	struct pool *pool = shard->pool;

	for (uint32_t i = 0; i < atomic_load_explicit(&pool->pools->thread_count, memory_order_relaxed); i++) {
		struct shard *s = atomic_load_explicit(&pool->shards[i], memory_order_acquire);

		if (s && s != shard && atomic_load(&s->active_count) > 0 && atomic_load(&s->waiting_count) == 0)
			(void)!post(pool, i, asked_to_set_apart, NULL, i); /* without memory: it is asked again */
	}
}
