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

#include <openssl/rand.h>

#define PASSWORD_MESSAGE_MAX (65536u + 64u)

/* ---- rules ---- */

static bool admitted(struct session *s, const struct hba *rules, const struct hba_rule **ret_rule)
{
	struct session_login *l = s->login;
	struct sockaddr_storage address;
	struct hba_query q = {
		.address = (struct sockaddr *)&address,
		.tls = conn_is_tls(&s->conn),
		.database = l->database,
		.user = l->user,
		.replication = l->replication && strcasecmp(l->replication, "database") != 0,
	};

	if (!session_address(s, &address))
		return false;
	*ret_rule = hba_match(rules, &q);
	return (*ret_rule)->method != AUTH_REJECT;
}

static bool is_unix(const struct session *s)
{
	return s->address == 0 && s->port == 0;
}

static const char *encryption_name(const struct session *s)
{
	return conn_is_tls(&s->conn) ? "SSL encryption" : "no encryption";
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
		session_fatal(s, ERROR_HBA_REJECT, NULL, l->user, l->database, encryption_name(s));
		return false;
	}
	return true;
}

static void choose_method(struct session_login *l)
{
	static const enum auth_method methods[] = {
		[AUTH_MODE_PASSTHROUGH] = AUTH_PASSWORD, [AUTH_MODE_TRUST] = AUTH_TRUST,
		[AUTH_MODE_PASSWORD] = AUTH_PASSWORD,    [AUTH_MODE_MD5] = AUTH_MD5,
		[AUTH_MODE_SCRAM] = AUTH_SCRAM,          [AUTH_MODE_CERT] = AUTH_CERT,
	};

	l->method = l->rule ? l->rule->method : methods[l->config->auth.mode];
	l->passthrough = !l->rule && l->config->auth.mode == AUTH_MODE_PASSTHROUGH;
}

/* ---- the beginning and the end ---- */

int login_begin(struct session *s, struct introduction *introduction)
{
	struct session_login *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	s->login = l;
	l->session = s;
	list_init(&l->asker.node);
	l->config = s->worker->settings.config;
	l->introduction = introduction_ref(introduction);
	l->user = introduction->user;
	l->database = introduction->database;
	l->replication = introduction->replication;
	params_assign(&s->settings, introduction->settings);
	params_assign(&s->startup_settings, introduction->settings);
	s->application = introduction->application ? strdup(introduction->application) : NULL;
	if (introduction->application && !s->application)
		return -ENOMEM;
	if (!check_rules(s))
		return 0;
	choose_method(l);
	session_set_state(s, SESSION_AUTH);
	l->console = console_serves(s->worker, l->database);
	if (l->console && console_trusts(s))
		console_welcome(s);
	else if (l->console && l->passthrough) /* there is no node to ask */
		session_fatal(s, ERROR_CONSOLE_NO_AUTH, NULL);
	else if (l->passthrough)
		passthrough_begin(s);
	else
		login_find_secret(s);
	return 0;
}

/*
 * What was looked up in the old configuration is looked up in the new one: it may reject now. Who is being asked for a
 * proof that would no longer do begins anew.
 */
void login_reloaded(struct session *s)
{
	struct session_login *l = s->login;
	enum auth_method method = l->method;
	bool passthrough = l->passthrough;

	l->config = s->worker->settings.config;
	l->introduction->stays_out = true; /* what was left out of it may count now */
	l->rule = NULL;
	l->asked_in = NULL; /* nothing is kept of it any more */
	if (!check_rules(s))
		return;
	choose_method(l);
	if (s->state == SESSION_AUTH && (l->method != method || l->passthrough != passthrough))
		session_fatal(s, ERROR_HBA_REJECT, "The access rules have changed meanwhile: connect again.", l->user,
			      l->database, encryption_name(s));
}

void login_end(struct session *s)
{
	struct session_login *l = s->login;

	if (!l)
		return;
	auth_query_leave(&l->asker);
	client_auth_free(l->auth);
	secret_wipe(&l->secret);
	introduction_unref(l->introduction);
	free(l);
	s->login = NULL;
}

void login_failed(struct session *s)
{
	struct session_login *l = s->login;

	if (l->asked_in) /* it may have changed there */
		auth_query_forget(s->worker, l->asked_in, l->user);
	session_fatal(s, ERROR_PASSWORD_FAILED, NULL, s->login->user);
}

/* ---- methods that the proxy decides ---- */

/* False: the client shows no certificate that names the user, and was refused. */
static bool certificate_names_user(struct session *s)
{
	struct session_login *l = s->login;
	bool by_dn = l->rule && l->rule->client_name == CLIENT_NAME_DN;
	char name[1024];
	size_t len = !conn_is_tls(&s->conn) ? 0
		     : by_dn                ? conn_tls_peer_dn(&s->conn, name, sizeof(name))
					    : conn_tls_peer_cn(&s->conn, name, sizeof(name));

	if (len == 0) {
		session_fatal(s, ERROR_CERT_REQUIRED, NULL);
		return false;
	}
	if (!ident_allows(l->config->ident, l->rule ? l->rule->map : "", name, l->user)) {
		session_fatal(s, ERROR_CERT_USER_MISMATCH, NULL, l->user, name);
		return false;
	}
	return true;
}

