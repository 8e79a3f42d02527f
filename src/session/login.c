/*
 * Logging in a client: access rules, authentication, and the welcome. It takes no link, but when nobody has logged in
 * with such settings before: then a link is asked, once, what the server makes of them.
 * https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP
 */
#include "session/login_priv.h"

#include "base/log.h"
#include "base/map.h"
#include "config/ident.h"
#include "config/userlist.h"

#include <ctype.h>
#include <openssl/rand.h>

#define PASSWORD_MESSAGE_MAX (65536u + 64u)

/* ---- the startup packet's parameters ---- */

static bool is_listed(const struct config_strings *list, const char *name)
{
	for (uint32_t i = 0; i < list->count; i++)
		if (strcasecmp(list->items[i], name) == 0)
			return true;
	return false;
}

/* Names of parameters are case-insensitive; ours are in lower case. */
static void lower(char *to, size_t size, const char *from)
{
	size_t i;

	for (i = 0; i + 1 < size && from[i]; i++)
		to[i] = (char)tolower((unsigned char)from[i]);
	to[i] = 0;
}

static int add_setting(void *to, const char *name, const char *value)
{
	struct session *s = to;
	char canonical[64];
	char *sql;

	lower(canonical, sizeof(canonical), name);
	if (is_listed(&s->worker->settings.config->pool.ignore_startup_parameters, canonical))
		return 0;
	sql = settings_sql(canonical, value);
	if (!sql)
		return -ENOMEM;
	params_set(&s->settings, canonical, sql);
	free(sql);
	if (strcmp(canonical, "application_name") == 0) {
		free(s->application);
		s->application = strdup(value);
	}
	return 0;
}

static bool wants_replication(const char *value)
{
	static const char *const no[] = {"false", "off", "no", "0", "f", "n"};

	for (size_t i = 0; i < ARRAY_SIZE(no); i++)
		if (strcasecmp(value, no[i]) == 0)
			return false;
	return true;
}

static bool take_parameter(struct session *s, const char *name, const char *value)
{
	struct session_login *l = s->login;
	char bad[100] = "";

	if (strcmp(name, "user") == 0 || strcmp(name, "database") == 0)
		return true;
	if (strcmp(name, "replication") == 0) {
		l->replication = wants_replication(value) ? strdup(value) : NULL;
		return true;
	}
	if (strcmp(name, "options") != 0)
		return add_setting(s, name, value) == 0;
	if (startup_split_options(value, add_setting, s, bad, sizeof(bad)) == 0)
		return true;
	session_fatal(s, ERROR_INVALID_OPTION, NULL, strncmp(bad, "--", 2) == 0 ? "" : "invalid command-line argument for server process: ", bad,
	              strncmp(bad, "--", 2) == 0 ? " requires a value" : "");
	return false;
}

/* application_name can't be wrong and is the server's as it is, if it is plain: then it is no part of the key. */
static bool is_plain_name(const char *name)
{
	size_t i;

	for (i = 0; name[i]; i++)
		if (name[i] < 32 || name[i] > 126)
			return false;
	return i < 64;
}

static bool take_parameters(struct session *s, const struct startup *p)
{
	struct session_login *l = s->login;

	for (uint32_t i = 0; i < p->parameter_count; i++)
		if (!take_parameter(s, (const char *)p->parameters[i].name.bytes, (const char *)p->parameters[i].value.bytes))
			return false;
	params_assign(&s->startup_settings, s->settings);
	l->welcome_key = s->application && is_plain_name(s->application)
	                         ? params_with(s->settings, "application_name", NULL)
	                         : params_ref(s->settings);
	return true;
}

/* ---- rules ---- */

static bool admitted(struct session *s, const struct hba *rules, const struct hba_rule **ret_rule)
{
	struct session_login *l = s->login;
	struct sockaddr_storage address = {.ss_family = AF_UNIX};
	socklen_t len = sizeof(address);
	struct hba_query q = {
		.address = (struct sockaddr *)&address, .tls = conn_is_tls(&s->conn), .database = l->database, .user = l->user,
		.replication = l->replication && strcasecmp(l->replication, "database") != 0,
	};

	if (getpeername(s->conn.fd, (struct sockaddr *)&address, &len) < 0)
		return false;
	*ret_rule = hba_match(rules, &q);
	return (*ret_rule)->method != AUTH_REJECT;
}

