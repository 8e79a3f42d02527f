/* See operation.h. */
#include "cluster/operation.h"

#include <stdio.h>

static bool makes_leave(const struct operation *o)
{
	return o->what == OPERATION_REMOVE || o->what == OPERATION_DISABLE || o->what == OPERATION_DRAIN;
}

/* The rules of what must stay. 0, or -errno and why. */
static int may_run(struct operation *o, const struct node *node, const struct node_list *nodes)
{
	if (o->what == OPERATION_REMOVE && atomic_load(&node->source) != MEMBER_MANUAL) {
		snprintf(o->why, sizeof(o->why), "node %.100s was not added by hand (%s): it can be disabled", o->name,
			 member_source_word((enum member_source)atomic_load(&node->source)));
		return -EPERM;
	}
	if (makes_leave(o) && !o->force && node == node_list_primary(nodes)) {
		snprintf(o->why, sizeof(o->why), "node %.100s is the primary: writes would have nowhere to go",
			 o->name);
		return -EBUSY;
	}
	return 0;
}

static int add(struct operation *o, struct members *members)
{
	const struct member *m = &o->member;

	if (*m->name)
		snprintf(o->name, sizeof(o->name), "%s", m->name);
	else
		snprintf(o->name, sizeof(o->name), "%s:%u", m->host, m->port);
	return members_add(members, m, &o->change, o->why);
}

/* Nothing new begins there before it is gone. */
static int remove_node(struct operation *o, struct node *node, struct members *members)
{
	bool drained = atomic_load(&node->draining);
	int r;

	node_drain(node, o->deadline);
	r = members_remove(members, node->host, node->port, &o->change, o->why);
	if (r < 0 && !drained)
		(void)node_undrain(node);
	return r;
}

static int undrain(struct operation *o, struct node *node)
{
	if (node_undrain(node))
		return 0;
	snprintf(o->why, sizeof(o->why), "node %.100s does not drain", o->name);
	return -EALREADY;
}

static int with_node(struct operation *o, struct node *node, const struct node_list *nodes, struct members *members)
{
	int r;

	snprintf(o->name, sizeof(o->name), "%s", node->name);
	r = may_run(o, node, nodes);
	if (r < 0)
		return r;
	switch (o->what) {
	case OPERATION_REMOVE:
		r = remove_node(o, node, members);
		break;
	case OPERATION_ENABLE:
	case OPERATION_DISABLE:
		r = members_enable(members, node->host, node->port, o->what == OPERATION_ENABLE, &o->change, o->why);
		break;
	case OPERATION_DRAIN:
		node_drain(node, o->deadline);
		break;
	case OPERATION_UNDRAIN:
		r = undrain(o, node);
		break;
	case OPERATION_NAME_PRIMARY:
		r = members_name_primary(members, node->host, node->port, &o->change, o->why);
		break;
	case OPERATION_ADD:
		break;
	}
	if (r == 0 && makes_leave(o))
		o->links_left = atomic_load(&node->links);
	return r;
}

int operation_run(struct operation *o, struct node_list *nodes, struct members *members)
{
	struct node *node;
	int r;

	if (o->what == OPERATION_ADD)
		return add(o, members);
	if (o->what == OPERATION_NAME_PRIMARY && !*o->node)
		return members_name_primary(members, NULL, 0, &o->change, o->why);
	node_list_hold(nodes);
	node = node_list_find(nodes, o->node);
	if (node) {
		r = with_node(o, node, nodes, members);
	} else {
		snprintf(o->why, sizeof(o->why), "no such node: %.200s", o->node);
		r = -ENOENT;
	}
	node_list_release(nodes);
	return r;
}
