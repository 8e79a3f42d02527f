/* Metrics as text. https://prometheus.io/docs/instrumenting/exposition_formats/, https://openmetrics.io */
#include "metrics/exposition_priv.h"

#include "base/utf8.h"

#include <stdio.h>

#define WHOLE_MAX 9007199254740992.0 /* 2^53 */

static bool is_counter(const struct metric *m)
{
	return strcmp(m->kind, "counter") == 0;
}

static bool is_open(const struct exposition *e)
{
	return e->format == EXPOSITION_OPEN_METRICS;
}

/* In OpenMetrics a counter is called without the end of its samples' names. */
static void add_family(struct exposition *e, const struct metric *m)
{
	size_t len = strlen(m->name), end = strlen("_total");

	if (is_open(e) && is_counter(m) && len > end && strcmp(m->name + len - end, "_total") == 0)
		len -= end;
	buf_add(e->out, m->name, len);
}

static void add_help(struct exposition *e, const char *help)
{
	for (; *help; help++) {
		if (*help == '\\' || (*help == '"' && is_open(e)))
			buf_add_char(e->out, '\\');
		buf_add_char(e->out, *help);
	}
}

static void begin(struct exposition *e)
{
	const struct metric *m = e->metric;
	bool unknown = is_open(e) && strcmp(m->kind, "untyped") == 0;

	buf_add_str(e->out, "# HELP ");
	add_family(e, m);
	buf_add_char(e->out, ' ');
	add_help(e, m->help);
	buf_add_str(e->out, "\n# TYPE ");
	add_family(e, m);
	buf_add_char(e->out, ' ');
	buf_add_str(e->out, unknown ? "unknown" : m->kind);
	buf_add_char(e->out, '\n');
}

/* With a thousand pools most of a scrape is numbers, and most of these are whole and short. */
static void add_whole(struct buf *out, uint64_t value)
{
	char digits[24], *at = digits + sizeof(digits);

	do
		*--at = (char)('0' + value % 10);
	while (value /= 10);
	buf_add(out, at, (size_t)(digits + sizeof(digits) - at));
}

static void add_number(struct buf *out, double value)
{
	if (value >= 0 && value <= WHOLE_MAX && value == (double)(uint64_t)value)
		add_whole(out, (uint64_t)value);
	else
		buf_printf(out, "%.15g", value);
}

static void add_label(struct buf *labels, const char *name, const char *value)
{
	buf_add_char(labels, labels->len ? ',' : '{');
	buf_add_str(labels, name);
	buf_add_str(labels, "=\"");
	while (*value) {
		if (*value == '\n') {
			buf_add_str(labels, "\\n");
			value++;
			continue;
		}
		if (*value == '\\' || *value == '"')
			buf_add_char(labels, '\\');
		value += buf_add_character(labels, value);
	}
	buf_add_char(labels, '"');
}

static void add(struct exposition *e, struct slice labels, double value)
{
	buf_add_str(e->out, e->metric->name);
	buf_add(e->out, labels.bytes, labels.len);
	if (labels.len)
		buf_add_char(e->out, '}');
	buf_add_char(e->out, ' ');
	add_number(e->out, value);
	buf_add_char(e->out, '\n');
}

static void add_bucket(struct exposition *e, const char *bound, uint64_t count)
{
	buf_printf(e->out, "%s_bucket{le=\"%s\"} %llu\n", e->metric->name, bound, (unsigned long long)count);
}

/* Bounds are floating-point numbers in OpenMetrics ("1.0"): in both, so that they name the same series. */
static void add_histogram(struct exposition *e, const struct latency_totals *t)
{
	char bound[32];

	for (uint32_t i = 0; i < LATENCY_SHOWN; i++) {
		snprintf(bound, sizeof(bound), latency_shown[i] % 1000000 ? "%.6g" : "%.1f", latency_shown[i] / 1e6);
		add_bucket(e, bound, latency_within(t, latency_shown[i]));
	}
	add_bucket(e, "+Inf", t->count);
	buf_printf(e->out, "%s_sum %.15g\n", e->metric->name, (double)t->sum / 1e6);
	buf_printf(e->out, "%s_count %llu\n", e->metric->name, (unsigned long long)t->count);
}

static void end(struct exposition *e)
{
	(void)e;
}

const struct exposition_writer exposition_text = {begin, add_label, add, add_histogram, end};
