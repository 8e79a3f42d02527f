/* From a request that has come to the handler that answers it: who may, and which one. */
#include "admin/admin_priv.h"

/* ---- who may ---- */

const char *access_name(enum access_right right)
{
	static const char *const names[] = {"open", "read", "operate", "admin"};

	return names[right];
}

enum admission { ADMIT_GRANTED, ADMIT_NO_TOKEN, ADMIT_CLOSED, ADMIT_FOREIGN };

/*
 * Without a token a page that the operator's browser shows could send requests in the operator's name; its origin gives
 * it away.
 */
static enum admission admission_of(const struct request *request, enum access_right access)
{
	struct admin *admin = request->admin;
	enum admission admission = ADMIT_GRANTED;
	bool changes = strcmp(request->method, "GET") != 0 && strcmp(request->method, "HEAD") != 0;

	if (access == ACCESS_OPEN)
		return ADMIT_GRANTED;
	pthread_mutex_lock(&admin->lock);
	if (admin->context.config->proxy.admin_token[0]) {
		if (!bearer_equals(request_header(request, MHD_HTTP_HEADER_AUTHORIZATION),
				   admin->context.config->proxy.admin_token))
			admission = ADMIT_NO_TOKEN;
	} else if (config_admin_is_exposed(admin->context.config)) {
		admission = ADMIT_CLOSED;
	}
	pthread_mutex_unlock(&admin->lock);
	if (admission == ADMIT_GRANTED && changes &&
	    !origin_is_host(request_header(request, MHD_HTTP_HEADER_ORIGIN),
			    request_header(request, MHD_HTTP_HEADER_HOST)))
		admission = ADMIT_FOREIGN;
	return admission;
}

static bool refuse(struct answer *answer, enum admission admission)
{
	switch (admission) {
	case ADMIT_GRANTED:
		return false;
	case ADMIT_NO_TOKEN:
		answer_error(answer, MHD_HTTP_UNAUTHORIZED, "missing or invalid admin bearer token");
		return true;
	case ADMIT_CLOSED:
		answer_error(answer, MHD_HTTP_FORBIDDEN,
			     "closed: other machines can reach this address and there is no admin_token");
		return true;
	case ADMIT_FOREIGN:
		answer_error(answer, MHD_HTTP_FORBIDDEN, "requests from pages of other sites are refused");
		return true;
	}
	return true;
}

/* ---- which handler ---- */

void dispatch(struct request *request, struct answer *answer)
{
	struct slice argument = {0};
	const struct route *route =
		route_find(request->method, request->path, &argument, answer->allow, sizeof(answer->allow));

	if (route && route->access != ACCESS_OPEN) /* whoever gets in may all, so far */
		request->right = ACCESS_ADMIN;
	if (refuse(answer, admission_of(request, route ? route->access : ACCESS_READ)))
		answer->allow[0] = 0;
	else if (!route && answer->allow[0])
		answer_error(answer, MHD_HTTP_METHOD_NOT_ALLOWED, "method not allowed: use %s", answer->allow);
	else if (!route || argument.len >= sizeof(request->argument))
		answer_error(answer, MHD_HTTP_NOT_FOUND, "Not found");
	else if (!route->handler)
		answer_error(answer, MHD_HTTP_NOT_IMPLEMENTED, "%s is not available in this build", route->help);
	else {
		memcpy(request->argument, argument.bytes ? (const char *)argument.bytes : "", argument.len);
		answer->allow[0] = 0;
		node_list_hold(request->admin->context.nodes);
		route->handler(request, answer);
		node_list_release(request->admin->context.nodes);
	}
}
