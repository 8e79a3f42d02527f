/*
 * The topology: what follows from the facts. A topology is an immutable value, made by one pure function of facts,
 * configuration and the topology before it; it says which node is the primary (or why none is), how the others stand,
 * how far standbys lag, and what has changed.
 *
 * What it takes care of:
 *  - A node is down after failure_threshold failed checks in a row, and up again after success_threshold good ones, or
 *    at once when a client's connection could log in to it. In between it stays what it was.
 *  - The primary is the one node that is up, read-write, of this cluster, on the newest timeline that was ever seen,
 * and not configured as `replica`. The role in the configuration is a first guess, no more: facts win.
 *  - Two such nodes on one timeline: none is the primary, for nobody can tell which has what clients wrote.
 *  - A node with another system identifier is of another cluster: never used. Which cluster is ours is what most nodes
 *    say at first, and is then kept until every node says otherwise.
 *  - Where somebody names the leader (an operator, Patroni), no other node is the primary; and that one is only if it
 * is read-write by its own word. It is even on an older timeline: whoever names it knows what was lost.
 *  - A node that was discovered is asked, and no more, until it has proved to be a standby of this cluster: before,
 * what it says counts for nothing.
 *  - Lag in seconds is measured by our clock alone (lag.h).
 */
#ifndef CLUSTER_TOPOLOGY_H
#define CLUSTER_TOPOLOGY_H

#include "cluster/facts.h"
#include "cluster/lag.h"
#include "config/config.h"

#include <stdatomic.h>

struct node;

/* X(name, text, refused, meaning). refused: it is read-write or answers, and must not be used. */
#define NODE_STANDINGS(X) \
	X(UNKNOWN, "unknown", false, "not asked yet, or it does not tell the monitor") \
	X(PRIMARY, "primary", false, "takes writes") \
	X(STANDBY, "standby", false, "in recovery, of this cluster") \
	X(DOWN, "down", false, "does not answer") \
	X(DISABLED, "disabled", false, "by configuration") \
	X(OTHER_CLUSTER, "other_cluster", true, "its system identifier is not that of this cluster") \
	X(OLD_TIMELINE, "old_timeline", true, "read-write on an older timeline: another node was promoted") \
	X(CONTESTED, "contested", true, "one of several read-write nodes on one timeline") \
	X(NOT_ELIGIBLE, "not_eligible", true, "read-write, but configured as replica") \
	X(NOT_NAMED, "not_named", true, "read-write, but another node was named as the primary") \
	X(STRANGER, "stranger", true, "discovered, but read-write: no standby of this cluster")

enum node_standing {
#define X(name, text, refused, meaning) STANDING_##name,
	NODE_STANDINGS(X)
#undef X
};

#define NO_PRIMARY_REASONS(X) \
	X(THERE_IS_ONE, "") \
	X(NOT_KNOWN_YET, "not every node has been asked yet") \
	X(PRIMARY_DOWN, "the primary is down") \
	X(ALL_DOWN, "no node answers") \
	X(NONE_READ_WRITE, "no node is read-write") \
	X(REFUSED, "the only read-write node must not be used") \
	X(SEVERAL, "several nodes are read-write on one timeline") \
	X(NAMED_IN_RECOVERY, "the node that was named as the primary is in recovery") \
	X(NOBODY_NAMED, "there is no leader, say those who name it")

enum no_primary {
#define X(name, text) NO_PRIMARY_##name,
	NO_PRIMARY_REASONS(X)
#undef X
};

/* What is to become of writes. */
#define TOPOLOGY_WRITES(X) \
	X(GO, "go") \
	X(HELD, "held") \
	X(FAILING, "failing") \
	X(REFUSED, "refused")

enum topology_writes {
#define X(name, text) WRITES_##name,
	TOPOLOGY_WRITES(X)
#undef X
};

/* X(name, text, level): what the log says of it, at which level. */
#define TOPOLOGY_EVENTS(X) \
	X(NODE_DOWN, "node is down", LOG_WARN) \
	X(NODE_UP, "node is up", LOG_INFO) \
	X(PRIMARY_IS, "this node is the primary", LOG_INFO) \
	X(FAILOVER, "another node is the primary now", LOG_WARN) \
	X(PRIMARY_LOST, "there is no primary", LOG_ERROR) \
	X(DEMOTED, "the former primary is a standby now", LOG_INFO) \
	X(NODE_REFUSED, "node must not be used", LOG_ERROR) \
	X(NODE_ACCEPTED, "node may be used again", LOG_INFO) \
	X(ROLE_CONTRADICTS, "the configured role is not what the node is; the node is believed", LOG_WARN) \
	X(OTHER_SYSTEM, "every node has a new system identifier: the cluster was made anew", LOG_WARN)

