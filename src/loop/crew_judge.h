/*
 * How many threads a load needs. Pure: what was measured goes in, with what was seen before; a number of threads
 * comes out.
 *
 * A thread whose waits each bring many events is late for all of them: their owners are served one after the other.
 * One whose waits bring few would only be woken more often, and links would move between workers, if its loops were
 * divided among two. So threads double when one is late or busy, and halve when all together would not be either; if
 * that was wrong, the next time it takes twice as long until it is tried.
 *
 * More threads are of use only where cores are left for them: a split is on trial (trial.h), and undone when no more
 * work was done by it.
 */
#ifndef LOOP_CREW_JUDGE_H
#define LOOP_CREW_JUDGE_H

#include "loop/trial.h"

struct crew_window {                    /* of the active threads, since the last look */
	uint32_t batch_most, batch_sum; /* tenths of events that a wait brings: of the most loaded thread, of all */
	uint32_t busy_most, busy_sum;   /* CPU time, per cent of a core */
	uint64_t work;                  /* of all */
	usec_t length;
};

struct crew_memory {           /* all zero at first */
	uint32_t late_windows; /* in a row */
	usec_t calm_since;     /* 0: it is not calm */
	usec_t calm_needed;    /* until threads are parked; 0: the least */
	usec_t joined_at;      /* 0: not since the last split */
	struct trial trial;    /* of the last split, */
	uint32_t split_from;   /* and how many threads there were before it */
};

/* How many threads shall be active from now on: 1..most. */
typedef uint32_t crew_judge_function(struct crew_memory *memory, const struct crew_window *window, usec_t now,
				     uint32_t active, uint32_t most);
crew_judge_function crew_judge;
/* A split is on trial. */
bool crew_judge_tries(const struct crew_memory *memory);

#endif
