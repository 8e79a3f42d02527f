/* From a request that has come to the handler that answers it, and what is written down of it. */
#include "admin/admin_priv.h"

#include "base/event.h"

static void run(const struct route *route, struct slice argument, struct request *request, struct answer *answer)
{
	if (!route && answer->allow[0]) {
		answer_error(answer, MHD_HTTP_METHOD_NOT_ALLOWED, "method not allowed: use %s", answer->allow);
		return;
	}
	answer->allow[0] = 0;
	if (!route || argument.len >= sizeof(request->argument)) {
		answer_error(answer, MHD_HTTP_NOT_FOUND, "Not found");
	} else if (!route->handler) {
		answer_error(answer, MHD_HTTP_NOT_IMPLEMENTED, "%s is not available in this build", route->help);
	} else {
		memcpy(request->argument, argument.bytes ? (const char *)argument.bytes : "", argument.len);
		node_list_hold(request->admin->context.nodes);
		route->handler(request, answer);
		node_list_release(request->admin->context.nodes);
	}
}

/* One line for each change that was asked for by somebody who is known; handlers say what it meant. */
static void write_down(const struct request *request, const struct answer *answer)
{
	const char *role = access_name(request->right);
	char client[80];

	if (!request_changes(request) || request->right == ACCESS_OPEN)
		return;
	request_client(request, client, sizeof(client));
	if (strncmp(request->path, "/debug/", 7) == 0) /* a test's */
		log_debug("asked for over the admin API", kv_str("method", request->method),
			  kv_str("path", request->path), kv_uint("status", answer->status));
	else
		log_event(EVENT_ADMIN_CHANGE, LOG_INFO, "asked for over the admin API",
			  kv_str("method", request->method), kv_str("path", request->path),
			  kv_uint("status", answer->status), kv_str("token", request->token), kv_str("role", role),
			  kv_str("proof", request->proof), kv_str("admin_client", client));
}

static void count(struct admin *admin, const struct answer *answer)
{
	unsigned class = answer->body || answer->response ? answer->status / 100 : 5; /* neither: out of memory */

	if (class >= 1 && class <= STATUS_CLASSES)
		atomic_fetch_add(&admin->counts.answers[class - 1], 1);
}

void dispatch(struct request *request, struct answer *answer)
{
	struct slice argument = {0};
	const struct route *route =
		route_find(request->method, request->path, &argument, answer->allow, sizeof(answer->allow));

	if (access_check(request, route ? route->access : ACCESS_READ, answer))
		run(route, argument, request, answer);
	else
		answer->allow[0] = 0;
}

void dispatch_end(const struct request *request, const struct answer *answer)
{
	count(request->admin, answer);
	write_down(request, answer);
}
