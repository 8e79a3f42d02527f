/*
 * Opening links. No more are opened than there are waiters that no link on the way could serve: idle ones of any
 * thread, those that change threads, and those being opened count, for all of them go to whoever has waited longest.
 *
 * A login that fails is not repeated for login_retry; meanwhile, when the pool has no link at all, whoever waits gets
 * the server's own error at once. When it has links (the server is only full) they go on waiting for those.
 */
#include "pool/pool_priv.h"

#include "base/log.h"
#include "wire/errors.h"
#include "wire/frame.h"
#include "wire/message.h"

/* Also when login_retry is 0: whoever waits hears of the failure, rather than that it is tried over and over for him.
 */
#define RETRY_LEAST (100 * USEC_PER_MSEC)

_Static_assert(NODE_ADDRESSES_MAX <= LINK_ADDRESSES_MAX, "a link tries all addresses of a node");

static bool copy_secret(struct pool *pool, const struct destination *to, struct secret *ret)
{
	struct pool *family = pool_family(pool);
	const struct secret *from = to->forced.kind != SECRET_NONE ? &to->forced : &family->secret;
	bool have;

	*ret = (struct secret){0};
	pthread_mutex_lock(&family->lock);
	have = from->kind != SECRET_NONE && secret_copy(from, ret) == 0;
	pthread_mutex_unlock(&family->lock);
	return have;
}

bool pool_copy_secret(struct pool *pool, struct secret *ret)
{
	return copy_secret(pool, pool_destination(pool), ret);
}

int pool_target(struct pool *pool, const struct destination *to, struct link_target *ret, struct secret *secret)
{
	struct pools *pools = pool->pools;
	const struct config_database *d;

	*ret = (struct link_target){0};
	ret->address_count = node_addresses(to->node, ret->addresses, ret->address_lens);
	if (ret->address_count == 0)
		return -EHOSTUNREACH;
	ret->host = to->node->host;
	ret->port = to->node->port;
	ret->user = to->user;
	ret->database = to->database;
	ret->poses = pool->home != NULL;
	ret->deadline = clock_now() + pool_settings(pool)->connect_timeout;
	ret->secret = copy_secret(pool, to, secret) ? secret : NULL;
	pthread_mutex_lock(&pools->lock);
	d = config_database_find(pools->config, pool->database);
	ret->connect_query = d ? d->connect_query : NULL; /* the configuration stays for this turn */
	ret->tls = tls_context_ref(pools->server_tls);
	ret->tls_mode = pools->config->server_tls.mode;
	ret->tls_direct = pools->config->server_tls.direct;
	ret->keepalive = pools->config->proxy.tcp_keepalive;
	ret->user_timeout = pools->config->proxy.tcp_user_timeout;
	pthread_mutex_unlock(&pools->lock);
	return 0;
}

