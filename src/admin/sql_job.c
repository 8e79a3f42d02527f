/*
 * See sql.h: one statement, from the connection to the answer. Nothing here blocks but a name's resolution, should the
 * listener have a name.
 *
 * Always in a transaction block of its own: a procedure or DO can't end it from inside, and the statement, which is
 * sent by the extended protocol, can be one only. So what begins READ ONLY stays so for all that follows.
 */
#include "admin/sql.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>

#define MARGIN        (5 * USEC_PER_SEC)    /* beyond the statement's own time: to log in, to wait for a link; to end */
#define CANCEL_AGAIN  (500 * USEC_PER_MSEC) /* it may have come between two steps */
#define LOCATING_LOOK (2 * USEC_PER_MSEC)
#define HINT_MAX      1024         /* a longer one counts for the statement only */
#define READ_ONCE     (256u << 10) /* libpq's buffer grows, but not at once */
#define MEASURES      4            /* of what was read, until it stands still */
#define ROW_MORE      (1u << 20)   /* of one row, beyond what a result may have */
#define ROW_AROUND    (256u << 10) /* what else is read before it is there: the columns, lengths, TLS */

static void enter(struct sql_job *job, enum sql_state state);

/* ---- failing ---- */

void sql_job_fail(struct sql_job *job, unsigned status, const char *code, const char *format, ...)
{
	va_list arguments;

	if (job->status)
		return;
	job->status = status;
	job->code = code;
	va_start(arguments, format);
	if (vasprintf(&job->detail, format, arguments) < 0)
		job->detail = NULL;
	va_end(arguments);
	for (size_t len = job->detail ? strlen(job->detail) : 0; len > 0 && job->detail[len - 1] == '\n'; len--)
		job->detail[len - 1] = 0;
}

static void put_field(json_t *json, const char *key, const PGresult *r, int field)
{
	const char *text = PQresultErrorField(r, field);

	if (text)
		json_put(json, key, json_text(text));
}

static void put_number(json_t *json, const char *key, const PGresult *r, int field)
{
	const char *text = PQresultErrorField(r, field);
	uint64_t value;

	if (text && parse_number(text, UINT32_MAX, &value))
		json_put(json, key, json_integer((json_int_t)value));
}

/* What PostgreSQL says of an error, by the names that its documentation has for them. */
static json_t *error_json(const PGresult *r)
{
	json_t *json = json_object();

	put_field(json, "severity", r, PG_DIAG_SEVERITY_NONLOCALIZED);
	put_field(json, "sqlstate", r, PG_DIAG_SQLSTATE);
	put_field(json, "message", r, PG_DIAG_MESSAGE_PRIMARY);
	put_field(json, "message_detail", r, PG_DIAG_MESSAGE_DETAIL);
	put_field(json, "hint", r, PG_DIAG_MESSAGE_HINT);
	put_number(json, "position", r, PG_DIAG_STATEMENT_POSITION);
	put_number(json, "internal_position", r, PG_DIAG_INTERNAL_POSITION);
	put_field(json, "internal_query", r, PG_DIAG_INTERNAL_QUERY);
	put_field(json, "where", r, PG_DIAG_CONTEXT);
	put_field(json, "schema", r, PG_DIAG_SCHEMA_NAME);
	put_field(json, "table", r, PG_DIAG_TABLE_NAME);
	put_field(json, "column", r, PG_DIAG_COLUMN_NAME);
	put_field(json, "data_type", r, PG_DIAG_DATATYPE_NAME);
	put_field(json, "constraint", r, PG_DIAG_CONSTRAINT_NAME);
	return json;
}

static void fail_of_result(struct sql_job *job, const PGresult *r)
{
	const char *sqlstate = PQresultErrorField(r, PG_DIAG_SQLSTATE);
	const char *message = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);

	if (job->status || job->stop == SQL_ENOUGH)
		return; /* the first one counts; what was cancelled for being enough is no error */
	if (sqlstate)
		snprintf(job->sqlstate, sizeof(job->sqlstate), "%s", sqlstate);
	sql_job_fail(job, MHD_HTTP_UNPROCESSABLE_CONTENT, job->stop == SQL_TIMEOUT ? "statement_timeout" : "sql_error",
		     "%s", message ? message : PQresultErrorMessage(r));
	job->problem = error_json(r);
}

