/* What node.c and node_address.c share. */
#ifndef CLUSTER_NODE_PRIV_H
#define CLUSTER_NODE_PRIV_H

#include "cluster/node.h"

struct node_list {
	_Atomic(struct node_set *) now;
	_Atomic(struct node *) all;     /* one is added in front, none is ever taken out */
	_Atomic uint32_t made, sets;    /* nodes ever; sets that are kept */
	uint64_t changes;               /* of `now`; the control thread's own */
	_Atomic uint64_t passed;        /* of these: every worker has passed a turn since */
	_Atomic uint32_t lookers;       /* see node_list_hold() */
	_Atomic(struct node *) leader;  /* NULL: nobody names one; &nobody: none is named */
	_Atomic(struct node *) primary; /* see node_list_follow() */
	usec_t resolve_at;              /* no name is looked up before */
	void *alarm_argument;
	_Atomic(void (*)(void *argument)) alarm; /* NULL: none */
	_Atomic uint32_t shunned;                /* nodes that drain or are barred, or were when they left the list */
	struct node *unknown;                    /* in no set */
	_Atomic bool expects_next;               /* see node_list_expect_next() */
};

#endif