/* What the rule asks for besides its method. False: refused. */
static bool check_certificate(struct session *s)
{
	const struct session_login *l = s->login;
	char name[1024];

	if (l->method == AUTH_CERT || (l->rule && l->rule->client_cert == CLIENT_CERT_VERIFY_FULL))
		return certificate_names_user(s);
	if (!l->rule || l->rule->client_cert == CLIENT_CERT_NONE)
		return true;
	if (conn_is_tls(&s->conn) && conn_tls_peer_dn(&s->conn, name, sizeof(name)) > 0)
		return true;
	session_fatal(s, ERROR_CERT_REQUIRED, NULL);
	return false;
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

/*
 * Keys for SCRAM from a password that is stored in clear. Where there are such passwords every name takes this way, of
 * users that don't exist as well: else the time that it takes would tell who exists.
 */
static bool derive_keys(struct session *s)
{
	struct session_login *l = s->login;
	struct worker *w = s->worker;

	if (l->method != AUTH_SCRAM || (l->secret.kind != SECRET_PLAIN && !userlist_has_plain(l->config->userlist)))
		return true;
	if (!w->scram_cache)
		w->scram_cache = scram_cache_new();
	return w->scram_cache && scram_cache_derive(w->scram_cache, &l->secret, l->user, w->shared->mock_key) == 0;
}

static void begin_exchange(struct session *s)
{
	struct session_login *l = s->login;
	uint8_t end_point[64];
	size_t len = conn_is_tls(&s->conn) ? conn_tls_end_point(&s->conn, end_point, sizeof(end_point)) : 0;
	struct buf out = BUF_INIT(65536);

	l->phase = LOGIN_EXCHANGE;
	conn_resume(&s->conn); /* it may have sent its answer already */
	if (derive_keys(s))
		l->auth = client_auth_new(l->method, l->user, &l->secret, s->worker->shared->mock_key,
					  slice_make(end_point, len), conn_is_tls(&s->conn));
	if (!l->auth) {
		session_fatal(s, ERROR_OUT_OF_MEMORY, NULL);
		return;
	}
	exchange_step(s, client_auth_begin(l->auth, &out), &out);
}

static void have_secret(struct session *s)
{
	struct session_login *l = s->login;

	if (!check_certificate(s))
		return;
	if (l->method == AUTH_TRUST || l->method == AUTH_CERT)
		login_authenticated(s);
	else if (l->method != AUTH_PASSWORD || !login_refuses_clear_text(s))
		begin_exchange(s);
}

static void auth_query_answered(struct auth_asker *asker, const struct secret *secret, const char *error)
{
	struct session_login *l = container_of(asker, struct session_login, asker);
	struct session *s = l->session;

	if (error) {
		session_log(LOG_WARN, s, "auth_query failed; refusing the login", error);
		session_fatal(s, ERROR_AUTH_QUERY_FAILED, NULL); /* why is no stranger's business */
	} else if (secret_copy(secret, &l->secret) < 0) {
		session_fatal(s, ERROR_OUT_OF_MEMORY, NULL);
	} else {
		have_secret(s);
	}
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
	} else if (*auth->auth_user && strcmp(auth->auth_user, l->user) != 0 &&
		   !(l->console && !*auth->auth_database)) {
		l->phase = LOGIN_AUTH_QUERY;
		l->asked_in = *auth->auth_database ? auth->auth_database : l->database;
		l->asker.answered = auth_query_answered;
		auth_query_ask(s->worker, l->asked_in, l->user, &l->asker);
	} else {
		have_secret(s); /* of kind NONE: the exchange goes to its end, and fails there */
	}
}

/* Bytes taken of the client's answer; 0: more are needed. */
static size_t take_answer(struct session *s, uint8_t *bytes, size_t len)
{
	struct session_login *l = s->login;
	struct frame f = {0};
	enum frame_result r = frame_read(bytes, len, &f);
	struct buf out = BUF_INIT(65536);

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
	return frame_size(&f);
}

static bool is_clients_turn(const struct session *s)
{
	return s->state == SESSION_AUTH && (s->login->phase == LOGIN_EXCHANGE || s->login->phase == LOGIN_PASSWORD);
}

/* What comes ahead of its time is left with the loop: conn_resume() is called where the client's turn begins. */
size_t login_received(struct session *s, uint8_t *bytes, size_t len)
{
	size_t at = 0, taken = 1;

	while (at < len && taken > 0 && is_clients_turn(s)) {
		taken = take_answer(s, bytes + at, len - at);
		at += taken;
	}
	return s->state == SESSION_CLOSED ? len : at;
}

/* ---- authenticated ---- */

