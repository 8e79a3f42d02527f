/* See route.h. */
#include "route/route.h"

#include "base/map.h"
#include "route/breaker.h"

#include <string.h>

/* What [routing.default] says, where it is not what would be done anyway. */
static void take_defaults(const struct config *config, struct route_rules *rules)
{
	const struct config_routing_default *d = &config->routing_default;

	rules->wish = (struct route_wish){
		.target = d->read_target == READ_TARGET_PRIMARY || !d->auto_detect_writes ? TARGET_PRIMARY : TARGET_ANY,
		.strong = d->consistency == CONSISTENCY_STRONG,
		.eventual = d->consistency == CONSISTENCY_EVENTUAL,
	};
	route_wish_finish(&rules->wish, config->routing_hints.max_lag_override);
	rules->has_wish = rules->wish.target != TARGET_ANY || rules->wish.strong || rules->wish.eventual;
	if (d->read_target == READ_TARGET_ANY && rules->balance.primary_reads == PRIMARY_READS_LAST_RESORT)
		rules->balance.primary_reads = PRIMARY_READS_EQUAL;
}

void route_wish_finish(struct route_wish *wish, usec_t max_lag)
{
	if (!wish->eventual || wish->limits_lag || !max_lag)
		return;
	wish->limits_lag = true;
	wish->max_lag = max_lag;
}

void route_rules_from(const struct config *config, struct route_rules *ret)
{
	*ret = (struct route_rules){
		.lag_matters = config->lag_routing.enabled,
		.own_writes = config->lag_routing.read_your_writes == READ_YOUR_WRITES_INHERIT
				      ? READ_YOUR_WRITES_SESSION
				      : config->lag_routing.read_your_writes,
		.max_lag_bytes = config->lag_routing.max_lag_bytes,
		.max_lag = config->lag_routing.max_lag,
		.wait = config->lag_routing.poll_interval ? config->lag_routing.wait : 0, /* else nobody would tell */
		.slow_start = config->load_balancer.slow_start,
		.balance = balance_settings_of(config),
	};
	take_defaults(config, ret);
}

bool route_rules_for_user(struct route_rules *rules, const struct config_user *user)
{
	if (user->max_lag) {
		rules->max_lag = user->max_lag;
		rules->max_lag_is_wished = true;
	}
	if (user->max_lag_bytes)
		rules->max_lag_bytes = user->max_lag_bytes;
	if (user->read_your_writes != READ_YOUR_WRITES_INHERIT)
		rules->own_writes = user->read_your_writes;
	return user->max_lag || user->max_lag_bytes || user->read_your_writes != READ_YOUR_WRITES_INHERIT;
}

