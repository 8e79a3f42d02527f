/*
 * Limits over pools. A link counts in its pool, its database, its user and its node; all counts are atomics, and are
 * touched only when a link is opened or closed. A client counts in its database and its user, as it calls them.
 *
 * Room that idle links of other pools take: who finds none says so (wanted_since), looks once more, and asks the thread
 * with the oldest idle link to close it. Why nobody is forgotten: wanted_since is stored before the counts and the idle
 * links are looked at again; a thread that gives room back, or puts a link among its idle ones, does so before it looks
 * at wanted_since. All of it is sequentially consistent, so at least one of the two sees the other.
 */
#include "pool/pool_priv.h"

struct limit {
	_Atomic uint32_t *used;
	_Atomic uint64_t *wanted_since;
	uint32_t max; /* 0: none */
};

enum { LIMIT_DATABASE, LIMIT_USER, LIMIT_NODE, LIMITS };

static void limits_of(const struct pool *pool, const struct destination *to, struct limit limits[LIMITS])
{
	const struct config_pool *s = pool_settings(pool);
	struct budget *d = to->database_budget, *u = to->user_budget;
	struct node *node = to->node;

	limits[LIMIT_DATABASE] = (struct limit){&d->used, &d->wanted_since, s->max_database_connections};
	limits[LIMIT_USER] = (struct limit){&u->used, &u->wanted_since, s->max_user_connections};
	limits[LIMIT_NODE] = (struct limit){&node->links, &node->links_wanted_since, s->max_node_connections};
}

static bool take_one(_Atomic uint32_t *used, uint32_t limit)
{
	uint32_t n = atomic_load(used);

	do {
		if (limit && n >= limit)
			return false;
	} while (!atomic_compare_exchange_weak(used, &n, n + 1));
	return true;
}

enum client_admission pool_admit_client(struct shard *shard)
{
	struct pool *pool = shard->pool;
	const struct config_pool *s = pool_settings(pool);

	if (!take_one(&pool->database_clients->used, s->max_database_clients))
		return CLIENT_TOO_MANY_OF_DATABASE;
	if (!take_one(&pool->user_clients->used, s->max_user_clients)) {
		atomic_fetch_sub(&pool->database_clients->used, 1);
		return CLIENT_TOO_MANY_OF_USER;
	}
	atomic_fetch_add_explicit(&shard->clients, 1, memory_order_relaxed);
	return CLIENT_ADMITTED;
}

void pool_client_left(struct shard *shard)
{
	atomic_fetch_sub_explicit(&shard->clients, 1, memory_order_relaxed);
	atomic_fetch_sub(&shard->pool->user_clients->used, 1);
	atomic_fetch_sub(&shard->pool->database_clients->used, 1);
}

bool budget_take(struct pool *pool, const struct destination *to, bool use_reserve)
{
	const struct config_pool *s = pool_settings(pool);
	struct limit limits[LIMITS];
	int i;

	if (!take_one(&pool->links, s->max_connections + (use_reserve ? s->reserve_connections : 0)))
		return false;
	limits_of(pool, to, limits);
	for (i = 0; i < LIMITS && take_one(limits[i].used, limits[i].max); i++)
		;
	if (i == LIMITS)
		return true;
	while (--i >= 0)
		atomic_fetch_sub(limits[i].used, 1);
	atomic_fetch_sub(&pool->links, 1);
	return false;
}

static bool shares(const struct destination *a, const struct pool *pool, const bool by[LIMITS])
{
	const struct destination *b = pool_destination(pool);

	return (by[LIMIT_DATABASE] && a->database_budget == b->database_budget) ||
	       (by[LIMIT_USER] && a->user_budget == b->user_budget) || (by[LIMIT_NODE] && a->node == b->node);
}

static void want(_Atomic uint64_t *wanted_since, usec_t since)
{
	uint64_t old = atomic_load(wanted_since);

	while ((old == 0 || since < old) && !atomic_compare_exchange_weak(wanted_since, &old, since))
		;
}

static void wake_others(struct pool *pool, const struct destination *to, const bool by[LIMITS])
{
	pthread_mutex_lock(&pool->pools->lock);
	for (struct pool *p = pool->pools->first; p; p = p->next)
		if (p != pool && atomic_load(&p->waiting) > 0 && shares(to, p, by))
			pool_kick_waiting(p, NULL);
	pthread_mutex_unlock(&pool->pools->lock);
}

