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
struct query_run; /* metrics/query_table.h */

struct request {
	struct list node; /* in the session's line, oldest first */
	struct pipeline *pipeline;
	struct counters *counters; /* of the worker */
	/*
	 * Who asked, and where it went: there once request_tell() was called, for most requests nobody wants to know.
	 * Of the session; they live longer than the request. The node, and why that one, live as long as the process;
	 * NULL: not known. pid: as the client knows itself, and as logs call it.
	 */
	const char *user, *database, *application;
	const char *node_name, *host, *role, *reason;
	uint32_t pid;
	uint16_t port;
	/* Of whoever made it. */
	uint8_t why; /* that node */
	void (*tell)(struct request *r);
	const void *session, *link; /* while it is answered */
	/* Of clock_now(). began: it could have been sent, but for a server connection. served: since then no other of
	 * its client's was in front of it at the server. ended: in answered() only. */
	usec_t began, sent, served, ended;
	/* fingerprint: of all of the text (sql/normalize.h); 0: no stage wants it, or the text is not known. owner: a
	 * hash of database and user, for tables: no two are thought to have the same. */
	uint64_t fingerprint, owner;
	struct query_run *run; /* its session's */
	uint64_t rows;         /* that its answer says were returned or changed, of all its statements together */
	uint32_t row_most;     /* of an execution that may stop after so many; 0: of all */
	char sqlstate[6];      /* of the error that it ended with; "" */
	bool extended;
	bool is_usual;     /* its memory is of the size that is kept for the next */
	bool here;         /* the proxy answered it by itself, and it is no error: a BEGIN that is deferred, say */
	uint32_t text_len; /* of all of it; only the first REQUEST_TEXT_MAX bytes are kept, and the last ... */
	uint32_t end_len;  /* ... as many as this, at most REQUEST_END_MAX; 0: it was kept whole */
	uint8_t text[];    /* the beginning, then the end */
};

#define REQUEST_TEXT_MAX 8192u
#define REQUEST_END_MAX  1024u /* of a text that is longer: comments stand there */

/* In answered(). */
static inline void request_tell(struct request *r)
{
	r->tell(r);
}

static inline struct slice request_text(const struct request *r)
{
	return slice_make(r->text, MIN(r->text_len, REQUEST_TEXT_MAX));
}

/* The last bytes of it, all of it where that was kept. */
static inline struct slice request_end(const struct request *r)
{
	return r->end_len ? slice_make(r->text + REQUEST_TEXT_MAX, r->end_len) : request_text(r);
}

#endif
