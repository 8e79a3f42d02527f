/* See http_call.h. */
#include "services/http_call.h"

#include "services/http_priv.h"

#include <poll.h>
#include <stdio.h>

#define CONNECT_TIMEOUT_MS 5000l
#define LOOK_MS            1000
#define SILENCE_S          45l /* a stream has a heartbeat every 15 s */
#define USER_AGENT         "heliosdb-proxy-ctl/" HELIOS_VERSION

struct http_caller {
	CURLM *multi;
	char *socket_path, *bearer, *ca_path, *cert_path, *key_path;
};

struct run {
	const struct http_call *call;
	struct http_call_answer *answer;
	CURL *easy;
	bool is_too_long;
};

static char *copy_of(const char *text, bool *failed)
{
	char *copy = strdup(text ? text : "");

	*failed |= !copy;
	return copy;
}

int http_caller_new(const struct http_caller_settings *s, struct http_caller **ret)
{
	struct http_caller *c = calloc(1, sizeof(*c));
	bool failed = !c;

	if (failed || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
		free(c);
		return -ENOMEM;
	}
	c->socket_path = copy_of(s->socket_path, &failed);
	c->bearer = copy_of(s->bearer, &failed);
	c->ca_path = copy_of(s->ca_path, &failed);
	c->cert_path = copy_of(s->cert_path, &failed);
	c->key_path = copy_of(s->key_path, &failed);
	c->multi = failed ? NULL : curl_multi_init();
	if (!c->multi) {
		http_caller_free(c);
		return -ENOMEM;
	}
	*ret = c;
	return 0;
}

void http_caller_free(struct http_caller *c)
{
	if (!c)
		return;
	if (c->multi)
		curl_multi_cleanup(c->multi);
	if (c->bearer)
		explicit_bzero(c->bearer, strlen(c->bearer));
	free(c->bearer);
	free(c->socket_path);
	free(c->ca_path);
	free(c->cert_path);
	free(c->key_path);
	free(c);
}

void http_call_answer_free(struct http_call_answer *answer)
{
	buf_free(&answer->body);
}

/* ---- settings ---- */

static bool set_trust(const struct http_caller *c, CURL *easy)
{
	bool failed = !http_set_trust(easy, c->ca_path, c->cert_path, c->key_path);

	if (*c->socket_path)
		SET(easy, CURLOPT_UNIX_SOCKET_PATH, c->socket_path);
	if (*c->bearer) {
		SET(easy, CURLOPT_HTTPAUTH, (long)CURLAUTH_BEARER);
		SET(easy, CURLOPT_XOAUTH2_BEARER, c->bearer);
	}
	return !failed;
}

static size_t take_piece(char *bytes, size_t size, size_t count, void *argument)
{
	struct run *r = argument;
	size_t len = size * count;
	long status = 0;

	curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &status);
	if (r->call->piece && status / 100 == 2) {
		r->answer->was_stopped = !r->call->piece(r->call->argument, bytes, len);
		return r->answer->was_stopped ? 0 : len;
	}
	r->is_too_long = r->answer->body.len + len > HTTP_CALL_BODY_MAX;
	if (r->is_too_long)
		return 0;
	buf_add(&r->answer->body, bytes, len);
	return r->answer->body.failed ? 0 : len;
}