static bool is_unix(const struct session *s)
{
	return s->address == 0 && s->port == 0;
}

static bool check_rules(struct session *s)
{
	struct session_login *l = s->login;
	const struct config *c = l->config;
	const struct hba_rule *admission;

	if (c->tls.mode >= TLS_REQUIRE && !conn_is_tls(&s->conn) && !is_unix(s)) {
		session_fatal(s, ERROR_TLS_REQUIRED, NULL);
		return false;
	}
	if ((c->admission && !admitted(s, c->admission, &admission)) || (c->hba && !admitted(s, c->hba, &l->rule))) {
		session_fatal(s, ERROR_HBA_REJECT, NULL, l->user, l->database,
		              conn_is_tls(&s->conn) ? "SSL encryption" : "no encryption");
		return false;
	}
	return true;
}

static enum auth_method method_of(const struct session_login *l)
{
	static const enum auth_method methods[] = {
		[AUTH_MODE_PASSTHROUGH] = AUTH_PASSWORD, [AUTH_MODE_TRUST] = AUTH_TRUST, [AUTH_MODE_PASSWORD] = AUTH_PASSWORD,
		[AUTH_MODE_MD5] = AUTH_MD5, [AUTH_MODE_SCRAM] = AUTH_SCRAM, [AUTH_MODE_CERT] = AUTH_CERT,
	};

	return l->rule ? l->rule->method : methods[l->config->auth.mode];
}

/* ---- the beginning and the end ---- */

int login_begin(struct session *s, const struct startup *p)
{
	const char *user = startup_get(p, "user"), *database = startup_get(p, "database");
	struct session_login *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	s->login = l;
	l->config = s->worker->settings.config;
	if (!user || !*user) {
		session_fatal(s, ERROR_NO_USER, NULL);
		return 0;
	}
	l->user = strdup(user);
	l->database = strdup(database && *database ? database : user);
	if (!l->user || !l->database)
		return -ENOMEM;
	if (!take_parameters(s, p)) {
		session_fatal(s, ERROR_OUT_OF_MEMORY, NULL); /* does nothing when the reason was told already */
		return 0;
	}
	if (!check_rules(s))
		return 0;
	l->method = method_of(l);
	session_set_state(s, SESSION_AUTH);
	if (!l->rule && l->config->auth.mode == AUTH_MODE_PASSTHROUGH)
		passthrough_begin(s);
	else
		login_find_secret(s);
	return 0;
}

/* What was looked up in the old configuration is looked up in the new one: it may reject now. */
void login_reloaded(struct session *s)
{
	s->login->config = s->worker->settings.config;
	s->login->rule = NULL;
	if (s->login->user)
		(void)!check_rules(s);
}

void login_end(struct session *s)
{
	struct session_login *l = s->login;

	if (!l)
		return;
	if (l->query)
		auth_query_forget(l->query);
	client_auth_free(l->auth);
	secret_wipe(&l->secret);
	params_unref(l->welcome_key);
	free(l->user);
	free(l->database);
	free(l->replication);
	free(l);
	s->login = NULL;
}

void login_failed(struct session *s)
{
	session_fatal(s, ERROR_PASSWORD_FAILED, NULL, s->login->user);
}

/* ---- methods that the proxy decides ---- */

static void check_certificate(struct session *s)
{
	struct session_login *l = s->login;
	bool by_dn = l->rule && l->rule->client_name == CLIENT_NAME_DN;
	char name[1024];
	size_t len = !conn_is_tls(&s->conn) ? 0
	             : by_dn ? conn_tls_peer_dn(&s->conn, name, sizeof(name))
	                     : conn_tls_peer_cn(&s->conn, name, sizeof(name));

	if (len == 0) {
		session_fatal(s, ERROR_CERT_REQUIRED, NULL);
		return;
	}
	if (!ident_allows(l->config->ident, l->rule ? l->rule->map : "", name, l->user)) {
		session_fatal(s, ERROR_CERT_USER_MISMATCH, NULL, l->user, name);
		return;
	}
	login_authenticated(s);
}

