/*
 * Pools of links. A pool is (database, user) as clients name them, on the primary or on one node. Each worker has a
 * shard of it: its own idle links and its own line of waiters, so that taking and giving back touch no other thread's
 * memory as long as nobody is short. Limits are counted in shared atomics, touched only when a link is opened or
 * closed.
 *
 * Who must wait: a worker that frees a link gives it to the one who has waited longest. One of its own is preferred
 * as long as a waiter of another worker is not older by POOL_FAIRNESS_SLACK and an eighth of the wait. A link changes
 * workers by message.
 *
 *   take: idle link of the shard (last in, first out) -> open one if every limit allows -> wait
 *
 * No more links are in use at the same time than the adaptive limit says (active.c): links above it are parked.
 */
#ifndef POOL_POOL_H
#define POOL_POOL_H

#include "cluster/node.h"
#include "config/config.h"
#include "link/link.h"
#include "metrics/latency.h"

#define POOL_FAIRNESS_SLACK (2 * USEC_PER_MSEC)
#define THREADS_MAX         256u

struct pool_thread;
struct shard; /* of a pool, in one thread */

/* Prepares links that were just opened for who will use them; NULL hooks are not allowed. See session/prewarm.c. */
struct pool_warmer {
	/* An IDLE link that nobody waits for. True: it was lent, and comes back by pool_give_back(). */
	bool (*opened)(struct pool_thread *thread, struct link *link);
	/* Once a second for each shard that has links or waiters. */
	void (*tick)(struct pool_thread *thread, struct shard *shard);
};

/* Hears what links tell of their nodes, and says which nodes get new ones; NULL hooks are not allowed. See
 * session/evidence.c. */
struct pool_watcher {
	/* A link is about to be opened to the node. false: it must not; else the ticket goes with it. */
	bool (*opening)(struct pool_thread *thread, struct node *node, uint32_t *ret_ticket);
	/* It is logged in (failure NULL), or could not be. */
	void (*opened)(struct pool_thread *thread, struct node *node, uint32_t ticket,
		       const struct link_failure *failure, usec_t took, bool timed_out);
	/* Nobody will know: it was closed meanwhile. */
	void (*given_up)(struct node *node, uint32_t ticket);
	/* A request on it was answered whole, and nothing spoke against the node. took: 0: not measured. */
	void (*answered)(struct pool_thread *thread, struct node *node, uint32_t ticket, usec_t took);
	/* It was lost while it was lent, and the server had not said why. */
	void (*lost)(struct pool_thread *thread, struct node *node, uint32_t ticket);
	/* The server sent an error to whoever uses it. true: it speaks of the node, and that was the ticket's end. */
	bool (*failed)(struct pool_thread *thread, struct node *node, uint32_t ticket, struct slice sqlstate);
};

/* What the pools need of a worker; embedded in it. */
struct pool_thread {
	uint32_t index;
	struct loop *loop;
	struct counters counters;
	struct latencies latencies;
	struct list shards;    /* all shards of this thread */
	struct timer tick;     /* once a second: idle time-outs, lifetimes, warm links */
	struct timer pressure; /* while somebody waits, see active.c */
	struct pools *pools;
	const struct pool_warmer *warmer;   /* NULL: none */
	const struct pool_watcher *watcher; /* likewise; it may come and go */
	bool ending;                        /* no link is opened, none is kept */
};

/* What all pools share. */
struct pools;
struct pool;

/* Somebody who waits for a link: a session, or a job of the proxy. */
struct waiter {
	struct list node; /* alone when not waiting */
	struct shard *shard;
	usec_t since;
	const struct waiter_ops *ops;
	bool for_many; /* it stands for clients that are counted elsewhere */
};

struct waiter_ops {
	/* The link is lent to nobody yet (IDLE): link_lend() it or pool_give_back() it. Called from within other
	 * sessions' callbacks: don't work here, conn_resume(). */
	void (*granted)(struct waiter *waiter, struct link *link);
	/* No link can be had; error is a whole ErrorResponse. */
	void (*failed)(struct waiter *waiter, const struct link_failure *failure);
};

/* ---- all pools ---- */
struct pools *pools_new(const struct config *config, struct node_list *nodes, struct tls_context *server_tls);
void pools_free(struct pools *pools); /* all links must be closed */
/* Threads join before they run and leave never. */
void pools_join(struct pools *pools, struct pool_thread *thread);
/* Takes a new configuration over (control thread); the nodes are those of it already. The old configuration and
 * *ret_old (an array of pointers that ends with NULL, and what they point to: the caller frees all) must live until
 * every thread has passed a turn. */
