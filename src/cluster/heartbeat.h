/*
 * Heartbeats: the proxy writes a number into a table on the primary, now and then, and reads it on the standbys. So
 * their lag in seconds is known even where positions in the log say nothing: while nobody else writes, and on servers
 * without comparable positions. The table must exist: docs/clusters.md has it.
 *
 * Only our clock counts: a beat is a number that grows, and when the primary had it is remembered here. A standby that
 * shows the newest beat lags less than an interval, and counts as not lagging.
 */
#ifndef CLUSTER_HEARTBEAT_H
#define CLUSTER_HEARTBEAT_H

#include "base/buf.h"
#include "cluster/lag.h"

struct node;

struct heartbeat { /* zero to begin with */
	usec_t due;
	const struct node *primary; /* what follows is of it */
	uint64_t beat;              /* of the last write that was begun */
	uint64_t written;           /* of the last that was confirmed; 0: none */
	usec_t written_at;
	struct lag_track track;
};

/* Time for another one? It is not again before the interval is over. interval 0: never. */
bool heartbeat_is_due(struct heartbeat *h, usec_t interval);
/* It is about to be written: the number. */
uint64_t heartbeat_begin(struct heartbeat *h, const struct node *primary, uint64_t wall);
void heartbeat_confirm(struct heartbeat *h, const struct node *primary, uint64_t beat, usec_t at);
/* A standby showed this beat at that time. false: nothing follows, or nothing was written since `patience`. */
bool heartbeat_measure(const struct heartbeat *h, uint64_t beat, usec_t at, usec_t patience, uint64_t *ret_us);

/* proxy: whose row it is. The table's name was checked. limit: how long the server may take. */
void heartbeat_write_sql(struct buf *sql, const char *table, const char *proxy, uint64_t beat, usec_t limit);
void heartbeat_read_sql(struct buf *sql, const char *table, const char *proxy);

#endif
