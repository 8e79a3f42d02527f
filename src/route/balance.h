/*
 * Which of several nodes is to have the next read. Pure: a choice among candidates, by a strategy and the state of one
 * worker. Who is a candidate at all (up, recent enough, not draining, its breaker lets calls through) others have
 * decided.
 *
 * In this order:
 *   1. weight 0 is out; so is the primary, unless it may read as well (primary_reads) or nobody else is left
 *   2. of the own zone, unless there is none, or each of them has spill_links links in use
 *   3. with `latency`: none that is slower than the threshold, unless all are
 *   4. the strategy, by weights; a node that has just come (back) has a smaller one for a while
 */
#ifndef ROUTE_BALANCE_H
#define ROUTE_BALANCE_H

#include "base/clock.h"
#include "base/common.h"
#include "config/config.h"

#define BALANCE_MAX  64u   /* candidates; more are not looked at */
#define BALANCE_FULL 1024u /* ramp of a node that has been there for long */

struct node;

struct balance_candidate {
	struct node *node; /* who it is; not looked into here */
	uint32_t slot;     /* < BALANCE_MAX, the same for the same node from choice to choice: its place in the list */
	uint32_t weight;
	uint32_t ramp;    /* of BALANCE_FULL: balance_ramp() */
	uint32_t active;  /* links in use */
	uint32_t latency; /* microseconds: balance_latency(); 0: not known */
	uint64_t id;      /* with hash: the same for the same node in every proxy */
	bool local, primary;
};

struct balance_settings { /* of [load_balancer] */
	enum balance_strategy strategy;
	enum primary_reads primary_reads;
	uint32_t spill_links;       /* 0: other zones only when the own one has nobody */
	uint32_t latency_threshold; /* microseconds; 0: none */
};

struct balance_state { /* of one worker; zero is fine */
	uint64_t random;
	uint64_t key;                /* with hash: of whoever asks */
	int64_t credit[BALANCE_MAX]; /* of round_robin, by slot */
};

/* X(name, text): why this one, for people. */
#define BALANCE_REASONS(X) \
	X(NOBODY, "no node may have it") \
	X(STRATEGY, "by the strategy") \
	X(ONLY_ONE, "the only one") \
	X(OWN_ZONE, "by the strategy, within the own zone") \
	X(OTHER_ZONE, "the own zone has nobody, or is busy") \
	X(PRIMARY, "there is none but the primary")

enum balance_reason {
#define X(name, text) BALANCE_##name,
	BALANCE_REASONS(X)
#undef X
};

/* An index of candidates, or -1: nobody. ret_reason may be NULL. */
int balance_choose(const struct balance_settings *settings, struct balance_state *state,
		   const struct balance_candidate *candidates, uint32_t count, enum balance_reason *ret_reason);
const char *balance_reason_text(enum balance_reason reason);

struct balance_settings balance_settings_of(const struct config *config);

/* The share of its weight that a node has that came back at `since` (0: was always there): from a sixteenth up to
 * BALANCE_FULL, in proportion to the time. */
uint32_t balance_ramp(usec_t since, usec_t now, usec_t slow_start);

/*
 * Mean latency, of which what is younger counts more: a measurement weighs an eighth; of an age, less the longer ago
 * the last one was, so that a node that was slow once is tried again. `kept` is what was returned last; 0: nothing.
 */
uint32_t balance_latency(uint32_t kept, usec_t measured);
/* What is left of it when nothing was measured for so long: half every 10 s; it is never 0 then. */
uint32_t balance_latency_aged(uint32_t kept, usec_t unused);

#endif
