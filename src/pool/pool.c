/* See pool.h. The registry of pools, and what each pool has learned. */
#include "pool/pool_priv.h"

#include "base/log.h"
#include "base/map.h"
#include "cluster/changes.h"

/* ---- the registry ---- */

struct pools *pools_new(const struct config *config, struct node_list *nodes, struct tls_context *server_tls)
{
	struct pools *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	pthread_mutex_init(&p->lock, NULL);
	p->config = config;
	p->nodes = nodes;
	p->server_tls = tls_context_ref(server_tls);
	p->stats_at[0] = p->stats_at[1] = clock_now();
	return p;
}

void pools_join(struct pools *pools, struct pool_thread *thread)
{
	pthread_mutex_lock(&pools->lock);
	thread->pools = pools;
	list_init(&thread->shards);
	active_thread_init(thread);
	pools->threads[thread->index] = thread;
	atomic_store(&pools->thread_count, MAX(atomic_load(&pools->thread_count), thread->index + 1));
	pthread_mutex_unlock(&pools->lock);
}

/* It is in no list any more; the registry's lock is held. */
static void pool_free(struct pool *pool)
{
	struct destination *to;

	while ((to = atomic_load(&pool->destination))) {
		atomic_store(&pool->destination, to->older);
		destination_free(pool->pools, to);
	}
	budget_unref(&pool->pools->database_clients, pool->database_clients);
	budget_unref(&pool->pools->user_clients, pool->user_clients);
	pool_bequeath_stats(pool);
	if (!atomic_load(&pool->proven))
		atomic_fetch_sub(&pool->pools->unproven, 1);
	for (uint32_t i = 0; i < THREADS_MAX; i++) {
		struct shard *shard = atomic_load(&pool->shards[i]);

		if (!shard)
			continue;
		for (uint32_t j = 0; j < ARRAY_SIZE(shard->accepted); j++)
			params_unref(shard->accepted[j]);
		free(shard);
	}
	for (uint32_t i = 0; i < pool->welcome_count; i++) {
		params_unref(pool->welcomes[i].settings);
		params_unref(pool->welcomes[i].reported);
	}
	secret_wipe(&pool->secret);
	free(atomic_load(&pool->settings));
	free(pool->failure);
	free(pool->database);
	free(pool->user);
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}

static uint64_t pool_hash(const char *database, const char *user)
{
	return hash_bytes(database, strlen(database)) * 31 + hash_bytes(user, strlen(user));
}

static struct pool **bucket_of(struct pools *pools, const char *database, const char *user)
{
	return &pools->buckets[pool_hash(database, user) % POOL_BUCKETS];
}

/* A home pool and its twins, which stand behind it. */
static void remove_family(struct pool **at)
{
	struct pool *home = *at, *p = home;

	changes_tell(); /* another one may come to be at the same address */
	do {
		struct pool *next = p->next;

		pool_free(p);
		p = next;
	} while (p && p->home == home);
	*at = p;
}

/* Takes out of the registry, and frees, all pools that nobody refers to and that go() is true for. */
static void remove_pools(struct pools *pools, bool (*go)(const struct pool *pool, usec_t now))
{
	usec_t now = clock_update();
	struct pool **at = &pools->first, *p, **bucket;

	while ((p = *at)) {
		/* shards hang in their threads' lists as long as there is a link, which has a reference */
		if (p->home || atomic_load(&p->references) > 0 || !go(p, now)) {
			at = &p->next;
			continue;
		}
		for (bucket = bucket_of(pools, p->database, p->user); *bucket != p; bucket = &(*bucket)->next_in_bucket)
			;
		*bucket = p->next_in_bucket;
		remove_family(at);
	}
}

static bool is_unproven(const struct pool *pool, usec_t now)
{
	(void)now;
	return !atomic_load(&pool->proven);
}

static bool is_forgotten(const struct pool *pool, usec_t now)
{
	usec_t timeout = pool_settings(pool)->pool_idle_timeout;

	if (!atomic_load(&pool->proven))
		timeout = timeout ? MIN(timeout, POOL_UNPROVEN_TIMEOUT) : POOL_UNPROVEN_TIMEOUT;
	return timeout && now > atomic_load(&pool->unused_since) + timeout;
}

