/*
 * heliosdb-proxy ctl: a verb of verbs.def becomes one request of the admin API, and its answer a table, CSV, or JSON.
 */
#include "client/client_priv.h"

#include <stdarg.h>
#include <unistd.h>

#define QUERY_MAX (1u << 20)

static const struct option options[] = {
	TARGET_OPTIONS,
	{"output", required_argument, NULL, 'o'},
	{"follow", no_argument, NULL, 'f'},
	{"yes", no_argument, NULL, 'y'},
	{"timeout", required_argument, NULL, 't'},
	{"help", no_argument, NULL, 'h'},
	{0},
};

struct ctl {
	struct target_options target;
	enum output_format format;
	bool follows, is_sure;
	unsigned timeout_s; /* 0: as usual */
	const struct verb *verb;
	char **words; /* behind the verb */
	int word_count;
	/* the request */
	struct buf path, body;
	char *query; /* of standard input; malloc'd */
};

static int usage_error(const char *format, ...) PRINTF_LIKE(1, 2);

static int usage_error(const char *format, ...)
{
	char text[512];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	client_say("ctl", "%s", text);
	fprintf(stderr, "Try heliosdb-proxy ctl --help.\n");
	return CLIENT_USAGE;
}

/* ---- help ---- */

static void print_help(FILE *out)
{
	fputs("heliosdb-proxy ctl: looks at a running proxy, and steers it\n"
	      "\n"
	      "Usage: heliosdb-proxy ctl [OPTION...] VERB [ARGUMENT] [KEY=VALUE...]\n"
	      "\n"
	      "  -o, --output FORMAT      table, json, or csv\n"
	      "  -f, --follow             events, log: goes on with what comes\n"
	      "  -y, --yes                don't ask\n"
	      "      --timeout SECONDS    how long to wait for an answer (30)\n" TARGET_HELP "\n",
	      out);
	for (size_t i = 0; i < verb_count; i++) {
		const struct verb *v = &verbs[i];
		char usage[64];

		snprintf(usage, sizeof(usage), "%s %s", v->words, verb_argument_name(v->argument));
		fprintf(out, "  %-24s %s\n", usage, v->help);
		if (*v->keys)
			fprintf(out, "  %-24s   %s\n", "", v->keys);
	}
	fputs("\n"
	      "Keys: KEY=VALUE behind the argument; KEY:n a number, KEY:b true or false.\n"
	      "Exit status: 0 done, 1 refused by the proxy, 2 wrong usage, 3 not reachable.\n",
	      out);
}

/* ---- options ---- */

static bool read_format(const char *text, enum output_format *ret)
{
	static const char *const names[] = {[OUTPUT_TABLE] = "table", [OUTPUT_JSON] = "json", [OUTPUT_CSV] = "csv"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (strcmp(text, names[i]) != 0)
			continue;
		*ret = (enum output_format)i;
		return true;
	}
	return false;
}

/* An enum client_exit, or -1: go on. */
static int take_options(int argc, char **argv, struct ctl *c)
{
	int option;
	char *end;

	while ((option = getopt_long(argc, argv, "c:o:fyh", options, NULL)) != -1) {
		if (target_option(&c->target, option, optarg))
			continue;
		switch (option) {
		case 'o':
			if (!read_format(optarg, &c->format))
				return usage_error("--output takes table, json or csv");
			break;
		case 'f':
			c->follows = true;
			break;
		case 'y':
			c->is_sure = true;
			break;
		case 't':
			c->timeout_s = (unsigned)strtoul(optarg, &end, 10);
			if (*end || c->timeout_s == 0 || c->timeout_s > 86400)
				return usage_error("--timeout takes a number of seconds");
			break;
		case 'h':
			print_help(stdout);
			return CLIENT_OK;
		default:
			return usage_error("unknown option");
		}
	}
	return -1;
}

static int take_verb(int argc, char **argv, struct ctl *c)
{
	int used = 0;
	const char *near;

	if (optind == argc)
		return usage_error("which verb?");
	c->verb = verb_find(argv + optind, argc - optind, &used);
	if (!c->verb) {
		near = verb_near(argv[optind]);
		return usage_error("%s: no such verb%s%s%s", argv[optind], near ? "; did you mean " : "",
				   near ? near : "", near ? "?" : "");
	}
	if (c->follows && !(c->verb->flags & VERB_FOLLOWS))
		return usage_error("%s cannot be followed", c->verb->words);
	c->words = argv + optind + used;
	c->word_count = argc - optind - used;
	return -1;
}

