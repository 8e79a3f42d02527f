/* See balance.h. */
#include "route/balance.h"

#include <math.h>

#define LATENCY_HALF_LIFE (10 * USEC_PER_SEC)

_Static_assert(BALANCE_MAX <= 64, "sets of candidates are the bits of a number");

const char *balance_reason_text(enum balance_reason reason)
{
	static const char *const texts[] = {
#define X(name, text) text,
		BALANCE_REASONS(X)
#undef X
	};

	return texts[reason];
}

struct balance_settings balance_settings_of(const struct config *config)
{
	const struct config_load_balancer *c = &config->load_balancer;

	return (struct balance_settings){
		.strategy = c->read_strategy,
		.primary_reads = c->primary_reads,
		.spill_links = c->zone_spill_connections,
		.latency_threshold = (uint32_t)MIN(c->latency_threshold, UINT32_MAX),
	};
}

/* ---- sets of candidates ---- */

#define EACH(i, set) (uint32_t i = 0; i < BALANCE_MAX && (set) >> i; i++)
#define HAS(set, i)  ((set) >> (i)&1)
#define ONE(i)       (UINT64_C(1) << (i))

/* Weights are at most a million, so with their ramp they fit into 30 bits. */
static uint64_t weight_of(const struct balance_candidate *c)
{
	return MAX((uint64_t)c->weight * MIN(c->ramp, BALANCE_FULL), 1u);
}

static uint64_t select_by(const struct balance_candidate *c, uint64_t set,
			  bool (*fits)(const struct balance_candidate *c))
{
	uint64_t selected = 0;

	for
		EACH(i, set)
	if (HAS(set, i) && fits(&c[i]))
		selected |= ONE(i);
	return selected;
}

static bool has_weight(const struct balance_candidate *c)
{
	return c->weight > 0;
}

static bool is_primary(const struct balance_candidate *c)
{
	return c->primary;
}

static bool is_local(const struct balance_candidate *c)
{
	return c->local;
}

/* Those whose zone is the own one; all, if there is none of them, or each has as many links in use as it may. */
static uint64_t within_zone(const struct balance_settings *s, const struct balance_candidate *c, uint64_t set,
			    enum balance_reason *reason)
{
	uint64_t local = select_by(c, set, is_local);
	bool busy = s->spill_links > 0;

	if (local == set)
		return set;
	for
		EACH(i, local)
	if (HAS(local, i) && c[i].active < s->spill_links)
		busy = false;
	*reason = !local || busy ? BALANCE_OTHER_ZONE : BALANCE_OWN_ZONE;
	return !local || busy ? set : local;
}

static uint64_t fast_ones(const struct balance_settings *s, const struct balance_candidate *c, uint64_t set)
{
	uint64_t fast = 0;

	for
		EACH(i, set)
	if (HAS(set, i) && c[i].latency <= s->latency_threshold)
		fast |= ONE(i);
	return s->latency_threshold && fast ? fast : set;
}

/* ---- strategies; the set is not empty ---- */

/* xorshift64*: good enough to spread reads, and a handful of instructions. */
static uint64_t next_random(struct balance_state *state)
{
	uint64_t x = state->random ? state->random : UINT64_C(0x9E3779B97F4A7C15);

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	state->random = x;
	return x * UINT64_C(0x2545F4914F6CDD1D);
}

static int pick_random(struct balance_state *state, const struct balance_candidate *c, uint64_t set)
{
	uint64_t total = 0, at;
	int last = -1;

	for
		EACH(i, set)
	if (HAS(set, i))
		total += weight_of(&c[i]);
	at = (next_random(state) >> 24) % total;
	for
		EACH(i, set)
		{
			if (!HAS(set, i))
				continue;
			last = (int)i;
			if (at < weight_of(&c[i]))
				break;
			at -= weight_of(&c[i]);
		}
	return last;
}

/*
 * Smooth weighted round robin: each gets its weight in credit, the richest one is chosen and pays what all have got. In
 * as many choices as the weights are together (over what divides them) each is chosen by its weight, and spread out.
 */
static int pick_in_turn(struct balance_state *state, const struct balance_candidate *c, uint64_t set)
{
	int64_t total = 0;
	int best = -1;

	for
		EACH(i, set)
		{
			int64_t *credit = &state->credit[c[i].slot % BALANCE_MAX];

			if (!HAS(set, i))
				continue;
			*credit += (int64_t)weight_of(&c[i]);
			total += (int64_t)weight_of(&c[i]);
			if (best < 0 || *credit > state->credit[c[best].slot % BALANCE_MAX])
				best = (int)i;
		}
	state->credit[c[best].slot % BALANCE_MAX] -= total;
	return best;
}

/* Is a less busy than b, by what each can carry? */
static bool is_less_busy(const struct balance_candidate *a, const struct balance_candidate *b)
{
	return (a->active + UINT64_C(1)) * weight_of(b) < (b->active + UINT64_C(1)) * weight_of(a);
}

