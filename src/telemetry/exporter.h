/*
 * The thread that sends traces and metrics to a collector: OTLP over HTTP, protobuf. It alone waits for the collector:
 * one request of each kind at a time. What the collector does not take now (429, 502, 503, 504, no answer) is sent
 * again, after a pause that doubles, or as long as its Retry-After says; meanwhile new spans stay in the workers'
 * rings, which drop when they are full. After TELEMETRY_PATIENCE it is given up, and counted.
 *
 * Without [telemetry] enabled there is no thread.
 */
#ifndef TELEMETRY_EXPORTER_H
#define TELEMETRY_EXPORTER_H

#include "base/buf.h"
#include "base/clock.h"
#include "config/config.h"
#include "metrics/metrics.h"

#define TELEMETRY_PATIENCE (60 * USEC_PER_SEC)

struct exporter;

struct exporter_context {
	/* All metrics in Prometheus' format, on the exporter's thread. */
	void (*expose)(void *server, struct buf *out);
	void *server;
	uint64_t started_wall; /* of the process */
};

/* NULL: no memory. */
struct exporter *exporter_new(const struct exporter_context *context);
/* Control thread, at the start and at a reload. 0 or -errno: then as before. */
int exporter_configure(struct exporter *e, const struct config *config) MUST_USE;
/* From now on expose() is not called any more. Once more it is, if metrics are sent: for the last of them. */
void exporter_expose_no_more(struct exporter *e);
/* The workers have ended: sends what there is, for a short while, and ends. NULL is fine. */
void exporter_free(struct exporter *e);

/* What this process has counted of it, added. */
void exporter_add_counters(struct counters *sum);

#endif
