/* What the files of pool/ share. */
#ifndef POOL_POOL_PRIV_H
#define POOL_POOL_PRIV_H

#include "cluster/node.h"
#include "pool/limiter.h"
#include "pool/pool.h"

/*
 * Links of a database or of a user, over all pools. (Those of a node are counted in the node.)
 * wanted_since: somebody in some pool waits for room here since then, and other pools hold links; 0: nobody. Whoever
 * has an idle link then closes it, and who closes one wakes those who wait.
 */
struct budget {
	char *name;
	_Atomic uint32_t used;
	_Atomic uint64_t wanted_since;
	uint32_t references; /* pools that count here; under the registry's lock */
	struct budget *next;
};

/* What an operator said of a database; made when he first does, and kept: see gate.c. */
struct gate {
	char *name;
	_Atomic bool paused, disabled;
	struct gate *next;
};

#define GATES_MAX 1000u

/* What pools of a database had counted when they went: its sums never fall. Only of pools that were proven, so names
 * are those of real databases. */
struct gone_pools {
	char *database;
	struct pool_totals stats;
	struct gone_pools *next;
};

struct welcome {
	const struct params *settings, *reported;
};

#define WELCOMES_MAX 64u

/* Under contention between pools a waiter of the same pool is preferred, unless one of another is so much older: giving
 * a link to another pool means closing it and opening one. */
#define POOL_EVICTION_SLACK (100 * USEC_PER_MSEC)
/* Pools that no login to a server ever worked for: anybody can make the proxy create one. */
#define POOL_UNPROVEN_TIMEOUT (10 * USEC_PER_SEC)
#define POOLS_UNPROVEN_MAX    1000u
#define POOL_BUCKETS          4096u

/*
 * Where links lead, and as whom they log in. Never changes once it is published: a reload that changes any of it makes
 * another one, and links to an older one are closed when they are free. Those live as long as the pool, for links count
 * in their budgets and other threads may be looking at them; a reload that changes them is rare.
 */
struct destination {
	struct destination *older;
	struct node *node;
	uint32_t moves;        /* of the node, see node_resolve() */
	bool follows;          /* the node is the primary, whichever that is */
	char *database, *user; /* as the server names them */
	struct secret forced;  /* the configuration's password; SECRET_NONE: what clients have shown counts */
	struct budget *database_budget, *user_budget;
	_Atomic uint32_t links; /* that lead here, open or being opened */
};

/* Which of a pool's links count for the adaptive limit. */
enum link_standing {
	STANDING_COUNTED, /* idle, in use, being opened, on the way to another thread */
	STANDING_PARKED,  /* free, but above the limit: nobody gets it until there is room below */
	STANDING_APART,   /* held by its user for so long that it waits for something else; or a replication client's */
};

#define ACTIVE_UNLIMITED UINT32_MAX

/* The adaptive limit of a pool: active.c. Atomics are written only when a limit or the standing of a link changes. */
struct active {
	_Atomic uint32_t limit;   /* ACTIVE_UNLIMITED: it is not on */
	_Atomic uint32_t counted; /* links that are STANDING_COUNTED */
	_Atomic uint32_t parked, apart;
	_Atomic uint64_t long_use; /* see limiter_long_use() */
	_Atomic bool trying;       /* a trial is under way */
	_Atomic bool judging;      /* some thread does, what follows is its */
	struct limiter limiter;
	uint32_t in_force;         /* what it said last */
	usec_t since;              /* of this window */
	struct limiter_sample sum; /* over the shards when it began */
};

