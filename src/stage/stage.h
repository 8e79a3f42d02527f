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
	bool wants_fingerprint; /* request->fingerprint is to be there */
	/* Its statistics, for those who read them on the worker's thread. */
	struct query_table *(*queries)(const void *policy);
};

/* What one worker's sessions walk. Counted: requests that are under way during a reload end by the old one. */
struct pipeline;

/* stages: in their order, NULL at the end (or NULL: none). before: the one until now, or NULL. *ret NULL: none of them
 * has anything to do. 0 or -ENOMEM. */
int pipeline_new(const struct stage *const *stages, const struct config *config, const struct pipeline *before,
		 struct pipeline **ret) MUST_USE;
struct pipeline *pipeline_ref(struct pipeline *p);
void pipeline_unref(struct pipeline *p); /* NULL is fine */

bool pipeline_wants_fingerprint(const struct pipeline *p);
struct query_table *pipeline_queries(const struct pipeline *p); /* NULL: there are none. p NULL is fine */

/* A request with a copy of its text and a reference to the pipeline, no rows and no error; the rest is the caller's to
 * fill. NULL: no memory. */
struct request *request_new(struct pipeline *p, struct slice text);
void request_answered(struct request *r, usec_t now); /* calls the hooks; frees */
void request_free(struct request *r);                 /* skipped: nobody hears of it */

#endif
