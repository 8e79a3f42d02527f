/* The versioned API: its description, who asks, and how the proxy is. */
#include "admin/openapi.h"
#include "admin/views.h"

#include "loop/crew.h"

void endpoint_v1_openapi(struct request *request, struct answer *answer)
{
	struct buf b = BUF_INIT(openapi_len);

	(void)request;
	buf_add(&b, openapi_document, openapi_len);
	answer_text(answer, "application/json", &b);
}

void endpoint_v1_whoami(struct request *request, struct answer *answer)
{
	json_t *json = json_object(), *can = json_array();

	for (int right = ACCESS_READ; right <= (int)request->right; right++)
		(void)json_array_append_new(can, json_text(access_name((enum access_right)right)));
	json_put(json, "role", json_text(access_name(request->right)));
	json_put(json, "token", json_text_or_null(request->token));
	json_put(json, "can", can);
	answer_json(answer, MHD_HTTP_OK, json);
}

/* ---- GET /api/v1/status ---- */

static json_t *features_json(const struct admin_context *c)
{
	json_t *list = json_array();

	for (const char *const *f = c->features; f && *f; f++)
		(void)json_array_append_new(list, json_text(*f));
	return list;
}

static void count_pool(const struct pool_view *view, void *count)
{
	(void)view;
	++*(uint64_t *)count;
}

static uint64_t links_of(const struct node_list *nodes)
{
	const struct node_set *set = node_list_now(nodes);
	uint64_t links = 0;

	for (uint32_t i = 0; i < set->count; i++)
		links += atomic_load(&set->nodes[i]->links);
	return links;
}

static void put_process(json_t *json, const struct admin_context *c)
{
	uint64_t now = clock_wall();

	json_put(json, "version", json_text(HELIOS_VERSION));
	json_put(json, "started_at", time_json(c->started_wall));
	json_put(json, "uptime_seconds",
		 json_integer((json_int_t)(now > c->started_wall ? (now - c->started_wall) / USEC_PER_SEC : 0)));
	json_put(json, "features", features_json(c));
	json_put(json, "io", json_text(loop_backend(c->sessions->workers[0]->pool_thread.loop)));
	json_put(json, "workers", json_integer(c->sessions->worker_count));
	json_put(json, "threads_active",
		 c->sessions->crew ? json_integer(atomic_load(&crew_counters(c->sessions->crew)->active))
				   : json_null());
}

void endpoint_v1_status(struct request *request, struct answer *answer)
{
	struct admin *admin = request->admin;
	const struct admin_context *c = &admin->context;
	uint64_t pools = 0;
	const char *message;
	bool ready = admin_is_ready(admin, &message);
	json_t *json = json_object();

	pools_each(c->pools, count_pool, &pools);
	put_process(json, c);
	json_put(json, "ready", json_boolean(ready));
	json_put(json, "message", json_text(message));
	json_put(json, "draining", json_boolean(atomic_load(&admin->draining) || atomic_load(&c->sessions->draining)));
	json_put(json, "paused", json_boolean(pools_are_paused(c->pools)));
	json_put(json, "suspension", json_text(suspension_text(c->sessions)));
	json_put(json, "clients", json_integer(atomic_load(&c->sessions->clients)));
	json_put(json, "links", json_integer((json_int_t)links_of(c->nodes)));
	json_put(json, "nodes_healthy", json_integer(nodes_healthy(c->nodes)));
	json_put(json, "nodes_total", json_integer(node_list_count(c->nodes)));
	json_put(json, "pools", json_integer((json_int_t)pools));
	answer_json(answer, MHD_HTTP_OK, json);
}