/* Among those that are equally busy, in turn: else the first would have all of a light load. */
static int pick_least_busy(struct balance_state *state, const struct balance_candidate *c, uint64_t set)
{
	uint64_t equal = 0;
	int best = -1;

	for
		EACH(i, set)
		{
			if (!HAS(set, i))
				continue;
			if (best < 0 || is_less_busy(&c[i], &c[best])) {
				best = (int)i;
				equal = ONE(i);
			} else if (!is_less_busy(&c[best], &c[i])) {
				equal |= ONE(i);
			}
		}
	return pick_in_turn(state, c, equal);
}

/* What a request would take there, as far as one can tell: what is under way comes first. */
static uint64_t cost(const struct balance_candidate *c)
{
	return c->latency * (c->active + UINT64_C(1));
}

/* The better one of two that were drawn: the best of all would be flooded until its latency tells. */
static int pick_fast(struct balance_state *state, const struct balance_candidate *c, uint64_t set)
{
	int a = pick_random(state, c, set), b;

	if (set == ONE(a))
		return a;
	b = pick_random(state, c, set & ~ONE(a));
	return cost(&c[b]) < cost(&c[a]) ? b : a;
}

/* Two numbers as good as one by chance. */
static uint64_t mix(uint64_t a, uint64_t b)
{
	uint64_t x = a ^ (b * UINT64_C(0x9E3779B97F4A7C15));

	x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
	return x ^ (x >> 31);
}

/*
 * Rendezvous hashing: key and node together draw a number, and the least one wins, where a node of weight w draws as if
 * it were the least of w. Who wins depends on nobody else: a node that leaves loses its own keys, and one that comes
 * wins keys for itself alone.
 */
static int pick_by_key(const struct balance_state *state, const struct balance_candidate *c, uint64_t set)
{
	double least = 0;
	int best = -1;

	for
		EACH(i, set)
		{
			double chance, drawn;

			if (!HAS(set, i))
				continue;
			chance = ((double)(mix(state->key, c[i].id) >> 11) + 0.5) / (double)(UINT64_C(1) << 53);
			drawn = -log(chance) / (double)weight_of(&c[i]);
			if (best < 0 || drawn < least) {
				least = drawn;
				best = (int)i;
			}
		}
	return best;
}

static int pick(const struct balance_settings *s, struct balance_state *state, const struct balance_candidate *c,
		uint64_t set)
{
	switch (s->strategy) {
	case BALANCE_LEAST_CONNECTIONS:
		return pick_least_busy(state, c, set);
	case BALANCE_LATENCY:
		return pick_fast(state, c, fast_ones(s, c, set));
	case BALANCE_RANDOM:
		return pick_random(state, c, set);
	case BALANCE_HASH:
		return pick_by_key(state, c, set);
	case BALANCE_PRIMARY_ONLY:
	case BALANCE_ROUND_ROBIN:
		break;
	}
	return pick_in_turn(state, c, set);
}

/* Those that may have reads at all. */
static uint64_t readers(const struct balance_settings *s, const struct balance_candidate *c, uint64_t all,
			enum balance_reason *reason)
{
	uint64_t primary = select_by(c, all, is_primary), others = select_by(c, all & ~primary, has_weight);

	if (s->strategy == BALANCE_PRIMARY_ONLY && primary)
		others = 0;
	else if (s->primary_reads == PRIMARY_READS_EQUAL)
		others |= select_by(c, primary, has_weight);
	if (others)
		return others;
	*reason = BALANCE_PRIMARY;
	return s->primary_reads == PRIMARY_READS_NEVER && s->strategy != BALANCE_PRIMARY_ONLY ? 0 : primary;
}

int balance_choose(const struct balance_settings *s, struct balance_state *state, const struct balance_candidate *c,
		   uint32_t count, enum balance_reason *ret_reason)
{
	uint64_t all = count >= BALANCE_MAX ? UINT64_MAX : ONE(count) - 1, set;
	enum balance_reason reason = BALANCE_STRATEGY;
	int chosen = -1;

	set = readers(s, c, all, &reason);
	if (set)
		set = within_zone(s, c, set, &reason);
	if (set && reason == BALANCE_STRATEGY && (set & (set - 1)) == 0)
		reason = BALANCE_ONLY_ONE;
	if (set)
		chosen = pick(s, state, c, set);
	if (ret_reason)
		*ret_reason = set ? reason : BALANCE_NOBODY;
	return chosen;
}

/* ---- slow start, latency ---- */

uint32_t balance_ramp(usec_t since, usec_t now, usec_t slow_start)
{
	usec_t passed = clock_since(since, now);

	if (!since || passed >= slow_start)
		return BALANCE_FULL;
	return MAX((uint32_t)(passed * BALANCE_FULL / slow_start), BALANCE_FULL / 16);
}

uint32_t balance_latency(uint32_t kept, usec_t measured)
{
	uint32_t m = (uint32_t)MIN(MAX(measured, 1u), UINT32_MAX / 2);

	if (!kept)
		return m;
	return MAX((uint32_t)((kept * UINT64_C(7) + m) / 8), 1u);
}

uint32_t balance_latency_aged(uint32_t kept, usec_t unused)
{
	usec_t halves = unused / LATENCY_HALF_LIFE;

	return kept && halves < 32 ? MAX(kept >> halves, 1u) : MIN(kept, 1u);
}
