/*
 * The nodes are those of the configuration and of all other sources (cluster/members.h): applied here, on the control
 * thread, whether a reload or a source has changed them.
 */
#include "server/proxy_priv.h"

#include "base/event.h"
#include "base/log.h"
#include "cluster/members.h"
#include "route/breaker.h"

#include <stdio.h>

static struct node *find_node(const struct node_list *nodes, const struct member *m)
{
	const struct node_set *set = node_list_now(nodes);

	for (uint32_t i = 0; i < set->count; i++)
		if (member_is_at(m, set->nodes[i]->host, set->nodes[i]->port))
			return set->nodes[i];
	return NULL;
}

static void name_leader(struct proxy *p, const struct merged_members *merged)
{
	struct node *leader = NULL;

	for (uint32_t i = 0; i < merged->count && !leader; i++)
		if (merged->list[i].leads)
			leader = find_node(p->nodes, &merged->list[i]);
	node_list_name_leader(p->nodes, leader, merged->leader == LEADER_IS_NAMED);
}

static void follow_nodes(struct worker *w, void *argument)
{
	(void)argument;
	worker_follow_nodes(w);
}

/* At a start there are no workers yet who could look at the nodes of before. */
static void tell_workers(struct proxy *p, bool is_another_set)
{
	if (p->thread_count > 0 && p->threads)
		workers_tell(p, follow_nodes, is_another_set ? node_list_passed : NULL, p->nodes);
	else if (is_another_set)
		node_list_passed(p->nodes);
}

bool nodes_take(struct proxy *p)
{
	struct merged_members merged;
	int r = members_merge(p->members, &merged);

	if (r == 0) {
		r = node_list_take(p->nodes, merged.list, merged.count, p->config->load_balancer.zone);
		if (r >= 0) {
			handed_drain_nodes(p, p->handed);
			name_leader(p, &merged);
			tell_workers(p, r > 0);
			members_applied(p->members, &merged);
		}
		free(merged.list);
	}
	if (r < 0)
		log_error("out of memory; keeping the old nodes");
	return r >= 0;
}

void nodes_apply(struct proxy *p)
{
	if (!nodes_take(p))
		return;
	breakers_reload(p->shared.breakers, p->config); /* those that are new have one, too */
	nodes_primary_moved(p, pools_follow(p->pools));
	cluster_wake(p->cluster);
}

void nodes_primary_moved(struct proxy *p, uint32_t pools)
{
	const struct node *primary = node_list_primary(p->nodes);

	if (!pools)
		return;
	catalogs_primary_changed(p->catalogs);
	log_event(EVENT_PRIMARY_FOLLOWED, LOG_INFO, "queries for the primary go to another node from now on",
		  kv_str("node", primary ? primary->name : NULL), kv_uint("pools", pools));
}

void nodes_tick(struct proxy *p)
{
	if (members_are_due(p->members))
		nodes_apply(p);
	node_list_settle(p->nodes);
}

static void wake_control(void *proxy)
{
	struct proxy *p = proxy;

	(void)pthread_kill(p->control, SIGNAL_MEMBERS);
}

bool nodes_start(struct proxy *p)
{
	p->control = pthread_self();
	p->members = members_new(p->config, wake_control, p);
	if (!p->members || members_load_state(p->members) < 0 || !handed_read(p, &p->handed))
		return false;
	p->nodes = p->shared.nodes = node_list_new(p->config);
	return p->nodes && nodes_take(p);
}
