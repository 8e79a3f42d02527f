/*
 * Metrics as Prometheus reads them: its text format (0.0.4), or OpenMetrics (1.0.0). Families come one after the other,
 * each begun once, with all its samples behind it.
 */
#ifndef METRICS_EXPOSITION_H
#define METRICS_EXPOSITION_H

#include "base/buf.h"
#include "metrics/latency.h"

struct exposition {
	struct buf *out;
	bool open_metrics;
	uint32_t rows_max;           /* of what clients name: the families of those may fold the rest into one row */
	const struct metric *metric; /* of the samples that come */
};

#define EXPOSITION_TEXT_TYPE "text/plain; version=0.0.4; charset=utf-8"
#define EXPOSITION_OPEN_TYPE "application/openmetrics-text; version=1.0.0; charset=utf-8"

void exposition_begin(struct exposition *e, const struct metric *metric);
/* labels: "", or with their braces: {a="b",c="d"}. Whole numbers up to 2^53 come out whole. */
void exposition_add(struct exposition *e, const char *labels, double value);
void exposition_add_histogram(struct exposition *e, const struct latency_totals *totals);
/* A family of one sample without labels. */
void exposition_single(struct exposition *e, const struct metric *metric, double value);
void exposition_end(struct exposition *e);

#endif
