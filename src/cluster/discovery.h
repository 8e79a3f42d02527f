/*
 * Discovery: standbys that stream from the primary, by its pg_stat_replication, and that are none of the known nodes,
 * become members. On the cluster's thread.
 *
 * What the primary tells is where a connection comes from, which proves nothing: who is there is found out by a monitor
 * (see is_guest in topology.h), on the port of the primary, or on the one that is configured. A standby that is known
 * by another address than it streams from is not taken for a new one as long as its application_name tells.
 */
#ifndef CLUSTER_DISCOVERY_H
#define CLUSTER_DISCOVERY_H

#include "cluster/monitor.h"
#include "cluster/topology.h"

struct discovery;
struct members;

/* members NULL: nothing is ever discovered. NULL: out of memory. */
struct discovery *discovery_new(struct members *members);
void discovery_free(struct discovery *discovery); /* NULL is fine */
/* Has the primary told anything new? Nobody is forgotten while there is none that tells. */
void discovery_look(struct discovery *discovery, const struct monitor_settings *settings,
		    const struct topology *topology);

#endif
