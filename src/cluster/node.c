/* See node.h: which nodes there are, and how they are. Where they are is in node_address.c. */
#include "cluster/node.h"

#include "base/event.h"
#include "base/log.h"
#include "cluster/changes.h"
#include "cluster/members.h"
#include "cluster/node_priv.h"

#include <stdio.h>

static struct node nobody; /* who is named when nobody is */

/* ---- one node ---- */

static bool node_is(const struct node *node, const struct member *from, const char *name)
{
	return strcmp(node->name, name) == 0 && strcmp(node->host, from->host) == 0 && node->port == from->port;
}

static void node_free(struct node *node)
{
	if (!node)
		return;
	free(node->name);
	free(node->host);
	pthread_mutex_destroy(&node->lock);
	free(node);
}

static struct node *node_new(const struct node_list *list, const struct member *from, const char *name)
{
	struct node *node = calloc(1, sizeof(*node));

	if (!node)
		return NULL;
	pthread_mutex_init(&node->lock, NULL);
	node->list = list;
	atomic_init(&node->lag_bytes, NODE_LAG_UNKNOWN);
	atomic_init(&node->lag_us, NODE_LAG_UNKNOWN);
	atomic_init(&node->beat_lag_us, NODE_LAG_UNKNOWN);
	node->name = strdup(name);
	node->host = strdup(from->host);
	node->port = from->port;
	if (node->name && node->host)
		return node;
	node_free(node);
	return NULL;
}

/* 0; -ENOMEM; -ENOSPC: it is new, and there have been too many. */
static int node_for(struct node_list *list, const struct member *from, struct node **ret)
{
	struct node *node;
	char name[300];

	snprintf(name, sizeof(name), from->host[0] == '/' ? "%s/.s.PGSQL.%u" : "%s:%u", from->host, from->port);
	if (*from->name)
		snprintf(name, sizeof(name), "%s", from->name);
	for (node = atomic_load(&list->all); node; node = node->next)
		if (node_is(node, from, name)) {
			*ret = node;
			return 0;
		}
	if (atomic_load(&list->made) >= NODES_EVER_MAX && from->source != MEMBER_CONFIGURED)
		return -ENOSPC;
	node = node_new(list, from, name);
	if (!node)
		return -ENOMEM;
	node->next = atomic_load(&list->all);
	atomic_store(&list->all, node);
	atomic_fetch_add(&list->made, 1);
	*ret = node;
	return 0;
}

/* ---- the list ---- */

/* Who waits for it waits for the primary: it never gets links. */
static bool make_unknown(struct node_list *list)
{
	struct member unknown;

	member_init(&unknown, "", 0);
	list->unknown = node_new(list, &unknown, "unknown");
	if (list->unknown)
		atomic_store(&list->unknown->bars, NODE_BARRED);
	return list->unknown != NULL;
}

static void set_free(struct node_list *list, struct node_set *set)
{
	if (!set)
		return;
	atomic_fetch_sub(&list->sets, 1);
	free(set);
}

static struct node_set *set_new(struct node_list *list, uint32_t room)
{
	struct node_set *set = calloc(1, sizeof(*set) + room * sizeof(struct node *));

	if (set)
		atomic_fetch_add(&list->sets, 1);
	return set;
}

static bool set_has(const struct node_set *set, const struct node *node)
{
	for (uint32_t i = 0; set && i < set->count; i++)
		if (set->nodes[i] == node)
			return true;
	return false;
}

static bool sets_equal(const struct node_set *a, const struct node_set *b)
{
	return a && a->count == b->count && memcmp(a->nodes, b->nodes, a->count * sizeof(a->nodes[0])) == 0;
}

/* What was found out about it before does not count any more. */
static void begin_a_life(struct node *node)
{
	atomic_store(&node->unhealthy, false);
	atomic_store(&node->failed_in_row, 0);
	atomic_store(&node->good_in_row, 0);
	atomic_store(&node->answered_at, 0);
	node_set_beat_lag(node, NODE_LAG_UNKNOWN);
	node_set_lag(node, NODE_LAG_UNKNOWN, NODE_LAG_UNKNOWN);
	atomic_fetch_add(&node->lives, 1);
	atomic_store(&node->ramp_since, clock_now());
	if (atomic_exchange(&node->leaving, false) || node->gone)
		(void)node_undrain(node);
	node->gone = false;
	atomic_store(&node->doubtful, true); /* it is asked at once who it is */
}

