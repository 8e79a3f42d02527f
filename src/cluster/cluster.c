/* See cluster.h. */
#include "base/event.h"
#include "base/log.h"
#include "cluster/changes.h"
#include "cluster/cluster_priv.h"

#include <stdio.h>

#define SETTLE_TURNS_MAX 100

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

void cluster_publish(struct cluster *c, struct topology *fresh)
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

static void look_after(struct cluster *c)
{
	const struct node_set *set;

	node_list_hold(c->context.nodes);
	set = node_list_now(c->context.nodes);
	if (!c->settings->logs_in) {
		probes_tick(c->probes, c->loop, &c->settings->health);
	} else {
		checks_look(c, set);
		behind_ask(c);
	}
	cluster_conclude(c);
	checks_ask_if_unsure(c);
	behind_take_places(c);
	discovery_look(c->discovery, c->settings, atomic_load(&c->now));
	node_list_release(c->context.nodes);
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
		behind_forget_beat(w); /* of another table, maybe */
	free(c->made_from);            /* thresholds may be others */
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
		loop_run_turn(c->loop, checks_until_next(c));
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
	cluster_conclude(c);
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