struct pool {
	struct pools *pools;
	struct pool *home;            /* NULL: it is one; else this is one of its twins */
	struct node *node;            /* of a twin: where its links lead, whatever happens */
	_Atomic(struct pool *) twins; /* of a home pool; none of them leaves before it does */
	struct pool *next_twin;
	char *database, *user;                     /* as clients name them */
	uint64_t names;                            /* a hash of both */
	_Atomic(struct destination *) destination; /* of new links; a link remembers its own (link->server) */
	_Atomic(struct config_pool *) settings;
	_Atomic uint32_t references;
	_Atomic uint32_t links;   /* open or being opened, all threads */
	_Atomic uint32_t waiting; /* all threads */
	_Atomic uint32_t opening; /* being opened for whoever waits, all threads */
	_Atomic uint32_t in_hand; /* about to become idle or lent, or on the way to another thread: link->in_hand */
	_Atomic uint64_t opened, closed;
	_Atomic uint64_t unused_since; /* clock, when references became 0 */
	_Atomic int login;             /* enum pool_login */
	_Atomic bool login_is_asked;   /* links are opened to find that out: one that lacks a password is the answer */
	_Atomic uint32_t statements_epoch;
	_Atomic bool keeps_minimum; /* a login to the server worked, and none was refused for good since */
	_Atomic bool proven;        /* a login to the server worked */
	struct active active;
	_Atomic(struct gate *) gate; /* NULL: nobody said anything */
	struct budget *database_clients,
		*user_clients;              /* of a home pool: who is logged in, by the names that clients use */
	struct pool_totals stats_before[2]; /* the older one first; under the registry's lock */
	_Atomic(struct shard *) shards[THREADS_MAX];

	pthread_mutex_t lock; /* of what follows */
	struct secret secret; /* that clients have shown */
	struct welcome welcomes[WELCOMES_MAX];
	uint32_t welcome_count;
	usec_t retry_at;  /* after a failed login: not before */
	uint8_t *failure; /* its ErrorResponse */
	size_t failure_len;
	struct link_failure failure_head;
	char failure_text[200];
	struct pool *next, *next_in_bucket; /* in the registry */
};

struct pools {
	pthread_mutex_t lock; /* registry, configuration, budgets' lists */
	const struct config *config;
	struct node_list *nodes;
	struct tls_context *server_tls;
	struct pool *first;
	struct pool *buckets[POOL_BUCKETS];             /* the same pools, by name */
	struct budget *databases, *users;               /* of links */
	struct budget *database_clients, *user_clients; /* of clients */
	struct gate *gates;
	_Atomic bool paused;     /* all of them, those to come as well */
	struct pool_totals gone; /* of all pools that are */
	struct gone_pools *gone_by_database;
	usec_t stats_at[2];        /* when pool->stats_before were taken */
	_Atomic uint32_t unproven; /* pools that are not proven */
	struct pool_thread *threads[THREADS_MAX];
	_Atomic uint32_t thread_count;
};

struct shard {
	struct pool_stats stats; /* first: see shard_stats() */
	struct pool *pool;
	struct pool_thread *thread;
	struct list node;   /* in thread->shards */
	struct list idle;   /* most recently used first */
	struct list parked; /* likewise */
	struct list busy;   /* ACTIVE, or held until a cancel is over; last lent first */
	struct list apart;  /* the same, but they do not count for the adaptive limit */
	struct list opening;
	struct list waiters; /* longest waiting first */
	bool is_kept;        /* in thread->shards for min_connections, with a reference of the pool */
	void *slot;          /* see shard_slot() */
	void *warm_slot;     /* see shard_warm_slot() */
	usec_t short_at;     /* see pool_was_short() */
	/* for other threads to look at */
	_Atomic uint32_t idle_count, parked_count, active_count, waiting_count, opening_count, pinned_count;
	_Atomic uint32_t clients;
	_Atomic uint64_t done, held, waited, used; /* see struct limiter_sample; since the start */
	_Atomic uint64_t oldest_wait;              /* `since` of the first waiter; USEC_NEVER: none */
	_Atomic uint64_t oldest_idle; /* last use of the idle link that has been so for longest; USEC_NEVER: none */
	const struct params *accepted[64]; /* settings that a server has accepted */
	uint32_t accepted_next;
};

/* ---- gate.c ---- */
/* The registry's lock is held. */
struct gate *gate_find(struct pools *pools, const char *database); /* NULL: none */
void gates_free(struct pools *pools);
/* How many links are kept without anybody asking. */
static inline uint32_t pool_minimum(const struct pool *pool)
{
	return atomic_load_explicit(&pool->keeps_minimum, memory_order_relaxed) ? pool_settings(pool)->min_connections
										: 0;
}

static inline bool pool_is_paused(const struct pool *pool)
{
	struct pool *p = (struct pool *)(uintptr_t)pool;
	struct gate *gate = atomic_load(&p->gate);

	return atomic_load(&p->pools->paused) || (gate && atomic_load(&gate->paused));
}
/* Its links are closed as they become free; the registry's lock is held. */
int destination_renew(struct pool *pool) MUST_USE;

