/*
 * Spans of requests, [telemetry] traces. Decided when the request is over, so a failed or slow one is always told, and
 * one that isn't told costs a look at the ends of its text. What is told goes to the worker's ring as it is; the thread
 * of telemetry/exporter.c makes spans of it.
 */
#include "config/config.h"
#include "sql/trace_context.h"
#include "stage/stage.h"
#include "telemetry/settings.h"
#include "telemetry/trace_ring.h"

#include <sys/random.h>

#define DRAWS_MAX (1ull << 32)

struct policy {
	struct trace_ring *ring;
	uint64_t threshold; /* of a draw below DRAWS_MAX */
	uint64_t random;
	usec_t slow; /* USEC_NEVER: no matter how long */
	bool heeds_parent, keeps_errors;
};

static size_t power_of_two(uint64_t size)
{
	size_t power = 65536;

	while (power < size)
		power *= 2;
	return power;
}

static int configure(const struct config *config, const void *before UNUSED, void **ret_policy)
{
	const struct config_telemetry *c = &config->telemetry;
	struct telemetry_sampler sampler;
	struct policy *p;

	*ret_policy = NULL;
	if (!c->enabled || !c->traces)
		return 0;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->ring = trace_ring_new(power_of_two(c->buffer));
	if (!p->ring) {
		free(p);
		return -ENOMEM;
	}
	sampler = telemetry_sampler_of(config, telemetry_environment);
	p->threshold = (uint64_t)(sampler.ratio * (double)DRAWS_MAX);
	p->heeds_parent = sampler.heeds_parent;
	p->keeps_errors = c->keep_errors;
	p->slow = c->slow_threshold ? c->slow_threshold : USEC_NEVER;
	if (getrandom(&p->random, sizeof(p->random), 0) != (ssize_t)sizeof(p->random))
		p->random = (uintptr_t)p;
	*ret_policy = p;
	return 0;
}

static void release(void *policy)
{
	struct policy *p = policy;

	trace_ring_retire(p->ring);
	free(p);
}

/* splitmix64 */
static bool draw(struct policy *p)
{
	uint64_t z = p->random += 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return (z >> 32) < p->threshold;
}

static bool is_kept_anyway(const struct request *r, const struct policy *p)
{
	return (p->keeps_errors && *r->sqlstate) || r->took >= p->slow;
}

static void record(const struct request *r, struct policy *p, const struct trace_context *parent)
{
	struct trace_record record = {
		.pid = r->pid,
		.began = r->began,
		.sent = r->sent,
		.ended = r->ended,
		.reason = r->reason,
		.role = r->role,
		.port = r->port,
		.flags = parent ? parent->flags : 0,
		.has_parent = parent != NULL,
		.extended = r->extended,
		.text_is_cut = r->text_len > TRACE_TEXT_MAX,
	};
	const struct trace_strings strings = {
		.database = slice_str(r->database),
		.user = slice_str(r->user),
		.application = slice_str(r->application),
		.node = slice_str(r->node_name),
		.host = slice_str(r->host),
		.state = slice_str(parent ? parent->state : NULL),
		.text = request_text(r),
	};

	if (parent) {
		memcpy(record.trace_id, parent->trace_id, sizeof(record.trace_id));
		memcpy(record.parent_id, parent->parent_id, sizeof(record.parent_id));
	}
	memcpy(record.sqlstate, r->sqlstate, sizeof(record.sqlstate));
	count_add(trace_ring_add(p->ring, &record, &strings) ? &r->counters->telemetry_traces_recorded_total
							     : &r->counters->telemetry_traces_dropped_total,
		  1);
}

static void answered(struct request *r, void *policy)
{
	struct policy *p = policy;
	struct trace_context parent;
	struct slice text = request_text(r), end = request_end(r);
	bool has_parent = unlikely(trace_context_may_be(text, end)) && trace_context_read(text, end, &parent);
	bool told = has_parent && p->heeds_parent ? parent.flags & BIT(0) : draw(p);

	if (r->here)
		return;

	if (likely(!told && !is_kept_anyway(r, p)))
		return;
	request_tell(r);
	record(r, p, has_parent ? &parent : NULL);
}

const struct stage stage_trace = {
	.name = "trace",
	.configure = configure,
	.release = release,
	.answered = answered,
};
