/*
 * What a worker needs to route: see routing.c, and route/route.h for how it is decided.
 */
#ifndef SESSION_ROUTING_H
#define SESSION_ROUTING_H

#include "route/catalogs.h"
#include "route/route.h"
#include "route/understanding.h"
#include "route/writers.h"

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
	const uint8_t *bytes;  /* of the Bind or Parse; NULL: nothing */
	struct slice name;     /* of the statement */
	const uint8_t *behind; /* the byte behind that */
	struct statement_text *text;
};

/* The standbys that are all as good for any read of a pool; as it was found, until something changes. */
struct routing_fit {
	const struct shard *home; /* of that pool; NULL: nothing was found */
	uint64_t changes;         /* changes_now() */
	usec_t found_at;
	uint64_t catalog;      /* its number */
	struct position least; /* all have replayed as much */
	uint32_t count;        /* 0: it is not that simple */
	struct shard *shards[ROUTE_FIT_MAX];
};

#define ROUTING_FITS 64u
/* A user with rules of its own. */
struct routing_user {
	const char *name; /* of the configuration */
	struct route_rules rules;
};

struct routing {
	struct routing_memo memo;
	uint32_t turn;                         /* of standbys that are as good as each other */
	struct routing_fit fits[ROUTING_FITS]; /* by the shard's address */
	struct route_rules rules;
	struct balance_state balance;
	struct understandings texts;
	bool hints;             /* they are heeded */
	bool sticks;            /* a session's reads stay on a standby */
	bool logs;              /* each decision */
	bool goes_the_long_way; /* with every batch, for the sake of one of these */
	bool wants_loads;       /* the strategy asks how busy nodes are */
	struct routing_node nodes[BALANCE_MAX];
	struct routing_user *users;
	uint32_t user_count;
	bool notes_users, notes_anybody; /* somebody heeds what others of his user, or what all write */
	struct writers_known known[WRITERS_CELLS];
};

/* By the configuration, now and after each reload: makes w->routing, or frees it. True: it is new, and nothing is known
 * of what the sessions that are there have written. Out of memory: all goes to the primary. */
bool routing_configure(struct worker *w, const struct config *config);
void routing_end(struct worker *w);
/* Any thread: positions of nodes were told. Sessions that wait for one look again. */
void routing_positions_told(struct worker *w);

#endif
