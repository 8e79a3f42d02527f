/* What top shows: fetched from the admin API, filtered and sorted here. */
#include "client/top_priv.h"

#include "client/text.h"

#include <strings.h>

const char *const top_view_names[VIEW_COUNT] = {"pools", "queries", "nodes", "sessions", "events", "statements"};

/* Where it hurts most comes first. Columns are those of columns.def. */
const struct top_order top_default_orders[VIEW_COUNT] = {
	[VIEW_POOLS] = {4, true},     [VIEW_QUERIES] = {1, true}, [VIEW_NODES] = {0, false},
	[VIEW_SESSIONS] = {5, false}, [VIEW_EVENTS] = {0, true},  [VIEW_STATEMENTS] = {1, true},
};

static const char *const paths[VIEW_COUNT] = {
	[VIEW_POOLS] = "/api/v1/pools",
	[VIEW_NODES] = "/api/v1/nodes",
	[VIEW_SESSIONS] = "/api/v1/sessions?limit=1000",
	[VIEW_EVENTS] = "/api/v1/events?limit=500",
};

/* Statistics are far more than can be shown: the proxy sends the greatest of what they are sorted by. */
static const struct {
	const char *column, *order;
} statement_orders[] = {
	{"calls", "calls"}, {"mean_ms", "mean_time"}, {"p99_ms", "p99_time"}, {"errors", "errors"}, {"rows", "rows"},
};

/* Sessions that run something, or want to. */
static const char *const busy_states[] = {"active", "waiting", "shared"};

/* ---- fetching ---- */

static int take(struct top *top, const char *path, struct api_answer *answer)
{
	int status = api_call(&top->api, "GET", path, NULL, answer);

	if (answer->http.was_stopped)
		return -1;
	if (status != CLIENT_OK)
		snprintf(top->trouble, sizeof(top->trouble), "%s", answer->why);
	return status;
}

static int fetch_status(struct top *top)
{
	struct api_answer answer;
	int status = take(top, "/api/v1/status", &answer);

	if (status == CLIENT_OK) {
		json_decref(top->status);
		top->status = json_incref(answer.json);
	}
	api_answer_free(&answer);
	return status;
}

/* The last row of the history, as an object. It is an extra: without it the rest is shown. */
static void fetch_load(struct top *top)
{
	struct api_answer answer;
	int status = api_call(&top->api, "GET", "/api/v1/stats/history?seconds=5", NULL, &answer);
	json_t *names = json_object_get(answer.json, "columns"), *rows = json_object_get(answer.json, "rows"), *name;
	json_t *row = json_array_size(rows) ? json_array_get(rows, json_array_size(rows) - 1) : NULL;
	size_t i;

	if (status == CLIENT_OK) {
		json_decref(top->load);
		top->load = row ? json_object() : NULL;
		json_array_foreach(row ? names : NULL, i, name) if (json_is_string(name))
			json_object_set(top->load, json_string_value(name), json_array_get(row, i));
	} else if (!answer.http.was_stopped) {
		json_decref(top->load);
		top->load = NULL;
	}
	api_answer_free(&answer);
}

/* Adds the items of a path. */
static int fetch_items(struct top *top, const char *path, json_t *items)
{
	struct api_answer answer;
	int status = take(top, path, &answer);

	if (status == CLIENT_OK)
		json_array_extend(items, json_object_get(answer.json, "items"));
	api_answer_free(&answer);
	return status;
}

static const char *statement_order(const struct top *top)
{
	size_t count, column = top->orders[VIEW_STATEMENTS].column;
	const struct column *columns = columns_of(top_view_names[VIEW_STATEMENTS], &count);

	for (size_t i = 0; i < ARRAY_SIZE(statement_orders) && column < count; i++)
		if (strcmp(statement_orders[i].column, columns[column].key) == 0)
			return statement_orders[i].order;
	return "total_time";
}

static int fetch_statements(struct top *top, json_t *items)
{
	struct api_answer answer;
	char path[100];
	int status;

	snprintf(path, sizeof(path), "/api/v1/queries?limit=200&sort=%s", statement_order(top));
	status = take(top, path, &answer);
	if (status == CLIENT_OK) {
		json_array_extend(items, json_object_get(answer.json, "items"));
		if (!json_is_true(json_object_get(answer.json, "enabled")))
			snprintf(top->note, sizeof(top->note),
				 "query statistics are off: enabled = true in [analytics], then reload");
	}
	api_answer_free(&answer);
	return status;
}

static int fetch_view(struct top *top)
{
	bool is_statements = top->view == VIEW_STATEMENTS;
	json_t *items = json_array();
	int status = CLIENT_OK;
	char path[100];

	top->note[0] = 0;
	if (is_statements)
		status = fetch_statements(top, items);
	else if (paths[top->view])
		status = fetch_items(top, paths[top->view], items);
	for (size_t i = 0; !is_statements && !paths[top->view] && i < ARRAY_SIZE(busy_states) && status == CLIENT_OK;
	     i++) {
		snprintf(path, sizeof(path), "/api/v1/sessions?limit=1000&state=%s", busy_states[i]);
		status = fetch_items(top, path, items);
	}
	if (status == CLIENT_OK) {
		json_decref(top->list.items);
		top->list.items = json_incref(items);
	}
	json_decref(items);
	return status;
}

