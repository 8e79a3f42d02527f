/*
 * POST /api/v1/sql and the reference's POST /api/sql: one statement, run as a client would (see sql.h). Who may: a READ
 * ONLY transaction needs the right OPERATE, for it can still do things (see docs/sql-console.md); another one ADMIN and
 * [admin] sql_allow_writes.
 */
#include "admin/sql.h"

#include "config/units.h"
#include "sql/scan.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define JOB_CHUNK         (4u << 10)
#define PASSWORD_FILE_MAX 4096u
#define SOCKET_PREFIX     "/.s.PGSQL."

/* ---- the statement ---- */

/* What can't be: it would leave its transaction, or talks another protocol. The server has the last word on all else.
 */
static bool is_refused(struct sql_job *job, struct answer *answer)
{
	struct scan scan;
	enum statement_class class;

	if (scan_text(job->query, strlen(job->query), 0, /* standard_conforming_strings= */ true, &scan) < 0)
		return true; /* out of memory: so says an answer without a body */
	class = scan.count ? scan.statements[0].class : STATEMENT_EMPTY;
	job->reads = scan.count == 1 && !scan.truncated && class == STATEMENT_READ;
	scan_free(&scan);
	switch (class) {
	case STATEMENT_EMPTY:
		answer_problem(answer, MHD_HTTP_BAD_REQUEST, "empty_query", "query is empty");
		return true;
	case STATEMENT_COPY:
		answer_problem(answer, MHD_HTTP_UNPROCESSABLE_CONTENT, "copy_refused", "COPY has no place here");
		return true;
	case STATEMENT_TRANSACTION:
		answer_problem(answer, MHD_HTTP_UNPROCESSABLE_CONTENT, "transaction_refused",
			       "each statement has a transaction of its own: it can't be begun or ended by one");
		return true;
	default:
		return false;
	}
}

/* ---- where the proxy listens ---- */

static const char *unix_folder(struct arena *arena, const char *path, char port[8])
{
	const char *number = strstr(path, SOCKET_PREFIX);
	uint64_t value;

	if (!number || !parse_number(number + strlen(SOCKET_PREFIX), 65535, &value))
		return NULL; /* not a name that libpq knows */
	snprintf(port, 8, "%u", (unsigned)value);
	return arena_strndup(arena, path, (size_t)(number - path));
}

/* true: it can be connected to. */
static bool take_listener(struct sql_job *job, const char *address)
{
	char host[HOST_MAX + 1], binary[sizeof(struct in6_addr)];
	const char *to = host;
	uint32_t port;

	if (address_split(address, host, &port) < 0)
		return false;
	if (port == 0) {
		job->host_is_address = false;
		job->host = unix_folder(&job->arena, host, job->port);
		return job->host != NULL;
	}
	if (!*host || strcmp(host, "0.0.0.0") == 0 || strcmp(host, "*") == 0)
		to = "127.0.0.1";
	else if (strcmp(host, "::") == 0)
		to = "::1";
	job->host = arena_strdup(&job->arena, to);
	job->host_is_address = inet_pton(AF_INET, to, binary) == 1 || inet_pton(AF_INET6, to, binary) == 1;
	snprintf(job->port, sizeof(job->port), "%u", (unsigned)port);
	return job->host != NULL;
}

static bool find_listener(struct sql_job *job, const struct config *config)
{
	for (uint32_t i = 0; i < config->proxy.listen_address.count; i++)
		if (take_listener(job, config->proxy.listen_address.items[i]))
			return true;
	return false;
}

/* ---- what is asked for ---- */

/* The members of the body. NULL: not given. */
struct wish {
	json_t *body;
	const char *query, *user, *password, *database;
	bool writes;
	json_int_t max_rows; /* 0: not given */
};

static bool wants_text(json_t *value, const char **ret)
{
	*ret = json_string_value(value);
	return *ret || json_is_null(value);
}

/* false: there is no such member, or it is of another type. */
static bool take_member(struct wish *w, const char *key, json_t *value)
{
	if (strcmp(key, "query") == 0)
		return wants_text(value, &w->query);
	if (strcmp(key, "user") == 0)
		return wants_text(value, &w->user);
	if (strcmp(key, "password") == 0)
		return wants_text(value, &w->password);
	if (strcmp(key, "database") == 0)
		return wants_text(value, &w->database);
	if (strcmp(key, "allow_writes") == 0) {
		w->writes = json_is_true(value);
		return json_is_boolean(value);
	}
	if (strcmp(key, "max_rows") == 0) {
		w->max_rows = json_integer_value(value);
		return json_is_integer(value) && w->max_rows > 0 && w->max_rows <= SQL_ROWS_MAX;
	}
	return false;
}

