/* What is asked of workers by message: sessions, closing one, the clock; and the reload. */
#include "admin/admin_priv.h"
#include "admin/views.h"

#include "base/log.h"
#include "loop/crew.h"

#define ADVANCE_MAX_MS (366ull * 86400 * 1000)

/* ---- GET /sessions ---- */

static json_t *session_json(const struct session_view *v)
{
	json_t *json = session_common_json(v);

	json_put(json, "link", v->link ? json_integer((json_int_t)v->link) : json_null());
	json_put(json, "server_pid", v->backend_pid ? json_integer(v->backend_pid) : json_null());
	return json;
}

static uint64_t count_sessions(const struct sessions_shared *sessions)
{
	uint64_t count = 0;

	for (uint32_t i = 0; i < sessions->worker_count; i++)
		count += atomic_load(&sessions->workers[i]->session_count_seen);
	return count;
}

void endpoint_sessions(struct request *request, struct answer *answer)
{
	struct sessions_shared *sessions = request->admin->context.sessions;
	struct session_wish wish = {0};
	struct session_list found;
	json_t *json;

	if (!request_limit(request, answer, &wish.limit))
		return;
	if (!sessions_collect(sessions, &wish, session_json, &found))
		return;
	json = json_object();
	json_put(json, "active_sessions", json_integer((json_int_t)count_sessions(sessions)));
	json_put(json, "workers_late", json_integer(found.late)); /* whose sessions are not shown */
	json_put(json, "sessions", found.list);
	answer_json(answer, MHD_HTTP_OK, json);
}

/* ---- DELETE /sessions/{pid} ---- */

static void close_session(struct worker *worker, struct round_part *part, uint64_t pid)
{
	part->found = worker_kill_session(worker, (uint32_t)pid);
}

void endpoint_session_close(struct request *request, struct answer *answer)
{
	struct round *round;
	bool found = false;
	uint64_t pid;
	json_t *json;

	round = request_session_round(request, answer, close_session, &pid);
	if (!round)
		return;
	for (uint32_t i = 0; i < round_count(round); i++) {
		const struct round_part *part = round_part(round, i);

		found |= part && part->found;
	}
	if (found) {
		request_log(request, "session closed over the admin API", "pid", pid);
		json = json_object();
		json_put(json, "status", json_text("closed"));
		json_put(json, "pid", json_integer((json_int_t)pid));
		answer_json(answer, MHD_HTTP_OK, json);
	} else {
		answer_no_session(answer, round_late(round), "close it");
	}
	round_unref(round);
}

/* ---- POST /reload ---- */

void endpoint_reload(struct request *request, struct answer *answer)
{
	const struct admin_context *c = &request->admin->context;
	json_t *json;
	int r;

	if (!c->reload) {
		answer_error(answer, MHD_HTTP_NOT_IMPLEMENTED, "reloading is not available");
		return;
	}
	request_log(request, "reload asked for over the admin API", NULL, 0);
	r = c->reload(c->server);
	if (r < 0) {
		answer_error(answer, MHD_HTTP_CONFLICT,
			     "not reloaded, the old configuration stays: %s; the log says more", strerror(-r));
		return;
	}
	json = json_object();
	json_put(json, "status", json_text("reload asked for; the log tells how it went"));
	answer_json(answer, MHD_HTTP_OK, json);
}

/* ---- POST /debug/clock ---- */

/*
 * All timers that are due by the new clock have run when this returns: the first message may run in a turn that began
 * before the clock moved; the second runs in a turn that saw it, before that turn's timers; the third after them.
 */
#define CLOCK_ROUNDS 3

static bool settle_workers(struct sessions_shared *sessions)
{
	bool settled = true;

	for (int i = 0; i < CLOCK_ROUNDS && settled; i++) {
		struct round *round = round_begin(sessions, /* work= */ NULL, 0);

		settled = round && round_wait(round);
		round_unref(round);
	}
	return settled;
}

void endpoint_clock(struct request *request, struct answer *answer)
{
	const struct admin_context *c = &request->admin->context;
	const char *text = request_parameter(request, "advance_ms");
	uint64_t by_ms;
	json_t *json;

	if (!c->test_clock) {
		answer_error(answer, MHD_HTTP_NOT_FOUND, "Not found");
		return;
	}
	if (!text || !parse_number(text, ADVANCE_MAX_MS, &by_ms)) {
		answer_error(answer, MHD_HTTP_BAD_REQUEST,
			     "advance_ms must be a number of milliseconds, at most a year");
		return;
	}
	clock_advance(by_ms * USEC_PER_MSEC);
	if (c->cluster)
		cluster_wake(c->cluster);
	json = json_object();
	json_put(json, "advanced_ms", json_integer((json_int_t)by_ms));
	json_put(json, "settled", json_boolean(settle_workers(c->sessions)));
	answer_json(answer, MHD_HTTP_OK, json);
}

/* ---- POST /debug/positions ---- */

void endpoint_positions(struct request *request, struct answer *answer)
{
	const struct admin_context *c = &request->admin->context;

	if (!c->test_clock || !c->cluster) {
		answer_error(answer, MHD_HTTP_NOT_FOUND, "Not found");
		return;
	}
	(void)clock_update(); /* this thread has no loop that would */
	cluster_want_positions(c->cluster);
	answer_json(answer, MHD_HTTP_OK, json_object());
}

/* ---- POST /debug/threads ---- */

void endpoint_threads(struct request *request, struct answer *answer)
{
	const struct admin_context *c = &request->admin->context;
	const char *text = request_parameter(request, "active");
	uint64_t active;
	json_t *json;

	if (!c->test_clock || !c->sessions->crew) {
		answer_error(answer, MHD_HTTP_NOT_FOUND, "Not found");
		return;
	}
	if (!text || !parse_number(text, c->sessions->worker_count, &active)) {
		answer_error(answer, MHD_HTTP_BAD_REQUEST, "active must be a number, at most that of the workers");
		return;
	}
	if (crew_force(c->sessions->crew, (uint32_t)active) < 0) {
		answer_error(answer, MHD_HTTP_CONFLICT, "the number of threads is fixed");
		return;
	}
	json = json_object();
	json_put(json, "active", json_integer((json_int_t)atomic_load(&crew_counters(c->sessions->crew)->active)));
	answer_json(answer, MHD_HTTP_OK, json);
}
