/*
 * What an operator does with a node, over whichever surface: the rules of it, and words for people.
 */
#ifndef CLUSTER_OPERATION_H
#define CLUSTER_OPERATION_H

#include "cluster/members.h"
#include "cluster/node.h"

enum node_operation {
	OPERATION_ADD,          /* member says what */
	OPERATION_REMOVE,       /* one that was added by hand; its links leave */
	OPERATION_ENABLE,       /* whatever the configuration says */
	OPERATION_DISABLE,      /* its links leave */
	OPERATION_DRAIN,        /* likewise; it is not kept in the state file */
	OPERATION_UNDRAIN,      /* -EALREADY: it did not drain */
	OPERATION_NAME_PRIMARY, /* node "": nobody is named any more */
};

struct operation {
	enum node_operation what;
	char node[MEMBER_HOST_MAX + 8]; /* a name, or host:port */
	bool force;                     /* also the primary */
	usec_t deadline;                /* of OPERATION_REMOVE and _DRAIN, from now on; USEC_NEVER: none */
	struct member member;           /* of OPERATION_ADD */
	/* what came of it */
	char name[MEMBER_HOST_MAX + 8]; /* of the node */
	uint32_t links_left;            /* that leave */
	struct members_change change;   /* number 0: the members did not change */
	char why[MEMBERS_WHY_MAX];      /* it was refused */
};

/*
 * 0, or -errno and why: -ENOENT: there is no such node; -EBUSY: it is the primary, force does it all the same; and what
 * members_add() and the like return. May write a file and wait for the disk: control or admin threads. The caller tells
 * the workers, should links leave.
 */
int operation_run(struct operation *operation, struct node_list *nodes, struct members *members) MUST_USE;

#endif
