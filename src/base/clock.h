/*
 * The one clock. Monotonic microseconds since an arbitrary start. Each thread
 * reads it once a turn of its loop (clock_update) and uses clock_now() within.
 * Tests move it forward with clock_advance(), so none has to wait for a time-out.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include "base/common.h"

typedef uint64_t usec_t;

#define USEC_PER_MSEC 1000ull
#define USEC_PER_SEC  1000000ull
#define USEC_NEVER    UINT64_MAX

/* Of the executable, not of a library that is loaded later: no call finds it. */
extern __thread usec_t clock_cached __attribute__((tls_model("initial-exec")));

/* Reads the clock and keeps it for this thread. */
usec_t clock_update(void);

/* What this thread read last; reads it when it never did. */
static inline usec_t clock_now(void)
{
	return likely(clock_cached != 0) ? clock_cached : clock_update();
}

/* The same, on a thread that has read it: any that has a loop. */
static inline usec_t clock_of_turn(void)
{
	return clock_cached;
}

/* How long ago it was, by times that different threads may have read: at is maybe a turn later than now. */
static inline usec_t clock_since(usec_t at, usec_t now)
{
	return now > at ? now - at : 0;
}

/* Is that less than so long after a time of this thread's? No, when it never read the clock. For the shortest of ways.
 */
static inline bool clock_is_within(usec_t at, usec_t period)
{
	return clock_cached - at < period;
}

/* Wall-clock microseconds since 1970-01-01 00:00 UTC; for logs and people only. */
uint64_t clock_wall(void);

/* For tests: all threads see a clock that is this much further on. Loops must be woken. */
void clock_advance(usec_t by);

#endif
