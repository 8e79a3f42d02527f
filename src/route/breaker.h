/*
 * Circuit breakers: a node that fails, or that is slow, is not asked any more for a while, and then first by a few.
 *
 *   CLOSED --too much of the last calls failed--> OPEN --its time is over--> HALF_OPEN --success_threshold good-->
 * CLOSED
 *                                                  ^-------------- one failed -------'
 *
 * A call is whatever is asked of a node: a login, a transaction, a statement. Calls are counted by each worker for
 * itself; whoever sees one fail judges at once, and a worker's tick does so once a second. No lock is taken on the way
 * of a call that is good while the breaker is closed.
 *
 * What counts as failed: connections that are refused, lost, or time out, and the errors of breaker_errors.def.
 */
#ifndef ROUTE_BREAKER_H
#define ROUTE_BREAKER_H

#include "base/buf.h"
#include "cluster/node.h"
#include "route/breaker_window.h"

/* X(name, text, meaning). The texts are the reference's. */
#define BREAKER_STATES(X) \
	X(CLOSED, "closed", "calls go to the node") \
	X(OPEN, "open", "none does") \
	X(HALF_OPEN, "halfopen", "a few do, to see how it is")

enum breaker_state {
#define X(name, text, meaning) BREAKER_##name,
	BREAKER_STATES(X)
#undef X
};

/* X(name, text): why it changed. */
#define BREAKER_REASONS(X) \
	X(FAILURES, "too many failures") \
	X(SLOW, "too many slow calls") \
	X(TIME_OVER, "its time was over") \
	X(PROBE_FAILED, "a probe failed") \
	X(PROBES_GOOD, "the probes were good") \
	X(DISABLED, "breakers were turned off")

enum breaker_reason {
#define X(name, text) BREAKER_BECAUSE_##name,
	BREAKER_REASONS(X)
#undef X
};

enum breaker_failure { /* of a call, and whether the configuration counts it */
		       BREAKER_GOOD,
		       BREAKER_CONNECTION, /* refused or lost */
		       BREAKER_TIMEOUT,
		       BREAKER_ERROR_OF_NODE, /* breaker_error_counts() */
};

#define BREAKER_HISTORY 32u
#define BREAKER_THREADS 256u

struct breakers;

/* NULL: out of memory. All nodes of the list have one, also those that come with a reload. */
struct breakers *breakers_new(struct node_list *nodes, const struct config *config);
/* Control thread, when the list of nodes is the new one. Out of memory: nodes without one are always allowed. */
void breakers_reload(struct breakers *breakers, const struct config *config);
/* Once a second, on any one thread at a time: judges, and lets those whose time is over be asked again. */
void breakers_tick(struct breakers *breakers);
/* No thread uses one any more. NULL is fine. */
void breakers_free(struct breakers *breakers);
bool breakers_enabled(const struct breakers *breakers);

/* What a call that is let through takes along; 0: nothing special, else it is one of the few probes. */
typedef uint32_t breaker_ticket;

/* The part of a breaker that others look at without a lock. First in struct breaker. */
struct breaker_gate {
	_Atomic int state; /* enum breaker_state */
};

bool breaker_is_due(const struct node *node); /* not CLOSED: would a call be let through all the same, as a probe? */

/* Or there is none. */
static inline bool breaker_is_closed(const struct node *node)
{
	const struct breaker_gate *gate =
		atomic_load_explicit(&((struct node *)(uintptr_t)node)->breaker, memory_order_acquire);

	return !gate || atomic_load_explicit(&((struct breaker_gate *)(uintptr_t)gate)->state, memory_order_relaxed) ==
				BREAKER_CLOSED;
}

/* May a call go to the node? For choosing: takes and counts nothing. */
static inline bool breaker_allows(const struct node *node)
{
	return breaker_is_closed(node) || breaker_is_due(node);
}

/* A call is about to go there. false: it must not, and is counted as rejected. */
bool breaker_begin(struct node *node, uint32_t thread, breaker_ticket *ret_ticket) MUST_USE;
/* It is over. took: 0: not measured. */
void breaker_end(struct node *node, uint32_t thread, breaker_ticket ticket, enum breaker_failure failure, usec_t took);
/* It was not made, or nobody knows how it ended: a probe's place is free again. */
void breaker_give_up(struct node *node, breaker_ticket ticket);
/* A call goes there in any case, on a connection that is open: it is a probe if there is room for one. */
breaker_ticket breaker_join(struct node *node);

/* Does an error with this SQLSTATE speak of the node? For breaker_end() it is BREAKER_ERROR_OF_NODE, else
 * BREAKER_GOOD, or BREAKER_CONNECTION for those of class 08. */
enum breaker_failure breaker_judge_error(const struct node *node, struct slice sqlstate);

/* ---- for people ---- */
struct breaker_change {
	uint64_t wall;
	enum breaker_state from, to;
	enum breaker_reason why;
};

struct breaker_view {
	enum breaker_state state;
	uint64_t since_wall;
	usec_t retry_in;                        /* OPEN: until it is asked again */
	uint64_t time_in[3];                    /* microseconds in each state, since the start */
	uint64_t opened, rejected, transitions; /* since the start */
	struct breaker_counts total, window;
	uint32_t probes, good_probes; /* HALF_OPEN: under way; good ones in a row */
	double usual;                 /* see adaptive */
	uint32_t change_count;
	struct breaker_change changes[BREAKER_HISTORY]; /* the newest first */
};

/* false: the node has none. */
bool breaker_look(const struct node *node, struct breaker_view *ret) MUST_USE;
const char *breaker_state_name(enum breaker_state state);
const char *breaker_reason_text(enum breaker_reason reason);

#endif
