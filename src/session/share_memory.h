/*
 * What is known of texts: are they pure reads, and how long do they take at the server? By a hash of the text's shape
 * or of the statement's identity, a bounded number of them; a text that lost its place is learned anew.
 */
#ifndef SESSION_SHARE_MEMORY_H
#define SESSION_SHARE_MEMORY_H

#include "base/clock.h"
#include "base/common.h"

struct share_memory;

enum share_verdict {
	SHARE_NEVER, /* on a link of its own */
	SHARE_ALONE, /* on a lane with nobody behind it: to be measured */
	SHARE_YES,
};

struct share_memory *share_memory_new(void); /* NULL: out of memory */
void share_memory_free(struct share_memory *m);

/* The key of a simple query's text. */
uint64_t share_key(struct slice sql);
/* sql: read only when the key is new. max_cost: microseconds, of the mean. runs: what must be known of it before it is
 * shared, at least 1. */
enum share_verdict share_judge(struct share_memory *m, uint64_t key, struct slice sql, usec_t max_cost, uint32_t runs);
/* One of it took so long at the server. */
void share_learn(struct share_memory *m, uint64_t key, usec_t cost);

#endif
