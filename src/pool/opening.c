/*
 * Opening links, and moving them between threads.
 *
 * A login that fails is not repeated for login_retry; meanwhile, when the pool has no link at all, whoever waits gets
 * the server's own error at once. When it has links (the server is only full) they go on waiting for those.
 */
#include "pool/pool_priv.h"

#include "base/log.h"
#include "wire/errors.h"
#include "wire/frame.h"
#include "wire/message.h"

/* Also when login_retry is 0: whoever waits hears of the failure, rather than that it is tried over and over for him. */
#define RETRY_LEAST (20 * USEC_PER_MSEC)

int pool_target(struct pool *pool, struct link_target *ret, struct secret *secret)
{
	struct pools *pools = pool->pools;
	int r;

	*ret = (struct link_target){0};
	r = node_address(pool->node, &ret->address, &ret->address_len);
	if (r < 0)
		return r;
	ret->host = pool->node->host;
	ret->port = pool->node->port;
	ret->user = pool->server_user;
	ret->database = pool->server_database;
	ret->deadline = clock_now() + pool_settings(pool)->connect_timeout;
	ret->secret = pool_copy_secret(pool, secret) ? secret : NULL;
	pthread_mutex_lock(&pools->lock);
	ret->tls = tls_context_ref(pools->server_tls);
	ret->tls_mode = pools->config->server_tls.mode;
	ret->tls_direct = pools->config->server_tls.direct;
	pthread_mutex_unlock(&pools->lock);
	return 0;
}

static int open_one(struct shard *shard, const char *replication, const struct secret *other_secret,
                    struct waiter *dedicated)
{
	struct pool *pool = shard->pool;
	struct link_target target;
	struct secret secret = {0};
	struct link *link;
	int r = pool_target(pool, &target, &secret);

	if (r < 0)
		return r;
	target.replication = replication;
	if (other_secret)
		target.secret = other_secret;
	r = link_open(shard->thread->loop, &target, &shard_link_events, shard, &link);
	tls_context_unref(target.tls);
	secret_wipe(&secret);
	if (r < 0)
		return r;
	link->user = dedicated;
	if (list_is_empty(&shard->node))
		list_push_back(&shard->thread->shards, &shard->node);
	list_push_back(&shard->opening, &link->node);
	atomic_fetch_add(&shard->opening_count, 1);
	pool_ref(pool);
	atomic_fetch_add_explicit(&pool->opened, 1, memory_order_relaxed);
	count_add(&shard->thread->counters.links_opened_total, 1);
	return 0;
}

/* ---- failures ---- */

static void remember_failure(struct pool *pool, const struct link_failure *failure)
{
	uint8_t *copy = malloc(failure->error_len);
	struct error_fields fields = {0};

	if (!copy)
		return;
	memcpy(copy, failure->error, failure->error_len);
	message_read_error(copy + FRAME_HEADER, failure->error_len - FRAME_HEADER, &fields);
	pthread_mutex_lock(&pool->lock);
	free(pool->failure);
	pool->failure = copy;
	pool->failure_len = failure->error_len;
	pool->failure_head = *failure;
	pool->retry_at = clock_now() + MAX(pool_settings(pool)->login_retry, RETRY_LEAST);
	snprintf(pool->failure_text, sizeof(pool->failure_text), "%.*s", (int)MIN(fields.message.len, 180u),
	         (const char *)fields.message.bytes);
	pthread_mutex_unlock(&pool->lock);
}

static bool must_hold_back(struct pool *pool)
{
	bool hold;

	pthread_mutex_lock(&pool->lock);
	hold = pool->retry_at && clock_now() < pool->retry_at;
	pthread_mutex_unlock(&pool->lock);
	return hold;
}

static void forget_failure(struct pool *pool)
{
	pthread_mutex_lock(&pool->lock);
	pool->retry_at = 0;
	pool->failure_text[0] = 0;
	pthread_mutex_unlock(&pool->lock);
}

/* The last failure to all who wait in this shard. */
static void fail_with_last(struct shard *shard)
{
	struct pool *pool = shard->pool;
	struct link_failure failure;
	uint8_t *copy;

	pthread_mutex_lock(&pool->lock);
	failure = pool->failure_head;
	copy = malloc(pool->failure_len + 1);
	if (copy && pool->failure)
		memcpy(copy, pool->failure, pool->failure_len);
	failure.error = copy;
	failure.error_len = copy ? pool->failure_len : 0;
	pthread_mutex_unlock(&pool->lock);
	shard_fail_waiters(shard, &failure);
	free(copy);
}

/* Links that are logged in or on the way to it, in all threads. */
static bool pool_has_links(struct pool *pool)
{
	return atomic_load(&pool->links) > 0;
}

