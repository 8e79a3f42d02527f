/* See topology.h. The steps of topology_make() stand at the end, in their order. */
#include "cluster/topology.h"

#include <stdio.h>
#include <stdlib.h>

struct making {
	const struct topology_settings *settings;
	const struct topology_input *inputs;
	const struct topology *previous; /* NULL: this is the first */
	struct topology *t;
	uint64_t wall;
};

/* ---- names ---- */

bool standing_is_refused(enum node_standing standing)
{
	static const bool refused[] = {
#define X(name, text, is_refused, meaning) [STANDING_##name] = is_refused,
		NODE_STANDINGS(X)
#undef X
	};

	return refused[standing];
}

const char *standing_name(enum node_standing standing)
{
	static const char *const names[] = {
#define X(name, text, refused, meaning) [STANDING_##name] = text,
		NODE_STANDINGS(X)
#undef X
	};

	return names[standing];
}

const char *no_primary_text(enum no_primary why)
{
	static const char *const texts[] = {
#define X(name, text) [NO_PRIMARY_##name] = text,
		NO_PRIMARY_REASONS(X)
#undef X
	};

	return texts[why];
}

const char *topology_event_text(enum topology_event_kind kind)
{
	static const char *const texts[] = {
#define X(name, text, level) [TOPOLOGY_##name] = text,
		TOPOLOGY_EVENTS(X)
#undef X
	};

	return texts[kind];
}

const char *topology_writes_text(enum topology_writes writes)
{
	static const char *const texts[] = {
#define X(name, text) [WRITES_##name] = text,
		TOPOLOGY_WRITES(X)
#undef X
	};

	return texts[writes];
}

const char *topology_event_name(enum topology_event_kind kind)
{
	static const char *const names[] = {
#define X(name, text, level) [TOPOLOGY_##name] = #name,
		TOPOLOGY_EVENTS(X)
#undef X
	};

	return names[kind];
}

enum log_level topology_event_level(enum topology_event_kind kind)
{
	static const enum log_level levels[] = {
#define X(name, text, level) [TOPOLOGY_##name] = level,
		TOPOLOGY_EVENTS(X)
#undef X
	};

	return levels[kind];
}

/* ---- looking at one ---- */

const struct topology_node *topology_find(const struct topology *topology, const struct node *node)
{
	for (uint32_t i = 0; topology && i < topology->count; i++)
		if (topology->nodes[i].node == node)
			return &topology->nodes[i];
	return NULL;
}

const struct topology_event *topology_event(const struct topology *topology, uint64_t number)
{
	if (number >= topology->event_count || number + TOPOLOGY_HISTORY < topology->event_count)
		return NULL;
	return &topology->history[number % TOPOLOGY_HISTORY];
}

bool topology_differs(const struct topology *a, const struct topology *b)
{
	if (a->event_count != b->event_count || a->count != b->count || a->primary != b->primary || a->why != b->why ||
	    a->by_configuration != b->by_configuration || a->leader_is_named != b->leader_is_named ||
	    a->writes != b->writes)
		return true;
	for (uint32_t i = 0; i < a->count; i++)
		if (a->nodes[i].node != b->nodes[i].node || a->nodes[i].standing != b->nodes[i].standing ||
		    a->nodes[i].facts.checked_at != b->nodes[i].facts.checked_at ||
		    a->nodes[i].configured != b->nodes[i].configured ||
		    a->nodes[i].takes_reads != b->nodes[i].takes_reads || a->nodes[i].named != b->nodes[i].named)
			return true;
	return false;
}

/* ---- events ---- */

static void note(struct making *m, enum topology_event_kind kind, const struct topology_node *n)
{
	struct topology *t = m->t;

	t->history[t->event_count++ % TOPOLOGY_HISTORY] = (struct topology_event){.wall = m->wall,
										  .kind = kind,
										  .node = n ? n->node : NULL,
										  .standing = n ? n->standing : 0,
										  .why = t->why};
}

/* ---- up or down ---- */

/* Enough bad checks, enough good ones, or a client that got in: else it stays what it was. */
static bool is_up(const struct making *m, const struct topology_input *in, const struct topology_node *before)
{
	const struct node_facts *f = in->facts;

	if (!m->settings->monitored)
		return in->judged_up;
	if (in->answered_at > f->failed_at)
		return true;
	if (f->failed_in_row >= m->settings->failure_threshold)
		return false;
	return !before || before->up || f->good_in_row >= m->settings->success_threshold;
}

