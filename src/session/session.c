/* See session_priv.h. The life of a session: accepted, states, timers, closed. */
#include "session/session_priv.h"

#include "base/log.h"
#include "base/map.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#define REFUSALS_LOGGED 100u /* in a second, for each worker: strangers can't fill the disk */

static const char *const state_names[] = {
#define X(name, shown, meaning) shown,
	SESSION_STATES(X)
#undef X
};

static const uint16_t may_become[] = {
	[SESSION_STARTUP] = BIT(SESSION_AUTH) | BIT(SESSION_WELCOMING) | BIT(SESSION_CLOSED),
	[SESSION_AUTH] = BIT(SESSION_WELCOMING) | BIT(SESSION_CONSOLE) | BIT(SESSION_CLOSED),
	[SESSION_WELCOMING] = BIT(SESSION_IDLE) | BIT(SESSION_REPLICATION) | BIT(SESSION_CLOSED),
	[SESSION_IDLE] = BIT(SESSION_WAITING) | BIT(SESSION_ACTIVE) | BIT(SESSION_SHARED) | BIT(SESSION_CLOSED),
	[SESSION_WAITING] = BIT(SESSION_ACTIVE) | BIT(SESSION_IDLE) | BIT(SESSION_CLOSED),
	[SESSION_ACTIVE] = BIT(SESSION_IDLE) | BIT(SESSION_CLOSED),
	[SESSION_SHARED] = BIT(SESSION_IDLE),
	[SESSION_CONSOLE] = BIT(SESSION_CLOSED),
	[SESSION_REPLICATION] = BIT(SESSION_CLOSED),
	[SESSION_CLOSED] = 0,
};

const char *session_state_name(enum session_state state)
{
	return state_names[state];
}

void session_set_state(struct session *s, enum session_state to)
{
	assert(may_become[s->state] & BIT(to));
	s->state = to;
	s->since = clock_now();
}

/* ---- for logs and people ---- */

bool session_address(const struct session *s, struct sockaddr_storage *ret)
{
	socklen_t len = sizeof(*ret);

	memset(ret, 0, sizeof(*ret));
	ret->ss_family = AF_UNIX;
	if (s->address)
		*(struct sockaddr_in *)(void *)ret = (struct sockaddr_in){
			.sin_family = AF_INET, .sin_port = htons(s->port), .sin_addr.s_addr = s->address};
	return s->address || getpeername(s->conn.fd, (struct sockaddr *)ret, &len) == 0;
}

size_t session_address_text(const struct session *s, char *text, size_t size)
{
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);
	char host[INET6_ADDRSTRLEN] = "";
	int n;

	if (!conn_is_open(&s->conn) && !s->address) {
		n = snprintf(text, size, "-");
	} else if (s->address) {
		inet_ntop(AF_INET, &s->address, host, sizeof(host));
		n = snprintf(text, size, "%s:%u", host, s->port);
	} else if (getpeername(s->conn.fd, (struct sockaddr *)&a, &len) == 0 && a.ss_family == AF_INET6) {
		inet_ntop(AF_INET6, &((struct sockaddr_in6 *)&a)->sin6_addr, host, sizeof(host));
		n = snprintf(text, size, "[%s]:%u", host, s->port);
	} else {
		n = snprintf(text, size, "unix");
	}
	return n < 0 ? 0 : MIN((size_t)n, size - 1);
}

bool session_is_loopback6(const struct session *s)
{
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);

	return getpeername(s->conn.fd, (struct sockaddr *)&a, &len) == 0 && a.ss_family == AF_INET6 &&
	       IN6_IS_ADDR_LOOPBACK(&((struct sockaddr_in6 *)&a)->sin6_addr);
}

const char *session_database(const struct session *s)
{
	return s->shard ? pool_database(session_pool(s)) : s->console ? s->console->database : NULL;
}

const char *session_user(const struct session *s)
{
	return s->shard ? pool_user(session_pool(s)) : s->console ? s->console->user : NULL;
}

