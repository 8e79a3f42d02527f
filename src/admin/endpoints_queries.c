/* Statistics of queries: the versioned API's and the reference's. */
#include "admin/queries.h"

#include "sql/intent.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#define LIMIT_DEFAULT 50u
#define LIMIT_MAX     1000u
#define REFERENCE_MAX 1024u

static json_t *fingerprint_json(const struct query_entry *e)
{
	char text[20];

	snprintf(text, sizeof(text), "%016" PRIx64, e->fingerprint);
	return json_text(text);
}

/* From microseconds. */
static json_t *ms_json(double us)
{
	return json_real(round(us) / 1e3);
}

static json_t *count_json(uint64_t count)
{
	return json_integer((json_int_t)count);
}

/* clock: of the monotonic clock. */
static json_t *moment_json(usec_t clock)
{
	return time_json(clock_wall() - clock_since(clock, clock_update()));
}

static double mean_of(const struct query_numbers *n)
{
	return n->calls ? (double)n->total / (double)n->calls : 0;
}

/* ---- /api/v1/queries ---- */

static json_t *query_json(const struct query_entry *e)
{
	const struct query_numbers *n = &e->numbers;
	json_t *json = json_object();

	json_put(json, "fingerprint", fingerprint_json(e));
	json_put(json, "query", json_text(e->strings));
	json_put(json, "query_is_cut", json_boolean(e->is_cut));
	json_put(json, "class", json_text(sql_intent_name((enum sql_intent)e->kind)));
	json_put(json, "database", json_text(query_database(e)));
	json_put(json, "user", json_text(query_user(e)));
	json_put(json, "calls", count_json(n->calls));
	json_put(json, "errors", count_json(n->errors));
	json_put(json, "rows", count_json(n->rows));
	json_put(json, "repeated", count_json(n->repeated));
	json_put(json, "total_ms", ms_json((double)n->total));
	json_put(json, "mean_ms", ms_json(mean_of(n)));
	json_put(json, "min_ms", ms_json((double)n->least));
	json_put(json, "max_ms", ms_json((double)n->most));
	json_put(json, "p50_ms", ms_json(query_numbers_quantile(n, 0.5)));
	json_put(json, "p95_ms", ms_json(query_numbers_quantile(n, 0.95)));
	json_put(json, "p99_ms", ms_json(query_numbers_quantile(n, 0.99)));
	json_put(json, "server_ms", ms_json((double)n->server));
	json_put(json, "first_seen", moment_json(n->first_seen));
	json_put(json, "last_seen", moment_json(n->last_seen));
	return json;
}

static const char *const sort_words[] = {
#define X(word) #word,
	QUERY_SORT_WORDS(X)
#undef X
};

/* false: it was answered that there is no such order. */
static bool read_sort(struct request *request, struct answer *answer, enum query_sort *ret)
{
	const char *text = request_parameter(request, "sort");

	*ret = QUERY_SORT_total_time;
	for (uint32_t i = 0; text && i < QUERY_SORTS; i++) {
		if (strcmp(text, sort_words[i]) == 0) {
			*ret = (enum query_sort)i;
			return true;
		}
	}
	if (text)
		answer_error(answer, MHD_HTTP_BAD_REQUEST,
			     "sort must be total_time, mean_time, p99_time, calls, rows or errors");
	return !text;
}

static bool read_limit(struct request *request, struct answer *answer, uint64_t most, uint64_t *ret)
{
	const char *text = request_parameter(request, "limit");

	*ret = LIMIT_DEFAULT;
	if (!text || (parse_number(text, most, ret) && *ret > 0))
		return true;
	answer_error(answer, MHD_HTTP_BAD_REQUEST, "limit must be a number from 1 to %u", (unsigned)most);
	return false;
}

void endpoint_v1_queries(struct request *request, struct answer *answer)
{
	struct query_wish wish;
	struct query_list list;
	struct query_sum sum;
	json_t *items, *json;

	if (!read_sort(request, answer, &wish.sort) || !read_limit(request, answer, LIMIT_MAX, &wish.limit) ||
	    !request_text(request, answer, "database", &wish.database) ||
	    !request_text(request, answer, "user", &wish.user) || !request_text(request, answer, "query", &wish.text) ||
	    !request_text(request, answer, "class", &wish.kind) || !queries_collect(request->admin, &list))
		return;
	items = queries_json(&list, &wish, query_json, &sum);
	json = list_json(items, sum.count);
	json_put(json, "total_ms", ms_json((double)sum.total));
	json_put(json, "limit", count_json(wish.limit));
	json_put(json, "sort", json_text(sort_words[wish.sort]));
	json_put(json, "enabled", json_boolean(list.enabled));
	json_put(json, "since", list.enabled ? moment_json(list.since) : json_null());
	json_put(json, "fingerprints", count_json(list.table->count));
	json_put(json, "evicted", count_json(list.evicted));
	json_put(json, "workers_late", count_json(list.late));
	query_list_free(&list);
	answer_json(answer, MHD_HTTP_OK, json);
}

void endpoint_v1_queries_clear(struct request *request, struct answer *answer)
{
	uint64_t gone;
	json_t *json;

	if (!queries_clear(request->admin, &gone))
		return;
	request_log(request, "statistics of queries begin anew", "fingerprints", gone);
	json = json_object();
	json_put(json, "status", json_text("cleared"));
	json_put(json, "fingerprints", count_json(gone));
	answer_json(answer, MHD_HTTP_OK, json);
}

/* ---- the reference's ---- */

static json_t *top_query_json(const struct query_entry *e)
{
	const struct query_numbers *n = &e->numbers;
	json_t *json = json_object();

	json_put(json, "fingerprint", fingerprint_json(e));
	json_put(json, "normalized", json_text(e->strings));
	json_put(json, "calls", count_json(n->calls));
	json_put(json, "avg_ms", ms_json(mean_of(n)));
	json_put(json, "p99_ms", ms_json(query_numbers_quantile(n, 0.99)));
	json_put(json, "rows", count_json(n->rows));
	json_put(json, "errors", count_json(n->errors));
	return json;
}

void endpoint_analytics(struct request *request, struct answer *answer)
{
	struct query_wish wish = {.sort = QUERY_SORT_total_time, .database = "", .user = "", .text = "", .kind = ""};
	struct query_list list;
	struct counters sum;
	struct query_sum unused;
	json_t *json;

	if (!read_limit(request, answer, REFERENCE_MAX, &wish.limit) || !queries_collect(request->admin, &list))
		return;
	admin_sum_counters(request->admin, &sum);
	json = json_object();
	json_put(json, "limit", count_json(wish.limit));
	json_put(json, "top_queries", queries_json(&list, &wish, top_query_json, &unused));
	json_put(json, "slow_query_count", count_json(atomic_load(&sum.slow_queries_total)));
	query_list_free(&list);
	answer_json(answer, MHD_HTTP_OK, json);
}
