/* See crew_judge.h. The numbers: docs/architecture.md says what they were measured by. */
#include "loop/crew_judge.h"

#define LATE_BUSY    75u  /* of one thread: split */
#define LATE_BATCH   120u /* the same, if it is its work that makes others wait, */
#define LATE_AT_WORK 20u  /* and not the machine that stalls it */
#define LATE_WINDOWS 3u   /* fewer may be a stall of the machine */
#define CALM_BATCH   100u /* of each, had half as many all of it: join */
#define CALM_BUSY    65u  /* what two do costs a little less when one does it */

#define CALM_LEAST (200 * USEC_PER_MSEC)
#define CALM_MOST  (60 * USEC_PER_SEC)
#define REGRET     USEC_PER_SEC /* a split so soon after a join: the join was wrong */

/* 20 ms a window. What moved is measured once it has settled. */
static const struct trial_rules split_rules = {
	.windows = 10,
	.settling = 2,
	.wins = 1,
	.losses = 1,
	.gain = 5,
	.hold = 60 * USEC_PER_SEC,
	.rest = 2 * USEC_PER_SEC,
	.rest_most = 60 * USEC_PER_SEC,
	.forget = 5 * USEC_PER_SEC,
};

static bool is_late(const struct crew_window *w)
{
	return w->busy_most > LATE_BUSY || (w->batch_most > LATE_BATCH && w->busy_most > LATE_AT_WORK);
}

static uint32_t half(uint32_t active)
{
	return (active + 1) / 2;
}

static bool is_calm(const struct crew_window *w, uint32_t active)
{
	return w->batch_sum < CALM_BATCH * half(active) && w->busy_sum < CALM_BUSY * half(active);
}

static uint32_t split(struct crew_memory *m, usec_t now, uint32_t most)
{
	bool was_wrong = m->joined_at && now - m->joined_at < REGRET;

	m->calm_needed = was_wrong ? MIN(2 * m->calm_needed, CALM_MOST) : CALM_LEAST;
	m->late_windows = 0;
	m->joined_at = m->calm_since = 0;
	return MIN(2 * m->split_from, most);
}

static uint32_t join(struct crew_memory *m, usec_t now, uint32_t active)
{
	m->joined_at = now;
	m->calm_since = 0;
	m->late_windows = 0;
	m->trial = (struct trial){0};
	return half(active);
}

bool crew_judge_tries(const struct crew_memory *m)
{
	return m->trial.phase == TRIAL_WITHOUT || m->trial.phase == TRIAL_WITH;
}

/* What is late once more with a split that was kept needs another one. */
static uint32_t try_split(struct crew_memory *m, const struct crew_window *w, usec_t now, uint32_t active,
			  uint32_t most)
{
	bool late = active < most && m->late_windows >= LATE_WINDOWS;
	struct trial_window window = {.work = w->work, .length = w->length, .wanted = late};
	bool was_split, is_split;

	if (crew_judge_tries(m) || (m->trial.phase == TRIAL_KEPT && !late))
		window.wanted = !is_calm(w, active);
	else if (m->trial.phase == TRIAL_KEPT)
		m->trial = (struct trial){0};
	was_split = m->trial.phase >= TRIAL_WITH;
	if (!was_split && !crew_judge_tries(m))
		m->split_from = active;
	is_split = trial_step(&m->trial, &split_rules, &window, now);
	if (is_split && !was_split)
		return split(m, now, most);
	return is_split ? active : m->split_from;
}

uint32_t crew_judge(struct crew_memory *m, const struct crew_window *w, usec_t now, uint32_t active, uint32_t most)
{
	m->calm_needed = MAX(m->calm_needed, CALM_LEAST);
	m->late_windows = is_late(w) ? m->late_windows + 1 : 0;
	if (!is_calm(w, active))
		m->calm_since = 0;
	else if (!m->calm_since)
		m->calm_since = now;
	active = try_split(m, w, now, active, most);
	if (active > 1 && m->calm_since && now - m->calm_since >= m->calm_needed)
		return join(m, now, active);
	return active;
}
