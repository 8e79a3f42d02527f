/* What links tell of their nodes, to whoever watches (struct pool_watcher). */
#include "pool/pool_priv.h"

static struct node *node_of(const struct link *link)
{
	return ((const struct destination *)link->server)->node;
}

bool watch_opening(struct shard *shard, const struct destination *to, uint32_t *ret_ticket)
{
	const struct pool_watcher *watcher = shard->thread->watcher;

	*ret_ticket = 0;
	return !watcher || watcher->opening(shard->thread, to->node, ret_ticket);
}

void watch_opened(struct shard *shard, struct link *link, const struct link_failure *failure)
{
	const struct pool_watcher *watcher = shard->thread->watcher;
	usec_t took = clock_since(link->born, clock_now());

	if (watcher)
		watcher->opened(shard->thread, node_of(link), link->ticket, failure, took,
				took >= pool_settings(shard->pool)->connect_timeout);
	link->ticket = 0;
}

void watch_given_up(struct shard *shard, struct link *link)
{
	const struct pool_watcher *watcher = shard->thread->watcher;

	if (watcher)
		watcher->given_up(node_of(link), link->ticket);
	link->ticket = 0;
}

void watch_lost(struct shard *shard, struct link *link)
{
	if (link->foretold)
		return; /* it was the server's own decision, and is judged by what it said */
	node_in_doubt(node_of(link));
	if (shard->thread->watcher)
		shard->thread->watcher->lost(shard->thread, node_of(link), link->ticket);
	link->ticket = 0;
}

void pool_saw_error(struct link *link, struct slice sqlstate, bool fatal)
{
	struct shard *shard = link->owner;

	link->foretold = link->foretold || fatal;
	if (likely(!shard->thread->watcher) || link->blamed)
		return;
	link->blamed = shard->thread->watcher->failed(shard->thread, node_of(link), link->ticket, sqlstate);
	if (link->blamed)
		link->ticket = 0;
}

void pool_saw_answer(struct link *link, usec_t took)
{
	struct shard *shard = link->owner;

	if (unlikely(shard->thread->watcher) && !link->blamed)
		shard->thread->watcher->answered(shard->thread, node_of(link), link->ticket, took);
	link->blamed = false;
	link->ticket = 0;
}