/* "connection to server at ... failed: FATAL:  28P01: password authentication failed" LF "LOCATION: ..." */
static void fail_of_login(struct sql_job *job)
{
	static const char *const severities[] = {"FATAL:  ", "ERROR:  "};
	const char *text = PQerrorMessage(job->conn), *found = NULL;
	bool is_login;

	if (PQconnectionNeedsPassword(job->conn)) {
		sql_job_fail(job, MHD_HTTP_UNPROCESSABLE_CONTENT, "login_refused",
			     "a password is asked for, and there is none");
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(severities) && !found; i++)
		found = strstr(text, severities[i]);
	if (!found || strlen(found) < 15 || found[13] != ':') {
		sql_job_fail(job, MHD_HTTP_SERVICE_UNAVAILABLE, "no_connection", "%s", text);
		return;
	}
	snprintf(job->sqlstate, sizeof(job->sqlstate), "%.5s", found + 8);
	is_login = strncmp(job->sqlstate, "28", 2) == 0 || strcmp(job->sqlstate, "3D000") == 0;
	found += 15;
	sql_job_fail(job, is_login ? MHD_HTTP_UNPROCESSABLE_CONTENT : MHD_HTTP_SERVICE_UNAVAILABLE,
		     is_login ? "login_refused" : "no_connection", "%.*s", (int)strcspn(found, "\n"), found);
	job->problem = json_pack("{s:s}", "sqlstate", job->sqlstate);
}

static void fail_of_connection(struct sql_job *job)
{
	if (job->state == SQL_ENDING && job->writes)
		sql_job_fail(job, MHD_HTTP_SERVICE_UNAVAILABLE, "outcome_unknown",
			     "the connection was lost while the transaction was committed: it may have been, or not");
	else if (job->stop == SQL_TIMEOUT)
		sql_job_fail(job, MHD_HTTP_UNPROCESSABLE_CONTENT, "statement_timeout",
			     "it took longer than sql_timeout");
	else
		sql_job_fail(job, MHD_HTTP_SERVICE_UNAVAILABLE, "connection_lost", "%s", PQerrorMessage(job->conn));
	enter(job, SQL_DONE);
}

/* ---- asking workers; nobody waits for them ---- */

static void cancel_here(struct worker *worker, struct round_part *part, uint64_t pid)
{
	part->verdict = worker_cancel_session(worker, (uint32_t)pid);
}

static void locate_here(struct worker *worker, struct round_part *part, uint64_t pid)
{
	const struct node *node = worker_session_node(worker, (uint32_t)pid);

	if (node)
		part->node = arena_strdup(&part->arena, node->name);
}

static void cancel(struct sql_job *job)
{
	job->cancelled = sql_now();
	round_unref(round_begin(job->admin->context.sessions, cancel_here, (uint64_t)PQbackendPID(job->conn)));
}

static void note_node(struct sql_job *job, const char *name)
{
	struct node_list *nodes = job->admin->context.nodes;
	const struct node *node;

	snprintf(job->server_node, sizeof(job->server_node), "%s", name);
	node_list_hold(nodes);
	node = node_list_find(nodes, name);
	job->on_primary = node && node_is_primary(job->admin, node);
	node_list_release(nodes);
}

/* While its transaction is open, its link is that which has answered. */
static void look_for_node(struct sql_job *job)
{
	if (job->locating && round_late(job->locating) > 0 && round_age_ms(job->locating) < ROUND_WAIT_MS)
		return;
	for (uint32_t i = 0; job->locating && i < round_count(job->locating); i++) {
		const struct round_part *part = round_part(job->locating, i);

		if (part && part->node)
			note_node(job, part->node);
	}
	round_unref(job->locating);
	job->locating = NULL;
	enter(job, SQL_NAMING);
}

/* ---- results ---- */

