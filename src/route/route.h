/*
 * Where a batch of requests goes: to the primary, or to one of the standbys. Pure: what was understood of the texts,
 * what the session needs and what the topology says come in; a node and the reason come out. docs/routing.md has the
 * rules.
 *
 * A batch is what a server executes without the client being able to come in between: a simple query, or extended
 * messages up to Sync. It goes to one node.
 */
#ifndef ROUTE_ROUTE_H
#define ROUTE_ROUTE_H

#include "cluster/node.h"
#include "cluster/topology.h"
#include "config/config.h"
#include "route/balance.h"
#include "sql/access.h"

/* X(name, word, to a standby, meaning). The word is what metrics and people are told. */
#define ROUTE_REASONS(X) \
	X(WRITE, "write", false, "it writes, or may write") \
	X(TRANSACTION, "transaction", false, "a transaction block that is not READ ONLY") \
	X(SESSION, "session", false, "what the session has set needs the primary") \
	X(NOT_UNDERSTOOD, "not_understood", false, "not all of it was there to be looked at, or it is no statement") \
	X(NO_CATALOG, "no_catalog", false, "what functions and views do is not known (yet, or any more)") \
	X(NO_STANDBY, "no_standby", false, "no standby takes reads now") \
	X(LAG, "lag", false, "every standby lags further than is allowed, or nobody knows how far") \
	X(OWN_WRITES, "own_writes", false, \
	  "no standby is known to have replayed what the session, or who else counts, wrote") \
	X(WISH_PRIMARY, "wish_primary", false, "a hint, the session, or [routing.default] asks for the primary") \
	X(REPEATED, "repeated", false, "a standby failed to answer it") \
	X(PRIMARY_READS, "primary_reads", false, "a read, and the primary's turn") \
	X(READ, "read", true, "a read") \
	X(READ_ONLY, "read_only", true, "a transaction block that is READ ONLY") \
	X(WISH_STANDBY, "wish_standby", true, "a hint or the session asked for a standby, or for such a node") \
	X(WAITED, "waited", true, "a read that waited until a standby had replayed what was written")

enum route_reason {
#define X(name, word, standby, meaning) ROUTE_##name,
	ROUTE_REASONS(X)
#undef X
		ROUTE_REASON_COUNT,
};

#define ROUTE_FIT_MAX 16u

/* What a comment, or the session's settings, asks for. */
enum route_target {
	TARGET_ANY,
	TARGET_PRIMARY,
	TARGET_STANDBY,
	TARGET_SYNC,  /* a standby that the primary waits for */
	TARGET_ASYNC, /* one that it does not wait for */
	TARGET_NODE,
	TARGET_ALIAS, /* one of several nodes */
};

struct route_wish {
	enum route_target target;
	const struct node *node;               /* TARGET_NODE */
	const struct config_node_alias *alias; /* TARGET_ALIAS */
	bool alias_has_primary;                /* and that may be asked for */
	bool strong;                           /* the newest there is: the primary */
	bool eventual;                         /* however old */
	bool limits_lag;
	uint64_t max_lag_bytes; /* with limits_lag, instead of those of the rules; 0: no limit */
	usec_t max_lag;
	uint64_t lsn; /* at least this must have been replayed; 0: nothing */
	uint64_t key; /* with the strategy hash; 0: the session's own */
	bool local;   /* of the own zone, as long as there is one, however busy */
	bool once;    /* should a standby fail, it is not repeated */
};

struct route_rules {
	bool lag_matters;                 /* else neither lag nor own writes do */
	enum read_your_writes own_writes; /* whose writes a read is never older than; not INHERIT */
	uint64_t max_lag_bytes;           /* 0: no limit */
	usec_t max_lag;                   /* 0: no limit */
	bool max_lag_is_wished;           /* it counts more than what is said of a node */
	usec_t wait;                      /* so long for a standby to replay what was written; 0: not at all */
	usec_t slow_start;
	struct balance_settings balance;
	struct route_wish wish; /* of who wishes nothing; zero: none */
	bool has_wish;
};

void route_rules_from(const struct config *config, struct route_rules *ret);
/* Who takes any age has a limit all the same, if there is one ([routing_hints] max_lag_override; 0: none). */
void route_wish_finish(struct route_wish *wish, usec_t max_lag);
/* What differs for a user. false: nothing does. */
bool route_rules_for_user(struct route_rules *rules, const struct config_user *user);
/* What somebody wrote counts for others than his own session. */
static inline bool route_heeds_others(const struct route_rules *rules)
{
	return rules->lag_matters && rules->own_writes >= READ_YOUR_WRITES_USER;
}

/* What is asked of a batch. */
struct route_ask {
	const struct access *access; /* of all its texts; NULL: not understood */
	bool has_catalog;
	bool read_only; /* the session's transactions are, unless they say otherwise */
	bool isolated;  /* ... are SERIALIZABLE, which standbys refuse */
	bool repeated;  /* a standby failed to answer it */
	bool wrote;     /* something was written that it must see, and where that is in the log is not known yet */
	bool waits;     /* it has waited for that */
	/* Of the primary: what must have been replayed. kind POSITION_NONE: nothing. */
	struct position own;     /* for what the session has written */
	struct position others;  /* for what those have written whose writes count as well */
	struct position catalog; /* for what the catalog says */
	struct route_wish wish;  /* zero: none */
	uint64_t key;            /* of the session, with the strategy hash */
	const struct node *last; /* where its reads are to stay, if that is fit; NULL: nowhere */
};

/* How busy a node is, as far as the strategy wants to know. */
struct route_load {
	uint32_t active;  /* links in use */
	uint32_t latency; /* microseconds; 0: not known */
};

struct route_choice {
	struct node *node; /* NULL: the primary, whichever that is */
	enum route_reason reason;
	bool refused;  /* by primary_reads = "never": it goes nowhere */
	bool may_wait; /* a standby that it could go to has not replayed something yet, and may soon */
};

/* loads: by the topology's order of nodes; NULL: nothing is known. state: of the worker. */
void route_decide(const struct route_rules *rules, const struct topology *topology, const struct route_ask *ask,
		  const struct route_load *loads, struct balance_state *state, usec_t now, struct route_choice *ret);
/* Does the strategy ask for loads? */
bool route_wants_loads(const struct route_rules *rules);
/* Why the node at this place of the topology can't have the batch, if it reads; NULL: it can. */
const char *route_why_not(const struct route_rules *rules, const struct topology *topology, const struct route_ask *ask,
			  uint32_t index);
/* The standbys that any read may go to whose session has not written; when by the strategy one is as good as the other,
 * in turn. Their number; 0: there are none, or it is not that simple. least: what all of them have replayed. */
uint32_t route_find_fit(const struct route_rules *rules, const struct topology *topology,
			const struct position *catalog, usec_t now, struct node *nodes[ROUTE_FIT_MAX],
			struct position *ret_least);
/* Of two texts in one batch, what they are together: the higher level, and what the later one leaves behind. */
void route_join(struct access *both, const struct access *next);
/* All it does is read, in one statement or several; it leaves nothing behind. */
bool route_is_plain_read(const struct access *access);
/* Does it end with an open transaction block that may not be on a standby? */
bool route_opens_block(const struct access *access, bool read_only_session);

const char *route_reason_word(enum route_reason reason);
const char *route_reason_text(enum route_reason reason);
bool route_reason_is_standby(enum route_reason reason);

#endif