/* ---- stats.c ---- */
void pool_sum_stats(const struct pool *pool, struct pool_totals *ret);
/* The pool goes; the registry's lock is held. */
void pool_bequeath_stats(struct pool *pool);
void gone_pools_free(struct pools *pools);

/* ---- limits: budget.c ---- */
/* Takes room for one more link there in every limit, or in none. */
bool budget_take(struct pool *pool, const struct destination *to, bool use_reserve);
/* Gives it back, and wakes who waits for it in other pools. own_since: of the pool's own oldest waiter, USEC_NEVER:
 * none. True: one of another pool has waited longer; it is to have the room, and the pool's own are next in line. */
bool budget_give(struct pool *pool, const struct destination *to, usec_t own_since);
/* There was no room, for somebody who waits since then: is it other pools that have it? Then they are told, and the
 * oldest idle link of theirs is closed. Try budget_take() once more behind this. */
bool budget_want(struct pool *pool, const struct destination *to, usec_t since);
/* The waiter needs no room any more, the next one in line (0: none) does. */
void budget_want_end(struct pool *pool, usec_t since, usec_t next);
/* Since when some pool has waited for room that a link of this one takes; USEC_NEVER: nobody does. */
usec_t budget_wanted_since(const struct destination *to);
/* The registry's lock is held. NULL: out of memory. */
struct budget *budget_ref(struct budget **list, const char *name);
void budget_unref(struct budget **list, struct budget *budget); /* NULL is fine */

/* shard.c */
/* Without links and waiters it leaves the list of its thread's, unless it is kept. */
void shard_maybe_unused(struct shard *shard);
void shard_serve(struct shard *shard);                    /* gives idle links to waiters, opens what is missing */
void shard_offer(struct shard *shard, struct link *link); /* an IDLE link in no list looks for its next user */
/* The same for one that was just opened: it is made warm first, if nobody waits. */
void shard_offer_new(struct shard *shard, struct link *link);
void shard_end_link(struct shard *shard, struct link *link); /* out of all accounts; not yet freed */
void shard_close_oldest_idle(struct shard *shard);           /* there may be none */
void shard_end_idle(struct shard *shard, struct link *link); /* closes an idle or a parked one */
/* Counts the link among those that are about to serve somebody, so that nobody opens one in vain meanwhile. */
void shard_take_in_hand(struct shard *shard, struct link *link);
void shard_out_of_hand(struct shard *shard, struct link *link);
void shard_publish_oldest_idle(struct shard *shard);
void shard_idle_add(struct shard *shard, struct link *link);
void shard_idle_remove(struct shard *shard, struct link *link);
void shard_fail_waiters(struct shard *shard, const struct link_failure *failure);
void thread_each_shard(struct pool_thread *thread, void (*run)(struct shard *shard));

/* Its pool's links lead elsewhere now, or nowhere: see node_bar(). */
bool shard_link_is_misplaced(const struct shard *shard, const struct link *link);

/* What its twins share with a home pool: references, what clients have shown, statements that are out of date. */
static inline struct pool *pool_family(const struct pool *pool)
{
	return pool->home ? pool->home : (struct pool *)(uintptr_t)pool;
}

/* drain.c */
/* Does its node drain, or is it barred? */
static inline bool link_must_leave(const struct link *link)
{
	const struct destination *to = link->server;

	return unlikely(atomic_load_explicit(&to->node->draining, memory_order_relaxed) ||
			node_bars(to->node) & NODE_BARRED);
}
/* Lets links of nodes that drain or are barred go; now and then, and at once when one begins to. */
void shard_drain(struct shard *shard);

/* watch.c: what a watcher hears; nothing, if there is none. */
bool watch_opening(struct shard *shard, const struct destination *to, uint32_t *ret_ticket);
void watch_opened(struct shard *shard, struct link *link, const struct link_failure *failure);
void watch_given_up(struct shard *shard, struct link *link);
void watch_lost(struct shard *shard, struct link *link);

/* destination.c */
/* By the configuration, or unchanged (`old`; NULL: none) as far as that says nothing any more of the database. The
 * registry's lock is held. 0, -EHOSTDOWN: no node; -EINVAL, -ENOMEM. */
