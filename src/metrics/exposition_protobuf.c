/*
 * Metrics as io.prometheus.client.MetricFamily, each behind its length: metrics.proto of
 * https://github.com/prometheus/client_model. A histogram is there twice in one message, as Prometheus' own client
 * libraries have it: with the bounds of the text, and as a native one.
 */
#include "metrics/exposition_priv.h"

#include "base/protobuf.h"
#include "base/utf8.h"

enum { FAMILY_NAME = 1, FAMILY_HELP = 2, FAMILY_TYPE = 3, FAMILY_METRIC = 4 };
enum { METRIC_LABEL = 1 };
enum { LABEL_NAME = 1, LABEL_VALUE = 2 };
enum { VALUE = 1, COUNTER_CREATED = 3 };
enum {
	HISTOGRAM_COUNT = 1,
	HISTOGRAM_SUM = 2,
	HISTOGRAM_BUCKET = 3,
	HISTOGRAM_SCHEMA = 5,
	HISTOGRAM_ZERO_THRESHOLD = 6,
	HISTOGRAM_ZERO_COUNT = 7,
	HISTOGRAM_SPAN = 12,
	HISTOGRAM_DELTA = 13,
	HISTOGRAM_CREATED = 15,
};
enum { BUCKET_COUNT = 1, BUCKET_BOUND = 2 };
enum { SPAN_OFFSET = 1, SPAN_LENGTH = 2 };
enum { TIME_SECONDS = 1, TIME_NANOSECONDS = 2 };

/* What metric.kind is called there. */
static const struct kind {
	const char *name;
	uint8_t type, field; /* FAMILY_TYPE; of a Metric */
} kinds[] = {{"counter", 0, 3}, {"gauge", 1, 2}, {"untyped", 3, 5}, {"histogram", 4, 7}};

static const struct kind *kind_of(const struct metric *m)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (strcmp(m->kind, kinds[i].name) == 0)
			return &kinds[i];
	assert(!"there is no other");
	return &kinds[2];
}

static void begin(struct exposition *e)
{
	size_t start = e->out->len;

	e->family = pb_begin_delimited(e->out);
	pb_string(e->out, FAMILY_NAME, e->metric->name);
	pb_string(e->out, FAMILY_HELP, e->metric->help);
	pb_varint_always(e->out, FAMILY_TYPE, kind_of(e->metric)->type);
	e->head = e->out->len;
	assert(e->out->failed || e->family == start + 1);
}

static void end(struct exposition *e)
{
	if (e->out->failed)
		return;
	if (e->out->len == e->head)
		e->out->len = e->family - 1;
	else
		pb_end(e->out, e->family);
}

static void add_label(struct buf *labels, const char *name, const char *value)
{
	size_t label = pb_begin(labels, METRIC_LABEL), text;

	pb_string(labels, LABEL_NAME, name);
	text = pb_begin(labels, LABEL_VALUE);
	buf_add_utf8(labels, value);
	pb_end(labels, text);
	pb_end(labels, label);
}

static void add_created(struct exposition *e, uint32_t field)
{
	size_t created;

	if (!e->created)
		return;
	created = pb_begin(e->out, field);
	pb_varint(e->out, TIME_SECONDS, e->created / 1000000);
	pb_varint(e->out, TIME_NANOSECONDS, e->created % 1000000 * 1000);
	pb_end(e->out, created);
}

static void add(struct exposition *e, struct slice labels, double value)
{
	const struct kind *kind = kind_of(e->metric);
	size_t metric = pb_begin(e->out, FAMILY_METRIC), content;

	buf_add(e->out, labels.bytes, labels.len);
	content = pb_begin(e->out, kind->field);
	pb_double(e->out, VALUE, value);
	if (kind == &kinds[0] && !labels.len) /* pools and nodes may have come later */
		add_created(e, COUNTER_CREATED);
	pb_end(e->out, content);
	pb_end(e->out, metric);
}

