/* The versioned API: pools, and what operators do with a database (as on the console: pool/gate.c). */
#include "admin/views.h"

/* ---- GET /api/v1/pools ---- */

static json_t *pool_v1_json(const struct pool_view *v)
{
	json_t *json = json_object();

	json_put(json, "database", json_text(v->database));
	json_put(json, "user", json_text(v->user));
	json_put(json, "node", json_text(v->node));
	json_put(json, "mode", json_text(v->mode));
	json_put(json, "active", json_integer(v->active));
	json_put(json, "idle", json_integer(v->idle));
	json_put(json, "opening", json_integer(v->connecting));
	json_put(json, "pinned", json_integer(v->pinned));
	json_put(json, "held_long", json_integer(v->held_long));
	json_put(json, "waiting", json_integer(v->waiting));
	json_put(json, "max", json_integer(v->max));
	json_put(json, "active_limit", json_integer(v->active_limit));
	json_put(json, "clients", json_integer(v->clients));
	json_put(json, "paused", json_boolean(v->paused));
	json_put(json, "disabled", json_boolean(v->disabled));
	json_put(json, "oldest_wait_ms", json_integer((json_int_t)(v->oldest_wait_us / 1000)));
	json_put(json, "opened_total", json_integer((json_int_t)v->opened));
	json_put(json, "closed_total", json_integer((json_int_t)v->closed));
	json_put(json, "queries_total", json_integer((json_int_t)v->stats.queries));
	json_put(json, "transactions_total", json_integer((json_int_t)v->stats.transactions));
	json_put(json, "last_error", json_text_or_null(v->last_error));
	return json;
}

static bool is(const char *value, const char *wanted)
{
	return !*wanted || strcmp(wanted, value) == 0;
}

void endpoint_v1_pools(struct request *request, struct answer *answer)
{
	const char *database, *user, *node;
	struct pool_rows rows;
	json_t *list;

	if (!request_text(request, answer, "database", &database) || !request_text(request, answer, "user", &user) ||
	    !request_text(request, answer, "node", &node) || !pool_rows_collect(&rows, request->admin->context.pools))
		return;
	list = json_array();
	for (const struct pool_row *row = rows.first; row; row = row->next)
		if (is(row->view.database, database) && is(row->view.user, user) && is(row->view.node, node))
			(void)json_array_append_new(list, pool_v1_json(&row->view));
	pool_rows_free(&rows);
	answer_json(answer, MHD_HTTP_OK, list_json(list, json_array_size(list)));
}

/* ---- POST /api/v1/databases/{database}/... ---- */

/* The console's names lead to no node: there is nothing to pause. */
static bool is_console(struct admin *admin, const char *database)
{
	bool is;

	pthread_mutex_lock(&admin->lock);
	is = config_is_console(admin->context.config, database);
	pthread_mutex_unlock(&admin->lock);
	return is;
}

/* What has come of it; -EALREADY counts as done: who asks twice wants the same. false: it was answered that it failed.
 */
static bool is_done(struct answer *answer, const char *database, int r)
{
	switch (r) {
	case 0:
	case -EALREADY:
		return true;
	case -ENOENT:
		answer_problem(answer, MHD_HTTP_NOT_FOUND, "no_such_database", "no such database: %s", database);
		return false;
	case -ENOSPC:
		answer_error(answer, MHD_HTTP_INSUFFICIENT_STORAGE, "too many databases were named");
		return false;
	default:
		return false;
	}
}

/* links_left: what is still to close; 202 until it is 0, for the caller to ask again rather than to wait here. */
static void answer_database(struct request *request, struct answer *answer, const char *status, bool outdated)
{
	struct pools *pools = request->admin->context.pools;
	uint32_t links = pools_links(pools, request->argument, outdated);
	bool paused, disabled;
	json_t *json = json_object();

	pools_gate(pools, request->argument, &paused, &disabled);
	json_put(json, "status", json_text(status));
	json_put(json, "database", json_text(request->argument));
	json_put(json, "paused", json_boolean(paused));
	json_put(json, "disabled", json_boolean(disabled));
	json_put(json, "links_left", json_integer(links));
	answer_json(answer, links == 0 ? MHD_HTTP_OK : MHD_HTTP_ACCEPTED, json);
}

