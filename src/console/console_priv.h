/*
 * What the files of console/ share. Who does what:
 *   command.c   what a text says        rows.c   a result's bytes
 *   console.c   the two protocols       talk.c   running a command: rows, waiting, other workers
 *   shows.c     the table of SHOW       show_*.c what they show
 *   operate.c   PAUSE and the like   nodes.c  those about nodes   settings.c  SET
 *   job.c       what the control thread does for a command
 */
#ifndef CONSOLE_CONSOLE_PRIV_H
#define CONSOLE_CONSOLE_PRIV_H

#include "base/arena.h"
#include "base/map.h"
#include "console/command.h"
#include "console/console.h"
#include "console/rows.h"
#include "loop/loop.h"
#include "wire/errors.h"
#include "wire/message.h"

struct console {
	struct console_context context;
	_Atomic uint32_t clients;
};

struct visit;

/* ---- SHOW ---- */
struct show {
	const char *name;
	const struct column *columns;
	uint32_t column_count;
	bool admin_only;
	/* All rows, at once, on the client's worker; NULL: none are known there. */
	void (*rows)(struct console *console, const struct worker *w, struct rows *rows);
	/* Some rows of each worker, on its thread: as far as visit->next says. NULL: workers are not asked. */
	void (*visit)(struct worker *w, struct visit *visit);
};

extern const struct show shows[];
extern const uint32_t show_count;
const struct show *show_find(const char *name); /* NULL: none */

/* ---- a client ---- */
struct bound { /* a portal, or a prepared statement (binary is 0) */
	struct command command;
	uint32_t binary; /* a bit for each column */
};

struct talk {
	struct console_client client; /* first */
	struct console *console;
	struct map statements, portals; /* struct bound */
	bool skips;                     /* extended: to Sync, after an error */
	bool in_transaction;            /* it said BEGIN, which changes nothing */
	/* the command that runs; `running` false: none, and nothing of this counts */
	bool running, simple;
	struct bound now;
	struct visit *visit;                                /* under way at a worker; NULL: none */
	uint32_t worker, next;                              /* whom to ask next, and from where on */
	uint64_t found;                                     /* what the workers said, summed */
	void (*ask)(struct worker *w, struct visit *visit); /* NULL: they are not asked */
	void (*over)(struct talk *t); /* all workers were asked: ends the command. NULL: CommandComplete does */
	struct timer timer;
	bool (*is_done)(struct talk *t); /* waited for; looked at in intervals */
	uint64_t mark;                   /* its own */
	struct console_job *job;         /* that the control thread does; NULL: none */
	struct loop_deferred deferred;
};

/* At a worker for a client of the console. The client may be gone when it comes back. */
struct visit {
	struct loop_message message;
	struct talk *talk; /* NULL: it left; for its own thread only */
	struct worker *home, *at;
	void (*work)(struct worker *w, struct visit *visit);
	struct rows rows;
	char name[COMMAND_NAME_MAX];
	uint64_t number;
	/* the answer */
	uint32_t next; /* 0: all is told, else where to go on */
	uint64_t found;
};

#define PAGE_ROWS 256u

/* ---- talk.c ---- */
/* Begins; it may be over when this returns. */
void talk_run(struct talk *t, const struct bound *command, bool simple);
void talk_complete(struct talk *t, const char *tag);
void talk_refuse(struct talk *t, const char *format, ...) PRINTF_LIKE(2, 3);
void talk_error(struct talk *t, enum proxy_error error, const char *argument);
/* Asks every worker. */
void talk_ask_all(struct talk *t, void (*work)(struct worker *w, struct visit *visit), void (*over)(struct talk *t));
/* Until it is done: then CommandComplete, if is_done() did not end the command itself. */
void talk_wait(struct talk *t, bool (*is_done)(struct talk *t));
void talk_send(struct talk *t, struct buf *out);
void talk_stop(struct talk *t); /* the client has left */
void talk_drained(struct talk *t);
void talk_cancelled(struct talk *t);

/* ---- operate.c ---- */
void operate(struct talk *t, const struct command *c);
void operate_cancelled(struct talk *t);

/* ---- job.c ---- */
/* Of the client, until it leaves, and of the control thread, until it is over. Begins what it is embedded in. */
struct console_job {
	struct control_job job;
	_Atomic unsigned owners;
	_Atomic bool is_over;
	bool was_run;
	int result; /* of work() */
	struct console *console;
	int (*work)(struct console_job *job);                  /* on the control thread */
	void (*tell)(struct talk *t, struct console_job *job); /* what came of it; CommandComplete follows */
};
/* malloc'd, with work and tell; the command is over when they are. */
void console_job_begin(struct talk *t, struct console_job *job);
void console_job_leave(struct talk *t); /* its client does not wait for it any more */

/* ---- settings.c ---- */
void operate_setting(struct talk *t, const struct command *c);

/* ---- nodes.c ---- */
void operate_node(struct talk *t, const struct command *c);
void show_nodes(struct console *console, const struct worker *w, struct rows *rows);

/* ---- show_*.c ---- */
void show_pools(struct console *console, const struct worker *w, struct rows *rows);
void show_pools_extended(struct console *console, const struct worker *w, struct rows *rows);
void show_prepared_statements(struct console *console, const struct worker *w, struct rows *rows);
void show_databases(struct console *console, const struct worker *w, struct rows *rows);
void show_users(struct console *console, const struct worker *w, struct rows *rows);
void show_lists(struct console *console, const struct worker *w, struct rows *rows);
void show_stats(struct console *console, const struct worker *w, struct rows *rows);
void show_stats_totals(struct console *console, const struct worker *w, struct rows *rows);
void show_stats_averages(struct console *console, const struct worker *w, struct rows *rows);
void show_totals(struct console *console, const struct worker *w, struct rows *rows);
void show_config(struct console *console, const struct worker *w, struct rows *rows);
void show_state(struct console *console, const struct worker *w, struct rows *rows);
void show_version(struct console *console, const struct worker *w, struct rows *rows);
void show_help(struct console *console, const struct worker *w, struct rows *rows);
void show_dns_hosts(struct console *console, const struct worker *w, struct rows *rows);
void show_fds(struct worker *w, struct visit *visit);
void show_clients(struct worker *w, struct visit *visit);
void show_servers(struct worker *w, struct visit *visit);
void show_sockets(struct worker *w, struct visit *visit);
void show_active_sockets(struct worker *w, struct visit *visit);
void show_memory(struct worker *w, struct visit *visit);

bool console_is_name(const struct node *node); /* rather than an address */

/* Pools with the same database, or the same user. */
struct group {
	struct group *next;
	const char *name;
	struct pool_totals stats, before;
	uint32_t clients, links;
};

struct groups {
	struct arena arena;
	struct map by_name;
	struct group *first, **end;
	uint32_t pool_count;
	bool failed; /* out of memory */
};

/* false: out of memory. Free it in any case. */
bool groups_collect(struct groups *g, struct pools *pools, bool by_user) MUST_USE;
struct group *group_get(struct groups *g, const char *name); /* made when new; NULL: out of memory */
void groups_free(struct groups *g);

#endif
