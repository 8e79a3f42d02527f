/*
 * Running one statement for the admin API, through the proxy's own listener like any client, so that logins, rules,
 * routing and limits are those of clients. Who does what:
 *   endpoints_sql.c  what is asked for, may it be, and what is answered
 *   sql_runner.c     a thread of its own that waits for all statements under way
 *   sql_job.c        one of them: a connection of libpq, step by step, never blocking
 *   sql_types.c      names of types
 *
 *   CONNECTING -> BEGINNING -> LIMITING -> RUNNING -> LOCATING (-> NAMING) -> ENDING -> DONE
 *         \____________\___________\__________\___________\__________\__________\____> DONE
 */
#ifndef ADMIN_SQL_H
#define ADMIN_SQL_H

#include "admin/admin_priv.h"
#include "base/list.h"

#include <libpq-fe.h>

#define SQL_NAME_MAX    256u
#define SQL_NOTICES_MAX 50u
#define SQL_COLUMNS_MAX 1664u /* PostgreSQL's own limit */
#define SQL_ROWS_MAX    100000u

enum sql_state {
	SQL_CONNECTING,
	SQL_BEGINNING,
	SQL_LIMITING,
	SQL_RUNNING,
	SQL_LOCATING,
	SQL_NAMING,
	SQL_ENDING,
	SQL_DONE
};

/* Why it is cancelled. */
enum sql_stop { SQL_GOES_ON, SQL_CLIENT_GONE, SQL_TIMEOUT, SQL_ENOUGH, SQL_SHUTDOWN };

struct sql_job {
	struct list node;
	struct admin *admin;
	struct later *later;
	void (*show)(struct sql_job *job, struct answer *answer); /* it has succeeded */
	struct arena arena;
	/* what is asked for; in the arena */
	const char *query, *user, *password, *database; /* password NULL: none */
	const char *host;
	char port[8];
	bool host_is_address, writes;
	bool reads; /* as far as a scanner can tell */
	uint32_t max_rows;
	uint64_t max_bytes;
	usec_t timeout;
	char client[96]; /* who asks: for the log */
	char token[ADMIN_TOKEN_NAME_MAX + 1];
	/* how far it is */
	enum sql_state state;
	enum sql_stop stop;
	PGconn *conn;
	PostgresPollingStatusType wants; /* while CONNECTING */
	int client_fd;                   /* -1: not watched */
	usec_t began, sent, deadline;    /* by sql_now() */
	usec_t cancelled;                /* last; 0: not yet */
	struct round *locating;
	uint64_t unread; /* bytes that were read since the last row or notice: of one that is not there as a whole */
	uint64_t read;   /* and of all */
	/* what came of it */
	json_t *columns, *rows, *notices;
	Oid *types; /* of the columns */
	uint32_t column_count;
	uint64_t bytes;
	bool truncated;
	char command[64];
	usec_t elapsed;
	char server_node[SQL_NAME_MAX]; /* "": not known */
	bool on_primary;
	unsigned status; /* of a problem; 0: none */
	const char *code;
	char *detail; /* malloc'd */
	json_t *problem;
	char sqlstate[6];
};

usec_t sql_now(void); /* not clock_now(): tests move that one */

/* ---- sql_job.c: on the runner's thread ---- */
void sql_job_begin(struct sql_job *job);
short sql_job_events(const struct sql_job *job); /* of poll(), for the socket */
/* Goes as far as it can; readable: poll() said so. */
void sql_job_go_on(struct sql_job *job, bool readable);
/* When sql_job_go_on() is to be called at the latest; 0: at once. */
usec_t sql_job_wakes(const struct sql_job *job);
void sql_job_stop(struct sql_job *job, enum sql_stop why);
/* Any thread that has it. */
void sql_job_free(struct sql_job *job);
/* It fails; the first one counts. */
void sql_job_fail(struct sql_job *job, unsigned status, const char *code, const char *format, ...) PRINTF_LIKE(4, 5);

/* ---- sql_types.c ---- */
const char *sql_type_name(Oid type); /* NULL: not one of PostgreSQL's own that are used most */

/* ---- sql_runner.c ---- */
struct sql_runner;

enum sql_result { SQL_RESULT_OK, SQL_RESULT_ERROR, SQL_RESULT_STOPPED, SQL_RESULT_REFUSED, SQL_RESULTS };

struct sql_counts {
	uint32_t running;
	uint64_t done[SQL_RESULTS];
};

void sql_runner_count(struct sql_runner *runner, struct sql_counts *ret); /* any thread */

struct sql_runner *sql_runner_new(void); /* NULL: out of memory */
/* Takes the job, which has its `later`. 0; -EBUSY: `most` run already, -ENOMEM, -EAGAIN: no thread; then the job is
 * still the caller's. */
int sql_runner_reserve(struct sql_runner *runner, uint32_t most) MUST_USE;
void sql_runner_release(struct sql_runner *runner); /* of what was reserved, and is not run */
void sql_runner_run(struct sql_runner *runner, struct sql_job *job);
/* What runs is cancelled, and answered. Before the transport stops. NULL is fine. */
void sql_runner_stop(struct sql_runner *runner);
void sql_runner_free(struct sql_runner *runner);

#endif