/* What the client has proven is what the proxy logs in to servers with. */
static void offer_secret(struct session *s)
{
	struct session_login *l = s->login;
	const struct config_database *d = config_database_find(l->config, l->database);
	const struct secret *known = d && *d->user ? userlist_get(l->config->userlist, d->user) : NULL;
	struct secret offer = {0};
	const char *password = l->auth ? client_auth_password(l->auth) : NULL;
	const struct scram_keys *keys = l->auth ? client_auth_keys(l->auth) : NULL;

	if (d && *d->user && strcmp(d->user, l->user) != 0) { /* the client's own opens nothing there */
		if (known)
			pool_offer_secret(session_pool(s), known);
	} else if (l->secret.kind == SECRET_PLAIN) {
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

	if (r == 0 && pool_is_disabled(pool)) {
		pool_unref(pool);
		session_fatal(s, ERROR_DATABASE_DISABLED, NULL, l->database);
		return false;
	}
	if (r == 0) {
		s->shard = s->source = pool_shard(pool, &s->worker->pool_thread);
		if (s->shard) {
			s->asker.owner = pool_names(pool);
			session_set_limits(s);
			return true;
		}
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
	if (s->login->console) {
		console_welcome(s);
		return;
	}
	if (!s->shard && !login_find_pool(s))
		return;
	offer_secret(s);
	login_welcome(s);
}

/* ---- the welcome ---- */

/* Random bytes are drawn for many logins at once: the generator's start is most of their cost. */
void login_make_secret(struct session *s)
{
	struct worker *w = s->worker;
	size_t size = s->long_key ? 32 : 4;

	if (w->random_left < size) {
		if (RAND_bytes(w->random, sizeof(w->random)) != 1) {
			session_fatal(s, ERROR_OUT_OF_MEMORY, NULL);
			return;
		}
		w->random_left = sizeof(w->random);
	}
	w->random_left -= (uint32_t)size;
	memcpy(s->secret, w->random + w->random_left, size);
	explicit_bzero(w->random + w->random_left, size);
}

/* false: there are too many. */
static bool is_admitted(struct session *s)
{
	switch (pool_admit_client(s->shard)) {
	case CLIENT_ADMITTED:
		s->logged = true;
		return true;
	case CLIENT_TOO_MANY_OF_DATABASE:
		session_fatal(s, ERROR_TOO_MANY_DATABASE_CLIENTS, NULL);
		return false;
	case CLIENT_TOO_MANY_OF_USER:
		session_fatal(s, ERROR_TOO_MANY_USER_CLIENTS, NULL);
		return false;
	}
	return false;
}

static void welcome(struct session *s, const struct params *reported)
{
	struct introduction *introduction = s->login->introduction;
	struct buf out = BUF_INIT(4096);

	if (!is_admitted(s))
		return;
	if (!introduction_greet(introduction, reported)) {
		session_fatal(s, ERROR_OUT_OF_MEMORY, NULL);
		return;
	}
	login_make_secret(s);
	if (s->state == SESSION_CLOSED)
		return;
	params_assign(&s->reported, introduction->reported);
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
	conn_send(&s->conn, introduction->greeting, introduction->greeting_len);
	count_add(&session_counters(s)->bytes_sent_total, introduction->greeting_len);
	session_send_buf(s, &out);
	introduction_remember(s->worker, introduction);
	count_add(&session_counters(s)->logins_total, 1);
	latency_add(session_latencies(s), LATENCY_LOGIN, clock_since(s->connected, clock_now()));
	count_add(&session_stats(s)->logins, 1);
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

void login_wait_for_link(struct session *s)
{
	struct link *link = pool_take(s->shard);

	if (link)
		login_link_granted(s, link);
	else if (!pool_wait(s->shard, &s->waiter))
		session_fatal(s, ERROR_TOO_MANY_WAITING, NULL);
}

void login_welcome(struct session *s)
{
	struct session_login *l = s->login;
	const struct params *reported;

	if (s->state != SESSION_WELCOMING)
		session_set_state(s, SESSION_WELCOMING);
	l->phase = LOGIN_WELCOME;
	if (l->replication) {
		begin_replication(s);
		return;
	}
	if (pool_welcome_get(session_pool(s), l->introduction->welcome_key, &reported)) {
		welcome(s, reported);
		params_unref(reported);
		return;
	}
	login_wait_for_link(s);
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
	struct buf out = BUF_INIT(len + 65536);

	if (!error) {
		const struct params *reported = params_ref(s->link->reported);

		pool_welcome_put(session_pool(s), s->login->introduction->welcome_key, reported);
		session_release(s);
		welcome(s, reported);
		params_unref(reported);
		return;
	}
	session_release(s);
	if (message_error_as(&out, error, len, "FATAL"))
		session_fatal_bytes(s, out.bytes, out.failed ? 0 : out.len, "the server refuses a setting");
	else
		session_fatal(s, ERROR_SERVER_PROTOCOL, "malformed error");
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
