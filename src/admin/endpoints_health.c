/* Health checks, version, and the list of endpoints. */
#include "admin/admin_priv.h"

#include <stdio.h>
#include <time.h>

#define PING_EVERY_MS 1000u

void endpoint_health(struct request *request, struct answer *answer)
{
	json_t *json = json_object();

	json_put(json, "status", json_text("ok"));
	answer_json(answer, MHD_HTTP_OK, json);
}

/*
 * The round to look at; a reference for the caller. At most one is under way: while a worker hangs no messages heap up
 * in its mailbox, and all checks but the first find the round too old already and need not wait.
 */
static struct round *ping_workers(struct admin *admin)
{
	struct round *ping = NULL, *old = NULL;

	pthread_mutex_lock(&admin->lock);
	if (!admin->ping || (round_late(admin->ping) == 0 && round_age_ms(admin->ping) >= PING_EVERY_MS)) {
		old = admin->ping;
		admin->ping = round_begin(admin->context.sessions, /* work= */ NULL, 0);
	}
	if (admin->ping)
		ping = round_ref(admin->ping);
	pthread_mutex_unlock(&admin->lock);
	round_unref(old);
	return ping;
}

void endpoint_live(struct request *request, struct answer *answer)
{
	struct round *ping = ping_workers(request->admin);
	json_t *json = json_object();
	bool alive = ping && round_wait(ping);

	json_put(json, "alive", json_boolean(alive));
	if (ping && !alive) {
		char message[96];

		snprintf(message, sizeof(message), "%u of %u workers have not answered for %.1f s", round_late(ping),
			 round_count(ping), (double)round_age_ms(ping) / 1000);
		json_put(json, "message", json_text(message));
	}
	round_unref(ping);
	answer_json(answer, alive ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE, json);
}

uint32_t nodes_healthy(const struct node_list *nodes)
{
	const struct node_set *set = node_list_now(nodes);
	uint32_t healthy = 0;

	for (uint32_t i = 0; i < set->count; i++)
		healthy += node_is_healthy(set->nodes[i]);
	return healthy;
}

static bool all_healthy_ones_drain(const struct node_list *nodes)
{
	const struct node_set *set = node_list_now(nodes);

	for (uint32_t i = 0; i < set->count; i++)
		if (node_is_healthy(set->nodes[i]) && node_takes_new(set->nodes[i]))
			return false;
	return true;
}

static bool any_node_is_enabled(const struct node_list *nodes)
{
	const struct node_set *set = node_list_now(nodes);

	for (uint32_t i = 0; i < set->count; i++)
		if (atomic_load(&set->nodes[i]->enabled))
			return true;
	return false;
}

bool admin_is_ready(struct admin *admin, const char **ret_message)
{
	const struct admin_context *c = &admin->context;

	if (atomic_load(&admin->draining) || atomic_load(&c->sessions->draining))
		*ret_message = "shutting down";
	else if (suspension_is_on(&c->sessions->suspension))
		*ret_message = "suspended by an operator";
	else if (!any_node_is_enabled(c->nodes))
		*ret_message = "no node is enabled";
	else if (nodes_healthy(c->nodes) == 0)
		*ret_message = "no node is healthy";
	else if (all_healthy_ones_drain(c->nodes))
		*ret_message = "all healthy nodes are being drained";
	else {
		*ret_message = "ready";
		return true;
	}
	return false;
}

void endpoint_ready(struct request *request, struct answer *answer)
{
	const char *message;
	bool ready = admin_is_ready(request->admin, &message);
	json_t *json = json_object();

	json_put(json, "ready", json_boolean(ready));
	json_put(json, "message", json_text(message));
	answer_json(answer, ready ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE, json);
}

/* ---- what this is ---- */

/* The compiler's words ("Nov  3 2026", "14:31:45") as ISO 8601; they follow SOURCE_DATE_EPOCH where it is set. */
static void build_time(char *text, size_t size)
{
	struct tm tm = {0};

	if (!strptime(__DATE__ " " __TIME__, "%b %d %Y %H:%M:%S", &tm) ||
	    !strftime(text, size, "%Y-%m-%dT%H:%M:%S", &tm))
		snprintf(text, size, "%s", __DATE__ " " __TIME__);
}

void endpoint_version(struct request *request, struct answer *answer)
{
	json_t *json = json_object(), *list = json_array();
	char built[64], started[32];

	for (const char *const *f = request->admin->context.features; f && *f; f++)
		(void)json_array_append_new(list, json_text(*f));
	build_time(built, sizeof(built));
	format_time(request->admin->context.started_wall, started, sizeof(started));
	json_put(json, "version", json_text(HELIOS_VERSION));
	json_put(json, "build_time", json_text(built));
	json_put(json, "started_at", json_text(started));
	json_put(json, "features", list);
	json_put(json, "io", json_text(loop_backend(request->admin->context.sessions->workers[0]->pool_thread.loop)));
	answer_json(answer, MHD_HTTP_OK, json);
}

/* The table's texts are ours: nothing in them has to be escaped. */
void endpoint_index(struct request *request, struct answer *answer)
{
	struct buf b = BUF_INIT(256u << 10);

	buf_printf(&b,
		   "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>HeliosProxy "
		   "%s</title></head><body>\n"
		   "<h1>HeliosProxy %s</h1>\n<p>Endpoints marked * ask for the bearer token, where one is "
		   "configured.</p>\n"
		   "<table>\n",
		   HELIOS_VERSION, HELIOS_VERSION);
	for (size_t i = 0; i < route_count; i++)
		if (routes[i].handler)
			buf_printf(&b, "<tr><td>%s<td><code>%s</code><td>%s<td>%s\n", routes[i].method, routes[i].path,
				   routes[i].access == ACCESS_OPEN ? "" : "*", routes[i].help);
	buf_add_str(&b, "</table>\n</body></html>\n");
	answer_text(answer, "text/html; charset=utf-8", &b);
}