void pools_reload(struct pools *pools, const struct config *config, struct tls_context *server_tls,
		  struct config_pool ***ret_old);
/* The nodes' list has another primary: databases that follow it lead there from now on (any thread). How many. */
uint32_t pools_follow(struct pools *pools);
/* Frees pools that nobody has used for pool_idle_timeout (control thread, now and then). */
void pools_sweep(struct pools *pools);

/* What sessions do with a pool's links; a thread counts in its own shard. Times are microseconds: kept_us is the part
 * of lent_us whose answers query_us has; of the rest a server owed answers all the time, so that is added when somebody
 * asks. */
#define POOL_STATS(X) \
	X(queries) \
	X(transactions) \
	X(bytes_received) \
	X(bytes_sent) \
	X(query_us) \
	X(wait_us) \
	X(assignments) \
	X(lent_us) \
	X(kept_us) \
	X(client_parses) \
	X(server_parses) \
	X(binds) \
	X(logins)

struct pool_stats {
#define X(name) counter_t name;
	POOL_STATS(X)
#undef X
};

struct pool_totals {
#define X(name) uint64_t name;
	POOL_STATS(X)
#undef X
};

/* A shard begins with its counters. */
static inline struct pool_stats *shard_stats(struct shard *shard)
{
	return (struct pool_stats *)(void *)shard;
}

struct pool_view { /* a snapshot for people */
	const char *database, *user, *node, *mode;
	const struct config_pool *settings;
	const char *server_database, *host;
	uint16_t port;
	bool paused, disabled;
	uint32_t links, clients;
	uint32_t active, idle, waiting, connecting, max, pinned;
	uint32_t active_limit, held_long;
	uint64_t opened, closed, oldest_wait_us;
	const char *last_error; /* text of the last failed login; "" */
	struct pool_totals stats, stats_before;
};
/* Calls each() for every pool, under the registry's lock; strings live as long as the call. */
void pools_each(struct pools *pools, void (*each)(const struct pool_view *view, void *to), void *to);

/* What it has and has counted, on top of another's; limits and gates are not added. */
void pool_view_add(struct pool_view *sum, const struct pool_view *view);
void pool_totals_add(struct pool_totals *sum, const struct pool_totals *part);
/* What pools had counted that are gone, by database. As pools_each(). */
void pools_each_gone(struct pools *pools, void (*each)(const char *database, const struct pool_totals *stats, void *to),
		     void *to);
/* The counters of all pools, and of those that are gone, on top of what is there. */
void pools_add_counters(struct pools *pools, struct counters *sum);
/* Links of all pools, twins too. */
struct pool_link_totals {
	uint32_t pools, active, idle, opening;
};
void pools_sum_links(struct pools *pools, struct pool_link_totals *ret);
/* Once in POOLS_STATS_PERIOD: averages are from the stats before on, see pool_view (control thread). */
#define POOLS_STATS_PERIOD (60 * USEC_PER_SEC)
void pools_keep_stats(struct pools *pools);
/* How long ago `stats_before` was taken. */
usec_t pools_stats_age(struct pools *pools);

/* ---- what operators do with a database (any thread): gate.c ---- */
/* By the name that clients use; NULL: all of them. 0, -ENOENT: there is no such database; -EALREADY: that is nothing
 * new; -ENOSPC: too many names; -ENOMEM. */
/* No link is opened or lent from now on; those in use are closed when they come back. Who needs one waits. */
int pools_pause(struct pools *pools, const char *database) MUST_USE;
int pools_resume(struct pools *pools, const char *database) MUST_USE;
/* Links that are open now are closed when they are free. */
int pools_reconnect(struct pools *pools, const char *database) MUST_USE;
/* No new clients. Not of all. */
int pools_disable(struct pools *pools, const char *database, bool disabled) MUST_USE;
/* Links of the database that are open or being opened; outdated: only those that are closed as soon as they are free.
 */
