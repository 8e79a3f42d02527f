/*
 * Whether a thread that has nothing to do for a moment shall ask again and again for a while (spin) before it sleeps.
 * Pure, as crew_judge.h: what was measured goes in, with what was seen before.
 *
 * To be woken takes longer than what a lone client, or its server, needs to answer. But a thread that does not sleep
 * takes a core, which others may need more: so it spins only while what it waits for comes soon, and few wait for it,
 * and only where a trial says that more work is done by it.
 */
#ifndef LOOP_SPIN_JUDGE_H
#define LOOP_SPIN_JUDGE_H

#include "loop/trial.h"

struct spin_window { /* of the one thread that is active, since the last look */
	uint64_t work;
	uint64_t events, waits;
	usec_t lost;   /* others had the core while it spun */
	uint64_t soon; /* turns that came within twice the longest spin after the one before: to be woken takes time */
	usec_t length;
};

/* True: it shall spin from now on. The trial is all that is remembered. */
typedef bool spin_judge_function(struct trial *trial, const struct spin_window *window, usec_t now);
spin_judge_function spin_judge;

#endif