static struct config_pool *settings_for(const struct config *config, const char *database, const char *user)
{
	struct config_pool *settings = calloc(1, sizeof(*settings));

	if (settings)
		config_pool_for(config, database, user, settings);
	return settings;
}

/* In no list yet. home, node: of a twin. The registry's lock is held. */
static int pool_new(struct pools *pools, const char *database, const char *user, struct pool *home, struct node *node,
		    struct pool **ret_pool)
{
	struct destination *to;
	struct pool *p;
	int r = -ENOMEM;

	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	pthread_mutex_init(&p->lock, NULL);
	p->pools = pools;
	p->home = home;
	p->node = node;
	if (!home)
		atomic_fetch_add(&pools->unproven, 1);
	atomic_init(&p->proven, home != NULL); /* one counts for all of its twins */
	atomic_init(&p->gate, gate_find(pools, database));
	p->database = strdup(database);
	p->user = strdup(user);
	p->names = hash_bytes(database, strlen(database)) * 3 + hash_bytes(user, strlen(user));
	atomic_init(&p->settings, settings_for(pools->config, database, user));
	if (!p->database || !p->user || !atomic_load(&p->settings))
		goto out;
	if (!home) {
		p->database_clients = budget_ref(&pools->database_clients, database);
		p->user_clients = budget_ref(&pools->user_clients, user);
		if (!p->database_clients || !p->user_clients)
			goto out;
	}
	r = destination_new(pools, p, NULL, &to);
	if (r < 0)
		goto out;
	atomic_init(&p->destination, to);
	active_follow(p);
	*ret_pool = p;
	return 0;
out:
	pool_free(p);
	return r;
}

static int home_new(struct pools *pools, const char *database, const char *user, struct pool **ret_pool)
{
	struct pool *p;
	int r = pool_new(pools, database, user, NULL, NULL, &p);

	if (r < 0)
		return r;
	p->next = pools->first;
	pools->first = p;
	p->next_in_bucket = *bucket_of(pools, database, user);
	*bucket_of(pools, database, user) = p;
	*ret_pool = p;
	return 0;
}

static struct pool *find_twin(const struct pool *home, const struct node *node)
{
	struct pool *twin = atomic_load_explicit(&((struct pool *)(uintptr_t)home)->twins, memory_order_acquire);

	while (twin && twin->node != node)
		twin = twin->next_twin;
	return twin;
}

struct pool *pool_on(struct pool *home, struct node *node)
{
	struct pool *twin = find_twin(home, node);

	if (likely(twin))
		return twin;
	pthread_mutex_lock(&home->pools->lock);
	twin = find_twin(home, node);
	if (!twin && pool_new(home->pools, home->database, home->user, home, node, &twin) == 0) {
		twin->next = home->next;
		home->next = twin;
		twin->next_twin = atomic_load(&home->twins);
		atomic_store_explicit(&home->twins, twin, memory_order_release);
	}
	pthread_mutex_unlock(&home->pools->lock);
	return twin;
}

bool pool_follows_primary(const struct pool *pool)
{
	return pool_destination(pool)->follows;
}

bool pool_is_held(const struct pool *pool)
{
	return destination_is_barred(pool_destination(pool));
}

struct node *pool_node(const struct pool *pool)
{
	return pool_destination(pool)->node;
}

uint32_t pool_active(const struct pool *pool)
{
	uint32_t active = 0;

	for (uint32_t i = 0; i < atomic_load_explicit(&pool->pools->thread_count, memory_order_relaxed); i++) {
		const struct shard *s =
			atomic_load_explicit(&((struct pool *)(uintptr_t)pool)->shards[i], memory_order_acquire);

		active += s ? atomic_load_explicit(&((struct shard *)(uintptr_t)s)->active_count, memory_order_relaxed)
			    : 0;
	}
	return active;
}

struct node *link_node(const struct link *link)
{
	return ((const struct destination *)link->server)->node;
}