/* It was down, and nobody has asked it since what it is now. */
static bool is_stale(const struct making *m, const struct topology_node *n)
{
	return n->facts.failed_in_row >= m->settings->failure_threshold && n->facts.known_at < n->facts.failed_at;
}

/* Something is known of it alone. */
static bool has_told(const struct making *m, const struct topology_node *n)
{
	return m->settings->monitored && n->enabled && n->up && n->facts.known && !is_stale(m, n);
}

/* Its facts may be concluded from. */
static bool is_told(const struct making *m, const struct topology_node *n)
{
	return has_told(m, n) && !n->is_guest;
}

static bool all_were_asked(const struct making *m)
{
	for (uint32_t i = 0; i < m->t->count; i++)
		if (m->t->nodes[i].enabled && !m->t->nodes[i].is_guest && m->t->nodes[i].facts.last == CHECK_NEVER)
			return false;
	return true;
}

/* ---- which cluster is it ---- */

static uint32_t supporters(const struct making *m, uint64_t system_id)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < m->t->count; i++)
		count += is_told(m, &m->t->nodes[i]) && m->t->nodes[i].facts.system_id == system_id;
	return count;
}

/* What most say; of two with as many, that of a node configured as primary, else the first. 0: nobody says anything. */
static uint64_t most_common_system(const struct making *m)
{
	uint64_t best = 0;
	uint32_t best_weight = 0;

	for (uint32_t i = 0; i < m->t->count; i++) {
		const struct topology_node *n = &m->t->nodes[i];
		uint32_t weight;

		if (!is_told(m, n))
			continue;
		weight = 2 * supporters(m, n->facts.system_id) + (n->configured == NODE_PRIMARY);
		if (weight > best_weight) {
			best = n->facts.system_id;
			best_weight = weight;
		}
	}
	return best;
}

/* Every node is asked, answers, and belongs to one and the same cluster that is not the known one. */
static bool was_made_anew(const struct making *m)
{
	uint64_t id = 0;

	for (uint32_t i = 0; i < m->t->count; i++) {
		const struct topology_node *n = &m->t->nodes[i];

		if (!n->enabled || n->is_guest)
			continue;
		if (!is_told(m, n) || n->facts.system_id == m->t->system_id || (id && n->facts.system_id != id))
			return false;
		id = n->facts.system_id;
	}
	return id != 0;
}

static void find_system(struct making *m)
{
	struct topology *t = m->t;

	if (t->system_id == 0) {
		if (all_were_asked(m))
			t->system_id = most_common_system(m);
	} else if (was_made_anew(m)) {
		t->system_id = most_common_system(m);
		t->timeline = 0;
		t->track.count = 0;
		note(m, TOPOLOGY_OTHER_SYSTEM, NULL);
	}
}

/* ---- standings ---- */

static bool is_ours(const struct making *m, const struct topology_node *n)
{
	return m->t->system_id == 0 || n->facts.system_id == m->t->system_id;
}

static void find_timeline(struct making *m)
{
	for (uint32_t i = 0; i < m->t->count; i++) {
		const struct topology_node *n = &m->t->nodes[i];

		/* not before it is known which cluster is ours: another's may be far ahead */
		if (is_told(m, n) && m->t->system_id && is_ours(m, n))
			m->t->timeline = MAX(m->t->timeline, n->facts.timeline);
	}
	for (uint32_t i = 0; i < m->t->count; i++) {
		const struct topology_node *n = &m->t->nodes[i];

		/* whoever names it says which history is the right one */
		if (n->named && is_told(m, n) && m->t->system_id && is_ours(m, n) && !n->facts.in_recovery)
			m->t->timeline = n->facts.timeline;
	}
}

/* What a node that was discovered is before it has proved to be one of ours. */
static enum node_standing standing_of_guest(const struct making *m, struct topology_node *n)
{
	if (!has_told(m, n) || m->t->system_id == 0)
		return STANDING_UNKNOWN;
	if (!is_ours(m, n))
		return STANDING_OTHER_CLUSTER;
	if (!n->facts.in_recovery)
		return STANDING_STRANGER;
	n->is_guest = false;
	return STANDING_STANDBY;
}

