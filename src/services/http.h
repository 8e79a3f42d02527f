/*
 * HTTP for the side that steers: asks another service something and hands its answer over. A thin wrapper of libcurl;
 * nobody else sees that.
 *
 * A client belongs to one thread, which gives it turns: http_turn() waits for the network, or for http_wake(), and
 * calls back who asked. Nothing else blocks. Names are resolved on threads of the library's own.
 *
 * An answer is bounded in size and in time. Redirects are not followed, and the environment's proxies are not used: a
 * request goes to the address that was named, and to no other one.
 */
#ifndef SERVICES_HTTP_H
#define SERVICES_HTTP_H

#include "base/clock.h"
#include "base/common.h"

#define HTTP_BODY_MAX (1u << 20)

struct http_settings {
	const char *user, *password;      /* "": none. Sent with the first request (Basic) */
	const char *ca_path;              /* "" or "system": the system's authorities */
	const char *cert_path, *key_path; /* "": no client certificate */
	usec_t timeout;                   /* of a request, with connecting */
};

/* Valid during the call. */
struct http_answer {
	unsigned status;   /* 0: there was no answer; see error */
	const char *error; /* "": there was one */
	const char *body;
	size_t len;
	bool timed_out;
	usec_t retry_after; /* by its Retry-After; 0: it said nothing */
};

struct http;

/* The settings are copied. 0 or -errno. */
int http_new(const struct http_settings *settings, struct http **ret) MUST_USE;
/* Who has asked is told that nothing comes any more. Waits for nothing. NULL is fine. */
void http_free(struct http *http);

/* GET of an http:// or https:// URL. answered() is called once, in a later turn, and may ask the next one. 0 or -errno.
 */
int http_get(struct http *http, const char *url, void (*answered)(void *argument, const struct http_answer *answer),
	     void *argument) MUST_USE;

/* What is posted. All of it must stay until it is answered. */
struct http_post {
	const char *const *headers; /* "Name: value", NULL at the end; NULL: none */
	const void *body;
	size_t len;
};
/* The same with POST. */
int http_post(struct http *http, const char *url, const struct http_post *post,
	      void (*answered)(void *argument, const struct http_answer *answer), void *argument) MUST_USE;
uint32_t http_under_way(const struct http *http);
/* Until something happened, it was woken, or so long. */
void http_turn(struct http *http, usec_t wait);
/* Any thread: ends a turn that waits. */
void http_wake(struct http *http);

/* Is it a URL that http_get() takes? */
bool http_url_is_good(const char *url);
bool http_url_is_secret(const char *url); /* https */

#endif
