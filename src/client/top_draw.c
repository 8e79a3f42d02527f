/* A frame of top: what is known, the load, the list, and a line for what is said. */
#include "client/top_priv.h"

#include "client/text.h"

#define LOW        8u /* lines: a lower screen shows only the state, and the list */
#define FLEX_LEAST 12u
#define TEXT_LEAST 32u  /* a query that is cut before its tables says nothing */
#define VIEWS_WIDE 110u /* columns: the names of all views fit, and what is said behind them */
#define LINE_MAX   (1u << 20)

#define REVERSE "\033[7m"
#define BOLD    "\033[1m"
#define DIM     "\033[2m"
#define PLAIN   "\033[0m"

/* ---- lines ---- */

/* One line: a clean text, cut or filled to the width. */
static void add_line(struct buf *out, const char *style, struct buf *text, unsigned width, bool is_last)
{
	buf_add_str(out, style);
	buf_add_column(out, buf_cstr(text), width, false);
	buf_printf(out, "%s\033[K%s", *style ? PLAIN : "", is_last ? "" : "\r\n");
	buf_clear(text);
}

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

static void add_number(struct buf *b, const char *label, const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);

	if (json_is_integer(value))
		buf_printf(b, "  %s %lld", label, (long long)json_integer_value(value));
	else if (json_is_real(value))
		buf_printf(b, "  %s %.*f", label, json_real_value(value) < 100 ? 1 : 0, json_real_value(value));
}

static void add_rate(struct buf *b, const char *label, const json_t *object, const char *key)
{
	char text[40];

	if (!json_is_number(json_object_get(object, key)))
		return;
	format_bytes(json_number_value(json_object_get(object, key)), text, sizeof(text));
	buf_printf(b, "  %s %s/s", label, text);
}

static void add_latency(struct buf *b, const char *label, const json_t *object, const char *key)
{
	char text[40];

	if (!json_is_number(json_object_get(object, key)))
		return;
	format_ms(json_number_value(json_object_get(object, key)), text, sizeof(text));
	buf_printf(b, "  %s %s", label, text);
}

static void add_state(struct buf *b, const struct top *top)
{
	const json_t *s = top->status;
	struct buf message = BUF_INIT(2048);
	json_int_t seconds = json_integer_value(json_object_get(s, "uptime_seconds"));
	char up[40];

	if (!s) {
		buf_add_str(b, "heliosdb-proxy");
		return;
	}
	if (seconds < 60)
		snprintf(up, sizeof(up), "%llds", (long long)seconds);
	else
		format_ms((double)seconds * 1000, up, sizeof(up));
	buf_add_clean(&message, text_of(s, "version"), strlen(text_of(s, "version")), top->unicode);
	buf_printf(b, "heliosdb-proxy %s  up %s  ", buf_cstr(&message), up);
	buf_clear(&message);
	if (json_is_true(json_object_get(s, "draining"))) {
		buf_add_str(b, "DRAINING");
	} else if (json_is_true(json_object_get(s, "ready"))) {
		buf_add_str(b, "ready");
	} else {
		buf_add_clean(&message, text_of(s, "message"), strlen(text_of(s, "message")), top->unicode);
		buf_printf(b, "NOT READY: %s", buf_cstr(&message));
	}
	add_number(b, "clients", s, "clients");
	add_number(b, "links", s, "links");
	buf_printf(b, "  nodes %lld/%lld", (long long)json_integer_value(json_object_get(s, "nodes_healthy")),
		   (long long)json_integer_value(json_object_get(s, "nodes_total")));
	add_number(b, "pools", s, "pools");
	buf_free(&message);
}

static void add_load(struct buf *b, const struct top *top)
{
	const json_t *l = top->load;

	if (!l) {
		buf_add_str(b, "(no statistics)");
		return;
	}
	add_number(b, "tps", l, "transactions_per_second");
	add_number(b, "qps", l, "queries_per_second");
	add_number(b, "errors/s", l, "errors_per_second");
	add_number(b, "waiting", l, "clients_waiting");
	add_latency(b, "p50", l, "query_p50_ms");
	add_latency(b, "p95", l, "query_p95_ms");
	add_latency(b, "p99", l, "query_p99_ms");
	add_rate(b, "in", l, "received_bytes_per_second");
	add_rate(b, "out", l, "sent_bytes_per_second");
}