int pool_find(struct pools *pools, const char *database, const char *user, struct pool **ret_pool)
{
	struct pool *p;
	int r = 0;

	pthread_mutex_lock(&pools->lock);
	if (pools->config->database_count > 0 && !config_database_find(pools->config, database)) {
		pthread_mutex_unlock(&pools->lock);
		return -ENOENT;
	}
	for (p = *bucket_of(pools, database, user); p; p = p->next_in_bucket)
		if (strcmp(p->database, database) == 0 && strcmp(p->user, user) == 0)
			break;
	if (!p) {
		if (atomic_load(&pools->unproven) >= POOLS_UNPROVEN_MAX)
			remove_pools(pools, is_unproven);
		r = home_new(pools, database, user, &p);
	}
	if (r == 0) {
		atomic_fetch_add(&p->references, 1);
		*ret_pool = p;
	}
	pthread_mutex_unlock(&pools->lock);
	return r;
}

struct pool *pool_ref(struct pool *pool)
{
	atomic_fetch_add(&pool_family(pool)->references, 1);
	return pool;
}

void pool_unref(struct pool *pool)
{
	if (!pool)
		return;
	/* Stored before the count falls: once it is 0 the sweep may free the pool. */
	atomic_store(&pool_family(pool)->unused_since, clock_now());
	atomic_fetch_sub(&pool_family(pool)->references, 1);
}

void pools_sweep(struct pools *pools)
{
	pthread_mutex_lock(&pools->lock);
	remove_pools(pools, is_forgotten);
	pthread_mutex_unlock(&pools->lock);
}

void pools_free(struct pools *pools)
{
	while (pools->first) {
		struct pool *p = pools->first;

		pools->first = p->next;
		pool_free(p);
	}
	gates_free(pools);
	gone_pools_free(pools);
	tls_context_unref(pools->server_tls);
	pthread_mutex_destroy(&pools->lock);
	free(pools);
}

void pools_reload(struct pools *pools, const struct config *config, struct tls_context *server_tls,
		  struct config_pool ***ret_old)
{
	struct tls_context *old_tls = pools->server_tls;
	struct config_pool **old;
	size_t count = 0;
	uint32_t moved = 0;

	pthread_mutex_lock(&pools->lock);
	for (struct pool *p = pools->first; p; p = p->next)
		count++;
	old = calloc(count + 1, sizeof(*old));
	pools->config = config;
	pools->server_tls = tls_context_ref(server_tls);
	count = 0;
	for (struct pool *p = pools->first; p && old; p = p->next) {
		struct config_pool *fresh = settings_for(config, p->database, p->user);

		if (fresh)
			old[count++] = atomic_exchange(&p->settings, fresh);
		active_follow(p);
		moved += destination_follow(p);
	}
	pthread_mutex_unlock(&pools->lock);
	tls_context_unref(old_tls);
	if (moved)
		log_info("databases lead elsewhere, or log in otherwise: server connections of before are closed as "
			 "they "
			 "become free",
			 kv_uint("pools", moved));
	*ret_old = old;
}

uint32_t pools_follow(struct pools *pools)
{
	uint32_t moved = 0;

	pthread_mutex_lock(&pools->lock);
	for (struct pool *p = pools->first; p; p = p->next)
		if (destination_follow(p))
			moved++;
		else
			pool_kick_waiting(p, NULL); /* what it leads to may have been barred until now */
	pthread_mutex_unlock(&pools->lock);
	return moved;
}

const char *pool_mode_name(enum pool_mode mode)
{
	static const char *const modes[] = {"session", "transaction", "statement"};

	return modes[mode];
}

static void view_shards(const struct pool *p, usec_t now, struct pool_view *v)
{
	for (uint32_t i = 0; i < atomic_load(&p->pools->thread_count); i++) {
		struct shard *shard = atomic_load(&((struct pool *)(uintptr_t)p)->shards[i]);
		uint64_t oldest;

		if (!shard)
			continue;
		v->active += atomic_load(&shard->active_count);
		v->idle += atomic_load(&shard->idle_count) + atomic_load(&shard->parked_count);
		v->waiting += atomic_load(&shard->waiting_count);
		v->connecting += atomic_load(&shard->opening_count);
		v->pinned += atomic_load(&shard->pinned_count);
		v->clients += atomic_load(&shard->clients);
		oldest = atomic_load(&shard->oldest_wait);
		if (oldest != USEC_NEVER && oldest < now)
			v->oldest_wait_us = MAX(v->oldest_wait_us, now - oldest);
	}
}