/* strict: an unknown member is an error. false: it was answered. json_decref(w->body). */
static bool read_wish(const struct request *request, struct answer *answer, struct wish *w, bool strict)
{
	json_error_t error;
	const char *key;
	json_t *value;

	*w = (struct wish){.body = json_loadb((const char *)request->body.bytes, request->body.len,
					      JSON_REJECT_DUPLICATES, &error)};
	if (!json_is_object(w->body)) {
		answer_problem(answer, MHD_HTTP_BAD_REQUEST, "invalid_json", "the body must be a JSON object%s%s",
			       w->body ? "" : ": ", w->body ? "" : error.text);
		return false;
	}
	json_object_foreach(w->body, key, value) if (!take_member(w, key, value) && strict)
	{
		answer_problem(answer, MHD_HTTP_BAD_REQUEST, "bad_request",
			       "%.60s is unknown, or has a value that makes no sense; there are query, user, "
			       "password, database, allow_writes and max_rows (1 to %u)",
			       key, SQL_ROWS_MAX);
		return false;
	}
	if (!w->query || !*w->query) {
		answer_problem(answer, MHD_HTTP_BAD_REQUEST, "empty_query", "query is missing or empty");
		return false;
	}
	return true;
}

/* The first line of a file; "": it cannot be read, or there is none. */
static void read_password(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	ssize_t len = fd < 0 ? 0 : read(fd, text, size - 1);

	if (fd >= 0)
		close(fd);
	text[len < 0 ? 0 : len] = 0;
	text[strcspn(text, "\r\n")] = 0;
}

/* Under the lock of the configuration. Returns the path of a file with the password, in the arena; NULL: none. */
static const char *take_settings(struct sql_job *job, const struct wish *w, const struct config *config)
{
	struct arena *arena = &job->arena;
	bool own = w->user && *w->user;
	const char *database = w->database && *w->database ? w->database : config->admin.sql_database;
	const char *password = own ? w->password : config->admin.sql_password;

	job->user = arena_strdup(arena, own ? w->user : config->admin.sql_user);
	job->database = arena_strdup(arena, *database ? database : job->user);
	job->password = password && *password ? arena_strdup(arena, password) : NULL;
	job->max_rows = w->max_rows ? (uint32_t)w->max_rows : config->admin.sql_max_rows;
	job->max_bytes = config->admin.sql_result_bytes;
	job->timeout = config->admin.sql_timeout;
	if (!find_listener(job, config))
		job->host = NULL;
	return !own && *config->admin.sql_password_file ? arena_strdup(arena, config->admin.sql_password_file) : NULL;
}

/* false: it was answered why not. */
static bool may_be(const struct sql_job *job, const struct request *request, struct answer *answer, bool allow_writes)
{
	if (!job->user || !*job->user)
		answer_problem(answer, MHD_HTTP_BAD_REQUEST, "no_user",
			       "user is missing, and the configuration has no [admin] sql_user");
	else if (job->writes && request->right < ACCESS_ADMIN)
		answer_problem(answer, MHD_HTTP_FORBIDDEN, "needs_admin", "allow_writes needs the role admin");
	else if (job->writes && !allow_writes)
		answer_problem(answer, MHD_HTTP_FORBIDDEN, "writes_not_allowed",
			       "the configuration has no [admin] sql_allow_writes");
	else if (!job->host)
		answer_problem(answer, MHD_HTTP_SERVICE_UNAVAILABLE, "no_listener",
			       "the proxy has no listener that libpq can reach: a TCP port, or /path/.s.PGSQL.PORT");
	else
		return true;
	return false;
}

static struct sql_job *job_new(struct request *request)
{
	struct sql_job *job = calloc(1, sizeof(*job));

	if (!job)
		return NULL;
	job->admin = request->admin;
	job->client_fd = -1;
	job->columns = json_array();
	job->rows = json_array();
	job->notices = json_array();
	arena_init(&job->arena, JOB_CHUNK);
	request_client(request, job->client, sizeof(job->client));
	snprintf(job->token, sizeof(job->token), "%s", request->token);
	return job;
}

