/*
 * A monitor: asks one node what it is, over a connection of its own that is kept open. All monitors live on the thread
 * of the cluster (cluster.h), by its loop.
 *
 *   IDLE --monitor_check()--> OPENING --> ASKING --> IDLE        OPENING only while there is no connection
 *   IDLE --monitor_locate()--> LOCATING --> IDLE                 the light question: where is it in the log?
 *   IDLE --monitor_beat()--> BEATING --> IDLE                    a heartbeat is written, or read: heartbeat.h
 *
 * A check ends within its time-out: good, or with the reason why not. A connection that broke since the last check says
 * nothing of the node: the check goes on with a new one.
 */
#ifndef CLUSTER_MONITOR_H
#define CLUSTER_MONITOR_H

#include "cluster/facts.h"
#include "cluster/loss.h"
#include "cluster/node.h"
#include "link/link.h"
#include "loop/loop.h"

/* What checks need of a configuration; a value of its own, since configurations go with a reload. */
struct monitor_settings {
	struct config_health health; /* its strings are those below, and not to be looked at */
	bool logs_in;                /* there is a user; else nodes are only probed */
	struct loss_settings loss;
	bool of_heliosdb; /* nodes are HeliosDB: facts_heliosdb.h */
	char *user, *database;
	char *check_query; /* "": none */
	struct secret secret;
	struct tls_context *tls;
	enum tls_mode tls_mode;
	bool tls_direct;
	usec_t keepalive, user_timeout;
	bool discovers; /* [topology] discover and what belongs to it */
	uint16_t discover_port;
	usec_t discover_forget;
	usec_t poll_interval;  /* of positions; 0: they are not asked for */
	char *heartbeat_table; /* "": none */
	char *proxy;           /* what this one is called there */
	usec_t heartbeat_interval;
	bool refuses_contested; /* writes, while several nodes are read-write on one timeline */
};

/* NULL: out of memory. */
struct monitor_settings *monitor_settings_new(const struct config *config, struct tls_context *server_tls);
void monitor_settings_free(struct monitor_settings *settings); /* NULL is fine */
/* Must connections be made anew? */
bool monitor_settings_differ(const struct monitor_settings *a, const struct monitor_settings *b);

struct monitor;

/* What the light question was answered with last. */
struct monitor_place {
	struct facts_position position;
	usec_t asked_at, told_at; /* 0: never */
};

/* The last heartbeat that was written or read. */
struct monitor_beat {
	bool is_write, good;
	uint64_t beat;            /* read: 0: there is none */
	usec_t asked_at, told_at; /* 0: never */
};

struct monitor *monitor_new(struct node *node, struct loop *loop); /* NULL: out of memory */
/* Begins a check; what it finds out is in the facts when it is busy no more. The settings must stay until then, or
 * until monitor_close(). Not while it is busy. */
void monitor_check(struct monitor *monitor, const struct monitor_settings *settings);
bool monitor_is_busy(const struct monitor *monitor);
/* May it be asked the light question? Its connection is there and idle, and its last check was good. */
bool monitor_may_locate(const struct monitor *monitor);
/* Asks it; the same holds of the settings. */
void monitor_locate(struct monitor *monitor, const struct monitor_settings *settings);
/* May it be asked to write or to read a heartbeat? */
bool monitor_may_beat(const struct monitor *monitor);
/* A node that is in recovery is asked for its beat, another is to write this one. */
void monitor_beat(struct monitor *monitor, const struct monitor_settings *settings, uint64_t beat);
const struct monitor_beat *monitor_last_beat(const struct monitor *monitor);
const struct node_facts *monitor_facts(const struct monitor *monitor);
const struct monitor_place *monitor_place(const struct monitor *monitor);
struct node *monitor_node(const struct monitor *monitor);
/* Ends what is under way and closes the connection; the facts stay. */
void monitor_close(struct monitor *monitor);
/* Likewise, and nothing is known of the node any more: it has left, or has come back. */
void monitor_forget(struct monitor *monitor);
void monitor_free(struct monitor *monitor); /* closed */

#endif
