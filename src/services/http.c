/* See http.h. */
#include "services/http.h"

#include "base/buf.h"
#include "services/http_priv.h"

#include <pthread.h>
#include <stdio.h>
#include <strings.h>

#define URL_MAX          2048u
#define IDLE_CONNECTIONS 8l

struct http {
	CURLM *multi;
	char *user, *password, *ca_path, *cert_path, *key_path;
	usec_t timeout;
	struct http_request *requests;
	uint32_t count;
};

struct http_request {
	struct http *http;
	struct http_request *next;
	CURL *easy;
	struct curl_slist *headers;
	struct buf body;
	bool is_too_long;
	char error[CURL_ERROR_SIZE];
	void (*answered)(void *argument, const struct http_answer *answer);
	void *argument;
};

static int library_is_there;

/* Threads may come here together; the library's own memory stays until the process ends. */
static void start_library(void)
{
	library_is_there = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
}

/* ---- the client ---- */

static char *copy_of(const char *text, bool *failed)
{
	char *copy = strdup(text ? text : "");

	*failed |= !copy;
	return copy;
}

int http_new(const struct http_settings *settings, struct http **ret)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct http *h = calloc(1, sizeof(*h));
	bool failed = !h;

	pthread_once(&once, start_library);
	if (failed || !library_is_there) {
		free(h);
		return -ENOMEM;
	}
	h->user = copy_of(settings->user, &failed);
	h->password = copy_of(settings->password, &failed);
	h->ca_path = copy_of(settings->ca_path, &failed);
	h->cert_path = copy_of(settings->cert_path, &failed);
	h->key_path = copy_of(settings->key_path, &failed);
	h->timeout = settings->timeout;
	h->multi = failed ? NULL : curl_multi_init();
	if (!h->multi) {
		http_free(h);
		return -ENOMEM;
	}
	curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, IDLE_CONNECTIONS);
	*ret = h;
	return 0;
}

static void request_free(struct http_request *r)
{
	struct http_request **at = &r->http->requests;

	while (*at && *at != r)
		at = &(*at)->next;
	if (*at) {
		*at = r->next;
		r->http->count--;
	}
	if (r->easy) {
		curl_multi_remove_handle(r->http->multi, r->easy);
		curl_easy_cleanup(r->easy);
	}
	curl_slist_free_all(r->headers);
	buf_free(&r->body);
	free(r);
}

static void wipe(char *secret)
{
	if (secret)
		explicit_bzero(secret, strlen(secret));
	free(secret);
}

void http_free(struct http *h)
{
	if (!h)
		return;
	while (h->requests) {
		struct http_request *r = h->requests;

		r->answered(r->argument, &(struct http_answer){.error = "the client ends"});
		request_free(r);
	}
	if (h->multi)
		curl_multi_cleanup(h->multi);
	free(h->user);
	wipe(h->password);
	free(h->ca_path);
	free(h->cert_path);
	free(h->key_path);
	free(h);
}

uint32_t http_under_way(const struct http *h)
{
	return h->count;
}

/* ---- a request ---- */

static size_t take_body(char *bytes, size_t size, size_t count, void *argument)
{
	struct http_request *r = argument;
	size_t len = size * count;

	r->is_too_long = r->body.len + len > HTTP_BODY_MAX;
	if (r->is_too_long)
		return 0; /* ends the request */
	buf_add(&r->body, bytes, len);
	return r->body.failed ? 0 : len;
}

/* Where it may go, and with which proofs. */
static bool set_trust(const struct http *h, CURL *easy)
{
	const char *ca_path = strcmp(h->ca_path, "system") == 0 ? "" : h->ca_path;
	bool failed = !http_set_trust(easy, ca_path, h->cert_path, h->key_path);

	if (*h->user) {
		SET(easy, CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
		SET(easy, CURLOPT_USERNAME, h->user);
		SET(easy, CURLOPT_PASSWORD, h->password);
	}
	return !failed;
}

static bool set_limits(const struct http *h, struct http_request *r)
{
	long ms = (long)MAX(h->timeout / USEC_PER_MSEC, 1u);
	bool failed = false;

	SET(r->easy, CURLOPT_TIMEOUT_MS, ms);
	SET(r->easy, CURLOPT_CONNECTTIMEOUT_MS, ms);
	SET(r->easy, CURLOPT_NOSIGNAL, 1l);
	/* a name that is still being looked up does not hold up the end */
	SET(r->easy, CURLOPT_QUICK_EXIT, 1l);
	SET(r->easy, CURLOPT_WRITEFUNCTION, take_body);
	SET(r->easy, CURLOPT_WRITEDATA, r);
	SET(r->easy, CURLOPT_ERRORBUFFER, r->error);
	SET(r->easy, CURLOPT_PRIVATE, r);
	SET(r->easy, CURLOPT_USERAGENT, "heliosdb-proxy/" HELIOS_VERSION);
	return !failed;
}

static bool add_header(struct http_request *r, const char *header)
{
	struct curl_slist *longer = curl_slist_append(r->headers, header);

	if (longer)
		r->headers = longer;
	return longer != NULL;
}

/* post NULL: nothing is. */
static bool set_body(struct http_request *r, const struct http_post *post)
{
	bool failed = false;

	if (!post)
		return true;
	for (const char *const *header = post->headers; header && *header; header++)
		failed |= !add_header(r, *header);
	failed |= !add_header(r, "Expect:"); /* a long body is sent without asking first */
	SET(r->easy, CURLOPT_POST, 1l);
	SET(r->easy, CURLOPT_POSTFIELDS, post->body);
	SET(r->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)post->len);
	SET(r->easy, CURLOPT_HTTPHEADER, r->headers);
	return !failed;
}