static enum node_standing standing_by_facts(const struct making *m, const struct topology_node *n)
{
	if (!is_ours(m, n))
		return STANDING_OTHER_CLUSTER;
	if (n->facts.in_recovery)
		return STANDING_STANDBY;
	if (n->configured == NODE_REPLICA)
		return STANDING_NOT_ELIGIBLE;
	if (m->t->leader_is_named)
		return n->named ? STANDING_PRIMARY : STANDING_NOT_NAMED;
	if (n->facts.timeline < m->t->timeline)
		return STANDING_OLD_TIMELINE;
	return STANDING_PRIMARY;
}

static enum node_standing standing_by_configuration(const struct making *m, const struct topology_node *n)
{
	if (m->t->leader_is_named)
		return n->named ? STANDING_PRIMARY : STANDING_STANDBY;
	return n->configured == NODE_PRIMARY || m->t->count == 1 ? STANDING_PRIMARY : STANDING_STANDBY;
}

static enum node_standing find_standing(const struct making *m, struct topology_node *n)
{
	if (!n->enabled)
		return STANDING_DISABLED;
	if (!n->up)
		return STANDING_DOWN;
	if (n->is_guest)
		return standing_of_guest(m, n);
	if (m->t->by_configuration)
		return standing_by_configuration(m, n);
	return is_told(m, n) ? standing_by_facts(m, n) : STANDING_UNKNOWN;
}

/* Nobody has told a role, nobody is still to be asked, and somebody answers: the monitor is let in nowhere. */
static bool nobody_tells(const struct making *m)
{
	bool refused = false;

	if (!m->settings->monitored)
		return true;
	for (uint32_t i = 0; i < m->t->count; i++) {
		if (m->t->nodes[i].is_guest)
			continue;
		if (m->t->nodes[i].facts.known)
			return false;
		refused = refused || m->t->nodes[i].facts.last == CHECK_REFUSED;
	}
	return refused && all_were_asked(m);
}

/* ---- the primary ---- */

static bool any_stands(const struct making *m, bool (*which)(enum node_standing standing))
{
	for (uint32_t i = 0; i < m->t->count; i++)
		if (which(m->t->nodes[i].standing))
			return true;
	return false;
}

static bool answers(enum node_standing standing)
{
	return standing != STANDING_DOWN && standing != STANDING_DISABLED;
}

static bool is_unknown(enum node_standing standing)
{
	return standing == STANDING_UNKNOWN;
}

static bool must_not_write(enum node_standing standing)
{
	return standing_is_refused(standing) && standing != STANDING_OTHER_CLUSTER;
}

static enum no_primary why_none_is_named(const struct making *m)
{
	for (uint32_t i = 0; i < m->t->count; i++) {
		const struct topology_node *n = &m->t->nodes[i];

		if (!n->named)
			continue;
		return n->standing == STANDING_STANDBY   ? NO_PRIMARY_NAMED_IN_RECOVERY
		       : n->standing == STANDING_DOWN    ? NO_PRIMARY_PRIMARY_DOWN
		       : n->standing == STANDING_UNKNOWN ? NO_PRIMARY_NOT_KNOWN_YET
							 : NO_PRIMARY_REFUSED;
	}
	return NO_PRIMARY_NOBODY_NAMED;
}

static enum no_primary why_none(const struct making *m)
{
	const struct topology_node *last = topology_find(m->t, m->t->last_primary);

	if (!any_stands(m, answers))
		return NO_PRIMARY_ALL_DOWN;
	if (m->t->leader_is_named)
		return why_none_is_named(m);
	if (any_stands(m, must_not_write))
		return NO_PRIMARY_REFUSED;
	if (last && last->standing == STANDING_DOWN)
		return NO_PRIMARY_PRIMARY_DOWN;
	return any_stands(m, is_unknown) ? NO_PRIMARY_NOT_KNOWN_YET : NO_PRIMARY_NONE_READ_WRITE;
}

