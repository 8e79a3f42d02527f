/* What catalogs.c (what is known, and when it is read) and catalog_load.c (reading it) share. */
#ifndef ROUTE_CATALOGS_PRIV_H
#define ROUTE_CATALOGS_PRIV_H

#include "base/map.h"
#include "route/catalogs.h"

#define CATALOG_ENTRIES_MAX 1000u
#define CATALOG_ERROR_SIZE  300u

struct catalog_snapshot { /* never changes once it is published */
	struct known_catalog known;
	struct catalog *catalog; /* the same, to be freed */
	uint64_t changes;        /* of the schema, that had been seen when it was begun */
	usec_t loaded, refresh_at;
	uint32_t names;
};

struct catalogs {
	struct catalogs_context context;
	_Atomic usec_t refresh;
	_Atomic uint64_t size_max;
	_Atomic uint64_t numbers; /* given out */
	pthread_mutex_t lock;     /* of what follows, and of the parts of entries that say so. Short: no callback */
	struct map entries;       /* by name */
	struct list loads;        /* struct load, see catalog_load.c */
};

struct catalog_entry {
	struct catalogs *catalogs;
	_Atomic(struct catalog_snapshot *) now; /* NULL: none yet */
	_Atomic uint64_t changes;               /* of the schema, that were seen */
	_Atomic bool loading;
	_Atomic bool unreachable;  /* the last load failed for want of a connection */
	_Atomic usec_t not_before; /* the next load begins */
	/* under the lock */
	uint32_t references;
	usec_t unused_since;
	uint32_t failures_in_row;
	uint64_t loads, failures;
	char error[CATALOG_ERROR_SIZE];
	char name[];
};

/* ---- when ---- */
struct catalog_moment {
	usec_t now, loaded /* 0: there is none */, refresh_at, refresh, not_before;
	bool outdated, unreachable, loading;
};

enum { CATALOG_USE = BIT(0), CATALOG_LOAD = BIT(1) };

uint32_t catalog_judge(const struct catalog_moment *m); /* a set of these; pure */
/* Microseconds from the end of a load until the next one may begin. */
usec_t catalog_rest(usec_t took, uint32_t failures_in_row);
/* Where the server's WAL is, as those that have replayed all of it say: see the comment there. */
uint64_t catalog_position(uint64_t insert_lsn);

/* ---- loads ---- */
enum catalog_failure { CATALOG_UNREACHABLE, CATALOG_FAILED, CATALOG_GIVEN_UP };

/* entry->loading was set: it is unset when the load is over. The entry, referenced, and the pool are kept meanwhile. */
void catalog_load_begin(struct catalog_entry *entry, struct pool_thread *thread, struct pool *home);
/* Takes the catalog over. */
void catalog_loaded(struct catalog_entry *entry, struct catalog *catalog, uint64_t changes, uint64_t position,
		    usec_t took);
/* error: what the log says. GIVEN_UP: it doesn't. */
void catalog_load_failed(struct catalog_entry *entry, enum catalog_failure why, const char *error, usec_t took);

#endif