enum topology_event_kind {
#define X(name, text, level) TOPOLOGY_##name,
	TOPOLOGY_EVENTS(X)
#undef X
};

#define TOPOLOGY_HISTORY  32u
#define TOPOLOGY_LAG_NONE (-1) /* not known */

struct topology_event {
	uint64_t wall;
	enum topology_event_kind kind;
	struct node *node;           /* NULL: of no node */
	enum node_standing standing; /* of the node, then */
	enum no_primary why;         /* PRIMARY_LOST */
};

struct topology_node {
	struct node *node; /* who it is; not looked into here */
	const char *host;  /* lives as long as the node, which is longer than any topology */
	uint32_t port;
	enum node_role configured;
	bool enabled, up;
	bool spared;      /* takes no reads, by its source's word */
	bool named;       /* as the leader */
	bool is_guest;    /* discovered, and not proved to be a standby yet */
	bool takes_reads; /* a standby that has told what it is, and answers */
	bool contradicts; /* configured otherwise than it is */
	bool was_primary; /* and has not been a standby since */
	enum node_standing standing;
	uint64_t since_wall; /* when this standing began */
	int64_t lag_bytes;   /* of a standby; TOPOLOGY_LAG_NONE */
	int64_t lag_us;
	char sync_state[12];   /* of a standby, as the primary says; "": not known */
	struct node *upstream; /* of a standby: the node it streams from, if it is one of ours */
	struct node_facts facts;
};

static inline bool topology_node_takes_reads(const struct topology_node *n)
{
	return n->takes_reads;
}

struct topology {
	_Atomic uint32_t references; /* see cluster.h */
	uint64_t number;             /* 1, 2, 3 ... */
	uint64_t made_wall;
	bool by_configuration; /* no node has told its role: roles are the configuration's */
	bool leader_is_named;  /* or that there is none */
	struct node *primary;  /* NULL: see why */
	enum no_primary why;
	enum topology_writes writes;
	bool has_standby;          /* one is up and enabled: reads may go there */
	struct node *last_primary; /* the primary, or the one before */
	uint64_t system_id;        /* of the cluster; 0: not known */
	uint32_t timeline;         /* the newest that was seen in it */
	uint64_t last_failover_wall;
	uint64_t failovers;
	struct lag_track track; /* of the primary's positions */
	uint64_t event_count;   /* ever; the last TOPOLOGY_HISTORY of them are kept */
	struct topology_event history[TOPOLOGY_HISTORY];
	uint32_t count;
	struct topology_node nodes[]; /* in the order of the configuration */
};

struct topology_settings {
	uint32_t failure_threshold, success_threshold;
	enum topology_writes when_contested; /* WRITES_HELD or WRITES_REFUSED */
	bool leader_is_named;                /* only the input that is `named` may be the primary */
	bool monitored;                      /* nodes are asked; else facts only say which are up */
};

struct topology_input {
	struct node *node;
	const char *host;
	uint32_t port;
	enum node_role configured;
	bool enabled;
	bool spared, named; /* see struct topology_node */
	bool discovered;
	bool judged_up;     /* when not monitored: by probes and logins */
	usec_t answered_at; /* a client's connection logged in; 0: never */
	const struct node_facts *facts;
};

/* previous may be NULL. NULL: out of memory. The result has one reference; free() is how it ends. */
struct topology *topology_make(const struct topology_settings *settings, const struct topology_input *inputs,
			       uint32_t count, const struct topology *previous, uint64_t wall);
/* NULL: it knows no such node. */
const struct topology_node *topology_find(const struct topology *topology, const struct node *node);
/* The event of this number, 0 the first ever; NULL: no longer kept, or not there yet. */
const struct topology_event *topology_event(const struct topology *topology, uint64_t number);
/* Is there anything in it that the other one lacks? What a check found out counts only if it was another check. */
bool topology_differs(const struct topology *a, const struct topology *b);
bool standing_is_refused(enum node_standing standing);
const char *standing_name(enum node_standing standing);
const char *no_primary_text(enum no_primary why);
const char *topology_writes_text(enum topology_writes writes);
const char *topology_event_text(enum topology_event_kind kind);
const char *topology_event_name(enum topology_event_kind kind);
enum log_level topology_event_level(enum topology_event_kind kind);

#endif