int top_fetch(struct top *top)
{
	int status = fetch_status(top);

	if (status == CLIENT_OK)
		status = fetch_view(top);
	if (status == CLIENT_OK) {
		fetch_load(top);
		top->trouble[0] = 0;
	}
	if (status >= 0)
		top->is_stale = status != CLIENT_OK;
	top_arrange(top);
	return status;
}

/* ---- cells ---- */

void format_ms(double ms, char *text, size_t size)
{
	unsigned long long s = (unsigned long long)(ms / 1000);

	if (ms == 0)
		snprintf(text, size, "0");
	else if (ms < 10)
		snprintf(text, size, "%.2fms", ms);
	else if (ms < 1000)
		snprintf(text, size, "%.0fms", ms);
	else if (s < 60)
		snprintf(text, size, "%.1fs", ms / 1000);
	else if (s < 3600)
		snprintf(text, size, "%llum%02llus", s / 60, s % 60);
	else if (s < 86400)
		snprintf(text, size, "%lluh%02llum", s / 3600, s / 60 % 60);
	else
		snprintf(text, size, "%llud%02lluh", s / 86400, s / 3600 % 24);
}

void format_bytes(double bytes, char *text, size_t size)
{
	static const char units[] = "BkMGTP";
	size_t unit = 0;

	for (; bytes >= 1000 && unit + 2 < sizeof(units); unit++)
		bytes /= 1024;
	snprintf(text, size, bytes < 10 && unit ? "%.1f%c" : "%.0f%c", bytes, units[unit]);
}

static void add_cell(struct buf *b, const struct column *c, const json_t *value, bool unicode)
{
	struct buf raw = BUF_INIT(1u << 20);
	char text[40];

	if (c->format == FORMAT_BOOL) {
		/* an object says more of what is so */
		buf_add_str(b, !value || json_is_null(value) || json_is_false(value) ? "" : "yes");
	} else if (c->format == FORMAT_MS && json_is_number(value)) {
		format_ms(json_number_value(value), text, sizeof(text));
		buf_add_str(b, text);
	} else if (c->format == FORMAT_BYTES && json_is_number(value)) {
		format_bytes(json_number_value(value), text, sizeof(text));
		buf_add_str(b, text);
	} else {
		buf_add_value(&raw, value);
		buf_add_clean(b, (const char *)raw.bytes, raw.len, unicode);
	}
	buf_free(&raw);
}

static const char *cell_of(struct top *top, const struct column *c, const json_t *item)
{
	struct buf text = BUF_INIT(4u << 20);
	const char *copy;

	add_cell(&text, c, json_member(item, c->key), top->unicode);
	copy = arena_strdup(&top->list.arena, buf_cstr(&text));
	buf_free(&text);
	return copy ? copy : "";
}

static const char *id_of(struct top *top, const json_t *item)
{
	static const char *const ids[VIEW_COUNT][3] = {
		[VIEW_POOLS] = {"database", "user", "node"},
		[VIEW_QUERIES] = {"pid"},
		[VIEW_NODES] = {"name"},
		[VIEW_SESSIONS] = {"pid"},
		[VIEW_EVENTS] = {"seq"},
		[VIEW_STATEMENTS] = {"fingerprint", "database", "user"},
	};
	struct buf text = BUF_INIT(sizeof(top->selected) - 1);
	const char *copy;

	for (size_t i = 0; i < 3 && ids[top->view][i]; i++) {
		buf_add_value(&text, json_object_get(item, ids[top->view][i]));
		buf_add_char(&text, '/');
	}
	copy = arena_strdup(&top->list.arena, text.failed ? "" : buf_cstr(&text));
	buf_free(&text);
	return copy ? copy : "";
}

/* ---- order ---- */

/* qsort() has no argument for these; there is one thread. */
static const struct column *sort_column;
static bool sort_reversed;

static int compare_values(const json_t *a, const json_t *b)
{
	if (json_is_number(a) && json_is_number(b)) {
		double x = json_number_value(a), y = json_number_value(b);

		return (x > y) - (x < y);
	}
	if (json_is_string(a) && json_is_string(b))
		return strcasecmp(json_string_value(a), json_string_value(b));
	return (int)json_is_true(a) - (int)json_is_true(b);
}

