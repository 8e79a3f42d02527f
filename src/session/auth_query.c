/*
 * auth_query: a user's secret from the database itself, for users that no file has. Runs as auth_user on a link of the
 * pool (auth_database, auth_user). https://www.postgresql.org/docs/current/view-pg-shadow.html
 *
 * Answers are kept for auth_query_cache, those that say "no such user" too; a login that fails by one drops it. Who
 * asks for a user that is being asked for already waits for that answer. Each worker has its own.
 */
#include "session/session_priv.h"

#include "base/log.h"
#include "config/userlist.h"

#define MESSAGE_MAX 65536u
#define ANSWERS_MAX 10000u /* kept by a worker; then the oldest goes */

/* Undoes whatever a client of the same pool has set: who runs auth_query, and what its names mean, must not change. */
#define RESET_SETTINGS "RESET SESSION AUTHORIZATION;RESET ROLE;RESET ALL"

struct auth_query { /* one that runs */
	struct worker *worker;
	struct list node;   /* in worker->auth.running */
	struct list askers; /* auth_asker */
	char *key, *sql;    /* key: see name_key() */
	size_t key_len;
	const char *user;    /* in key */
	struct shard *shard; /* holds a reference to its pool */
	struct link *link;
	struct waiter waiter;
	struct timer timer;
	struct secret secret;
	uint32_t ready_awaited; /* ReadyForQuery that must come */
	bool outdated;          /* the configuration has changed since: not to be kept */
	char error[300];
	struct loop_deferred deferred;
};

struct auth_answer {      /* one that is kept */
	struct list node; /* in worker->auth.answers */
	struct secret secret;
	usec_t expires;
	size_t key_len;
	char key[];
};

/* The database and the user, a NUL between them: neither can hold one. To be freed. NULL: out of memory. */
static char *name_key(const char *database, const char *user, size_t *ret_len)
{
	size_t database_len = strlen(database) + 1, user_len = strlen(user);
	char *key = malloc(database_len + user_len + 1);

	if (!key)
		return NULL;
	memcpy(key, database, database_len);
	memcpy(key + database_len, user, user_len + 1);
	*ret_len = database_len + user_len;
	return key;
}

/* ---- answers that are kept ---- */

static void answer_drop(struct auth_queries *a, struct auth_answer *answer)
{
	map_remove(&a->by_name, slice_make(answer->key, answer->key_len));
	list_remove(&answer->node);
	a->answer_count--;
	secret_wipe(&answer->secret);
	free(answer);
}

static struct auth_answer *answer_find(struct auth_queries *a, struct slice key)
{
	struct auth_answer *answer = map_get(&a->by_name, key);

	if (answer && answer->expires <= clock_now()) {
		answer_drop(a, answer);
		answer = NULL;
	}
	return answer;
}

/* Out of memory: it is not kept, then. */
static void answer_keep(struct auth_queries *a, struct slice key, const struct secret *secret, usec_t lifetime)
{
	struct auth_answer *answer = map_get(&a->by_name, key);
	struct list *oldest;

	if (answer)
		answer_drop(a, answer);
	while ((oldest = list_first(&a->answers)) &&
	       (a->answer_count >= ANSWERS_MAX || list_entry(oldest, struct auth_answer, node)->expires <= clock_now()))
		answer_drop(a, list_entry(oldest, struct auth_answer, node));
	answer = lifetime ? calloc(1, sizeof(*answer) + key.len) : NULL;
	if (!answer)
		return;
	answer->expires = clock_now() + lifetime;
	answer->key_len = key.len;
	memcpy(answer->key, key.bytes, key.len);
	if (secret_copy(secret, &answer->secret) < 0 || map_put(&a->by_name, key, answer, NULL) < 0) {
		secret_wipe(&answer->secret);
		free(answer);
		return;
	}
	list_push_back(&a->answers, &answer->node);
	a->answer_count++;
}

/* ---- the end of a query ---- */

static void query_free(struct loop_deferred *deferred)
{
	struct auth_query *q = container_of(deferred, struct auth_query, deferred);

	secret_wipe(&q->secret);
	free(q->key);
	free(q->sql);
	free(q);
}

/* The link goes back, then whoever asked is told. */
static void finish(struct auth_query *q)
{
	const struct config *c = q->worker->settings.config;
	struct link *link = q->link;
	struct list *node;

	timer_cancel(&q->timer);
	pool_wait_end(&q->waiter);
	list_remove(&q->node);
	q->link = NULL;
	if (link) {
		link->has_unnamed = false;
		pool_give_back(link);
	}
	if (!*q->error && !q->outdated)
		answer_keep(&q->worker->auth, slice_make(q->key, q->key_len), &q->secret, c->auth.auth_query_cache);
	q->deferred.run = query_free;
	loop_defer(q->worker->pool_thread.loop, &q->deferred);
	while ((node = list_first(&q->askers))) {
		struct auth_asker *asker = list_entry(node, struct auth_asker, node);

		list_remove(node);
		asker->answered(asker, &q->secret, *q->error ? q->error : NULL);
	}
	if (q->shard)
		pool_unref(shard_pool(q->shard));
}