/* Of several by configuration the first is meant; of several by their own words none is to be trusted. */
static void settle_contest(struct making *m, uint32_t candidates)
{
	struct topology *t = m->t;

	for (uint32_t i = 0; i < t->count; i++) {
		struct topology_node *n = &t->nodes[i];

		if (n->standing != STANDING_PRIMARY)
			continue;
		if (t->by_configuration)
			n->standing = n->node == t->primary ? STANDING_PRIMARY : STANDING_UNKNOWN;
		else if (candidates > 1)
			n->standing = STANDING_CONTESTED;
	}
	if (candidates > 1 && !t->by_configuration)
		t->primary = NULL;
}

static void find_primary(struct making *m)
{
	struct topology *t = m->t;
	uint32_t candidates = 0;

	t->primary = NULL;
	for (uint32_t i = 0; i < t->count; i++) {
		if (t->nodes[i].standing != STANDING_PRIMARY)
			continue;
		candidates++;
		if (!t->primary)
			t->primary = t->nodes[i].node;
	}
	settle_contest(m, candidates);
	/* at a start the first one that answers may be the one that was replaced */
	if (!t->by_configuration && t->primary && t->system_id == 0)
		t->primary = NULL;
	t->why = t->primary                                                            ? NO_PRIMARY_THERE_IS_ONE
		 : candidates > 1 && !t->by_configuration                              ? NO_PRIMARY_SEVERAL
		 : t->system_id == 0 && !t->by_configuration && any_stands(m, answers) ? NO_PRIMARY_NOT_KNOWN_YET
										       : why_none(m);
	t->writes = t->primary ? WRITES_GO : t->why == NO_PRIMARY_SEVERAL ? m->settings->when_contested : WRITES_HELD;
}

/* ---- lag ---- */

static void take_sample(struct making *m)
{
	struct topology *t = m->t;
	const struct topology_node *p = topology_find(t, t->primary);

	if (t->primary && m->previous && t->primary != m->previous->last_primary)
		t->track.count = 0; /* positions of another timeline compare with nothing */
	if (p && !t->by_configuration && p->facts.current_lsn != 0)
		lag_track_add(&t->track, p->facts.known_at, p->facts.current_lsn);
}

/* How far the standby was behind when it told where it is. */
static void measure_lag(const struct topology *t, struct topology_node *n)
{
	uint64_t bytes;
	usec_t time;

	n->lag_bytes = n->lag_us = TOPOLOGY_LAG_NONE;
	if (n->standing != STANDING_STANDBY || !n->facts.known ||
	    !lag_measure(&t->track, n->facts.known_at, n->facts.replay_lsn, &bytes, &time))
		return;
	n->lag_bytes = (int64_t)bytes;
	n->lag_us = (int64_t)time;
}

/* ---- standbys ---- */

static void find_upstream(const struct topology *t, struct topology_node *n)
{
	n->upstream = NULL;
	if (n->standing != STANDING_STANDBY || !n->facts.receiving || !*n->facts.upstream_host)
		return;
	for (uint32_t i = 0; i < t->count; i++)
		if (t->nodes[i].port == n->facts.upstream_port && strcmp(t->nodes[i].host, n->facts.upstream_host) == 0)
			n->upstream = t->nodes[i].node;
}

/* Two standbys of one name: it can't be told which is which. */
static void find_sync_state(const struct topology *t, struct topology_node *n)
{
	const struct topology_node *p = topology_find(t, t->primary);
	const struct facts_sender *found = NULL;

	n->sync_state[0] = 0;
	if (!p || n->standing != STANDING_STANDBY)
		return;
	for (uint32_t i = 0; i < p->facts.sender_count; i++) {
		if (strcmp(p->facts.senders[i].name, n->facts.application_name) != 0)
			continue;
		if (found)
			return;
		found = &p->facts.senders[i];
	}
	if (found)
		snprintf(n->sync_state, sizeof(n->sync_state), "%s", found->sync_state);
}

/* ---- what has changed ---- */

static void note_node(struct making *m, struct topology_node *n, const struct topology_node *before)
{
	bool was_refused = before && standing_is_refused(before->standing);

	n->since_wall = before && before->standing == n->standing ? before->since_wall : m->wall;
	if (before ? before->up != n->up : !n->up)
		note(m, n->up ? TOPOLOGY_NODE_UP : TOPOLOGY_NODE_DOWN, n);
	if (standing_is_refused(n->standing) && (!before || before->standing != n->standing))
		note(m, TOPOLOGY_NODE_REFUSED, n);
	else if (was_refused && (n->standing == STANDING_PRIMARY || n->standing == STANDING_STANDBY))
		note(m, TOPOLOGY_NODE_ACCEPTED, n);
	if (n->contradicts && !(before && before->contradicts))
		note(m, TOPOLOGY_ROLE_CONTRADICTS, n);
	n->was_primary = n->standing == STANDING_PRIMARY || (before && before->was_primary);
	if (n->was_primary && n->standing == STANDING_STANDBY) {
		n->was_primary = false;
		if (!m->t->by_configuration)
			note(m, TOPOLOGY_DEMOTED, n);
	}
}

