/* The versioned API: client sessions. */
#include "admin/views.h"

#include <stdio.h>

/* ---- GET /api/v1/sessions ---- */

static json_t *session_v1_json(const struct session_view *v)
{
	json_t *json = session_common_json(v);

	json_put(json, "link", v->backend_pid ? json_integer(v->backend_pid) : json_null());
	return json;
}

/* false: it was answered that it is too long. */
static bool read_wish(struct request *request, struct answer *answer, const char *parameter, char *ret)
{
	const char *text;

	if (!request_text(request, answer, parameter, &text))
		return false;
	snprintf(ret, SESSION_TEXT_MAX, "%s", text);
	return true;
}

void endpoint_v1_sessions(struct request *request, struct answer *answer)
{
	struct session_wish wish = {0};
	struct session_list found;
	json_t *json;

	if (!request_limit(request, answer, &wish.limit) || !read_wish(request, answer, "database", wish.database) ||
	    !read_wish(request, answer, "user", wish.user) || !read_wish(request, answer, "state", wish.state) ||
	    !read_wish(request, answer, "application", wish.application) ||
	    !read_wish(request, answer, "address", wish.address) || !read_wish(request, answer, "query", wish.query))
		return;
	if (!sessions_collect(request->admin->context.sessions, &wish, session_v1_json, &found))
		return;
	json = list_json(found.list, found.matched);
	json_put(json, "limit", json_integer((json_int_t)wish.limit));
	json_put(json, "workers_late", json_integer(found.late)); /* whose sessions are not there */
	answer_json(answer, MHD_HTTP_OK, json);
}

/* ---- /api/v1/sessions/{pid} ---- */

void endpoint_v1_session(struct request *request, struct answer *answer)
{
	struct session_wish wish = {.limit = 1};
	struct session_list found;
	uint64_t pid;

	if (!request_pid(request, answer, &pid))
		return;
	wish.pid = (uint32_t)pid;
	if (pid == 0) { /* means any, there */
		answer_no_session(answer, /* late= */ 0, "");
		return;
	}
	if (!sessions_collect(request->admin->context.sessions, &wish, session_v1_json, &found))
		return;
	if (json_array_size(found.list) > 0)
		answer_json(answer, MHD_HTTP_OK, json_incref(json_array_get(found.list, 0)));
	else
		answer_no_session(answer, found.late, "would tell");
	json_decref(found.list);
}

static void cancel(struct worker *worker, struct round_part *part, uint64_t pid)
{
	part->verdict = worker_cancel_session(worker, (uint32_t)pid);
}

void endpoint_v1_session_cancel(struct request *request, struct answer *answer)
{
	enum cancel_verdict verdict = CANCEL_NO_SESSION;
	struct round *round;
	uint64_t pid;
	json_t *json;

	round = request_session_round(request, answer, cancel, &pid);
	if (!round)
		return;
	for (uint32_t i = 0; i < round_count(round); i++) {
		const struct round_part *part = round_part(round, i);

		verdict = part && part->verdict != CANCEL_NO_SESSION ? part->verdict : verdict;
	}
	switch (verdict) {
	case CANCEL_BEGUN:
		request_log(request, "cancel asked for over the admin API", "pid", pid);
		json = json_object();
		json_put(json, "status", json_text("cancelling"));
		json_put(json, "pid", json_integer((json_int_t)pid));
		answer_json(answer, MHD_HTTP_ACCEPTED, json);
		break;
	case CANCEL_NOTHING_RUNS:
		answer_problem(answer, MHD_HTTP_CONFLICT, "nothing_runs", "the session runs nothing");
		break;
	case CANCEL_NO_SESSION:
		answer_no_session(answer, round_late(round), "cancel it");
		break;
	case CANCEL_NO_MEMORY:
		break;
	}
	round_unref(round);
}