static bool may_ask_in_clear(const struct session *s)
{
	const uint8_t *ip = (const uint8_t *)&s->address;

	return conn_is_tls(&s->conn) || is_unix(s) || ip[0] == 127 || s->login->config->auth.allow_cleartext ||
	       session_is_loopback6(s);
}

bool login_refuses_clear_text(struct session *s)
{
	if (may_ask_in_clear(s))
		return false;
	session_fatal(s, ERROR_CLEARTEXT_REFUSED, NULL);
	return true;
}

static void exchange_step(struct session *s, enum auth_step step, struct buf *out)
{
	if (out->failed) {
		buf_free_secret(out);
		session_fatal(s, ERROR_OUT_OF_MEMORY, NULL);
		return;
	}
	if (out->len)
		conn_send(&s->conn, out->bytes, out->len);
	buf_free_secret(out);
	if (step == AUTH_DONE)
		login_authenticated(s);
	else if (step == AUTH_FAILED)
		login_failed(s);
	else if (step == AUTH_MALFORMED)
		session_fatal(s, ERROR_PROTOCOL_VIOLATION, "malformed authentication message");
}

static void begin_exchange(struct session *s)
{
	struct session_login *l = s->login;
	uint8_t end_point[64];
	size_t len = conn_is_tls(&s->conn) ? conn_tls_end_point(&s->conn, end_point, sizeof(end_point)) : 0;
	struct buf out = BUF_INIT(65536);

	l->phase = LOGIN_EXCHANGE;
	l->auth = client_auth_new(l->method, l->user, &l->secret, s->worker->shared->mock_key, slice_make(end_point, len),
	                          conn_is_tls(&s->conn));
	if (!l->auth) {
		session_fatal(s, ERROR_OUT_OF_MEMORY, NULL);
		return;
	}
	exchange_step(s, client_auth_begin(l->auth, &out), &out);
}

static void have_secret(struct session *s)
{
	struct session_login *l = s->login;

	if (l->rule && l->rule->client_cert != CLIENT_CERT_NONE && l->method != AUTH_CERT) {
		char name[1024];

		if (!conn_is_tls(&s->conn) || conn_tls_peer_dn(&s->conn, name, sizeof(name)) == 0) {
			session_fatal(s, ERROR_CERT_REQUIRED, NULL);
			return;
		}
	}
	if (l->method == AUTH_TRUST)
		login_authenticated(s);
	else if (l->method == AUTH_CERT)
		check_certificate(s);
	else if (l->method != AUTH_PASSWORD || !login_refuses_clear_text(s))
		begin_exchange(s);
}

static void auth_query_done(struct session *s, const struct secret *secret, const char *error)
{
	struct session_login *l = s->login;

	l->query = NULL;
	if (error)
		session_log(LOG_WARN, s, "auth_query failed; the user counts as unknown", error);
	if (secret_copy(secret, &l->secret) < 0)
		session_fatal(s, ERROR_OUT_OF_MEMORY, NULL);
	else
		have_secret(s);
}

void login_find_secret(struct session *s)
{
	struct session_login *l = s->login;
	const struct secret *known = userlist_get(l->config->userlist, l->user);
	const struct config_auth *auth = &l->config->auth;

	if (l->method == AUTH_TRUST && !known) {
		have_secret(s); /* none is needed */
	} else if (known) {
		if (secret_copy(known, &l->secret) < 0)
			session_fatal(s, ERROR_OUT_OF_MEMORY, NULL);
		else
			have_secret(s);
	} else if (*auth->auth_user && strcmp(auth->auth_user, l->user) != 0) {
		l->phase = LOGIN_AUTH_QUERY;
		l->query = auth_query_begin(s->worker, *auth->auth_database ? auth->auth_database : l->database, l->user,
		                            auth_query_done, s);
		if (!l->query)
			session_fatal(s, ERROR_OUT_OF_MEMORY, NULL);
	} else {
		have_secret(s); /* of kind NONE: the exchange goes to its end, and fails there */
	}
}

