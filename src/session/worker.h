/*
 * A worker: a loop, its client sessions, and its shards of the pools. One thread runs it at a time (which one, see
 * loop/crew.h); nothing of it is touched by another but by message (loop_post), and its counters, which others read.
 */
#ifndef SESSION_WORKER_H
#define SESSION_WORKER_H

#include "base/buf.h"
#include "base/log.h"
#include "base/map.h"
#include "base/slab.h"
#include "pool/pool.h"
#include "session/fingerprint.h"
#include "session/prewarm.h"
#include "session/query_info.h"
#include "session/routing.h"
#include "session/share.h"
#include "session/suspension.h"
#include "sql/hints.h"

#define LISTENERS_MAX 128u /* one that follows a process with more workers has theirs, too */

#define PREDECESSORS_MAX     8u
#define PREDECESSOR_NAME_MAX 80u

/* The processes before this one that may still have clients: names of their private sockets (abstract ones), the
 * youngest first. Set before the workers run. See cancel_relay.c. */
struct predecessors {
	char names[PREDECESSORS_MAX][PREDECESSOR_NAME_MAX];
	_Atomic bool gone[PREDECESSORS_MAX];
	uint32_t count;
	_Atomic uint32_t asking; /* cancels that are under way to them */
};

struct catalogs;
struct console_ops;
struct cluster;
struct breakers;
struct crew;
struct pipeline;
struct query_table;
struct stage;

/* What the sessions of all workers share. Lives as long as the process. */
struct sessions_shared {
	struct predecessors predecessors;
	_Atomic uint32_t clients; /* of all workers */
	_Atomic bool draining;    /* shutting down: no new clients, links go when they are free */
	struct worker *workers[THREADS_MAX];
	uint32_t worker_count;
	_Atomic(struct cluster *) cluster; /* what is known of the nodes; NULL: nothing yet */
	struct node_list *nodes;
	struct catalogs *catalogs;         /* what functions do, by database */
	struct crew *crew;                 /* who runs the workers' loops; NULL: nobody yet */
	const struct stage *const *stages; /* all of this build; NULL at the end */
	struct breakers *breakers;         /* route/breaker.h; NULL: none */
	struct writers writers;            /* who wrote when */
	struct suspension suspension;
	const struct console_ops *console; /* session/console.h; NULL: there is none */
	void *console_argument;            /* for console->opened() */
	uint8_t mock_key[32];              /* for the salts of users that don't exist */
};

/* The configuration as a worker uses it; replaced as a whole, by message. */
struct worker_settings {
	const struct config *config;
	struct tls_context *client_tls; /* NULL: TLS is off */
};

/* See auth_query.c. */
struct auth_queries {
	struct list running;
	struct list answers; /* kept ones, oldest first */
	struct map by_name;  /* the same by database and user */
	uint32_t answer_count;
};

struct worker {
	struct pool_thread pool_thread; /* first: loop messages get a pool_thread */
	struct sessions_shared *shared;
	struct worker_settings settings;
	struct pipeline *pipeline; /* NULL: no stage has anything to do */
	struct routing *routing;   /* NULL: all goes to the primary */
	uint8_t hinted_up_to;      /* a text that begins with no greater byte is hinted_begin()'s business */
	struct list sessions;
	uint32_t session_count;
	_Atomic uint32_t session_count_seen; /* for other threads */
	_Atomic uint32_t coming;             /* accepted by others, under way to this one */
	struct session **slots;              /* by slot number: finds the session of a cancel key */
	uint64_t last_serial;
	uint32_t slot_count, free_slot; /* free slots are chained through their values, see session.c */
	struct slab session_slab;
	struct query_infos queries;
	struct fingerprints fingerprints;
	struct statement_table *statements;
	struct prewarm prewarm;
	struct share share;
	struct loop_listener listeners[LISTENERS_MAX];
	struct list replaying;            /* sessions that wait for a standby, see routing_wait.c */
	_Atomic uint32_t replaying_count; /* for the cluster's thread */
	struct loop_message positions_told;
	_Atomic bool positions_are_told; /* the message is under way */
	uint8_t random[1024];            /* for cancel keys; the first random_left bytes are unused yet */
	uint32_t random_left;
	uint32_t listener_count;
	struct loop_listener visitors; /* see worker_take_visitors() */
	bool takes_visitors;
	struct suspension_part suspension;
	struct log_limit refusals; /* lines of refused logins */
	bool closing;              /* drained: sessions are closed as they become free */
	struct auth_queries auth;
	struct buf shown;                /* the text of a session that is looked at */
	struct list cancels;             /* that are to be sent once more, see cancel.c */
	struct map introductions;        /* by startup packet, see introduction.c */
	struct scram_cache *scram_cache; /* NULL until a password that is stored in clear is needed for SCRAM */
	struct hints_memo hints;
};

