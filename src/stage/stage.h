/*
 * A stage is one capability on the way of a query: one folder of stages/, one name in the list of stages/meson.build.
 * session/ walks the hooks and knows no stage; a stage knows struct request and no session. What the configuration does
 * not turn on is in no pipeline, and a session without a pipeline pays one test for each query.
 *
 * Hooks run on the worker's thread and must not block. A hook that is NULL isn't called. There are as many hooks as
 * stages need today: one that decides about a request before it is sent comes with the first stage that does.
 */
#ifndef STAGE_STAGE_H
#define STAGE_STAGE_H

#include "stage/request.h"

struct config;
struct query_table;

struct stage {
	const char *name;
	/* What it does by this configuration, made anew for each worker and each reload; *ret_policy NULL: nothing.
	 * before: its policy of until now, released afterwards, of which it may share what is to stay; NULL: none.
	 * 0 or -ENOMEM. */
	int (*configure)(const struct config *config, const void *before, void **ret_policy);
	void (*release)(void *policy);
	/* The request is over: answered, failed (sqlstate), or its server is gone (sqlstate). Not called for what was
	 * skipped behind an error. */
	void (*answered)(struct request *r, void *policy);
	/* answered() is called only for those that took so long; NULL: for all. */
	usec_t (*least)(const void *policy);
	bool wants_fingerprint; /* request->fingerprint is to be there */
	/* Its statistics, for those who read them on the worker's thread. */
	struct query_table *(*queries)(const void *policy);
};

/* What one worker's sessions walk. Counted: requests that are under way during a reload end by the old one. Open, so
 * that what is done for each request needs no calls. */
struct pipeline {
	struct request *spares; /* that are over, for the next ones: the last one first, for it is in the caches */
	bool wants_fingerprint;
	bool is_over; /* those under way are no spare ones when they are */
	/* The stage that hears of all requests, if it is but one; the others hear of those that took `least` or more.
	 */
	usec_t least;
	void (*answered)(struct request *r, void *policy);
	void *policy;
	struct counters *counters; /* of the worker */
	void (*tell)(struct request *r);
	uint32_t references; /* of whoever made it, and of each request, spare ones as well */
	uint32_t kept;       /* requests that are spare ones when they are over: the first, and no more than needed */
	uint32_t count;
	struct configured {
		const struct stage *stage;
		void *policy;
	} stages[];
};

/* stages: in their order, NULL at the end (or NULL: none). before: the one until now, or NULL. *ret NULL: none of them
 * has anything to do. 0 or -ENOMEM. */
int pipeline_new(const struct stage *const *stages, const struct config *config, const struct pipeline *before,
		 struct pipeline **ret) MUST_USE;
/* Of all of its requests; before the first. p NULL is fine. */
void pipeline_set_worker(struct pipeline *p, struct counters *counters, void (*tell)(struct request *r));
/* It is not used for new requests any more, and goes with the last one that is under way. NULL is fine. */
void pipeline_unref(struct pipeline *p);
void pipeline_drop(struct pipeline *p); /* one reference */

struct query_table *pipeline_queries(const struct pipeline *p); /* NULL: there are none. p NULL is fine */

/* A request with a copy of its text, of no statement, with no rows and no error; the rest is the caller's to fill.
 * NULL: no memory. */
struct request *request_new(struct pipeline *p, struct slice text);
/* Without a text. size: of all of it. NULL: no memory. */
struct request *request_allocate(struct pipeline *p, size_t size);
void request_discard(struct request *r);
void request_tell_slowly(struct request *r); /* all the hooks that want it */

#define REQUEST_USUAL 512u /* bytes of a request with a text of the usual length */

static inline struct request *request_take(struct pipeline *p, size_t size)
{
	struct request *r = p->spares;

	if (unlikely(!r || size > REQUEST_USUAL))
		return request_allocate(p, size);
	p->spares = r->next;
	return r;
}

/* Field by field: most of the others are written before they are read. */
static inline void request_begin(struct request *r, struct slice text)
{
	r->statement = NULL;
	r->text = text.bytes;
	r->text_len = (uint32_t)MIN(text.len, UINT32_MAX);
	r->here = false;
	r->row_most = 0;
	memset(r->sqlstate, 0, sizeof(r->sqlstate));
	r->rows = 0;
}

/* The same as request_new(), with a text that stays where it is as long as the request lives. */
static inline struct request *request_new_of(struct pipeline *p, struct slice text)
{
	struct request *r = request_take(p, sizeof(*r));

	if (likely(r != NULL))
		request_begin(r, text);
	return r;
}

/* Skipped: nobody hears of it. */
static inline void request_free(struct request *r)
{
	struct pipeline *p = r->pipeline;

	if (unlikely(p->is_over || !r->is_kept)) {
		request_discard(r);
		return;
	}
	r->next = p->spares;
	p->spares = r;
}

/* Calls the hooks. The last stage before the server is the first behind it. */
static inline void request_tell_stages(struct request *r, usec_t now)
{
	const struct pipeline *p = r->pipeline;

	r->ended = now;
	r->took = clock_since(r->began, now);
	if (likely(r->took < p->least))
		p->answered(r, p->policy);
	else
		request_tell_slowly(r);
}

#endif
