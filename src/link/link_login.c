/*
 * Connecting and logging in to a server: TCP or unix socket, TLS as libpq's sslmode says, StartupMessage,
 * authentication (wire/scram.h knows the methods), everything up to the first ReadyForQuery, and connect_query.
 * https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP
 */
#include "link/link_priv.h"

#include "base/log.h"
#include "wire/errors.h"
#include "wire/frame.h"
#include "wire/message.h"
#include "wire/reader.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/un.h>

#define LOGIN_MESSAGE_MAX (1u << 20)

static const struct slice alpn_postgresql = {(const uint8_t *)"\x0apostgresql", 11};

struct link_login {
	struct link *link;
	struct loop *loop;
	struct link_target *target;
	struct server_auth *auth;
	bool authenticated;
	bool asks_connect_query; /* logged in, and connect_query is under way */
	bool tried_otherwise;    /* this is the second attempt, see try_otherwise() */
	struct buf first_error;  /* ErrorResponse of the first one; empty: it was not the server's */
	struct timer again;      /* it begins to connect (anew) */
	struct timer share;      /* the address has had its share of the time */
	char tried[400];         /* see link_failure; "": nothing failed */
};

/* ---- the target ---- */

struct link_target *link_target_copy(const struct link_target *from)
{
	struct link_target *t = calloc(1, sizeof(*t));
	struct secret *secret = from->secret ? calloc(1, sizeof(*secret)) : NULL;

	if (!t)
		goto fail;
	*t = *from;
	t->host = strdup(from->host ? from->host : "");
	t->user = strdup(from->user);
	t->database = strdup(from->database);
	t->replication = from->replication ? strdup(from->replication) : NULL;
	t->connect_query = from->connect_query ? strdup(from->connect_query) : NULL;
	t->tls = tls_context_ref(from->tls);
	t->secret = secret;
	if (!t->host || !t->user || !t->database || (from->replication && !t->replication) ||
	    (from->connect_query && !t->connect_query) ||
	    (from->secret && (!secret || secret_copy(from->secret, secret) < 0))) {
		link_target_free(t);
		return NULL;
	}
	return t;
fail:
	free(secret);
	return NULL;
}

void link_target_free(struct link_target *t)
{
	if (!t)
		return;
	if (t->secret) {
		secret_wipe((struct secret *)(uintptr_t)t->secret);
		free((struct secret *)(uintptr_t)t->secret);
	}
	tls_context_unref(t->tls);
	free((char *)(uintptr_t)t->host);
	free((char *)(uintptr_t)t->user);
	free((char *)(uintptr_t)t->database);
	free((char *)(uintptr_t)t->replication);
	free((char *)(uintptr_t)t->connect_query);
	free(t);
}

int link_target_connect(const struct link_target *t, struct conn *conn, struct loop *loop)
{
	int r = conn_connect(conn, loop, link_target_address(t), t->address_lens[t->address_at]);

	if (r == 0 && link_target_address(t)->sa_family != AF_UNIX)
		socket_set_options(conn->fd, t->keepalive, t->user_timeout);
	return r;
}

static bool target_wants_tls(const struct link_target *t)
{
	/* as libpq: never over a unix socket */
	return t->tls && t->tls_mode >= TLS_PREFER && link_target_address(t)->sa_family != AF_UNIX;
}

enum encrypt_step link_target_encrypt(const struct link_target *t, struct conn *conn)
{
	struct buf out = BUF_INIT(64);

	if (!target_wants_tls(t))
		return t->tls_mode > TLS_PREFER && link_target_address(t)->sa_family != AF_UNIX ? ENCRYPT_FAILED
												: ENCRYPT_NOT_NEEDED;
	if (t->tls_direct)
		return conn_start_tls(conn, t->tls, /* accepting= */ false, t->host, alpn_postgresql) < 0
			       ? ENCRYPT_FAILED
			       : ENCRYPT_STARTED;
	message_ssl_request(&out);
	conn_send(conn, out.bytes, out.len);
	buf_free(&out);
	return ENCRYPT_ASKED;
}