size_t login_received(struct session *s, uint8_t *bytes, size_t len)
{
	struct session_login *l = s->login;
	struct frame f = {0};
	enum frame_result r = frame_read(bytes, len, &f);
	struct buf out = BUF_INIT(65536);

	if (l->phase != LOGIN_EXCHANGE && l->phase != LOGIN_PASSWORD)
		return 0; /* it is our turn */
	if (r == FRAME_BAD || (r != FRAME_SHORT && (f.type != 'p' || f.body_len > PASSWORD_MESSAGE_MAX))) {
		session_fatal(s, ERROR_PROTOCOL_VIOLATION, "expected a password or SASL message");
		return len;
	}
	if (r != FRAME_WHOLE)
		return 0;
	if (l->phase == LOGIN_PASSWORD)
		passthrough_password(s, &f);
	else
		exchange_step(s, client_auth_answer(l->auth, f.body, f.body_len, &out), &out);
	wipe(bytes, frame_size(&f));
	return s->state == SESSION_CLOSED ? len : frame_size(&f);
}

/* ---- authenticated ---- */

/* What the client has proven is what the proxy logs in to servers with. */
static void offer_secret(struct session *s)
{
	struct session_login *l = s->login;
	struct secret offer = {0};
	const char *password = l->auth ? client_auth_password(l->auth) : NULL;
	const struct scram_keys *keys = l->auth ? client_auth_keys(l->auth) : NULL;

	if (l->secret.kind == SECRET_PLAIN) {
		pool_offer_secret(session_pool(s), &l->secret);
	} else if (password && secret_parse(password, &offer) == 0) {
		offer.kind = SECRET_PLAIN; /* a password may look like a verifier, and be none */
		pool_offer_secret(session_pool(s), &offer);
	} else if (keys && keys->has_client_key) {
		offer.kind = SECRET_SCRAM;
		offer.keys = *keys;
		offer.keys_derived = true;
		pool_offer_secret(session_pool(s), &offer);
	} else if (l->secret.kind == SECRET_MD5) {
		pool_offer_secret(session_pool(s), &l->secret);
	}
	secret_wipe(&offer);
}

bool login_find_pool(struct session *s)
{
	struct session_login *l = s->login;
	struct pool *pool;
	int r = pool_find(s->worker->pool_thread.pools, l->database, l->user, &pool);

	if (r == 0) {
		s->shard = pool_shard(pool, &s->worker->pool_thread);
		if (s->shard)
			return true;
		pool_unref(pool);
		r = -ENOMEM;
	}
	if (r == -ENOENT)
		session_fatal(s, ERROR_NO_SUCH_DATABASE, NULL, l->database);
	else if (r == -EHOSTDOWN)
		session_fatal(s, ERROR_NO_NODE, NULL);
	else
		session_fatal(s, ERROR_OUT_OF_MEMORY, NULL);
	return false;
}

void login_authenticated(struct session *s)
{
	if (!s->shard && !login_find_pool(s))
		return;
	offer_secret(s);
	login_welcome(s);
}

/* ---- the welcome ---- */

static void make_secret(struct session *s)
{
	if (RAND_bytes(s->secret, sizeof(s->secret)) != 1)
		session_fatal(s, ERROR_OUT_OF_MEMORY, NULL);
}

static void send_parameters(struct buf *out, const struct params *reported)
{
	for (uint32_t i = 0; i < params_count(reported); i++) {
		const char *name, *value;

		params_at(reported, i, &name, &value);
		message_parameter_status(out, name, value);
	}
}

static void welcome(struct session *s, const struct params *reported)
{
	struct buf out = BUF_INIT(1u << 20);

	params_assign(&s->reported, reported);
	if (s->application && s->login->welcome_key != s->settings)
		params_set(&s->reported, "application_name", s->application);
	make_secret(s);
	if (s->state == SESSION_CLOSED)
		return;
	message_auth_ok(&out);
	send_parameters(&out, s->reported);
	message_backend_key(&out, session_pid(s), slice_make(s->secret, s->long_key ? 32 : 4));
	if (!s->login->replication)
		message_ready(&out, 'I');
	else
		message_ready(&out, s->link->tx_status);
	if (out.failed) {
		buf_free(&out);
		session_fatal(s, ERROR_OUT_OF_MEMORY, NULL);
		return;
	}
	session_send_buf(s, &out);
	s->logged = true;
	count_add(&session_counters(s)->logins_total, 1);
	session_set_state(s, s->login->replication ? SESSION_REPLICATION : SESSION_IDLE);
	session_set_timer(s, TIMER_IDLE, s->login->replication ? 0 : session_settings(s)->client_idle_timeout);
	if (s->login->config->log.connections)
		session_log(LOG_INFO, s, "client logged in", conn_is_tls(&s->conn) ? conn_tls_version(&s->conn) : NULL);
	login_end(s);
	conn_resume(&s->conn); /* it may have sent its first query already */
}

