/* See cluster.h. */
#include "cluster/cluster.h"

#include "base/event.h"
#include "base/log.h"
#include "cluster/changes.h"
#include "cluster/discovery.h"
#include "cluster/heartbeat.h"
#include "cluster/loss.h"
#include "cluster/members.h"
#include "cluster/monitor.h"
#include "cluster/poller.h"
#include "cluster/probe.h"

#include <stdio.h>

#define TURN_MAX         USEC_PER_SEC
#define CHECKS_APART     (200 * USEC_PER_MSEC) /* of one node, however much in doubt it is */
#define LOST_PERIOD      USEC_PER_SEC          /* of all nodes, while nobody knows of a primary any more */
#define BEHIND_PERIOD    USEC_PER_SEC          /* of a standby that does not follow the new primary yet */
#define SETTLE_TURNS_MAX 100

struct watched { /* a node that was ever checked by a monitor */
	struct watched *next;
	struct monitor *monitor;
	bool is_used;   /* it is in the list, and enabled */
	bool is_blank;  /* nothing is known of it */
	uint32_t lives; /* of the node, when it was looked at last */
	bool in_doubt;  /* a client's connection failed, since its last good check */
	usec_t due, begun;
	usec_t placed_at; /* its word on its position that was taken last */
	usec_t lag_at;    /* of the lag in its node; 0: unknown */
	bool beat_due;    /* it is to write or to read one as soon as it is idle */
	usec_t beat_at;   /* when its last one was told that was taken; beat_lag_at: of the lag by that; 0: unknown */
	usec_t beat_lag_at;
};

/* What a topology was made from, as far as that changes: see topology_input. */
struct made_from {
	const struct node *node;
	enum node_role configured;
	bool enabled, judged_up, got_in; /* got_in: a client, since it failed */
	bool spared, named;
	usec_t checked_at;
};

struct cluster {
	struct cluster_context context;
	struct loop *loop;
	pthread_t thread;
	struct monitor_settings *settings;
	struct watched *watched;
	struct probes *probes; /* while no monitor is configured */
	struct poller poller;
	struct discovery *discovery;
	struct heartbeat heartbeat;
	bool located;                /* some node has told where it is, in this turn */
	struct made_from *made_from; /* the topology of now; NULL: nothing, make it anew */
	uint32_t made_from_count;
	bool made_by_name; /* a leader was named */
	struct loss loss;  /* of the primary */
	_Atomic bool stopping;
	pthread_mutex_t lock; /* of `now`, for those who hold */
	_Atomic(struct topology *) now;
	struct loop_message wake;
	_Atomic bool wake_is_posted;
};

/* ---- publishing ---- */

static void release(void *argument)
{
	struct topology *t = argument;

	if (atomic_fetch_sub(&t->references, 1) == 1)
		free(t);
}

void cluster_release(const struct topology *topology)
{
	release((void *)(uintptr_t)topology);
}

const struct topology *cluster_now(const struct cluster *cluster)
{
	return atomic_load_explicit(&((struct cluster *)(uintptr_t)cluster)->now, memory_order_acquire);
}

const struct topology *cluster_hold(struct cluster *cluster)
{
	struct topology *t;

	pthread_mutex_lock(&cluster->lock);
	t = atomic_load(&cluster->now);
	atomic_fetch_add(&t->references, 1);
	pthread_mutex_unlock(&cluster->lock);
	return t;
}

static void log_events(const struct topology *t, uint64_t since)
{
	static const enum event_kind kinds[] = {
		[TOPOLOGY_PRIMARY_IS] = EVENT_PRIMARY_FOUND,          [TOPOLOGY_FAILOVER] = EVENT_PRIMARY_CHANGED,
		[TOPOLOGY_PRIMARY_LOST] = EVENT_PRIMARY_LOST,         [TOPOLOGY_DEMOTED] = EVENT_PRIMARY_DEMOTED,
		[TOPOLOGY_NODE_REFUSED] = EVENT_NODE_REFUSED,         [TOPOLOGY_NODE_ACCEPTED] = EVENT_NODE_ACCEPTED,
		[TOPOLOGY_ROLE_CONTRADICTS] = EVENT_NODE_CONTRADICTS, [TOPOLOGY_OTHER_SYSTEM] = EVENT_CLUSTER_REMADE,
	};

	for (uint64_t i = since; i < t->event_count; i++) {
		const struct topology_event *e = topology_event(t, i);

		if (!e || e->kind == TOPOLOGY_NODE_DOWN || e->kind == TOPOLOGY_NODE_UP) /* node_set_health() says so */
			continue;
		log_event(kinds[e->kind], topology_event_level(e->kind), topology_event_text(e->kind),
			  kv_str("node", e->node ? e->node->name : NULL),
			  kv_str("standing", e->node ? standing_name(e->standing) : NULL),
			  kv_str("reason", e->kind == TOPOLOGY_PRIMARY_LOST ? no_primary_text(e->why) : NULL));
	}
}

