/*
 * Prepared statements. An identity is a query's text with its parameter types (and what of the session
 * can change its result's shape), hashed with a secret of this process to 128 bits. At a server a statement
 * is called by its identity, so every client's own name for it, on whatever server connection, leads to the
 * same place. What a server connection has prepared is a bounded set of identities, the least recently used
 * of which goes first.
 */
#ifndef LINK_STATEMENTS_H
#define LINK_STATEMENTS_H

#include "base/list.h"

struct statement_id {
	uint64_t high, low;
};

#define STATEMENT_NAME_SIZE 26u /* "hp_" + 22 characters + NUL */

static inline bool statement_id_equal(struct statement_id a, struct statement_id b)
{
	return a.high == b.high && a.low == b.low;
}

/* sql: text and parameter types, i.e. the body of the Parse behind the name. salt: of the session's state. */
struct statement_id statement_id_make(struct slice sql, uint64_t salt);
/* The name at the server: NUL-terminated, STATEMENT_NAME_SIZE bytes with the NUL. */
void statement_id_name(struct statement_id id, char name[STATEMENT_NAME_SIZE]);

/* The set of a server connection. */
struct statement_set {
	struct prepared **buckets;
	uint32_t bucket_count, count;
	struct list used; /* most recently used first */
};

void statement_set_init(struct statement_set *set);
void statement_set_clear(struct statement_set *set);
/* Is it there? Then it is the most recently used now. */
bool statement_set_use(struct statement_set *set, struct statement_id id);
/* 0 or -ENOMEM. */
int statement_set_add(struct statement_set *set, struct statement_id id) MUST_USE;
/* The same for one that was prepared ahead of any use: it is the first to go. */
int statement_set_add_unused(struct statement_set *set, struct statement_id id) MUST_USE;
/* Those that were used since the last look, the most recently used first; no more than max. How many. */
uint32_t statement_set_look(struct statement_set *set, struct statement_id *ret_ids, uint32_t max);
void statement_set_remove(struct statement_set *set, struct statement_id id);
/* Takes the least recently used one out. false: empty. */
bool statement_set_evict(struct statement_set *set, struct statement_id *ret_id);

#endif