uint32_t pools_links(struct pools *pools, const char *database, bool outdated);
/* All are. */
bool pools_are_paused(struct pools *pools);
bool pools_any_is_paused(struct pools *pools); /* all, or one by name */
/* Of a name that may have no pool. */
void pools_gate(struct pools *pools, const char *database, bool *ret_paused, bool *ret_disabled);
bool pool_is_disabled(const struct pool *pool);
/* All that were named; database "": all, paused together. */
void pools_each_gate(struct pools *pools, void (*each)(const char *database, bool paused, bool disabled, void *to),
		     void *to);

/* The same, but with what its twins have, see pool_on(), added to each pool. */
void pools_each_home(struct pools *pools, void (*each)(const struct pool_view *view, void *to), void *to);

/* As in the configuration: "session", "transaction", "statement". */
const char *pool_mode_name(enum pool_mode mode);

/* ---- one pool ---- */
/* The pool of (database, user), made when new. 0, -ENOENT: no such database is configured (and there is no
 * wildcard); -EHOSTDOWN: no node; -ENOMEM. A reference for the caller. */
int pool_find(struct pools *pools, const char *database, const char *user, struct pool **ret_pool) MUST_USE;
/*
 * A pool has twins: of the same database and user, each with its links on one node of its own choice, where the home
 * pool's lead to the primary, whichever that is. A twin has what clients have shown, its references and its
 * statements' epoch in common with its home; it lives as long. NULL: out of memory.
 */
struct pool *pool_on(struct pool *home, struct node *node);
/* Is it the primary where its links lead? Else the configuration names a node, or it is a twin. */
bool pool_follows_primary(const struct pool *pool);
/* Whoever needs it waits for there being a primary: no link may be used. */
bool pool_is_held(const struct pool *pool);
struct node *pool_node(const struct pool *pool);
struct node *link_node(const struct link *link);
/* Links of a pool that are in use, over all threads. */
uint32_t pool_active(const struct pool *pool);
struct pool *pool_ref(struct pool *pool);
void pool_unref(struct pool *pool);
const struct config_pool *pool_settings(const struct pool *pool); /* valid in this turn */
const char *pool_database(const struct pool *pool);               /* as clients call it */
const char *pool_user(const struct pool *pool);
uint64_t pool_names(const struct pool *pool); /* a hash of both, of this process */
const char *pool_server_database(const struct pool *pool);
/* NULL: out of memory. */
struct shard *pool_shard(struct pool *pool, struct pool_thread *thread);
struct pool *shard_pool(const struct shard *shard);

/* A secret to log in to the server with. It counts as long as the configuration has none for the database. */
void pool_offer_secret(struct pool *pool, const struct secret *secret);
/* Copies the one that counts; false: none. */
bool pool_copy_secret(struct pool *pool, struct secret *ret) MUST_USE;
/* Was a link logged in with no password, or did the server want one? For mode passthrough. */
enum pool_login { POOL_LOGIN_UNKNOWN, POOL_LOGIN_TRUSTED, POOL_LOGIN_NEEDS_PASSWORD };
enum pool_login pool_login(const struct pool *pool);
/* The caller takes a link to find out: that the server asks for a password is no failure then. */
void pool_ask_login(struct pool *pool);

/* Statements that links have prepared may be out of date (the schema changed): all are prepared anew. */
void pool_forget_statements(struct pool *pool);
/* The same for all pools that lead to a database of this name. */
void pool_schema_changed(struct pool *pool);
uint32_t pool_statements_epoch(const struct pool *pool);
/* What the server reports to a client that logs in with these settings: learned by whoever did it first. A new
 * reference in *ret. */
bool pool_welcome_get(struct pool *pool, const struct params *settings, const struct params **ret);
void pool_welcome_put(struct pool *pool, const struct params *settings, const struct params *reported);
/* Have these settings been accepted by a server before? Then they may be sent ahead, unwaited for. */
bool pool_settings_known(struct shard *shard, const struct params *settings);
void pool_settings_accepted(struct shard *shard, const struct params *settings);

/* ---- taking and giving back (the thread of the shard) ---- */
struct link *pool_take(struct shard *shard); /* an IDLE link, or NULL: then pool_wait() */
/* One of this thread's own that has these settings, reports this, and whose statements are as good as any; or NULL, and
 * nobody waits for it. */
struct link *pool_take_like(struct shard *shard, const struct params *settings, const struct params *reported);
/* Could pool_take() have one of this thread's own? */
bool pool_has_idle(const struct shard *shard);
/* Opens one more link than anybody waits for, unless one is idle or being opened, or a limit is reached. */
void pool_open_one(struct shard *shard);
/* Is whoever uses the link for many to give it back as soon as he can: it is to be closed, or more wait than there are
 * links that he is about to give back anyway? */