enum encrypt_step link_target_encrypt_answer(const struct link_target *t, struct conn *conn, uint8_t answer)
{
	if (answer == 'S')
		return conn_start_tls(conn, t->tls, /* accepting= */ false, t->host, alpn_postgresql) < 0
			       ? ENCRYPT_FAILED
			       : ENCRYPT_STARTED;
	return answer == 'N' && t->tls_mode == TLS_PREFER ? ENCRYPT_NOT_NEEDED : ENCRYPT_FAILED;
}

/* ---- failing ---- */

static void fail_with(struct link *link, const uint8_t *error, size_t len, const char *what, bool from_server,
		      bool wants_password)
{
	struct link_failure failure = {.error = error,
				       .error_len = len,
				       .from_server = from_server,
				       .wants_password = wants_password,
				       .what = what,
				       .tried = *link->login->tried ? link->login->tried : NULL};
	struct error_fields fields = {0};

	if (len > FRAME_HEADER && message_read_error(error + FRAME_HEADER, len - FRAME_HEADER, &fields) &&
	    fields.sqlstate.len == 5)
		memcpy(failure.sqlstate, fields.sqlstate.bytes, 5);
	conn_close(&link->conn);
	link->events->failed(link, &failure);
	link_bury(link);
}

static void fail_own(struct link *link, enum proxy_error error, const char *what, const char *why, bool wants_password)
{
	const struct link_target *t = link->login->target;
	const struct buf *first = &link->login->first_error;
	struct buf out = BUF_INIT(4096);

	if (first->len) { /* the server's own words say more than ours of the second attempt */
		fail_with(link, first->bytes, first->len, what, /* from_server= */ true, wants_password);
		return;
	}
	log_debug("server login failed", kv_str("host", t->host), kv_uint("port", t->port), kv_str("why", why));
	error_message(&out, error, why, "unexpected message");
	fail_with(link, out.bytes, out.len, what, false, wants_password);
	buf_free(&out);
}

/* ---- connecting ---- */

/* "127.0.0.1:5432: Connection refused", behind what failed before. */
static void note_failure(struct link_login *login, const char *why)
{
	const struct link_target *t = login->target;
	const struct sockaddr *a = link_target_address(t);
	char text[INET6_ADDRSTRLEN] = "";
	size_t at = strlen(login->tried), left = sizeof(login->tried) - at;
	const char *comma = at ? ", " : "";

	if (a->sa_family == AF_INET6)
		inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)a)->sin6_addr, text, sizeof(text));
	else if (a->sa_family == AF_INET)
		inet_ntop(AF_INET, &((const struct sockaddr_in *)a)->sin_addr, text, sizeof(text));
	if (a->sa_family == AF_UNIX)
		snprintf(login->tried + at, left, "%s%s: %s", comma, ((const struct sockaddr_un *)a)->sun_path, why);
	else
		snprintf(login->tried + at, left, a->sa_family == AF_INET6 ? "%s[%s]:%u: %s" : "%s%s:%u: %s", comma,
			 text, t->port, why);
}

/* Begins to connect to the address of now, or to the first one behind it where that can be begun. What is left of the
 * time is shared out among the addresses, so that a silent one leaves some to the others. 0 or -errno. */
static int connect_from_here(struct link *link)
{
	struct link_login *login = link->login;
	struct link_target *t = login->target;
	int r = -EHOSTUNREACH;

	for (; t->address_at < t->address_count; t->address_at++) {
		usec_t now = clock_now();

		conn_init(&link->conn, &link_login_conn_ops);
		link->conn.loop = login->loop;
		link->conn.thaws_first = true; /* who is given it then knows that it was lost */
		r = link_target_connect(t, &link->conn, login->loop);
		if (r == 0 && t->address_at + 1 < t->address_count && t->deadline > now)
			timer_set(loop_timers(login->loop), &login->share,
				  now + (t->deadline - now) / (t->address_count - t->address_at));
		if (r == 0)
			return 0;
		note_failure(login, strerror(-r));
	}
	return r;
}

static void fail_to_connect(struct link *link, const char *why)
{
	timer_cancel(&link->login->share);
	link->login->target->address_at = link->login->target->address_count - 1; /* the last one that was tried */
	fail_own(link, ERROR_SERVER_CONNECT_FAILED, "connect", why, false);
}

