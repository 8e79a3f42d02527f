/*
 * One HTTP request after the other, for a program that has nothing else to do but to look at its terminal meanwhile: a
 * thin wrapper of libcurl. The proxy itself uses http.h, which never waits.
 *
 * As there: redirects are not followed, the environment's proxies are not used. A caller belongs to one thread.
 */
#ifndef SERVICES_HTTP_CALL_H
#define SERVICES_HTTP_CALL_H

#include "base/buf.h"
#include "base/clock.h"

#define HTTP_CALL_BODY_MAX (64u << 20)
#define HTTP_CALL_FDS      2

struct http_caller_settings {    /* "" or NULL: none */
	const char *socket_path; /* a unix socket in place of the URL's host */
	const char *bearer;      /* token */
	const char *ca_path;     /* none: the system's authorities */
	const char *cert_path, *key_path;
};

struct http_call {
	const char *method, *url;
	const char *body;   /* JSON; NULL: none */
	const char *header; /* one more, "Name: value"; NULL: none */
	usec_t timeout;     /* 0: a stream, which ends when nothing comes for long */
	/* The bytes of a good answer as they come; false ends it. NULL: they are gathered. */
	bool (*piece)(void *argument, const char *bytes, size_t len);
	/* Called when one of these can be read meanwhile (-1: none); false ends the request. */
	int fds[HTTP_CALL_FDS];
	bool (*ready)(void *argument);
	void *argument;
};

struct http_call_answer {
	unsigned status;  /* 0: there was none; see error */
	char error[300];  /* "": it came whole */
	bool was_stopped; /* by piece() or ready() */
	bool is_json;     /* by its Content-Type */
	struct buf body;
};

struct http_caller;

/* 0 or -errno. Strings are copied. */
int http_caller_new(const struct http_caller_settings *settings, struct http_caller **ret) MUST_USE;
void http_caller_free(struct http_caller *caller); /* NULL is fine */
/* ret is always set; free it with http_call_answer_free(). */
void http_call(struct http_caller *caller, const struct http_call *call, struct http_call_answer *ret);
void http_call_answer_free(struct http_call_answer *answer);

/* A text as a part of a path or a query: what has a meaning there becomes %XX. */
void buf_add_url_part(struct buf *b, const char *text);

#endif
