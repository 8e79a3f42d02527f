/*
 * Draining a node (node_drain()): its links leave. Idle ones are closed, those in use when they come back; after the
 * deadline whoever still has one is told (link_user_ops.expelled). Nothing new is opened (opening.c). Who must choose a
 * node for something new asks node_takes_new().
 *
 * A node that is barred (node_bar()) has no deadline: what a transaction there would commit is lost, or not what the
 * cluster has, so that it must not be confirmed.
 */
#include "pool/pool_priv.h"

static void end_idle_ones(struct shard *shard, struct list *idle)
{
	for (struct list *node = idle->next, *next; node != idle; node = next) {
		struct link *link = list_entry(node, struct link, node);

		next = node->next;
		if (!link_must_leave(link))
			continue;
		shard_end_idle(shard, link);
		if (list_is_empty(&shard->node))
			return; /* unused: the pool may go */
	}
}

static void mark(struct list *links)
{
	list_for_each (node, links) {
		struct link *link = list_entry(node, struct link, node);

		link->close_when_free = link->close_when_free || link_must_leave(link);
	}
}

static bool is_to_be_expelled(const struct link *link, usec_t now)
{
	const struct destination *to = link->server;

	return link_must_leave(link) &&
	       (node_bars(to->node) & NODE_BARRED || now >= atomic_load(&to->node->drain_deadline)) &&
	       link->state == LINK_ACTIVE && !link->held_for_cancel && link->user_ops && link->user_ops->expelled;
}

static struct link *next_to_be_expelled(const struct list *links, usec_t now)
{
	for (const struct list *node = links->next; node != links; node = node->next) {
		struct link *link = list_entry(node, struct link, node);

		if (is_to_be_expelled(link, now))
			return link;
	}
	return NULL;
}

/* Who is told may take any other link out of any list: so it is looked for anew each time. */
static void expel(struct shard *shard, const struct list *links)
{
	uint32_t left = atomic_load(&shard->active_count);
	struct link *link;

	for (; left > 0 && (link = next_to_be_expelled(links, clock_now())); left--) {
		count_add(&shard->thread->counters.links_expelled_total, 1);
		link->user_ops->expelled(link);
	}
}

void shard_drain(struct shard *shard)
{
	if (likely(!node_list_shuns(shard->pool->pools->nodes)))
		return;
	shard_fail_if_drained(shard);
	mark(&shard->opening);
	mark(&shard->busy);
	mark(&shard->apart);
	expel(shard, &shard->busy);
	expel(shard, &shard->apart);
	end_idle_ones(shard, &shard->parked);
	end_idle_ones(shard, &shard->idle);
}

void pool_thread_drain(struct pool_thread *thread)
{
	thread_each_shard(thread, shard_drain);
}