static void add_views(struct buf *b, const struct top *top)
{
	const struct top_order *o = &top->orders[top->view];
	struct buf filter = BUF_INIT(1024);

	for (unsigned v = 0; v < VIEW_COUNT; v++) {
		if (v == top->view || top->columns >= VIEWS_WIDE)
			buf_printf(b, v == top->view ? "[%u %s] " : " %u %s  ", v + 1, top_view_names[v]);
		else
			buf_printf(b, " %u  ", v + 1);
	}
	if (top->list.column_count)
		buf_printf(b, " by %s %s", top->list.columns[o->column].title, o->is_reversed ? "down" : "up");
	if (top->filter[0]) {
		buf_add_clean(&filter, top->filter, strlen(top->filter), top->unicode);
		buf_printf(b, "  filter %s", buf_cstr(&filter));
	}
	buf_printf(b, "  %zu of %zu", top->list.count, json_array_size(top->list.items));
	if (top->is_paused)
		buf_add_str(b, "  PAUSED");
	buf_free(&filter);
}

/* ---- columns ---- */

struct layout {
	unsigned widths[TOP_COLUMNS_MAX]; /* 0: not shown */
};

/* From the right columns go until there is room for the rest. */
static void lay_out(const struct top *top, unsigned width, struct layout *l)
{
	const struct column *c = top->list.columns;
	size_t count = top->list.column_count;
	unsigned used = 0, flex = 0, least = top->view == VIEW_STATEMENTS ? TEXT_LEAST : FLEX_LEAST;

	for (size_t i = 0; i < count; i++) {
		l->widths[i] = c[i].width ? c[i].width : least;
		used += l->widths[i] + 1;
		flex = c[i].width ? flex : (unsigned)i;
	}
	for (size_t i = count; i-- > 1 && used > width + 1;) {
		if (i == flex)
			continue;
		used -= l->widths[i] + 1;
		l->widths[i] = 0;
	}
	if (used < width + 1 && count)
		l->widths[flex] += width + 1 - used;
}

static bool is_number(const struct column *c)
{
	return c->format == FORMAT_NUMBER || c->format == FORMAT_MS || c->format == FORMAT_BYTES;
}

/* row NULL: the titles. */
static void add_cells(struct buf *b, const struct top *top, const struct layout *l, const struct top_row *row)
{
	const struct column *c = top->list.columns;
	bool is_first = true;

	for (size_t i = 0; i < top->list.column_count; i++) {
		if (!l->widths[i])
			continue;
		if (!is_first)
			buf_add_char(b, ' ');
		buf_add_column(b, row ? row->cells[i] : c[i].title, l->widths[i], is_number(&c[i]));
		is_first = false;
	}
}

/* ---- the last line, and help ---- */

static const char *keys_of(const struct top *top)
{
	static const char *const keys[VIEW_COUNT] = {
		[VIEW_POOLS] = "p pause  r resume the database",
		[VIEW_QUERIES] = "c cancel  k kill",
		[VIEW_NODES] = "d drain  u undrain",
		[VIEW_SESSIONS] = "c cancel  k kill",
		[VIEW_EVENTS] = "",
		[VIEW_STATEMENTS] = "",
	};

	return keys[top->view];
}