/* ---- the request ---- */

/* Into the path, where {} stands. */
static void put_path(struct ctl *c, const char *argument)
{
	const char *place = strstr(c->verb->path, "{}");

	if (!place) {
		buf_add_str(&c->path, c->verb->path);
		return;
	}
	buf_add(&c->path, c->verb->path, (size_t)(place - c->verb->path));
	buf_add_url_part(&c->path, argument);
	buf_add_str(&c->path, place + 2);
}

static void put_parameter(struct ctl *c, const char *name, const char *value)
{
	buf_printf(&c->path, "%s%s=", strchr(buf_cstr(&c->path), '?') ? "&" : "?", name);
	buf_add_url_part(&c->path, value);
}

/* false: the value is none of its type. */
static bool put_member(json_t *body, const struct verb_key *key, const char *value)
{
	char *end;
	long long number;

	if (key->type == 'n') {
		errno = 0;
		number = strtoll(value, &end, 10);
		if (end == value || *end || errno)
			return false;
		return json_object_set_new(body, key->name, json_integer(number)) == 0;
	}
	if (key->type == 'b') {
		if (strcmp(value, "true") != 0 && strcmp(value, "false") != 0)
			return false;
		return json_object_set_new(body, key->name, json_boolean(*value == 't')) == 0;
	}
	return json_object_set_new(body, key->name, json_string(value)) == 0; /* NULL: no UTF-8 */
}

static int put_key(struct ctl *c, json_t *body, const char *word)
{
	const char *equals = strchr(word, '=');
	struct verb_key key;

	if (!equals)
		return usage_error("%s: %s takes %s%s%s", word, c->verb->words,
				   *c->verb->keys ? "KEY=VALUE: " : "no more", c->verb->keys,
				   *c->verb->keys ? "" : " than that");
	if (!verb_find_key(c->verb, word, (size_t)(equals - word), &key))
		return usage_error("%s has no key %.*s%s%s", c->verb->words, (int)(equals - word), word,
				   *c->verb->keys ? "; it has: " : "", c->verb->keys);
	if (!(c->verb->flags & VERB_BODY))
		put_parameter(c, key.name, equals + 1);
	else if (!put_member(body, &key, equals + 1))
		return usage_error("%s=%s: not a %s", key.name, equals + 1,
				   key.type == 'n'   ? "number"
				   : key.type == 'b' ? "true or false"
						     : "valid text");
	return -1;
}

static int put_address(json_t *body, const char *argument)
{
	const char *port = strrchr(argument, ':');
	size_t len = port ? (size_t)(port - argument) : strlen(argument);
	char *end = NULL;
	unsigned long number = port ? strtoul(port + 1, &end, 10) : 5432;

	if (len > 1 && argument[0] == '[' && argument[len - 1] == ']') {
		argument++;
		len -= 2;
	}
	if (len == 0 || number == 0 || number > 65535 || (end && *end))
		return usage_error("%s is no HOST:PORT", argument);
	json_object_set_new(body, "host", json_stringn(argument, len));
	json_object_set_new(body, "port", json_integer((json_int_t)number));
	return -1;
}

/* A query that is - is what stands on standard input. */
static const char *read_query(struct ctl *c, const char *argument)
{
	struct buf text = BUF_INIT(QUERY_MAX);
	char piece[4096];
	size_t len;

	if (strcmp(argument, "-") != 0)
		return argument;
	while ((len = fread(piece, 1, sizeof(piece), stdin)) > 0)
		buf_add(&text, piece, len);
	c->query = text.failed || ferror(stdin) ? NULL : strdup(buf_cstr(&text));
	buf_free(&text);
	return c->query;
}

static int put_query(struct ctl *c, json_t *body, const char *argument)
{
	const char *query = read_query(c, argument), *password = getenv("PGPASSWORD");

	if (!query)
		return usage_error("the query cannot be read, or is longer than %u bytes", QUERY_MAX);
	if (!(c->verb->flags & VERB_BODY)) {
		put_parameter(c, "query", query);
		return -1;
	}
	if (json_object_set_new(body, "query", json_string(query)) < 0)
		return usage_error("the query is no UTF-8");
	if (password && *password)
		json_object_set_new(body, "password", json_string(password));
	return -1;
}

