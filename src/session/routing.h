/*
 * What a worker needs to route: see routing.c, and route/route.h for how it is decided.
 */
#ifndef SESSION_ROUTING_H
#define SESSION_ROUTING_H

#include "route/route.h"
#include "route/understanding.h"

struct config;
struct worker;

struct routing {
	struct route_rules rules;
	struct route_turns turns;
	struct understandings texts;
	usec_t since; /* what was written before is not known, and counts as written then */
};

/* By the configuration, now and after each reload: makes w->routing, or frees it. Out of memory: all goes to the
 * primary.
 */
void routing_configure(struct worker *w, const struct config *config);
void routing_end(struct worker *w);

#endif
