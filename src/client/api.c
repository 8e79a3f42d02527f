/* One request of the admin API, and what its answer means to a person. */
#include "client/client_priv.h"

#include "client/text.h"

#include <langinfo.h>
#include <locale.h>
#include <stdarg.h>

#define API_TIMEOUT (30 * USEC_PER_SEC)
#define URL_MAX     (64u << 10)

bool client_locale(void)
{
	setlocale(LC_CTYPE, "");
	return strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
}

void client_say(const char *command, const char *format, ...)
{
	struct buf clean = BUF_INIT(8192);
	char text[2048];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	buf_add_clean(&clean, text, strlen(text), client_locale());
	fprintf(stderr, "heliosdb-proxy%s%s: %s\n", *command ? " " : "", command, buf_cstr(&clean));
	buf_free(&clean);
}

bool api_open(const struct target *t, struct api *ret)
{
	struct http_caller_settings s = {.socket_path = t->socket_path,
					 .bearer = t->token,
					 .ca_path = t->ca_path,
					 .cert_path = t->cert_path,
					 .key_path = t->key_path};

	*ret = (struct api){.target = t, .timeout = API_TIMEOUT, .fds = {-1, -1}};
	return http_caller_new(&s, &ret->caller) == 0;
}

void api_close(struct api *api)
{
	http_caller_free(api->caller);
	api->caller = NULL;
}

/* ---- what an answer means ---- */

static void say_why(struct api_answer *a, const char *text)
{
	struct buf clean = BUF_INIT(4 * sizeof(a->why));

	buf_add_clean(&clean, text, strlen(text), client_locale());
	snprintf(a->why, sizeof(a->why), "%s", buf_cstr(&clean));
	buf_free(&clean);
}

/* RFC 9457, or the reference's {"error": text}. */
static void say_refusal(struct api_answer *a)
{
	static const char *const keys[] = {"detail", "title", "error", "message"};
	const char *text = NULL;
	char line[600];

	for (size_t i = 0; i < ARRAY_SIZE(keys) && !text; i++)
		text = json_string_value(json_object_get(a->json, keys[i]));
	if (text)
		snprintf(line, sizeof(line), "%s (%u)", text, a->http.status);
	else
		snprintf(line, sizeof(line), "the answer is status %u", a->http.status);
	say_why(a, line);
}

static void say_unreachable(const struct api *api, struct api_answer *a)
{
	const struct target *t = api->target;
	char line[1024];

	snprintf(line, sizeof(line), "%s cannot be reached: %s%s%s", t->socket_path ? t->socket_path : t->url,
		 *a->http.error ? a->http.error : "no answer", *t->note ? "; " : "", t->note);
	say_why(a, line);
}

int api_judge(const struct api *api, struct api_answer *a)
{
	if (a->http.status == 0) {
		say_unreachable(api, a);
		return CLIENT_UNREACHABLE;
	}
	if (a->http.is_json)
		a->json = json_loadb((const char *)a->http.body.bytes, a->http.body.len,
				     JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	if (a->http.status / 100 != 2) {
		say_refusal(a);
		return CLIENT_REFUSED;
	}
	if (a->http.is_json && !a->json) {
		say_why(a, "the answer is no JSON");
		return CLIENT_UNREACHABLE;
	}
	return CLIENT_OK;
}

int api_call(struct api *api, const char *method, const char *path, const char *body, struct api_answer *ret)
{
	struct http_call call = {.method = method,
				 .body = body,
				 .timeout = api->timeout,
				 .fds = {api->fds[0], api->fds[1]},
				 .ready = api->ready,
				 .argument = api->argument};
	struct buf url = BUF_INIT(URL_MAX);

	*ret = (struct api_answer){0};
	buf_printf(&url, "%s%s", api->target->url, path);
	call.url = buf_cstr(&url);
	http_call(api->caller, &call, &ret->http);
	if (url.failed)
		snprintf(ret->http.error, sizeof(ret->http.error), "the request is too long");
	buf_free(&url);
	return api_judge(api, ret);
}

void api_answer_free(struct api_answer *a)
{
	json_decref(a->json);
	a->json = NULL;
	http_call_answer_free(&a->http);
}