/* What stands behind the verb, in its place. */
static int put_argument(struct ctl *c, json_t *body, const char *argument)
{
	switch (c->verb->argument) {
	case ARGUMENT_NODE_OR_NONE:
		json_object_set_new(body, "node", strcmp(argument, "none") == 0 ? json_null() : json_string(argument));
		return -1;
	case ARGUMENT_ADDRESS:
		return put_address(body, argument);
	case ARGUMENT_QUERY:
		return put_query(c, body, argument);
	case ARGUMENT_PID:
		return *argument && strspn(argument, "0123456789") == strlen(argument)
			       ? -1
			       : usage_error("%s is no PID, which is a number", argument);
	default:
		return *argument ? -1 : usage_error("the %s is empty", verb_argument_name(c->verb->argument));
	}
}

static bool takes_argument(const struct ctl *c)
{
	return c->verb->argument != ARGUMENT_NONE && (c->verb->argument != ARGUMENT_CONFIG_KEY || c->word_count > 0);
}

/* An enum client_exit, or -1: it stands in c->path and c->body. */
static int make_request(struct ctl *c)
{
	json_t *body = json_object();
	bool takes = takes_argument(c);
	char *text = NULL;
	int status = -1;

	if (takes && c->word_count == 0)
		status = usage_error("%s takes %s", c->verb->words, verb_argument_name(c->verb->argument));
	if (status < 0) {
		buf_add_str(&c->path, "/api/v1");
		put_path(c, takes ? c->words[0] : "");
		if (c->follows)
			buf_add_str(&c->path, "/stream");
	}
	if (status < 0 && takes)
		status = put_argument(c, body, c->words[0]);
	for (int i = takes; i < c->word_count && status < 0; i++)
		status = put_key(c, body, c->words[i]);
	if (status < 0 && (c->verb->flags & VERB_BODY)) {
		text = json_dumps(body, JSON_COMPACT);
		buf_add_str(&c->body, text ? text : "");
	}
	free(text);
	json_decref(body);
	if (status < 0 && (c->path.failed || c->body.failed))
		status = usage_error("the request is too long");
	return status;
}

/* ---- asking ---- */

