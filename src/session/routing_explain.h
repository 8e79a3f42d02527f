/* Where would a query go, and why: for people. */
#ifndef SESSION_ROUTING_EXPLAIN_H
#define SESSION_ROUTING_EXPLAIN_H

#include "session/wishes.h"

struct worker;

struct routing_question {
	const char *database, *user, *text;
	bool wrote;     /* the session has just written */
	uint64_t lsn;   /* it has written up to there, or wants what is; 0: nothing */
	bool read_only; /* its transactions are, unless they say otherwise */
};

struct routing_verdict {
	const struct node *node;
	const char *why_not; /* NULL: it may be chosen */
};

struct routing_explanation {
	bool routes; /* else all goes to the primary: the rest is unset */
	bool has_catalog;
	struct route_rules rules; /* of the user */
	struct access access;
	uint32_t notice_count;
	char notices[HINT_PROBLEMS_MAX][WISH_PROBLEM_MAX]; /* what of its hints would be ignored */
	struct route_choice choice;                        /* node: one that would be chosen now; NULL: the primary */
	uint32_t count;
	struct routing_verdict nodes[BALANCE_MAX];
};

/* On the worker's thread. 0, -ENOENT: no such database, -ENOMEM. The catalog is asked for, as a client would. */
int routing_explain(struct worker *w, const struct routing_question *question,
		    struct routing_explanation *ret) MUST_USE;

#endif
