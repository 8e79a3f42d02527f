/*
 * Metrics, from the text that /metrics has: what is told there is told here, under the same names, and nothing has to
 * be kept in step. Samples of a family stand together, and the buckets of a histogram's series are in order, as the
 * format asks for. https://prometheus.io/docs/instrumenting/exposition_formats/
 */
#include "telemetry/otlp.h"

#include "base/protobuf.h"

#include <math.h>

#define BUCKETS_MAX 512u
#define LABELS_MAX  16u

enum { NUMBER_ATTRIBUTES = 7, HISTOGRAM_ATTRIBUTES = 9 };
enum kind { KIND_OTHER, KIND_COUNTER, KIND_GAUGE, KIND_HISTOGRAM };

#define CUMULATIVE 2u

struct label {
	struct slice name, value; /* value as written, with its escapes */
};

struct sample {
	struct slice name, value;
	struct label labels[LABELS_MAX];
	uint32_t count;
};

/* A series of a histogram, while its samples come. */
struct series {
	struct label labels[LABELS_MAX]; /* without le */
	uint32_t label_count, bucket_count;
	double bounds[BUCKETS_MAX];
	uint64_t counts[BUCKETS_MAX]; /* cumulative */
	double sum;
	uint64_t count;
	bool is_open;
};

struct reader {
	struct buf *to;
	struct slice name, help;
	enum kind kind;
	uint64_t started, now; /* nanoseconds */
	size_t metric, data;   /* where these began */
	bool is_open;          /* a metric was begun */
	uint32_t metrics;
	struct series series;
};

/* ---- text ---- */

static struct slice next_line(struct slice *text)
{
	const uint8_t *end = memchr(text->bytes, '\n', text->len);
	struct slice line = {text->bytes, end ? (size_t)(end - text->bytes) : text->len};
	size_t taken = line.len + (end ? 1 : 0);

	*text = slice_make(text->bytes + taken, text->len - taken);
	return line;
}

/* Up to the next of these characters. */
static struct slice take_until(struct slice *from, const char *stops)
{
	size_t len = 0;

	while (len < from->len && !strchr(stops, from->bytes[len]))
		len++;
	struct slice taken = {from->bytes, len};
	*from = slice_make(from->bytes + len, from->len - len);
	return taken;
}

static bool skip(struct slice *from, char c)
{
	if (from->len == 0 || from->bytes[0] != (uint8_t)c)
		return false;
	*from = slice_make(from->bytes + 1, from->len - 1);
	return true;
}

static bool has_prefix(struct slice text, const char *prefix)
{
	return text.len >= strlen(prefix) && memcmp(text.bytes, prefix, strlen(prefix)) == 0;
}

static bool read_labels(struct slice *line, struct sample *s)
{
	while (!skip(line, '}')) {
		struct label l;
		size_t len = 0;

		l.name = take_until(line, "=");
		if (!skip(line, '=') || !skip(line, '"') || s->count == LABELS_MAX)
			return false;
		while (len < line->len && line->bytes[len] != '"')
			len += line->bytes[len] == '\\' ? 2 : 1;
		if (len >= line->len)
			return false;
		l.value = slice_make(line->bytes, len);
		*line = slice_make(line->bytes + len + 1, line->len - len - 1);
		s->labels[s->count++] = l;
		(void)skip(line, ',');
	}
	return true;
}

static bool read_sample(struct slice line, struct sample *s)
{
	s->count = 0;
	s->name = take_until(&line, "{ ");
	if (s->name.len == 0 || (skip(&line, '{') && !read_labels(&line, s)) || !skip(&line, ' '))
		return false;
	s->value = take_until(&line, " ");
	return s->value.len > 0;
}

static double number_of(struct slice text)
{
	char copy[64];
	size_t len = MIN(text.len, sizeof(copy) - 1);

	memcpy(copy, text.bytes, len);
	copy[len] = 0;
	return strtod(copy, NULL); /* knows +Inf and NaN, too */
}

