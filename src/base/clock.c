/* See clock.h. */
#include "base/clock.h"

#include <stdatomic.h>
#include <time.h>

__thread usec_t clock_cached;
static _Atomic usec_t advanced;

usec_t clock_update(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	clock_cached = (usec_t)ts.tv_sec * USEC_PER_SEC + (usec_t)ts.tv_nsec / 1000 +
		       atomic_load_explicit(&advanced, memory_order_relaxed);
	return clock_cached;
}

uint64_t clock_wall(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / 1000;
}

void clock_advance(usec_t by)
{
	atomic_fetch_add(&advanced, by);
}