static void on_notice(void *argument, const PGresult *r)
{
	struct sql_job *job = argument;
	const char *severity = PQresultErrorField(r, PG_DIAG_SEVERITY_NONLOCALIZED);
	const char *message = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);
	char text[2048];

	job->unread = 0;
	if (job->state != SQL_RUNNING || json_array_size(job->notices) >= SQL_NOTICES_MAX)
		return; /* "there is no transaction in progress" and the like are of our own making */
	snprintf(text, sizeof(text), "%s: %s", severity ? severity : "NOTICE", message ? message : "");
	(void)json_array_append_new(job->notices, json_text(text));
}

static void take_columns(struct sql_job *job, const PGresult *r)
{
	int count = PQnfields(r);

	if (job->column_count || count <= 0)
		return;
	job->types = arena_alloc(&job->arena, (size_t)count * sizeof(*job->types));
	if (!job->types)
		return;
	job->column_count = (uint32_t)count;
	for (int i = 0; i < count; i++) {
		const char *type = sql_type_name(PQftype(r, i));
		json_t *column = json_object();

		json_put(column, "name", json_text(PQfname(r, i)));
		json_put(column, "type", json_text(type));
		job->types[i] = type ? InvalidOid : PQftype(r, i);
		(void)json_array_append_new(job->columns, column);
	}
}

static uint64_t row_bytes(const PGresult *r)
{
	uint64_t bytes = 2;

	for (int i = 0; i < PQnfields(r); i++)
		bytes += (uint64_t)PQgetlength(r, 0, i) + 4; /* what JSON puts around it */
	return bytes;
}

/* A row of that many bytes, as far as it has come. true: it is refused, and with it the statement, which can't have
 * ended. */
static bool is_too_large(struct sql_job *job, uint64_t bytes)
{
	if (bytes <= job->max_bytes + ROW_MORE)
		return false;
	if (job->stop != SQL_ENOUGH) { /* else what is answered is there, and this came before it was cancelled */
		cancel(job);
		sql_job_fail(job, MHD_HTTP_UNPROCESSABLE_CONTENT, "row_too_large",
			     "a row is larger than sql_result_bytes; %s",
			     job->writes ? "the transaction was rolled back" : "ask for less of it");
	}
	job->elapsed = clock_since(job->sent, sql_now());
	enter(job, SQL_DONE);
	return true;
}

static void take_row(struct sql_job *job, const PGresult *r)
{
	uint64_t bytes = row_bytes(r);
	json_t *row;

	job->unread = 0;
	if (is_too_large(job, bytes)) /* it may have come at once */
		return;
	take_columns(job, r);
	if (job->truncated)
		return;
	if (json_array_size(job->rows) >= job->max_rows || job->bytes + bytes > job->max_bytes) {
		job->truncated = true;
		if (!job->writes) /* else it would not be done: the rest is read, and dropped */
			sql_job_stop(job, SQL_ENOUGH);
		return;
	}
	job->bytes += bytes;
	row = json_array();
	for (int i = 0; i < PQnfields(r); i++)
		(void)json_array_append_new(row, json_text(PQgetisnull(r, 0, i) ? NULL : PQgetvalue(r, 0, i)));
	(void)json_array_append_new(job->rows, row);
}

static void take_name(struct sql_job *job, const PGresult *r, int row)
{
	Oid type = (Oid)strtoul(PQgetvalue(r, row, 0), NULL, 10);

	for (uint32_t i = 0; i < job->column_count; i++)
		if (job->types[i] == type)
			json_put(json_array_get(job->columns, i), "type", json_text(PQgetvalue(r, row, 1)));
}

static void refuse_copy(struct sql_job *job)
{
	sql_job_fail(job, MHD_HTTP_UNPROCESSABLE_CONTENT, "copy_refused", "COPY has no place here");
	enter(job, SQL_DONE);
}

