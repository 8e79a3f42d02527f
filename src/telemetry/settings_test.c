/* [telemetry] and OpenTelemetry's environment variables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "telemetry/settings.h"

static const char *const *environment; /* name, value, ..., NULL */

static const char *env(const char *name)
{
	for (const char *const *at = environment; at && *at; at += 2)
		if (strcmp(at[0], name) == 0)
			return at[1];
	return NULL;
}

static struct config *defaults(void)
{
	struct config *c = calloc(1, sizeof(*c));

	assert_non_null(c);
	c->telemetry = (struct config_telemetry){.enabled = true,
						 .traces = true,
						 .endpoint = "",
						 .headers = "",
						 .service_name = "",
						 .resource_attributes = "",
						 .ca_path = "",
						 .cert_path = "",
						 .key_path = "",
						 .sample_ratio = RATIO_UNSAID};
	return c;
}

static bool has(const struct buf *b, const char *text)
{
	return memmem(b->bytes, b->len, text, strlen(text)) != NULL;
}

static struct telemetry_settings *with(const struct config *c, const char *const *variables)
{
	struct telemetry_settings *s;

	environment = variables;
	s = telemetry_settings_new(c, env);
	assert_non_null(s);
	return s;
}

static void nothing_said(void **state)
{
	struct config *c = defaults();
	struct telemetry_settings *s = with(c, NULL);

	assert_string_equal(s->traces_url, "http://localhost:4318/v1/traces");
	assert_string_equal(s->metrics_url, "http://localhost:4318/v1/metrics");
	assert_string_equal(s->headers[0], "Content-Encoding: gzip");
	assert_string_equal(s->headers[1], "Content-Type: application/x-protobuf");
	assert_null(s->headers[2]);
	assert_true(s->traces && !s->metrics && has(&s->resource, "heliosdb-proxy") &&
		    has(&s->resource, "service.instance.id"));
	telemetry_settings_free(s);
	free(c);
}

static void the_environment_fills_in(void **state)
{
	static const char *const variables[] = {"OTEL_EXPORTER_OTLP_ENDPOINT",
						"https://c:1/base//",
						"OTEL_EXPORTER_OTLP_HEADERS",
						"a = b%20c ,=x,bad name=1,,d=%zz,e=%0d%0aX: y",
						"OTEL_SERVICE_NAME",
						"mine",
						"OTEL_RESOURCE_ATTRIBUTES",
						"service.name=other,k=v",
						NULL};
	struct config *c = defaults();
	struct telemetry_settings *s = with(c, variables);

	assert_string_equal(s->traces_url, "https://c:1/base/v1/traces");
	assert_string_equal(s->headers[2], "a: b c");
	assert_string_equal(s->headers[3], "d: %zz");
	assert_string_equal(s->headers[4], "e: X: y"); /* one line, whatever was tried */
	assert_null(s->headers[5]);
	assert_true(has(&s->resource, "mine") && !has(&s->resource, "other") && has(&s->resource, "k"));
	telemetry_settings_free(s);
	c->telemetry.endpoint = "http://d:2";
	c->telemetry.service_name = "named";
	s = with(c, variables);
	assert_string_equal(s->metrics_url, "http://d:2/v1/metrics");
	assert_true(has(&s->resource, "named") && !has(&s->resource, "mine"));
	telemetry_settings_free(s);
	free(c);
}

static void samplers(void **state)
{
	static const struct {
		const char *name, *argument;
		double ratio;
		bool heeds_parent;
	} cases[] = {
		{NULL, NULL, 1, true},
		{"always_on", NULL, 1, false},
		{"always_off", NULL, 0, false},
		{"traceidratio", "0.25", 0.25, false},
		{"parentbased_traceidratio", "0.5", 0.5, true},
		{"parentbased_traceidratio", "x", 1, true},
		{"parentbased_traceidratio", "2", 1, true},
		{"parentbased_traceidratio", NULL, 1, true},
		{"parentbased_always_off", "0.5", 0, true},
		{"jaeger_remote", NULL, 1, true},
	};
	struct config *c = defaults();

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *const variables[] = {cases[i].name ? "OTEL_TRACES_SAMPLER" : "X", cases[i].name,
						 cases[i].argument ? "OTEL_TRACES_SAMPLER_ARG" : "Y", cases[i].argument,
						 NULL};
		struct telemetry_sampler s;

		environment = variables;
		s = telemetry_sampler_of(c, env);
		if (s.ratio != cases[i].ratio || s.heeds_parent != cases[i].heeds_parent)
			fail_msg("case %zu", i);
		c->telemetry.sample_ratio = 0.125; /* counts more */
		s = telemetry_sampler_of(c, env);
		assert_true(s.ratio == 0.125 && s.heeds_parent);
		c->telemetry.sample_ratio = RATIO_UNSAID;
	}
	free(c);
}

/* A list with more, and longer, than there is room for. */
static void too_much(void **state)
{
	struct config *c = defaults();
	char *list = calloc(1, 100000);
	struct telemetry_settings *s;

	for (size_t i = 0; i < 100; i++)
		memcpy(list + 4 * i, "h=v,", 4);
	c->telemetry.headers = list;
	s = with(c, NULL);
	assert_int_equal(s->header_count, 2 + TELEMETRY_HEADERS_MAX);
	telemetry_settings_free(s);
	memset(list, 'x', 50000);
	list[1] = '=';
	s = with(c, NULL);
	assert_true(strlen(s->headers[2]) < 5000);
	telemetry_settings_free(s);
	free(list);
	free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_said),
		cmocka_unit_test(the_environment_fills_in),
		cmocka_unit_test(samplers),
		cmocka_unit_test(too_much),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