static void no_address(struct shard *shard)
{
	struct buf out = BUF_INIT(1024);
	struct link_failure failure = {.sqlstate = "08001", .what = "resolve"};

	pthread_mutex_lock(&shard->pool->node->lock);
	error_message(&out, ERROR_SERVER_CONNECT_FAILED, shard->pool->node->resolve_error);
	pthread_mutex_unlock(&shard->pool->node->lock);
	failure.error = out.bytes;
	failure.error_len = out.len;
	remember_failure(shard->pool, &failure);
	shard_fail_waiters(shard, &failure);
	buf_free(&out);
}

static void fail_for_the_end(struct shard *shard)
{
	struct buf out = BUF_INIT(1024);
	struct link_failure failure = {.sqlstate = "57P01", .what = "shutdown"};

	error_message(&out, ERROR_SHUTTING_DOWN, NULL);
	failure.error = out.bytes;
	failure.error_len = out.failed ? 0 : out.len;
	shard_fail_waiters(shard, &failure);
	buf_free(&out);
}

/* ---- opening ---- */

void shard_open_links(struct shard *shard)
{
	struct pool *pool = shard->pool;
	const struct config_pool *s = pool_settings(pool);
	struct list *first = list_first(&shard->waiters);
	bool reserve = s->reserve_connections && first &&
	               clock_now() - list_entry(first, struct waiter, node)->since >= s->reserve_timeout;
	int r = 0;

	if (unlikely(shard->thread->ending)) {
		fail_for_the_end(shard);
		return;
	}
	if (must_hold_back(pool)) {
		if (first && !pool_has_links(pool))
			fail_with_last(shard);
		return;
	}
	for (;;) {
		uint32_t opening = atomic_load_explicit(&shard->opening_count, memory_order_relaxed);
		bool for_waiter = opening < atomic_load_explicit(&shard->waiting_count, memory_order_relaxed);
		bool for_minimum = atomic_load(&pool->links) < s->min_connections;

		if ((!for_waiter && !for_minimum) || !budget_take(pool, reserve))
			return;
		r = open_one(shard, NULL, NULL, NULL);
		if (r < 0) {
			budget_give(pool);
			break;
		}
	}
	if (r == -EHOSTUNREACH) {
		if (!pool_has_links(pool))
			no_address(shard);
		return;
	}
	log_warn("cannot open a server connection", kv_str("database", pool->database), kv_str("user", pool->user),
	         kv_str("reason", strerror(-r)));
}

static int open_dedicated(struct shard *shard, const char *replication, const struct secret *secret,
                          struct waiter *waiter)
{
	int r;

	if (!budget_take(shard->pool, /* use_reserve= */ false))
		return -EAGAIN;
	waiter->shard = shard;
	waiter->since = clock_now();
	r = open_one(shard, replication, secret, waiter);
	if (r < 0)
		budget_give(shard->pool);
	return r;
}

int pool_open_replication(struct shard *shard, const char *replication, struct waiter *waiter)
{
	return open_dedicated(shard, replication, NULL, waiter);
}

int pool_try_secret(struct shard *shard, const struct secret *secret, struct waiter *waiter)
{
	return open_dedicated(shard, NULL, secret, waiter);
}

void pool_forget_dedicated(struct shard *shard, struct waiter *waiter)
{
	list_for_each(node, &shard->opening) {
		struct link *link = list_entry(node, struct link, node);

		if (link->user == waiter) {
			link->user = NULL;
			link->close_when_free = true;
		}
	}
}

void shard_close_opening(struct shard *shard)
{
	struct list *node;

	while ((node = list_first(&shard->opening))) {
		struct link *link = list_entry(node, struct link, node);

		atomic_fetch_sub(&shard->opening_count, 1);
		link->user = NULL; /* whoever it was for is told by its own end */
		link_close(link);
		shard_end_link(shard, link);
	}
}

static usec_t expiry(const struct config_pool *s)
{
	usec_t now = clock_now();

	/* less up to a tenth, so that links opened together don't all end together */
	return s->max_lifetime ? now + s->max_lifetime - s->max_lifetime / 1000 * (usec_t)(random() % 100) : USEC_NEVER;
}

static void link_logged_in(struct link *link)
{
	struct shard *shard = link->owner;
	struct pool *pool = shard->pool;
	struct waiter *dedicated = link->user;

	list_remove(&link->node);
	atomic_fetch_sub(&shard->opening_count, 1);
	link->expires = expiry(pool_settings(pool));
	link->user = NULL;
	atomic_store(&pool->node->last_used_wall, clock_wall());
	forget_failure(pool);
	atomic_store(&pool->login, link->used_password ? POOL_LOGIN_NEEDS_PASSWORD : POOL_LOGIN_TRUSTED);
	log_debug("server connection opened", kv_uint("link", link->id), kv_str("database", pool->database),
	          kv_str("user", pool->user), kv_str("node", pool->node->name), kv_int("server_pid", link->backend_pid));
	if (dedicated) {
		list_push_front(&shard->busy, &link->node);
		atomic_fetch_add(&shard->active_count, 1);
		dedicated->ops->granted(dedicated, link);
	} else if (link->close_when_free) {
		link_close(link);
		shard_end_link(shard, link);
	} else {
		shard_offer(shard, link);
	}
}

