/* Client sessions, asked of all workers by message. See views.h. */
#include "admin/views.h"

#define SESSIONS_DEFAULT 1000u
#define SESSIONS_MAX     100000u

/* ---- on the worker's thread ---- */

struct collector {
	struct round_part *part;
	struct session_row **end;
	const struct session_wish *wish;
};

static bool is(const char *text, const char *wanted)
{
	return !*wanted || strcmp(text, wanted) == 0;
}

static bool has(const char *text, const char *wanted)
{
	return !*wanted || strstr(text, wanted);
}

static bool is_wished(const struct session_view *v, const struct session_wish *w)
{
	return (!w->pid || w->pid == v->pid) && is(v->database, w->database) && is(v->user, w->user) &&
	       is(v->state, w->state) && has(v->application, w->application) && has(v->address, w->address) &&
	       (!*w->query || (v->statement && strcasestr(v->statement, w->query)));
}

static const char *copy(struct arena *arena, const char *s)
{
	return arena_strdup(arena, s ? s : "");
}

static void copy_session(const struct session_view *view, void *to)
{
	struct collector *c = to;
	struct arena *arena = &c->part->arena;
	struct session_row *row;

	if (!is_wished(view, c->wish) || c->part->matched++ >= c->wish->limit)
		return;
	row = arena_alloc(arena, sizeof(*row));
	if (!row)
		return;
	*row = (struct session_row){.view = *view};
	row->view.database = copy(arena, view->database);
	row->view.user = copy(arena, view->user);
	row->view.application = copy(arena, view->application);
	row->view.state = copy(arena, view->state);
	row->view.address = copy(arena, view->address);
	row->view.tls = copy(arena, view->tls);
	row->view.node = copy(arena, view->node);
	row->view.statement = view->statement ? copy(arena, view->statement) : NULL;
	*c->end = row;
	c->end = &row->next;
	c->part->row_count++;
}

static void collect(struct worker *worker, struct round_part *part, uint64_t argument)
{
	struct collector c = {
		.part = part, .end = &part->rows, .wish = (const struct session_wish *)(uintptr_t)argument};

	worker_each_session(worker, copy_session, &c);
}

/* ---- on the admin API's ---- */

bool sessions_collect(struct sessions_shared *sessions, const struct session_wish *wish,
		      json_t *(*show)(const struct session_view *view), struct session_list *ret)
{
	struct round *round = round_begin_with(sessions, collect, wish, sizeof(*wish));

	if (!round)
		return false;
	(void)round_wait(round);
	*ret = (struct session_list){.list = json_array()};
	for (uint32_t i = 0; i < round_count(round); i++) {
		const struct round_part *part = round_part(round, i);
		const struct session_row *row = part ? part->rows : NULL;

		ret->late += !part;
		ret->matched += part ? part->matched : 0;
		for (; row && json_array_size(ret->list) < wish->limit; row = row->next)
			(void)json_array_append_new(ret->list, show(&row->view));
	}
	round_unref(round);
	return true;
}

json_t *session_common_json(const struct session_view *v)
{
	json_t *json = json_object();

	json_put(json, "pid", json_integer(v->pid));
	json_put(json, "worker", json_integer(v->worker));
	json_put(json, "database", json_text(v->database));
	json_put(json, "user", json_text(v->user));
	json_put(json, "application", json_text(v->application));
	json_put(json, "address", json_text(v->address));
	json_put(json, "tls", json_text_or_null(v->tls));
	json_put(json, "state", json_text(v->state));
	json_put(json, "state_ms", json_integer((json_int_t)(v->state_us / 1000)));
	json_put(json, "connected_ms", json_integer((json_int_t)(v->connected_us / 1000)));
	json_put(json, "pinned", json_boolean(v->pinned));
	json_put(json, "node", json_text_or_null(v->node));
	json_put(json, "statement", json_text(v->statement));
	json_put(json, "statement_is_cut", json_boolean(v->statement_is_cut));
	json_put(json, "query_ms", v->query_us ? json_integer((json_int_t)(v->query_us / 1000)) : json_null());
	return json;
}

bool request_limit(struct request *request, struct answer *answer, uint64_t *ret)
{
	const char *text = request_parameter(request, "limit");

	*ret = SESSIONS_DEFAULT;
	if (!text || parse_number(text, SESSIONS_MAX, ret))
		return true;
	answer_error(answer, MHD_HTTP_BAD_REQUEST, "limit must be a number from 0 to %u", SESSIONS_MAX);
	return false;
}

bool request_pid(struct request *request, struct answer *answer, uint64_t *ret)
{
	if (parse_number(request->argument, UINT32_MAX, ret))
		return true;
	answer_error(answer, MHD_HTTP_BAD_REQUEST, "a session is named by its pid, a number");
	return false;
}

struct round *request_session_round(struct request *request, struct answer *answer, round_work *work, uint64_t *ret_pid)
{
	struct round *round;

	if (!request_pid(request, answer, ret_pid))
		return NULL;
	round = round_begin(request->admin->context.sessions, work, *ret_pid);
	if (round)
		(void)round_wait(round);
	return round;
}

void answer_no_session(struct answer *answer, uint32_t late, const char *what)
{
	if (late > 0)
		answer_error(answer, MHD_HTTP_SERVICE_UNAVAILABLE,
			     "not found so far; %u workers are late, and %s should they have it", late, what);
	else
		answer_problem(answer, MHD_HTTP_NOT_FOUND, "no_such_session", "Session not found");
}
