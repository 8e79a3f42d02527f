/*
 * What a stage sees of a client's request: one simple query, or one execution of a portal. It lives from the moment it
 * is sent until it is answered; several of a session may be under way.
 */
#ifndef STAGE_REQUEST_H
#define STAGE_REQUEST_H

#include "base/clock.h"
#include "metrics/metrics.h"
#include "metrics/query_table.h"

struct pipeline;

/* Who asks. Part of a session, as long as it has requests. */
struct request_asker {
	uint64_t owner; /* a hash of database and user, for tables: no two are thought to have the same */
	struct query_run run;
};

/* What is written for each request stands in front, together. */
struct request {
	struct request *next; /* while it is a spare one: of the pipeline's */
	struct request_asker *asker;
	/* Of clock_now(). began: it could have been sent, but for a server connection. served: since then no other of
	 * its client's was in front of it at the server. In answered() only: ended, and took, which is the time since
	 * it began. */
	usec_t began, served, sent, ended, took;
	uint64_t fingerprint; /* of all of the text (sql/normalize.h); 0: no stage wants it, or it is not known */
	void *statement;      /* of whoever made it: of which it is; NULL: of none that is known */
	const uint8_t *text;  /* the beginning; see request_text(), request_end() */
	uint32_t text_len;    /* of all of it */
	uint8_t why;          /* of whoever made it: the node that it went to */
	bool extended;
	bool is_kept; /* its memory is for the next, when it is over */
	/* From here on all 0 at first. */
	bool here;         /* the proxy answered it by itself, and it is no error: a BEGIN that is deferred, say */
	uint32_t row_most; /* of an execution that may stop after so many; 0: of all */
	char sqlstate[8];  /* of the error that it ended with; "" */
	uint64_t rows;     /* that its answer says were returned or changed, of all its statements together */
	/* As long as the memory is its. */
	const void *link; /* of whoever made it, in answered(): that it was sent on */
	struct pipeline *pipeline;
	struct counters *counters; /* of the worker */
	void (*tell)(struct request *r);
	/*
	 * Who asked, and where it went: there once request_tell() was called, for most requests nobody wants to know.
	 * Of the session; they live longer than the request. The node, and why that one, live as long as the process;
	 * NULL: not known. pid: as the client knows itself, and as logs call it.
	 */
	const char *user, *database, *application;
	const char *node_name, *host, *role, *reason;
	uint32_t pid;
	uint16_t port;
	uint8_t own[]; /* a copy of the text, if it had to be made: the beginning, then the end */
};

#define REQUEST_TEXT_MAX 8192u /* what stages see of the beginning */
#define REQUEST_END_MAX  1024u /* and of the end of a text that is longer: comments stand there */

/* In answered(). */
static inline void request_tell(struct request *r)
{
	r->tell(r);
}

static inline struct slice request_text(const struct request *r)
{
	return slice_make(r->text, MIN(r->text_len, REQUEST_TEXT_MAX));
}

/* The last bytes of it; all of it, unless it is longer than REQUEST_TEXT_MAX. */
static inline struct slice request_end(const struct request *r)
{
	if (likely(r->text_len <= REQUEST_TEXT_MAX))
		return request_text(r);
	return slice_make(r->text == r->own ? r->own + REQUEST_TEXT_MAX : r->text + r->text_len - REQUEST_END_MAX,
			  REQUEST_END_MAX);
}

#endif