int destination_new(struct pools *pools, const struct pool *pool, const struct destination *old,
		    struct destination **ret) MUST_USE;
void destination_free(struct pools *pools, struct destination *to); /* not the older ones; NULL is fine */
/* The pool's links lead where the configuration says now. true: elsewhere than before. The registry's lock is held. */
bool destination_follow(struct pool *pool);
/* Must no link be opened there, or be used any more? See node_bar(), node_hold(). */
static inline bool destination_is_barred(const struct destination *to)
{
	unsigned bars = node_bars(to->node);

	return unlikely(bars) && (bars & NODE_BARRED || to->follows);
}
static inline struct destination *pool_destination(const struct pool *pool)
{
	return atomic_load_explicit(&((struct pool *)(uintptr_t)pool)->destination, memory_order_acquire);
}

/* opening.c */
void shard_open_links(struct shard *shard); /* as many as waiters need and limits allow */
/* Idle links of all threads, and those that are about to serve somebody. */
uint32_t pool_idle_anywhere(const struct pool *pool);
void shard_close_opening(struct shard *shard);
/* Idle links that lead elsewhere than the pool now does. */
void shard_close_misplaced(struct shard *shard);
/* Nobody waits for links to a node that drains: those that come back are closed. */
void shard_fail_if_drained(struct shard *shard);
/* Links lead elsewhere now: who waits does not wait for those that are still being opened to where they led before. */
void shard_leave_old_destination(struct shard *shard);
int pool_target(struct pool *pool, const struct destination *to, struct link_target *ret,
		struct secret *secret) MUST_USE;
extern const struct link_events shard_link_events;

/* ---- the adaptive limit: active.c ---- */
/* The limit is as the pool's settings say (new, or after a reload). */
void active_follow(struct pool *pool);
/* One more link counts, unless that would be above the limit. */
bool active_join(struct pool *pool);
void active_join_anyway(struct pool *pool);
/* The link is at its end: it counts no more, whatever its standing was. */
void active_leave(struct pool *pool, const struct link *link);
/* A link (in no list) that is free: true: it was one too many and is parked. */
bool active_park(struct shard *shard, struct link *link);
/* A parked link of the shard that may be used now; it is in no list. NULL: none, or no room below the limit. */
struct link *active_unpark(struct shard *shard);
/* An idle link that lies among the parked ones leaves them. */
void active_unlist(struct shard *shard, struct link *link);
/* Lent for one purpose and for long. It is in no list. */
void active_set_apart(struct shard *shard, struct link *link);
/* Somebody has begun to wait, or still does. */
void active_watch(struct shard *shard);
/* It is the limit, and nothing else, that somebody waits for. */
bool active_binds(const struct pool *pool);
/* Links that are held for long count no more, and others get their places. */
void active_look(struct shard *shard);
/* Once a second: is a window over? While something is tried it is looked after sooner. */
void active_watch_trial(struct shard *shard);
void active_thread_init(struct pool_thread *thread);
static inline bool active_is_off(const struct pool *pool)
{
	return atomic_load_explicit(&((struct pool *)(uintptr_t)pool)->active.limit, memory_order_relaxed) ==
	       ACTIVE_UNLIMITED;
}
static inline bool active_has_room(const struct pool *pool)
{
	const struct active *a = &((struct pool *)(uintptr_t)pool)->active;

	return atomic_load(&a->counted) < atomic_load(&a->limit);
}

/* ---- between threads: moving.c ---- */
/* Some other thread has idle links, or waiters: tell it. */
void pool_ask_for_idle(struct shard *shard);
void pool_kick_waiting(struct pool *pool, const struct shard *but);
void pool_tell_moved(struct pool *pool); /* it has another destination */
/* The same, and what is idle is closed at once rather than with the next tick. */
void pool_tell_renewed(struct pool *pool);
void pool_ask_to_evict(struct pool *pool, uint32_t thread);
/* Threads where nobody waits are to look which of their links are held for long. */
void pool_ask_to_set_apart(struct shard *shard);
/* The link is in no list. */
bool shard_move_link(struct shard *from, struct link *link, uint32_t to_thread);

#endif
