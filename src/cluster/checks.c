/* See cluster_priv.h. */
#include "cluster/cluster_priv.h"

#define TURN_MAX      USEC_PER_SEC
#define CHECKS_APART  (200 * USEC_PER_MSEC) /* of one node, however much in doubt it is */
#define LOST_PERIOD   USEC_PER_SEC          /* of all nodes, while nobody knows of a primary any more */
#define BEHIND_PERIOD USEC_PER_SEC          /* of a standby that does not follow the new primary yet */

struct watched *watched_of(struct cluster *c, const struct node *node)
{
	struct watched *w = c->watched;

	while (w && monitor_node(w->monitor) != node)
		w = w->next;
	return w;
}

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

void checks_ask_if_unsure(struct cluster *c)
{
	const struct topology *t = atomic_load(&c->now);
	bool unsure = t->leader_is_named && (!t->primary || cluster_is_failing(c, t->primary));

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

void checks_look(struct cluster *c, const struct node_set *set)
{
	for (struct watched *w = c->watched; w; w = w->next)
		w->is_used = false;
	for (uint32_t i = 0; i < set->count; i++)
		if (atomic_load(&set->nodes[i]->enabled))
			look_at(c, set->nodes[i]);
	for (struct watched *w = c->watched; w; w = w->next)
		if (!w->is_used && !w->is_blank) {
			behind_forget(w);
			monitor_forget(w->monitor);
			w->is_blank = true;
		}
}

usec_t checks_until_next(const struct cluster *c)
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