/* It gets nothing new, and its links leave. One that is drained by an operator stays so when it is enabled again, but
 * not when it was gone. */
static void let_go(struct node *node, bool is_gone)
{
	node->gone = is_gone;
	if (!atomic_load(&node->draining)) {
		if (!atomic_load(&node->enabled))
			return;
		node_drain(node, USEC_NEVER);
		atomic_store(&node->leaving, true);
	} else if (is_gone) {
		atomic_store(&node->leaving, true);
	}
	atomic_store(&node->enabled, false);
}

static void take_member(struct node *node, const struct member *from, const char *own_zone, bool at_start)
{
	pthread_mutex_lock(&node->lock);
	snprintf(node->zone, sizeof(node->zone), "%s", from->zone);
	atomic_store(&node->local, !*own_zone || strcmp(node->zone, own_zone) == 0);
	pthread_mutex_unlock(&node->lock);
	atomic_store(&node->role, from->role);
	atomic_store(&node->weight, from->weight);
	atomic_store(&node->max_lag, from->max_lag);
	atomic_store(&node->spared, from->spared);
	atomic_store(&node->source, (int)from->source);
	if (!from->enabled) {
		let_go(node, /* is_gone= */ false);
		return;
	}
	if (!at_start && !atomic_load(&node->enabled))
		begin_a_life(node);
	atomic_store(&node->enabled, true);
}

/* true: it is another set than before. */
static bool publish(struct node_list *list, struct node_set *fresh)
{
	struct node_set *old = atomic_load(&list->now);

	if (sets_equal(old, fresh)) {
		set_free(list, fresh);
		return false;
	}
	fresh->older = old;
	atomic_store(&list->now, fresh);
	if (!old)
		return true;
	old->retired = ++list->changes;
	for (uint32_t i = 0; i < fresh->count; i++)
		if (!set_has(old, fresh->nodes[i]))
			log_event(EVENT_MEMBER_ADDED, LOG_INFO, "a node has come",
				  kv_str("node", fresh->nodes[i]->name));
	for (uint32_t i = 0; i < old->count; i++) {
		if (set_has(fresh, old->nodes[i]))
			continue;
		log_event(EVENT_MEMBER_REMOVED, LOG_INFO, "a node has gone", kv_str("node", old->nodes[i]->name));
		let_go(old->nodes[i], /* is_gone= */ true);
	}
	return true;
}

int node_list_take(struct node_list *list, const struct member *members, uint32_t count, const char *own_zone)
{
	const struct node_set *old = atomic_load(&list->now);
	struct node_set *set = set_new(list, count);
	bool changed;

	for (uint32_t i = 0; set && i < count; i++) {
		struct node *node;
		int r = node_for(list, &members[i], &node);

		if (r == -ENOMEM) {
			set_free(list, set);
			return r;
		}
		if (r < 0)
			log_error("too many different nodes since the start: this one is left out until a restart",
				  kv_str("node", members[i].name), kv_str("host", members[i].host));
		else if (!set_has(set, node))
			set->nodes[set->count++] = node;
	}
	if (!set)
		return -ENOMEM;
	for (uint32_t i = 0; old && i < set->count; i++)
		if (!set_has(old, set->nodes[i]))
			(void)!node_resolve(set->nodes[i]); /* it is tried again */
	for (uint32_t i = 0; i < count; i++) {
		struct node *node;

		if (node_for(list, &members[i], &node) == 0)
			take_member(node, &members[i], own_zone, /* at_start= */ !old);
	}
	changed = publish(list, set);
	changes_tell();
	return changed;
}

