/* The versioned API: SUSPEND and RESUME of everything, as on the console. */
#include "admin/views.h"

static const char *const state_names[] = {
	[SUSPENSION_OFF] = "off", [SUSPENSION_FLUSHING] = "flushing", [SUSPENSION_ON] = "on"};

const char *suspension_text(struct sessions_shared *sessions)
{
	return state_names[suspension_state(sessions)];
}

/* 202 until all is written, for the caller to ask again rather than to wait here. */
static void answer_suspension(struct request *request, struct answer *answer, const char *status)
{
	struct sessions_shared *sessions = request->admin->context.sessions;
	enum suspension_state state = suspension_state(sessions);
	json_t *json = json_object();

	json_put(json, "status", json_text(status));
	json_put(json, "suspension", json_text(state_names[state]));
	json_put(json, "closed", json_integer((json_int_t)suspension_closed(sessions)));
	answer_json(answer, state == SUSPENSION_FLUSHING ? MHD_HTTP_ACCEPTED : MHD_HTTP_OK, json);
}

static usec_t timeout_of(struct admin *admin)
{
	usec_t timeout;

	pthread_mutex_lock(&admin->lock);
	timeout = admin->context.config->proxy.suspend_timeout;
	pthread_mutex_unlock(&admin->lock);
	return timeout;
}

void endpoint_v1_suspend(struct request *request, struct answer *answer)
{
	const struct admin_context *c = &request->admin->context;

	if (pools_any_is_paused(c->pools))
		answer_problem(answer, MHD_HTTP_CONFLICT, "paused", "a database is paused: resume it first");
	else if (suspension_begin(c->sessions, timeout_of(request->admin), /* by_console= */ false) == -ESHUTDOWN)
		answer_error(answer, MHD_HTTP_SERVICE_UNAVAILABLE, "the proxy shuts down");
	else
		answer_suspension(request, answer, "suspended");
}

void endpoint_v1_resume(struct request *request, struct answer *answer)
{
	const struct admin_context *c = &request->admin->context;
	int r = suspension_end(c->sessions, "the admin API");

	if (r < 0)
		r = pools_resume(c->pools, NULL);
	answer_suspension(request, answer, r == 0 ? "resumed" : "not suspended");
}