bool route_wants_loads(const struct route_rules *rules)
{
	return rules->balance.strategy == BALANCE_LEAST_CONNECTIONS || rules->balance.strategy == BALANCE_LATENCY ||
	       rules->balance.spill_links > 0;
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

bool route_is_plain_read(const struct access *a)
{
	return a->level == ACCESS_READS && a->after == AFTER_SAME && a->read_only == SAID_NOTHING &&
	       a->serializable == SAID_NOTHING && a->session_read_only == SAID_NOTHING &&
	       a->session_serializable == SAID_NOTHING && !a->ties;
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

static bool wishes_standby(const struct route_wish *wish)
{
	return wish->target >= TARGET_STANDBY;
}

/* The reason for the kind that it is, whatever nodes there are. */
static enum route_reason kind_of(const struct route_ask *ask)
{
	const struct access *a = ask->access;

	if (!a)
		return ROUTE_NOT_UNDERSTOOD;
	if (ask->repeated)
		return ROUTE_REPEATED;
	if (ask->wish.strong || ask->wish.target == TARGET_PRIMARY)
		return ROUTE_WISH_PRIMARY;
	/* who asks for a standby says that it reads; should it write after all, the standby refuses, and it is repeated
	 */
	if (a->level == ACCESS_DOUBTFUL && a->after == AFTER_SAME && wishes_standby(&ask->wish))
		return ROUTE_WISH_STANDBY;
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
	if (wishes_standby(&ask->wish))
		return ROUTE_WISH_STANDBY;
	return a->after == AFTER_OPEN ? ROUTE_READ_ONLY : ROUTE_READ;
}

/* ---- which nodes there are for it ---- */

/* The standbys that are left after each question, as bits by the topology's order. */
struct choosing {
	const struct topology *topology;
	uint64_t left;
	uint64_t only; /* of these; 0: of all */
};

#define EACH_LEFT(c, i) \
	for (uint32_t i = 0; i < MIN((c)->topology->count, BALANCE_MAX); i++) \
		if ((c)->left >> i & 1)

static void drop(struct choosing *c, uint32_t i)
{
	c->left &= ~(UINT64_C(1) << i);
}

static void keep_those_in_rotation(struct choosing *c)
{
	c->left = c->only ? c->only : UINT64_MAX;
	EACH_LEFT (c, i) {
		const struct topology_node *n = &c->topology->nodes[i];

		if (!topology_node_takes_reads(n) || !node_takes_new(n->node) || !breaker_allows(n->node) ||
		    atomic_load_explicit(&n->node->weight, memory_order_relaxed) == 0)
			drop(c, i);
	}
	if (c->topology->count < BALANCE_MAX)
		c->left &= (UINT64_C(1) << c->topology->count) - 1;
}

static bool is_near(const struct node *node, const struct route_rules *rules)
{
	struct node *n = (struct node *)(uintptr_t)node;
	uint64_t bytes = atomic_load_explicit(&n->lag_bytes, memory_order_relaxed);
	uint64_t us = atomic_load_explicit(&n->lag_us, memory_order_relaxed);
	usec_t of_node = atomic_load_explicit(&n->max_lag, memory_order_relaxed);
	usec_t limit = of_node && !rules->max_lag_is_wished ? of_node : rules->max_lag;

	return (!rules->max_lag_bytes || bytes <= rules->max_lag_bytes) && (!limit || us <= limit);
}

static bool stands_for(const struct config_node_alias *alias, const struct node *node)
{
	for (uint32_t i = 0; i < alias->nodes.count; i++)
		if (strcmp(alias->nodes.items[i], node->name) == 0)
			return true;
	return false;
}

/* "sync" and "quorum" are waited for. Of which nobody knows, it is neither. */
static bool is_wished(const struct topology_node *n, const struct route_wish *wish)
{
	bool waited_for = strcmp(n->sync_state, "sync") == 0 || strcmp(n->sync_state, "quorum") == 0;

	switch (wish->target) {
	case TARGET_NODE:
		return n->node == wish->node;
	case TARGET_ALIAS:
		return stands_for(wish->alias, n->node);
	case TARGET_SYNC:
		return waited_for;
	case TARGET_ASYNC:
		return !waited_for && *n->sync_state;
	case TARGET_ANY:
	case TARGET_PRIMARY:
	case TARGET_STANDBY:
		break;
	}
	return true;
}

static void keep_wished_ones(struct choosing *c, const struct route_wish *wish)
{
	EACH_LEFT (c, i)
		if (!is_wished(&c->topology->nodes[i], wish))
			drop(c, i);
}

static void keep_near_ones(struct choosing *c, const struct route_rules *rules)
{
	EACH_LEFT (c, i)
		if (!is_near(c->topology->nodes[i].node, rules))
			drop(c, i);
}

static void keep_those_at(struct choosing *c, const struct position *needed)
{
	struct position p;

	if (needed->kind == POSITION_NONE)
		return;
	EACH_LEFT (c, i)
		if (!position_read(&c->topology->nodes[i].node->position, &p) || !position_reached(&p, needed))
			drop(c, i);
}

/* False: nobody is left, and *ret says why. */
static bool keep_fit_ones(struct choosing *c, const struct route_rules *rules, const struct route_ask *ask,
			  enum route_reason *ret)
{
	bool own = rules->lag_matters && rules->own_writes != READ_YOUR_WRITES_OFF && !ask->wish.eventual;
	struct route_rules wished = *rules;
	const struct position token = {.kind = ask->wish.lsn ? POSITION_INSERT : POSITION_NONE,
				       .timeline = c->topology->timeline,
				       .lsn = ask->wish.lsn};

	if (ask->wish.limits_lag) {
		wished.max_lag = ask->wish.max_lag;
		wished.max_lag_bytes = ask->wish.max_lag_bytes;
		wished.max_lag_is_wished = true;
	}
	*ret = ROUTE_NO_STANDBY;
	keep_those_in_rotation(c);
	if (ask->wish.target > TARGET_STANDBY)
		keep_wished_ones(c, &ask->wish);
	if (!c->left)
		return false;
	*ret = ROUTE_LAG;
	if (ask->wish.limits_lag || (rules->lag_matters && !ask->wish.eventual))
		keep_near_ones(c, &wished);
	if (!c->left)
		return false;
	*ret = ROUTE_NO_CATALOG;
	keep_those_at(c, &ask->catalog);
	if (!c->left)
		return false;
	*ret = ROUTE_OWN_WRITES;
	keep_those_at(c, &token);
	if (own) {
		keep_those_at(c, &ask->own);
		keep_those_at(c, &ask->others);
	}
	return c->left && !(own && ask->wrote);
}

const char *route_why_not(const struct route_rules *rules, const struct topology *topology, const struct route_ask *ask,
			  uint32_t index)
{
	static const char *const words[] = {
		[ROUTE_NO_STANDBY] =
			"it takes no reads: no standby, down, drained, by its circuit breaker, or its weight",
		[ROUTE_LAG] = "it lags too far, or nobody knows how far",
		[ROUTE_NO_CATALOG] = "it has not replayed the schema that is known",
		[ROUTE_OWN_WRITES] = "it is not known to have replayed what was written",
	};
	struct choosing c = {.topology = topology, .only = UINT64_C(1) << index};
	enum route_reason why;

	return keep_fit_ones(&c, rules, ask, &why) ? NULL : words[why];
}

/* ---- which of them it is ---- */

static struct balance_candidate candidate_of(const struct choosing *c, uint32_t i, const struct route_rules *rules,
					     const struct route_load *loads, usec_t now)
{
	struct node *node = c->topology->nodes[i].node;
	usec_t since = atomic_load_explicit(&node->ramp_since, memory_order_relaxed);

	return (struct balance_candidate){
		.node = node,
		.slot = i,
		.weight = atomic_load_explicit(&node->weight, memory_order_relaxed),
		.ramp = since ? balance_ramp(since, now, rules->slow_start) : BALANCE_FULL,
		.active = loads ? loads[i].active : 0,
		.latency = loads ? loads[i].latency : 0,
		.local = atomic_load_explicit(&node->local, memory_order_relaxed),
		.id = rules->balance.strategy == BALANCE_HASH ? hash_bytes(node->name, strlen(node->name)) : 0,
	};
}

static int primary_index(const struct topology *t)
{
	for (uint32_t i = 0; i < MIN(t->count, BALANCE_MAX); i++)
		if (t->primary && t->nodes[i].node == t->primary)
			return (int)i;
	return -1;
}

static bool primary_has_turns(const struct balance_settings *settings, const struct route_wish *wish)
{
	if (wish->target == TARGET_ALIAS)
		return wish->alias_has_primary;
	return settings->primary_reads == PRIMARY_READS_EQUAL && !wishes_standby(wish);
}

/* NULL: the primary, or nobody. */
static struct node *choose(const struct choosing *c, const struct route_rules *rules, const struct route_ask *ask,
			   const struct route_load *loads, struct balance_state *state, usec_t now)
{
	struct balance_settings settings = rules->balance;
	struct balance_candidate candidates[BALANCE_MAX];
	uint32_t count = 0;
	int primary = -1, chosen;

	if (primary_has_turns(&settings, &ask->wish)) {
		settings.primary_reads = PRIMARY_READS_EQUAL;
		primary = primary_index(c->topology);
	}
	EACH_LEFT (c, i) {
		if (c->topology->nodes[i].node == ask->last)
			return c->topology->nodes[i].node;
		candidates[count++] = candidate_of(c, i, rules, loads, now);
	}
	if (primary >= 0 && count < BALANCE_MAX) {
		candidates[count] = candidate_of(c, (uint32_t)primary, rules, loads, now);
		candidates[count++].primary = true;
	}
	if (ask->wish.local)
		settings.spill_links = 0;
	state->key = ask->wish.key ? ask->wish.key : ask->key;
	chosen = count == 1 ? 0 : balance_choose(&settings, state, candidates, count, NULL);
	return chosen < 0 || candidates[chosen].primary ? NULL : candidates[chosen].node;
}

void route_decide(const struct route_rules *rules, const struct topology *topology, const struct route_ask *ask,
		  const struct route_load *loads, struct balance_state *state, usec_t now, struct route_choice *ret)
{
	struct choosing c = {.topology = topology};

	*ret = (struct route_choice){.reason = kind_of(ask)};
	if (!route_reason_is_standby(ret->reason))
		return;
	if (rules->balance.strategy == BALANCE_PRIMARY_ONLY && !wishes_standby(&ask->wish)) {
		ret->reason = ROUTE_PRIMARY_READS;
		return;
	}
	if (!keep_fit_ones(&c, rules, ask, &ret->reason)) {
		/* without a catalog the primary is the only one that can answer it */
		ret->refused = rules->balance.primary_reads == PRIMARY_READS_NEVER && ret->reason != ROUTE_NO_CATALOG &&
			       !ask->wish.alias_has_primary;
		/* lag may be unknown for a moment: where there is nothing else, that is worth waiting for, too */
		ret->may_wait = ret->reason == ROUTE_OWN_WRITES || (ret->refused && ret->reason == ROUTE_LAG);
		return;
	}
	ret->reason = ask->waits ? ROUTE_WAITED : kind_of(ask);
	ret->node = choose(&c, rules, ask, loads, state, now);
	if (!ret->node)
		ret->reason = ROUTE_PRIMARY_READS;
}

/* ---- the simple case ---- */

/* No more than a few may go to a node on probation: each is to be decided for itself. */
static bool is_on_probation(const struct node *node)
{
	return !breaker_is_closed(node);
}

/* Is whoever is chosen in turn the one whom the strategy would choose? */
static bool are_alike(const struct balance_candidate *a, const struct balance_candidate *b)
{
	return a->weight == b->weight && a->ramp == b->ramp && a->local == b->local;
}

uint32_t route_find_fit(const struct route_rules *rules, const struct topology *topology,
			const struct position *catalog, usec_t now, struct node *nodes[ROUTE_FIT_MAX],
			struct position *ret_least)
{
	struct choosing c = {.topology = topology};
	struct balance_candidate first = {0};
	uint32_t count = 0;

	if (rules->has_wish || rules->balance.strategy != BALANCE_ROUND_ROBIN ||
	    rules->balance.primary_reads == PRIMARY_READS_EQUAL || rules->balance.spill_links)
		return 0;
	keep_those_in_rotation(&c);
	if (rules->lag_matters)
		keep_near_ones(&c, rules);
	keep_those_at(&c, catalog);
	EACH_LEFT (&c, i) {
		struct balance_candidate candidate = candidate_of(&c, i, rules, NULL, now);
		struct position p;

		if (count == ROUTE_FIT_MAX || is_on_probation(candidate.node) ||
		    !position_read(&candidate.node->position, &p) || (count > 0 && !are_alike(&first, &candidate)))
			return 0;
		if (count == 0) {
			first = candidate;
			*ret_least = p;
		}
		ret_least->lsn = MIN(ret_least->lsn, p.lsn);
		ret_least->timeline = MIN(ret_least->timeline, p.timeline);
		nodes[count++] = candidate.node;
	}
	return count;
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
