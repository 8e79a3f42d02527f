/* See stage.h. */
#include "stage/stage.h"

struct configured {
	const struct stage *stage;
	void *policy;
};

#define REQUEST_USUAL 512u /* bytes of a request with a text of the usual length */
#define SPARES_MAX    64u

struct pipeline {
	struct list spares; /* requests that are over, for the next ones */
	uint32_t references, count, spare_count;
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
	list_init(&p->spares);
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

static NEVER_INLINE void pipeline_free(struct pipeline *p)
{
	for (uint32_t i = 0; i < p->count; i++)
		p->stages[i].stage->release(p->stages[i].policy);
	list_for_each (node, &p->spares)
		free(list_entry(node, struct request, node));
	free(p);
}

void pipeline_unref(struct pipeline *p)
{
	if (p && --p->references == 0)
		pipeline_free(p);
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

static struct request *take(struct pipeline *p, size_t size)
{
	struct list *spare = list_first(&p->spares);

	if (unlikely(size > REQUEST_USUAL || !spare))
		return malloc(MAX(size, (size_t)REQUEST_USUAL));
	list_remove(spare);
	p->spare_count--;
	return list_entry(spare, struct request, node);
}

struct request *request_new(struct pipeline *p, struct slice text)
{
	size_t kept = MIN(text.len, REQUEST_TEXT_MAX), end = text.len > kept ? REQUEST_END_MAX : 0;
	size_t size = sizeof(struct request) + kept + end;
	struct request *r = take(p, size);

	if (!r)
		return NULL;
	p->references++;
	/* Field by field: most of the others are written before they are read. */
	r->pipeline = p;
	r->is_usual = size <= REQUEST_USUAL;
	r->text_len = (uint32_t)MIN(text.len, UINT32_MAX);
	r->end_len = (uint32_t)end;
	r->rows = 0;
	r->row_most = 0;
	r->sqlstate[0] = 0;
	r->here = false;
	if (kept > 0)
		memcpy(r->text, text.bytes, kept);
	if (end > 0)
		memcpy(r->text + kept, text.bytes + text.len - end, end);
	list_init(&r->node);
	return r;
}

void request_free(struct request *r)
{
	struct pipeline *p = r->pipeline;

	list_remove(&r->node);
	if (likely(r->is_usual && p->spare_count < SPARES_MAX)) {
		list_push_front(&p->spares, &r->node);
		p->spare_count++;
	} else {
		free(r);
	}
	if (unlikely(--p->references == 0))
		pipeline_free(p);
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
