/* GET /metrics, in the formats that there are, and the page that lists all metrics. */
#include "admin/admin_priv.h"

#include "admin/metrics.h"

#define TEXT_MAX (256u << 20)

static const struct metric_group *const groups[] = {
	&metrics_counters,
	&metrics_old,
	&metrics_latencies,
	&metrics_routes,
	&metrics_pools,
	&metrics_nodes,
	&metrics_members,
	&metrics_member_sources,
	&metrics_circuits,
	&metrics_facts,
	&metrics_topology,
	&metrics_patroni,
	&metrics_catalogs,
	&metrics_loops,
	&metrics_sessions,
	&metrics_crew,
	&metrics_events,
	&metrics_errors,
	&metrics_streams_open,
	&metrics_streams,
	&metrics_requests,
	&metrics_admin,
	&metrics_statements_running,
	&metrics_statements,
	&metrics_build,
	&metrics_process,
};

/* ---- labels ---- */

void labels_begin(struct buf *b, const char *label, const char *value)
{
	buf_add_char(b, '{');
	labels_add(b, label, value);
}

void labels_add(struct buf *b, const char *label, const char *value)
{
	if (b->len > 1)
		buf_add_char(b, ',');
	buf_add_str(b, label);
	buf_add_str(b, "=\"");
	buf_add_label(b, value);
	buf_add_char(b, '"');
}

const char *labels_end(struct buf *b)
{
	buf_add_char(b, '}');
	return buf_cstr(b);
}

/* ---- endpoints ---- */

/* False: out of memory. */
static bool expose_all(struct admin *admin, struct exposition *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(groups); i++)
		if (!groups[i]->expose(e, admin, groups[i]->metrics))
			return false;
	exposition_end(e);
	return !e->out->failed;
}

void admin_expose(struct admin *admin, struct buf *out)
{
	struct exposition e = {.out = out, .rows_max = METRICS_POOLS_MAX};

	if (!expose_all(admin, &e))
		out->failed = true;
}

static bool metrics_text(struct request *request, bool open_metrics, struct buf *b)
{
	struct exposition e = {.out = b, .open_metrics = open_metrics, .rows_max = METRICS_POOLS_MAX};
	const char *pools = request_parameter(request, "pools");
	uint64_t rows;

	if (pools && parse_number(pools, METRICS_POOLS_MAX, &rows))
		e.rows_max = (uint32_t)rows;
	return expose_all(request->admin, &e);
}

void endpoint_metrics_json(struct request *request, struct answer *answer)
{
	struct counters sum;
	json_t *json = json_object();

	admin_sum_counters(request->admin, &sum);
#define PUT(name, counter) json_put(json, name, json_integer((json_int_t)atomic_load(&sum.counter)))
	PUT("connections_accepted", connections_total);
	PUT("connections_closed", connections_closed_total);
	PUT("connections_active", clients);
	PUT("queries_processed", queries_total);
	PUT("bytes_received", bytes_received_total);
	PUT("bytes_sent", bytes_sent_total);
	PUT("failovers", failovers_total);
#undef PUT
	answer_json(answer, MHD_HTTP_OK, json);
}

static bool accepts_open_metrics(const struct request *request)
{
	const char *accept = request_header(request, MHD_HTTP_HEADER_ACCEPT);

	return accept && strcasestr(accept, "application/openmetrics-text");
}

static void answer_metrics_text(struct request *request, struct answer *answer)
{
	bool open_metrics = accepts_open_metrics(request);
	struct buf text = BUF_INIT(TEXT_MAX);

	if (metrics_text(request, open_metrics, &text))
		answer_text(answer, open_metrics ? EXPOSITION_OPEN_TYPE : EXPOSITION_TEXT_TYPE, &text);
	buf_free(&text);
}

void endpoint_metrics(struct request *request, struct answer *answer)
{
	if (request_accepts_json(request))
		endpoint_metrics_json(request, answer);
	else
		answer_metrics_text(request, answer);
}

/* The reference wraps the text in JSON: for its clients, when they say so. */
void endpoint_metrics_prometheus(struct request *request, struct answer *answer)
{
	struct buf text = BUF_INIT(TEXT_MAX);
	json_t *json;

	if (!request_accepts_json(request)) {
		answer_metrics_text(request, answer);
		return;
	}
	if (metrics_text(request, /* open_metrics= */ false, &text)) {
		json = json_object();
		json_put(json, "text", json_text(buf_cstr(&text)));
		answer_json(answer, MHD_HTTP_OK, json);
	}
	buf_free(&text);
}

/* ---- the reference ---- */

static void print_group(FILE *out, const struct metric_group *group)
{
	fprintf(out, "\n%s%s%s%s\n\n| metric | type | meaning |\n|---|---|---|\n", group->about,
		*group->labels ? " Labels: `" : "", group->labels, *group->labels ? "`." : "");
	for (size_t i = 0; i < group->count; i++)
		fprintf(out, "| `%s` | %s | %s |\n", group->metrics[i].name, group->metrics[i].kind,
			group->metrics[i].help);
}

void metrics_reference(FILE *out)
{
	fputs("# Metrics\n\n<!-- Made by the proxy from its tables. Do not edit. -->\n\n"
	      "What `GET /metrics` shows. How to have it read, and what it means: [metrics](../metrics.md).\n",
	      out);
	for (size_t i = 0; i < ARRAY_SIZE(groups); i++)
		print_group(out, groups[i]);
}