int node_list_reload(struct node_list *list, const struct config *config)
{
	struct member *members = calloc(config->node_count + 1, sizeof(*members));
	int r;

	if (!members)
		return -ENOMEM;
	for (uint32_t i = 0; i < config->node_count; i++)
		member_from_config(&members[i], &config->nodes[i]);
	r = node_list_take(list, members, config->node_count, config->load_balancer.zone);
	free(members);
	return r;
}

struct node_list *node_list_new(const struct config *config)
{
	struct node_list *list = calloc(1, sizeof(*list));

	if (list && make_unknown(list) && node_list_reload(list, config) >= 0)
		return list;
	node_list_free(list);
	return NULL;
}

void node_list_free(struct node_list *list)
{
	struct node_set *set;
	struct node *node;

	if (!list)
		return;
	while ((set = atomic_load(&list->now))) {
		atomic_store(&list->now, set->older);
		free(set);
	}
	while ((node = atomic_load(&list->all))) {
		atomic_store(&list->all, node->next);
		node_free(node);
	}
	node_free(list->unknown);
	free(list);
}

/* ---- what is over ---- */

void node_list_hold(struct node_list *list)
{
	atomic_fetch_add(&list->lookers, 1);
}

void node_list_release(struct node_list *list)
{
	atomic_fetch_sub(&list->lookers, 1);
}

void node_list_passed(void *list)
{
	atomic_fetch_add(&((struct node_list *)list)->passed, 1);
}

void node_list_kept(const struct node_list *list, uint32_t *ret_nodes, uint32_t *ret_sets)
{
	struct node_list *l = (struct node_list *)(uintptr_t)list;

	*ret_nodes = atomic_load(&l->made);
	*ret_sets = atomic_load(&l->sets);
}

/* Whoever begins to look after this sees the set of now. */
static void free_old_sets(struct node_list *list)
{
	struct node_set *set = atomic_load(&list->now);

	if (atomic_load(&list->lookers) > 0)
		return;
	while (set->older) {
		struct node_set *old = set->older;

		if (atomic_load(&list->passed) < old->retired) {
			set = old;
			continue;
		}
		set->older = old->older;
		set_free(list, old);
	}
}

void node_list_settle(struct node_list *list)
{
	free_old_sets(list);
	for (struct node *node = atomic_load(&list->all); node; node = node->next) {
		if ((!node->gone && !atomic_load(&node->leaving)) || atomic_load(&node->links) > 0)
			continue;
		(void)node_undrain(node);
		atomic_store(&node->leaving, false);
		if (node->gone) { /* no topology looks at it any more */
			(void)node_bar(node, /* barred= */ false);
			(void)node_hold(node, /* held= */ false);
		}
	}
}

const struct node_set *node_list_now(const struct node_list *list)
{
	return atomic_load(&((struct node_list *)(uintptr_t)list)->now);
}

uint32_t node_list_count(const struct node_list *list)
{
	return node_list_now(list)->count;
}

struct node *node_list_at(const struct node_list *list, uint32_t index)
{
	return node_list_now(list)->nodes[index];
}

void node_list_name_leader(struct node_list *list, struct node *leader, bool is_named)
{
	atomic_store(&list->leader, !is_named ? NULL : leader ? leader : &nobody);
}

bool node_list_leader(const struct node_list *list, struct node **ret_leader)
{
	struct node *leader = atomic_load(&((struct node_list *)(uintptr_t)list)->leader);

	*ret_leader = leader == &nobody ? NULL : leader;
	return leader != NULL;
}

void node_list_follow(struct node_list *list, struct node *primary)
{
	atomic_store(&list->primary, primary);
}

struct node *node_list_unknown(const struct node_list *list)
{
	return list->unknown;
}

struct node *node_list_primary(const struct node_list *list)
{
	const struct node_set *set = node_list_now(list);
	struct node *known = atomic_load(&((struct node_list *)(uintptr_t)list)->primary);

	if (known && atomic_load(&known->enabled))
		return known;
	for (uint32_t i = 0; i < set->count; i++)
		if (atomic_load(&set->nodes[i]->enabled) && atomic_load(&set->nodes[i]->role) == NODE_PRIMARY)
			return set->nodes[i];
	return set->count == 1 && atomic_load(&set->nodes[0]->enabled) ? set->nodes[0] : NULL;
}