/* w->query is there. NULL: it was answered, or there is no memory. *ret_most: of [admin] sql_concurrency. */
static struct sql_job *job_of(struct request *request, struct answer *answer, const struct wish *w, bool may_write,
			      uint32_t *ret_most)
{
	struct admin *admin = request->admin;
	struct sql_job *job = job_new(request);
	char password[PASSWORD_FILE_MAX];
	const char *file;
	bool allow_writes;

	if (!job)
		return NULL;
	job->query = arena_strdup(&job->arena, w->query);
	if (!job->query || is_refused(job, answer)) {
		sql_job_free(job);
		return NULL;
	}
	pthread_mutex_lock(&admin->lock);
	file = take_settings(job, w, admin->context.config);
	allow_writes = admin->context.config->admin.sql_allow_writes;
	*ret_most = admin->context.config->admin.sql_concurrency;
	pthread_mutex_unlock(&admin->lock);
	/* the reference's has no word for it: what only reads does not need it */
	job->writes = w->writes || (may_write && allow_writes && request->right == ACCESS_ADMIN && !job->reads);
	if (!may_be(job, request, answer, allow_writes)) {
		sql_job_free(job);
		return NULL;
	}
	if (file) {
		read_password(file, password, sizeof(password));
		job->password = arena_strdup(&job->arena, password);
		explicit_bzero(password, sizeof(password));
	}
	return job;
}

static void run(struct request *request, struct answer *answer, struct sql_job *job, uint32_t most)
{
	struct sql_runner *runner = request->admin->sql;
	int r = sql_runner_reserve(runner, most);

	if (r < 0) {
		if (most == 0)
			answer_problem(answer, MHD_HTTP_FORBIDDEN, "sql_is_off", "[admin] sql_concurrency is 0");
		else
			answer_problem(answer, MHD_HTTP_SERVICE_UNAVAILABLE, "too_many_statements",
				       "%u statements run already", most);
		sql_job_free(job);
		return;
	}
	job->later = request_later(request, answer);
	if (!job->later) {
		sql_runner_release(runner);
		sql_job_free(job);
		return;
	}
	sql_runner_run(runner, job);
}

/* ---- answers ---- */

static const char *role_of(const struct sql_job *job)
{
	return !job->server_node[0] ? NULL : job->on_primary ? "primary" : "standby";
}

/* What all answers have. */
static json_t *result_json(struct sql_job *job)
{
	json_t *json = json_object();

	json_put(json, "columns", json_incref(job->columns));
	json_put(json, "rows", json_incref(job->rows));
	json_put(json, "row_count", json_integer((json_int_t)json_array_size(job->rows)));
	json_put(json, "truncated", json_boolean(job->truncated));
	json_put(json, "command", json_text_or_null(job->command));
	json_put(json, "elapsed_ms", json_real((double)(job->elapsed / 10) / 100));
	json_put(json, "notices", json_incref(job->notices));
	return json;
}

static void show(struct sql_job *job, struct answer *answer)
{
	json_t *json = result_json(job);

	json_put(json, "read_only", json_boolean(!job->writes));
	json_put(json, "node", json_text_or_null(job->server_node));
	json_put(json, "node_role", json_text(role_of(job)));
	answer_json(answer, MHD_HTTP_OK, json);
}

static void show_as_reference(struct sql_job *job, struct answer *answer)
{
	json_t *json = json_object();

	json_put(json, "query_type", json_text(job->reads ? "read" : "write"));
	json_put(json, "routed_to", json_text_or_null(job->server_node));
	json_put(json, "node_role", json_text(role_of(job)));
	json_put(json, "result", result_json(job));
	answer_json(answer, MHD_HTTP_OK, json);
}

static void run_as(struct request *request, struct answer *answer, bool versioned)
{
	struct sql_job *job = NULL;
	struct wish wish;
	uint32_t most;

	if (read_wish(request, answer, &wish, /* strict= */ versioned))
		job = job_of(request, answer, &wish, /* may_write= */ !versioned, &most);
	if (job) {
		job->show = versioned ? show : show_as_reference;
		run(request, answer, job, most);
	}
	json_decref(wish.body);
}

void endpoint_sql(struct request *request, struct answer *answer)
{
	run_as(request, answer, /* versioned= */ true);
}

void endpoint_sql_as_reference(struct request *request, struct answer *answer)
{
	run_as(request, answer, /* versioned= */ false);
}
