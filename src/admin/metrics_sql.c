/* Metrics of the statements that POST /sql runs. */
#include "admin/metrics.h"
#include "admin/sql.h"

static const struct metric running_metrics[] = {
	{"heliosdb_proxy_admin_statements_running", "gauge", "Statements that POST /sql runs now."}};

static bool expose_running(struct exposition *e, struct admin *admin, const struct metric *m)
{
	struct sql_counts counts;

	sql_runner_count(admin->sql, &counts);
	exposition_single(e, m, counts.running);
	return true;
}

const struct metric_group metrics_statements_running = {"", "Statements over the admin API.", running_metrics,
							ARRAY_SIZE(running_metrics), expose_running};

static const struct metric done_metrics[] = {
	{"heliosdb_proxy_admin_statements_total", "counter",
	 "Statements of POST /sql: done, failed, stopped before their end, or refused for others that ran."}};

static bool expose_done(struct exposition *e, struct admin *admin, const struct metric *m)
{
	static const char *const results[] = {[SQL_RESULT_OK] = "ok",
					      [SQL_RESULT_ERROR] = "error",
					      [SQL_RESULT_STOPPED] = "stopped",
					      [SQL_RESULT_REFUSED] = "refused"};
	struct sql_counts counts;

	sql_runner_count(admin->sql, &counts);
	exposition_begin(e, m);
	for (size_t i = 0; i < SQL_RESULTS; i++)
		exposition_add_one(e, "result", results[i], (double)counts.done[i]);
	return true;
}

const struct metric_group metrics_statements = {"result", "The same, by what came of them.", done_metrics,
						ARRAY_SIZE(done_metrics), expose_done};