static bool is_called(const struct node *node, const char *name)
{
	char address[300];

	snprintf(address, sizeof(address), "%s:%u", node->host, node->port);
	return strcmp(node->name, name) == 0 || strcmp(address, name) == 0;
}

struct node *node_list_find(const struct node_list *list, const char *name)
{
	const struct node_set *set = node_list_now(list);

	for (uint32_t i = 0; i < set->count; i++)
		if (is_called(set->nodes[i], name))
			return set->nodes[i];
	return NULL;
}

struct node *node_list_find_leaving(struct node_list *list, const char *name)
{
	for (struct node *node = atomic_load(&list->all); node; node = node->next)
		if (atomic_load(&node->leaving) && is_called(node, name) && !set_has(node_list_now(list), node))
			return node;
	return NULL;
}

/* ---- health ---- */

static void become(struct node *node, bool unhealthy, const char *reason)
{
	if (atomic_exchange(&node->unhealthy, unhealthy) == unhealthy)
		return;
	if (unhealthy)
		log_event(EVENT_NODE_DOWN, LOG_WARN, "node is unhealthy: nothing is sent to it",
			  kv_str("node", node->name), kv_uint("failed_checks", atomic_load(&node->failed_in_row)),
			  kv_str("reason", reason));
	else
		log_event(EVENT_NODE_UP, LOG_INFO, "node is healthy again", kv_str("node", node->name));
	if (!unhealthy)
		atomic_store(&node->ramp_since, clock_now());
	changes_tell();
}

void node_checked(struct node *node, bool good, const struct config_health *settings)
{
	atomic_store(&node->last_check_wall, clock_wall());
	if (good) {
		atomic_store(&node->failed_in_row, 0);
		if (atomic_fetch_add(&node->good_in_row, 1) + 1 >= settings->success_threshold)
			become(node, /* unhealthy= */ false, "");
	} else {
		atomic_store(&node->good_in_row, 0);
		if (atomic_fetch_add(&node->failed_in_row, 1) + 1 >= settings->failure_threshold)
			become(node, /* unhealthy= */ true, "it cannot be connected to");
	}
}

void node_answered(struct node *node)
{
	atomic_store(&node->doubtful, false);
	atomic_store(&node->failed_in_row, 0);
	atomic_store(&node->last_check_wall, clock_wall());
	atomic_store(&node->answered_at, clock_now());
	become(node, /* unhealthy= */ false, "");
}

void node_set_sync(struct node *node, const char *sync_state)
{
	static const char *const texts[] = {
#define X(name, text) [NODE_SYNC_##name] = text,
		NODE_SYNCS(X)
#undef X
	};
	enum node_sync sync = NODE_SYNC_UNKNOWN;

	for (uint32_t i = 0; i < ARRAY_SIZE(texts); i++)
		if (strcmp(texts[i], sync_state) == 0)
			sync = (enum node_sync)i;
	atomic_store_explicit(&node->sync, sync, memory_order_relaxed);
}

/* Those that links are to leave: they drain, or are barred. */
static _Atomic uint32_t *shunned_count(struct node *node)
{
	return &((struct node_list *)(uintptr_t)node->list)->shunned;
}

static bool set_bar(struct node *node, enum node_bars bar, bool on)
{
	unsigned before = on ? atomic_fetch_or(&node->bars, bar) : atomic_fetch_and(&node->bars, ~(unsigned)bar);

	return ((before & bar) != 0) != on;
}

bool node_bar(struct node *node, bool barred)
{
	if (!set_bar(node, NODE_BARRED, barred))
		return false;
	if (!barred) {
		atomic_fetch_sub(shunned_count(node), 1);
		return true;
	}
	atomic_fetch_add(shunned_count(node), 1);
	if (node == node_list_primary(node->list))
		log_error("queries do not go to this node any more; those for the primary wait until there is one",
			  kv_str("node", node->name));
	else
		log_warn("queries do not go to this node any more", kv_str("node", node->name));
	return true;
}

