/*
 * What the files of the cluster's thread share:
 *   cluster.c    the thread, its settings, the topology that others see
 *   checks.c     when a node is checked
 *   conclude.c   from what is known of the nodes to a topology, and who follows it
 *   behind.c     how far standbys are behind: by their positions, and by heartbeats
 */
#ifndef CLUSTER_CLUSTER_PRIV_H
#define CLUSTER_CLUSTER_PRIV_H

#include "cluster/cluster.h"
#include "cluster/discovery.h"
#include "cluster/heartbeat.h"
#include "cluster/loss.h"
#include "cluster/monitor.h"
#include "cluster/poller.h"
#include "cluster/probe.h"

struct watched { /* a node that was ever checked by a monitor */
	struct watched *next;
	struct monitor *monitor;
	bool is_used;   /* it is in the list, and enabled */
	bool is_blank;  /* nothing is known of it */
	uint32_t lives; /* of the node, when it was looked at last */
	bool in_doubt;  /* a client's connection failed, since its last good check */
	usec_t due, begun;
	usec_t placed_at; /* its word on its position that was taken last */
	usec_t lag_at;    /* of the lag in its node; 0: unknown */
	bool beat_due;    /* it is to write or to read one as soon as it is idle */
	usec_t beat_at;   /* when its last one was told that was taken; beat_lag_at: of the lag by that; 0: unknown */
	usec_t beat_lag_at;
};

/* What a topology was made from, as far as that changes: see topology_input. */
struct made_from {
	const struct node *node;
	enum node_role configured;
	bool enabled, judged_up, got_in; /* got_in: a client, since it failed */
	bool spared, named;
	usec_t checked_at;
};

struct cluster {
	struct cluster_context context;
	struct loop *loop;
	pthread_t thread;
	struct monitor_settings *settings;
	struct watched *watched;
	struct probes *probes; /* while no monitor is configured */
	struct poller poller;
	struct discovery *discovery;
	struct heartbeat heartbeat;
	bool located;                /* some node has told where it is, in this turn */
	struct made_from *made_from; /* the topology of now; NULL: nothing, make it anew */
	uint32_t made_from_count;
	bool made_by_name; /* a leader was named */
	struct loss loss;  /* of the primary */
	_Atomic bool stopping;
	pthread_mutex_t lock; /* of `now`, for those who hold */
	_Atomic(struct topology *) now;
	struct loop_message wake;
	_Atomic bool wake_is_posted;
};

/* All of it is the cluster's thread's, which holds the list of nodes meanwhile. */

/* ---- cluster.c ---- */
/* The topology is the callee's; from now on it is the one of now. */
void cluster_publish(struct cluster *cluster, struct topology *fresh);

/* ---- checks.c ---- */
/* NULL: a monitor has never checked it. */
struct watched *watched_of(struct cluster *cluster, const struct node *node);
/* Begins the checks that are due, of what is in the list; what is not is forgotten. */
void checks_look(struct cluster *cluster, const struct node_set *set);
/* Whoever names the leader is asked, when the nodes say something else. */
void checks_ask_if_unsure(struct cluster *cluster);
/* How long may the loop sleep? */
usec_t checks_until_next(const struct cluster *cluster);

/* ---- conclude.c ---- */
/* Out of memory: the topology stays as it is until the next look. */
void cluster_conclude(struct cluster *cluster);
/* It failed a client's connection, and the check that followed; or it let a client not in, and is not checked since.
 * NULL: it did not. */
bool cluster_is_failing(struct cluster *cluster, struct node *node);

/* ---- behind.c ---- */
/* As the checks found it, unless it was asked more lately where it is. */
void behind_take(struct cluster *cluster, const struct topology_node *n);
void behind_forget(struct watched *w);
void behind_forget_beat(struct watched *w);
/* Asks where they are, and has heartbeats written and read, when it is due. */
void behind_ask(struct cluster *cluster);
/* What was told since the last time, and what nobody has told for too long. */
void behind_take_places(struct cluster *cluster);

#endif