static void note_primary(struct making *m)
{
	struct topology *t = m->t;
	struct node *before = m->previous ? m->previous->primary : NULL;

	if (t->primary && t->primary != before) {
		bool failed_over = t->last_primary && t->last_primary != t->primary;

		if (failed_over) {
			t->last_failover_wall = m->wall;
			t->failovers++;
		}
		note(m, failed_over ? TOPOLOGY_FAILOVER : TOPOLOGY_PRIMARY_IS, topology_find(t, t->primary));
	} else if (!t->primary &&
		   (before || (t->why == NO_PRIMARY_SEVERAL && m->previous && m->previous->why != t->why))) {
		note(m, TOPOLOGY_PRIMARY_LOST, topology_find(t, before));
	}
	if (t->primary)
		t->last_primary = t->primary;
}

/* ---- all together ---- */

static struct topology *begin(const struct topology *previous, uint32_t count, uint64_t wall)
{
	struct topology *t = calloc(1, sizeof(*t) + count * sizeof(t->nodes[0]));

	if (!t)
		return NULL;
	if (previous)
		memcpy(t, previous, sizeof(*t));
	atomic_init(&t->references, 1);
	t->number++;
	t->made_wall = wall;
	t->count = count;
	return t;
}

static void take_input(struct making *m, uint32_t i)
{
	const struct topology_input *in = &m->inputs[i];
	struct topology_node *n = &m->t->nodes[i];
	const struct topology_node *before = topology_find(m->previous, in->node);

	n->node = in->node;
	n->host = in->host;
	n->port = in->port;
	n->configured = in->configured;
	n->enabled = in->enabled;
	n->spared = in->spared;
	n->named = m->settings->leader_is_named && in->named;
	n->facts = *in->facts;
	n->is_guest = in->discovered && (!before || before->is_guest);
	n->up = is_up(m, in, before);
}

/* With a leader that was named on an older timeline, those that went on on the newer one have another history. */
static bool takes_reads(const struct making *m, const struct topology_node *n)
{
	return n->standing == STANDING_STANDBY && n->facts.known && !m->t->by_configuration && !n->spared &&
	       !(m->t->leader_is_named && n->facts.timeline > m->t->timeline);
}

static bool has_standby(const struct topology *t)
{
	for (uint32_t i = 0; i < t->count; i++)
		if (topology_node_takes_reads(&t->nodes[i]))
			return true;
	return false;
}

struct topology *topology_make(const struct topology_settings *settings, const struct topology_input *inputs,
			       uint32_t count, const struct topology *previous, uint64_t wall)
{
	struct topology *t = begin(previous, count, wall);
	struct making m = {.settings = settings, .inputs = inputs, .previous = previous, .t = t, .wall = wall};

	if (!t)
		return NULL;
	for (uint32_t i = 0; i < count; i++)
		take_input(&m, i);
	t->leader_is_named = settings->leader_is_named;
	t->by_configuration = nobody_tells(&m);
	find_system(&m);
	find_timeline(&m);
	for (uint32_t i = 0; i < count; i++)
		t->nodes[i].standing = find_standing(&m, &t->nodes[i]);
	find_primary(&m);
	take_sample(&m);
	for (uint32_t i = 0; i < count; i++) {
		struct topology_node *n = &t->nodes[i];

		measure_lag(t, n);
		find_upstream(t, n);
		find_sync_state(t, n);
		n->takes_reads = takes_reads(&m, n);
		n->contradicts = is_told(&m, n) && !t->leader_is_named &&
				 n->facts.in_recovery == (n->configured == NODE_PRIMARY);
		note_node(&m, n, topology_find(previous, n->node));
	}
	note_primary(&m);
	t->has_standby = has_standby(t);
	return t;
}