void session_log(enum log_level level, const struct session *s, const char *message, const char *detail)
{
	char address[80];

	if (level < __atomic_load_n(&log_min_level, __ATOMIC_RELAXED))
		return;
	session_address_text(s, address, sizeof(address));
	log_at(level, message, kv_str("client", address), kv_str("database", session_database(s)),
	       kv_str("user", session_user(s)), kv_uint("pid", session_pid(s)),
	       kv_str("state", session_state_name(s->state)), kv_str("detail", detail));
}

/* ---- slots: where a cancel key leads ---- */

#define SLOT_NONE UINT32_MAX
#define SLOT_MAX  (1u << 23)

static bool grow_slots(struct worker *w)
{
	uint32_t count = w->slot_count ? w->slot_count * 2 : 256;
	struct session **slots;

	if (w->slot_count >= SLOT_MAX)
		return false;
	slots = realloc(w->slots, count * sizeof(*slots));
	if (!slots)
		return false;
	/* a free slot holds the number of the next free one, shifted and odd, which no pointer is */
	for (uint32_t i = w->slot_count; i < count; i++)
		slots[i] = (struct session *)(uintptr_t)((((uint64_t)(i + 1 < count ? i + 1 : w->free_slot)) << 1) | 1);
	w->free_slot = w->slot_count;
	w->slots = slots;
	w->slot_count = count;
	return true;
}

static bool take_slot(struct session *s)
{
	struct worker *w = s->worker;

	if (w->free_slot == SLOT_NONE && !grow_slots(w))
		return false;
	s->slot = w->free_slot;
	w->free_slot = (uint32_t)((uintptr_t)w->slots[s->slot] >> 1);
	w->slots[s->slot] = s;
	return true;
}

static void give_slot(struct session *s)
{
	struct worker *w = s->worker;

	w->slots[s->slot] = (struct session *)(uintptr_t)(((uint64_t)w->free_slot << 1) | 1);
	w->free_slot = s->slot;
}

/* ---- the connection's events ---- */

static void let_go_of_link(struct session *s);

static size_t session_received(struct conn *conn, uint8_t *bytes, size_t len)
{
	struct session *s = container_of(conn, struct session, conn);

	switch ((enum session_state)s->state) {
	case SESSION_IDLE:
	case SESSION_ACTIVE:
		return request_received(s, bytes, len);
	case SESSION_STARTUP:
		return startup_received(s, bytes, len);
	case SESSION_AUTH:
		return login_received(s, bytes, len);
	case SESSION_REPLICATION:
		return replication_request(s, bytes, len);
	case SESSION_CONSOLE:
		return console_received(s, bytes, len);
	case SESSION_WELCOMING:
	case SESSION_WAITING:
	case SESSION_SHARED:
		return 0;
	case SESSION_CLOSED:
		break;
	}
	return len;
}

static void session_conn_closed(struct conn *conn, int error)
{
	struct session *s = container_of(conn, struct session, conn);
	const char *why = error == 0         ? "closed by the client"
			  : error == -EPROTO ? conn_tls_error(conn)
					     : strerror(-error);

	if (s->state != SESSION_CLOSED)
		session_close(s, why);
}

/*
 * One that has left altogether looks like one that sends no more, until something is sent to it: then its machine says
 * so. A parameter that it knows already hurts nobody; it may come at any time, though not inside of another message.
 * Not over TLS: a client that waits for the other close_notify could take it amiss.
 * https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-ASYNC
 */
static void knock(struct session *s)
{
	struct buf out = BUF_INIT(4096);
	const char *name, *value;

	if (s->conn.tls || params_count(s->reported) == 0 || (s->link && s->link->left && !s->link->left_swallow) ||
	    share_in_message(s))
		return;
	params_at(s->reported, 0, &name, &value);
	message_parameter_status(&out, name, value);
	session_send_buf(s, &out);
}