/* \\ \" \n as they are meant. */
static void add_label(struct buf *b, uint32_t field, const struct label *l)
{
	char name[128], value[1024];
	size_t len = 0, name_len = MIN(l->name.len, sizeof(name) - 1);

	memcpy(name, l->name.bytes, name_len);
	name[name_len] = 0;
	for (size_t i = 0; i < l->value.len && len < sizeof(value); i++) {
		uint8_t c = l->value.bytes[i];

		if (c == '\\' && i + 1 < l->value.len) {
			c = l->value.bytes[++i];
			c = c == 'n' ? '\n' : c;
		}
		value[len++] = (char)c;
	}
	otlp_string(b, field, name, slice_make(value, len));
}

/* ---- metrics ---- */

static const char *unit_of(struct slice name)
{
	static const struct {
		const char *part, *unit;
	} units[] = {{"_seconds", "s"}, {"_bytes", "By"}, {"_us", "us"}, {"_ms", "ms"}};

	if (name.len > 6 && memcmp(name.bytes + name.len - 6, "_total", 6) == 0)
		name.len -= 6;
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		size_t len = strlen(units[i].part);

		if (name.len > len && memcmp(name.bytes + name.len - len, units[i].part, len) == 0)
			return units[i].unit;
	}
	return "";
}

static void open_metric(struct reader *r)
{
	static const uint32_t fields[] = {[KIND_GAUGE] = 5, [KIND_COUNTER] = 7, [KIND_HISTOGRAM] = 9};

	if (r->is_open)
		return;
	r->is_open = true;
	r->metrics++;
	r->metric = pb_begin(r->to, 2);
	pb_bytes(r->to, 1, r->name);
	pb_bytes(r->to, 2, r->help);
	pb_string(r->to, 3, unit_of(r->name));
	r->data = pb_begin(r->to, fields[r->kind]);
}

static void close_series(struct reader *r)
{
	struct series *s = &r->series;
	size_t point, part;
	uint64_t before = 0;

	if (!s->is_open)
		return;
	s->is_open = false;
	open_metric(r);
	point = pb_begin(r->to, 1);
	pb_fixed64(r->to, 2, r->started);
	pb_fixed64(r->to, 3, r->now);
	pb_fixed64(r->to, 4, s->count);
	pb_double(r->to, 5, s->sum);
	part = pb_begin(r->to, 6); /* one more than bounds: what is above the last */
	for (uint32_t i = 0; i <= s->bucket_count; i++) {
		uint64_t upto = i < s->bucket_count ? s->counts[i] : MAX(s->count, before);
		uint64_t in = upto > before ? upto - before : 0;

		buf_add(r->to, &in, sizeof(in)); /* packed, and little-endian as the machine is */
		before = MAX(before, upto);
	}
	pb_end(r->to, part);
	part = pb_begin(r->to, 7);
	buf_add(r->to, s->bounds, s->bucket_count * sizeof(s->bounds[0]));
	pb_end(r->to, part);
	for (uint32_t i = 0; i < s->label_count; i++)
		add_label(r->to, HISTOGRAM_ATTRIBUTES, &s->labels[i]);
	pb_end(r->to, point);
}

static void close_metric(struct reader *r)
{
	close_series(r);
	if (!r->is_open)
		return;
	r->is_open = false;
	if (r->kind != KIND_GAUGE)
		pb_varint(r->to, 2, CUMULATIVE);
	if (r->kind == KIND_COUNTER)
		pb_varint(r->to, 3, 1); /* monotonic */
	pb_end(r->to, r->data);
	pb_end(r->to, r->metric);
}

static void add_number(struct reader *r, const struct sample *s)
{
	double value = number_of(s->value);
	size_t point;

	if (isnan(value))
		return;
	open_metric(r);
	point = pb_begin(r->to, 1);
	if (r->kind == KIND_COUNTER)
		pb_fixed64(r->to, 2, r->started);
	pb_fixed64(r->to, 3, r->now);
	if (value == floor(value) && fabs(value) < 9e15)
		pb_fixed64(r->to, 6, (uint64_t)(int64_t)value);
	else
		pb_double(r->to, 4, value);
	for (uint32_t i = 0; i < s->count; i++)
		add_label(r->to, NUMBER_ATTRIBUTES, &s->labels[i]);
	pb_end(r->to, point);
}

