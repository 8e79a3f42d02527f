/* See limiter.h. */
#include "pool/limiter.h"

#define WINDOW_LEAST  (100 * USEC_PER_MSEC)
#define WINDOW_MOST   (1000 * USEC_PER_MSEC)
#define WINDOW_LATE   (3 * WINDOW_MOST) /* nobody used the pool for a while: it says nothing */
#define DONE_ENOUGH   100u              /* in a window */
#define DONE_LEAST    20u
#define USES_A_WINDOW 8u   /* a window lasts as long as so many uses, so that links parked or taken up hardly matter */
#define DISTURBED     0.25 /* both windows of the same limit differ by so much of their mean: others use the machine */
#define LOSS_ALLOWED  0.02 /* of what is done in a second, for a lower limit */
#define SAVING_WANTED \
	0.4             /* of what each use would be shorter by if the server were all that is short, for a lower one */
#define GAIN_WANTED 0.4 /* of what it would be if each link did as much as before, for a higher one */
#define REST_LEAST  4u
#define REST_MOST   32u

void limiter_init(struct limiter *limiter, uint32_t limit)
{
	*limiter = (struct limiter){.limit = limit};
}

bool limiter_is_due(const struct limiter *limiter, const struct limiter_sample *sample)
{
	usec_t least = MAX(WINDOW_LEAST, MIN(limiter->usual * USES_A_WINDOW, WINDOW_MOST));

	return sample->length >= WINDOW_MOST || (sample->length >= least && sample->done >= DONE_ENOUGH);
}

usec_t limiter_long_use(const struct limiter *limiter)
{
	return MIN(MAX(limiter->usual * 4, LIMITER_LONG_LEAST), LIMITER_LONG_MOST);
}

static uint32_t within(uint32_t limit, uint32_t least, uint32_t most)
{
	return MAX(MIN(limit, most), least);
}

/* ---- trials ---- */

static void rest(struct limiter *l)
{
	uint32_t rounds = l->failures / 2;

	l->rest = rounds > 3 ? REST_MOST : REST_LEAST << (rounds - 1);
	l->usual_then = l->usual;
}

/* Neither way pays: then later, and ever more rarely. */
static void did_not_pay(struct limiter *l)
{
	l->failures += l->saturated ? 1 : 2; /* with nobody waiting there is but one way */
	l->upwards = l->saturated && !l->upwards;
	if (l->failures % 2 == 0)
		rest(l);
}

static void accept(struct limiter *l)
{
	l->limit = l->trial;
	l->failures = 0;
	l->before = l->during;
}

static bool pays(const struct limiter *l, const struct limiter_pace *before, double loss_allowed)
{
	double more = (double)l->trial / l->from - 1;

	if (l->upwards)
		return l->during.rate >= before->rate * (1 + more * GAIN_WANTED);
	return l->during.rate >= before->rate * (1 - loss_allowed) &&
	       l->during.duration <= before->duration * (1 + more * SAVING_WANTED);
}

static void judge(struct limiter *l, const struct limiter_pace *after)
{
	struct limiter_pace mean = {(l->before.rate + after->rate) / 2, (l->before.duration + after->duration) / 2};
	double difference = l->before.rate - after->rate;

	if (MAX(difference, -difference) <= DISTURBED * mean.rate) {
		if (pays(l, &mean, LOSS_ALLOWED)) {
			accept(l);
			return;
		}
		did_not_pay(l);
	}
	l->before = *after;
}

/* Twice as many, or a quarter less. */
static bool choose(struct limiter *l, uint32_t in_use, uint32_t least, uint32_t most)
{
	l->from = l->saturated ? l->limit : MIN(l->limit, in_use + 1);
	if (!l->upwards && l->from <= least)
		return false;
	l->trial = within(l->upwards ? l->from * 2 : l->from - MAX(l->from / 4, 1u), least, most);
	return l->trial != l->limit;
}

/* What is in force for the next window. */
static uint32_t try_next(struct limiter *l, uint32_t in_use, uint32_t least, uint32_t most)
{
	l->phase = LIMITER_BEFORE;
	for (int ways = 0; ways < 2 && l->rest == 0; ways++) {
		if (choose(l, in_use, least, most)) {
			l->phase = LIMITER_DURING;
			return l->trial;
		}
		did_not_pay(l);
	}
	l->rest -= l->rest > 0;
	return l->limit;
}

/* ---- what a window says ---- */

static void give_up(struct limiter *l)
{
	l->phase = LIMITER_BEFORE;
}

/* Something is other than it was when trials were found not to pay. */
static void begin_anew(struct limiter *l, bool saturated)
{
	give_up(l);
	l->saturated = saturated;
	l->upwards = saturated;
	l->failures = l->rest = 0;
}

static bool usual_has_changed(const struct limiter *l)
{
	return l->rest > 0 && (l->usual > 2 * l->usual_then || l->usual_then > 2 * l->usual);
}

static double duration_of(const struct limiter_sample *sample)
{
	uint64_t counted = sample->done - MIN(sample->held, sample->done);

	return counted ? (double)sample->used / (double)counted : (double)LIMITER_LONG_MOST;
}

static void learn_usual(struct limiter *l, const struct limiter_sample *sample)
{
	usec_t mean = (usec_t)duration_of(sample);

	l->usual = l->usual ? (l->usual * 3 + mean) / 4 : mean;
}

static uint32_t raise_to(struct limiter *l, uint32_t limit, uint32_t least, uint32_t most)
{
	give_up(l);
	l->limit = within(limit, least, most);
	return l->limit;
}

uint32_t limiter_next(struct limiter *l, const struct limiter_sample *sample, uint32_t least, uint32_t most)
{
	bool saturated = sample->waited * 2 >= sample->done;
	uint32_t in_use = (uint32_t)(sample->used / MAX(sample->length, 1u));
	struct limiter_pace pace = {(double)sample->done / (double)MAX(sample->length, 1u), duration_of(sample)};

	l->limit = within(l->limit, least, most);
	if (sample->done < DONE_LEAST || sample->length > WINDOW_LATE) {
		give_up(l);
		return l->limit;
	}
	learn_usual(l, sample);
	if (sample->held * 2 >= sample->done) /* the limit can only be in the way of such uses */
		return raise_to(l, l->limit * 2, least, most);
	if (l->phase == LIMITER_DURING) {
		l->during = pace;
		/* of a higher limit it is not believed yet: others may just have stopped to use the machine */
		if (l->upwards || !pays(l, &l->before, 0)) {
			l->phase = LIMITER_AFTER;
			return l->limit;
		}
		accept(l);
		return try_next(l, in_use, least, most);
	}
	if (l->phase == LIMITER_AFTER) {
		judge(l, &pace);
		return try_next(l, in_use, least, most);
	}
	l->before = pace;
	if (saturated != l->saturated || usual_has_changed(l))
		begin_anew(l, saturated);
	if (!saturated && sample->waited * 20 > sample->done)
		return raise_to(l, l->limit + 1, least, most);
	return try_next(l, in_use, least, most);
}
