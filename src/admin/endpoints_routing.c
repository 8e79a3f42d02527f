/* What the router knows. */
#include "admin/admin_priv.h"

#include "base/log.h"
#include "session/routing_explain.h"

#include <stdio.h>

/* ---- GET /api/routing/catalogs ---- */

static json_t *position_json(uint64_t lsn)
{
	char text[32];

	snprintf(text, sizeof(text), "%X/%X", (unsigned)(lsn >> 32), (unsigned)lsn);
	return json_text(text);
}

static void add_catalog(const struct catalog_view *v, void *to)
{
	json_t *json = json_object();
	bool known = v->number > 0;

	json_put(json, "database", json_text(v->database));
	json_put(json, "state", json_text(v->state));
	json_put(json, "loading", json_boolean(v->loading));
	json_put(json, "generation", json_integer((json_int_t)v->number));
	json_put(json, "names", json_integer(v->names));
	json_put(json, "age_ms", known ? json_integer((json_int_t)(v->age_us / 1000)) : json_null());
	json_put(json, "position", known ? position_json(v->position) : json_null());
	json_put(json, "loads", json_integer((json_int_t)v->loads));
	json_put(json, "failures", json_integer((json_int_t)v->failures));
	json_put(json, "failures_in_row", json_integer(v->failures_in_row));
	json_put(json, "error", json_text_or_null(v->error));
	json_put(json, "users", json_integer(v->users));
	(void)json_array_append_new(to, json);
}

void endpoint_catalogs(struct request *request, struct answer *answer)
{
	struct catalogs *catalogs = request->admin->context.catalogs;
	json_t *list = json_array();

	if (catalogs)
		catalogs_each(catalogs, add_catalog, list);
	answer_json(answer, MHD_HTTP_OK, list);
}

/* ---- POST /api/routing/catalogs/{database}/refresh ---- */

struct search {
	const char *database;
	bool found;
};

static void look_for(const struct catalog_view *v, void *to)
{
	struct search *s = to;

	s->found = s->found || strcmp(v->database, s->database) == 0;
}

void endpoint_catalog_refresh(struct request *request, struct answer *answer)
{
	struct catalogs *catalogs = request->admin->context.catalogs;
	struct search search = {.database = request->argument};
	json_t *json;

	if (catalogs)
		catalogs_each(catalogs, look_for, &search);
	if (!search.found) {
		answer_error(answer, MHD_HTTP_NOT_FOUND, "No catalog of this database was asked for");
		return;
	}
	request_log(request, "refresh of a catalog asked for over the admin API", NULL, 0);
	catalogs_schema_changed(catalogs, request->argument);
	json = json_object();
	json_put(json, "status", json_text("read again with the next query"));
	answer_json(answer, MHD_HTTP_OK, json);
}

/* ---- GET /api/routing/explain ---- */

#define EXPLAINED_MAX 65536u

/* What workers are asked with; the last one that has it frees it. */
struct explaining {
	_Atomic uint32_t references;
	struct routing_question question;
	char strings[]; /* database, user, text */
};

/* Of the parameter; 0: it is not there, or is no position. */
static uint64_t lsn_of(const struct request *request)
{
	const char *text = request_parameter(request, "lsn");
	unsigned high, low;
	char rest;

	return text && sscanf(text, "%8X/%8X%c", &high, &low, &rest) == 2 ? (uint64_t)high << 32 | low : 0;
}

static struct explaining *explaining_new(const struct request *request, uint32_t references)
{
	const char *database = request_parameter(request, "database"), *user = request_parameter(request, "user");
	const char *text = request_parameter(request, "query");
	struct explaining *e;
	char *at;

