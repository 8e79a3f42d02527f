/* See stage.h. */
#include "stage/stage.h"

#define SPARES_MAX 64u

static const void *policy_of(const struct pipeline *p, const struct stage *stage)
{
	for (uint32_t i = 0; p && i < p->count; i++)
		if (p->stages[i].stage == stage)
			return p->stages[i].policy;
	return NULL;
}

static void hear_nothing(struct request *r UNUSED, void *policy UNUSED)
{
}

static usec_t least_of(const struct configured *c)
{
	return !c->stage->answered ? USEC_NEVER : c->stage->least ? c->stage->least(c->policy) : 0;
}

/* Which way is the short one. */
static void find_short_way(struct pipeline *p)
{
	p->answered = hear_nothing;
	p->least = USEC_NEVER;
	for (uint32_t i = 0; i < p->count; i++) {
		const struct configured *c = &p->stages[i];

		if (least_of(c) > 0 || p->answered != hear_nothing) {
			p->least = MIN(p->least, least_of(c));
		} else {
			p->answered = c->stage->answered;
			p->policy = c->policy;
		}
	}
}

int pipeline_new(const struct stage *const *stages, const struct config *config, const struct pipeline *before,
		 struct pipeline **ret)
{
	struct pipeline *p;
	uint32_t most = 0;
	int r = 0;

	*ret = NULL;
	while (stages && stages[most])
		most++;
	p = calloc(1, sizeof(*p) + most * sizeof(p->stages[0]));
	if (!p)
		return -ENOMEM;
	p->references = 1;
	for (uint32_t i = 0; i < most && r == 0; i++) {
		void *policy = NULL;

		r = stages[i]->configure(config, policy_of(before, stages[i]), &policy);
		if (r == 0 && policy) {
			p->stages[p->count++] = (struct configured){.stage = stages[i], .policy = policy};
			p->wants_fingerprint = p->wants_fingerprint || stages[i]->wants_fingerprint;
		}
	}
	find_short_way(p);
	if (r < 0 || p->count == 0)
		pipeline_unref(p);
	else
		*ret = p;
	return r;
}

void pipeline_set_worker(struct pipeline *p, struct counters *counters, void (*tell)(struct request *r))
{
	if (!p)
		return;
	p->counters = counters;
	p->tell = tell;
}

void pipeline_drop(struct pipeline *p)
{
	if (--p->references > 0)
		return;
	for (uint32_t i = 0; i < p->count; i++)
		p->stages[i].stage->release(p->stages[i].policy);
	free(p);
}

void pipeline_unref(struct pipeline *p)
{
	struct request *r;

	if (!p)
		return;
	p->is_over = true;
	while ((r = p->spares)) {
		p->spares = r->next;
		request_discard(r);
	}
	pipeline_drop(p);
}

struct query_table *pipeline_queries(const struct pipeline *p)
{
	for (uint32_t i = 0; p && i < p->count; i++)
		if (p->stages[i].stage->queries)
			return p->stages[i].stage->queries(p->stages[i].policy);
	return NULL;
}

/* ---- requests ---- */

struct request *request_allocate(struct pipeline *p, size_t size)
{
	struct request *r = malloc(MAX(size, (size_t)REQUEST_USUAL));

	if (!r)
		return NULL;
	p->references++;
	r->pipeline = p;
	r->counters = p->counters;
	r->tell = p->tell;
	r->is_kept = size <= REQUEST_USUAL && p->kept < SPARES_MAX;
	p->kept += r->is_kept;
	return r;
}

void request_discard(struct request *r)
{
	struct pipeline *p = r->pipeline;

	free(r);
	pipeline_drop(p);
}

struct request *request_new(struct pipeline *p, struct slice text)
{
	size_t kept = MIN(text.len, REQUEST_TEXT_MAX), end = text.len > kept ? REQUEST_END_MAX : 0;
	size_t size = sizeof(struct request) + kept + end;
	struct request *r = request_take(p, size);

	if (!r)
		return NULL;
	request_begin(r, slice_make(r->own, text.len));
	if (kept > 0)
		memcpy(r->own, text.bytes, kept);
	if (end > 0)
		memcpy(r->own + kept, text.bytes + text.len - end, end);
	return r;
}

void request_tell_slowly(struct request *r)
{
	const struct pipeline *p = r->pipeline;

	for (uint32_t i = p->count; i-- > 0;)
		if (r->took >= least_of(&p->stages[i]) && p->stages[i].stage->answered)
			p->stages[i].stage->answered(r, p->stages[i].policy);
}