/* The client sends no more, but may read: what it sent whole is executed and answered, as PostgreSQL does. */
static bool session_conn_ended(struct conn *conn, const uint8_t *bytes, size_t len)
{
	struct session *s = container_of(conn, struct session, conn);
	struct frame f;
	bool first = !s->ended;

	s->ended = true;
	switch ((enum session_state)s->state) {
	case SESSION_AUTH:
	case SESSION_WELCOMING:
		return frame_read(bytes, len, &f) == FRAME_WHOLE; /* sent ahead of the welcome */
	case SESSION_IDLE:
	case SESSION_WAITING:
	case SESSION_SHARED:
	case SESSION_ACTIVE:
		if (request_is_owed(s, bytes, len)) {
			if (first)
				knock(s);
			return true;
		}
		if (s->link) {
			let_go_of_link(s);
			session_set_state(s, SESSION_IDLE);
		}
		return conn_queued(conn) > 0;
	case SESSION_CONSOLE:
		return console_ended(s, first);
	case SESSION_STARTUP:
	case SESSION_REPLICATION:
	case SESSION_CLOSED:
		break;
	}
	return false;
}

/* It fills all buffers, so its end isn't heard. Who waits for a link is in the same place as one who has sent little:
 * gone is gone. What others have sent is being executed; as with PostgreSQL, up to its last byte. */
static bool session_conn_left(struct conn *conn, bool altogether)
{
	struct session *s = container_of(conn, struct session, conn);

	if (s->state != SESSION_WAITING && s->state != SESSION_SHARED)
		return true;
	if (!altogether)
		knock(s);
	return !altogether;
}

static void session_drained(struct conn *conn)
{
	struct session *s = container_of(conn, struct session, conn);

	if (s->link)
		conn_resume(&s->link->conn);
	else if (s->turn)
		share_drained(s);
	else if (s->console)
		console_drained(s);
}

static void session_conn_ready(struct conn *conn)
{
	startup_ready(container_of(conn, struct session, conn));
}

static const struct conn_ops session_conn_ops = {
	.received = session_received,
	.closed = session_conn_closed,
	.ended = session_conn_ended,
	.left = session_conn_left,
	.drained = session_drained,
	.ready = session_conn_ready,
};

/* ---- timers ---- */

static void cancel_overdue_query(struct session *s)
{
	usec_t limit = session_settings(s)->query_timeout;

	if (s->link && s->link->expects.count)
		(void)!pool_cancel(s->link, NULL, NULL); /* best effort: the link is closed anyway */
	session_fatal(s, ERROR_QUERY_TIMEOUT, NULL, (unsigned)(limit / USEC_PER_MSEC));
}

static void wait_timeout(struct session *s)
{
	struct buf out = BUF_INIT(1024);

	pool_wait_end(&s->waiter);
	if (s->turn)
		share_leave(s);
	count_add(&session_counters(s)->link_wait_timeouts_total, 1);
	error_message(&out,
		      s->source == s->shard && pool_is_held(session_pool(s)) ? ERROR_NO_PRIMARY
									     : ERROR_QUERY_WAIT_TIMEOUT,
		      NULL, (unsigned)(session_settings(s)->query_wait_timeout / USEC_PER_MSEC));
	session_fail_request(s, out.bytes, out.len);
	buf_free(&out);
}

/* It has ended otherwise than by an answer, or a reload has taken the limit back. */
static bool is_not_limited(const struct session *s)
{
	return !s->link || (!s->link->expects.count && s->link->tx_status == 'I') ||
	       !session_settings(s)->transaction_timeout;
}

static void transaction_overdue(struct session *s)
{
	if (is_not_limited(s)) {
		session_limit_transaction(s, 0);
		return;
	}
	if (s->link->expects.count)
		(void)!pool_cancel(s->link, NULL, NULL); /* best effort: the link is closed anyway */
	session_fatal(s, ERROR_TRANSACTION_TIMEOUT, NULL,
		      (unsigned)(session_settings(s)->transaction_timeout / USEC_PER_MSEC));
}

static void arm_timer(struct session *s)
{
	usec_t due = s->timer_due;

	if (unlikely(s->transaction_until) && (!due || s->transaction_until < due))
		due = s->transaction_until;
	if (due)
		timer_set(loop_timers(s->conn.loop), &s->timer, due);
	else if (timer_is_set(&s->timer))
		timer_cancel(&s->timer);
}