/* Takes le out of the labels. NULL value: there was none. */
static struct slice take_le(struct sample *s)
{
	for (uint32_t i = 0; i < s->count; i++) {
		struct slice le = s->labels[i].value;

		if (!slice_equal(s->labels[i].name, SLICE_LITERAL("le")))
			continue;
		memmove(&s->labels[i], &s->labels[i + 1], (--s->count - i) * sizeof(s->labels[0]));
		return le;
	}
	return (struct slice){0};
}

static bool is_of_series(const struct series *series, const struct sample *s)
{
	if (!series->is_open || series->label_count != s->count)
		return false;
	for (uint32_t i = 0; i < s->count; i++)
		if (!slice_equal(series->labels[i].name, s->labels[i].name) ||
		    !slice_equal(series->labels[i].value, s->labels[i].value))
			return false;
	return true;
}

/* What is none is 0. */
static uint64_t whole_number(double value)
{
	return value >= 1 && value < 0x1p64 ? (uint64_t)value : 0;
}

static void add_to_series(struct reader *r, struct sample *s)
{
	struct slice part = slice_make(s->name.bytes + r->name.len, s->name.len - r->name.len), le = take_le(s);
	struct series *series = &r->series;
	double value = number_of(s->value);

	if (!is_of_series(series, s)) {
		close_series(r);
		series->is_open = true;
		series->bucket_count = 0;
		series->label_count = s->count;
		series->sum = 0;
		series->count = 0;
		memcpy(series->labels, s->labels, s->count * sizeof(s->labels[0]));
	}
	if (slice_equal(part, SLICE_LITERAL("_sum"))) {
		series->sum = value;
	} else if (slice_equal(part, SLICE_LITERAL("_count"))) {
		series->count = whole_number(value);
	} else if (le.len && !isinf(number_of(le)) && series->bucket_count < BUCKETS_MAX) {
		series->bounds[series->bucket_count] = number_of(le);
		series->counts[series->bucket_count++] = whole_number(value);
	}
}

/* ---- lines ---- */

static enum kind kind_named(struct slice word)
{
	return slice_equal(word, SLICE_LITERAL("counter"))     ? KIND_COUNTER
	       : slice_equal(word, SLICE_LITERAL("gauge"))     ? KIND_GAUGE
	       : slice_equal(word, SLICE_LITERAL("histogram")) ? KIND_HISTOGRAM
							       : KIND_OTHER;
}

static void take_comment(struct reader *r, struct slice line)
{
	bool is_type = has_prefix(line, "# TYPE ");
	struct slice name;

	if (!is_type && !has_prefix(line, "# HELP "))
		return;
	line = slice_make(line.bytes + 7, line.len - 7);
	name = take_until(&line, " ");
	(void)skip(&line, ' ');
	if (!slice_equal(name, r->name)) {
		close_metric(r);
		r->name = name;
		r->help = (struct slice){0};
		r->kind = KIND_OTHER;
	}
	if (is_type)
		r->kind = kind_named(line);
	else
		r->help = line;
}

static void take_sample(struct reader *r, struct slice line)
{
	struct sample s;

	if (r->kind == KIND_OTHER || !read_sample(line, &s))
		return;
	if (r->kind == KIND_HISTOGRAM && r->name.len && s.name.len > r->name.len &&
	    memcmp(s.name.bytes, r->name.bytes, r->name.len) == 0)
		add_to_series(r, &s);
	else if (r->kind != KIND_HISTOGRAM && slice_equal(s.name, r->name))
		add_number(r, &s);
}

uint32_t otlp_add_metrics(struct otlp_message *m, struct slice text, uint64_t started_wall, uint64_t now_wall)
{
	struct reader *r = calloc(1, sizeof(*r));
	uint32_t count;

	if (!r) {
		m->to->failed = true;
		return 0;
	}
	r->to = m->to;
	r->started = started_wall * 1000;
	r->now = now_wall * 1000;
	while (text.len > 0) {
		struct slice line = next_line(&text);

		if (line.len && line.bytes[0] == '#')
			take_comment(r, line);
		else if (line.len)
			take_sample(r, line);
	}
	close_metric(r);
	count = r->metrics;
	free(r);
	return count;
}