/* What is the worst that can happen is said by one line of its own. */
static void shout_if_contested(const struct topology *old, const struct topology *t)
{
	char names[512] = "";
	size_t len = 0;

	if (t->why != NO_PRIMARY_SEVERAL || (old && old->why == NO_PRIMARY_SEVERAL && old->writes == t->writes))
		return;
	for (uint32_t i = 0; i < t->count && len < sizeof(names); i++)
		if (t->nodes[i].standing == STANDING_CONTESTED)
			len += (size_t)snprintf(names + len, sizeof(names) - len, "%s%s", len ? "," : "",
						t->nodes[i].node->name);
	log_event(EVENT_PRIMARY_CONTESTED, LOG_ERROR,
		  t->writes == WRITES_REFUSED ? "several nodes claim to be the primary: queries for it are REFUSED"
					      : "several nodes claim to be the primary: queries for it WAIT",
		  kv_str("nodes", names));
}

static void publish(struct cluster *c, struct topology *fresh)
{
	struct topology *old = atomic_load(&c->now);

	if (c->settings->logs_in)
		log_events(fresh, old ? old->event_count : 0);
	if (c->settings->logs_in)
		shout_if_contested(old, fresh);
	pthread_mutex_lock(&c->lock);
	atomic_store(&c->now, fresh);
	pthread_mutex_unlock(&c->lock);
	changes_tell();
	if (old)
		c->context.retire(c->context.server, release, old);
}

static struct watched *watched_of(struct cluster *c, const struct node *node)
{
	struct watched *w = c->watched;

	while (w && monitor_node(w->monitor) != node)
		w = w->next;
	return w;
}

/* It failed a client's connection, and the check that followed; or it let a client not in, and is not checked since. */
static bool is_failing(struct cluster *c, struct node *node)
{
	const struct watched *w = node ? watched_of(c, node) : NULL;
	const struct node_facts *f = w ? monitor_facts(w->monitor) : NULL;

	return w && ((w->in_doubt && f->failed_in_row > 0) || atomic_load(&node->refused_at) > f->checked_at);
}

/* Must what follows the primary wait? is_held: it does where nodes tell who it is, or somebody is going to. */
static bool must_wait(const struct cluster *c, const struct topology *t, const struct topology_node *n, bool is_held)
{
	if (t->leader_is_named && !c->settings->loss.names_next)
		return !t->primary && n->standing == STANDING_STANDBY;
	return is_held && n->node == node_list_primary(c->context.nodes);
}

enum topology_writes cluster_writes(const struct node_list *nodes, const struct topology *t)
{
	const struct node *to = node_list_primary(nodes);

	if (t && t->writes == WRITES_REFUSED)
		return WRITES_REFUSED;
	if (to ? node_bars(to) : t && !t->primary)
		return WRITES_HELD;
	return !t || t->primary ? WRITES_GO : WRITES_FAILING;
}

/* New connections for the primary go to this one. With none, they go to the last one: it may come back, or its
 * successor be found; until then they fail, and say why. Unless it must not be used: then they wait. */