/* Makes the worker's own parts; loop and index are set. 0, or -ENOMEM: then there is nothing to destroy. */
int worker_init(struct worker *w, struct sessions_shared *shared, struct pools *pools) MUST_USE;
void worker_destroy(struct worker *w);
/* Listens on an fd. Called before the thread runs. 0 or -errno. */
int worker_listen(struct worker *w, int fd) MUST_USE;
void worker_stop_listening(struct worker *w);
/* From now on the next process may hand cancels back over this listening socket, until worker_end(). The caller closes
 * it when the thread has ended. */
void worker_take_visitors(struct worker *w, int fd);
void worker_take_no_visitors(struct worker *w);
/* Takes a new configuration over; logins under way go on by it. */
void worker_reload(struct worker *w, const struct worker_settings *fresh);
/* From now on sessions without a transaction are closed; the others when theirs ends. */
void worker_drain(struct worker *w);
/* A node drains: its links leave at once, rather than with the next tick. */
void worker_drain_nodes(struct worker *w);
/* The nodes are others: there may be something to route now, and links of those that leave do. */
void worker_follow_nodes(struct worker *w);
/* Closes everything: listeners, sessions, links. What is open afterwards are last words and cancels on their way. */
void worker_end(struct worker *w);
/* Nothing is open any more (any thread; true for good only after worker_end()). */
bool worker_is_quiet(const struct worker *w);

/* A session for people; strings live as long as the call. */
struct session_view {
	uint32_t worker, pid;
	const char *database, *user, *application, *state, *address, *tls;
	uint64_t connected_us, state_us; /* how long ago */
	uint64_t link;                   /* 0: none */
	uint32_t backend_pid;            /* the server's of that link; 0: not known */
	const char *node;                /* where it leads; "": there is none */
	const char *statement;           /* of what is under way, or waits; NULL: none, or it is not known */
	uint64_t query_us;               /* it runs for so long; 0: nothing does */
	bool statement_is_cut;
	bool pinned;
	bool logged_in, waits, runs; /* runs: the server owes it an answer */
	bool replicates;
	uint32_t statements; /* prepared ones of its own */
	const struct conn *conn;
};
void worker_each_session(struct worker *w, void (*each)(const struct session_view *view, void *to), void *to);
/* The same of at most `count` of them, from a slot (at first 0) on. Where to go on; 0: these were the last. */
uint32_t worker_some_sessions(struct worker *w, uint32_t slot, uint32_t count,
			      void (*each)(const struct session_view *view, void *to), void *to);
/* false: no such session here. */
bool worker_kill_session(struct worker *w, uint32_t pid);
/* Cancels what it runs, or ends its waiting for a link, as its client could; a moment later both may be over by
 * themselves. */
enum cancel_verdict { CANCEL_NO_SESSION, CANCEL_NOTHING_RUNS, CANCEL_NO_MEMORY, CANCEL_BEGUN };
enum cancel_verdict worker_cancel_session(struct worker *w, uint32_t pid);
/* The node that its link leads to; NULL: it has none, or there is no such session here. */
struct node *worker_session_node(struct worker *w, uint32_t pid);
/* All of a database (NULL: all that lead to nodes). How many. */
uint32_t worker_kill_sessions(struct worker *w, const char *database);

/* Statistics of queries; NULL: there are none. Of the worker's thread. */
struct query_table *worker_queries(struct worker *w);

/* A server connection for people. */
struct link_view {
	const struct link *link;
	const struct pool *pool;
	const char *state;       /* in PgBouncer's words */
	uint32_t client;         /* pid of the session that has it; 0: none */
	const char *application; /* of that */
	bool leaves;             /* it is closed as soon as it is free */
};
void worker_each_link(struct worker *w, void (*each)(const struct link_view *view, void *to), void *to);

#endif
