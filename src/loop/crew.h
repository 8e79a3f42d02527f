/*
 * The threads that run a set of loops: as few as carry the load. Loop i has a thread of its own, thread i; with k
 * threads active, loop j is run by thread j % k, and the others are parked. What is in a loop stays there: only who
 * runs it changes, between two turns.
 */
#ifndef LOOP_CREW_H
#define LOOP_CREW_H

#include "loop/crew_judge.h"
#include "loop/loop.h"
#include "loop/spin_judge.h"

struct crew;

struct crew_counters {
	_Atomic uint32_t active; /* threads */
	_Atomic bool spins;      /* the one that is active, when it has nothing to do */
	_Atomic uint64_t splits, joins;
};

/* Starts a thread for each loop, named `name`-0 and so on. judge says how many are active (crew_judge(), but for
 * tests); NULL: all, for good. 0 or -errno. The array is copied. */
int crew_start(struct loop *const *loops, uint32_t count, crew_judge_function *judge, const char *name,
	       struct crew **ret_crew) MUST_USE;
/* Ends the threads after their turn; the loops are the caller's again. NULL is fine. */
void crew_stop(struct crew *crew);
const struct crew_counters *crew_counters(const struct crew *crew);
/* The thread that is active alone may ask again and again for so long before it sleeps, when judge says that it pays
 * (spin_judge(), but for tests). 0: never, as at first. Any thread. */
void crew_let_spin(struct crew *crew, usec_t at_most, spin_judge_function *judge);
/* For tests: so many threads are active from now on; 0: as the load asks for. Any thread. -ENOTSUP: it is fixed. */
int crew_force(struct crew *crew, uint32_t threads) MUST_USE;

#endif
