/*
 * See exporter.h.
 *
 * A channel carries traces, or metrics:
 *
 *   EMPTY -> SENDING -> EMPTY      it was taken, refused for good, or given up
 *               ^ \
 *               |  v
 *             RESTING               it is sent again at `due`
 */
#include "telemetry/exporter.h"

#include "base/log.h"
#include "services/gzip.h"
#include "services/http.h"
#include "telemetry/otlp.h"

#include <pthread.h>
#include <stdio.h>
#include <sys/random.h>

#define REQUESTS_MAX    512u        /* in one message */
#define MESSAGE_MAX     (8u << 20)  /* bytes */
#define MESSAGE_ENOUGH  (1u << 20)  /* no more are added then */
#define METRICS_MAX     (64u << 20) /* of all metrics, as text */
#define PAUSE_MIN       (250 * USEC_PER_MSEC)
#define PAUSE_MAX       (15 * USEC_PER_SEC)
#define RETRY_AFTER_MAX (5 * 60 * USEC_PER_SEC)
#define HURRY_MIN       (10 * USEC_PER_MSEC)
#define TURN_MAX        (10 * USEC_PER_SEC)
#define LAST_WORDS      (2 * USEC_PER_SEC) /* at the end, for all that is left */

enum channel_state { CHANNEL_EMPTY, CHANNEL_SENDING, CHANNEL_RESTING };

struct channel {
	struct exporter *exporter;
	const char *what;
	enum channel_state state;
	struct buf payload; /* as it is sent */
	uint64_t items;     /* spans, or metrics, in it */
	usec_t due;         /* RESTING: sent again; EMPTY: made anew */
	usec_t pause, first_sent, sent;
	bool is_packed;
	bool again; /* there was more than had room */
};

struct exporter {
	struct exporter_context context;
	pthread_t thread;
	bool has_thread; /* of the control thread */
	_Atomic bool stopping;
	/* the thread's own */
	struct telemetry_settings *settings;
	struct channel traces, metrics;
	struct buf raw;
	bool replaces;        /* the HTTP client: what is under way is sent again by the next one */
	usec_t pace;          /* how often rings are looked at now */
	bool is_silent;       /* the collector does not take things, and a line said so */
	uint64_t lost_silent; /* since then */
	/* shared */
	pthread_mutex_t lock;
	struct telemetry_settings *fresh; /* NULL: none */
	struct http *http;                /* replaced under the lock, used by the thread alone but for waking */
	pthread_mutex_t expose_lock;
	bool exposes;
	struct buf last; /* metrics, as they were when expose() was called last */
};

/* Of the process: whoever asks for them knows no exporter. */
static struct counters counted;

static void count(counter_t *counter, uint64_t n)
{
	count_add(counter, n);
}

void exporter_add_counters(struct counters *sum)
{
	counters_add(sum, &counted);
}

/* ---- what the collector says ---- */

static bool is_worth_a_retry(unsigned status)
{
	return status == 0 || status == 429 || status == 502 || status == 503 || status == 504;
}

static void tell_trouble(struct channel *c, const struct http_answer *answer)
{
	struct exporter *e = c->exporter;
	char status[16] = "";

	if (e->is_silent)
		return;
	e->is_silent = true;
	e->lost_silent = 0;
	if (answer->status)
		snprintf(status, sizeof(status), "%u", answer->status);
	log_warn("the telemetry collector does not take what is sent; what it does not take in time is dropped",
		 kv_str("what", c->what),
		 kv_str("url", c == &e->traces ? e->settings->traces_url : e->settings->metrics_url),
		 kv_str("status", *status ? status : NULL), kv_str("reason", *answer->error ? answer->error : NULL));
}

static void tell_relief(struct exporter *e)
{
	if (!e->is_silent)
		return;
	e->is_silent = false;
	log_info("the telemetry collector takes what is sent again", kv_uint("dropped", e->lost_silent));
}

static void empty(struct channel *c, usec_t now)
{
	bool more = c->again;

	buf_free(&c->payload);
	c->items = 0;
	c->again = false;
	c->state = CHANNEL_EMPTY;
	if (c == &c->exporter->traces)
		c->due = more ? now : now + c->exporter->pace;
}

static void lose(struct channel *c)
{
	c->exporter->lost_silent += c->items;
	if (c == &c->exporter->traces)
		count(&counted.telemetry_spans_failed_total, c->items);
	empty(c, clock_update());
}

static usec_t by_chance(usec_t about)
{
	uint32_t random = 0;

	(void)getrandom(&random, sizeof(random), 0);
	return about / 2 + about * (random >> 16) / 65536; /* half to one and a half */
}

