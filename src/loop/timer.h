/*
 * Timers of one loop. Setting a timer that is already set to a later time costs one
 * store: the wheel finds out when it gets there. Resolution: 10 ms, never early.
 */
#ifndef LOOP_TIMER_H
#define LOOP_TIMER_H

#include "base/clock.h"
#include "base/list.h"

struct timer {
	struct list node; /* in a slot of the wheel; alone when not set */
	usec_t deadline;  /* USEC_NEVER: not set */
	usec_t slot_time; /* when the wheel will look at it */
	void (*expired)(struct timer *timer);
	bool always; /* the owner may set: it runs in a frozen wheel, too */
};

struct timer_wheel;

struct timer_wheel *timer_wheel_new(usec_t now);
void timer_wheel_free(struct timer_wheel *wheel);
void timer_init(struct timer *timer, void (*expired)(struct timer *timer));
void timer_set(struct timer_wheel *wheel, struct timer *timer, usec_t deadline);
void timer_cancel(struct timer *timer); /* not set: nothing happens */
static inline bool timer_is_set(const struct timer *t)
{
	return t->deadline != USEC_NEVER;
}
/* Time stands still for those that are set, or will be, but for those that run always. Frozen already: nothing happens.
 */
void timer_wheel_freeze(struct timer_wheel *wheel);
/* And goes on: what is left of their time is no less than it was, for all are put off by as long as it stood still. */
void timer_wheel_thaw(struct timer_wheel *wheel, usec_t stood_still);
/* Runs what has expired; a callback may set and cancel any timer, its own too. */
void timer_wheel_run(struct timer_wheel *wheel, usec_t now);
/* Microseconds from now until the wheel must run again; USEC_NEVER when no timer is set. Where the
 * next timer was cancelled it may be too early, once: finding out would cost more than looking. */
usec_t timer_wheel_next(const struct timer_wheel *wheel, usec_t now);

#endif
