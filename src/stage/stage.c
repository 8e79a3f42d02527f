/* See stage.h. */
#include "stage/stage.h"

struct configured {
	const struct stage *stage;
	void *policy;
};

struct pipeline {
	uint32_t references, count;
	bool wants_fingerprint;
	struct configured stages[];
};

static const void *policy_of(const struct pipeline *p, const struct stage *stage)
{
	for (uint32_t i = 0; p && i < p->count; i++)
		if (p->stages[i].stage == stage)
			return p->stages[i].policy;
	return NULL;
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
	if (r < 0 || p->count == 0)
		pipeline_unref(p);
	else
		*ret = p;
	return r;
}

struct pipeline *pipeline_ref(struct pipeline *p)
{
	p->references++;
	return p;
}

void pipeline_unref(struct pipeline *p)
{
	if (!p || --p->references > 0)
		return;
	for (uint32_t i = 0; i < p->count; i++)
		p->stages[i].stage->release(p->stages[i].policy);
	free(p);
}

bool pipeline_wants_fingerprint(const struct pipeline *p)
{
	return p->wants_fingerprint;
}

struct query_table *pipeline_queries(const struct pipeline *p)
{
	for (uint32_t i = 0; p && i < p->count; i++)
		if (p->stages[i].stage->queries)
			return p->stages[i].stage->queries(p->stages[i].policy);
	return NULL;
}

struct request *request_new(struct pipeline *p, struct slice text)
{
	size_t kept = MIN(text.len, REQUEST_TEXT_MAX), end = text.len > kept ? REQUEST_END_MAX : 0;
	struct request *r = malloc(sizeof(*r) + kept + end);

	if (!r)
		return NULL;
	*r = (struct request){
		.pipeline = pipeline_ref(p), .text_len = (uint32_t)MIN(text.len, UINT32_MAX), .end_len = (uint32_t)end};
	if (kept > 0)
		memcpy(r->text, text.bytes, kept);
	if (end > 0)
		memcpy(r->text + kept, text.bytes + text.len - end, end);
	list_init(&r->node);
	return r;
}

void request_free(struct request *r)
{
	list_remove(&r->node);
	pipeline_unref(r->pipeline);
	free(r);
}

/* The last stage before the server is the first behind it. */
void request_answered(struct request *r, usec_t now)
{
	const struct pipeline *p = r->pipeline;

	r->ended = now;
	for (uint32_t i = p->count; i-- > 0;)
		if (p->stages[i].stage->answered)
			p->stages[i].stage->answered(r, p->stages[i].policy);
	request_free(r);
}