/* Again later, or given up. */
static void rest(struct channel *c, const struct http_answer *answer, usec_t now)
{
	usec_t pause = by_chance(c->pause);

	if (answer->retry_after)
		pause = MAX(MIN(answer->retry_after, RETRY_AFTER_MAX), by_chance(PAUSE_MIN));
	else
		c->pause = MIN(c->pause * 2, PAUSE_MAX);
	if (atomic_load(&c->exporter->stopping) ||
	    clock_since(c->first_sent, now) + pause > TELEMETRY_PATIENCE + answer->retry_after) {
		lose(c);
		return;
	}
	count(&counted.telemetry_retries_total, 1);
	c->state = CHANNEL_RESTING;
	c->due = now + pause;
}

static void taken(struct channel *c, const struct http_answer *answer)
{
	struct otlp_refusal refusal;

	otlp_read_answer(slice_make(answer->body, answer->len), &refusal);
	refusal.rejected = MIN(refusal.rejected, c->items);
	if (refusal.rejected)
		log_debug("the telemetry collector rejected a part", kv_str("what", c->what),
			  kv_uint("rejected", refusal.rejected), kv_slice("reason", refusal.why));
	if (c == &c->exporter->traces) {
		count(&counted.telemetry_spans_exported_total, c->items - refusal.rejected);
		count(&counted.telemetry_spans_rejected_total, refusal.rejected);
	} else {
		count(&counted.telemetry_metrics_exports_total, 1);
	}
	tell_relief(c->exporter);
	empty(c, clock_update());
}

static void answered(void *argument, const struct http_answer *answer)
{
	struct channel *c = argument;
	usec_t now = clock_update();

	if (c->exporter->replaces) {
		c->state = CHANNEL_RESTING;
		c->due = now;
		return;
	}
	if (answer->status >= 200 && answer->status < 300) {
		taken(c, answer);
		return;
	}
	count(&counted.telemetry_export_failures_total, 1);
	tell_trouble(c, answer);
	if (is_worth_a_retry(answer->status))
		rest(c, answer, now);
	else
		lose(c);
}

/* ---- sending ---- */

static void send_payload(struct channel *c, const char *url, usec_t now)
{
	struct exporter *e = c->exporter;
	const struct http_post post = {.headers = (const char *const *)e->settings->headers + !c->is_packed,
				       .body = c->payload.bytes,
				       .len = c->payload.len};

	c->state = CHANNEL_SENDING;
	c->sent = now;
	count(&counted.telemetry_exports_total, 1);
	if (http_post(e->http, url, &post, answered, c) < 0)
		lose(c);
}

/* What is in e->raw becomes the channel's payload. false: no memory. */
static bool pack(struct channel *c, usec_t now)
{
	struct exporter *e = c->exporter;
	int r = 0;

	if (e->raw.failed)
		return false;
	c->payload = BUF_INIT(MESSAGE_MAX + METRICS_MAX);
	if (e->settings->gzip)
		r = gzip_pack(slice_make(e->raw.bytes, e->raw.len), &c->payload);
	else
		buf_add(&c->payload, e->raw.bytes, e->raw.len);
	c->is_packed = e->settings->gzip; /* a reload may change that before it is sent again */
	c->pause = PAUSE_MIN;
	c->first_sent = now;
	return r == 0 && !c->payload.failed;
}

/* The fuller the rings, the sooner they are looked at again. */
static void set_pace(struct exporter *e)
{
	unsigned fill = trace_rings_fill();

	if (fill > 25)
		e->pace = MAX(e->pace / 4, HURRY_MIN);
	else if (fill < 10)
		e->pace = MIN(e->pace * 2, e->settings->interval);
	e->pace = MIN(e->pace, e->settings->interval);
}

/* Spans of what is in the rings. false: there is nothing. */
static bool make_traces(struct exporter *e, usec_t now)
{
	int64_t wall_offset = (int64_t)clock_wall() - (int64_t)now;
	struct channel *c = &e->traces;
	const struct trace_record *record;
	struct otlp_message message;
	uint32_t requests = 0;

	set_pace(e);
	record = trace_rings_first();
	if (!record)
		return false;
	buf_free(&e->raw);
	e->raw = BUF_INIT(MESSAGE_MAX);
	otlp_begin(&message, &e->settings->resource, &e->raw);
	for (; record; record = trace_rings_first()) {
		c->items += otlp_add_request(&message, record, wall_offset, e->settings->query_text);
		trace_rings_drop();
		if (++requests == REQUESTS_MAX || e->raw.len > MESSAGE_ENOUGH) {
			c->again = true;
			break;
		}
	}
	otlp_end(&message);
	if (pack(c, now))
		return true;
	lose(c);
	return false;
}

