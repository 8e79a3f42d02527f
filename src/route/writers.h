/*
 * When somebody was last told that what he wrote is done: of each user, and of anybody, over all workers. For reads
 * that must not be older than what another session has written ([lag_routing] read_your_writes = "user", "global").
 *
 * A worker notes the time before a client can see an answer to what may write. Who reads afterwards sees that time or a
 * later one; so a position of the primary that was asked for after it (position.h) lies behind the write. Each worker
 * keeps the first such position it finds, for it stays right until somebody writes again; a later one would be harder
 * to reach for nothing.
 *
 * Users share cells by their names' hashes: who shares one with somebody who writes waits for that, too.
 */
#ifndef ROUTE_WRITERS_H
#define ROUTE_WRITERS_H

#include "cluster/position.h"

#define WRITERS_CELLS   256u
#define WRITERS_ANYBODY 0u /* the cell of whoever wrote last */

struct writers { /* zero: nobody has written anything */
	struct {
		_Atomic usec_t at;
		char apart[64 - sizeof(usec_t)]; /* from what others write */
	} cells[WRITERS_CELLS];
};

/* Of one worker, beside a cell: what a standby must have replayed. */
struct writers_known {
	usec_t at; /* of the writes that this is for */
	uint64_t lsn;
	uint32_t timeline;
};

/* Any thread. */
uint32_t writers_cell_of(const char *user);
void writers_note(struct writers *writers, uint32_t cell, usec_t at);
/* Nothing is known of what was written so far: it counts as written now. */
void writers_note_all(struct writers *writers, usec_t at);
usec_t writers_last(const struct writers *writers, uint32_t cell); /* 0: never */
/* Is it known where that is in the log, or does the primary's position tell it now? primary NULL: it has none. */
bool writers_settle(struct writers_known *known, usec_t last, const struct position *primary, uint32_t timeline);

#endif
