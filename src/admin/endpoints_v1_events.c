/* /api/v1/events and /api/v1/log: what was written down, and streams of it. */
#include "admin/streams.h"
#include "admin/views.h"

#include <stdio.h>

#define LIMIT     1000u
#define LIMIT_MAX 100000u
#define AGAIN     5 /* seconds, when there are too many streams */

/* ---- entries ---- */

struct journal *feed_journal(enum feed_kind kind)
{
	return kind == FEED_EVENTS ? event_journal() : log_journal();
}

static const char *level_name(enum log_level level)
{
	static const char *const names[] = {"trace", "debug", "info", "warning", "error"};

	return names[level];
}

static json_t *pair_json(const struct kv *pair)
{
	switch (pair->type) {
	case KV_INT:
		return json_integer((json_int_t)pair->i);
	case KV_UINT:
		return json_integer((json_int_t)MIN(pair->u, (uint64_t)INT64_MAX));
	case KV_STR:
		return json_text(pair->str);
	case KV_SLICE:
	case KV_END:
		break;
	}
	return json_null();
}

/* A number, where it is one (a pid), as text: the subject of every kind is. */
static json_t *subject_json(const char *key, const struct kv *pairs)
{
	char number[24];

	for (; *key && pairs->type != KV_END; pairs++) {
		if (strcmp(pairs->key, key) != 0)
			continue;
		if (pairs->type == KV_STR)
			return json_text(pairs->str);
		snprintf(number, sizeof(number), "%llu", (unsigned long long)pairs->u);
		return json_string(number);
	}
	return json_null();
}

json_t *feed_entry_json(enum feed_kind kind, const struct journal_entry *e)
{
	const struct event_info *info = kind == FEED_EVENTS ? event_info((enum event_kind)e->kind) : NULL;
	json_t *json = json_object(), *fields = json_object();

	json_put(json, "seq", json_integer((json_int_t)e->number));
	json_put(json, "at", time_json(e->wall_us));
	if (info) {
		json_put(json, "kind", json_string(info->name));
		json_put(json, "severity", json_string(level_name(e->level)));
		json_put(json, "subject", subject_json(info->subject, e->pairs));
	} else {
		json_put(json, "level", json_string(level_name(e->level)));
	}
	json_put(json, "message", json_text(e->message));
	for (const struct kv *pair = e->pairs; pair->type != KV_END; pair++)
		json_put(fields, pair->key, pair_json(pair));
	json_put(json, "fields", fields);
	return json;
}

/* ---- what is asked for ---- */

static bool read_level(struct request *request, struct answer *answer, const char *parameter, enum log_level *ret)
{
	const char *text = request_parameter(request, parameter);

	if (!text || log_level_parse(text, ret) == 0)
		return true;
	answer_problem(answer, MHD_HTTP_BAD_REQUEST, "bad_parameter", "%s must be trace, debug, info, warning or error",
		       parameter);
	return false;
}

static bool read_number(struct request *request, struct answer *answer, const char *parameter, const char *text,
			uint64_t max, uint64_t *ret)
{
	if (!text || parse_number(text, max, ret))
		return true;
	answer_problem(answer, MHD_HTTP_BAD_REQUEST, "bad_parameter", "%s must be a number from 0 to %llu", parameter,
		       (unsigned long long)max);
	return false;
}

/* False: it was answered what is wrong with it. */
static bool read_wish(struct request *request, struct answer *answer, enum feed_kind feed, struct stream_wish *ret)
{
	const char *after = request_parameter(request, "after");

	*ret = (struct stream_wish){
		.feed = feed, .filter = {.kinds = UINT64_MAX, .least = LOG_TRACE}, .resumes = after != NULL};
	if (!feed_journal(feed)) {
		answer_problem(answer, MHD_HTTP_NOT_IMPLEMENTED, "not_kept", "none are kept: [admin] %s is 0",
			       feed == FEED_EVENTS ? "events" : "log_lines");
		return false;
	}
	if (feed == FEED_EVENTS && !event_filter(request_parameter(request, "kind"), &ret->filter.kinds)) {
		answer_problem(answer, MHD_HTTP_BAD_REQUEST, "unknown_kind",
			       "kind must be names of kinds with commas between them, or such as node.*");
		return false;
	}
	return read_level(request, answer, feed == FEED_EVENTS ? "severity" : "level", &ret->filter.least) &&
	       read_number(request, answer, "after", after, INT64_MAX, &ret->after);
}

