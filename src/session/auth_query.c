/*
 * auth_query: a user's secret from the database itself, for users that no file has. Runs as auth_user on a link of the
 * pool (auth_database, auth_user). https://www.postgresql.org/docs/current/view-pg-shadow.html
 */
#include "session/session_priv.h"

#include "base/log.h"
#include "config/userlist.h"

struct auth_query {
	struct worker *worker;
	struct session *session; /* NULL: forgotten */
	char *user, *sql;
	struct shard *shard;     /* holds a reference to its pool */
	struct link *link;
	struct waiter waiter;
	struct timer timer;
	struct secret secret;
	char error[300];
	void (*done)(struct session *s, const struct secret *secret, const char *error);
	struct loop_deferred deferred;
};

static void query_free(struct loop_deferred *deferred)
{
	struct auth_query *q = container_of(deferred, struct auth_query, deferred);

	secret_wipe(&q->secret);
	free(q->user);
	free(q->sql);
	free(q);
}

/* The end: the link goes back, then whoever asked is told. */
static void finish(struct auth_query *q)
{
	struct session *s = q->session;
	struct link *link = q->link;

	timer_cancel(&q->timer);
	pool_wait_end(&q->waiter);
	q->link = NULL;
	q->session = NULL;
	if (link) {
		link->has_unnamed = false;
		pool_give_back(link);
	}
	q->deferred.run = query_free;
	loop_defer(q->worker->pool_thread.loop, &q->deferred);
	if (s)
		q->done(s, &q->secret, *q->error ? q->error : NULL);
	if (q->shard)
		pool_unref(shard_pool(q->shard));
}

static void fail(struct auth_query *q, struct slice why)
{
	snprintf(q->error, sizeof(q->error), "%.*s", (int)MIN(why.len, sizeof(q->error) - 1), (const char *)why.bytes);
	secret_wipe(&q->secret);
	finish(q);
}

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
	wipe(text, secret.len);
	free(text);
	return result == 0;
}

static size_t query_received(struct link *link, uint8_t *bytes, size_t len)
{
	struct auth_query *q = link->user;
	struct frame f = {0};
	size_t at = 0;

	while (at < len) {
		enum frame_result r = frame_read(bytes + at, len - at, &f);

		if (r == FRAME_SHORT || (r == FRAME_HEAD && f.body_len < 65536))
			return at;
		if (r != FRAME_WHOLE) {
			link->close_when_free = true;
			fail(q, SLICE_LITERAL("the server sent what the protocol does not allow"));
			return len;
		}
		at += frame_size(&f);
		if (f.type == 'E') {
			error_text(q, f.body, f.body_len);
		} else if (f.type == 'S') {
			(void)!link_parameter_status(link, f.body, f.body_len);
		} else if (f.type == 'D' && !take_row(q, &f)) {
			snprintf(q->error, sizeof(q->error), "auth_query must give a name and a secret");
		} else if (f.type == 'Z') {
			link->tx_status = f.body_len ? (char)f.body[0] : '?';
			expects_pop(&link->expects);
			finish(q);
			return at;
		}
	}
	return at;
}

static void query_lost(struct link *link, int error)
{
	(void)error;
	link->close_when_free = true;
	fail(link->user, SLICE_LITERAL("the server closed the connection"));
}

static const struct link_user_ops query_link_ops = {.received = query_received, .lost = query_lost};

/* One packet: what a client may have set on the link goes first, then the query with the name as its parameter. */
static bool send_query(struct auth_query *q)
{
	struct buf out = BUF_INIT(1u << 20);
	size_t at;

	message_parse(&out, "", slice_str(q->sql), NULL, 0);
	at = message_begin(&out, 'B');
	message_cstring(&out, ""); /* portal */
	message_cstring(&out, ""); /* statement */
	message_u16(&out, 0);      /* all parameters are text */
	message_u16(&out, 1);
	message_u32(&out, (uint32_t)strlen(q->user));
	buf_add(&out, q->user, strlen(q->user));
	message_u16(&out, 0);
	message_end(&out, at);
	at = message_begin(&out, 'E');
	message_cstring(&out, "");
	message_u32(&out, 1); /* row */
	message_end(&out, at);
	message_sync(&out);
	if (!out.failed && expects_push(&q->link->expects, (struct expect){.kind = EXPECT_SYNC}) == 0) {
		conn_send(&q->link->conn, out.bytes, out.len);
		buf_free(&out);
		return true;
	}
	buf_free(&out);
	return false;
}

static void query_granted(struct waiter *waiter, struct link *link)
{
	struct auth_query *q = container_of(waiter, struct auth_query, waiter);

	q->link = link;
	link_lend(link, &query_link_ops, q);
	if (!q->session || !send_query(q)) {
		fail(q, SLICE_LITERAL("out of memory"));
		return;
	}
}

static void query_failed(struct waiter *waiter, const struct link_failure *failure)
{
	struct auth_query *q = container_of(waiter, struct auth_query, waiter);

	error_text(q, failure->error + FRAME_HEADER, failure->error_len - FRAME_HEADER);
	finish(q);
}

static const struct waiter_ops query_waiter_ops = {.granted = query_granted, .failed = query_failed};

/* Begins, or fails, in a turn of its own: the caller must not be called back from within its call. */
static void query_start(struct timer *timer)
{
	struct auth_query *q = container_of(timer, struct auth_query, timer);
	const struct secret *secret;
	struct link *link;

	if (!q->shard) {
		fail(q, SLICE_LITERAL("there is no pool for auth_user"));
		return;
	}
	secret = userlist_get(q->worker->settings.config->userlist, q->worker->settings.config->auth.auth_user);
	if (secret)
		pool_offer_secret(shard_pool(q->shard), secret);
	link = pool_take(q->shard);
	if (link)
		query_granted(&q->waiter, link);
	else if (!pool_wait(q->shard, &q->waiter))
		fail(q, SLICE_LITERAL("too many wait for auth_user's pool"));
}

struct auth_query *auth_query_begin(struct worker *w, const char *database, const char *user,
                                    void (*done)(struct session *s, const struct secret *secret, const char *error),
                                    struct session *s)
{
	const struct config_auth *auth = &w->settings.config->auth;
	struct auth_query *q = calloc(1, sizeof(*q));
	struct pool *pool;

	if (!q)
		return NULL;
	*q = (struct auth_query){.worker = w, .session = s, .done = done, .user = strdup(user),
	                         .sql = strdup(auth->auth_query), .waiter.ops = &query_waiter_ops};
	list_init(&q->waiter.node);
	timer_init(&q->timer, query_start);
	if (!q->user || !q->sql) {
		query_free(&q->deferred);
		return NULL;
	}
	if (pool_find(w->pool_thread.pools, database, auth->auth_user, &pool) == 0) {
		q->shard = pool_shard(pool, &w->pool_thread);
		if (!q->shard)
			pool_unref(pool);
	}
	timer_set(loop_timers(w->pool_thread.loop), &q->timer, clock_now());
	return q;
}

void auth_query_forget(struct auth_query *q)
{
	q->session = NULL;
}
