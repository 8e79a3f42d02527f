/* The versioned API: the configuration in effect, and where each value is from. */
#include "admin/views.h"

#include <stdio.h>

/* ---- what runs: keys that need a restart keep the values of the start ---- */

struct running_value {
	char *path, *value; /* "proxy.workers" */
};

struct running_config {
	uint32_t count;
	struct running_value values[];
};

static void path_of(const struct config_value_view *v, char *path, size_t size)
{
	snprintf(path, size, "%s.%s", v->section, v->key);
}

static void count_value(const struct config_value_view *v, void *to)
{
	*(uint32_t *)to += !v->reloads;
}

static void keep_value(const struct config_value_view *v, void *to)
{
	struct running_config *running = to;
	struct running_value *value = &running->values[running->count];
	char path[128];

	if (v->reloads)
		return;
	path_of(v, path, sizeof(path));
	value->path = strdup(path);
	value->value = strdup(v->value);
	running->count++;
}

struct running_config *running_config_new(const struct config *config)
{
	struct running_config *running;
	uint32_t count = 0;

	config_each_value(config, count_value, &count);
	running = calloc(1, sizeof(*running) + count * sizeof(running->values[0]));
	if (running)
		config_each_value(config, keep_value, running);
	return running;
}

void running_config_free(struct running_config *running)
{
	for (uint32_t i = 0; running && i < running->count; i++) {
		free(running->values[i].path);
		free(running->values[i].value);
	}
	free(running);
}

/* What runs instead of what the file says; NULL: it is the same. */
static const char *running_value(const struct running_config *running, const struct config_value_view *v)
{
	char path[128];

	if (v->reloads || !running)
		return NULL;
	path_of(v, path, sizeof(path));
	for (uint32_t i = 0; i < running->count; i++)
		if (running->values[i].path && running->values[i].value && strcmp(running->values[i].path, path) == 0)
			return strcmp(running->values[i].value, v->value) != 0 ? running->values[i].value : NULL;
	return NULL;
}

/* ---- GET /api/v1/config ---- */

struct showing {
	const struct admin *admin;
	const char *key, *origin; /* wanted; "": all */
	json_t *list;
};

/* A value as it stands in the file, but a string without its quotes. */
static json_t *value_json(const char *text)
{
	json_t *value = *text == '"' ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;

	return value ? value : json_text(text);
}

static void show_value(const struct config_value_view *v, void *to)
{
	const struct showing *s = to;
	const char *running = running_value(s->admin->running, v), *origin = v->origin;
	bool is_imported = s->admin->context.config_is_imported && strcmp(origin, "file") == 0;
	json_t *json;
	char path[128];

	origin = is_imported ? "import" : origin;
	path_of(v, path, sizeof(path));
	if (!strstr(path, s->key) || (*s->origin && strcmp(origin, s->origin) != 0))
		return;
	json = json_object();
	json_put(json, "key", json_text(path));
	json_put(json, "value", value_json(running ? running : v->value));
	json_put(json, "pending", running ? value_json(v->value) : json_null());
	json_put(json, "default", json_text(v->default_text));
	json_put(json, "origin", json_text(origin));
	json_put(json, "line", v->line && !is_imported ? json_integer(v->line) : json_null());
	json_put(json, "reload", json_text(v->reloads ? "reload" : "restart"));
	json_put(json, "help", json_text(v->help));
	(void)json_array_append_new(s->list, json);
}

/* false: it was answered that there is no such origin. */
static bool read_origin(struct request *request, struct answer *answer, const char **ret)
{
	static const char *const origins[] = {"",       "default", "file", "import", "environment", "command line",
					      "console"};
	const char *text = request_parameter(request, "origin");

	for (size_t i = 0; i < ARRAY_SIZE(origins); i++)
		if (strcmp(text ? text : "", origins[i]) == 0) {
			*ret = origins[i];
			return true;
		}
	answer_error(answer, MHD_HTTP_BAD_REQUEST, "origin must be default, file, import, environment or command line");
	return false;
}

void endpoint_v1_config(struct request *request, struct answer *answer)
{
	struct admin *admin = request->admin;
	struct showing s = {.admin = admin};
	json_t *json;

	if (!request_text(request, answer, "key", &s.key) || !read_origin(request, answer, &s.origin))
		return;
	s.list = json_array();
	pthread_mutex_lock(&admin->lock);
	config_each_value(admin->context.config, show_value, &s);
	json = list_json(s.list, json_array_size(s.list));
	json_put(json, "file", json_text_or_null(admin->context.config->path));
	pthread_mutex_unlock(&admin->lock);
	answer_json(answer, MHD_HTTP_OK, json);
}

/* ---- POST /api/v1/reload ---- */

#define RELOAD_WAIT_MS 5000u

static json_t *changed_json(const struct buf *changed)
{
	json_t *list = json_array();

	for (size_t at = 0; at < changed->len; at += strlen((const char *)changed->bytes + at) + 1)
		(void)json_array_append_new(list, json_text((const char *)changed->bytes + at));
	return list;
}

struct pending {
	const struct running_config *running;
	json_t *list;
};

static void add_pending(const struct config_value_view *v, void *to)
{
	const struct pending *p = to;
	char path[128];

	path_of(v, path, sizeof(path));
	if (running_value(p->running, v))
		(void)json_array_append_new(p->list, json_text(path));
}

/* Since the start, by this reload or by one before. */
static json_t *needs_restart_json(struct admin *admin)
{
	struct pending p = {admin->running, json_array()};

	pthread_mutex_lock(&admin->lock);
	config_each_value(admin->context.config, add_pending, &p);
	pthread_mutex_unlock(&admin->lock);
	return p.list;
}

static void answer_reload(struct request *request, struct answer *answer, int r, const struct reload_outcome *outcome)
{
	json_t *json;

	switch (r) {
	case 0:
	case -ETIMEDOUT:
		json = json_object();
		json_put(json, "status", json_text(r == 0 ? "reloaded" : "reloading"));
		json_put(json, "changed", r == 0 ? changed_json(&outcome->changed) : json_null());
		json_put(json, "needs_restart", r == 0 ? needs_restart_json(request->admin) : json_null());
		answer_json(answer, r == 0 ? MHD_HTTP_OK : MHD_HTTP_ACCEPTED, json);
		return;
	case -ENOENT:
		answer_problem(answer, MHD_HTTP_CONFLICT, "no_configuration_file",
			       "the configuration was given by flags: there is no file to read again");
		return;
	default:
		answer_problem(answer, MHD_HTTP_CONFLICT, "configuration_refused",
			       "not reloaded, the old configuration stays: %s",
			       outcome->why[0] ? outcome->why : "the log says why");
		return;
	}
}

void endpoint_v1_reload(struct request *request, struct answer *answer)
{
	const struct admin_context *c = &request->admin->context;
	struct reload_outcome outcome = {0};

	if (!c->reload_and_wait) {
		answer_error(answer, MHD_HTTP_NOT_IMPLEMENTED, "reloading is not available");
		return;
	}
	answer_reload(request, answer, c->reload_and_wait(c->server, RELOAD_WAIT_MS, &outcome), &outcome);
	buf_free(&outcome.changed);
}