	if (!database || !user || !text || strlen(text) > EXPLAINED_MAX)
		return NULL;
	e = malloc(sizeof(*e) + strlen(database) + strlen(user) + strlen(text) + 3);
	if (!e)
		return NULL;
	atomic_init(&e->references, references);
	at = e->strings;
	e->question = (struct routing_question){
		.database = at,
		.user = at + strlen(database) + 1,
		.text = at + strlen(database) + strlen(user) + 2,
		.wrote = request_parameter(request, "wrote") != NULL,
		.lsn = lsn_of(request),
		.read_only = request_parameter(request, "read_only") != NULL,
	};
	memcpy(at, database, strlen(database) + 1);
	memcpy(at + strlen(database) + 1, user, strlen(user) + 1);
	memcpy(at + strlen(database) + strlen(user) + 2, text, strlen(text) + 1);
	return e;
}

/* On the worker's thread. All of them know the same but for whose turn it is: the first one answers. */
static void explain_here(struct worker *worker, struct round_part *part, uint64_t argument)
{
	struct explaining *e = (struct explaining *)(uintptr_t)argument;
	struct routing_explanation *found;

	if (worker->pool_thread.index == 0) {
		found = arena_alloc(&part->arena, sizeof(*found));
		if (found && routing_explain(worker, &e->question, found) == 0)
			part->explanation = found;
	}
	if (atomic_fetch_sub(&e->references, 1) == 1)
		free(e);
}

static json_t *verdicts_json(const struct routing_explanation *e)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < e->count; i++) {
		json_t *json = json_object();

		json_put(json, "node", json_text(e->nodes[i].node->name));
		json_put(json, "may_read", json_boolean(!e->nodes[i].why_not));
		json_put(json, "why_not", json_text_or_null(e->nodes[i].why_not));
		(void)json_array_append_new(list, json);
	}
	return list;
}

static json_t *notices_json(const struct routing_explanation *e)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < e->notice_count; i++)
		(void)json_array_append_new(list, json_text(e->notices[i]));
	return list;
}

/* What of the configuration is for this user. */
static json_t *rules_json(const struct route_rules *r)
{
	static const char *const scopes[] = {[READ_YOUR_WRITES_OFF] = "off",
					     [READ_YOUR_WRITES_SESSION] = "session",
					     [READ_YOUR_WRITES_USER] = "user",
					     [READ_YOUR_WRITES_GLOBAL] = "global"};
	json_t *json = json_object();

	json_put(json, "max_lag_ms",
		 r->lag_matters && r->max_lag ? json_integer((json_int_t)(r->max_lag / 1000)) : json_null());
	json_put(json, "max_lag_bytes",
		 r->lag_matters && r->max_lag_bytes ? json_integer((json_int_t)r->max_lag_bytes) : json_null());
	json_put(json, "max_lag_is_the_users", json_boolean(r->max_lag_is_wished));
	json_put(json, "read_your_writes", json_text(r->lag_matters ? scopes[r->own_writes] : "off"));
	json_put(json, "wait_ms", json_integer((json_int_t)(r->wait / 1000)));
	return json;
}

static json_t *explanation_json(struct request *request, const struct routing_explanation *e)
{
	const struct node *primary = node_list_primary(request->admin->context.nodes);
	const struct node *node = e->choice.node ? e->choice.node : primary;
	json_t *json = json_object();

	json_put(json, "node", json_text_or_null(node ? node->name : NULL));
	if (!e->routes) {
		json_put(json, "to", json_text("primary"));
		json_put(json, "reason", json_text("not_split"));
		json_put(json, "meaning", json_text("nothing of this database is routed: see docs/routing.md"));
		return json;
	}
	json_put(json, "to", json_text(e->choice.node ? "standby" : e->choice.refused ? "nowhere" : "primary"));
	json_put(json, "reason", json_text(route_reason_word(e->choice.reason)));
	json_put(json, "meaning", json_text(route_reason_text(e->choice.reason)));
	json_put(json, "statement", json_text(access_level_name(e->access.level)));
	json_put(json, "statement_reason", json_text(access_reason_word(e->access.reason)));
	json_put(json, "statement_meaning", json_text(access_reason_text(e->access.reason)));
	json_put(json, "catalog_known", json_boolean(e->has_catalog));
	json_put(json, "notices", notices_json(e));
	json_put(json, "waits_first", json_boolean(e->choice.may_wait && (e->rules.wait || e->choice.refused)));
	json_put(json, "rules", rules_json(&e->rules));
	json_put(json, "standbys", verdicts_json(e));
	return json;
}

