/* See cluster_priv.h. */
#include "cluster/cluster_priv.h"

void behind_forget(struct watched *w)
{
	if (w->lag_at)
		node_set_lag(monitor_node(w->monitor), NODE_LAG_UNKNOWN, NODE_LAG_UNKNOWN);
	w->lag_at = 0;
}

void behind_take(struct cluster *c, const struct topology_node *n)
{
	struct watched *w = watched_of(c, n->node);

	if (!w)
		return;
	if (n->standing != STANDING_STANDBY) {
		behind_forget(w);
	} else if (n->lag_us != TOPOLOGY_LAG_NONE && n->facts.known_at > w->lag_at) {
		node_set_lag(n->node, (uint64_t)n->lag_bytes, (uint64_t)n->lag_us);
		w->lag_at = n->facts.known_at;
	}
}

/* ---- positions ---- */

static void take_places_of(struct cluster *c, bool in_recovery)
{
	const struct topology *t = atomic_load(&c->now);

	for (struct watched *w = c->watched; w; w = w->next) {
		const struct monitor_place *place = monitor_place(w->monitor);

		if (place->told_at == w->placed_at || place->position.in_recovery != in_recovery)
			continue;
		w->placed_at = place->told_at;
		c->located = true;
		if (poller_take(&c->poller, t, monitor_node(w->monitor), place))
			w->lag_at = place->told_at;
	}
}

void behind_take_places(struct cluster *c)
{
	take_places_of(c, /* in_recovery= */ false);
	take_places_of(c, /* in_recovery= */ true);
	if (c->located && poller_is_awaited(&c->poller))
		c->context.located(c->context.server);
	c->located = false;
	for (struct watched *w = c->watched; w; w = w->next)
		if (w->lag_at && poller_is_too_old(&c->poller, w->lag_at, c->settings))
			behind_forget(w);
}

static void ask_for_positions(struct cluster *c)
{
	if (!poller_is_due(&c->poller, c->settings->poll_interval))
		return;
	for (struct watched *w = c->watched; w; w = w->next)
		if (monitor_may_locate(w->monitor))
			monitor_locate(w->monitor, c->settings);
}

/* ---- heartbeats ---- */

#define BEATS_MISSING 3 /* as many may be missing before they say nothing */

static usec_t beat_patience(const struct cluster *c)
{
	return BEATS_MISSING * c->settings->heartbeat_interval + c->settings->health.check_timeout;
}

void behind_forget_beat(struct watched *w)
{
	if (w->beat_lag_at)
		node_set_beat_lag(monitor_node(w->monitor), NODE_LAG_UNKNOWN);
	w->beat_lag_at = 0;
}

static void take_beat(struct cluster *c, struct watched *w)
{
	const struct topology *t = atomic_load(&c->now);
	const struct topology_node *n = topology_find(t, monitor_node(w->monitor));
	const struct monitor_beat *beat = monitor_last_beat(w->monitor);
	uint64_t us;

	if (beat->told_at == w->beat_at)
		return;
	w->beat_at = beat->told_at;
	if (!n || !beat->good)
		return;
	if (beat->is_write) {
		heartbeat_confirm(&c->heartbeat, n->node, beat->beat, beat->told_at);
	} else if (n->standing == STANDING_STANDBY && c->heartbeat.primary == t->primary &&
		   heartbeat_measure(&c->heartbeat, beat->beat, beat->told_at, beat_patience(c), &us)) {
		node_set_beat_lag(n->node, us);
		w->beat_lag_at = beat->told_at;
	}
}

/* The primary writes, and standbys read: each as soon as its monitor has nothing else to do. */
static void beat(struct cluster *c, struct watched *w)
{
	const struct topology *t = atomic_load(&c->now);
	struct node *node = monitor_node(w->monitor);
	const struct topology_node *n = topology_find(t, node);
	uint64_t number = 0;

	w->beat_due = false;
	if (!n || t->by_configuration || (node != t->primary && n->standing != STANDING_STANDBY) ||
	    (node == t->primary) == monitor_facts(w->monitor)->in_recovery)
		return;
	if (node == t->primary)
		number = heartbeat_begin(&c->heartbeat, node, clock_wall());
	monitor_beat(w->monitor, c->settings, number);
}

static void tend_heartbeats(struct cluster *c)
{
	bool due = heartbeat_is_due(&c->heartbeat, c->settings->heartbeat_interval);

	for (struct watched *w = c->watched; w; w = w->next) {
		take_beat(c, w);
		if (w->beat_lag_at && clock_now() > w->beat_lag_at + beat_patience(c))
			behind_forget_beat(w);
		w->beat_due = c->settings->heartbeat_interval && (w->beat_due || due);
		if (w->beat_due && monitor_may_beat(w->monitor))
			beat(c, w);
	}
}

void behind_ask(struct cluster *c)
{
	ask_for_positions(c);
	tend_heartbeats(c);
}
