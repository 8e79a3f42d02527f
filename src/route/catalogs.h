/*
 * The catalogs (sql/catalog.h) of the databases that are routed, read from the primary, shared by all workers.
 *
 *   nothing is known -> somebody asks, one worker reads it -> it is used -> it is read again every catalog_refresh
 *                                                                      \-> the schema changes: not used, read at once
 *
 * One load a database at a time, over all workers, on a link of the pool of whoever asked (any role may). A catalog is
 * immutable; the old one goes when every worker has passed a turn. What is not known costs load on the primary, so
 * nobody waits: while there is no catalog, nothing goes to standbys.
 *
 * A load that was under way when the schema changed counts for nothing. One that fails is tried again later and later,
 * and the log says so once. What was read before is used on while the server cannot be reached (then nobody changes its
 * schema either), and otherwise until it is as old as two of catalog_refresh.
 */
#ifndef ROUTE_CATALOGS_H
#define ROUTE_CATALOGS_H

#include "pool/pool.h"
#include "sql/catalog.h"

struct catalogs;
struct catalog_entry; /* of one database, by its name on the server */

struct catalogs_context {
	const struct config *config; /* at the start */
	/* Calls free_it(argument) when every worker has passed a turn; from any thread. */
	void (*retire)(void *server, void (*free_it)(void *argument), void *argument);
	void *server;
};

struct known_catalog {
	const struct catalog *catalog;
	uint64_t number; /* of this catalog of this database alone; never 0 */
	/*
	 * Where the primary's WAL was when it had been read. A standby that has not replayed as much may still have
	 * what was before: a function that was volatile then and is called a read here.
	 */
	uint64_t position;
};

/* ---- all of them ---- */
struct catalogs *catalogs_new(const struct catalogs_context *context); /* NULL: out of memory */
/* Control thread: from now on with this configuration. */
void catalogs_reload(struct catalogs *catalogs, const struct config *config);
/* The thread's loads are given up. In that thread, or when it is gone; before its links are closed. */
void catalogs_thread_end(struct catalogs *catalogs, struct pool_thread *thread);
/* No thread knows of it any more. NULL is fine. */
void catalogs_free(struct catalogs *catalogs);

/* ---- one database ---- */
/* By pool_server_database(); those that are bound to one node ([databases.X] node) have no use for one, and might lead
 * to another server where the same name is another database. A reference. NULL: out of memory, or there are too many.
 */
struct catalog_entry *catalogs_find(struct catalogs *catalogs, const char *database);
void catalogs_release(struct catalog_entry *entry); /* NULL is fine */
/*
 * A worker: what is known now; valid until the end of its turn. NULL: nothing. Then, and when it is time, a load is
 * begun, on a link of `home`: a pool that leads to this database on the primary. Never calls back from within.
 */
const struct known_catalog *catalogs_get(struct catalog_entry *entry, struct pool_thread *thread, struct pool *home);
/* Somebody's change of the schema (understanding.h says which) has taken effect, or may have: any thread, before he is
 * told so. To be called where pool_schema_changed() is. */
void catalogs_schema_changed(struct catalogs *catalogs, const char *database);
/* The same of all databases: another node is the primary, and has perhaps lost changes that were known of. */
void catalogs_primary_changed(struct catalogs *catalogs);

/* ---- for people ---- */
struct catalog_view {
	const char *database;
	const char *state; /* "none", "current", "outdated" (the schema has changed), "old" */
	bool loading;
	uint64_t number, position, age_us; /* of the catalog; number 0: none */
	uint32_t names;
	uint64_t loads, failures;
	uint32_t failures_in_row;
	const char *error; /* of the last failure; "" when a load was good behind it */
	uint32_t users;    /* references */
};
/* Under a lock; strings live as long as the call. */
void catalogs_each(struct catalogs *catalogs, void (*each)(const struct catalog_view *view, void *to), void *to);

#endif