bool budget_give(struct pool *pool, const struct destination *to, usec_t own_since)
{
	struct limit limits[LIMITS];
	bool wanted[LIMITS], any = false, older = false;

	limits_of(pool, to, limits);
	for (int i = 0; i < LIMITS; i++)
		atomic_fetch_sub(limits[i].used, 1);
	atomic_fetch_sub(&pool->links, 1);
	for (int i = 0; i < LIMITS; i++) {
		uint64_t since = atomic_load(limits[i].wanted_since) ? atomic_exchange(limits[i].wanted_since, 0) : 0;

		wanted[i] = since != 0;
		any |= wanted[i];
		older |= wanted[i] && since < own_since;
	}
	if (likely(!any))
		return false;
	for (int i = 0; i < LIMITS && older && own_since != USEC_NEVER; i++)
		if (wanted[i])
			want(limits[i].wanted_since, own_since); /* next in line */
	wake_others(pool, to, wanted);
	return older;
}

/* ---- room that others have ---- */

/* The oldest of the idle links that take what is short is closed, by its thread. */
static void evict_for(struct pool *pool, const struct destination *to, const bool short_of[LIMITS])
{
	struct pools *pools = pool->pools;
	struct pool *from = NULL;
	uint64_t oldest = USEC_NEVER;
	uint32_t thread = 0;

	pthread_mutex_lock(&pools->lock);
	for (struct pool *p = pools->first; p; p = p->next) {
		if (p == pool || atomic_load_explicit(&p->links, memory_order_relaxed) == 0 || !shares(to, p, short_of))
			continue;
		for (uint32_t i = 0; i < atomic_load(&pools->thread_count); i++) {
			struct shard *s = atomic_load(&p->shards[i]);
			uint64_t at = s ? atomic_load(&s->oldest_idle) : USEC_NEVER;

			if (at < oldest) {
				oldest = at;
				from = p;
				thread = i;
			}
		}
	}
	if (from)
		pool_ask_to_evict(from, thread);
	pthread_mutex_unlock(&pools->lock);
}

bool budget_want(struct pool *pool, const struct destination *to, usec_t since)
{
	struct limit limits[LIMITS];
	bool short_of[LIMITS], any = false;

	limits_of(pool, to, limits);
	for (int i = 0; i < LIMITS; i++) {
		uint32_t used = atomic_load(limits[i].used);

		/* what this pool has itself, its waiters get when it is free */
		short_of[i] = limits[i].max && used >= limits[i].max && used > atomic_load(&pool->links);
		if (short_of[i])
			want(limits[i].wanted_since, since);
		any |= short_of[i];
	}
	if (any)
		evict_for(pool, to, short_of);
	return any;
}

void budget_want_end(struct pool *pool, usec_t since, usec_t next)
{
	struct limit limits[LIMITS];

	limits_of(pool, pool_destination(pool), limits);
	for (int i = 0; i < LIMITS; i++) {
		uint64_t expected = since;

		if (atomic_load(limits[i].wanted_since) == since)
			atomic_compare_exchange_strong(limits[i].wanted_since, &expected, next);
	}
}

/* 0, "nobody", becomes USEC_NEVER. */
static usec_t since_or_never(uint64_t at)
{
	return at ? at : USEC_NEVER;
}

/* On the way of every query: without limits_of(). */
usec_t budget_wanted_since(const struct destination *to)
{
	uint64_t d = atomic_load(&to->database_budget->wanted_since), u = atomic_load(&to->user_budget->wanted_since),
		 n = atomic_load(&to->node->links_wanted_since);

	if (likely((d | u | n) == 0))
		return USEC_NEVER;
	return MIN(since_or_never(d), MIN(since_or_never(u), since_or_never(n)));
}

/* ---- budgets by name ---- */

struct budget *budget_ref(struct budget **list, const char *name)
{
	struct budget *b;

	for (b = *list; b; b = b->next)
		if (strcmp(b->name, name) == 0) {
			b->references++;
			return b;
		}
	b = calloc(1, sizeof(*b));
	if (!b || !(b->name = strdup(name))) {
		free(b);
		return NULL;
	}
	b->references = 1;
	b->next = *list;
	*list = b;
	return b;
}

void budget_unref(struct budget **list, struct budget *budget)
{
	if (!budget || --budget->references > 0)
		return;
	while (*list != budget)
		list = &(*list)->next;
	*list = budget->next;
	free(budget->name);
	free(budget);
}