static void begin_replication(struct session *s)
{
	int r = pool_open_replication(s->shard, s->login->replication, &s->waiter);

	if (r == -EAGAIN)
		session_fatal(s, ERROR_TOO_MANY_WAITING, NULL);
	else if (r < 0)
		session_fatal(s, ERROR_SERVER_CONNECT_FAILED, strerror(-r));
}

void login_welcome(struct session *s)
{
	struct session_login *l = s->login;
	const struct params *reported;
	struct link *link;

	if (s->state != SESSION_WELCOMING)
		session_set_state(s, SESSION_WELCOMING);
	l->phase = LOGIN_WELCOME;
	if (l->replication) {
		begin_replication(s);
		return;
	}
	if (pool_welcome_get(session_pool(s), l->welcome_key, &reported)) {
		welcome(s, reported);
		params_unref(reported);
		return;
	}
	link = pool_take(s->shard);
	if (link)
		login_link_granted(s, link);
	else if (!pool_wait(s->shard, &s->waiter))
		session_fatal(s, ERROR_TOO_MANY_WAITING, NULL);
}

void login_link_granted(struct session *s, struct link *link)
{
	if (s->login->phase == LOGIN_LEARNING || s->login->phase == LOGIN_TRYING) {
		passthrough_granted(s, link);
		return;
	}
	s->link = link;
	s->mode = POOL_MODE_TRANSACTION;
	link_lend(link, &session_link_ops, s);
	if (s->login->replication) {
		link->close_when_free = true;
		welcome(s, link->reported);
	} else if (settings_sync(s) && s->state == SESSION_WELCOMING && !s->syncing) {
		login_settings_done(s, NULL, 0);
	}
}

void login_settings_done(struct session *s, const uint8_t *error, size_t len)
{
	struct error_fields e = {0};
	struct buf out = BUF_INIT(65536);

	if (!error) {
		const struct params *reported = params_ref(s->link->reported);

		pool_welcome_put(session_pool(s), s->login->welcome_key, reported);
		session_release(s);
		welcome(s, reported);
		params_unref(reported);
		return;
	}
	session_release(s);
	if (message_read_error(error + FRAME_HEADER, len - FRAME_HEADER, &e)) {
		char sqlstate[6] = "XX000", message[1024], detail[512], hint[512];

		if (e.sqlstate.len == 5)
			memcpy(sqlstate, e.sqlstate.bytes, 5);
		snprintf(message, sizeof(message), "%.*s", (int)MIN(e.message.len, 1000u), (const char *)e.message.bytes);
		snprintf(detail, sizeof(detail), "%.*s", (int)MIN(e.detail.len, 500u), (const char *)e.detail.bytes);
		snprintf(hint, sizeof(hint), "%.*s", (int)MIN(e.hint.len, 500u), (const char *)e.hint.bytes);
		message_error(&out, "FATAL", sqlstate, message, *detail ? detail : NULL, *hint ? hint : NULL);
		session_fatal_bytes(s, out.bytes, out.failed ? 0 : out.len, message);
	} else {
		session_fatal(s, ERROR_SERVER_PROTOCOL, "malformed error");
	}
	buf_free(&out);
}

void login_link_failed(struct session *s, const struct link_failure *failure)
{
	if (s->login->phase == LOGIN_LEARNING || s->login->phase == LOGIN_TRYING) {
		passthrough_failed(s, failure);
		return;
	}
	session_fatal_bytes(s, failure->error, failure->error_len, "no server connection could be opened");
}
