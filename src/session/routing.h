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

struct routing {
	struct route_rules rules;
	struct balance_state balance;
	struct understandings texts;
	struct routing_node nodes[BALANCE_MAX];
};

/* By the configuration, now and after each reload: makes w->routing, or frees it. True: it is new, and nothing is known
 * of what the sessions that are there have written. Out of memory: all goes to the primary. */
bool routing_configure(struct worker *w, const struct config *config);
void routing_end(struct worker *w);

#endif