void endpoint_explain(struct request *request, struct answer *answer)
{
	struct sessions_shared *sessions = request->admin->context.sessions;
	struct explaining *asking = explaining_new(request, sessions->worker_count);
	const struct round_part *part;
	struct round *round;

	if (!asking) {
		answer_error(answer, MHD_HTTP_BAD_REQUEST, "database, user and query must be given");
		return;
	}
	round = round_begin(sessions, explain_here, (uintptr_t)asking);
	if (!round) {
		free(asking);
		return;
	}
	(void)round_wait(round);
	part = round_part(round, 0);
	if (part && part->explanation)
		answer_json(answer, MHD_HTTP_OK, explanation_json(request, part->explanation));
	else
		answer_error(answer, part ? MHD_HTTP_NOT_FOUND : MHD_HTTP_SERVICE_UNAVAILABLE,
			     part ? "No such database" : "The worker does not answer");
	round_unref(round);
}

/* ---- POST /debug/catalogs ---- */

/* What workers are asked with; the last one that has it frees it. */
struct asking {
	struct catalogs *catalogs;
	_Atomic uint32_t references;
	char database[128], user[128];
};

static void asking_unref(struct asking *a)
{
	if (atomic_fetch_sub(&a->references, 1) == 1)
		free(a);
}

/* On the worker's thread. */
static void ask(struct worker *worker, struct round_part *part, uint64_t argument)
{
	struct asking *a = (struct asking *)(uintptr_t)argument;
	struct pool_thread *thread = &worker->pool_thread;
	struct catalog_entry *entry;
	struct pool *pool;

	if (pool_find(thread->pools, a->database, a->user, &pool) == 0) {
		entry = catalogs_find(a->catalogs, pool_server_database(pool));
		part->found = entry && catalogs_get(entry, thread, pool);
		catalogs_release(entry);
		pool_unref(pool);
	}
	asking_unref(a);
}

static struct asking *asking_new(struct request *request, uint32_t references)
{
	const char *database = request_parameter(request, "database"), *user = request_parameter(request, "user");
	struct asking *a = database && user ? calloc(1, sizeof(*a)) : NULL;

	if (!a)
		return NULL;
	a->catalogs = request->admin->context.catalogs;
	atomic_init(&a->references, references);
	snprintf(a->database, sizeof(a->database), "%s", database);
	snprintf(a->user, sizeof(a->user), "%s", user);
	return a;
}

void endpoint_catalogs_get(struct request *request, struct answer *answer)
{
	const struct admin_context *c = &request->admin->context;
	struct round *round;
	struct asking *asking;
	uint32_t found = 0;
	json_t *json;

	if (!c->test_clock || !c->catalogs) {
		answer_error(answer, MHD_HTTP_NOT_FOUND, "Not found");
		return;
	}
	asking = asking_new(request, c->sessions->worker_count);
	if (!asking) {
		answer_error(answer, MHD_HTTP_BAD_REQUEST, "database and user must be given");
		return;
	}
	round = round_begin(c->sessions, ask, (uintptr_t)asking);
	if (!round) {
		free(asking);
		return;
	}
	(void)round_wait(round);
	for (uint32_t i = 0; i < round_count(round); i++) {
		const struct round_part *part = round_part(round, i);

		found += part && part->found;
	}
	round_unref(round);
	json = json_object();
	json_put(json, "known", json_integer(found));
	json_put(json, "workers", json_integer(c->sessions->worker_count));
	answer_json(answer, MHD_HTTP_OK, json);
}
