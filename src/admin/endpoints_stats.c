/* Statistics for people and for the web UI: totals of now, and what each of the last seconds was like. */
#include "admin/admin_priv.h"

#include "admin/history.h"
#include "metrics/exposition.h"

#include <math.h>

static json_t *count_json(uint64_t count)
{
	return json_integer((json_int_t)count);
}

/* Whole, but for times. */
static json_t *number_json(double value)
{
	return value == floor(value) ? json_integer((json_int_t)value) : json_real(value);
}

static void put_counters(json_t *json, const struct counters *sum, const char *kind)
{
	for (uint32_t i = 0; i < COUNTER_METRICS; i++)
		if (strcmp(counter_metrics[i].kind, kind) == 0)
			json_put(json, counter_metrics[i].name + strlen("heliosdb_proxy_"),
				 number_json(counter_value(sum, i)));
}

static json_t *gauges_json(const struct admin *admin, const struct counters *sum)
{
	struct pool_link_totals links;
	json_t *json = json_object();
	uint32_t nodes = node_list_now(admin->context.nodes)->count;

	put_counters(json, sum, "gauge");
	pools_sum_links(admin->context.pools, &links);
	json_put(json, "pools", json_integer(links.pools));
	json_put(json, "links_active", json_integer(links.active));
	json_put(json, "links_idle", json_integer(links.idle));
	json_put(json, "links_opening", json_integer(links.opening));
	json_put(json, "nodes_healthy", json_integer(nodes_healthy(admin->context.nodes)));
	json_put(json, "nodes_total", json_integer(nodes));
	return json;
}

static json_t *histogram_json(const struct latency_totals *t)
{
	json_t *json = json_object(), *bounds = json_array(), *counts = json_array();

	for (uint32_t i = 0; i < LATENCY_SHOWN; i++) {
		(void)json_array_append_new(bounds, json_real(latency_shown[i] / 1e6));
		(void)json_array_append_new(counts, count_json(latency_within(t, latency_shown[i])));
	}
	json_put(json, "le_seconds", bounds);
	json_put(json, "counts", counts);
	json_put(json, "count", count_json(t->count));
	json_put(json, "sum_seconds", json_real((double)t->sum / 1e6));
	return json;
}

static json_t *latencies_json(const struct admin *admin)
{
	static const char *const names[LATENCY_COUNT] = {[LATENCY_QUERY] = "query",
							 [LATENCY_TRANSACTION] = "transaction",
							 [LATENCY_SERVER] = "server",
							 [LATENCY_WAIT] = "wait",
							 [LATENCY_LOGIN] = "login"};
	struct latency_totals sums[LATENCY_COUNT];
	json_t *json = json_object();

	admin_sum_latencies(admin, sums);
	for (uint32_t i = 0; i < LATENCY_COUNT; i++)
		json_put(json, names[i], histogram_json(&sums[i]));
	return json;
}

void endpoint_stats(struct request *request, struct answer *answer)
{
	const struct admin *admin = request->admin;
	uint64_t now = clock_wall(), started = admin->context.started_wall;
	json_t *json = json_object(), *counters = json_object();
	struct counters sum;

	admin_sum_counters(admin, &sum);
	put_counters(counters, &sum, "counter");
	json_put(json, "at", time_json(now));
	json_put(json, "uptime_seconds", json_real(now > started ? (double)((now - started) / 1000) / 1e3 : 0));
	json_put(json, "counters", counters);
	json_put(json, "gauges", gauges_json(admin, &sum));
	json_put(json, "latency", latencies_json(admin));
	answer_json(answer, MHD_HTTP_OK, json);
}

/* A thousandth is as exact as anybody looks, and the text is half as long. */
static json_t *value_json(double value)
{
	double rounded = round(value * 1e3) / 1e3;

	if (value < 0)
		return json_null();
	return rounded == floor(rounded) ? json_integer((json_int_t)rounded) : json_real(rounded);
}

static json_t *row_json(const struct history_row *row)
{
	json_t *json = json_array();

	for (uint32_t i = 0; i < HISTORY_COLUMN_COUNT; i++)
		(void)json_array_append_new(json, value_json(row->values[i]));
	return json;
}

void endpoint_stats_history(struct request *request, struct answer *answer)
{
	const char *text = request_parameter(request, "seconds");
	uint64_t most = HISTORY_ROWS;
	struct history_row *rows;
	json_t *json, *columns, *list;
	uint32_t count;

	if (text && !parse_number(text, HISTORY_ROWS, &most)) {
		answer_error(answer, MHD_HTTP_BAD_REQUEST, "seconds is a number up to %u", HISTORY_ROWS);
		return;
	}
	rows = malloc((most + 1) * sizeof(*rows));
	if (!rows)
		return;
	count = sampler_copy(request->admin->sampler, (uint32_t)most, rows);
	json = json_object(), columns = json_array(), list = json_array();
	for (uint32_t i = 0; i < HISTORY_COLUMN_COUNT; i++)
		(void)json_array_append_new(columns, json_string(history_columns[i]));
	for (uint32_t i = 0; i < count; i++)
		(void)json_array_append_new(list, row_json(&rows[i]));
	free(rows);
	json_put(json, "interval_seconds", json_integer(1));
	json_put(json, "columns", columns);
	json_put(json, "rows", list);
	answer_json(answer, MHD_HTTP_OK, json);
}