/* ---- what there is ---- */

static uint64_t count(struct journal_reader *reader, const struct stream_wish *wish)
{
	struct journal_entry e;
	uint64_t matched = 0;

	while (journal_next(reader, &e))
		matched += feed_matches(&wish->filter, e.level, wish->feed == FEED_EVENTS ? e.kind : 0);
	return matched;
}

/* But for the first `skip` of them, at most `limit`. */
static json_t *collect(struct journal_reader *reader, const struct stream_wish *wish, uint64_t skip, uint64_t limit)
{
	json_t *items = json_array();
	struct journal_entry e;

	while (json_array_size(items) < limit && journal_next(reader, &e)) {
		if (!feed_matches(&wish->filter, e.level, wish->feed == FEED_EVENTS ? e.kind : 0))
			continue;
		if (skip > 0)
			skip--;
		else
			(void)json_array_append_new(items, feed_entry_json(wish->feed, &e));
	}
	return items;
}

/* The last `limit` of them, or with `after` the first. */
static void answer_entries(struct request *request, struct answer *answer, enum feed_kind feed)
{
	uint64_t limit = LIMIT, from, first, next, matched;
	struct journal_reader *reader;
	struct stream_wish wish;
	json_t *items, *json;

	if (!read_wish(request, answer, feed, &wish) ||
	    !read_number(request, answer, "limit", request_parameter(request, "limit"), LIMIT_MAX, &limit))
		return;
	reader = malloc(sizeof(*reader));
	if (!reader)
		return;
	journal_span(feed_journal(feed), &first, &next);
	from = wish.resumes ? MAX(wish.after + 1, first) : first;
	journal_read(reader, feed_journal(feed), from);
	reader->until = next; /* one that writes all the time doesn't keep us here */
	matched = count(reader, &wish);
	journal_read(reader, feed_journal(feed), from);
	reader->until = next;
	items = collect(reader, &wish, wish.resumes || matched < limit ? 0 : matched - limit, limit);
	free(reader);
	json = list_json(items, matched);
	json_put(json, "limit", json_integer((json_int_t)limit));
	json_put(json, "first", next > first ? json_integer((json_int_t)first) : json_null());
	json_put(json, "last", next > first ? json_integer((json_int_t)next - 1) : json_null());
	answer_json(answer, MHD_HTTP_OK, json);
}

void endpoint_v1_events(struct request *request, struct answer *answer)
{
	answer_entries(request, answer, FEED_EVENTS);
}

void endpoint_v1_log(struct request *request, struct answer *answer)
{
	answer_entries(request, answer, FEED_LOG);
}

/* ---- what comes ---- */

static void answer_stream(struct request *request, struct answer *answer, enum feed_kind feed)
{
	const char *last = request_header(request, "Last-Event-ID");
	struct stream_wish wish;
	int r;

	if (!read_wish(request, answer, feed, &wish))
		return;
	if (last && *last) { /* it began with ?after=, and was cut off since */
		wish.resumes = true;
		if (!read_number(request, answer, "Last-Event-ID", last, INT64_MAX, &wish.after))
			return;
	}
	r = streams_open(request->admin->streams, request->connection, &wish, &answer->response);
	if (r == 0) {
		answer->status = MHD_HTTP_OK;
		answer->type = "text/event-stream; charset=utf-8";
	} else if (r == -EAGAIN) {
		answer->retry_after = AGAIN;
		answer_problem(answer, MHD_HTTP_SERVICE_UNAVAILABLE, "too_many_streams",
			       "there are as many streams as [admin] max_streams allows");
	} else if (r == -ESHUTDOWN) {
		answer->retry_after = AGAIN;
		answer_problem(answer, MHD_HTTP_SERVICE_UNAVAILABLE, "shutting_down",
			       "this process ends: streams begin in the next one");
	}
}

void endpoint_v1_events_stream(struct request *request, struct answer *answer)
{
	answer_stream(request, answer, FEED_EVENTS);
}

void endpoint_v1_log_stream(struct request *request, struct answer *answer)
{
	answer_stream(request, answer, FEED_LOG);
}