/* What is not known comes last, either way. */
static int compare_rows(const void *left, const void *right)
{
	const struct top_row *x = left, *y = right;
	const json_t *a = json_member(x->item, sort_column->key), *b = json_member(y->item, sort_column->key);
	bool no_a = !a || json_is_null(a), no_b = !b || json_is_null(b);
	int r = no_a || no_b ? 0 : compare_values(a, b);

	if (no_a != no_b)
		return no_a ? 1 : -1;
	if (r != 0)
		return sort_reversed ? -r : r;
	return strcmp(x->id, y->id);
}

static bool passes(const struct top *top, const struct top_row *row)
{
	if (!top->filter[0])
		return true;
	for (size_t i = 0; i < top->list.column_count; i++)
		if (strcasestr(row->cells[i], top->filter))
			return true;
	return false;
}

/* Clear of rows, not of items. */
static void forget_rows(struct top_list *list)
{
	free(list->rows);
	list->rows = NULL;
	list->count = 0;
	arena_reset(&list->arena);
}

void top_clear(struct top *top)
{
	json_decref(top->list.items);
	top->list.items = NULL;
	forget_rows(&top->list);
	top->first = 0;
	top->selected[0] = 0;
}

void top_arrange(struct top *top)
{
	struct top_list *list = &top->list;
	json_t *item;
	size_t i;

	forget_rows(list);
	list->columns = columns_of(top_view_names[top->view], &list->column_count);
	list->column_count = MIN(list->column_count, TOP_COLUMNS_MAX);
	list->rows = calloc(json_array_size(list->items) + 1, sizeof(*list->rows));
	json_array_foreach(list->rows ? list->items : NULL, i, item)
	{
		struct top_row *row = &list->rows[list->count];

		row->item = item;
		row->id = id_of(top, item);
		for (size_t c = 0; c < list->column_count; c++)
			row->cells[c] = cell_of(top, &list->columns[c], item);
		list->count += passes(top, row);
	}
	sort_column = &list->columns[MIN(top->orders[top->view].column, list->column_count - 1)];
	sort_reversed = top->orders[top->view].is_reversed;
	if (list->count)
		qsort(list->rows, list->count, sizeof(*list->rows), compare_rows);
}

size_t top_selected(const struct top *top)
{
	for (size_t i = 0; i < top->list.count; i++)
		if (strcmp(top->list.rows[i].id, top->selected) == 0)
			return i;
	return 0;
}

/* ---- actions ---- */

static const struct possible {
	uint32_t key;
	unsigned views;
	const char *method, *path, *member, *ask; /* the member stands for {} and for %s */
} possibles[] = {
	{'k', BIT(VIEW_QUERIES) | BIT(VIEW_SESSIONS), "DELETE", "/api/v1/sessions/{}", "pid", "close session %s"},
	{'c', BIT(VIEW_QUERIES) | BIT(VIEW_SESSIONS), "POST", "/api/v1/sessions/{}/cancel", "pid",
	 "cancel what session %s runs"},
	{'d', BIT(VIEW_NODES), "POST", "/api/v1/nodes/{}/drain", "name", "drain node %s"},
	{'u', BIT(VIEW_NODES), "POST", "/api/v1/nodes/{}/undrain", "name", "use node %s again"},
	{'p', BIT(VIEW_POOLS), "POST", "/api/v1/databases/{}/pause", "database", "pause database %s"},
	{'r', BIT(VIEW_POOLS), "POST", "/api/v1/databases/{}/resume", "database", "resume database %s"},
};

static void prepare(struct top *top, const struct possible *p, const json_t *item)
{
	struct buf name = BUF_INIT(1024), clean = BUF_INIT(2048), path = BUF_INIT(sizeof(top->action.path) - 1);
	const char *place = strstr(p->path, "{}");
	char *ask = top->action.ask;

	buf_add_value(&name, json_object_get(item, p->member));
	buf_add_clean(&clean, (const char *)name.bytes, name.len, top->unicode);
	buf_add(&path, p->path, (size_t)(place - p->path));
	buf_add_url_part(&path, buf_cstr(&name));
	buf_add_str(&path, place + 2);
	top->action.method = p->method;
	snprintf(top->action.path, sizeof(top->action.path), "%s", path.failed ? "" : buf_cstr(&path));
	/* the format is one of the table's */
	snprintf(ask, sizeof(top->action.ask), "%.*s%s%s", (int)(strstr(p->ask, "%s") - p->ask), p->ask,
		 buf_cstr(&clean), strstr(p->ask, "%s") + 2);
	buf_free(&name);
	buf_free(&clean);
	buf_free(&path);
}

bool top_action_of(struct top *top, uint32_t key)
{
	const json_t *item = top->list.count ? top->list.rows[top_selected(top)].item : NULL;

	for (size_t i = 0; i < ARRAY_SIZE(possibles); i++) {
		const struct possible *p = &possibles[i];

		if (p->key != key || !(p->views & BIT(top->view)))
			continue;
		if (!item) {
			snprintf(top->message, sizeof(top->message), "there is nothing selected");
			return false;
		}
		prepare(top, p, item);
		return top->action.path[0];
	}
	return false;
}