static void session_timer(struct timer *timer)
{
	struct session *s = container_of(timer, struct session, timer);
	const struct config *c = s->worker->settings.config;

	if (unlikely(s->transaction_until) && s->transaction_until <= clock_now()) {
		transaction_overdue(s);
		return;
	}
	if (unlikely(!s->timer_due || s->timer_due > clock_now())) {
		arm_timer(s); /* it was for a transaction that has ended meanwhile */
		return;
	}
	switch ((enum session_timer)s->timer_meaning) {
	case TIMER_LOGIN:
		session_fatal(s, ERROR_LOGIN_TIMEOUT, NULL, (unsigned)(c->pool.client_login_timeout / USEC_PER_MSEC));
		break;
	case TIMER_WAIT:
		wait_timeout(s);
		break;
	case TIMER_REPLAY:
		routing_wait_over(s);
		break;
	case TIMER_IDLE:
		session_fatal(s, ERROR_CLIENT_IDLE_TIMEOUT, NULL,
			      (unsigned)(session_settings(s)->client_idle_timeout / USEC_PER_MSEC));
		break;
	case TIMER_QUERY:
		cancel_overdue_query(s);
		break;
	case TIMER_STATEMENT:
		hinted_overdue(s);
		break;
	case TIMER_IDLE_TRANSACTION:
		session_fatal(s, ERROR_IDLE_TRANSACTION_TIMEOUT, NULL,
			      (unsigned)(session_settings(s)->idle_transaction_timeout / USEC_PER_MSEC));
		break;
	}
}

void session_set_timer(struct session *s, enum session_timer meaning, usec_t timeout)
{
	s->timer_meaning = meaning;
	s->timer_due = timeout ? clock_now() + timeout : 0;
	arm_timer(s);
}

void session_limit_transaction(struct session *s, usec_t timeout)
{
	s->transaction_until = timeout ? clock_now() + timeout : 0;
	arm_timer(s);
}

/* ---- birth ---- */