/* No connection can be made to the address of now; conn is closed. */
static void try_next_address(struct link *link, const char *why)
{
	struct link_login *login = link->login;
	int r = 0;

	timer_cancel(&login->share);
	note_failure(login, why);
	if (++login->target->address_at < login->target->address_count) {
		r = connect_from_here(link);
		if (r == 0)
			return;
		why = strerror(-r);
	}
	fail_to_connect(link, why);
}

static void share_is_over(struct timer *timer)
{
	struct link_login *login = container_of(timer, struct link_login, share);

	conn_close(&login->link->conn);
	try_next_address(login->link, strerror(ETIMEDOUT));
}

static void begin_again(struct timer *timer)
{
	struct link_login *login = container_of(timer, struct link_login, again);
	int r = connect_from_here(login->link);

	if (r < 0)
		fail_to_connect(login->link, strerror(-r));
}

/* ---- once more, otherwise ---- */

/*
 * As libpq does: allow is plain first, and TLS when the server refuses that; prefer is TLS first, and plain when the
 * handshake fails or the server refuses. Only a refusal of the kind of connection (28000, no matching entry in
 * pg_hba.conf) counts: a wrong password would be as wrong the second time, and lock an account sooner.
 * error: the server's, or none. true: the link begins anew.
 */
static bool try_otherwise(struct link *link, const uint8_t *error, size_t len)
{
	struct link_login *login = link->login;
	struct link_target *t = login->target;
	struct error_fields fields = {0};
	bool encrypted = link->state == LINK_ENCRYPTING || conn_is_tls(&link->conn);

	if (login->tried_otherwise || login->authenticated || !t->tls || link_target_address(t)->sa_family == AF_UNIX ||
	    t->tls_mode != (encrypted ? TLS_PREFER : TLS_ALLOW))
		return false;
	if (error && (!message_read_error(error + FRAME_HEADER, len - FRAME_HEADER, &fields) ||
		      !slice_equal(fields.sqlstate, SLICE_LITERAL("28000"))))
		return false;
	login->tried_otherwise = true;
	t->tls_mode = encrypted ? TLS_DISABLE : TLS_REQUIRE;
	if (error)
		buf_add(&login->first_error, error, len);
	server_auth_free(login->auth);
	login->auth = NULL;
	conn_close(&link->conn);
	link_set_state(link, LINK_CONNECTING);
	/* not from here: we may be inside of a callback of the connection */
	timer_set(loop_timers(login->loop), &login->again, clock_now() + USEC_PER_MSEC);
	return true;
}

static void login_timeout(struct timer *timer)
{
	struct link *link = container_of(timer, struct link, timer);

	if (!link->login)
		return;
	timer_cancel(&link->login->share);
	if (link->state == LINK_CONNECTING)
		note_failure(link->login, strerror(ETIMEDOUT));
	fail_own(link, ERROR_SERVER_CONNECT_FAILED, "connect", "connect_timeout has passed", false);
}

/* ---- the steps ---- */

static void send_startup(struct link *link)
{
	const struct link_target *t = link->login->target;
	const char *names[3] = {"user", "database"}, *values[3] = {t->user, t->database};
	size_t count = 2;
	struct buf out = BUF_INIT(65536);

	if (t->replication) {
		names[count] = "replication";
		values[count++] = t->replication;
	}
	message_startup(&out, /* minor= */ 0, names, values, count);
	if (out.failed) {
		fail_own(link, ERROR_SERVER_CONNECT_FAILED, "login", "out of memory, or the names are too long", false);
		return;
	}
	link_set_state(link, LINK_LOGGING_IN);
	conn_send(&link->conn, out.bytes, out.len);
	buf_free(&out);
}

static void after_encrypt_step(struct link *link, enum encrypt_step step)
{
	switch (step) {
	case ENCRYPT_NOT_NEEDED:
		send_startup(link);
		break;
	case ENCRYPT_ASKED:
	case ENCRYPT_STARTED:
		if (link->state != LINK_ENCRYPTING)
			link_set_state(link, LINK_ENCRYPTING);
		break;
	case ENCRYPT_FAILED:
		fail_own(link, ERROR_SERVER_CONNECT_FAILED, "tls",
			 "the server does not do TLS, and server_tls.mode asks for it", false);
		break;
	}
}

