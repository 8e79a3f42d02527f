/* See spin_judge.h. The numbers: docs/performance.md says what they were measured by. */
#include "loop/spin_judge.h"

#define LONGEST_WINDOW (60 * USEC_PER_MSEC) /* a longer one had a pause in it */
#define LOST           10u                  /* per cent of the time: the core is needed by others */
#define LEAST_WAITS    20u
#define SOON           75u /* per cent of the waits */
#define FEW            30u /* tenths of events that a wait brings: with more it is the thread that others wait for */

/* 20 ms a window: what is tried in vain costs some 50 ms of spinning, at first every two seconds. */
static const struct trial_rules rules = {
	.windows = 1,
	.wins = 4,
	.losses = 2,
	.gain = 8,
	.hold = 3 * USEC_PER_SEC,
	.rest = 2 * USEC_PER_SEC,
	.rest_most = 60 * USEC_PER_SEC,
	.forget = USEC_PER_SEC,
};

static bool has_reason(const struct spin_window *w)
{
	return w->length <= LONGEST_WINDOW && w->waits >= LEAST_WAITS && w->soon * 100 >= w->waits * SOON &&
	       w->events * 10 <= w->waits * FEW;
}

bool spin_judge(struct trial *trial, const struct spin_window *w, usec_t now)
{
	const struct trial_window window = {.work = w->work, .length = w->length, .wanted = has_reason(w)};

	if (w->lost * 100 > w->length * LOST && trial->phase >= TRIAL_WITH) {
		trial_lose(trial, &rules, now);
		return false;
	}
	return trial_step(trial, &rules, &window, now) && window.wanted;
}
