/*
 * What `ctl` writes. A table is for people: columns as wide as their longest value, texts clean. JSON is the answer
 * itself. CSV is RFC 4180: exact values, on a terminal clean ones.
 */
#include "client/client_priv.h"

#include "client/text.h"

#include <unistd.h>

#define TEXT_MAX  (80u << 20)
#define WIDTH_MAX 200u /* a longer value moves what stands right of it */

void output_init(struct output *o, FILE *to)
{
	*o = (struct output){.to = to, .is_terminal = isatty(fileno(to)) == 1, .unicode = client_locale()};
}

void buf_add_value(struct buf *b, const json_t *value)
{
	char *text;

	switch (value ? json_typeof(value) : JSON_NULL) {
	case JSON_NULL:
		return;
	case JSON_STRING:
		buf_add(b, json_string_value(value), json_string_length(value));
		return;
	case JSON_TRUE:
	case JSON_FALSE:
		buf_add_str(b, json_is_true(value) ? "yes" : "no");
		return;
	case JSON_REAL:
		buf_printf(b, "%.15g", json_real_value(value));
		return;
	default:
		text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
		if (text)
			buf_add_str(b, text);
		free(text);
	}
}

/* ---- JSON ---- */

void output_json(const struct output *o, const json_t *json)
{
	size_t flags = JSON_ENCODE_ANY | JSON_REAL_PRECISION(15) |
		       (o->is_terminal ? JSON_INDENT(2) | JSON_ENSURE_ASCII : JSON_COMPACT);

	json_dumpf(json, o->to, flags);
	fputc('\n', o->to);
}

/* ---- cells: a grid of texts, filled first and written then ---- */

struct grid {
	char **cells; /* rows * columns; NULL where there is nothing */
	size_t columns, count, cap;
	bool failed;
};

static void grid_free(struct grid *g)
{
	for (size_t i = 0; i < g->count; i++)
		free(g->cells[i]);
	free(g->cells);
}

/* A string of any bytes; a NUL in it shows. */
static char *cell_text(const struct output *o, const char *bytes, size_t len)
{
	struct buf clean = BUF_INIT(TEXT_MAX);
	char *copy;

	if (o->format == OUTPUT_TABLE || o->is_terminal)
		buf_add_clean(&clean, bytes, len, o->unicode);
	else
		buf_add(&clean, bytes, len);
	copy = clean.failed ? NULL : strdup(buf_cstr(&clean));
	buf_free(&clean);
	return copy;
}

static void grid_add(struct grid *g, char *cell)
{
	if (g->count == g->cap) {
		size_t cap = g->cap ? g->cap * 2 : 256;
		char **more = realloc(g->cells, cap * sizeof(*more));

		if (!more) {
			free(cell);
			g->failed = true;
			return;
		}
		g->cells = more;
		g->cap = cap;
	}
	g->failed |= !cell;
	g->cells[g->count++] = cell;
}

static void grid_add_text(struct grid *g, const struct output *o, const char *text)
{
	grid_add(g, cell_text(o, text, strlen(text)));
}

static void grid_add_value(struct grid *g, const struct output *o, const json_t *value)
{
	struct buf text = BUF_INIT(TEXT_MAX);

	if (o->format == OUTPUT_TABLE && (!value || json_is_null(value)))
		buf_add_char(&text, '-');
	else
		buf_add_value(&text, value);
	grid_add(g, cell_text(o, (const char *)text.bytes, text.len));
	g->failed |= text.failed;
	buf_free(&text);
}

static void write_csv_cell(FILE *to, const char *text)
{
	if (!strpbrk(text, ",\"\r\n")) {
		fputs(text, to);
		return;
	}
	fputc('"', to);
	for (; *text; text++) {
		if (*text == '"')
			fputc('"', to);
		fputc(*text, to);
	}
	fputc('"', to);
}

static size_t width_of(const struct grid *g, size_t column)
{
	size_t width = 0;

	for (size_t i = column; i < g->count; i += g->columns)
		width = MAX(width, MIN(text_width(g->cells[i]), WIDTH_MAX));
	return width;
}

static void write_table(const struct output *o, const struct grid *g)
{
	size_t *widths = calloc(g->columns, sizeof(*widths));
	struct buf pad = BUF_INIT(TEXT_MAX);

	for (size_t c = 0; widths && c < g->columns; c++)
		widths[c] = width_of(g, c);
	for (size_t i = 0; widths && i < g->count; i++) {
		bool is_last = i % g->columns == g->columns - 1;

		buf_clear(&pad);
		for (size_t w = text_width(g->cells[i]); !is_last && w < widths[i % g->columns] + 2; w++)
			buf_add_char(&pad, ' ');
		fprintf(o->to, "%s%s", g->cells[i], is_last ? "\n" : pad.len ? buf_cstr(&pad) : "  ");
	}
	buf_free(&pad);
	free(widths);
}

static void grid_write(const struct output *o, const struct grid *g)
{
	if (g->failed) {
		client_say("ctl", "out of memory");
		return;
	}
	if (o->format == OUTPUT_TABLE && g->columns) {
		write_table(o, g);
		return;
	}
	for (size_t i = 0; i < g->count; i++) {
		write_csv_cell(o->to, g->cells[i]);
		fputs(i % g->columns == g->columns - 1 ? "\r\n" : ",", o->to);
	}
}

/* ---- lists ---- */