static void take_result(struct sql_job *job, const PGresult *r)
{
	switch (PQresultStatus(r)) {
	case PGRES_SINGLE_TUPLE:
		if (job->state == SQL_RUNNING)
			take_row(job, r);
		break;
	case PGRES_TUPLES_OK:
		if (job->state == SQL_RUNNING)
			take_columns(job, r);
		for (int i = 0; job->state == SQL_NAMING && i < PQntuples(r); i++)
			take_name(job, r, i);
		FALLTHROUGH;
	case PGRES_COMMAND_OK:
		if (job->state == SQL_RUNNING)
			snprintf(job->command, sizeof(job->command), "%s", PQcmdStatus((PGresult *)(uintptr_t)r));
		break;
	case PGRES_EMPTY_QUERY:
		sql_job_fail(job, MHD_HTTP_UNPROCESSABLE_CONTENT, "empty_query", "there is no statement");
		break;
	case PGRES_COPY_IN:
	case PGRES_COPY_OUT:
	case PGRES_COPY_BOTH:
		refuse_copy(job);
		break;
	default:
		if (job->state != SQL_NAMING) /* then types have no name, and that is all */
			fail_of_result(job, r);
	}
}

/* ---- steps ---- */

static void send_text(struct sql_job *job, const char *text)
{
	if (!PQsendQuery(job->conn, text))
		fail_of_connection(job);
}

/* Where a transaction goes is decided by its BEGIN: a hint in front of the statement is put in front of that, too. */
static void send_begin(struct sql_job *job)
{
	const char *from = job->query + strspn(job->query, " \t\r\n"), *to = strstr(from, "*/");
	int len = strncmp(from, "/*helios:", 9) == 0 && to ? (int)MIN(to + 2 - from, HINT_MAX) : 0;
	char text[HINT_MAX + 32];

	snprintf(text, sizeof(text), "%.*s%s", len, from, job->writes ? "BEGIN READ WRITE" : "BEGIN READ ONLY");
	send_text(job, len < HINT_MAX ? text : text + len);
}

static void send_limit(struct sql_job *job)
{
	char text[80];

	snprintf(text, sizeof(text), "SET LOCAL statement_timeout = %llu",
		 (unsigned long long)MAX(job->timeout / USEC_PER_MSEC, (usec_t)1));
	send_text(job, text);
}

static void send_statement(struct sql_job *job)
{
	job->sent = sql_now();
	if (!PQsendQueryParams(job->conn, job->query, 0, NULL, NULL, NULL, NULL, /* resultFormat= */ 0) ||
	    !PQsetSingleRowMode(job->conn))
		fail_of_connection(job);
}

/* Of the columns whose types are not known here. */
static void send_naming(struct sql_job *job)
{
	struct buf text = BUF_INIT(64u << 10);
	const char *before = "SELECT oid, pg_catalog.format_type(oid, NULL) FROM pg_catalog.pg_type WHERE oid IN (";
	bool any = false;

	for (uint32_t i = 0; i < job->column_count; i++)
		if (job->types[i] != InvalidOid) {
			buf_printf(&text, "%s%u", any ? "," : before, job->types[i]);
			any = true;
		}
	buf_add_char(&text, ')');
	if (any && !text.failed && PQtransactionStatus(job->conn) == PQTRANS_INTRANS && !job->stop)
		send_text(job, buf_cstr(&text));
	else
		enter(job, SQL_ENDING);
	buf_free(&text);
}

/* Not to be ended: it has ended itself, or never begun. */
static bool has_transaction(const struct sql_job *job)
{
	PGTransactionStatusType status = PQtransactionStatus(job->conn);

	return status == PQTRANS_INTRANS || status == PQTRANS_INERROR;
}

static void enter(struct sql_job *job, enum sql_state state)
{
	if (job->state == SQL_DONE)
		return;
	job->state = state;
	switch (state) {
	case SQL_CONNECTING:
		break;
	case SQL_BEGINNING:
		send_begin(job);
		break;
	case SQL_LIMITING:
		send_limit(job);
		break;
	case SQL_RUNNING:
		send_statement(job);
		break;
	case SQL_LOCATING:
		job->locating =
			round_begin(job->admin->context.sessions, locate_here, (uint64_t)PQbackendPID(job->conn));
		break;
	case SQL_NAMING:
		send_naming(job);
		break;
	case SQL_ENDING:
		if (!has_transaction(job))
			enter(job, SQL_DONE);
		else
			send_text(job, job->writes && !job->status && !job->stop ? "COMMIT" : "ROLLBACK");
		break;
	case SQL_DONE:
		PQfinish(job->conn);
		job->conn = NULL;
		break;
	}
}

