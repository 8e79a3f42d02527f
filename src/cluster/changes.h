/*
 * A number that becomes another one whenever something changes that decides where reads may go: the topology, the
 * health, lag, position or share of a node, a circuit breaker, what is known of a database's schema, the pools there
 * are. So that whoever has concluded something from all of them has one thing to look at before he goes by it again.
 *
 * What hangs on the time alone (a node's slow start, when something is to be read again) is not told.
 */
#ifndef CLUSTER_CHANGES_H
#define CLUSTER_CHANGES_H

#include "base/common.h"

#include <stdalign.h>
#include <stdatomic.h>

struct changes { /* alone in its cache line: all workers look at it with each query */
	alignas(64) _Atomic uint64_t number;
};

extern struct changes changes_told;

/* Any thread, behind the change. */
void changes_tell(void);

/* To be read before what is concluded from. */
static inline uint64_t changes_now(void)
{
	return atomic_load_explicit(&changes_told.number, memory_order_acquire);
}

#endif
