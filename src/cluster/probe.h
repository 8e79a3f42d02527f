/*
 * Probes: the nodes are checked every health.check_interval by connecting to them and closing the connection again, so
 * that a node that is gone is noticed without any client. What the checks find out is in the nodes (node_checked()).
 * All of it happens on the cluster's thread (cluster.h), by its loop. Monitors (monitor.h) log in, and find out more.
 */
#ifndef CLUSTER_PROBE_H
#define CLUSTER_PROBE_H

#include "cluster/node.h"
#include "loop/loop.h"

struct probes;

/* NULL: out of memory. */
struct probes *probes_new(struct node_list *nodes);
/* Once a second or so, and when a node is in doubt: begins what is due. The settings are copied. */
void probes_tick(struct probes *probes, struct loop *loop, const struct config_health *settings);
/* Ends what is under way. */
void probes_pause(struct probes *probes);
/* Likewise; nothing begins any more. The probes' thread, or when it has ended. */
void probes_stop(struct probes *probes);
void probes_free(struct probes *probes); /* stopped, or never begun. NULL is fine */

#endif