static void step_is_over(struct sql_job *job)
{
	bool fine = !job->status && !job->stop;

	switch (job->state) {
	case SQL_BEGINNING:
		enter(job, fine ? SQL_LIMITING : SQL_ENDING);
		break;
	case SQL_LIMITING:
		enter(job, fine ? SQL_RUNNING : SQL_ENDING);
		break;
	case SQL_RUNNING:
		job->elapsed = clock_since(job->sent, sql_now());
		enter(job, job->stop == SQL_CLIENT_GONE ? SQL_ENDING : SQL_LOCATING);
		break;
	case SQL_NAMING:
		enter(job, SQL_ENDING);
		break;
	default:
		enter(job, SQL_DONE);
		break;
	}
}

/* ---- the socket ---- */

static void go_on_connecting(struct sql_job *job)
{
	job->wants = PQconnectPoll(job->conn);
	if (job->wants == PGRES_POLLING_OK) {
		PQsetnonblocking(job->conn, 1);
		enter(job, SQL_BEGINNING);
	} else if (job->wants == PGRES_POLLING_FAILED) {
		fail_of_login(job);
		enter(job, SQL_DONE);
	}
}

static int bytes_waiting(const struct sql_job *job)
{
	int waiting = 0;

	return ioctl(PQsocket(job->conn), FIONREAD, &waiting) < 0 ? 0 : waiting;
}

