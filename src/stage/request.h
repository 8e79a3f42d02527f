/*
 * What a stage sees of a client's request: one simple query, or one execution of a portal. It lives from the moment it
 * is sent until it is answered; several of a session may be under way.
 */
#ifndef STAGE_REQUEST_H
#define STAGE_REQUEST_H

#include "base/clock.h"
#include "base/list.h"
#include "metrics/metrics.h"

struct pipeline;

struct request {
	struct list node; /* in the session's line, oldest first */
	struct pipeline *pipeline;
	struct counters *counters; /* of the worker */
	/* Of the session; they live longer than the request. */
	const char *user, *database, *application;
	uint32_t pid; /* as the client knows itself, and as logs call it */
	/* Of clock_now(). began: it could have been sent, but for a server connection. ended: in answered() only. */
	usec_t began, sent, ended;
	char sqlstate[6]; /* of the error that it ended with; "" */
	bool extended;
	uint32_t text_len; /* of all of it; only the first REQUEST_TEXT_MAX bytes are kept */
	uint8_t text[];
};

#define REQUEST_TEXT_MAX 8192u

static inline struct slice request_text(const struct request *r)
{
	return slice_make(r->text, MIN(r->text_len, REQUEST_TEXT_MAX));
}

#endif