static void add_last(struct buf *b, const struct top *top)
{
	struct buf filter = BUF_INIT(1024);

	if (top->mode == MODE_CONFIRM) {
		buf_printf(b, "%s? y/N", top->action.ask);
	} else if (top->mode == MODE_FILTER) {
		buf_add_clean(&filter, top->filter, strlen(top->filter), top->unicode);
		buf_printf(b, "filter: %s_", buf_cstr(&filter));
	} else if (top->trouble[0]) {
		buf_printf(b, "trying again: %s", top->trouble);
	} else if (top->message[0]) {
		buf_add_str(b, top->message);
	} else if (top->note[0]) {
		buf_add_str(b, top->note);
	} else {
		buf_printf(b, "q quit  h help  1-%u views  / filter  < > sort  space pause  %s", VIEW_COUNT,
			   keys_of(top));
	}
	buf_free(&filter);
}

static const char *const help[] = {
	"1 to 6, Tab   pools, queries that run, nodes, sessions, events, statistics of queries",
	"up down PgUp PgDn Home End   select a row",
	"< >   sort by the column left or right of it;  R   the other way round",
	"/     filter: rows that have the text anywhere;  Esc   no filter",
	"space stop and go on;  + -   look less or more often;  g   look now",
	"c     cancel what the selected session runs",
	"k     close the selected session",
	"d u   drain the selected node, use it again",
	"p r   pause the database of the selected pool, resume it",
	"q     quit",
	"",
	"c k d u p r ask first. Any key goes back.",
};

static void add_list(const struct top *top, struct buf *out, struct buf *line)
{
	size_t room = top_room(top), selected = top_selected(top);
	struct layout layout;

	lay_out(top, top->columns, &layout);
	add_cells(line, top, &layout, NULL);
	add_line(out, REVERSE, line, top->columns, false);
	for (size_t i = 0; i < room; i++) {
		size_t at = top->first + i;
		bool is_row = at < top->list.count;

		if (is_row)
			add_cells(line, top, &layout, &top->list.rows[at]);
		add_line(out,
			 is_row && at == selected ? BOLD REVERSE
			 : top->is_stale          ? DIM
						  : "",
			 line, top->columns, false);
	}
}

size_t top_room(const struct top *top)
{
	unsigned others = top->lines < LOW ? 3 : 5; /* the head, with the titles, and the last line */

	return top->lines > others ? top->lines - others : 1;
}

void top_draw(const struct top *top, struct buf *out)
{
	struct buf line = BUF_INIT(LINE_MAX);

	buf_add_str(out, "\033[H");
	add_state(&line, top);
	add_line(out, BOLD, &line, top->columns, false);
	if (top->lines >= LOW) {
		add_load(&line, top);
		add_line(out, "", &line, top->columns, false);
		add_views(&line, top);
		add_line(out, "", &line, top->columns, false);
	}
	if (top->mode == MODE_HELP) {
		for (size_t i = 0; i <= top_room(top); i++) {
			buf_add_str(&line, i < ARRAY_SIZE(help) ? help[i] : "");
			add_line(out, "", &line, top->columns, false);
		}
	} else {
		add_list(top, out, &line);
	}
	add_last(&line, top);
	/* the last cell of the screen stays empty: some terminals scroll when it is written */
	add_line(out, top->trouble[0] || top->mode == MODE_CONFIRM ? BOLD : "", &line, top->columns - 1, true);
	buf_free(&line);
}

void top_print(const struct top *top, struct buf *out)
{
	struct buf line = BUF_INIT(LINE_MAX);
	struct layout layout;

	lay_out(top, top->columns, &layout);
	add_state(&line, top);
	buf_printf(out, "%s\n", buf_cstr(&line));
	buf_clear(&line);
	add_load(&line, top);
	buf_printf(out, "%s\n", buf_cstr(&line) + strspn(buf_cstr(&line), " "));
	buf_clear(&line);
	if (top->note[0])
		buf_printf(out, "%s\n", top->note);
	for (size_t i = 0; i <= top->list.count; i++) {
		add_cells(&line, top, &layout, i ? &top->list.rows[i - 1] : NULL);
		while (line.len > 0 && line.bytes[line.len - 1] == ' ')
			line.len--;
		buf_printf(out, "%s\n", buf_cstr(&line));
		buf_clear(&line);
	}
	buf_add_char(out, '\n');
	buf_free(&line);
}
