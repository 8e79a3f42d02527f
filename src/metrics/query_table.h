/*
 * Statistics of queries: numbers for each fingerprint (sql/normalize.h) of each database and user. One thread writes
 * and reads; whoever else wants to know asks it by message, for a slice at a time.
 *
 * Bounded: a table has at most so many entries, and one that is full gives up one of those that were not used lately
 * for each new one, which is counted. So a flood of texts that come once costs those of before that are seldom used,
 * not those in use. An entry is about 540 bytes, the names, and at most QUERY_TEXT_MAX of text: 10000 of them are 15 MB
 * at worst, and 5 MB where texts are of the usual length.
 */
#ifndef METRICS_QUERY_TABLE_H
#define METRICS_QUERY_TABLE_H

#include "base/clock.h"
#include "base/list.h"
#include "metrics/latency.h"

#define QUERY_TEXT_MAX 1024u

/* Of so many of latency_bounds each: a bound is at most a third above the one before, and there are many entries. */
#define QUERY_BUCKET_WIDTH 3u
#define QUERY_BUCKETS      (LATENCY_BOUNDS / QUERY_BUCKET_WIDTH + 1)

/* latency_cells[] / QUERY_BUCKET_WIDTH, of those that are not above all bounds of these buckets. */
#define QUERY_CELLS 556u
extern const uint8_t query_cells[QUERY_CELLS];

/* latency_bucket() / QUERY_BUCKET_WIDTH: no two of these bounds are in one cell. */
static inline uint32_t query_bucket(usec_t took)
{
	uint64_t cell = latency_cell(took);
	uint32_t bucket;

	if (unlikely(cell >= QUERY_CELLS))
		return took < 4 ? 0 : QUERY_BUCKETS - 1;
	bucket = query_cells[cell];
	return bucket + (took > latency_bounds[bucket * QUERY_BUCKET_WIDTH + QUERY_BUCKET_WIDTH - 1]);
}

/* What a call adds to is apart: where two neighbours are written, compilers do it with vectors, which takes longer. */
struct query_numbers {
	uint64_t calls;
	usec_t least; /* of one, as clients wait for it */
	uint64_t rows;
	usec_t most;
	usec_t total; /* of all together, as clients wait for it */
	uint64_t errors;
	usec_t server;     /* of that, at the server */
	uint64_t repeated; /* of the calls, those in a loop of a client: see struct query_run */
	usec_t last_seen;  /* clock_now(), of the end of it */
	usec_t first_seen;
	uint32_t buckets[QUERY_BUCKETS]; /* by latency_bucket(); the last: above all bounds, too */
};

struct query_entry {
	struct query_entry *next; /* in its bucket */
	struct list node;         /* in the table's line */
	uint64_t fingerprint, owner;
	struct query_numbers numbers;
	usec_t told;   /* when somebody was last told that it is repeated; 0: never */
	bool was_used; /* since it was last at the head of the line */
	bool is_cut;   /* its text is */
	uint8_t kind;  /* what the owner of the table says */
	uint32_t size; /* of all of it */
	uint32_t database_at, user_at;
	char strings[]; /* the text, the database and the user, each with a NUL behind it */
};

struct query_table {
	struct query_entry **buckets; /* their number is a power of two */
	struct list line;             /* of all entries: the head is the next to be looked at for one that goes */
	uint64_t mix;                 /* of this table, so that nobody chooses texts that meet in one bucket */
	uint64_t evicted;
	usec_t since; /* clock_now(), when it began */
	uint32_t references, count, most;
	uint32_t bits, shift;      /* of the number of buckets, and what of 64 is left */
	uint32_t serial;           /* another one when the order of entries is another */
	struct counters *counters; /* of who owns it; NULL: nobody counts */
};

/* NULL: no memory. A reference for the caller. */
struct query_table *query_table_new(uint32_t most);
struct query_table *query_table_ref(struct query_table *t);
void query_table_unref(struct query_table *t); /* NULL is fine */
/* From now on at most so many: those above it go, and count as evicted. 0 or -ENOMEM: nothing has changed. */
int query_table_limit(struct query_table *t, uint32_t most) MUST_USE;
/* Empty from now on; evicted is 0. What it had is put behind `to`, for query_entries_free() on any thread: that may
 * take its time. */