static void follow(struct cluster *c, const struct topology *t)
{
	struct node *before = node_list_primary(c->context.nodes);
	bool changed = false, fails = is_failing(c, t->primary), is_waited_for;

	for (uint32_t i = 0; i < t->count; i++)
		if (node_bar(t->nodes[i].node, c->settings->logs_in && standing_is_refused(t->nodes[i].standing)))
			changed = true;
	if (t->primary && (t->leader_is_named || (c->settings->logs_in && !t->by_configuration)))
		node_list_follow(c->context.nodes, t->primary);
	else if (!c->settings->logs_in || t->by_configuration)
		node_list_follow(c->context.nodes, NULL);
	loss_look(&c->loss, &c->settings->loss, t, fails);
	is_waited_for = loss_is_waited_for(&c->loss, &c->settings->loss, t);
	node_list_expect_next(c->context.nodes, is_waited_for);
	for (uint32_t i = 0; i < t->count; i++)
		if (node_hold(t->nodes[i].node, must_wait(c, t, &t->nodes[i], is_waited_for && (!t->primary || fails))))
			changed = true;
	if (changed || node_list_primary(c->context.nodes) != before)
		c->context.followed(c->context.server);
}

/* ---- from facts to a topology ---- */

static struct topology_input input_of(struct cluster *c, struct node *node, const struct node *leader)
{
	static const struct node_facts nothing = {.replay_age_us = -1};
	const struct watched *w = c->settings->logs_in ? watched_of(c, node) : NULL;

	return (struct topology_input){
		.node = node,
		.host = node->host,
		.port = node->port,
		.configured = atomic_load(&node->role),
		.enabled = atomic_load(&node->enabled),
		.spared = atomic_load(&node->spared),
		.named = node == leader,
		.discovered = atomic_load(&node->source) == MEMBER_DISCOVERED,
		.judged_up = !atomic_load(&node->unhealthy),
		.answered_at = atomic_load(&node->answered_at),
		.facts = w ? monitor_facts(w->monitor) : &nothing,
	};
}

static struct made_from made_from_this(const struct topology_input *in)
{
	return (struct made_from){.node = in->node,
				  .configured = in->configured,
				  .enabled = in->enabled,
				  .spared = in->spared,
				  .named = in->named,
				  .judged_up = in->judged_up,
				  .got_in = in->answered_at > in->facts->failed_at,
				  .checked_at = in->facts->checked_at};
}

static bool is_made_from(const struct made_from *a, const struct topology_input *in)
{
	struct made_from b = made_from_this(in);

	return a->node == b.node && a->configured == b.configured && a->enabled == b.enabled && a->spared == b.spared &&
	       a->named == b.named && a->judged_up == b.judged_up && a->got_in == b.got_in &&
	       a->checked_at == b.checked_at;
}

/* Is there anything new to conclude from? A topology is a few kB to be made, and the thread wakes up often. A check
 * that found all as it was is news, too: that a standby lags by so much is true as of then, and is soon forgotten. */
static bool facts_changed(struct cluster *c, const struct topology_input *inputs, uint32_t count, bool leader_is_named)
{
	bool changed = !c->made_from || c->made_from_count != count || c->made_by_name != leader_is_named;

	for (uint32_t i = 0; !changed && i < count; i++)
		changed = !is_made_from(&c->made_from[i], &inputs[i]);
	return changed;
}

/* Out of memory: it is made again the next time. */
static void remember_facts(struct cluster *c, const struct topology_input *inputs, uint32_t count)
{
	free(c->made_from);
	c->made_from = calloc(count + 1, sizeof(c->made_from[0]));
	c->made_from_count = count;
	for (uint32_t i = 0; c->made_from && i < count; i++)
		c->made_from[i] = made_from_this(&inputs[i]);
}

static void forget_lag(struct watched *w)
{
	if (w->lag_at)
		node_set_lag(monitor_node(w->monitor), NODE_LAG_UNKNOWN, NODE_LAG_UNKNOWN);
	w->lag_at = 0;
}

/* As the checks found it, unless it was asked more lately where it is. */
static void take_lag(struct cluster *c, const struct topology_node *n)
{
	struct watched *w = watched_of(c, n->node);

	if (!w)
		return;
	if (n->standing != STANDING_STANDBY) {
		forget_lag(w);
	} else if (n->lag_us != TOPOLOGY_LAG_NONE && n->facts.known_at > w->lag_at) {
		node_set_lag(n->node, (uint64_t)n->lag_bytes, (uint64_t)n->lag_us);
		w->lag_at = n->facts.known_at;
	}
}

