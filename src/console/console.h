/*
 * PgBouncer's console: whoever logs in to a database of [admin] databases talks to the proxy itself, over the simple or
 * the extended protocol. A client's commands run on the worker that has its connection; what other workers know is
 * asked of them by message, one after the other and a page at a time, as the client takes it. So nobody waits for a
 * client, and no answer is ever in memory as a whole. See docs/console.md.
 */
#ifndef CONSOLE_CONSOLE_H
#define CONSOLE_CONSOLE_H

#include "cluster/node.h"
#include "session/console.h"
#include "session/worker.h"

struct console;

enum console_shutdown { SHUTDOWN_NOW, SHUTDOWN_AFTER_TRANSACTIONS, SHUTDOWN_AFTER_CLIENTS };

/* Something that the control thread does for a client of the console: it may wait for a disk. */
struct control_job {
	struct control_job *next;
	/* On the control thread. */
	void (*run)(struct control_job *job);
	/* The job is its maker's again: what run() changed has been applied (control thread); or the process ends, and
	 * run() was never called. */
	void (*over)(struct control_job *job);
};

struct console_context {
	struct pools *pools;
	struct node_list *nodes;
	struct members *members;
	struct sessions_shared *sessions;
	/* Called on a worker's thread: they may only ask. */
	int (*reload)(void *server); /* 0 or -errno */
	/* How many reloads are over, and how many of them failed. */
	void (*reloads)(void *server, uint64_t *ret_over, uint64_t *ret_failed);
	void (*shut_down)(void *server, enum console_shutdown how);
	void (*let_run)(void *server, struct control_job *job);
	/* Control thread: the key has this value until the next reload. 0, or -errno, and in why what is wrong ("": no
	 * memory). */
	int (*set)(void *server, const char *section, const char *name, const char *value, char *why, size_t size);
	void *server;
};

/* Before the workers run; their sessions find it in sessions_shared. NULL: out of memory. */
struct console *console_new(const struct console_context *context);
/* No worker runs any more. NULL is fine. */
void console_free(struct console *console);

#endif