static void fail(struct auth_query *q, struct slice why)
{
	snprintf(q->error, sizeof(q->error), "%.*s", (int)MIN(why.len, sizeof(q->error) - 1), (const char *)why.bytes);
	secret_wipe(&q->secret);
	finish(q);
}

/* Whoever asks later must not wait for a query that hangs. The link is closed: its answer is outstanding. */
static void query_timeout(struct timer *timer)
{
	struct auth_query *q = container_of(timer, struct auth_query, timer);

	if (q->link)
		q->link->close_when_free = true;
	fail(q, SLICE_LITERAL("no answer within client_login_timeout"));
}

/* ---- the answer ---- */

static void error_text(struct auth_query *q, const uint8_t *body, size_t len)
{
	struct error_fields e = {0};

	message_read_error(body, len, &e);
	snprintf(q->error, sizeof(q->error), "%.*s", (int)MIN(e.message.len, 250u), (const char *)e.message.bytes);
}

/* (name, secret); an absent secret is null. */
static bool take_row(struct auth_query *q, const struct frame *f)
{
	struct reader r = reader_make(f->body, f->body_len);
	uint16_t columns = read_u16(&r);
	uint32_t name_len = read_u32(&r);
	uint32_t secret_len;
	struct slice secret;
	char *text;
	int result;

	if (columns < 2)
		return false;
	if (name_len != UINT32_MAX)
		read_slice(&r, name_len);
	secret_len = read_u32(&r);
	if (secret_len == UINT32_MAX)
		return !r.failed;
	secret = read_slice(&r, secret_len);
	if (r.failed)
		return false;
	text = strndup((const char *)secret.bytes, secret.len);
	if (!text)
		return false;
	secret_wipe(&q->secret);
	result = secret_parse(text, &q->secret);
	wipe(text, strlen(text));
	free(text);
	return result == 0;
}

/* False: the query is over. */
static bool take_message(void *to, const struct frame *f)
{
	struct auth_query *q = to;

	switch (f->type) {
	case 'E':
		error_text(q, f->body, f->body_len);
		break;
	case 'S':
		(void)!link_parameter_status(q->link, f->body, f->body_len);
		break;
	case 'D':
		if (!take_row(q, f))
			snprintf(q->error, sizeof(q->error), "it must give a name and a secret");
		break;
	case 'Z':
		q->link->tx_status = f->body_len ? (char)f->body[0] : '?';
		expects_pop(&q->link->expects);
		if (--q->ready_awaited > 0)
			break;
		if (*q->error)
			secret_wipe(&q->secret);
		finish(q);
		return false;
	}
	return true;
}

static size_t query_received(struct link *link, uint8_t *bytes, size_t len)
{
	size_t done;

	if (frames_take(bytes, len, MESSAGE_MAX, take_message, link->user, &done))
		return done;
	link->close_when_free = true;
	fail(link->user, SLICE_LITERAL("the server sent what the protocol does not allow, or too much"));
	return len;
}

static void query_lost(struct link *link, int error)
{
	(void)error;
	link->close_when_free = true;
	fail(link->user, SLICE_LITERAL("the server closed the connection"));
}

static const struct link_user_ops query_link_ops = {.received = query_received, .lost = query_lost};

/* ---- the question ---- */

static void add_question(struct auth_query *q, struct buf *out)
{
	size_t at;

	message_parse(out, "", slice_str(q->sql), NULL, 0);
	at = message_begin(out, 'B');
	message_cstring(out, ""); /* portal */
	message_cstring(out, ""); /* statement */
	message_u16(out, 0);      /* all parameters are text */
	message_u16(out, 1);
	message_u32(out, (uint32_t)strlen(q->user));
	buf_add(out, q->user, strlen(q->user));
	message_u16(out, 0);
	message_end(out, at);
	at = message_begin(out, 'E');
	message_cstring(out, "");
	message_u32(out, 1); /* row */
	message_end(out, at);
	message_sync(out);
}

/* One packet. */
static bool send_question(struct auth_query *q)
{
	struct link *link = q->link;
	struct buf out = BUF_INIT(1u << 20);
	bool good = true;

	if (link->settings) {
		message_query(&out, SLICE_LITERAL(RESET_SETTINGS));
		good = expects_push(&link->expects, (struct expect){.kind = EXPECT_QUERY}) == 0;
		q->ready_awaited++;
	}
	add_question(q, &out);
	good = good && !out.failed && expects_push(&link->expects, (struct expect){.kind = EXPECT_SYNC}) == 0;
	q->ready_awaited++;
	if (good) {
		conn_send(&link->conn, out.bytes, out.len);
		params_assign(&link->settings, NULL);
	} else {
		link->close_when_free = true;
	}
	buf_free(&out);
	return good;
}

static void query_granted(struct waiter *waiter, struct link *link)
{
	struct auth_query *q = container_of(waiter, struct auth_query, waiter);

	q->link = link;
	link_lend(link, &query_link_ops, q);
	if (!send_question(q))
		fail(q, SLICE_LITERAL("out of memory"));
}