static void take_topology(struct cluster *c, struct topology *fresh)
{
	const struct topology *old = atomic_load(&c->now);

	for (uint32_t i = 0; c->settings->logs_in && i < fresh->count; i++) {
		if (fresh->nodes[i].enabled)
			node_set_health(fresh->nodes[i].node, fresh->nodes[i].up, fresh->nodes[i].facts.error);
		take_lag(c, &fresh->nodes[i]);
		node_set_sync(fresh->nodes[i].node, fresh->nodes[i].sync_state);
	}
	if (!old || topology_differs(old, fresh))
		publish(c, fresh);
	else
		free(fresh);
}

/* Out of memory: the topology stays as it is until the next look. */
static void conclude(struct cluster *c)
{
	const struct node_set *set = node_list_now(c->context.nodes);
	struct node *leader = NULL;
	const struct topology_settings settings = {.failure_threshold = c->settings->health.failure_threshold,
						   .success_threshold = c->settings->health.success_threshold,
						   .when_contested = c->settings->refuses_contested ? WRITES_REFUSED
												    : WRITES_HELD,
						   .leader_is_named = node_list_leader(c->context.nodes, &leader),
						   .monitored = c->settings->logs_in};
	struct topology_input *inputs = calloc(set->count + 1, sizeof(inputs[0]));
	struct topology *fresh = NULL;

	if (!inputs)
		return;
	for (uint32_t i = 0; i < set->count; i++)
		inputs[i] = input_of(c, set->nodes[i], leader);
	if (facts_changed(c, inputs, set->count, settings.leader_is_named))
		fresh = topology_make(&settings, inputs, set->count, atomic_load(&c->now), clock_wall());
	if (fresh) {
		remember_facts(c, inputs, set->count);
		c->made_by_name = settings.leader_is_named;
		take_topology(c, fresh);
	}
	free(inputs);
	follow(c, atomic_load(&c->now));
}

/* ---- positions ---- */

void cluster_want_positions(struct cluster *c)
{
	if (poller_want(&c->poller))
		cluster_wake(c);
}

void cluster_await_positions(struct cluster *c, int more)
{
	if (poller_wait(&c->poller, more))
		cluster_wake(c);
}

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

/* What was told since the last time, and what nobody has told for too long. */
static void take_places(struct cluster *c)
{
	take_places_of(c, /* in_recovery= */ false);
	take_places_of(c, /* in_recovery= */ true);
	if (c->located && poller_is_awaited(&c->poller))
		c->context.located(c->context.server);
	c->located = false;
	for (struct watched *w = c->watched; w; w = w->next)
		if (w->lag_at && poller_is_too_old(&c->poller, w->lag_at, c->settings))
			forget_lag(w);
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

static void forget_beat(struct watched *w)
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
			forget_beat(w);
		w->beat_due = c->settings->heartbeat_interval && (w->beat_due || due);
		if (w->beat_due && monitor_may_beat(w->monitor))
			beat(c, w);
	}
}

/* ---- checks ---- */

/* NULL: out of memory, and the next look tries again. */
static struct watched *watch(struct cluster *c, struct node *node)
{
	struct watched *w = watched_of(c, node);

	if (w)
		return w;
	w = calloc(1, sizeof(*w));
	if (w)
		w->monitor = monitor_new(node, c->loop);
	if (!w || !w->monitor) {
		free(w);
		return NULL;
	}
	w->next = c->watched;
	c->watched = w;
	return w;
}

/* An interval from now, less a part of it by chance, so that proxies that were started together do not ask together. */
static usec_t next_check(const struct config_health *h)
{
	usec_t jitter = h->check_interval * h->check_jitter / 100;

	return clock_now() + h->check_interval - (jitter ? (usec_t)random() % jitter : 0);
}

/* A standby counts as not having reached what was written since a promotion before it tells the new timeline. */
static bool is_behind(const struct cluster *c, const struct watched *w)
{
	const struct node_facts *f = monitor_facts(w->monitor);
	const struct topology *t = atomic_load(&((struct cluster *)(uintptr_t)c)->now);

	return f->known && f->in_recovery && f->timeline < t->timeline;
}

static void be_unsure(struct cluster *c)
{
	if (c->context.unsure)
		c->context.unsure(c->context.server);
}