static void login_ready(struct conn *conn)
{
	struct link *link = container_of(conn, struct link, conn);

	timer_cancel(&link->login->share);
	if (link->state == LINK_CONNECTING)
		after_encrypt_step(link, link_target_encrypt(link->login->target, conn));
	else
		send_startup(link); /* the handshake is done */
}

static bool begin_auth(struct link *link)
{
	const struct link_target *t = link->login->target;
	uint8_t end_point[64];
	size_t len = conn_is_tls(&link->conn) ? conn_tls_end_point(&link->conn, end_point, sizeof(end_point)) : 0;

	link->login->auth = server_auth_new(t->user, t->secret, slice_make(end_point, len), conn_is_tls(&link->conn));
	return link->login->auth != NULL;
}

/* false: the link has failed and is gone. */
static bool authentication(struct link *link, const struct frame *f)
{
	struct link_login *login = link->login;
	struct buf out = BUF_INIT(LOGIN_MESSAGE_MAX);
	const char *why = "out of memory";
	enum auth_step step = AUTH_FAILED;

	if (login->auth || begin_auth(link))
		step = server_auth_message(login->auth, f->body, f->body_len, &out, &why);
	if (out.failed)
		step = AUTH_FAILED;
	if (step == AUTH_CONTINUE && out.len)
		conn_send(&link->conn, out.bytes, out.len);
	buf_free_secret(&out);
	if (step == AUTH_DONE)
		login->authenticated = true;
	if (step == AUTH_FAILED)
		fail_own(link, ERROR_SERVER_LOGIN_FAILED, "login", why,
			 !login->target->secret || login->target->secret->kind == SECRET_NONE);
	else if (step == AUTH_MALFORMED)
		fail_own(link, ERROR_SERVER_PROTOCOL, "login", "malformed authentication message", false);
	return step == AUTH_CONTINUE || step == AUTH_DONE;
}

static bool backend_key(struct link *link, const struct frame *f)
{
	if (f->body_len < 5 || f->body_len - 4 > sizeof(link->key))
		return false;
	link->backend_pid = get_be32(f->body);
	link->key_len = (uint8_t)(f->body_len - 4);
	memcpy(link->key, f->body + 4, link->key_len);
	return true;
}

/* ---- connect_query ---- */

static void ask_connect_query(struct link *link)
{
	struct buf out = BUF_INIT(1u << 20);

	message_query(&out, slice_str(link->login->target->connect_query));
	if (out.failed) {
		buf_free(&out);
		fail_own(link, ERROR_SERVER_LOGIN_FAILED, "connect_query",
			 "out of memory, or connect_query is too long", false);
		return;
	}
	link->login->asks_connect_query = true;
	conn_send(&link->conn, out.bytes, out.len);
	buf_free(&out);
}

static bool wants_connect_query(const struct link_login *login)
{
	const struct link_target *t = login->target;

	return t->connect_query && *t->connect_query && !t->replication && !login->asks_connect_query;
}

/* One message of its answer, of a kind that a login does not have. */
static bool connect_query_message(struct link *link, const struct frame *f)
{
	switch (f->type) {
	case 'T':
	case 'D':
	case 'C':
	case 'I':
	case 'A':
		return true;
	case 'Z':
		fail_own(link, ERROR_SERVER_LOGIN_FAILED, "connect_query", "connect_query leaves a transaction open",
			 false);
		return false;
	default:
		fail_own(link, ERROR_SERVER_LOGIN_FAILED, "connect_query", "connect_query must not copy", false);
		return false;
	}
}

static void logged_in(struct link *link)
{
	timer_cancel(&link->timer);
	link->conn.ops = &link_conn_ops;
	link->used_password = strcmp(server_auth_method(link->login->auth), "trust") != 0;
	log_debug("authenticated by the server", kv_uint("link", link->id),
		  kv_str("method", server_auth_method(link->login->auth)),
		  kv_str("tls", conn_tls_version(&link->conn)));
	link_set_state(link, LINK_IDLE);
	link_login_end(link);
	link->events->logged_in(link); /* it may be another thread's behind this: nothing may look at it any more */
}

/* One message of the server while logging in. false: it failed, or is in use, maybe by another thread: not to be looked
 * at. */