/* Turned off, and a ring may still have something: of the configuration before. */
static void drop_traces(void)
{
	uint64_t dropped = 0;

	for (; trace_rings_first(); dropped++)
		trace_rings_drop();
	count(&counted.telemetry_traces_dropped_total, dropped);
}

static void step_traces(struct exporter *e, usec_t now)
{
	struct channel *c = &e->traces;

	if (c->state == CHANNEL_SENDING || now < c->due)
		return;
	if (c->state == CHANNEL_RESTING) {
		send_payload(c, e->settings->traces_url, now);
	} else if (!e->settings->traces) {
		drop_traces();
		c->due = now + TURN_MAX;
	} else if (make_traces(e, now)) {
		send_payload(c, e->settings->traces_url, now);
	} else {
		c->due = now + e->pace;
	}
}

static bool make_metrics(struct exporter *e, usec_t now)
{
	struct buf text = BUF_INIT(METRICS_MAX);
	struct channel *c = &e->metrics;
	struct otlp_message message;

	pthread_mutex_lock(&e->expose_lock);
	if (e->exposes) {
		e->context.expose(e->context.server, &text);
	} else { /* the last of them */
		text = e->last;
		e->last = BUF_INIT(METRICS_MAX);
	}
	pthread_mutex_unlock(&e->expose_lock);
	buf_free(&e->raw);
	e->raw = BUF_INIT(METRICS_MAX);
	if (text.len && !text.failed) {
		otlp_begin(&message, &e->settings->resource, &e->raw);
		c->items = otlp_add_metrics(&message, slice_make(text.bytes, text.len), e->context.started_wall,
					    clock_wall());
		otlp_end(&message);
	}
	buf_free(&text);
	if (c->items && pack(c, now))
		return true;
	empty(c, now);
	return false;
}

static void step_metrics(struct exporter *e, usec_t now)
{
	struct channel *c = &e->metrics;

	if (c->state == CHANNEL_SENDING || now < c->due)
		return;
	if (c->state == CHANNEL_RESTING) {
		send_payload(c, e->settings->metrics_url, now);
		return;
	}
	c->due = now + (e->settings->metrics ? e->settings->metrics_interval : TURN_MAX);
	if (e->settings->metrics && make_metrics(e, now))
		send_payload(c, e->settings->metrics_url, now);
}

/* ---- the thread ---- */

static int new_http(const struct telemetry_settings *s, struct http **ret)
{
	return http_new(&(struct http_settings){.user = "",
						.password = "",
						.ca_path = s->ca_path,
						.cert_path = s->cert_path,
						.key_path = s->key_path,
						.timeout = s->timeout},
			ret);
}

/* What is under way ends, and is sent again by the new ones. */
static void take_settings(struct exporter *e)
{
	struct telemetry_settings *fresh, *old = e->settings;
	struct http *http = NULL, *old_http;
	usec_t now = clock_update();

	pthread_mutex_lock(&e->lock);
	fresh = e->fresh;
	e->fresh = NULL;
	pthread_mutex_unlock(&e->lock);
	if (!fresh)
		return;
	if (new_http(fresh, &http) < 0) {
		log_error("no memory for a new HTTP client: telemetry goes on as before");
		telemetry_settings_free(fresh);
		return;
	}
	pthread_mutex_lock(&e->lock);
	old_http = e->http;
	e->http = http;
	pthread_mutex_unlock(&e->lock);
	e->replaces = true;
	http_free(old_http);
	e->replaces = false;
	e->settings = fresh;
	telemetry_settings_free(old);
	e->pace = fresh->interval;
	e->traces.due = e->metrics.due = now;
	e->traces.first_sent = e->metrics.first_sent = now;
	if (!fresh->traces && e->traces.state != CHANNEL_EMPTY)
		lose(&e->traces);
	if (!fresh->metrics && e->metrics.state != CHANNEL_EMPTY)
		lose(&e->metrics);
}

static usec_t until_next(const struct exporter *e)
{
	usec_t now = clock_update(), due = now + TURN_MAX;

	if (e->traces.state != CHANNEL_SENDING)
		due = MIN(due, e->traces.due);
	if (e->metrics.state != CHANNEL_SENDING)
		due = MIN(due, e->metrics.due);
	return due > now ? MAX(due - now, USEC_PER_MSEC) : 0;
}

