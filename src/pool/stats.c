/*
 * What happened in each pool: summed over its shards when somebody asks. Counters stand in the shards rather than in
 * the threads, for a thread's sum costs nobody who counts.
 */
#include "pool/pool_priv.h"

static uint64_t load(const counter_t *counter)
{
	return atomic_load_explicit((counter_t *)(uintptr_t)counter, memory_order_relaxed);
}

void pool_totals_add(struct pool_totals *sum, const struct pool_totals *part)
{
#define X(name) sum->name += part->name;
	POOL_STATS(X)
#undef X
}

static void add_shard(struct pool_totals *sum, const struct shard *shard)
{
	uint64_t lent, kept;

#define X(name) sum->name += load(&shard->stats.name);
	POOL_STATS(X)
#undef X
	/* counted for the adaptive limit anyway */
	sum->assignments += load(&shard->done) + atomic_load_explicit(&((struct shard *)(uintptr_t)shard)->active_count,
								      memory_order_relaxed);
	sum->lent_us += load(&shard->used); /* the others' are in the sum already */
	lent = load(&shard->used) + load(&shard->stats.lent_us);
	kept = load(&shard->stats.kept_us);
	sum->query_us += lent > kept ? lent - kept : 0;
}

void pool_sum_stats(const struct pool *pool, struct pool_totals *ret)
{
	struct pool *p = (struct pool *)(uintptr_t)pool;

	*ret = (struct pool_totals){0};
	for (uint32_t i = 0; i < atomic_load_explicit(&p->pools->thread_count, memory_order_relaxed); i++) {
		const struct shard *shard = atomic_load_explicit(&p->shards[i], memory_order_acquire);

		if (shard)
			add_shard(ret, shard);
	}
}

/* NULL: out of memory. */
static struct gone_pools *gone_of(struct pools *pools, const char *database)
{
	struct gone_pools *gone = pools->gone_by_database;

	while (gone && strcmp(gone->database, database) != 0)
		gone = gone->next;
	if (gone)
		return gone;
	gone = calloc(1, sizeof(*gone));
	if (!gone || !(gone->database = strdup(database))) {
		free(gone);
		return NULL;
	}
	gone->next = pools->gone_by_database;
	pools->gone_by_database = gone;
	return gone;
}

void pool_bequeath_stats(struct pool *pool)
{
	struct gone_pools *heir;
	struct pool_totals stats;

	pool_sum_stats(pool, &stats);
	pool_totals_add(&pool->pools->gone, &stats);
	heir = pool->database && atomic_load(&pool->proven) ? gone_of(pool->pools, pool->database) : NULL;
	if (heir)
		pool_totals_add(&heir->stats, &stats);
}

void gone_pools_free(struct pools *pools)
{
	struct gone_pools *gone;

	while ((gone = pools->gone_by_database)) {
		pools->gone_by_database = gone->next;
		free(gone->database);
		free(gone);
	}
}

void pools_each_gone(struct pools *pools, void (*each)(const char *database, const struct pool_totals *stats, void *to),
		     void *to)
{
	pthread_mutex_lock(&pools->lock);
	for (const struct gone_pools *gone = pools->gone_by_database; gone; gone = gone->next)
		each(gone->database, &gone->stats, to);
	pthread_mutex_unlock(&pools->lock);
}

void pools_add_counters(struct pools *pools, struct counters *sum)
{
	struct pool_totals all;

	pthread_mutex_lock(&pools->lock);
	all = pools->gone;
	for (const struct pool *p = pools->first; p; p = p->next) {
		struct pool_totals own;

		pool_sum_stats(p, &own);
		pool_totals_add(&all, &own);
	}
	pthread_mutex_unlock(&pools->lock);
	count_add(&sum->queries_total, all.queries);
	count_add(&sum->transactions_total, all.transactions);
	count_add(&sum->bytes_received_total, all.bytes_received);
	count_add(&sum->bytes_sent_total, all.bytes_sent);
}

static void add_links(struct pool_link_totals *sum, struct shard *shard)
{
	sum->active += atomic_load_explicit(&shard->active_count, memory_order_relaxed);
	sum->idle += atomic_load_explicit(&shard->idle_count, memory_order_relaxed) +
		     atomic_load_explicit(&shard->parked_count, memory_order_relaxed);
	sum->opening += atomic_load_explicit(&shard->opening_count, memory_order_relaxed);
}

void pools_sum_links(struct pools *pools, struct pool_link_totals *ret)
{
	*ret = (struct pool_link_totals){0};
	pthread_mutex_lock(&pools->lock);
	for (struct pool *p = pools->first; p; p = p->next) {
		ret->pools++;
		for (uint32_t i = 0; i < atomic_load(&pools->thread_count); i++) {
			struct shard *shard = atomic_load_explicit(&p->shards[i], memory_order_acquire);

			if (shard)
				add_links(ret, shard);
		}
	}
	pthread_mutex_unlock(&pools->lock);
}

void pools_keep_stats(struct pools *pools)
{
	usec_t now = clock_now();

	pthread_mutex_lock(&pools->lock);
	if (now - pools->stats_at[1] >= POOLS_STATS_PERIOD) {
		pools->stats_at[0] = pools->stats_at[1];
		pools->stats_at[1] = now;
		for (struct pool *p = pools->first; p; p = p->next) {
			p->stats_before[0] = p->stats_before[1];
			pool_sum_stats(p, &p->stats_before[1]);
		}
	}
	pthread_mutex_unlock(&pools->lock);
}

usec_t pools_stats_age(struct pools *pools)
{
	usec_t at;

	pthread_mutex_lock(&pools->lock);
	at = pools->stats_at[0];
	pthread_mutex_unlock(&pools->lock);
	return clock_since(at, clock_now());
}