/* ---- histograms ---- */

#define NATIVE_FIRST (LATENCY_ZERO + 1)
#define NATIVE_COUNT ((uint32_t)(-LATENCY_ZERO * 2)) /* up to 2^17 s, as from 2^-17 s on */
#define GAP_MAX      2u                              /* empty buckets that cost less than a span */

/* Buckets of ours, summed. Returns what is in the zero bucket. */
static uint64_t sum_native(uint64_t counts[NATIVE_COUNT], const struct latency_totals *t)
{
	uint64_t zero = 0;

	memset(counts, 0, NATIVE_COUNT * sizeof(*counts));
	for (uint32_t i = 0; i <= LATENCY_BOUNDS; i++)
		if (latency_native[i] == LATENCY_ZERO)
			zero += t->buckets[i];
		else
			counts[latency_native[i] - NATIVE_FIRST] += t->buckets[i];
	return zero;
}

/* How many from here on belong to one span: up to the next gap. */
static uint32_t span_length(const uint64_t counts[NATIVE_COUNT], uint32_t from)
{
	uint32_t last = from;

	for (uint32_t i = from; i < NATIVE_COUNT && i <= last + GAP_MAX + 1; i++)
		if (counts[i])
			last = i;
	return last - from + 1;
}

static void add_span(struct buf *out, int32_t offset, const uint64_t *counts, uint32_t length, uint64_t *before)
{
	size_t span = pb_begin(out, HISTOGRAM_SPAN);

	pb_signed(out, SPAN_OFFSET, offset);
	pb_varint_always(out, SPAN_LENGTH, length);
	pb_end(out, span);
	for (uint32_t i = 0; i < length; i++) {
		pb_signed(out, HISTOGRAM_DELTA, (int64_t)(counts[i] - *before));
		*before = counts[i];
	}
}

static void add_native(struct buf *out, const struct latency_totals *t)
{
	uint64_t counts[NATIVE_COUNT], zero = sum_native(counts, t), before = 0;
	int32_t end = 0; /* of the span before; the first one's offset is its place */

	pb_signed(out, HISTOGRAM_SCHEMA, LATENCY_SCHEMA);
	pb_double(out, HISTOGRAM_ZERO_THRESHOLD, LATENCY_ZERO_THRESHOLD);
	pb_varint_always(out, HISTOGRAM_ZERO_COUNT, zero);
	for (uint32_t i = 0; i < NATIVE_COUNT; i++) {
		int32_t at = NATIVE_FIRST + (int32_t)i;
		uint32_t length;

		if (!counts[i])
			continue;
		length = span_length(counts, i);
		add_span(out, at - end, &counts[i], length, &before);
		end = at + (int32_t)length;
		i += length - 1;
	}
}

/* The one above all, which is the count, may be left out, and is. */
static void add_classic(struct buf *out, const struct latency_totals *t)
{
	for (uint32_t i = 0; i < LATENCY_SHOWN; i++) {
		size_t bucket = pb_begin(out, HISTOGRAM_BUCKET);

		pb_varint_always(out, BUCKET_COUNT, latency_within(t, latency_shown[i]));
		pb_double(out, BUCKET_BOUND, latency_shown[i] / 1e6);
		pb_end(out, bucket);
	}
}

static void add_histogram(struct exposition *e, const struct latency_totals *t)
{
	size_t metric = pb_begin(e->out, FAMILY_METRIC), content = pb_begin(e->out, kind_of(e->metric)->field);

	pb_varint_always(e->out, HISTOGRAM_COUNT, t->count);
	pb_double(e->out, HISTOGRAM_SUM, (double)t->sum / 1e6);
	add_classic(e->out, t);
	add_native(e->out, t);
	add_created(e, HISTOGRAM_CREATED);
	pb_end(e->out, content);
	pb_end(e->out, metric);
}

const struct exposition_writer exposition_protobuf = {begin, add_label, add, add_histogram, end};