static bool set_request(struct run *r, struct curl_slist **headers)
{
	const struct http_call *call = r->call;
	CURL *easy = r->easy;
	bool failed = false;

	if (call->header)
		*headers = curl_slist_append(*headers, call->header);
	if (call->body) {
		*headers = curl_slist_append(*headers, "Content-Type: application/json");
		SET(easy, CURLOPT_POSTFIELDSIZE, (long)strlen(call->body));
		SET(easy, CURLOPT_POSTFIELDS, call->body);
	} else if (strcmp(call->method, "POST") == 0 || strcmp(call->method, "PUT") == 0) {
		SET(easy, CURLOPT_POSTFIELDSIZE, 0l);
		SET(easy, CURLOPT_POSTFIELDS, "");
		*headers = curl_slist_append(*headers, "Content-Type:");
	}
	SET(easy, CURLOPT_CUSTOMREQUEST, call->method);
	if (strcmp(call->method, "HEAD") == 0)
		SET(easy, CURLOPT_NOBODY, 1l);
	SET(easy, CURLOPT_HTTPHEADER, *headers);
	SET(easy, CURLOPT_URL, call->url);
	SET(easy, CURLOPT_USERAGENT, USER_AGENT);
	SET(easy, CURLOPT_NOSIGNAL, 1l);
	SET(easy, CURLOPT_QUICK_EXIT, 1l);
	SET(easy, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
	SET(easy, CURLOPT_TIMEOUT_MS, (long)(call->timeout / USEC_PER_MSEC));
	if (call->timeout == 0) {
		SET(easy, CURLOPT_LOW_SPEED_LIMIT, 1l);
		SET(easy, CURLOPT_LOW_SPEED_TIME, SILENCE_S);
	}
	SET(easy, CURLOPT_WRITEFUNCTION, take_piece);
	SET(easy, CURLOPT_WRITEDATA, r);
	SET(easy, CURLOPT_ERRORBUFFER, r->answer->error);
	return !failed;
}

/* ---- a request ---- */

/* What else is waited for. false: the request is not wanted any more. */
static bool look_aside(const struct http_call *call, struct curl_waitfd *fds, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (fds[i].revents)
			return call->ready(call->argument);
	return true;
}

static CURLcode run(struct http_caller *c, struct run *r)
{
	struct curl_waitfd fds[HTTP_CALL_FDS];
	unsigned count = 0;
	int running = 1, left;
	CURLMsg *message;

	for (int i = 0; r->call->ready && i < HTTP_CALL_FDS; i++)
		if (r->call->fds[i] >= 0)
			fds[count++] = (struct curl_waitfd){.fd = r->call->fds[i], .events = CURL_WAIT_POLLIN};
	for (;;) {
		if (curl_multi_perform(c->multi, &running) != CURLM_OK)
			return CURLE_FAILED_INIT;
		message = curl_multi_info_read(c->multi, &left);
		if (message && message->msg == CURLMSG_DONE)
			return message->data.result;
		for (unsigned i = 0; i < count; i++)
			fds[i].revents = 0;
		if (curl_multi_poll(c->multi, fds, count, LOOK_MS, NULL) != CURLM_OK)
			return CURLE_FAILED_INIT;
		if (!look_aside(r->call, fds, count)) {
			r->answer->was_stopped = true;
			return CURLE_ABORTED_BY_CALLBACK;
		}
	}
}

static void conclude(struct run *r, CURLcode result)
{
	struct http_call_answer *a = r->answer;
	const char *type = NULL;
	long status = 0;

	curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo(r->easy, CURLINFO_CONTENT_TYPE, &type);
	a->status = (unsigned)status;
	a->is_json = type && (strstr(type, "/json") || strstr(type, "+json"));
	if (result == CURLE_OK)
		a->error[0] = 0;
	else if (r->is_too_long)
		snprintf(a->error, sizeof(a->error), "the answer is too long");
	else if (!a->error[0])
		snprintf(a->error, sizeof(a->error), "%s", curl_easy_strerror(result));
	if (result != CURLE_OK && !a->was_stopped && !r->call->piece)
		a->status = 0; /* half of an answer is none */
}

void http_call(struct http_caller *c, const struct http_call *call, struct http_call_answer *ret)
{
	struct run r = {.call = call, .answer = ret, .easy = curl_easy_init()};
	struct curl_slist *headers = NULL;

	*ret = (struct http_call_answer){.body = BUF_INIT(HTTP_CALL_BODY_MAX + 1)};
	_Static_assert(sizeof(ret->error) >= CURL_ERROR_SIZE, "the library writes so much");
	if (!r.easy || !set_trust(c, r.easy) || !set_request(&r, &headers) ||
	    curl_multi_add_handle(c->multi, r.easy) != CURLM_OK) {
		snprintf(ret->error, sizeof(ret->error), "%s is no URL that can be asked", call->url);
	} else {
		conclude(&r, run(c, &r));
		curl_multi_remove_handle(c->multi, r.easy);
	}
	curl_easy_cleanup(r.easy);
	curl_slist_free_all(headers);
}

void buf_add_url_part(struct buf *b, const char *text)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";

	for (; *text; text++) {
		if (strchr(plain, *text))
			buf_add_char(b, *text);
		else
			buf_printf(b, "%%%02X", (unsigned char)*text);
	}
}