/* Only where somebody can answer. */
static bool is_confirmed(const struct ctl *c)
{
	char answer[16] = "";

	if (!(c->verb->flags & VERB_ASKS) || c->is_sure || !isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
		return true;
	fprintf(stderr, "%s%s%s? [y/N] ", c->verb->words, c->word_count ? " " : "", c->word_count ? c->words[0] : "");
	if (!fgets(answer, sizeof(answer), stdin) || (answer[0] != 'y' && answer[0] != 'Y')) {
		fprintf(stderr, "not done\n");
		return false;
	}
	return true;
}

/* ---- answers ---- */

/* Those of a key, or of a section. */
static json_t *matching_keys(const json_t *json, const char *wanted)
{
	json_t *found = json_array(), *item;
	size_t i, len = strlen(wanted);

	json_array_foreach(json_object_get(json, "items"), i, item)
	{
		const char *key = json_string_value(json_object_get(item, "key"));

		if (key && strncmp(key, wanted, len) == 0 && (key[len] == 0 || key[len] == '.'))
			json_array_append(found, item);
	}
	return found;
}

static int show_config(const struct ctl *c, const struct output *o, const json_t *json)
{
	json_t *list = json_object();
	json_t *found = matching_keys(json, c->words[0]);
	bool any = json_array_size(found) > 0;

	json_object_set(list, "items", found);
	json_object_set_new(list, "total", json_integer((json_int_t)json_array_size(found)));
	if (any)
		output_answer(o, list, c->verb->rows, false);
	else
		client_say("ctl", "there is no key or section %s", c->words[0]);
	json_decref(found);
	json_decref(list);
	return any ? CLIENT_OK : CLIENT_REFUSED;
}

/* What is not part of the rows goes to standard error, so that the rows can be read by a program. */
static void say_more_of_result(const json_t *json)
{
	const char *node = json_string_value(json_object_get(json, "node"));
	const char *command = json_string_value(json_object_get(json, "command"));
	json_t *notices = json_object_get(json, "notices"), *notice;
	struct buf text = BUF_INIT(4096);
	size_t i;

	json_array_foreach(notices, i, notice)
	{
		buf_clear(&text);
		buf_add_value(&text, json_is_object(notice) ? json_object_get(notice, "message") : notice);
		client_say("ctl", "notice: %s", buf_cstr(&text));
	}
	buf_free(&text);
	if (json_is_true(json_object_get(json, "truncated")))
		client_say("ctl", "there are more rows than these (max_rows=N asks for more)");
	if (isatty(STDERR_FILENO))
		client_say("ctl", "%s, node %s, %.3f ms", command ? command : "done", node ? node : "unknown",
			   json_number_value(json_object_get(json, "elapsed_ms")));
}

static int show_answer(const struct ctl *c, const struct output *o, const struct api_answer *a)
{
	if (c->verb->flags & VERB_RAW) {
		if (a->json && o->is_terminal)
			output_json(o, a->json);
		else
			output_raw(o, (const char *)a->http.body.bytes, a->http.body.len);
		return CLIENT_OK;
	}
	if (!a->json && a->http.body.len == 0)
		return CLIENT_OK; /* 204 */
	if (!a->json) {
		client_say("ctl", "the answer is no JSON: is this a heliosdb-proxy?");
		return CLIENT_UNREACHABLE;
	}
	if (c->verb->argument == ARGUMENT_CONFIG_KEY && c->word_count > 0)
		return show_config(c, o, a->json);
	if (json_is_array(json_object_get(a->json, "columns"))) {
		output_result(o, a->json);
		if (o->format != OUTPUT_JSON)
			say_more_of_result(a->json);
	} else {
		output_answer(o, a->json, c->verb->rows, c->verb->flags & VERB_WHOLE);
	}
	return CLIENT_OK;
}

static int ask(struct ctl *c, const struct target *target, const struct output *o)
{
	struct api_answer answer;
	struct api api;
	int status;

	if (!api_open(target, &api)) {
		client_say("ctl", "out of memory");
		return CLIENT_UNREACHABLE;
	}
	if (c->timeout_s)
		api.timeout = c->timeout_s * USEC_PER_SEC;
	status = api_call(&api, c->verb->method, buf_cstr(&c->path), c->body.len ? buf_cstr(&c->body) : NULL, &answer);
	if (status == CLIENT_OK)
		status = show_answer(c, o, &answer);
	else
		client_say("ctl", "%s", answer.why);
	api_answer_free(&answer);
	api_close(&api);
	return status;
}

/* ---- get, post, ...: any path ---- */

static int make_raw_request(struct ctl *c)
{
	if (c->word_count == 0 || c->words[0][0] != '/')
		return usage_error("%s takes a path that begins with /", c->verb->words);
	if (c->word_count > 2 || (c->word_count == 2 && strcmp(c->verb->method, "GET") == 0))
		return usage_error("%s takes a path%s", c->verb->words,
				   strcmp(c->verb->method, "GET") == 0 ? "" : " and a body");
	buf_add_str(&c->path, c->words[0]);
	if (c->word_count == 2)
		buf_add_str(&c->body, c->words[1]);
	return -1;
}

static int run(struct ctl *c)
{
	int status = c->verb->flags & VERB_RAW ? make_raw_request(c) : make_request(c);
	struct target target;
	struct output o;

	if (status >= 0)
		return status;
	if (!is_confirmed(c))
		return CLIENT_REFUSED;
	if (!target_find(&c->target, &target, /* quiet= */ false))
		return CLIENT_USAGE;
	output_init(&o, stdout);
	o.format = c->format;
	status = c->follows ? follow_stream(&target, buf_cstr(&c->path), c->verb->rows, &o) : ask(c, &target, &o);
	target_free(&target);
	if (fflush(stdout) != 0 && status == CLIENT_OK)
		status = CLIENT_REFUSED;
	return status;
}

int ctl_command(int argc, char **argv)
{
	struct ctl c = {.path = BUF_INIT(QUERY_MAX * 3), .body = BUF_INIT(QUERY_MAX * 6)};
	int status = take_options(argc, argv, &c);

	if (status < 0)
		status = take_verb(argc, argv, &c);
	if (status < 0)
		status = run(&c);
	buf_free(&c.path);
	buf_free_secret(&c.body);
	free(c.query);
	return status;
}