static void link_login_failed(struct link *link, const struct link_failure *failure)
{
	static _Thread_local struct log_limit limit;
	struct shard *shard = link->owner;
	struct pool *pool = pool_ref(shard->pool);
	struct waiter *dedicated = link->user;
	struct error_fields fields = {0};
	uint32_t suppressed = 0;

	list_remove(&link->node);
	atomic_fetch_sub(&shard->opening_count, 1);
	atomic_fetch_add(&pool->node->failures, 1);
	atomic_store(&pool->node->last_failed_wall, clock_wall());
	count_add(&shard->thread->counters.link_login_failures_total, 1);
	message_read_error(failure->error + FRAME_HEADER, failure->error_len - FRAME_HEADER, &fields);
	if (failure->wants_password && !dedicated)
		atomic_store(&pool->login, POOL_LOGIN_NEEDS_PASSWORD);
	if (log_limit_pass(&limit, 10, USEC_PER_SEC, &suppressed))
		log_warn("cannot log in to a server", kv_str("step", failure->what), kv_str("node", pool->node->name),
		         kv_str("database", pool->database), kv_str("user", pool->user), kv_slice("sqlstate", fields.sqlstate),
		         kv_slice("message", fields.message), kv_slice("detail", fields.detail),
		         kv_uint("not_logged", suppressed));
	if (dedicated) {
		shard_end_link(shard, link);
		dedicated->ops->failed(dedicated, failure);
	} else {
		remember_failure(pool, failure);
		shard_end_link(shard, link); /* serves waiters anew: they meet the failure there, or wait for other links */
		if (!list_is_empty(&shard->waiters) && !pool_has_links(pool))
			shard_fail_waiters(shard, failure);
	}
	pool_unref(pool);
}

static void link_lost(struct link *link, int error)
{
	struct shard *shard = link->owner;

	count_add(&shard->thread->counters.links_lost_total, 1);
	log_debug("idle server connection lost", kv_uint("link", link->id), kv_str("database", shard->pool->database),
	          kv_str("reason", error ? strerror(-error) : "closed by the server"));
	/* idle, or held until a cancel is over */
	if (link->held_for_cancel)
		atomic_fetch_sub(&shard->active_count, 1);
	else
		atomic_fetch_sub(&shard->idle_count, 1);
	link_close(link);
	shard_end_link(shard, link);
}

const struct link_events shard_link_events = {
	.logged_in = link_logged_in,
	.failed = link_login_failed,
	.lost = link_lost,
};

/* ---- between threads ---- */

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
	}
	pool_unref(m->pool);
	free(m);
}

bool shard_move_link(struct shard *from, struct link *link, uint32_t to_thread)
{
	if (conn_detach(&link->conn) < 0)
		return false;
	if (post(from->pool, to_thread, link_arrives, link, from->thread->index) == 0)
		return true;
	if (conn_attach(&link->conn, from->thread->loop) < 0)
		link->close_when_free = true; /* closed by the next tick */
	return false;
}

static void asked_for_idle(struct loop_message *message, void *thread)
{
	struct pool_message *m = container_of(message, struct pool_message, message);
	struct shard *shard = pool_shard(m->pool, thread);
	struct shard *asker = atomic_load(&m->pool->shards[m->from]);

	if (shard && asker && atomic_load(&asker->waiting_count) > 0 && list_is_empty(&shard->waiters) &&
	    !list_is_empty(&shard->idle)) {
		struct link *link = list_entry(list_first(&shard->idle), struct link, node);

		list_remove(&link->node);
		atomic_fetch_sub(&shard->idle_count, 1);
		if (!shard_move_link(shard, link, m->from)) {
			list_push_front(&shard->idle, &link->node);
			atomic_fetch_add(&shard->idle_count, 1);
		}
	}
	pool_unref(m->pool);
	free(m);
}

void pool_ask_for_idle(struct shard *shard)
{
	struct pool *pool = shard->pool;

	for (uint32_t i = 0; i < atomic_load_explicit(&pool->pools->thread_count, memory_order_relaxed); i++) {
		struct shard *s = atomic_load_explicit(&pool->shards[i], memory_order_acquire);

		if (s && s != shard && atomic_load(&s->idle_count) > 0) {
			(void)!post(pool, i, asked_for_idle, NULL, shard->thread->index); /* without memory: the tick serves */
			return;
		}
	}
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

void pool_kick_waiting(struct pool *pool, const struct shard *but)
{
	for (uint32_t i = 0; i < atomic_load_explicit(&pool->pools->thread_count, memory_order_relaxed); i++) {
		struct shard *s = atomic_load_explicit(&pool->shards[i], memory_order_acquire);

		if (s && s != but && atomic_load(&s->waiting_count) > 0)
			(void)!post(pool, i, kicked, NULL, i);
	}
}