/* All that is left, once, and no longer than LAST_WORDS. */
static void finish(struct exporter *e)
{
	usec_t until = clock_update() + LAST_WORDS;

	e->traces.due = e->metrics.due = 0;
	if (e->metrics.state == CHANNEL_EMPTY && e->last.len == 0)
		e->metrics.due = USEC_NEVER;
	for (;;) {
		usec_t now = clock_update();
		bool metrics_left = e->metrics.state != CHANNEL_EMPTY || e->metrics.due <= now;

		if (now >= until)
			break;
		step_traces(e, now);
		step_metrics(e, now);
		if (e->traces.state == CHANNEL_EMPTY && !trace_rings_first() && !metrics_left)
			break;
		if (e->traces.state == CHANNEL_EMPTY)
			e->traces.due = 0;
		http_turn(e->http, MIN(until_next(e), until - now));
	}
	e->replaces = true; /* nobody is to hear of what is under way, and ends now */
	drop_traces();
}

static void *exporter_main(void *argument)
{
	struct exporter *e = argument;

	pthread_setname_np(pthread_self(), "telemetry");
	while (!atomic_load(&e->stopping)) {
		usec_t now;

		take_settings(e);
		now = clock_update();
		step_traces(e, now);
		step_metrics(e, now);
		http_turn(e->http, until_next(e));
	}
	finish(e);
	return NULL;
}

/* ---- control ---- */

struct exporter *exporter_new(const struct exporter_context *context)
{
	struct exporter *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	e->context = *context;
	e->traces = (struct channel){.exporter = e, .what = "traces"};
	e->metrics = (struct channel){.exporter = e, .what = "metrics"};
	e->last = BUF_INIT(METRICS_MAX);
	e->exposes = true;
	pthread_mutex_init(&e->lock, NULL);
	pthread_mutex_init(&e->expose_lock, NULL);
	return e;
}

static int start_thread(struct exporter *e, struct telemetry_settings *s)
{
	int r = new_http(s, &e->http);

	if (r < 0)
		return r;
	e->settings = s;
	e->pace = s->interval;
	e->metrics.due =
		clock_update() + MIN(s->metrics_interval, USEC_PER_SEC); /* the first soon: one sees that it works */
	r = -pthread_create(&e->thread, NULL, exporter_main, e);
	e->has_thread = r == 0;
	if (r < 0) {
		http_free(e->http);
		e->http = NULL;
		e->settings = NULL;
	}
	return r;
}

static void say_where(const struct telemetry_settings *s)
{
	log_info("telemetry is sent", kv_str("traces", s->traces ? s->traces_url : NULL),
		 kv_str("metrics", s->metrics ? s->metrics_url : NULL));
}

int exporter_configure(struct exporter *e, const struct config *config)
{
	struct telemetry_settings *s;
	int r = 0;

	if (!config->telemetry.enabled && !e->has_thread)
		return 0;
	s = telemetry_settings_new(config, telemetry_environment);
	if (!s)
		return -ENOMEM;
	if (s->enabled && !e->has_thread)
		say_where(s);
	if (!e->has_thread) {
		r = start_thread(e, s);
		if (r < 0)
			telemetry_settings_free(s);
		return r;
	}
	pthread_mutex_lock(&e->lock);
	telemetry_settings_free(e->fresh);
	e->fresh = s;
	http_wake(e->http);
	pthread_mutex_unlock(&e->lock);
	return 0;
}

void exporter_expose_no_more(struct exporter *e)
{
	if (!e)
		return;
	pthread_mutex_lock(&e->expose_lock);
	if (e->exposes && e->has_thread)
		e->context.expose(e->context.server, &e->last);
	e->exposes = false;
	pthread_mutex_unlock(&e->expose_lock);
}

void exporter_free(struct exporter *e)
{
	if (!e)
		return;
	if (e->has_thread) {
		atomic_store(&e->stopping, true);
		pthread_mutex_lock(&e->lock);
		http_wake(e->http);
		pthread_mutex_unlock(&e->lock);
		pthread_join(e->thread, NULL);
	}
	/* what is still under way is told that the client ends, which frees it */
	http_free(e->http);
	trace_rings_free();
	telemetry_settings_free(e->settings);
	telemetry_settings_free(e->fresh);
	buf_free(&e->traces.payload);
	buf_free(&e->metrics.payload);
	buf_free(&e->raw);
	buf_free(&e->last);
	pthread_mutex_destroy(&e->lock);
	pthread_mutex_destroy(&e->expose_lock);
	free(e);
}
