/* The versioned API: pools, and what operators do with a database (as on the console: pool/gate.c). */
#include "admin/views.h"

/* ---- GET /api/v1/pools ---- */

static json_t *pool_v1_json(const struct pool_view *v)
{
	json_t *json = json_object();

	json_put(json, "database", json_text(v->database));
	json_put(json, "user", json_text(v->user));
	json_put(json, "node", json_text(v->node));
	json_put(json, "mode", json_text(v->mode));
	json_put(json, "active", json_integer(v->active));
	json_put(json, "idle", json_integer(v->idle));
	json_put(json, "opening", json_integer(v->connecting));
	json_put(json, "pinned", json_integer(v->pinned));
	json_put(json, "held_long", json_integer(v->held_long));
	json_put(json, "waiting", json_integer(v->waiting));
	json_put(json, "max", json_integer(v->max));
	json_put(json, "active_limit", json_integer(v->active_limit));
	json_put(json, "clients", json_integer(v->clients));
	json_put(json, "paused", json_boolean(v->paused));
	json_put(json, "disabled", json_boolean(v->disabled));
	json_put(json, "oldest_wait_ms", json_integer((json_int_t)(v->oldest_wait_us / 1000)));
	json_put(json, "opened_total", json_integer((json_int_t)v->opened));
	json_put(json, "closed_total", json_integer((json_int_t)v->closed));
	json_put(json, "queries_total", json_integer((json_int_t)v->stats.queries));
	json_put(json, "transactions_total", json_integer((json_int_t)v->stats.transactions));
	json_put(json, "last_error", json_text_or_null(v->last_error));
	return json;
}

static bool is(const struct request *request, const char *parameter, const char *value)
{
	const char *wanted = request_parameter(request, parameter);

	return !wanted || !*wanted || strcmp(wanted, value) == 0;
}

void endpoint_v1_pools(struct request *request, struct answer *answer)
{
	struct pool_rows rows;
	json_t *list;

	if (!pool_rows_collect(&rows, request->admin->context.pools))
		return;
	list = json_array();
	for (const struct pool_row *row = rows.first; row; row = row->next)
		if (is(request, "database", row->view.database) && is(request, "user", row->view.user) &&
		    is(request, "node", row->view.node))
			(void)json_array_append_new(list, pool_v1_json(&row->view));
	pool_rows_free(&rows);
	answer_json(answer, MHD_HTTP_OK, list_json(list, json_array_size(list)));
}
