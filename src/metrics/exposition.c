/* See exposition.h. */
#include "metrics/exposition_priv.h"

static const struct exposition_writer *const writers[] = {
	[EXPOSITION_TEXT] = &exposition_text,
	[EXPOSITION_OPEN_METRICS] = &exposition_text,
	[EXPOSITION_PROTOBUF] = &exposition_protobuf,
};

const char *const exposition_types[] = {
	[EXPOSITION_TEXT] = "text/plain; version=0.0.4; charset=utf-8",
	[EXPOSITION_OPEN_METRICS] = "application/openmetrics-text; version=1.0.0; charset=utf-8",
	[EXPOSITION_PROTOBUF] =
		"application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
};

static void end_family(struct exposition *e)
{
	if (e->metric)
		writers[e->format]->end(e);
	e->metric = NULL;
}

void exposition_begin(struct exposition *e, const struct metric *m)
{
	end_family(e);
	e->metric = m;
	writers[e->format]->begin(e);
}

void exposition_label(struct exposition *e, const char *name, const char *value)
{
	writers[e->format]->label(&e->labels, name, value);
}

/* They are over: what there was no memory for must not become a sample that looks like another. */
static void end_labels(struct exposition *e)
{
	e->out->failed = e->out->failed || e->labels.failed;
	buf_clear(&e->labels);
}

void exposition_add(struct exposition *e, double value)
{
	writers[e->format]->add(e, slice_make(e->labels.bytes, e->labels.len), value);
	end_labels(e);
}

void exposition_add_one(struct exposition *e, const char *label, const char *text, double value)
{
	exposition_label(e, label, text);
	exposition_add(e, value);
}

struct slice exposition_keep_labels(struct exposition *e, struct arena *arena)
{
	struct slice kept = {arena_alloc(arena, e->labels.len + 1), e->labels.len};

	if (kept.bytes && kept.len)
		memcpy((uint8_t *)(uintptr_t)kept.bytes, e->labels.bytes, kept.len);
	end_labels(e);
	return kept;
}

void exposition_add_kept(struct exposition *e, struct slice labels, double value)
{
	writers[e->format]->add(e, labels, value);
}

void exposition_add_histogram(struct exposition *e, const struct latency_totals *t)
{
	writers[e->format]->add_histogram(e, t);
}

void exposition_single(struct exposition *e, const struct metric *metric, double value)
{
	exposition_begin(e, metric);
	exposition_add(e, value);
}

void exposition_end(struct exposition *e)
{
	end_family(e);
	if (e->format == EXPOSITION_OPEN_METRICS)
		buf_add_str(e->out, "# EOF\n");
	buf_free(&e->labels);
}