/* false: it was answered why not. */
static bool may_be_changed(struct request *request, struct answer *answer)
{
	if (!is_console(request->admin, request->argument))
		return true;
	answer_problem(answer, MHD_HTTP_CONFLICT, "is_the_console", "%s is the console, and leads to no node",
		       request->argument);
	return false;
}

/* false: it was answered that nothing can be paused now. */
static bool may_be_paused(struct request *request, struct answer *answer)
{
	if (!may_be_changed(request, answer))
		return false;
	if (!suspension_is_on(&request->admin->context.sessions->suspension))
		return true;
	answer_problem(answer, MHD_HTTP_CONFLICT, "suspended", "the proxy is suspended: resume it first");
	return false;
}

void endpoint_v1_database_pause(struct request *request, struct answer *answer)
{
	const char *database = request->argument;

	if (may_be_paused(request, answer) &&
	    is_done(answer, database, pools_pause(request->admin->context.pools, database)))
		answer_database(request, answer, "paused", /* outdated= */ false);
}

/* 200: nothing has to close. */
static void answer_at_once(struct request *request, struct answer *answer, const char *status)
{
	answer_database(request, answer, status, /* outdated= */ true);
	if (answer->status == MHD_HTTP_ACCEPTED)
		answer->status = MHD_HTTP_OK;
}

void endpoint_v1_database_resume(struct request *request, struct answer *answer)
{
	const char *database = request->argument;
	int r;

	if (!may_be_changed(request, answer))
		return;
	r = pools_resume(request->admin->context.pools, database);
	if (is_done(answer, database, r))
		answer_at_once(request, answer, r == 0 ? "resumed" : "not paused");
}

void endpoint_v1_database_reconnect(struct request *request, struct answer *answer)
{
	const char *database = request->argument;

	if (may_be_changed(request, answer) &&
	    is_done(answer, database, pools_reconnect(request->admin->context.pools, database)))
		answer_database(request, answer, "reconnecting", /* outdated= */ true);
}

static void set_disabled(struct request *request, struct answer *answer, bool disabled)
{
	const char *database = request->argument;

	if (may_be_changed(request, answer) &&
	    is_done(answer, database, pools_disable(request->admin->context.pools, database, disabled)))
		answer_at_once(request, answer, disabled ? "disabled" : "enabled");
}

void endpoint_v1_database_disable(struct request *request, struct answer *answer)
{
	set_disabled(request, answer, true);
}

void endpoint_v1_database_enable(struct request *request, struct answer *answer)
{
	set_disabled(request, answer, false);
}

/* ---- kill ---- */

struct killing {
	char database[sizeof(((struct request *)0)->argument)];
};

static void kill_sessions(struct worker *worker, struct round_part *part, uint64_t argument)
{
	const struct killing *k = (const struct killing *)(uintptr_t)argument;

	part->matched = worker_kill_sessions(worker, k->database);
}

/* Paused first, as on the console: who comes back at once waits for resume. */
void endpoint_v1_database_kill(struct request *request, struct answer *answer)
{
	const struct admin_context *c = &request->admin->context;
	struct killing killing;
	struct round *round;
	uint64_t killed = 0;
	json_t *json;

	if (!may_be_paused(request, answer) ||
	    !is_done(answer, request->argument, pools_pause(c->pools, request->argument)))
		return;
	memcpy(killing.database, request->argument, sizeof(killing.database));
	round = round_begin_with(c->sessions, kill_sessions, &killing, sizeof(killing));
	if (!round)
		return;
	(void)round_wait(round);
	for (uint32_t i = 0; i < round_count(round); i++) {
		const struct round_part *part = round_part(round, i);

		killed += part ? part->matched : 0;
	}
	json = json_object();
	json_put(json, "status", json_text("killed"));
	json_put(json, "database", json_text(request->argument));
	json_put(json, "paused", json_true());
	json_put(json, "sessions", json_integer((json_int_t)killed));
	json_put(json, "workers_late", json_integer(round_late(round))); /* they do it when they come to it */
	answer_json(answer, round_late(round) ? MHD_HTTP_ACCEPTED : MHD_HTTP_OK, json);
	round_unref(round);
}
