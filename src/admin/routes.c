/* The table of endpoints. See endpoints.def. */
#include "admin/admin_priv.h"

#include <stdio.h>

const struct route routes[] = {
#define ENDPOINT(method, path, access, name, help) {method, path, help, endpoint_##name, ACCESS_##access},
#define UNAVAILABLE(path, capability)              {NULL, path, capability, NULL, ACCESS_READ},
#include "admin/endpoints.def"
};
const size_t route_count = ARRAY_SIZE(routes);

static void allow_method(char *allow, size_t size, const char *method)
{
	size_t len = strlen(allow);

	snprintf(allow + len, size - len, "%s%s%s", len ? ", " : "", method,
		 strcmp(method, "GET") == 0 ? ", HEAD" : "");
}

bool path_is_versioned(const char *path)
{
	return strncmp(path, "/api/v1/", strlen("/api/v1/")) == 0;
}

static bool is_wide(const struct route *route)
{
	return strstr(route->path, "...}") != NULL;
}

const struct route *route_find(const char *method, const char *path, struct slice *ret_argument, char *allow,
			       size_t allow_size)
{
	const char *wanted = strcmp(method, "HEAD") == 0 ? "GET" : method;
	bool narrow =
		false; /* a path of ours that is more than some name: "/nodes/a/drain" is not the node "a/drain" */

	allow[0] = 0;
	for (size_t i = 0; i < route_count; i++) {
		const struct route *r = &routes[i];

		if ((narrow && is_wide(r)) || !path_match(r->path, path, ret_argument))
			continue;
		if (!r->method && path_is_versioned(path) != path_is_versioned(r->path))
			continue;
		/* A path of ours with the wrong method is not one of those that a later, wider pattern lacks. */
		if (!r->method ? !allow[0] : strcmp(r->method, wanted) == 0)
			return r;
		narrow |= !is_wide(r);
		if (r->method)
			allow_method(allow, allow_size, r->method);
	}
	return NULL;
}
