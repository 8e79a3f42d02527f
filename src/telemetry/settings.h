/*
 * [telemetry], and what OpenTelemetry's environment variables say where that says nothing: OTEL_EXPORTER_OTLP_ENDPOINT,
 * OTEL_EXPORTER_OTLP_HEADERS, OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER and its _ARG.
 * https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
 */
#ifndef TELEMETRY_SETTINGS_H
#define TELEMETRY_SETTINGS_H

#include "base/buf.h"
#include "base/clock.h"
#include "config/config.h"

#define TELEMETRY_HEADERS_MAX 32u

/* Which requests have spans, but for those that fail or are slow. */
struct telemetry_sampler {
	double ratio;
	bool heeds_parent; /* a client that says something of a trace decides itself */
};

struct telemetry_settings {
	bool enabled, traces, metrics; /* the latter two only when enabled */
	bool query_text, gzip;
	char *traces_url, *metrics_url;
	char *headers[TELEMETRY_HEADERS_MAX + 4]; /* "Name: value", NULL at the end; the first: for what is packed */
	uint32_t header_count;
	struct buf resource; /* attributes, as OTLP's Resource has them */
	char *ca_path, *cert_path, *key_path;
	usec_t timeout, interval, metrics_interval;
};

/* The environment: getenv, but for tests. NULL: no memory. */
typedef const char *telemetry_getenv(const char *name);
struct telemetry_settings *telemetry_settings_new(const struct config *config, telemetry_getenv *env) MUST_USE;
void telemetry_settings_free(struct telemetry_settings *s); /* NULL is fine */

struct telemetry_sampler telemetry_sampler_of(const struct config *config, telemetry_getenv *env);
const char *telemetry_environment(const char *name); /* getenv; empty is as not set */

#endif
