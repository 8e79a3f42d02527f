/* GET /metrics, in the formats that there are, and the page that lists all metrics. */
#include "admin/admin_priv.h"

#include "admin/accept.h"
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

/* The first is for whom it is all the same to. */
enum form { FORM_TEXT, FORM_OPEN_METRICS, FORM_JSON, FORM_PROTOBUF };

static const struct accept_offer forms[] = {
	[FORM_TEXT] = {"text", "plain", {{"version", "0.0.4"}}},
	[FORM_OPEN_METRICS] = {"application", "openmetrics-text", {{"version", "1.0.0 0.0.1"}}},
	[FORM_JSON] = {"application", "json"},
	[FORM_PROTOBUF] = {"application",
			   "vnd.google.protobuf",
			   {{"proto", "io.prometheus.client.MetricFamily"}, {"encoding", "delimited"}}},
};

static const enum exposition_format formats[] = {[FORM_TEXT] = EXPOSITION_TEXT,
						 [FORM_OPEN_METRICS] = EXPOSITION_OPEN_METRICS,
						 [FORM_PROTOBUF] = EXPOSITION_PROTOBUF};

/* ---- endpoints ---- */

/* False: out of memory. */
static bool expose_all(struct admin *admin, struct exposition *e)
{
	bool good = true;

	e->created = admin->context.started_wall;
	for (size_t i = 0; good && i < ARRAY_SIZE(groups); i++)
		good = groups[i]->expose(e, admin, groups[i]->metrics);
	exposition_end(e);
	return good && !e->out->failed;
}

void admin_expose(struct admin *admin, struct buf *out)
{
	struct exposition e = EXPOSITION_INIT(out, EXPOSITION_TEXT);

	e.rows_max = METRICS_POOLS_MAX;
	if (!expose_all(admin, &e))
		out->failed = true;
}

static bool write_metrics(struct request *request, enum exposition_format format, struct buf *b)
{
	struct exposition e = EXPOSITION_INIT(b, format);
	const char *pools = request_parameter(request, "pools");
	uint64_t rows;

	e.rows_max = METRICS_POOLS_MAX;
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

static enum form wanted_form(const struct request *request)
{
	return (enum form)accept_choose(request_header(request, MHD_HTTP_HEADER_ACCEPT), forms, ARRAY_SIZE(forms));
}

static void answer_metrics(struct request *request, enum exposition_format format, struct answer *answer)
{
	struct buf text = BUF_INIT(TEXT_MAX);

	if (write_metrics(request, format, &text))
		answer_text(answer, exposition_types[format], &text);
	buf_free(&text);
}

void endpoint_metrics(struct request *request, struct answer *answer)
{
	enum form form = wanted_form(request);

	if (form == FORM_JSON)
		endpoint_metrics_json(request, answer);
	else
		answer_metrics(request, formats[form], answer);
}

/* The reference wraps the text in JSON: for its clients, when they say so. */
void endpoint_metrics_prometheus(struct request *request, struct answer *answer)
{
	enum form form = wanted_form(request);
	struct buf text = BUF_INIT(TEXT_MAX);
	json_t *json;

	if (form != FORM_JSON) {
		answer_metrics(request, formats[form], answer);
		return;
	}
	if (write_metrics(request, EXPOSITION_TEXT, &text)) {
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