/* It says something else than whoever names the leader: a promotion is under way, or two are at odds. */
static bool is_at_odds(const struct topology *t, const struct topology_node *n)
{
	return t->leader_is_named && n->enabled && n->facts.known && n->facts.failed_in_row == 0 &&
	       n->named == n->facts.in_recovery;
}

static void ask_if_unsure(struct cluster *c)
{
	const struct topology *t = atomic_load(&c->now);
	bool unsure = t->leader_is_named && (!t->primary || is_failing(c, t->primary));

	for (uint32_t i = 0; i < t->count && !unsure; i++)
		unsure = is_at_odds(t, &t->nodes[i]);
	if (unsure)
		be_unsure(c);
}

static usec_t check_is_due(const struct cluster *c, const struct watched *w)
{
	const struct topology *t = atomic_load(&((struct cluster *)(uintptr_t)c)->now);
	const struct topology_node *n = topology_find(t, monitor_node(w->monitor));

	if (n && is_at_odds(t, n))
		return MIN(w->due, w->begun + CHECKS_APART);
	if (c->loss.since) /* it may be back, or another one promoted, at any time */
		return MIN(w->due, w->begun + (loss_is_waited_for(&c->loss, &c->settings->loss, t) ? CHECKS_APART
												   : LOST_PERIOD));
	return is_behind(c, w) ? MIN(w->due, w->begun + BEHIND_PERIOD) : w->due;
}

static void look_at(struct cluster *c, struct node *node)
{
	struct watched *w = watch(c, node);
	usec_t now = clock_now();

	if (!w)
		return;
	w->is_used = true;
	w->is_blank = false;
	if (w->lives != atomic_load(&node->lives)) {
		monitor_forget(w->monitor); /* who it was before says nothing */
		w->lives = atomic_load(&node->lives);
	}
	if (monitor_is_busy(w->monitor) || (w->begun && now < w->begun + CHECKS_APART))
		return;
	if (atomic_exchange(&node->doubtful, false)) {
		w->in_doubt = true;
		be_unsure(c);
	} else if (now < check_is_due(c, w)) {
		return;
	} else if (monitor_facts(w->monitor)->failed_in_row == 0) {
		w->in_doubt = false;
	}
	w->begun = now;
	w->due = next_check(&c->settings->health);
	monitor_check(w->monitor, c->settings);
}

static void look_at_all(struct cluster *c, const struct node_set *set)
{
	for (struct watched *w = c->watched; w; w = w->next)
		w->is_used = false;
	for (uint32_t i = 0; i < set->count; i++)
		if (atomic_load(&set->nodes[i]->enabled))
			look_at(c, set->nodes[i]);
	for (struct watched *w = c->watched; w; w = w->next)
		if (!w->is_used && !w->is_blank) {
			forget_lag(w);
			monitor_forget(w->monitor);
			w->is_blank = true;
		}
}

static void look_after(struct cluster *c)
{
	const struct node_set *set;

	node_list_hold(c->context.nodes);
	set = node_list_now(c->context.nodes);
	if (!c->settings->logs_in) {
		probes_tick(c->probes, c->loop, &c->settings->health);
	} else {
		look_at_all(c, set);
		ask_for_positions(c);
		tend_heartbeats(c);
	}
	conclude(c);
	ask_if_unsure(c);
	take_places(c);
	discovery_look(c->discovery, c->settings, atomic_load(&c->now));
	node_list_release(c->context.nodes);
}

/* How long may the loop sleep? */
static usec_t until_next(const struct cluster *c)
{
	usec_t now = clock_now(), until = TURN_MAX;

	if (!c->settings->logs_in)
		return until;
	if (c->settings->heartbeat_interval)
		until = MIN(until, c->heartbeat.due > now ? c->heartbeat.due - now : 0);
	until = MIN(until, poller_until_due(&c->poller, c->settings->poll_interval));
	for (const struct watched *w = c->watched; w; w = w->next) {
		usec_t at = check_is_due(c, w);

		if (!w->is_used || monitor_is_busy(w->monitor))
			continue;
		if (atomic_load(&monitor_node(w->monitor)->doubtful))
			at = w->begun + CHECKS_APART;
		until = MIN(until, at > now ? at - now : USEC_PER_MSEC);
	}
	return until;
}

