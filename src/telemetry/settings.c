/* See settings.h. */
#include "telemetry/settings.h"

#include "telemetry/attributes.h"

#include <stdio.h>
#include <sys/random.h>
#include <sys/utsname.h>
#include <unistd.h>

#define RESOURCE_MAX     16384u
#define VALUE_MAX        4096u
#define DEFAULT_ENDPOINT "http://localhost:4318"

const char *telemetry_environment(const char *name)
{
	const char *value = getenv(name);

	return value && *value ? value : NULL;
}

/* ---- lists of name=value ---- */

static int hex_of(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void trim(const char **from, const char **to)
{
	while (*from < *to && (**from == ' ' || **from == '\t'))
		(*from)++;
	while (*from < *to && ((*to)[-1] == ' ' || (*to)[-1] == '\t'))
		(*to)--;
}

/* %XX is a byte. Cut where there is no room; NUL and line ends are left out. */
static void decode(const char *from, const char *to, char out[VALUE_MAX])
{
	size_t len = 0;

	for (; from < to && len + 1 < VALUE_MAX; from++) {
		char c = *from;

		if (c == '%' && to - from > 2 && hex_of(from[1]) >= 0 && hex_of(from[2]) >= 0) {
			c = (char)(hex_of(from[1]) << 4 | hex_of(from[2]));
			from += 2;
		}
		if (c && c != '\r' && c != '\n')
			out[len++] = c;
	}
	out[len] = 0;
}

/* The next pair of a=b,c=d, from *at on. False: there is none. */
static bool next_pair(const char **at, char name[VALUE_MAX], char value[VALUE_MAX])
{
	while (**at) {
		const char *end = *at + strcspn(*at, ","), *from = *at,
			   *equals = memchr(from, '=', (size_t)(end - from));
		const char *name_end = equals, *value_from = equals + 1;

		*at = *end ? end + 1 : end;
		if (!equals)
			continue;
		trim(&from, &name_end);
		trim(&value_from, &end);
		if (from == name_end)
			continue;
		decode(from, name_end, name);
		decode(value_from, end, value);
		return true;
	}
	return false;
}

static const char *said(const char *configured, telemetry_getenv *env, const char *variable)
{
	const char *value = *configured ? configured : env(variable);

	return value ? value : "";
}

static void add_header(struct telemetry_settings *s, const char *name, const char *value, bool *failed)
{
	char *header;

	if (s->header_count == ARRAY_SIZE(s->headers) - 1)
		return;
	if (asprintf(&header, "%s: %s", name, value) < 0) {
		*failed = true;
		return;
	}
	s->headers[s->header_count++] = header;
}

static void add_headers(struct telemetry_settings *s, const char *list, bool *failed)
{
	char name[VALUE_MAX], value[VALUE_MAX];

	add_header(s, "Content-Encoding", "gzip", failed);
	add_header(s, "Content-Type", "application/x-protobuf", failed);
	for (uint32_t i = 0; i < TELEMETRY_HEADERS_MAX && next_pair(&list, name, value); i++)
		if (strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == strlen(name))
			add_header(s, name, value, failed);
	explicit_bzero(value, sizeof(value));
}

/* ---- the resource ---- */

static void add_instance(struct buf *b)
{
	static char id[40]; /* of this process, through all reloads; of the control thread */
	uint8_t r[16] = {0};

	if (!id[0] && getrandom(r, sizeof(r), 0) == sizeof(r))
		snprintf(id, sizeof(id), "%02x%02x%02x%02x-%02x%02x-4%01x%02x-8%01x%02x-%02x%02x%02x%02x%02x%02x", r[0],
			 r[1], r[2], r[3], r[4], r[5], r[6] & 15, r[7], r[8] & 15, r[9], r[10], r[11], r[12], r[13],
			 r[14], r[15]);
	otlp_string(b, 1, "service.instance.id", slice_str(id));
}

static bool list_has(const char *list, const char *wanted)
{
	char name[VALUE_MAX], value[VALUE_MAX];

	while (next_pair(&list, name, value))
		if (strcmp(name, wanted) == 0)
			return true;
	return false;
}

static void add_resource(struct buf *b, const char *service, const char *list)
{
	char name[VALUE_MAX], value[VALUE_MAX];
	struct utsname host;

	if (*service || !list_has(list, "service.name"))
		otlp_string(b, 1, "service.name", slice_str(*service ? service : "heliosdb-proxy"));
	if (!list_has(list, "service.version"))
		otlp_string(b, 1, "service.version", slice_str(HELIOS_VERSION));
	if (!list_has(list, "service.instance.id"))
		add_instance(b);
	if (!list_has(list, "host.name") && uname(&host) == 0)
		otlp_string(b, 1, "host.name", slice_str(host.nodename));
	otlp_integer(b, 1, "process.pid", getpid());
	while (next_pair(&list, name, value))
		if (!(*service && strcmp(name, "service.name") == 0))
			otlp_string(b, 1, name, slice_str(value));
}

/* ---- all of it ---- */

static char *url_of(const char *base, const char *path)
{
	size_t len = strlen(base);
	char *url;

	while (len > 0 && base[len - 1] == '/')
		len--;
	return asprintf(&url, "%.*s%s", (int)len, base, path) < 0 ? NULL : url;
}

void telemetry_settings_free(struct telemetry_settings *s)
{
	if (!s)
		return;
	for (uint32_t i = 0; i < s->header_count; i++) {
		explicit_bzero(s->headers[i], strlen(s->headers[i]));
		free(s->headers[i]);
	}
	free(s->traces_url);
	free(s->metrics_url);
	free(s->ca_path);
	free(s->cert_path);
	free(s->key_path);
	buf_free(&s->resource);
	free(s);
}

struct telemetry_settings *telemetry_settings_new(const struct config *config, telemetry_getenv *env)
{
	const struct config_telemetry *t = &config->telemetry;
	struct telemetry_settings *s = calloc(1, sizeof(*s));
	const char *endpoint = said(t->endpoint, env, "OTEL_EXPORTER_OTLP_ENDPOINT");
	bool failed = !s;

	if (failed)
		return NULL;
	s->enabled = t->enabled;
	s->traces = t->enabled && t->traces;
	s->metrics = t->enabled && t->metrics;
	s->query_text = t->query_text;
	s->gzip = t->compression == COMPRESSION_GZIP;
	s->timeout = t->timeout;
	s->interval = MAX(t->interval, 10 * USEC_PER_MSEC);
	s->metrics_interval = t->metrics_interval;
	s->traces_url = url_of(*endpoint ? endpoint : DEFAULT_ENDPOINT, "/v1/traces");
	s->metrics_url = url_of(*endpoint ? endpoint : DEFAULT_ENDPOINT, "/v1/metrics");
	s->ca_path = strdup(t->ca_path);
	s->cert_path = strdup(t->cert_path);
	s->key_path = strdup(t->key_path);
	add_headers(s, said(t->headers, env, "OTEL_EXPORTER_OTLP_HEADERS"), &failed);
	s->resource = BUF_INIT(RESOURCE_MAX);
	add_resource(&s->resource, said(t->service_name, env, "OTEL_SERVICE_NAME"),
		     said(t->resource_attributes, env, "OTEL_RESOURCE_ATTRIBUTES"));
	if (!failed && s->traces_url && s->metrics_url && s->ca_path && s->cert_path && s->key_path &&
	    !s->resource.failed)
		return s;
	telemetry_settings_free(s);
	return NULL;
}

/* OTEL_TRACES_SAMPLER_ARG; what is no ratio is 1, as OpenTelemetry says. */
static double ratio_of(telemetry_getenv *env)
{
	const char *text = env("OTEL_TRACES_SAMPLER_ARG");
	char *end;
	double ratio = text ? strtod(text, &end) : 1;

	return text && (*end || !(ratio >= 0 && ratio <= 1)) ? 1 : ratio;
}

struct telemetry_sampler telemetry_sampler_of(const struct config *config, telemetry_getenv *env)
{
	const char *name = env("OTEL_TRACES_SAMPLER");
	struct telemetry_sampler s = {.ratio = 1, .heeds_parent = true};

	if (config->telemetry.sample_ratio >= 0) {
		s.ratio = config->telemetry.sample_ratio;
		return s;
	}
	if (!name)
		return s;
	s.heeds_parent = strncmp(name, "parentbased_", 12) == 0;
	name += s.heeds_parent ? 12 : 0;
	if (strcmp(name, "traceidratio") == 0)
		s.ratio = ratio_of(env);
	else if (strcmp(name, "always_off") == 0)
		s.ratio = 0;
	else if (strcmp(name, "always_on") != 0)
		s.heeds_parent = true; /* nothing that we know: the default */
	return s;
}
