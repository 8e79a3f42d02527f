/*
 * How many links of a pool are to be in use at the same time. A server with fewer busy processes does more, until they
 * are too few to keep it busy; where that is depends on the server, the way there and the load, so it is tried out.
 * Pure: samples go in, a limit comes out.
 *
 * Time is cut into windows, and three of them make a trial: at the limit, at another one, at the limit again. What a
 * lower limit must keep, and by how much a higher one must raise it, is the number of uses that end in a second. So it
 * goes down where the server is what is short (as much is done by fewer, and each is done sooner), and up where links
 * only wait for something (each more does as much as each other does). Trials that do not pay become rarer, until the
 * load changes.
 *
 * While hardly anybody waits, a lower limit is tried all the same when that many links are in use; and where some wait
 * now and then, the limit gives way.
 */
#ifndef POOL_LIMITER_H
#define POOL_LIMITER_H

#include "base/clock.h"

/* A link that was lent for longer than usual does not count, see limiter_long_use(). */
#define LIMITER_LONG_LEAST (5 * USEC_PER_MSEC)
#define LIMITER_LONG_MOST  (50 * USEC_PER_MSEC)

struct limiter_sample {
	usec_t length;   /* of the window */
	uint64_t done;   /* uses of links that ended in it */
	uint64_t held;   /* of these, those that were so long that they did not count */
	uint64_t waited; /* uses that began in it for somebody who had waited */
	usec_t used;     /* sum of the durations of those that counted */
};

enum limiter_phase { LIMITER_BEFORE, LIMITER_DURING, LIMITER_AFTER };

struct limiter_pace {
	double rate;     /* uses that end in a microsecond */
	double duration; /* of each, on average */
};

struct limiter {
	uint32_t limit;       /* that was found to be good */
	uint32_t trial, from; /* trial is in force while phase is DURING; `from` links, or the limit, were before */
	enum limiter_phase phase;
	bool saturated;    /* somebody always waits */
	bool upwards;      /* the trial that is made, or the next one */
	uint32_t failures; /* trials in a row that did not pay */
	uint32_t rest;     /* windows until the next trial */
	struct limiter_pace before, during;
	usec_t usual, usual_then; /* how long a link is lent, on average, and was when the rest began; 0: not known */
};

void limiter_init(struct limiter *limiter, uint32_t limit);
/* The window is long enough to tell something; or it never will be. */
bool limiter_is_due(const struct limiter *limiter, const struct limiter_sample *sample);
/* A window has ended. What is in force from now on: least <= limit <= most (the least counts more). */
uint32_t limiter_next(struct limiter *limiter, const struct limiter_sample *sample, uint32_t least, uint32_t most);
/* A link that is lent for so long waits for something else than its turn at the server: a lock, a client that thinks,
 * a slow query. It does not count. */
usec_t limiter_long_use(const struct limiter *limiter);

#endif
