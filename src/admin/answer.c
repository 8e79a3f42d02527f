/* What handlers ask of a request, and how they answer. */
#include "admin/views.h"

#include "base/log.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>

const char *request_header(const struct request *request, const char *name)
{
	return MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);
}

const char *request_parameter(const struct request *request, const char *name)
{
	return MHD_lookup_connection_value(request->connection, MHD_GET_ARGUMENT_KIND, name);
}

bool request_text(struct request *request, struct answer *answer, const char *parameter, const char **ret)
{
	const char *text = request_parameter(request, parameter);

	*ret = text ? text : "";
	if (strlen(*ret) <= 4 * REQUEST_TEXT_MAX && count_characters(*ret) <= REQUEST_TEXT_MAX)
		return true;
	answer_error(answer, MHD_HTTP_BAD_REQUEST, "%s is longer than %u characters", parameter, REQUEST_TEXT_MAX);
	return false;
}

bool request_flag(struct request *request, struct answer *answer, const char *parameter, bool *ret)
{
	const char *text = request_parameter(request, parameter);

	*ret = text && (strcasecmp(text, "true") == 0 || strcmp(text, "1") == 0);
	if (!text || *ret || strcasecmp(text, "false") == 0 || strcmp(text, "0") == 0)
		return true;
	answer_error(answer, MHD_HTTP_BAD_REQUEST, "%s must be true or false", parameter);
	return false;
}

void request_client(const struct request *request, char *text, size_t size)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	const struct sockaddr *address = info ? info->client_addr : NULL;
	char host[INET6_ADDRSTRLEN] = "";

	if (address && address->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)address;

		inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
		snprintf(text, size, "%s:%u", host, ntohs(in->sin_port));
	} else if (address && address->sa_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;

		inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
		snprintf(text, size, "[%s]:%u", host, ntohs(in6->sin6_port));
	} else {
		snprintf(text, size, "unix");
	}
}

void request_log(const struct request *request, const char *message, const char *key, uint64_t value)
{
	char client[80];

	request_client(request, client, sizeof(client));
	if (key)
		log_info(message, kv_uint(key, value), kv_str("admin_client", client));
	else
		log_info(message, kv_str("admin_client", client));
}

void request_log_node(const struct request *request, const char *message, const struct node *node)
{
	char client[80];

	request_client(request, client, sizeof(client));
	log_info(message, kv_str("node", node->name), kv_uint("links", atomic_load(&node->links)),
		 kv_str("admin_client", client));
}

void request_log_change(const struct request *request, const char *message, const char *node, bool persisted)
{
	char client[80];

	request_client(request, client, sizeof(client));
	log_info(message, kv_str("node", node), kv_str("persisted", persisted ? "true" : "false"),
		 kv_str("admin_client", client));
}

void answer_json(struct answer *answer, unsigned status, json_t *json)
{
	answer->status = status;
	answer->type = "application/json";
	free(answer->body);
	answer->body = json ? json_dumps(json, JSON_COMPACT) : NULL;
	answer->len = answer->body ? strlen(answer->body) : 0;
	json_decref(json);
}

/* ---- errors ---- */

static const char *code_of(unsigned status)
{
	switch (status) {
#define STATUS(number, code, help) \
	case number: \
		return code;
#include "admin/problems.def"
	default:
		return status < 500 ? "bad_request" : "internal_error";
	}
}

/* "no_such_node" -> "No such node" */
static json_t *title_json(const char *code)
{
	char title[64];

	snprintf(title, sizeof(title), "%s", code);
	for (char *c = title; *c; c++)
		if (*c == '_')
			*c = ' ';
	if (title[0] >= 'a' && title[0] <= 'z')
		title[0] = (char)(title[0] - 'a' + 'A');
	return json_text(title);
}

/* RFC 9457. code NULL: the status says it all. */
static json_t *problem_json(unsigned status, const char *code, const char *detail)
{
	json_t *json = json_object();
	char type[96] = "about:blank";

	if (code)
		snprintf(type, sizeof(type), "/problems/%s", code);
	json_put(json, "type", json_text(type));
	json_put(json, "title", code ? title_json(code) : json_text(MHD_get_reason_phrase_for(status)));
	json_put(json, "status", json_integer(status));
	json_put(json, "detail", json_text(detail));
	json_put(json, "code", json_text(code ? code : code_of(status)));
	return json;
}

static void answer_failure(struct answer *answer, unsigned status, const char *code, const char *format,
			   va_list arguments) PRINTF_LIKE(4, 0);

static void answer_failure(struct answer *answer, unsigned status, const char *code, const char *format,
			   va_list arguments)
{
	char text[512];
	json_t *json;

	vsnprintf(text, sizeof(text), format, arguments);
	if (answer->tells_problems) {
		answer_json(answer, status, problem_json(status, code, text));
		answer->type = "application/problem+json";
		return;
	}
	json = json_object();
	json_put(json, "error", json_text(text));
	answer_json(answer, status, json);
}

void answer_error(struct answer *answer, unsigned status, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	answer_failure(answer, status, /* code= */ NULL, format, arguments);
	va_end(arguments);
}

void answer_problem(struct answer *answer, unsigned status, const char *code, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	answer_failure(answer, status, code, format, arguments);
	va_end(arguments);
}

void answer_problem_with(struct answer *answer, unsigned status, const char *code, const char *detail, json_t *more)
{
	json_t *json = answer->tells_problems ? problem_json(status, code, detail) : json_object();

	if (!answer->tells_problems)
		json_put(json, "error", json_text(detail));
	json_object_update_missing(json, more);
	json_decref(more);
	answer_json(answer, status, json);
	if (answer->tells_problems)
		answer->type = "application/problem+json";
}

void answer_text(struct answer *answer, const char *type, struct buf *text)
{
	answer->status = MHD_HTTP_OK;
	answer->type = type;
	free(answer->body);
	answer->body = text->failed ? NULL : (char *)text->bytes;
	answer->len = text->len;
	if (text->failed)
		free(text->bytes);
	buf_init(text, text->max);
}

json_t *json_text(const char *s)
{
	json_t *json;
	struct buf valid;

	if (!s)
		return json_null();
	json = json_string(s);
	if (json)
		return json;
	buf_init(&valid, strlen(s) * 3);
	buf_add_utf8(&valid, s);
	json = json_string(buf_cstr(&valid));
	buf_free(&valid);
	return json;
}

json_t *json_text_or_null(const char *s)
{
	return json_text(s && *s ? s : NULL);
}