static void refuse_connection(struct worker *w, int fd)
{
	struct buf out = BUF_INIT(1024);

	/* the client's first packet is not awaited: it gets the reason and is gone */
	error_message(&out, ERROR_TOO_MANY_CLIENTS, NULL);
	if (send(fd, out.bytes, out.len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		log_debug("could not tell a client that there is no room", kv_str("reason", strerror(errno)));
	buf_free(&out);
	close(fd);
	count_add(&w->pool_thread.counters.login_failures_total, 1);
}

static void remember_address(struct session *s, const struct sockaddr *address)
{
	if (address->sa_family == AF_INET) {
		s->address = ((const struct sockaddr_in *)(const void *)address)->sin_addr.s_addr;
		s->port = ntohs(((const struct sockaddr_in *)(const void *)address)->sin_port);
	} else if (address->sa_family == AF_INET6) {
		s->port = ntohs(((const struct sockaddr_in6 *)(const void *)address)->sin6_port);
	}
}

static void session_free(struct loop_deferred *deferred)
{
	struct session *s = container_of(deferred, struct session, deferred);

	slab_give(&s->worker->session_slab, s);
}

void session_set_limits(struct session *s)
{
	uint64_t longest = s->worker->settings.config->limits.max_message_kept + FRAME_HEADER;

	s->conn.keep_max = (uint32_t)MAX(longest, UINT64_C(1) << 20) + 1; /* else it would never be whole */
	s->limits_simple = s->shard && session_settings(s)->simple_query != SIMPLE_QUERY_ALLOW;
}

bool session_admit(struct worker *w, int fd)
{
	count_add(&w->pool_thread.counters.connections_total, 1);
	/* a few more than max_clients may knock, for cancels must get through: see login.c for the real limit */
	if (atomic_fetch_add(&w->shared->clients, 1) < w->settings.config->proxy.max_clients + 16u)
		return true;
	atomic_fetch_sub(&w->shared->clients, 1);
	count_add(&w->pool_thread.counters.connections_closed_total, 1);
	refuse_connection(w, fd);
	return false;
}

void session_new(struct worker *w, int fd, const struct sockaddr *address, bool speaks_first)
{
	const struct config *c = w->settings.config;
	struct session *s;

	s = slab_take(&w->session_slab);
	if (!s)
		goto no_memory;
	s->worker = w;
	s->state = SESSION_STARTUP;
	s->serial = ++w->last_serial;
	s->connected = s->since = clock_now();
	list_init(&s->node);
	list_init(&s->replaying);
	list_init(&s->waiter.node);
	s->waiter.ops = &session_waiter_ops;
	timer_init(&s->timer, session_timer);
	conn_init(&s->conn, &session_conn_ops);
	session_set_limits(s);
	remember_address(s, address);
	if (!take_slot(s))
		goto no_slot;
	if (speaks_first)
		conn_open_with_bytes(&s->conn, w->pool_thread.loop, fd);
	else if (conn_open(&s->conn, w->pool_thread.loop, fd) < 0)
		goto no_conn;
	if (w->settings.client_tls)
		conn_ready_before_first_receive(&s->conn); /* it may begin with TLS at once */
	list_push_back(&w->sessions, &s->node);
	w->session_count++;
	atomic_store_explicit(&w->session_count_seen, w->session_count, memory_order_relaxed);
	count_add(&w->pool_thread.counters.clients, 1);
	session_set_timer(s, TIMER_LOGIN, c->pool.client_login_timeout);
	return;
no_conn:
	give_slot(s);
no_slot:
	slab_give(&w->session_slab, s);
no_memory:
	log_warn("no memory for a client; closing its connection");
	atomic_fetch_sub(&w->shared->clients, 1);
	close(fd);
}

/* ---- death ---- */

void session_send_buf(struct session *s, struct buf *out)
{
	if (!out->failed && out->len) {
		conn_send(&s->conn, out->bytes, out->len);
		count_add(&session_counters(s)->bytes_sent_total, out->len);
	}
	buf_free(out);
}

static void let_go_of_link(struct session *s)
{
	struct link *link = s->link;

	prepared_schema_changed(s);
	s->link = NULL;
	s->copying_in = s->syncing = s->synced = s->hold_ready = false;
	cancel_drop_held(s);
	s->fault = 0;
	if (s->pins)
		pool_count_pinned(link, -1);
	for (uint32_t i = 0; i < link->expects.count; i++)
		expect_drop(s, expects_at(&link->expects, i));
	if (link->expects.count && link->state == LINK_ACTIVE && s->state != SESSION_REPLICATION)
		(void)!pool_cancel(link, NULL,
				   NULL); /* nobody waits for it any more; closing alone would not stop it */
	if (s->pins || s->mode == POOL_MODE_SESSION)
		link->dirty = link->dirty || s->pins || link->changed;
	if (s->left)
		link->close_when_free = true; /* half a message was sent */
	link_forget_transaction(link);
	if (conn_is_paused(&link->conn))
		conn_resume(&link->conn); /* what it still owes is to be read */
	pool_give_back(link);
}

static void free_login_and_statements(struct session *s)
{
	login_end(s);
	begin_forget(s);
	prepared_forget_all(s);
	statement_text_unref(s->worker->statements, s->bound);
	s->bound = NULL;
	params_unref(s->settings);
	params_unref(s->startup_settings);
	params_unref(s->reported);
	s->settings = s->startup_settings = s->reported = NULL;
	free(s->application);
	s->application = NULL;
}

/* All but the connection: the rest of a session that is CLOSED. */
static void session_end(struct session *s, const char *why)
{
	struct worker *w = s->worker;

	if (s->logged && w->settings.config->log.disconnections && !s->told_end)
		session_log(LOG_INFO, s, "client disconnected", why);
	else if (!s->logged)
		session_log(LOG_DEBUG, s, "client left before it was logged in", why);
	pool_wait_end(&s->waiter);
	(void)routing_stop_waiting(s);
	if (s->login && s->shard)
		pool_forget_dedicated(s->shard, &s->waiter);
	if (s->link)
		let_go_of_link(s);
	if (s->turn)
		share_leave(s);
	console_closed(s);
	session_set_state(s, SESSION_CLOSED);
	timer_cancel(&s->timer);
	free_login_and_statements(s);
	if (s->shard && s->logged)
		pool_client_left(s->shard);
	if (s->shard)
		pool_unref(session_pool(s));
	s->shard = s->source = NULL;
	routing_forget(s);
	wipe(s->secret, sizeof(s->secret));
	give_slot(s);
	list_remove(&s->node);
	w->session_count--;
	atomic_store_explicit(&w->session_count_seen, w->session_count, memory_order_relaxed);
	atomic_fetch_sub(&w->shared->clients, 1);
	count_add(&w->pool_thread.counters.connections_closed_total, 1);
	count_sub(&w->pool_thread.counters.clients, 1);
}

static void bury(struct session *s)
{
	s->deferred.run = session_free;
	loop_defer(s->conn.loop, &s->deferred);
}

void session_close(struct session *s, const char *why)
{
	if (s->state == SESSION_CLOSED)
		return;
	session_end(s, why);
	conn_close(&s->conn);
	bury(s);
}

/* The session is over, but its connection has last words to write. */
static void finished(struct conn *conn, int error)
{
	(void)error;
	bury(container_of(conn, struct session, conn));
}

static size_t ignore_bytes(struct conn *conn, uint8_t *bytes, size_t len)
{
	(void)conn;
	(void)bytes;
	return len;
}

static const struct conn_ops finishing_ops = {.received = ignore_bytes, .closed = finished};

#define LAST_WORDS (2 * USEC_PER_SEC)

void session_finish(struct session *s, const char *why)
{
	if (s->state == SESSION_CLOSED)
		return;
	session_end(s, why);
	s->conn.ops = &finishing_ops;
	conn_finish(&s->conn, LAST_WORDS);
}

void session_fatal_bytes(struct session *s, const uint8_t *error, size_t len, const char *why)
{
	uint32_t not_logged = 0;

	if (s->state == SESSION_CLOSED)
		return;
	if ((!s->link || !s->link->left || s->link->left_swallow) &&
	    !share_in_message(s)) { /* inside of another message there is no place */
		conn_send(&s->conn, error, len);
		count_add(&session_counters(s)->bytes_sent_total, len);
	}
	count_add(&session_counters(s)->query_errors_total, 1);
	if (!s->logged)
		count_add(&session_counters(s)->login_failures_total, 1);
	if (s->logged || log_limit_pass(&s->worker->refusals, REFUSALS_LOGGED, USEC_PER_SEC, &not_logged))
		session_log(LOG_INFO, s, s->logged ? "client closed by the proxy" : "login refused", why);
	if (unlikely(not_logged))
		log_warn("more logins were refused than are logged", kv_uint("not_logged", not_logged));
	s->told_end = true;
	session_finish(s, why);
}

void session_fatal(struct session *s, enum proxy_error error, const char *detail, ...)
{
	struct buf out = BUF_INIT(8192);
	struct error_fields fields = {0};
	char why[300] = "";
	va_list args;

	if (s->state == SESSION_CLOSED)
		return;
	va_start(args, detail);
	error_message_va(&out, error, "FATAL", detail, args);
	va_end(args);
	if (error == ERROR_PROTOCOL_VIOLATION || error == ERROR_INVALID_STARTUP)
		count_add(&session_counters(s)->protocol_errors_total, 1);
	if (!out.failed && message_read_error(out.bytes + FRAME_HEADER, out.len - FRAME_HEADER, &fields))
		snprintf(why, sizeof(why), "%.*s", (int)MIN(fields.message.len, sizeof(why) - 1),
			 (const char *)fields.message.bytes);
	session_fatal_bytes(s, out.bytes, out.failed ? 0 : out.len, why);
	buf_free(&out);
}

bool session_out_of_memory(struct session *s)
{
	session_fatal(s, ERROR_OUT_OF_MEMORY, NULL);
	return false;
}
