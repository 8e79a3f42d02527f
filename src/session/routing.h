/*
 * What a worker needs to route: see routing.c, and route/route.h for how it is decided.
 */
#ifndef SESSION_ROUTING_H
#define SESSION_ROUTING_H

#include "route/catalogs.h"
#include "route/route.h"
#include "route/understanding.h"

struct config;
struct worker;

/* How long a node takes, as this worker sees it. */
struct routing_node {
	const struct node *node; /* NULL: a free place */
	uint32_t latency;        /* see balance_latency() */
	usec_t measured_at;
};

/* What was looked up for a message that is about to be handled, while it is: which statement its bytes mean. */
struct routing_memo {
	const uint8_t *bytes; /* of a Bind's statement name, of a Parse behind its name; NULL: nothing */
	struct statement_text *text;
};

/* The standbys that are all as good for any read, as they were within the last millisecond. */
struct routing_fit {
	uint64_t topology, key; /* numbers of the topology and of the catalog */
	usec_t found_at;
	uint32_t count, next;
	struct position least; /* all have replayed as much */
	struct node *nodes[ROUTE_FIT_MAX];
	struct shard *home, *shards[ROUTE_FIT_MAX]; /* of the pool that asked last; NULL: not looked for yet */
};

struct routing {
	struct routing_memo memo;
	struct routing_fit fit;
	struct route_rules rules;
	struct balance_state balance;
	struct understandings texts;
	bool hints;       /* they are heeded */
	bool wants_loads; /* the strategy asks how busy nodes are */
	struct routing_node nodes[BALANCE_MAX];
};

/* By the configuration, now and after each reload: makes w->routing, or frees it. True: it is new, and nothing is known
 * of what the sessions that are there have written. Out of memory: all goes to the primary. */
bool routing_configure(struct worker *w, const struct config *config);
void routing_end(struct worker *w);

#endif