bool pool_wants_back(const struct link *link, uint32_t coming);
/* Whoever wants a link now has to wait until somebody gives one back: none is idle or on its way for him, and no more
 * may be opened. */
bool pool_is_short(const struct shard *shard);
/* Somebody had to wait, in line or for room on a link that is used for many. Was that within the last second? */
void pool_mark_short(struct shard *shard);
bool pool_was_short(const struct shard *shard);
/* A place for one pointer of the session layer's own, NULL at first. */
void **shard_slot(struct shard *shard);
/* The same for what prewarm.c knows of the pool. */
void **shard_warm_slot(struct shard *shard);
/* Links of this thread that were used last, no more than max of those in use and max of the idle ones. */
void pool_each_recent(struct shard *shard, uint32_t max, void (*each)(struct link *link, void *to), void *to);
/* false: too many wait already (max_waiting_clients). */
bool pool_wait(struct shard *shard, struct waiter *waiter) MUST_USE;
/* The same for one who has been waiting since then, and whose place in line is by that. */
void pool_wait_since(struct shard *shard, struct waiter *waiter, usec_t since);
/* Would it be false for somebody behind so many more? */
bool pool_line_is_full(const struct shard *shard, uint32_t more);
void pool_wait_end(struct waiter *waiter); /* not waiting: nothing happens */
/* An ACTIVE link that is clean, or that reset_query makes clean (link->dirty), or that is to be closed
 * (link->close_when_free, CLOSED, not idle in transaction, answers outstanding ...): the pool finds out. */
void pool_give_back(struct link *link);
/* Opens a link of its own for a replication client, outside of the idle ones but within the limits. Events go to
 * the waiter. 0, -EAGAIN: a limit; -errno. */
int pool_open_replication(struct shard *shard, const char *replication, struct waiter *waiter) MUST_USE;
/* Logs in with a secret that a client has just given, to see if it is right: granted with a link (and the secret is
 * kept), or failed. 0, -EAGAIN, -errno. */
int pool_try_secret(struct shard *shard, const struct secret *secret, struct waiter *waiter) MUST_USE;
/* Whoever waited for one of the two above no longer does: the link is closed as soon as it is logged in. */
void pool_forget_dedicated(struct shard *shard, struct waiter *waiter);
/* Cancels what the link runs. 0 or -errno; after 0 over(argument) is called when the server is done with it (NULL:
 * nobody wants to know). */
int pool_cancel(struct link *link, void (*over)(void *argument), void *argument) MUST_USE;
void pool_count_pinned(struct link *link, int by);
struct shard *link_shard(const struct link *link);
/* It is closed as soon as it is free. */
bool link_leaves(const struct link *link);
/* A client has logged in, unless there are as many of its database or its user as there may be. */
enum client_admission { CLIENT_ADMITTED, CLIENT_TOO_MANY_OF_DATABASE, CLIENT_TOO_MANY_OF_USER };
enum client_admission pool_admit_client(struct shard *shard) MUST_USE;
void pool_client_left(struct shard *shard); /* one that was admitted */
/* Each link of this thread. */
void pool_thread_each_link(struct pool_thread *thread, void (*each)(struct link *link, void *to), void *to);
/* The thread's tick, once a second: time-outs, lifetimes, warm links, the reserve. */
void pool_thread_tick(struct pool_thread *thread);
/* A node drains, or its deadline has passed: its links of this thread leave (the tick finds out, too). */
void pool_thread_drain(struct pool_thread *thread);
/* A request was answered whole, also with an error. */
void pool_saw_answer(struct link *link, usec_t took);
/* The server sent whoever uses the link an error. fatal: it says that the server is about to close the connection. */
void pool_saw_error(struct link *link, struct slice sqlstate, bool fatal);
/* Closes all idle links of this thread (shutdown). */
void pool_thread_close_idle(struct pool_thread *thread);
/* Closes all links of this thread but those that somebody still uses, which close when they are given back; whoever
 * waits is told that the proxy shuts down. */
void pool_thread_end(struct pool_thread *thread);
/* Links of this thread, of all states. */
uint32_t pool_thread_links(const struct pool_thread *thread);

#endif