void query_table_clear(struct query_table *t, struct list *to);
void query_entries_free(struct list *entries);

struct query_names {
	struct slice text; /* at most QUERY_TEXT_MAX of it is kept */
	bool is_cut;
	const char *database, *user;
	uint8_t kind;
};

static inline uint64_t query_table_bucket(const struct query_table *t, uint64_t fingerprint, uint64_t owner)
{
	return ((fingerprint ^ owner) * t->mix) >> t->shift;
}

/* owner: a hash of the database and the user, of which no two are thought to be alike. NULL: there is none. */
static inline struct query_entry *query_table_find(const struct query_table *t, uint64_t fingerprint, uint64_t owner)
{
	struct query_entry *e = t->buckets[query_table_bucket(t, fingerprint, owner)];

	while (e && (e->fingerprint != fingerprint || e->owner != owner))
		e = e->next;
	return e;
}

/* One that is not there yet; its numbers are 0. NULL: no memory. */
struct query_entry *query_table_add(struct query_table *t, uint64_t fingerprint, uint64_t owner,
				    const struct query_names *names);

void query_numbers_halve(struct query_numbers *n);
/* The first call is about to be added. */
static inline void query_numbers_first(struct query_numbers *n, usec_t took, usec_t now)
{
	n->least = took;
	n->first_seen = now;
}

/* One call was over: it took so long, so long of it at the server. true: query_numbers_halve() must follow. */
static inline MUST_USE bool query_numbers_add(struct query_numbers *n, usec_t took, usec_t server, usec_t now)
{
	n->calls++;
	n->last_seen = now;
	n->total += took;
	n->server += server;
	if (unlikely(took < n->least))
		n->least = took;
	if (unlikely(took > n->most))
		n->most = took;
	return ++n->buckets[query_bucket(took)] > INT32_MAX; /* percentiles are of what was lately, then */
}

/*
 * A client that asks the same again as soon as it has the answer, over and over: a loop of the application, that could
 * be one query ("N+1"). What is sent without waiting for the answer, in a pipeline, is none.
 */
struct query_run {
	uint64_t fingerprint;
	uint32_t count;
	usec_t ended; /* its last call */
};

#define QUERY_RUN_LEAST 5u
#define QUERY_RUN_GAP   (USEC_PER_SEC / 4) /* the next call begins so soon after the end of the last one */

/* Its client made a call that began and ended then. How many calls are now known to be in a loop: 0, QUERY_RUN_LEAST
 * when it becomes one, then 1 each time. */
static inline uint32_t query_run_call(struct query_run *run, uint64_t fingerprint, usec_t began, usec_t ended)
{
	bool goes_on = run->fingerprint == fingerprint && began >= run->ended && began - run->ended <= QUERY_RUN_GAP;

	run->fingerprint = fingerprint;
	run->ended = ended;
	run->count = goes_on && run->count < UINT32_MAX ? run->count + 1 : 1;
	return run->count < QUERY_RUN_LEAST ? 0 : run->count == QUERY_RUN_LEAST ? QUERY_RUN_LEAST : 1;
}

/* A call that counts for nothing and yet takes time: BEGIN, COMMIT. The loop goes on behind it. */
static inline void query_run_pass(struct query_run *run, usec_t began, usec_t ended)
{
	if (began >= run->ended && began - run->ended <= QUERY_RUN_GAP)
		run->ended = ended;
}

/* ---- reading ---- */

/*
 * Shows some entries, from bucket `from` on (at first 0); none is shown twice while t->serial stays. Where to go on; 0:
 * these were the last. It looks at no more than `most` entries and a bucket's, and at so many thousand buckets.
 */
uint32_t query_table_walk(const struct query_table *t, uint32_t from, uint32_t most,
			  void (*each)(const struct query_entry *e, void *to), void *to);

static inline const char *query_database(const struct query_entry *e)
{
	return e->strings + e->database_at;
}

static inline const char *query_user(const struct query_entry *e)
{
	return e->strings + e->user_at;
}

/* Adds what another table has of it. 0 or -ENOMEM. */
int query_table_merge(struct query_table *t, const struct query_entry *other) MUST_USE;
/* The time within which that share of the calls (0 to 1) was over, microseconds. */
double query_numbers_quantile(const struct query_numbers *n, double share);

#endif
