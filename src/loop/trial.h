/*
 * Whether a change pays. The work that is done without it and with it is measured in turns, and what brings more is
 * kept. Pure: work and time go in, with or without comes out.
 *
 *   RESTING --wanted--> WITHOUT --> WITH --enough pairs of these won--> KEPT --after a while--> WITHOUT
 *      ^                   ^---pair---'  --enough lost--> RESTING, for twice as long as the last time
 *      '--not wanted: no verdict--'
 *
 * Pairs, and not two long stretches: what changes the load itself, or the machine, is then in both halves alike.
 */
#ifndef LOOP_TRIAL_H
#define LOOP_TRIAL_H

#include "base/clock.h"

struct trial_rules {
	uint32_t windows;      /* of each half of a pair */
	uint32_t settling;     /* so many of them, the first, do not count */
	uint32_t wins, losses; /* pairs: what is reached first is the verdict */
	uint32_t gain;         /* per cent of more work: the least that wins a pair */
	usec_t hold;           /* what is kept is tried anew after this */
	usec_t rest, rest_most;
	usec_t forget; /* after so long without being wanted it is another load: nothing is known of it */
};

enum trial_phase { TRIAL_RESTING, TRIAL_WITHOUT, TRIAL_WITH, TRIAL_KEPT };

struct trial { /* all zero at first */
	enum trial_phase phase;
	uint32_t windows, wins, losses;
	uint64_t work; /* of this half, */
	usec_t time;   /* and how long it took */
	uint64_t rate; /* work a second of the half without */
	usec_t until;  /* it rests, or is kept */
	usec_t rest;   /* the last one; 0: it was not undone since it was kept */
	usec_t wanted_at;
};

struct trial_window {
	uint64_t work;
	usec_t length;
	bool wanted; /* there is a reason for the change */
};

/* A window is over. True: with the change from now on. */
bool trial_step(struct trial *trial, const struct trial_rules *rules, const struct trial_window *window, usec_t now);
/* Without it from now on, whatever the measurement says: as when it was lost. */
void trial_lose(struct trial *trial, const struct trial_rules *rules, usec_t now);

#endif
