/*
 * Sessions that lead to no node: their client has logged in to a database that is the console's ([admin] databases).
 * This layer lets them in and moves their bytes; what they mean is the business of console/, through these hooks.
 */
#ifndef SESSION_CONSOLE_H
#define SESSION_CONSOLE_H

#include "base/common.h"

#define CONSOLE_LIKE "1.25.2" /* the version of PgBouncer that the console is like */

struct conn;
struct session;
struct worker;

/* A client of the console; embedded in what the console keeps of it. */
struct console_client {
	struct session *session;
	struct worker *worker; /* whose thread all of this runs in */
	struct conn *conn;
	const char *database, *user; /* live as long as it does */
	uint32_t pid;
	bool is_admin; /* else it may look only */
};

/* NULL hooks are not allowed. */
struct console_ops {
	/* NULL: out of memory. The fields are filled in afterwards. */
	struct console_client *(*opened)(void *argument);
	/* As conn_ops.received. */
	size_t (*received)(struct console_client *client, uint8_t *bytes, size_t len);
	/* It is at something whose answer is still to come. */
	bool (*is_busy)(const struct console_client *client);
	/* conn_ops.drained */
	void (*drained)(struct console_client *client);
	/* A CancelRequest with its key. */
	void (*cancelled)(struct console_client *client);
	/* The session is over: frees it. */
	void (*closed)(struct console_client *client);
};

/* Ends the session, as its client wished. */
void console_client_leave(struct console_client *client);
/* It sent what the protocol does not allow. */
void console_client_broken(struct console_client *client, const char *why);
void console_client_out_of_memory(struct console_client *client);
/* A log line with who it is. */
void console_client_log(const struct console_client *client, const char *message, const char *detail);

#endif
