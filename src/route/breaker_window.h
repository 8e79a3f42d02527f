/*
 * What a circuit breaker knows of the last calls, and what it concludes: pure, from counts and times.
 *
 * A window holds sums as they were at times of the last `window`: calls, failures, slow calls since the start. The
 * difference of two of them is what happened between. A breaker opens when any stretch that ends now is bad enough: the
 * last 5 calls that all failed are as telling as 50 of the last 100, however many were good before.
 */
#ifndef ROUTE_BREAKER_WINDOW_H
#define ROUTE_BREAKER_WINDOW_H

#include "base/clock.h"
#include "base/common.h"

#define BREAKER_SAMPLES 64u

struct breaker_counts { /* since the start */
	uint64_t calls, failures, slow;
};

struct breaker_kind { /* what standbys of a kind have of their own; 0: what holds for all */
	uint32_t failure_threshold;
	usec_t open;
};

struct breaker_settings {
	bool enabled, adaptive;
	bool count_connection_errors, count_timeouts, ignore_transient;
	uint32_t failure_threshold; /* failures within the window that it takes at least */
	uint32_t failure_rate;      /* of a stretch's calls, in % */
	uint32_t slow_rate;         /* likewise; 0: slow calls do not matter */
	uint32_t minimum_calls;     /* of a stretch, before a rate of slow calls says anything */
	uint32_t window_calls;      /* a stretch is no longer than that; 0: only the window bounds it */
	uint32_t success_threshold; /* good probes in a row that close it */
	uint32_t max_probes;        /* at the same time */
	usec_t window, open, slow_threshold, timeout;
	struct breaker_kind sync, semisync, async; /* by what the primary says of them */
};

struct breaker_sample {
	usec_t at;
	struct breaker_counts counts;
};

struct breaker_window {
	struct breaker_sample samples[BREAKER_SAMPLES]; /* a ring */
	uint32_t first, count;
	double usual;    /* share of calls that fail usually, for adaptive */
	usec_t usual_at; /* when that was last looked at, and the sums then */
	struct breaker_counts usual_counts;
};

enum breaker_verdict { VERDICT_WELL, VERDICT_FAILS, VERDICT_SLOW };

/* From these sums on; what was before is forgotten. */
void breaker_window_begin(struct breaker_window *w, usec_t now, const struct breaker_counts *counts);
/* The sums are these now. failed: a call has just failed, and is in them. Which sums are kept is its own business. */
void breaker_window_add(struct breaker_window *w, const struct breaker_settings *s, usec_t now,
			const struct breaker_counts *counts, bool failed);
enum breaker_verdict breaker_window_judge(const struct breaker_window *w, const struct breaker_settings *s, usec_t now,
					  const struct breaker_counts *counts);
/* What of the window is there: for people. */
struct breaker_counts breaker_window_counts(const struct breaker_window *w, const struct breaker_settings *s,
					    usec_t now, const struct breaker_counts *counts);
/* Learns what share of calls fails usually; while the breaker is closed, once a second or so. */
void breaker_window_learn(struct breaker_window *w, usec_t now, const struct breaker_counts *counts);

#endif