static int open_one(struct shard *shard, struct destination *to, const char *replication,
		    const struct secret *other_secret, struct waiter *dedicated)
{
	struct pool *pool = shard->pool;
	struct link_target target;
	struct secret secret = {0};
	struct link *link;
	uint32_t ticket;
	int r = node_takes_new(to->node) && !destination_is_barred(to) ? pool_target(pool, to, &target, &secret)
								       : -EHOSTDOWN;

	if (r == 0 && pool_is_paused(pool)) {
		tls_context_unref(target.tls);
		secret_wipe(&secret);
		r = -EAGAIN;
	}

	if (r < 0)
		return r;
	target.replication = replication;
	if (other_secret)
		target.secret = other_secret;
	r = watch_opening(shard, to, &ticket)
		    ? link_open(shard->thread->loop, &target, &shard_link_events, shard, &link)
		    : -EBUSY;
	tls_context_unref(target.tls);
	secret_wipe(&secret);
	if (r < 0 && ticket)
		shard->thread->watcher->given_up(to->node, ticket);
	if (r < 0)
		return r;
	link->ticket = ticket;
	link->user = dedicated;
	link->apart = dedicated != NULL;
	link->server = to;
	atomic_fetch_add(&to->links, 1);
	if (dedicated)
		active_set_apart(shard, link);
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
	pool->failure_head.tried = NULL; /* of the link */
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

/* Its circuit breaker is open. Nothing is remembered: it may be closed the next time. */
static void circuit_open(struct shard *shard, const struct node *node)
{
	struct buf out = BUF_INIT(1024);
	struct link_failure failure = {.sqlstate = "08006", .what = "circuit breaker"};

	error_message(&out, ERROR_CIRCUIT_OPEN, NULL, node->name);
	failure.error = out.bytes;
	failure.error_len = out.failed ? 0 : out.len;
	shard_fail_waiters(shard, &failure);
	buf_free(&out);
}

/* Its name has no address, or it is not to be used. */
static void no_node(struct shard *shard, struct node *node, bool enabled)
{
	struct buf out = BUF_INIT(1024);
	struct link_failure failure = {.sqlstate = "08001", .what = "resolve"};

	if (enabled) {
		pthread_mutex_lock(&node->lock);
		error_message(&out, ERROR_SERVER_CONNECT_FAILED, node->resolve_error);
		pthread_mutex_unlock(&node->lock);
	} else {
		error_message(&out, ERROR_NO_NODE, NULL);
	}
	failure.error = out.bytes;
	failure.error_len = out.len;
	if (enabled && !atomic_load(&node->draining)) /* else that may be over at any time */
		remember_failure(shard->pool, &failure);
	shard_fail_waiters(shard, &failure);
	buf_free(&out);
}

void shard_fail_if_drained(struct shard *shard)
{
	struct node *node = pool_destination(shard->pool)->node;

	if (atomic_load(&node->draining) && !list_is_empty(&shard->waiters))
		no_node(shard, node, /* enabled= */ false);
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

uint32_t pool_idle_anywhere(const struct pool *pool)
{
	uint32_t count = atomic_load(&pool->in_hand);

	for (uint32_t i = 0; i < atomic_load_explicit(&pool->pools->thread_count, memory_order_relaxed); i++) {
		const struct shard *s = atomic_load_explicit(&pool->shards[i], memory_order_acquire);

		count += s ? atomic_load(&s->idle_count) : 0;
	}
	return count;
}

/* Is one more link needed? Then it counts as being opened from now on. */
static bool opening_begin(struct pool *pool, bool for_waiter)
{
	uint32_t n = atomic_load(&pool->opening);

	do {
		bool needed = for_waiter && n + pool_idle_anywhere(pool) < atomic_load(&pool->waiting);

		if (!needed && atomic_load(&pool->links) >= pool_minimum(pool))
			return false;
	} while (!atomic_compare_exchange_weak(&pool->opening, &n, n + 1));
	return true;
}

static void opening_end(struct shard *shard, struct link *link)
{
	list_remove(&link->node);
	atomic_fetch_sub(&shard->opening_count, 1);
	if (!link->apart)
		atomic_fetch_sub(&shard->pool->opening, 1);
}

/* -EAGAIN: a limit. */
static int open_within_limits(struct shard *shard, struct destination *to, usec_t waits_since, bool reserve)
{
	struct pool *pool = shard->pool;
	int r = -EAGAIN;

	/* what keeps min_connections, or is of the reserve, does not ask for the adaptive limit: it is parked */
	if (reserve || atomic_load(&pool->links) < pool_minimum(pool))
		active_join_anyway(pool);
	else if (!active_join(pool))
		return r;
	if (budget_take(pool, to, reserve) ||
	    (waits_since && budget_want(pool, to, waits_since) && budget_take(pool, to, reserve))) {
		r = open_one(shard, to, NULL, NULL, NULL);
		if (r < 0)
			budget_give(pool, to, USEC_NEVER);
	}
	if (r < 0)
		active_leave(pool, NULL);
	return r;
}

void shard_open_links(struct shard *shard)
{
	struct pool *pool = shard->pool;
	const struct config_pool *s = pool_settings(pool);
	struct destination *to = pool_destination(pool);
	struct list *first = list_first(&shard->waiters);
	usec_t since = first ? list_entry(first, struct waiter, node)->since : 0;
	bool reserve = s->reserve_connections && first && clock_now() - since >= s->reserve_timeout;
	uint32_t waiting = atomic_load_explicit(&shard->waiting_count, memory_order_relaxed);
	int r;

	if (unlikely(shard->thread->ending)) {
		fail_for_the_end(shard);
		return;
	}
	if (atomic_load(&pool->active.parked) > 0 && !reserve && atomic_load(&pool->links) >= pool_minimum(pool))
		return; /* there are links enough, in this thread or in another one that was asked for them */
	if (destination_is_barred(to) || unlikely(pool_is_paused(pool)))
		return; /* until it may be used again, or they lead elsewhere */
	if (must_hold_back(pool)) {
		if (first && !pool_has_links(pool))
			fail_with_last(shard);
		return;
	}
	for (uint32_t begun = 0;; begun++) {
		if (!opening_begin(pool, begun < waiting))
			return;
		r = open_within_limits(shard, to, since, reserve);
		if (r < 0)
			break;
	}
	atomic_fetch_sub(&pool->opening, 1);
	if (r == -EAGAIN)
		return;
	if (r == -EHOSTUNREACH || r == -EHOSTDOWN || r == -EBUSY) {
		if (pool_has_links(pool) && !atomic_load(&to->node->draining)) /* those in use will be free */
			return;
		if (r == -EBUSY)
			circuit_open(shard, to->node);
		else
			no_node(shard, to->node, r == -EHOSTUNREACH);
		return;
	}
	log_warn("cannot open a server connection", kv_str("database", pool->database), kv_str("user", pool->user),
		 kv_str("reason", strerror(-r)));
}

void pool_open_one(struct shard *shard)
{
	struct pool *pool = shard->pool;
	uint32_t none = 0;

	if (atomic_load(&pool->links) >= pool_settings(pool)->max_connections || !active_has_room(pool) ||
	    atomic_load(&pool->opening) > 0 || pool_idle_anywhere(pool) > 0)
		return;
	if (shard->thread->ending || must_hold_back(pool) || !atomic_compare_exchange_strong(&pool->opening, &none, 1))
		return;
	if (open_within_limits(shard, pool_destination(pool), /* waits_since= */ 0, /* reserve= */ false) < 0)
		atomic_fetch_sub(&pool->opening, 1);
}

static int open_dedicated(struct shard *shard, const char *replication, const struct secret *secret,
			  struct waiter *waiter)
{
	struct pool *pool = shard->pool;
	struct destination *to = pool_destination(pool);
	int r;

	if (!budget_take(pool, to, /* use_reserve= */ false)) {
		shard_close_oldest_idle(shard); /* the least that can be done for it */
		if (!budget_take(pool, to, /* use_reserve= */ false))
			return -EAGAIN;
	}
	waiter->shard = shard;
	waiter->since = clock_now();
	r = open_one(shard, to, replication, secret, waiter);
	if (r < 0)
		budget_give(pool, to, USEC_NEVER);
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
	list_for_each (node, &shard->opening) {
		struct link *link = list_entry(node, struct link, node);

		if (link->user == waiter) {
			link->user = NULL;
			link->close_when_free = true;
		}
	}
}

static void stop_opening(struct shard *shard, struct link *link)
{
	opening_end(shard, link);
	link->user = NULL; /* whoever it was for is told by its own end */
	link_close(link);
	shard_end_link(shard, link);
}

void shard_close_opening(struct shard *shard)
{
	struct list *node;

	while ((node = list_first(&shard->opening)))
		stop_opening(shard, list_entry(node, struct link, node));
}

static void close_misplaced_ones(struct shard *shard, struct list *idle)
{
	for (struct list *node = idle->next, *next; node != idle; node = next) {
		struct link *link = list_entry(node, struct link, node);

		next = node->next;
		if (!shard_link_is_misplaced(shard, link))
			continue;
		shard_end_idle(shard, link);
		if (list_is_empty(&shard->node))
			return; /* unused: the pool may go */
	}
}

void shard_close_misplaced(struct shard *shard)
{
	close_misplaced_ones(shard, &shard->parked);
	close_misplaced_ones(shard, &shard->idle);
}

void shard_leave_old_destination(struct shard *shard)
{
	struct list todo, *node;

	list_init(&todo);
	while ((node = list_first(&shard->opening))) { /* ending one may begin another */
		list_remove(node);
		list_push_back(&todo, node);
	}
	while ((node = list_first(&todo))) {
		struct link *link = list_entry(node, struct link, node);

		list_remove(node);
		list_push_back(&shard->opening, node);
		if (!link->apart && shard_link_is_misplaced(shard, link))
			stop_opening(shard, link);
	}
	shard_serve(shard);
}

static usec_t expiry(const struct config_pool *s)
{
	usec_t now = clock_now();

	/* less up to a tenth, so that links opened together don't all end together */
	return s->max_lifetime ? now + s->max_lifetime - s->max_lifetime / 1000 * (usec_t)(random() % 100) : USEC_NEVER;
}

/* The next link to the node tries this one first. */
static void remember_address(struct node *node, const struct link *link)
{
	struct sockaddr_storage address;
	socklen_t len = sizeof(address);

	if (getpeername(link->conn.fd, (struct sockaddr *)&address, &len) == 0)
		node_address_worked(node, &address, len);
}

static void link_logged_in(struct link *link)
{
	struct shard *shard = link->owner;
	struct pool *pool = shard->pool;
	struct node *node = ((struct destination *)link->server)->node;
	struct waiter *dedicated = link->user;

	if (!link->apart)
		shard_take_in_hand(shard, link);
	opening_end(shard, link);
	link->expires = expiry(pool_settings(pool));
	link->user = NULL;
	atomic_store(&node->last_used_wall, clock_wall());
	node_answered(node);
	watch_opened(shard, link, NULL);
	remember_address(node, link);
	forget_failure(pool);
	atomic_store_explicit(&pool->keeps_minimum, true, memory_order_relaxed);
	if (!atomic_load_explicit(&pool->proven, memory_order_relaxed) && !atomic_exchange(&pool->proven, true))
		atomic_fetch_sub(&pool->pools->unproven, 1);
	atomic_store(&pool->login, link->used_password ? POOL_LOGIN_NEEDS_PASSWORD : POOL_LOGIN_TRUSTED);
	log_debug("server connection opened", kv_uint("link", link->id), kv_str("database", pool->database),
		  kv_str("user", pool->user), kv_str("node", node->name), kv_int("server_pid", link->backend_pid));
	if (dedicated) {
		list_push_front(&shard->apart, &link->node);
		atomic_fetch_add(&shard->active_count, 1);
		dedicated->ops->granted(dedicated, link);
	} else if (link->close_when_free) {
		link_close(link);
		shard_end_link(shard, link);
	} else {
		shard_offer_new(shard, link);
	}
}

/*
 * What the failure says of the node. An error about the user, the database or limits shows that the server works, and
 * anybody can cause it; that it shuts down or starts up (57) shows nothing. true: who needs the primary is to wait.
 */
static bool judge_node(struct node *node, const struct link_failure *failure)
{
	atomic_fetch_add(&node->failures, 1);
	if (failure->wants_password || (failure->from_server && strncmp(failure->sqlstate, "57", 2) != 0))
		node_answered(node);
	else
		return node_refuses(node);
	return false;
}

/* Again and again would be a guess at a password that nobody made, and no link. Trying is up to the next client. */
static bool is_refused_for_good(const struct link_failure *failure)
{
	return failure->wants_password ||
	       (failure->from_server && (strncmp(failure->sqlstate, "28", 2) == 0 || /* who it is */
					 strncmp(failure->sqlstate, "3D", 2) == 0 || /* no such database */
					 strcmp(failure->sqlstate, "42501") == 0));  /* he may not use it */
}

static void tell_failure(const struct pool *pool, const struct node *node, const struct link_failure *failure)
{
	static _Thread_local struct log_limit limit;
	struct error_fields fields = {0};
	uint32_t suppressed = 0;

	message_read_error(failure->error + FRAME_HEADER, failure->error_len - FRAME_HEADER, &fields);
	if (log_limit_pass(&limit, 10, USEC_PER_SEC, &suppressed))
		log_warn("cannot log in to a server", kv_str("step", failure->what), kv_str("node", node->name),
			 kv_str("database", pool->database), kv_str("user", pool->user),
			 kv_slice("sqlstate", fields.sqlstate), kv_slice("message", fields.message),
			 kv_slice("detail", fields.detail), kv_str("tried", failure->tried ? failure->tried : ""),
			 kv_uint("not_logged", suppressed));
}

static void link_login_failed(struct link *link, const struct link_failure *failure)
{
	struct shard *shard = link->owner;
	struct pool *pool = pool_ref(shard->pool);
	struct node *node = ((struct destination *)link->server)->node;
	struct waiter *dedicated = link->user;
	bool misplaced;

	opening_end(shard, link);
	misplaced = judge_node(node, failure) && ((struct destination *)link->server)->follows;
	misplaced |= shard_link_is_misplaced(shard, link);
	watch_opened(shard, link, failure);
	if (failure->wants_password && atomic_load_explicit(&pool->login_is_asked, memory_order_relaxed)) {
		log_debug("the server asks for a password: so are clients", kv_str("node", node->name),
			  kv_str("database", pool->database), kv_str("user", pool->user));
	} else {
		count_add(&shard->thread->counters.link_login_failures_total, 1);
		tell_failure(pool, node, failure);
	}
	if (is_refused_for_good(failure) && !link->apart)
		atomic_store_explicit(&pool->keeps_minimum, false, memory_order_relaxed);
	if (failure->wants_password && !dedicated)
		atomic_store(&pool->login, POOL_LOGIN_NEEDS_PASSWORD);
	if (link->apart) {
		shard_end_link(shard, link);
		if (dedicated)
			dedicated->ops->failed(dedicated, failure);
	} else {
		if (!misplaced) /* else it tells nothing of where links lead now */
			remember_failure(pool, failure);
		shard_end_link(shard,
			       link); /* serves waiters anew: they meet the failure there, or wait for other links */
		if (!misplaced && !list_is_empty(&shard->waiters) && !pool_has_links(pool))
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
	/* Idle, or held until a cancel is over. A server may close those for reasons of its own: it is asked. */
	node_in_doubt(((struct destination *)link->server)->node);
	if (link->held_for_cancel)
		atomic_fetch_sub(&shard->active_count, 1);
	else if (link->standing == STANDING_PARKED)
		active_unlist(shard, link);
	else
		shard_idle_remove(shard, link);
	link_close(link);
	shard_end_link(shard, link);
}

const struct link_events shard_link_events = {
	.logged_in = link_logged_in,
	.failed = link_login_failed,
	.lost = link_lost,
};