bool node_hold(struct node *node, bool held)
{
	if (!set_bar(node, NODE_HELD, held))
		return false;
	if (held)
		log_warn("there is no primary now, or not yet: what would go to this node waits",
			 kv_str("node", node->name));
	return true;
}

void node_list_expect_next(struct node_list *list, bool expect)
{
	atomic_store(&list->expects_next, expect);
}

bool node_refuses(struct node *node)
{
	bool waits = false;

	if (atomic_load(&((struct node_list *)(uintptr_t)node->list)->expects_next) &&
	    node == node_list_primary(node->list)) {
		atomic_store(&node->refused_at, clock_now());
		(void)node_hold(node, /* held= */ true);
		waits = true;
	}
	node_in_doubt(node);
	return waits;
}

void node_set_health(struct node *node, bool up, const char *reason)
{
	become(node, /* unhealthy= */ !up, reason);
}

void node_set_lag(struct node *node, uint64_t bytes, uint64_t us)
{
	bool other = atomic_exchange(&node->lag_bytes, bytes) != bytes;

	if (atomic_load_explicit(&node->beat_lag_us, memory_order_relaxed) == NODE_LAG_UNKNOWN)
		other |= atomic_exchange(&node->lag_us, us) != us;
	if (other)
		changes_tell();
}

void node_set_beat_lag(struct node *node, uint64_t us)
{
	atomic_store_explicit(&node->beat_lag_us, us, memory_order_relaxed);
	if (atomic_exchange(&node->lag_us, us) != us)
		changes_tell();
}

void node_list_set_alarm(struct node_list *list, void (*alarm)(void *argument), void *argument)
{
	list->alarm_argument = argument;
	atomic_store(&list->alarm, alarm);
}

void node_in_doubt(struct node *node)
{
	void (*alarm)(void *argument) = atomic_load(&node->list->alarm);

	if (atomic_exchange(&node->doubtful, true))
		return;
	log_event(EVENT_NODE_DOUBTED, LOG_DEBUG, "node is in doubt: it is asked at once", kv_str("node", node->name));
	if (alarm)
		alarm(node->list->alarm_argument);
}

bool node_is_healthy(const struct node *node)
{
	return atomic_load(&node->enabled) && !atomic_load(&node->unhealthy);
}

void node_copy_zone(struct node *node, char zone[NODE_ZONE_MAX])
{
	pthread_mutex_lock(&node->lock);
	memcpy(zone, node->zone, NODE_ZONE_MAX);
	pthread_mutex_unlock(&node->lock);
}

/* ---- draining ---- */

void node_set_drain_deadline(struct node *node, usec_t deadline)
{
	atomic_store(&node->drain_deadline, deadline == USEC_NEVER ? USEC_NEVER : clock_update() + deadline);
}

void node_drain(struct node *node, usec_t deadline)
{
	node_set_drain_deadline(node, deadline);
	if (atomic_load(&node->draining))
		return;
	atomic_store(&node->drain_since_wall, clock_wall());
	if (!atomic_exchange(&node->draining, true)) {
		atomic_fetch_add(shunned_count(node), 1);
		log_event(EVENT_DRAIN_BEGUN, LOG_INFO, "a drain has begun", kv_str("node", node->name),
			  kv_uint("links", atomic_load(&node->links)));
	}
	changes_tell();
}

bool node_undrain(struct node *node)
{
	if (!atomic_exchange(&node->draining, false))
		return false;
	atomic_fetch_sub(shunned_count(node), 1);
	atomic_store(&node->ramp_since, clock_update());
	log_event(EVENT_DRAIN_ENDED, LOG_INFO, "a drain has ended", kv_str("node", node->name),
		  kv_uint("links", atomic_load(&node->links)));
	changes_tell();
	return true;
}

bool node_list_shuns(const struct node_list *list)
{
	return atomic_load_explicit(&((struct node_list *)(uintptr_t)list)->shunned, memory_order_relaxed) > 0;
}
