/*
 * What is sent: spans of requests and metrics, as messages of opentelemetry-proto (ExportTraceServiceRequest,
 * ExportMetricsServiceRequest). https://github.com/open-telemetry/opentelemetry-proto, field numbers are frozen.
 */
#ifndef TELEMETRY_OTLP_H
#define TELEMETRY_OTLP_H

#include "telemetry/attributes.h"
#include "telemetry/settings.h"
#include "telemetry/trace_ring.h"

/* A message that spans, or metrics, are added to. resource: of telemetry_settings. */
struct otlp_message {
	struct buf *to;
	size_t all, scope; /* where these began */
};
void otlp_begin(struct otlp_message *m, const struct buf *resource, struct buf *to);
void otlp_end(struct otlp_message *m);

/*
 * The spans of a request: one of the proxy's own (SERVER), with the parent that the client named, and below it the wait
 * for a link (INTERNAL), if there was one, and the time of the server (CLIENT), if it was sent to one. Their number.
 * wall_offset: what makes wall-clock microseconds of the record's times.
 */
#define OTLP_SPANS_MAX 3u
uint32_t otlp_add_request(struct otlp_message *m, const struct trace_record *record, int64_t wall_offset,
			  bool query_text);

/* All metrics of a text in Prometheus' format, as /metrics has them: counters, gauges, histograms. Their number. */
uint32_t otlp_add_metrics(struct otlp_message *m, struct slice text, uint64_t started_wall, uint64_t now_wall);

/* What a collector has answered: how much of it it does not want, and why (in the answer's bytes). */
struct otlp_refusal {
	uint64_t rejected;
	struct slice why;
};
void otlp_read_answer(struct slice body, struct otlp_refusal *ret);

#endif
