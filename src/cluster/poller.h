/*
 * When nodes are asked where they are in the log between their checks, and the lag that follows.
 *
 * They are asked only while somebody wants to know: an idle proxy costs its nodes nothing. A worker says so by a store,
 * and wakes the cluster's thread only when nothing was being asked. All nodes are asked in the same turn, so that what
 * a standby tells is compared with what the primary told a moment ago.
 */
#ifndef CLUSTER_POLLER_H
#define CLUSTER_POLLER_H

#include "cluster/lag.h"
#include "cluster/monitor.h"
#include "cluster/topology.h"

struct poller { /* zero to begin with */
	_Atomic usec_t wanted_at;
	_Atomic bool polling;
	_Atomic uint32_t waiters; /* who do nothing else until they know: they are told soon */
	usec_t since, last;       /* of the polling that goes on; last: 0: nobody was asked yet */
	struct node *primary;     /* the track is of its positions, on this timeline */
	uint32_t timeline;
	struct lag_track track;
};

/* Any thread: somebody wants to know. true: the cluster's thread is to be woken. */
bool poller_want(struct poller *poller);
/* The rest is for the cluster's thread. Are the nodes to be asked now? interval 0: never. */
bool poller_is_due(struct poller *poller, usec_t interval);
/* How long until that may be so; USEC_NEVER: nobody wants to know. */
usec_t poller_until_due(const struct poller *poller, usec_t interval);
/* Any thread: one more waits, or one less. true: the cluster's thread is to be woken. */
bool poller_wait(struct poller *poller, int more);
bool poller_is_awaited(const struct poller *poller);
/* A node has told where it is: the lag of a standby is in the node then. true: it is. The primary's word first. */
bool poller_take(struct poller *poller, const struct topology *topology, struct node *node,
		 const struct monitor_place *place);
/* Is a lag of that time too old to go by? */
bool poller_is_too_old(const struct poller *poller, usec_t lag_at, const struct monitor_settings *settings);

#endif