/* Which members: those of columns.def, else all that any of the items has. */
static json_t *keys_of(const json_t *items, const char *rows)
{
	json_t *keys = json_object(), *item, *value;
	const char *key;
	size_t count, i;
	const struct column *c = columns_of(rows, &count);

	for (i = 0; i < count; i++)
		json_object_set_new(keys, c[i].key, json_null());
	if (c)
		return keys;
	json_array_foreach(items, i, item) json_object_foreach(item, key, value)
		json_object_set_new(keys, key, json_null());
	return keys;
}

static void add_item(struct grid *g, const struct output *o, json_t *keys, const json_t *item)
{
	const char *key;
	json_t *unused;

	json_object_foreach(keys, key, unused) grid_add_value(g, o, json_member(item, key));
}

static void write_list(const struct output *o, const json_t *items, const char *rows)
{
	json_t *keys = keys_of(items, rows), *item, *unused;
	struct grid g = {.columns = json_object_size(keys)};
	const char *key;
	size_t i;

	json_object_foreach(keys, key, unused) grid_add_text(&g, o, key);
	json_array_foreach(items, i, item) add_item(&g, o, keys, item);
	grid_write(o, &g);
	grid_free(&g);
	json_decref(keys);
}

void output_item(const struct output *o, const json_t *item, const char *rows, bool is_first)
{
	json_t *items, *keys, *unused;
	struct grid g = {0};
	const char *key;

	if (o->format == OUTPUT_JSON) {
		json_dumpf(item, o->to,
			   JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15) |
				   (o->is_terminal ? JSON_ENSURE_ASCII : 0));
		fputc('\n', o->to);
	} else {
		items = json_array();
		json_array_append(items, (json_t *)(uintptr_t)item);
		keys = keys_of(items, rows);
		g.columns = json_object_size(keys);
		if (is_first && o->format == OUTPUT_CSV)
			json_object_foreach(keys, key, unused) grid_add_text(&g, o, key);
		add_item(&g, o, keys, item);
		grid_write(o, &g);
		grid_free(&g);
		json_decref(keys);
		json_decref(items);
	}
	fflush(o->to);
}

/* ---- objects ---- */

static void add_members(struct grid *g, const struct output *o, const char *prefix, json_t *object)
{
	const char *key;
	json_t *value;

	json_object_foreach(object, key, value)
	{
		char path[256];

		snprintf(path, sizeof(path), "%s%s%s", prefix, *prefix ? "." : "", key);
		if (json_is_object(value) && json_object_size(value) > 0) {
			add_members(g, o, path, value);
			continue;
		}
		grid_add_text(g, o, path);
		grid_add_value(g, o, value);
	}
}

/* What stands beside the items of a list, but for how many they are: a table says it first. */
static void write_rest(const struct output *o, json_t *list)
{
	struct grid g = {.columns = 2};
	const char *key;
	json_t *value;

	json_object_foreach(list, key, value)
	{
		if (json_is_object(value) || json_is_array(value) || strcmp(key, "total") == 0 ||
		    strcmp(key, "limit") == 0)
			continue;
		grid_add_text(&g, o, key);
		grid_add_value(&g, o, value);
	}
	if (g.count) {
		grid_write(o, &g);
		fputc('\n', o->to);
	}
	grid_free(&g);
}

static void write_object(const struct output *o, json_t *object)
{
	struct grid g = {.columns = 2};

	if (o->format == OUTPUT_CSV) {
		grid_add_text(&g, o, "key");
		grid_add_text(&g, o, "value");
	}
	add_members(&g, o, "", object);
	grid_write(o, &g);
	grid_free(&g);
}

void output_answer(const struct output *o, const json_t *json, const char *rows, bool whole)
{
	json_t *items = json_object_get(json, "items");
	struct buf text = BUF_INIT(TEXT_MAX);

	if (o->format == OUTPUT_JSON)
		output_json(o, json);
	else if (json_is_array(items) || json_is_array(json)) {
		if (o->format == OUTPUT_TABLE && items && whole)
			write_rest(o, (json_t *)(uintptr_t)json);
		write_list(o, json_is_array(json) ? json : items, rows);
	} else if (json_is_object(json))
		write_object(o, (json_t *)(uintptr_t)json);
	else {
		buf_add_value(&text, json);
		output_raw(o, (const char *)text.bytes, text.len);
		fputc('\n', o->to);
	}
	buf_free(&text);
}

/* ---- results ---- */

void output_result(const struct output *o, const json_t *json)
{
	json_t *names = json_object_get(json, "columns"), *rows = json_object_get(json, "rows"), *row, *value;
	struct grid g = {.columns = json_array_size(names)};
	size_t i, j;

	if (o->format == OUTPUT_JSON) {
		output_json(o, json);
		return;
	}
	json_array_foreach(names, i, value) grid_add_value(&g, o, json_object_get(value, "name"));
	json_array_foreach(rows, i, row) for (j = 0; j < g.columns; j++)
		grid_add(&g, cell_text(o, json_string_value(json_array_get(row, j)) ?: "",
				       json_string_length(json_array_get(row, j))));
	if (g.columns)
		grid_write(o, &g);
	grid_free(&g);
}

void output_raw(const struct output *o, const char *bytes, size_t len)
{
	const char *at = bytes, *end = bytes + len;

	if (!o->is_terminal) {
		fwrite(bytes, 1, len, o->to);
		return;
	}
	while (at < end) {
		const char *line_end = memchr(at, '\n', (size_t)(end - at));
		struct buf clean = BUF_INIT(TEXT_MAX);

		buf_add_clean(&clean, at, (size_t)((line_end ? line_end : end) - at), o->unicode);
		fprintf(o->to, "%s%s", buf_cstr(&clean), line_end ? "\n" : "");
		buf_free(&clean);
		at = line_end ? line_end + 1 : end;
	}
}