/* error: where the text goes that last_error points to; of failure_text's size. */
static void view_pool(struct pool *p, usec_t now, struct pool_view *v, char *error)
{
	const struct config_pool *s = pool_settings(p);
	const struct destination *leads = pool_destination(p);
	struct gate *gate = atomic_load(&p->gate);

	*v = (struct pool_view){
		.database = p->database,
		.user = p->user,
		.node = leads->node->name,
		.mode = pool_mode_name(s->mode),
		.settings = s,
		.server_database = leads->database,
		.host = leads->node->host,
		.port = leads->node->port,
		.paused = pool_is_paused(p),
		.disabled = gate && atomic_load(&gate->disabled),
		.links = atomic_load(&p->links),
		.max = s->max_connections,
		.active_limit = MIN(atomic_load(&p->active.limit), s->max_connections),
		.held_long = atomic_load(&p->active.apart),
		.opened = atomic_load(&p->opened),
		.closed = atomic_load(&p->closed),
		.last_error = error,
		.stats_before = p->stats_before[0],
	};
	view_shards(p, now, v);
	pool_sum_stats(p, &v->stats);
	pthread_mutex_lock(&p->lock);
	memcpy(error, p->failure_text, sizeof(p->failure_text));
	pthread_mutex_unlock(&p->lock);
}

void pools_each(struct pools *pools, void (*each)(const struct pool_view *view, void *to), void *to)
{
	usec_t now = clock_update();

	pthread_mutex_lock(&pools->lock);
	for (struct pool *p = pools->first; p; p = p->next) {
		char error[sizeof(p->failure_text)];
		struct pool_view v;

		view_pool(p, now, &v, error);
		each(&v, to);
	}
	pthread_mutex_unlock(&pools->lock);
}

void pool_view_add(struct pool_view *sum, const struct pool_view *v)
{
	sum->links += v->links;
	sum->clients += v->clients;
	sum->active += v->active;
	sum->idle += v->idle;
	sum->waiting += v->waiting;
	sum->connecting += v->connecting;
	sum->pinned += v->pinned;
	sum->held_long += v->held_long;
	sum->opened += v->opened;
	sum->closed += v->closed;
	sum->oldest_wait_us = MAX(sum->oldest_wait_us, v->oldest_wait_us);
	pool_totals_add(&sum->stats, &v->stats);
	pool_totals_add(&sum->stats_before, &v->stats_before);
}

void pools_each_home(struct pools *pools, void (*each)(const struct pool_view *view, void *to), void *to)
{
	usec_t now = clock_update();

	pthread_mutex_lock(&pools->lock);
	for (struct pool *p = pools->first; p; p = p->next) {
		char error[sizeof(p->failure_text)], twins_error[sizeof(p->failure_text)];
		struct pool_view v, twin;

		if (p->home)
			continue;
		view_pool(p, now, &v, error);
		for (struct pool *t = atomic_load(&p->twins); t; t = t->next_twin) {
			view_pool(t, now, &twin, twins_error);
			pool_view_add(&v, &twin);
		}
		each(&v, to);
	}
	pthread_mutex_unlock(&pools->lock);
}

/* ---- what a pool knows ---- */

const struct config_pool *pool_settings(const struct pool *pool)
{
	return atomic_load_explicit(&((struct pool *)(uintptr_t)pool)->settings, memory_order_acquire);
}

const char *pool_database(const struct pool *pool)
{
	return pool->database;
}

const char *pool_user(const struct pool *pool)
{
	return pool->user;
}

uint64_t pool_names(const struct pool *pool)
{
	return pool->names;
}

const char *pool_server_database(const struct pool *pool)
{
	return pool_destination(pool)->database;
}

struct shard *pool_shard(struct pool *pool, struct pool_thread *thread)
{
	struct shard *shard = atomic_load_explicit(&pool->shards[thread->index], memory_order_relaxed);

