/*
 * Commands that change something: for those in [admin] users. Each leaves a line in the log. Errors are in PgBouncer's
 * words where it has some, for scripts look for them.
 */
#include "console/console_priv.h"

#include <stdio.h>
#include <strings.h>

/* NULL: all. */
static const char *database_of(const struct command *c)
{
	return *c->name ? c->name : NULL;
}

/* false: it was refused. */
static bool pools_said(struct talk *t, int r, const char *already)
{
	const struct command *c = &t->now.command;

	if (r == 0)
		return true;
	if (r == -ENOENT)
		talk_refuse(t, "no such database: %s", c->name);
	else if (r == -EALREADY)
		talk_refuse(t, "%s", already);
	else if (r == -ENOSPC)
		talk_refuse(t, "too many databases were named on the console");
	else
		talk_refuse(t, "out of memory");
	return false;
}

/* PgBouncer's words when everything stands still already. */
static const char already_still[] = "already suspended/paused";

static bool is_suspended(const struct talk *t)
{
	return suspension_is_on(&t->console->context.sessions->suspension);
}

/* ---- PAUSE, RESUME, WAIT_CLOSE, RECONNECT ---- */

static bool no_links(struct talk *t)
{
	return pools_links(t->console->context.pools, database_of(&t->now.command), /* outdated= */ false) == 0;
}

static bool no_outdated_links(struct talk *t)
{
	return pools_links(t->console->context.pools, database_of(&t->now.command), /* outdated= */ true) == 0;
}

static void pause_database(struct talk *t, const struct command *c)
{
	if (is_suspended(t))
		talk_refuse(t, "%s", already_still);
	else if (pools_said(t, pools_pause(t->console->context.pools, database_of(c)), already_still))
		talk_wait(t, no_links);
}

static void resume_database(struct talk *t, const struct command *c)
{
	char already[100];

	if (!*c->name && suspension_end(t->console->context.sessions, "RESUME on the console") == 0) {
		talk_complete(t, c->tag);
		return;
	}
	snprintf(already, sizeof(already), "database %s is not paused", c->name);
	if (pools_said(t, pools_resume(t->console->context.pools, database_of(c)),
		       *c->name ? already : "pooler is not paused/suspended"))
		talk_complete(t, c->tag);
}

/* ---- SUSPEND ---- */

static bool is_still(struct talk *t)
{
	enum suspension_state state = suspension_state(t->console->context.sessions);

	if (state == SUSPENSION_OFF)
		talk_refuse(t, "RESUME came first");
	return state != SUSPENSION_FLUSHING;
}

/* Without paused databases, as PgBouncer has it: then RESUME can mean one thing only. */
static void suspend(struct talk *t)
{
	const struct console_context *context = &t->console->context;
	int r;

	if (pools_are_paused(context->pools))
		talk_refuse(t, "%s", already_still);
	else if (pools_any_is_paused(context->pools))
		talk_refuse(t, "cannot suspend with paused databases");
	else {
		r = suspension_begin(context->sessions, t->client.worker->settings.config->proxy.suspend_timeout,
				     /* by_console= */ true);
		if (r == 0)
			talk_wait(t, is_still);
		else
			talk_refuse(t, "%s", r == -EALREADY ? already_still : "pooler is shutting down");
	}
}

/* ---- RECONNECT, DISABLE ---- */

static void reconnect(struct talk *t, const struct command *c)
{
	if (pools_said(t, pools_reconnect(t->console->context.pools, database_of(c)), ""))
		talk_complete(t, c->tag);
}

static void disable(struct talk *t, const struct command *c)
{
	if (pools_said(t, pools_disable(t->console->context.pools, c->name, c->verb == COMMAND_DISABLE), ""))
		talk_complete(t, c->tag);
}

/* ---- KILL, KILL_CLIENT ---- */

static void kill_at(struct worker *w, struct visit *v)
{
	v->found = worker_kill_sessions(w, *v->name ? v->name : NULL);
	v->next = 0;
}

/* Paused first, as PgBouncer does: who comes back at once waits for RESUME. */
static void kill_database(struct talk *t, const struct command *c)
{
	int r = is_suspended(t) ? -EALREADY : pools_pause(t->console->context.pools, database_of(c));

	if (pools_said(t, r == -EALREADY && *c->name && !is_suspended(t) ? 0 : r, already_still))
		talk_ask_all(t, kill_at, NULL);
}

static void kill_client_at(struct worker *w, struct visit *v)
{
	v->found = worker_kill_session(w, (uint32_t)v->number);
	v->next = 0;
}

static void client_killed(struct talk *t)
{
	if (t->found)
		talk_complete(t, t->now.command.tag);
	else
		talk_refuse(t, "client not found");
}

static void kill_client(struct talk *t, const struct command *c)
{
	char *end;
	unsigned long long pid = strtoull(c->name, &end, 10);

	if (*end || pid == 0 || pid > UINT32_MAX) {
		talk_refuse(t, "invalid client pointer supplied");
		return;
	}
	t->mark = pid;
	talk_ask_all(t, kill_client_at, client_killed);
}

/* ---- RELOAD, SHUTDOWN ---- */