static bool login_message(void *to, const struct frame *f)
{
	struct link *link = to;
	const uint8_t *whole = f->body - FRAME_HEADER;

	switch (f->type) {
	case 'R':
		if (!link->login->authenticated)
			return authentication(link, f);
		break;
	case 'S':
		if (link->login->authenticated && link_parameter_status(link, f->body, f->body_len))
			return true;
		break;
	case 'K':
		if (link->login->authenticated && backend_key(link, f))
			return true;
		break;
	case 'N':
	case 'v':
		return true;
	case 'E':
		if (!try_otherwise(link, whole, frame_size(f)))
			fail_with(link, whole, frame_size(f),
				  link->login->asks_connect_query ? "connect_query" : "login",
				  /* from_server= */ true, false);
		return false;
	case 'Z':
		if (!link->login->authenticated || f->body_len != 1 || f->body[0] != 'I')
			break;
		if (wants_connect_query(link->login)) {
			ask_connect_query(link);
			return link->state != LINK_CLOSED;
		}
		logged_in(link);
		return false; /* the bytes behind belong to the other ops */
	}
	if (link->login->asks_connect_query)
		return connect_query_message(link, f);
	fail_own(link, ERROR_SERVER_PROTOCOL, "login", "unexpected or malformed message while logging in", false);
	return false;
}

static size_t login_received(struct conn *conn, uint8_t *bytes, size_t len)
{
	struct link *link = container_of(conn, struct link, conn);
	size_t done;

	if (link->state == LINK_ENCRYPTING) {
		if (len != 1 && bytes[0] == 'S') { /* bytes sent ahead of the handshake: CVE-2021-23222 */
			fail_own(link, ERROR_SERVER_PROTOCOL, "tls",
				 "unencrypted bytes behind the answer to SSLRequest", false);
			return len;
		}
		after_encrypt_step(link, link_target_encrypt_answer(link->login->target, conn, bytes[0]));
		return link->state == LINK_CLOSED ? len : 1;
	}
	if (frames_take(bytes, len, LOGIN_MESSAGE_MAX, login_message, link, &done))
		return done;
	fail_own(link, ERROR_SERVER_PROTOCOL, "login", "a message with an impossible length", false);
	return len;
}

static void login_closed(struct conn *conn, int error)
{
	struct link *link = container_of(conn, struct link, conn);
	const char *why = error == -EPROTO && *conn_tls_error(conn) ? conn_tls_error(conn)
			  : error                                   ? strerror(-error)
				  : "the server closed the connection while logging in";

	if (link->state == LINK_ENCRYPTING && conn_is_tls(conn) && try_otherwise(link, NULL, 0))
		return;
	if (link->state == LINK_CONNECTING)
		try_next_address(link, why);
	else
		fail_own(link, ERROR_SERVER_CONNECT_FAILED, "login", why, false);
}

const struct conn_ops link_login_conn_ops = {
	.received = login_received,
	.closed = login_closed,
	.ready = login_ready,
};

int link_login_begin(struct link *link, struct loop *loop, const struct link_target *target)
{
	timer_init(&link->timer, login_timeout);
	link->login = calloc(1, sizeof(*link->login));
	if (!link->login)
		return -ENOMEM;
	link->login->link = link;
	link->login->loop = loop;
	buf_init(&link->login->first_error, LOGIN_MESSAGE_MAX + FRAME_HEADER);
	timer_init(&link->login->again, begin_again);
	timer_init(&link->login->share, share_is_over);
	link->login->target = link_target_copy(target);
	if (!link->login->target)
		return -ENOMEM;
	link->conn.loop = loop;
	if (connect_from_here(link) < 0) { /* tried once more, and failed, by the timer: not from inside of this call */
		link->login->target->address_at = target->address_at;
		link->login->tried[0] = 0;
		timer_set(loop_timers(loop), &link->login->again, clock_now());
	}
	return 0;
}

void link_login_end(struct link *link)
{
	if (!link->login)
		return;
	timer_cancel(&link->login->again);
	timer_cancel(&link->login->share);
	server_auth_free(link->login->auth);
	link_target_free(link->login->target);
	buf_free(&link->login->first_error);
	free(link->login);
	link->login = NULL;
}