/* ---- settings ---- */

struct settings_message {
	struct loop_message message;
	struct monitor_settings *settings;
};

static void take_settings(struct loop_message *message, void *thread)
{
	struct settings_message *m = container_of(message, struct settings_message, message);
	struct cluster *c = thread;
	bool differ = monitor_settings_differ(c->settings, m->settings);

	for (struct watched *w = c->watched; w; w = w->next) {
		if (differ || monitor_is_busy(w->monitor)) /* a check under way looks at the old ones */
			monitor_close(w->monitor);
		w->due = 0;
	}
	if (c->settings->logs_in != m->settings->logs_in)
		probes_pause(c->probes);
	monitor_settings_free(c->settings);
	c->settings = m->settings;
	for (struct watched *w = c->watched; w; w = w->next)
		forget_beat(w); /* of another table, maybe */
	free(c->made_from);     /* thresholds may be others */
	c->made_from = NULL;
	free(m);
}

void cluster_reload(struct cluster *c, const struct config *config, struct tls_context *server_tls)
{
	struct settings_message *m = calloc(1, sizeof(*m));

	if (m)
		m->settings = monitor_settings_new(config, server_tls);
	if (!m || !m->settings) {
		free(m);
		log_error("out of memory; checks of nodes stay as they were");
		return;
	}
	m->message.run = take_settings;
	loop_post(c->loop, &m->message);
}

/* ---- the thread ---- */

static void woken(struct loop_message *message, void *thread)
{
	struct cluster *c = thread;

	(void)message;
	atomic_store(&c->wake_is_posted, false); /* the loop goes round once: everything is looked at */
}

void cluster_wake(struct cluster *c)
{
	if (!atomic_exchange(&c->wake_is_posted, true))
		loop_post(c->loop, &c->wake);
}

static void alarmed(void *argument)
{
	cluster_wake(argument);
}

static void *cluster_main(void *argument)
{
	struct cluster *c = argument;

	pthread_setname_np(pthread_self(), "cluster");
	while (!atomic_load(&c->stopping)) {
		look_after(c);
		loop_run_turn(c->loop, until_next(c));
	}
	probes_stop(c->probes);
	for (struct watched *w = c->watched; w; w = w->next)
		monitor_close(w->monitor);
	for (int i = 0; i < SETTLE_TURNS_MAX && !loop_is_over(c->loop); i++) {
		loop_close_all(c->loop);
		loop_run_turn(c->loop, 0);
	}
	return NULL;
}

void cluster_free(struct cluster *c)
{
	struct watched *w;

	if (!c)
		return;
	if (c->loop)
		loop_run_turn(c->loop, 0); /* a wake that came late */
	while ((w = c->watched)) {
		c->watched = w->next;
		monitor_free(w->monitor);
		free(w);
	}
	probes_free(c->probes);
	discovery_free(c->discovery);
	free(c->made_from);
	monitor_settings_free(c->settings);
	if (atomic_load(&c->now))
		release(atomic_load(&c->now));
	if (c->loop)
		loop_free(c->loop);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

int cluster_start(const struct cluster_context *context, struct cluster **ret_cluster)
{
	struct cluster *c = calloc(1, sizeof(*c));
	int r = -ENOMEM;

	if (!c)
		return r;
	c->context = *context;
	c->wake.run = woken;
	pthread_mutex_init(&c->lock, NULL);
	c->settings = monitor_settings_new(context->config, context->server_tls);
	c->probes = probes_new(context->nodes);
	c->discovery = discovery_new(context->members);
	if (!c->settings || !c->probes || !c->discovery)
		goto fail;
	r = loop_new(context->io, c, &c->loop);
	if (r < 0)
		goto fail;
	conclude(c);
	r = atomic_load(&c->now) ? -pthread_create(&c->thread, NULL, cluster_main, c) : -ENOMEM;
	if (r < 0)
		goto fail;
	node_list_set_alarm(context->nodes, alarmed, c);
	*ret_cluster = c;
	return 0;
fail:
	cluster_free(c);
	return r;
}

void cluster_stop(struct cluster *c)
{
	if (!c)
		return;
	atomic_store(&c->stopping, true);
	cluster_wake(c);
	pthread_join(c->thread, NULL);
}
