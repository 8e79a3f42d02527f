/* See breaker_window.h. */
#include "route/breaker_window.h"

#define USUAL_HALF_LIFE (600.0 * USEC_PER_SEC) /* of what is learned */
#define LN_2            0.6931

static struct breaker_counts difference(const struct breaker_counts *now, const struct breaker_counts *before)
{
	return (struct breaker_counts){
		.calls = now->calls - before->calls,
		.failures = now->failures - before->failures,
		.slow = now->slow - before->slow,
	};
}

/* 0: the newest. */
static struct breaker_sample *sample_at(const struct breaker_window *w, uint32_t back)
{
	return &((struct breaker_window *)(uintptr_t)w)->samples[(w->first + w->count - 1 - back) % BREAKER_SAMPLES];
}

void breaker_window_begin(struct breaker_window *w, usec_t now, const struct breaker_counts *counts)
{
	w->first = 0;
	w->count = 1;
	w->samples[0] = (struct breaker_sample){.at = now, .counts = *counts};
	w->usual_at = now;
	w->usual_counts = *counts;
}

/*
 * Stretches begin in front of a failure. So that there is room for all that matters, the newest sample is overwritten
 * as long as there is no failure behind it, and it tells little more than the one before.
 */
static bool may_overwrite(const struct breaker_window *w, const struct breaker_settings *s,
			  const struct breaker_sample *fresh)
{
	const struct breaker_sample *last = sample_at(w, 0), *before = sample_at(w, 1);

	if (fresh->counts.failures > last->counts.failures &&
	    fresh->counts.failures - before->counts.failures >= MAX(s->failure_threshold / 16, 1u))
		return false;
	return clock_since(before->at, fresh->at) < s->window / (BREAKER_SAMPLES / 2);
}

void breaker_window_add(struct breaker_window *w, const struct breaker_settings *s, usec_t now,
			const struct breaker_counts *counts, bool failed)
{
	struct breaker_sample fresh = {.at = now, .counts = *counts};

	if (failed && fresh.counts.failures > sample_at(w, 0)->counts.failures) {
		fresh.counts.calls--;
		fresh.counts.failures--;
	}
	if (w->count >= 2 && may_overwrite(w, s, &fresh)) {
		*sample_at(w, 0) = fresh;
		return;
	}
	if (w->count == BREAKER_SAMPLES)
		w->first = (w->first + 1) % BREAKER_SAMPLES;
	else
		w->count++;
	*sample_at(w, 0) = fresh;
}

/* More than threshold and, when adaptive, clearly more than what usually fails of so many calls: by three times the
 * square root of that, which chance alone hardly reaches. */
static bool is_many(const struct breaker_window *w, const struct breaker_settings *s, const struct breaker_counts *d)
{
	double usual = s->adaptive ? w->usual * (double)d->calls : 0;
	double above = (double)d->failures - s->failure_threshold - usual;

	return above >= 0 && above * above >= 9 * usual;
}

static enum breaker_verdict judge_stretch(const struct breaker_window *w, const struct breaker_settings *s,
					  const struct breaker_counts *d)
{
	if (is_many(w, s, d) && d->failures * 100 >= (uint64_t)s->failure_rate * d->calls)
		return VERDICT_FAILS;
	if (s->slow_rate && d->calls >= MAX(s->minimum_calls, 1u) && d->slow * 100 >= (uint64_t)s->slow_rate * d->calls)
		return VERDICT_SLOW;
	return VERDICT_WELL;
}

enum breaker_verdict breaker_window_judge(const struct breaker_window *w, const struct breaker_settings *s, usec_t now,
					  const struct breaker_counts *counts)
{
	for (uint32_t i = 0; i < w->count && clock_since(sample_at(w, i)->at, now) <= s->window; i++) {
		struct breaker_counts d = difference(counts, &sample_at(w, i)->counts);
		enum breaker_verdict verdict = judge_stretch(w, s, &d);

		if (verdict != VERDICT_WELL)
			return verdict;
		if (s->window_calls && d.calls >= s->window_calls)
			break;
	}
	return VERDICT_WELL;
}

struct breaker_counts breaker_window_counts(const struct breaker_window *w, const struct breaker_settings *s,
					    usec_t now, const struct breaker_counts *counts)
{
	struct breaker_counts d = {0};

	for (uint32_t i = 0; i < w->count && clock_since(sample_at(w, i)->at, now) <= s->window; i++)
		d = difference(counts, &sample_at(w, i)->counts);
	return d;
}

void breaker_window_learn(struct breaker_window *w, usec_t now, const struct breaker_counts *counts)
{
	struct breaker_counts d = difference(counts, &w->usual_counts);
	double weight = MIN((double)clock_since(w->usual_at, now) * LN_2 / USUAL_HALF_LIFE, 1.0);

	if (d.calls)
		w->usual += ((double)d.failures / (double)d.calls - w->usual) * weight;
	w->usual_at = now;
	w->usual_counts = *counts;
}