/* Of the socket so far; before: bytes_waiting() before it was read. */
static uint64_t bytes_read(const struct sql_job *job, int before)
{
	struct tcp_info info = {0};
	socklen_t len = sizeof(info);
	int waiting = -1;

	/* More comes meanwhile: the two numbers are of one moment when nothing has. */
	for (int i = 0; i < MEASURES && bytes_waiting(job) != waiting; i++) {
		waiting = bytes_waiting(job);
		if (getsockopt(PQsocket(job->conn), IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
			return job->read + MIN((uint64_t)before, (uint64_t)READ_ONCE); /* a unix socket doesn't tell */
	}
	return info.tcpi_bytes_received - MIN((uint64_t)waiting, (uint64_t)info.tcpi_bytes_received);
}

static bool read_bytes(struct sql_job *job)
{
	int before = bytes_waiting(job);
	uint64_t read;

	if (!PQconsumeInput(job->conn)) {
		fail_of_connection(job);
		return false;
	}
	read = bytes_read(job, before);
	if (job->state == SQL_RUNNING && read > job->read)
		job->unread += read - job->read;
	job->read = read;
	return true;
}

static void take_results(struct sql_job *job)
{
	while (job->state != SQL_DONE && job->state != SQL_LOCATING && !PQisBusy(job->conn)) {
		PGresult *r = PQgetResult(job->conn);

		if (!r && PQstatus(job->conn) == CONNECTION_BAD && !job->status)
			fail_of_connection(job);
		else if (!r)
			step_is_over(job);
		else
			take_result(job, r);
		PQclear(r);
	}
}

static void go_on(struct sql_job *job, bool readable)
{
	if (job->state == SQL_CONNECTING) {
		if (readable)
			go_on_connecting(job);
		return;
	}
	if (readable && !read_bytes(job))
		return;
	if (job->state == SQL_LOCATING)
		look_for_node(job);
	take_results(job);
	/* libpq reads a row as a whole, however large it is: that is noticed before it has grown too far */
	if (job->state == SQL_RUNNING && job->unread > ROW_AROUND)
		(void)is_too_large(job, job->unread - ROW_AROUND);
	if (job->state != SQL_DONE && PQflush(job->conn) < 0)
		fail_of_connection(job);
}

void sql_job_go_on(struct sql_job *job, bool readable)
{
	usec_t now = sql_now();

	if (job->state != SQL_DONE)
		go_on(job, readable);
	if (job->state == SQL_DONE)
		return;
	if (now >= job->deadline && (job->stop || job->state == SQL_CONNECTING)) {
		if (job->stop != SQL_ENOUGH) /* else what is answered is there */
			sql_job_fail(job, MHD_HTTP_SERVICE_UNAVAILABLE, "no_answer",
				     "the proxy has not answered in time");
		enter(job, SQL_DONE);
	} else if (now >= job->deadline) {
		sql_job_stop(job, SQL_TIMEOUT);
	} else if (job->stop && job->cancelled && now - job->cancelled >= CANCEL_AGAIN && job->state != SQL_ENDING) {
		cancel(job);
	}
}

short sql_job_events(const struct sql_job *job)
{
	if (job->state == SQL_CONNECTING)
		return job->wants == PGRES_POLLING_WRITING ? POLLOUT : POLLIN;
	if (job->state == SQL_DONE || job->state == SQL_LOCATING)
		return 0;
	return PQflush(job->conn) > 0 ? POLLIN | POLLOUT : POLLIN;
}

usec_t sql_job_wakes(const struct sql_job *job)
{
	if (job->state == SQL_DONE)
		return 0;
	if (job->state == SQL_LOCATING)
		return sql_now() + LOCATING_LOOK;
	if (job->stop && job->cancelled)
		return MIN(job->deadline, job->cancelled + CANCEL_AGAIN);
	return job->deadline;
}

/* ---- beginning and end ---- */

void sql_job_begin(struct sql_job *job)
{
	const char *keys[] = {"hostaddr", "port",       "user",    "password",        "dbname",  "application_name",
			      "passfile", "gssencmode", "options", "client_encoding", "sslmode", NULL};
	const char *values[] = {
		job->host,        job->port, job->user, job->password, job->database, "heliosdb-proxy admin",
		"/dev/null/none", "disable", "",        "UTF8",        "prefer",      NULL};

	if (!job->host_is_address)
		keys[0] = "host";
	job->began = sql_now();
	job->deadline = job->began + job->timeout + MARGIN;
	job->client_fd = later_client_fd(job->later);
	job->wants = PGRES_POLLING_WRITING;
	job->conn = PQconnectStartParams(keys, values, /* expand_dbname= */ 0);
	if (job->conn && PQstatus(job->conn) != CONNECTION_BAD) {
		PQsetErrorVerbosity(job->conn, PQERRORS_VERBOSE);
		PQsetNoticeReceiver(job->conn, on_notice, job);
		return;
	}
	if (job->conn)
		fail_of_login(job);
	else
		sql_job_fail(job, MHD_HTTP_INTERNAL_SERVER_ERROR, "out_of_memory", "out of memory");
	enter(job, SQL_DONE);
}

void sql_job_stop(struct sql_job *job, enum sql_stop why)
{
	if (why == SQL_CLIENT_GONE)
		job->client_fd = -1;
	if (job->state == SQL_DONE || (job->stop && why != SQL_SHUTDOWN))
		return;
	job->stop = why;
	if (why != SQL_ENOUGH) /* else it may take what is left of its time to end */
		job->deadline = MIN(job->deadline, sql_now()) + MARGIN;
	if (why == SQL_CLIENT_GONE || why == SQL_SHUTDOWN)
		sql_job_fail(job, MHD_HTTP_SERVICE_UNAVAILABLE, "stopped", "it was stopped before its end");
	if (job->conn && job->state != SQL_CONNECTING && job->state != SQL_ENDING)
		cancel(job);
	if (job->state == SQL_CONNECTING || why == SQL_SHUTDOWN)
		enter(job, SQL_DONE);
}

void sql_job_free(struct sql_job *job)
{
	if (!job)
		return;
	PQfinish(job->conn);
	round_unref(job->locating);
	json_decref(job->columns);
	json_decref(job->rows);
	json_decref(job->notices);
	json_decref(job->problem);
	free(job->detail);
	arena_destroy(&job->arena);
	free(job);
}