/* mark: how many reloads were over before; failed_before in `found`. */
static bool is_reloaded(struct talk *t)
{
	const struct console_context *c = &t->console->context;
	uint64_t over, failed;

	c->reloads(c->server, &over, &failed);
	if (over == t->mark)
		return false;
	if (failed != t->found)
		talk_refuse(t, "RELOAD failed, see logs for additional details");
	return true;
}

static void reload(struct talk *t)
{
	const struct console_context *c = &t->console->context;
	int r;

	c->reloads(c->server, &t->mark, &t->found);
	r = c->reload(c->server);
	if (r < 0)
		talk_refuse(t, "RELOAD failed: there is no configuration file");
	else
		talk_wait(t, is_reloaded);
}

static bool never(struct talk *t)
{
	(void)t;
	return false;
}

static void shut_down(struct talk *t, const struct command *c)
{
	const struct console_context *context = &t->console->context;
	enum console_shutdown how = SHUTDOWN_NOW;

	if (strcasecmp(c->name, "wait_for_servers") == 0) {
		how = SHUTDOWN_AFTER_TRANSACTIONS;
	} else if (strcasecmp(c->name, "wait_for_clients") == 0) {
		how = SHUTDOWN_AFTER_CLIENTS;
	} else if (*c->name) {
		talk_refuse(t, "invalid command 'SHUTDOWN %s', use SHOW HELP;", c->name);
		return;
	}
	context->shut_down(context->server, how);
	if (how == SHUTDOWN_NOW)
		talk_wait(t, never); /* as with PgBouncer: the end of the connection is the answer */
	else
		talk_complete(t, c->tag);
}

/* ---- the log ---- */

static void log_command(const struct talk *t, const struct command *c)
{
	const char *what = c->verb == COMMAND_NODE ? c->value : c->name;
	bool is_primary = c->verb == COMMAND_SET && strcasecmp(c->name, "primary") == 0; /* of others: may be secret */
	char text[COMMAND_VALUE_MAX * 2 + 64];

	snprintf(text, sizeof(text), "%s%s%s%s%s%s", c->tag, *what ? " " : "", what, c->force ? " FORCE" : "",
		 is_primary ? " = " : "", is_primary ? c->value : "");
	console_client_log(&t->client, "console command", text);
}

/* ---- SET ---- */

/* What drivers set without asking; PgBouncer plays along with these. */
static bool is_of_drivers(const char *name)
{
	static const char *const names[] = {"client_encoding",
					    "default_transaction_isolation",
					    "standard_conforming_strings",
					    "datestyle",
					    "timezone",
					    "application_name",
					    "extra_float_digits",
					    "search_path",
					    "statement_timeout"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcasecmp(names[i], name) == 0)
			return true;
	return false;
}

static void set(struct talk *t, const struct command *c)
{
	struct buf out = BUF_INIT(1024);

	if (strcasecmp(c->name, "primary") == 0 && t->client.is_admin) {
		log_command(t, c);
		operate_node(t, c);
	} else if (is_of_drivers(c->name)) {
		message_notice(&out, "NOTICE", "00000", "SET ignored", NULL);
		talk_send(t, &out);
		if (t->client.session)
			talk_complete(t, c->tag);
	} else if (!t->client.is_admin) {
		talk_refuse(t, "admin access needed");
	} else {
		log_command(t, c);
		operate_setting(t, c);
	}
}

/* ---- all of them ---- */

void operate(struct talk *t, const struct command *c)
{
	if (c->verb == COMMAND_SET) {
		set(t, c);
		return;
	}
	if (!t->client.is_admin) {
		talk_refuse(t, "admin access needed");
		return;
	}
	if (c->verb != COMMAND_KILL_CLIENT && c->verb != COMMAND_SHUTDOWN &&
	    config_is_console(t->client.worker->settings.config, c->name)) {
		talk_refuse(t, "cannot %s admin db: %s", c->tag, c->name);
		return;
	}
	log_command(t, c);
	switch (c->verb) {
	case COMMAND_PAUSE:
		pause_database(t, c);
		break;
	case COMMAND_RESUME:
		resume_database(t, c);
		break;
	case COMMAND_SUSPEND:
		suspend(t);
		break;
	case COMMAND_WAIT_CLOSE:
		talk_wait(t, no_outdated_links);
		break;
	case COMMAND_RECONNECT:
		reconnect(t, c);
		break;
	case COMMAND_DISABLE:
	case COMMAND_ENABLE:
		disable(t, c);
		break;
	case COMMAND_KILL:
		kill_database(t, c);
		break;
	case COMMAND_KILL_CLIENT:
		kill_client(t, c);
		break;
	case COMMAND_RELOAD:
		reload(t);
		break;
	case COMMAND_SHUTDOWN:
		shut_down(t, c);
		break;
	case COMMAND_NODE:
		operate_node(t, c);
		break;
	default: /* runs elsewhere, see talk_run() */
		break;
	}
}

/* Its client doesn't want to wait any more: what it waited for is not to happen behind its back. */
void operate_cancelled(struct talk *t)
{
	if (t->now.command.verb == COMMAND_SUSPEND)
		(void)!suspension_end(t->console->context.sessions, "a cancel of SUSPEND");
	if (t->now.command.verb == COMMAND_PAUSE)
		(void)!pools_resume(t->console->context.pools, database_of(&t->now.command));
}
