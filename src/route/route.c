/* See route.h. */
#include "route/route.h"

#define CANDIDATES_MAX 64u

void route_rules_from(const struct config *config, struct route_rules *ret)
{
	*ret = (struct route_rules){
		.lag_matters = config->lag_routing.enabled,
		.own_writes = config->lag_routing.read_your_writes,
		.max_lag_bytes = config->lag_routing.max_lag_bytes,
		.max_lag = config->lag_routing.max_lag,
	};
}

/* ---- what a batch is ---- */

static bool begins_read_only(const struct access *a, bool read_only_session)
{
	return a->read_only == SAID_YES || (a->read_only == SAID_NOTHING && read_only_session);
}

bool route_opens_block(const struct access *access, bool read_only_session)
{
	return access->after == AFTER_OPEN && !begins_read_only(access, read_only_session);
}

void route_join(struct access *both, const struct access *next)
{
	if (next->level > both->level) {
		both->level = next->level;
		both->reason = next->reason;
	}
	if (next->after != AFTER_SAME)
		both->after = next->after;
	if (next->read_only != SAID_NOTHING)
		both->read_only = next->read_only;
	if (next->serializable != SAID_NOTHING)
		both->serializable = next->serializable;
	if (next->session_read_only != SAID_NOTHING)
		both->session_read_only = next->session_read_only;
	if (next->session_serializable != SAID_NOTHING)
		both->session_serializable = next->session_serializable;
	both->ties |= next->ties;
}

/* The reason for the kind that it is, whatever nodes there are. */
static enum route_reason kind_of(const struct route_ask *ask)
{
	const struct access *a = ask->access;

	if (!a)
		return ROUTE_NOT_UNDERSTOOD;
	if (ask->repeated)
		return ROUTE_REPEATED;
	if (a->level > ACCESS_READS || a->session_read_only != SAID_NOTHING || a->session_serializable != SAID_NOTHING)
		return ROUTE_WRITE;
	if (route_opens_block(a, ask->read_only))
		return ROUTE_TRANSACTION;
	if (a->level == ACCESS_FOLLOWS && a->after != AFTER_OPEN)
		return ROUTE_SESSION; /* SET, SHOW and their like: the primary is as good as any */
	if (ask->isolated && a->serializable == SAID_NOTHING)
		return ROUTE_SESSION;
	if (!ask->has_catalog)
		return ROUTE_NO_CATALOG;
	return a->after == AFTER_OPEN ? ROUTE_READ_ONLY : ROUTE_READ;
}

/* ---- which nodes there are for it ---- */

static bool is_near(const struct topology_node *n, const struct route_rules *rules)
{
	if (rules->max_lag_bytes &&
	    (n->lag_bytes == TOPOLOGY_LAG_NONE || (uint64_t)n->lag_bytes > rules->max_lag_bytes))
		return false;
	return !rules->max_lag || (n->lag_us != TOPOLOGY_LAG_NONE && (uint64_t)n->lag_us <= rules->max_lag);
}

/* Where the primary was at some time after the write; 0: not known yet. */
static uint64_t written_up_to(const struct topology *t, usec_t wrote_at)
{
	(void)t;
	(void)wrote_at;
	return 0;
}

void route_decide(const struct route_rules *rules, const struct topology *topology, const struct route_ask *ask,
		  struct route_turns *turns, struct route_choice *ret)
{
	const struct topology_node *candidates[CANDIDATES_MAX];
	uint32_t count = 0;
	uint64_t lsn = ask->lsn;
	bool own = rules->lag_matters && rules->own_writes && ask->wrote_at;

	*ret = (struct route_choice){.reason = kind_of(ask)};
	if (!route_reason_is_standby(ret->reason))
		return;
	for (uint32_t i = 0; i < topology->count && count < CANDIDATES_MAX; i++)
		if (topology_node_takes_reads(&topology->nodes[i]))
			candidates[count++] = &topology->nodes[i];
	if (count == 0) {
		ret->reason = ROUTE_NO_STANDBY;
		return;
	}
	if (rules->lag_matters) {
		uint32_t near = 0;

		for (uint32_t i = 0; i < count; i++)
			if (is_near(candidates[i], rules))
				candidates[near++] = candidates[i];
		count = near;
		if (count == 0) {
			ret->reason = ROUTE_LAG;
			return;
		}
	}
	if (own) {
		uint64_t written = written_up_to(topology, ask->wrote_at);

		lsn = written == 0 ? UINT64_MAX : MAX(lsn, written);
	}
	if (lsn) {
		uint32_t fit = 0;

		for (uint32_t i = 0; i < count; i++)
			if (candidates[i]->facts.replay_lsn >= lsn)
				candidates[fit++] = candidates[i];
		count = fit;
		if (count == 0) {
			ret->reason = ROUTE_OWN_WRITES;
			return;
		}
	}
	ret->node = candidates[turns->next++ % count]->node;
}

/* ---- for people ---- */

static const struct {
	const char *word, *text;
	bool standby;
} reasons[] = {
#define X(name, word, standby, meaning) {word, meaning, standby},
	ROUTE_REASONS(X)
#undef X
};

const char *route_reason_word(enum route_reason reason)
{
	return reasons[reason].word;
}

const char *route_reason_text(enum route_reason reason)
{
	return reasons[reason].text;
}

bool route_reason_is_standby(enum route_reason reason)
{
	return reasons[reason].standby;
}
