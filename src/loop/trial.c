/* See trial.h. */
#include "loop/trial.h"

static void begin_half(struct trial *t, enum trial_phase phase)
{
	t->phase = phase;
	t->windows = 0;
	t->work = 0;
	t->time = 0;
}

static void begin(struct trial *t)
{
	t->wins = t->losses = 0;
	begin_half(t, TRIAL_WITHOUT);
}

static void rest(struct trial *t, usec_t now, usec_t length)
{
	t->phase = TRIAL_RESTING;
	t->until = now + length;
}

static void keep(struct trial *t, usec_t now, const struct trial_rules *rules)
{
	t->phase = TRIAL_KEPT;
	t->until = rules->hold == USEC_NEVER ? USEC_NEVER : now + rules->hold;
	t->rest = 0;
}

void trial_lose(struct trial *t, const struct trial_rules *rules, usec_t now)
{
	t->rest = t->rest ? MIN(2 * t->rest, rules->rest_most) : rules->rest;
	rest(t, now, t->rest);
}

static uint64_t rate_of(const struct trial *t)
{
	return t->work * USEC_PER_SEC / MAX(t->time, (usec_t)1);
}

static void end_pair(struct trial *t, usec_t now, const struct trial_rules *rules)
{
	if (rate_of(t) * 100 >= t->rate * (100 + rules->gain))
		t->wins++;
	else
		t->losses++;
	if (t->wins >= rules->wins)
		keep(t, now, rules);
	else if (t->losses >= rules->losses)
		trial_lose(t, rules, now);
	else
		begin_half(t, TRIAL_WITHOUT);
}

static void measure(struct trial *t, const struct trial_rules *rules, const struct trial_window *w, usec_t now)
{
	if (t->windows++ >= rules->settling) {
		t->work += w->work;
		t->time += w->length;
	}
	if (t->windows < rules->windows)
		return;
	if (t->phase == TRIAL_WITH) {
		end_pair(t, now, rules);
		return;
	}
	t->rate = rate_of(t);
	begin_half(t, TRIAL_WITH);
}

bool trial_step(struct trial *t, const struct trial_rules *rules, const struct trial_window *w, usec_t now)
{
	if (w->wanted && now - t->wanted_at >= rules->forget)
		*t = (struct trial){0};
	if (w->wanted)
		t->wanted_at = now;
	if (t->phase == TRIAL_WITHOUT || t->phase == TRIAL_WITH) {
		if (w->wanted)
			measure(t, rules, w, now);
		else
			rest(t, now,
			     rules->rest); /* not at once: it may be the change itself that ends the reason for it */
	} else if (w->wanted && now >= t->until) {
		begin(t);
	}
	return t->phase >= TRIAL_WITH;
}