	if (likely(shard))
		return shard;
	shard = calloc(1, sizeof(*shard));
	if (!shard)
		return NULL;
	shard->pool = pool;
	shard->thread = thread;
	list_init(&shard->node);
	list_init(&shard->idle);
	list_init(&shard->parked);
	list_init(&shard->busy);
	list_init(&shard->apart);
	list_init(&shard->opening);
	list_init(&shard->waiters);
	atomic_init(&shard->oldest_wait, USEC_NEVER);
	atomic_init(&shard->oldest_idle, USEC_NEVER);
	atomic_store(&pool->shards[thread->index], shard);
	return shard;
}

struct pool *shard_pool(const struct shard *shard)
{
	return shard->pool;
}

void pool_offer_secret(struct pool *pool, const struct secret *secret)
{
	bool forced = pool_destination(pool)->forced.kind != SECRET_NONE;
	struct secret copy = {0};

	if (secret_copy(secret, &copy) < 0)
		return;
	pthread_mutex_lock(&pool->lock);
	if (!secret_equal(&pool->secret, &copy)) {
		struct secret old = pool->secret;

		pool->secret = copy;
		secret_remember_keys(&pool->secret);
		copy = old;
		if (!forced)
			pool->retry_at = 0; /* what failed before may be right now */
	}
	pthread_mutex_unlock(&pool->lock);
	secret_wipe(&copy);
}

enum pool_login pool_login(const struct pool *pool)
{
	return (enum pool_login)atomic_load(&((struct pool *)(uintptr_t)pool)->login);
}

void pool_ask_login(struct pool *pool)
{
	atomic_store_explicit(&pool->login_is_asked, true, memory_order_relaxed);
}

void pool_forget_statements(struct pool *pool)
{
	atomic_fetch_add_explicit(&pool_family(pool)->statements_epoch, 1, memory_order_relaxed);
}

void pool_schema_changed(struct pool *pool)
{
	const char *database = pool_server_database(pool);

	pthread_mutex_lock(&pool->pools->lock);
	for (struct pool *p = pool->pools->first; p; p = p->next)
		if (strcmp(pool_server_database(p), database) == 0)
			pool_forget_statements(p);
	pthread_mutex_unlock(&pool->pools->lock);
}

uint32_t pool_statements_epoch(const struct pool *pool)
{
	return atomic_load_explicit(&pool_family(pool)->statements_epoch, memory_order_relaxed);
}

bool pool_welcome_get(struct pool *pool, const struct params *settings, const struct params **ret)
{
	bool found = false;

	pthread_mutex_lock(&pool->lock);
	for (uint32_t i = 0; i < pool->welcome_count && !found; i++)
		if (pool->welcomes[i].settings == settings) {
			*ret = params_ref(pool->welcomes[i].reported);
			found = true;
		}
	pthread_mutex_unlock(&pool->lock);
	return found;
}

void pool_welcome_put(struct pool *pool, const struct params *settings, const struct params *reported)
{
	struct welcome *w = NULL;

	pthread_mutex_lock(&pool->lock);
	for (uint32_t i = 0; i < pool->welcome_count && !w; i++)
		if (pool->welcomes[i].settings == settings)
			w = &pool->welcomes[i];
	if (!w) {
		/* full: any old one makes room; it is asked for again if it comes again */
		w = pool->welcome_count < WELCOMES_MAX ? &pool->welcomes[pool->welcome_count++]
						       : &pool->welcomes[clock_now() % WELCOMES_MAX];
		params_assign(&w->settings, settings);
	}
	params_assign(&w->reported, reported);
	pthread_mutex_unlock(&pool->lock);
}

bool pool_settings_known(struct shard *shard, const struct params *settings)
{
	if (!settings)
		return true;
	for (uint32_t i = 0; i < ARRAY_SIZE(shard->accepted); i++)
		if (shard->accepted[i] == settings)
			return true;
	return false;
}

void pool_settings_accepted(struct shard *shard, const struct params *settings)
{
	if (pool_settings_known(shard, settings))
		return;
	params_assign(&shard->accepted[shard->accepted_next], settings);
	shard->accepted_next = (shard->accepted_next + 1) % ARRAY_SIZE(shard->accepted);
}