static int ask(struct http *h, const char *url, const struct http_post *post,
	       void (*answered)(void *argument, const struct http_answer *answer), void *argument)
{
	struct http_request *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	*r = (struct http_request){.http = h,
				   .body = BUF_INIT(HTTP_BODY_MAX + 1),
				   .easy = curl_easy_init(),
				   .answered = answered,
				   .argument = argument};
	if (!r->easy || !set_trust(h, r->easy) || !set_limits(h, r) || !set_body(r, post) ||
	    curl_easy_setopt(r->easy, CURLOPT_URL, url) != CURLE_OK ||
	    curl_multi_add_handle(h->multi, r->easy) != CURLM_OK) {
		request_free(r);
		return -EINVAL;
	}
	r->next = h->requests;
	h->requests = r;
	h->count++;
	return 0;
}

int http_get(struct http *h, const char *url, void (*answered)(void *argument, const struct http_answer *answer),
	     void *argument)
{
	return ask(h, url, NULL, answered, argument);
}

int http_post(struct http *h, const char *url, const struct http_post *post,
	      void (*answered)(void *argument, const struct http_answer *answer), void *argument)
{
	return ask(h, url, post, answered, argument);
}

/* ---- turns ---- */

static void finish(CURL *easy, CURLcode result)
{
	struct http_answer answer = {.error = ""};
	struct http_request *r = NULL;
	curl_off_t retry_after = 0;
	long status = 0;

	curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&r);
	if (result == CURLE_OK) {
		curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
		(void)curl_easy_getinfo(easy, CURLINFO_RETRY_AFTER, &retry_after);
		answer.status = (unsigned)status;
		answer.retry_after = retry_after > 0 ? (usec_t)retry_after * USEC_PER_SEC : 0;
		answer.body = buf_cstr(&r->body);
		answer.len = r->body.len;
	} else {
		answer.error = r->is_too_long ? "the answer is too long"
			       : *r->error    ? r->error
					      : curl_easy_strerror(result);
		answer.timed_out = result == CURLE_OPERATION_TIMEDOUT;
	}
	if (result == CURLE_OK && r->body.failed)
		answer = (struct http_answer){.error = "out of memory"};
	r->answered(r->argument, &answer);
	request_free(r);
}

/* true: some were. */
static bool finish_those_that_are_done(struct http *h)
{
	CURLMsg *message;
	bool any = false;
	int left;

	while ((message = curl_multi_info_read(h->multi, &left))) {
		if (message->msg != CURLMSG_DONE)
			continue;
		finish(message->easy_handle, message->data.result);
		any = true;
	}
	return any;
}

void http_turn(struct http *h, usec_t wait)
{
	int running, ms = (int)MIN(wait / USEC_PER_MSEC, 60000u);

	curl_multi_perform(h->multi, &running);
	if (finish_those_that_are_done(h))
		return;
	curl_multi_poll(h->multi, NULL, 0, ms, NULL);
	curl_multi_perform(h->multi, &running);
	(void)finish_those_that_are_done(h);
}

void http_wake(struct http *h)
{
	curl_multi_wakeup(h->multi);
}

/* ---- URLs ---- */

bool http_url_is_secret(const char *url)
{
	return strncasecmp(url, "https://", 8) == 0;
}

bool http_url_is_good(const char *url)
{
	CURLU *parsed = strlen(url) < URL_MAX ? curl_url() : NULL;
	bool good = parsed && (http_url_is_secret(url) || strncasecmp(url, "http://", 7) == 0) &&
		    curl_url_set(parsed, CURLUPART_URL, url, CURLU_DISALLOW_USER) == CURLUE_OK;

	curl_url_cleanup(parsed);
	return good;
}
