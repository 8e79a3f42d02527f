/*
 * The cluster: the thread that checks the nodes, and the topology that follows from what it finds out.
 *
 * It is a thread of its own, with a loop: the control thread is held up by name resolution and reloads for seconds, and
 * a worker that is busy would take a node for dead, as checks would make its clients wait. It reads, and once in a
 * while: a machine whose cores are all taken by workers does not notice it.
 *
 * A topology is published by one pointer. Workers may look at it until the end of their turn; others hold a reference.
 * The old one goes when every worker has passed a turn (retire()), and nobody holds it.
 */
#ifndef CLUSTER_CLUSTER_H
#define CLUSTER_CLUSTER_H

#include "cluster/node.h"
#include "cluster/topology.h"
#include "loop/loop.h"

struct cluster;

struct cluster_context {
	struct node_list *nodes;
	struct members *members;     /* hears of standbys that are discovered; NULL: nobody does */
	const struct config *config; /* at the start */
	struct tls_context *server_tls;
	const char *io; /* as loop_new() */
	/* Calls free_it(topology) when every worker has passed a turn; on the cluster's thread. */
	void (*retire)(void *server, void (*free_it)(void *topology), void *topology);
	/* A client's connection failed, or a node is not what it was said to be: whoever says it is to be asked at
	 * once. On the cluster's thread, again and again while it is so. NULL: there is nobody to ask. */
	void (*unsure)(void *server);
	/* node_list_primary() is another one now, or a node is barred, or not any more; on the cluster's thread. */
	void (*followed)(void *server);
	/* Nodes have told where they are while somebody awaits that; on the cluster's thread. */
	void (*located)(void *server);
	void *server;
};

/* Starts the thread; there is a topology when it returns. 0 or -errno. */
int cluster_start(const struct cluster_context *context, struct cluster **ret_cluster) MUST_USE;
/* Control thread: from now on with this configuration; the nodes are reloaded already. */
void cluster_reload(struct cluster *cluster, const struct config *config, struct tls_context *server_tls);
/* Any thread: something is to be looked at sooner than it would be. */
void cluster_wake(struct cluster *cluster);
/* Any thread: positions and lags (struct node) are wanted; for the next seconds they are asked for every [lag_routing]
 * poll_interval. Cheap enough for every query. */
void cluster_want_positions(struct cluster *cluster);
/* Any thread: one more (+1), or one less (-1), does nothing until it knows: they are asked at once and every few
 * milliseconds, and located() tells. Nothing comes of it where poll_interval is 0. */
void cluster_await_positions(struct cluster *cluster, int more);
/* For a worker: valid until the end of its turn. */
const struct topology *cluster_now(const struct cluster *cluster);
/* For other threads. */
const struct topology *cluster_hold(struct cluster *cluster);
void cluster_release(const struct topology *topology);
/* What is done with what needs the primary. */
enum topology_writes cluster_writes(const struct node_list *nodes, const struct topology *topology);
/* Ends the thread, while the workers that retire() asks are still there; it may still be woken, for nothing. NULL is
 * fine. */
void cluster_stop(struct cluster *cluster);
/* Stopped, and no other thread knows of it any more. What was retired is freed by those who were asked to. NULL is
 * fine. */
void cluster_free(struct cluster *cluster);

#endif
