/* See console.h. */
#include "session/console.h"

#include "base/log.h"
#include "session/login_priv.h"

#include <unistd.h>

static const struct console_ops *ops_of(const struct session *s)
{
	return s->worker->shared->console;
}

/* ---- who may come in ---- */

static bool is_in(const struct config_strings *list, const char *name)
{
	for (uint32_t i = 0; i < list->count; i++)
		if (strcmp(list->items[i], name) == 0)
			return true;
	return false;
}

bool console_serves(const struct worker *w, const char *database)
{
	return w->shared->console && config_is_console(w->settings.config, database);
}

/* As with PgBouncer: over a unix socket, who runs the proxy is let in by the console's own name. */
bool console_trusts(const struct session *s)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return s->address == 0 && s->port == 0 && is_in(&s->login->config->admin.databases, s->login->user) &&
	       getsockopt(s->conn.fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.uid == geteuid();
}

/* ---- the welcome ---- */

static void add_parameters(struct buf *out, const char *application)
{
	static const char *const parameters[][2] = {
		{"server_version", CONSOLE_LIKE "/heliosdb-proxy " HELIOS_VERSION},
		{"client_encoding", "UTF8"},
		{"server_encoding", "UTF8"},
		{"DateStyle", "ISO, MDY"},
		{"IntervalStyle", "postgres"},
		{"integer_datetimes", "on"},
		{"TimeZone", "GMT"},
		{"standard_conforming_strings", "on"},
		{"is_superuser", "on"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(parameters); i++)
		message_parameter_status(out, parameters[i][0], parameters[i][1]);
	if (application)
		message_parameter_status(out, "application_name", application);
}

static bool fill_in(struct session *s, struct console_client *c, bool is_admin)
{
	*c = (struct console_client){
		.session = s, .worker = s->worker, .conn = &s->conn, .pid = session_pid(s), .is_admin = is_admin};
	if (is_admin)
		suspension_console_opened(s->worker->shared);
	c->database = strdup(s->login->database);
	c->user = strdup(s->login->user);
	return c->database && c->user;
}

static void greet(struct session *s)
{
	struct buf out = BUF_INIT(4096);

	login_make_secret(s);
	if (s->state == SESSION_CLOSED)
		return;
	message_auth_ok(&out);
	add_parameters(&out, s->application);
	message_backend_key(&out, session_pid(s), slice_make(s->secret, s->long_key ? 32 : 4));
	message_ready(&out, 'I');
	session_send_buf(s, &out);
}

void console_welcome(struct session *s)
{
	const struct config_admin *admin = &s->login->config->admin;
	bool is_admin = is_in(&admin->users, s->login->user) || console_trusts(s);

	if (!is_admin && !is_in(&admin->stats_users, s->login->user)) {
		session_fatal(s, ERROR_CONSOLE_NOT_ALLOWED, NULL, s->login->user);
		return;
	}
	s->console = ops_of(s)->opened(s->worker->shared->console_argument);
	if (!s->console || !fill_in(s, s->console, is_admin)) {
		session_out_of_memory(s);
		return;
	}
	session_set_state(s, SESSION_CONSOLE);
	session_set_timer(s, TIMER_IDLE, 0);
	conn_never_freeze(&s->conn); /* who suspends wants an answer, and is to resume */
	greet(s);
	if (s->state == SESSION_CLOSED)
		return;
	s->logged = true;
	count_add(&session_counters(s)->logins_total, 1);
	session_log(LOG_INFO, s, "console opened", is_admin ? "admin" : "stats");
	login_end(s);
	conn_resume(&s->conn);
}

/* ---- what comes from its connection ---- */

size_t console_received(struct session *s, uint8_t *bytes, size_t len)
{
	size_t taken = ops_of(s)->received(s->console, bytes, len);

	if (s->state == SESSION_CLOSED)
		return len;
	count_add(&session_counters(s)->bytes_received_total, taken);
	return taken;
}

/* What it sent whole before is answered still. Has it left altogether? Its machine says so when something is sent to
 * it, as in session.c. */
bool console_ended(struct session *s, bool first)
{
	struct buf out = BUF_INIT(1024);
	bool is_busy = ops_of(s)->is_busy(s->console);

	if (is_busy && first && !s->conn.tls) {
		message_parameter_status(&out, "is_superuser", "on");
		session_send_buf(s, &out);
	}
	return is_busy || conn_queued(&s->conn) > 0;
}

bool console_is_at_work(struct session *s)
{
	return ops_of(s)->is_busy(s->console);
}

void console_cancelled(struct session *s)
{
	ops_of(s)->cancelled(s->console);
}

void console_drained(struct session *s)
{
	ops_of(s)->drained(s->console);
}

void console_closed(struct session *s)
{
	struct console_client *c = s->console;

	if (!c)
		return;
	s->console = NULL;
	if (c->is_admin)
		suspension_console_closed(s->worker->shared);
	free((char *)(uintptr_t)c->database);
	free((char *)(uintptr_t)c->user);
	c->session = NULL;
	ops_of(s)->closed(c);
}

/* ---- what the console asks of it ---- */

void console_client_leave(struct console_client *client)
{
	session_close(client->session, "closed by the client");
}

void console_client_broken(struct console_client *client, const char *why)
{
	session_fatal(client->session, ERROR_PROTOCOL_VIOLATION, why);
}

void console_client_out_of_memory(struct console_client *client)
{
	session_out_of_memory(client->session);
}

void console_client_log(const struct console_client *client, const char *message, const char *detail)
{
	session_log(LOG_INFO, client->session, message, detail);
}