static void query_failed(struct waiter *waiter, const struct link_failure *failure)
{
	struct auth_query *q = container_of(waiter, struct auth_query, waiter);

	if (failure->error_len > FRAME_HEADER)
		error_text(q, failure->error + FRAME_HEADER, failure->error_len - FRAME_HEADER);
	if (!*q->error)
		snprintf(q->error, sizeof(q->error), "no connection to the server");
	finish(q);
}

static const struct waiter_ops query_waiter_ops = {.granted = query_granted, .failed = query_failed};

/* ---- beginning ---- */

static struct auth_query *query_new(struct worker *w, struct slice key)
{
	struct auth_query *q = calloc(1, sizeof(*q));

	if (!q)
		return NULL;
	*q = (struct auth_query){.worker = w, .waiter.ops = &query_waiter_ops, .key_len = key.len};
	q->key = malloc(key.len + 1);
	q->sql = strdup(w->settings.config->auth.auth_query);
	if (!q->key || !q->sql) {
		query_free(&q->deferred);
		return NULL;
	}
	memcpy(q->key, key.bytes, key.len);
	q->key[key.len] = 0;
	q->user = q->key + strlen(q->key) + 1;
	list_init(&q->waiter.node);
	list_init(&q->askers);
	timer_init(&q->timer, query_timeout);
	list_push_back(&w->auth.running, &q->node);
	return q;
}

static int find_shard(struct auth_query *q)
{
	struct worker *w = q->worker;
	const char *user = w->settings.config->auth.auth_user;
	const struct secret *secret = userlist_get(w->settings.config->userlist, user);
	struct pool *pool;
	int r = pool_find(w->pool_thread.pools, q->key, user, &pool);

	if (r < 0)
		return r;
	q->shard = pool_shard(pool, &w->pool_thread);
	if (!q->shard) {
		pool_unref(pool);
		return -ENOMEM;
	}
	if (secret)
		pool_offer_secret(pool, secret);
	return 0;
}

static void query_start(struct auth_query *q)
{
	struct worker *w = q->worker;
	struct link *link;
	int r = find_shard(q);

	if (r < 0) {
		fail(q, r == -ENOENT ? SLICE_LITERAL("[auth] auth_database has no table in [databases]")
				     : SLICE_LITERAL("no node, or no memory"));
		return;
	}
	timer_set(loop_timers(w->pool_thread.loop), &q->timer,
		  clock_now() + w->settings.config->pool.client_login_timeout);
	link = pool_take(q->shard);
	if (link)
		query_granted(&q->waiter, link);
	else if (!pool_wait(q->shard, &q->waiter))
		fail(q, SLICE_LITERAL("too many wait for auth_user's pool"));
}

static struct auth_query *query_find(struct worker *w, struct slice key)
{
	list_for_each (node, &w->auth.running) {
		struct auth_query *q = list_entry(node, struct auth_query, node);

		if (!q->outdated && slice_equal(slice_make(q->key, q->key_len), key))
			return q;
	}
	return NULL;
}

void auth_query_ask(struct worker *w, const char *database, const char *user, struct auth_asker *asker)
{
	struct secret none = {0};
	struct auth_answer *known;
	struct auth_query *q;
	size_t len;
	char *key = name_key(database, user, &len);

	if (!key) {
		asker->answered(asker, &none, "out of memory");
		return;
	}
	known = answer_find(&w->auth, slice_make(key, len));
	q = known ? NULL : query_find(w, slice_make(key, len));
	if (known) {
		asker->answered(asker, &known->secret, NULL);
	} else if (q) {
		list_push_back(&q->askers, &asker->node);
	} else if (!(q = query_new(w, slice_make(key, len)))) {
		asker->answered(asker, &none, "out of memory");
	} else {
		list_push_back(&q->askers, &asker->node);
		query_start(q);
	}
	free(key);
}

void auth_query_leave(struct auth_asker *asker)
{
	list_remove(&asker->node);
}

void auth_query_forget(struct worker *w, const char *database, const char *user)
{
	size_t len;
	char *key = name_key(database, user, &len);
	struct auth_answer *known = key ? answer_find(&w->auth, slice_make(key, len)) : NULL;

	if (known)
		answer_drop(&w->auth, known);
	free(key);
}

void auth_queries_init(struct auth_queries *a)
{
	list_init(&a->running);
	list_init(&a->answers);
	a->by_name = MAP_INIT;
	a->answer_count = 0;
}

void auth_queries_forget_all(struct auth_queries *a)
{
	struct list *node;

	while ((node = list_first(&a->answers)))
		answer_drop(a, list_entry(node, struct auth_answer, node));
	list_for_each (running, &a->running)
		list_entry(running, struct auth_query, node)->outdated = true;
}

void auth_queries_free(struct auth_queries *a)
{
	struct list *node;

	while ((node = list_first(&a->running))) {
		struct auth_query *q = list_entry(node, struct auth_query, node);

		list_remove(node);
		timer_cancel(&q->timer);
		pool_wait_end(&q->waiter);
		if (q->shard)
			pool_unref(shard_pool(q->shard));
		query_free(&q->deferred);
	}
	auth_queries_forget_all(a);
	map_free(&a->by_name);
}
