/* See cluster_priv.h. */
#include "cluster/cluster_priv.h"
#include "cluster/members.h"

/* ---- who follows ---- */

bool cluster_is_failing(struct cluster *c, struct node *node)
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
	bool changed = false, fails = cluster_is_failing(c, t->primary), is_waited_for;

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

static void take_topology(struct cluster *c, struct topology *fresh)
{
	const struct topology *old = atomic_load(&c->now);

	for (uint32_t i = 0; c->settings->logs_in && i < fresh->count; i++) {
		if (fresh->nodes[i].enabled)
			node_set_health(fresh->nodes[i].node, fresh->nodes[i].up, fresh->nodes[i].facts.error);
		behind_take(c, &fresh->nodes[i]);
		node_set_sync(fresh->nodes[i].node, fresh->nodes[i].sync_state);
	}
	if (!old || topology_differs(old, fresh))
		cluster_publish(c, fresh);
	else
		free(fresh);
}

void cluster_conclude(struct cluster *c)
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
