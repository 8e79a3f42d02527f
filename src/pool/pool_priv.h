/* What the files of pool/ share. */
#ifndef POOL_POOL_PRIV_H
#define POOL_POOL_PRIV_H

#include "pool/pool.h"

/* Links of a database, a user or a node, over all pools. */
struct budget {
	char *name;
	_Atomic uint32_t used;
	struct budget *next;
};

struct welcome {
	const struct params *settings, *reported;
};

#define WELCOMES_MAX 64u

struct pool {
	struct pools *pools;
	char *database, *user;     /* as clients name them */
	char *server_database, *server_user;
	struct node *node;
	_Atomic(struct config_pool *) settings;
	struct budget *database_budget, *user_budget;
	_Atomic uint32_t references;
	_Atomic uint32_t links;    /* open or being opened, all threads */
	_Atomic uint32_t waiting;  /* all threads */
	_Atomic uint64_t opened, closed;
	_Atomic uint64_t unused_since; /* clock, when references became 0 */
	_Atomic int login;         /* enum pool_login */
	_Atomic uint32_t statements_epoch;
	_Atomic bool was_used;     /* a client took a link: keep min_connections warm */
	_Atomic(struct shard *) shards[THREADS_MAX];

	pthread_mutex_t lock;      /* of what follows */
	struct secret secret;
	bool secret_is_forced;
	struct welcome welcomes[WELCOMES_MAX];
	uint32_t welcome_count;
	usec_t retry_at;           /* after a failed login: not before */
	uint8_t *failure;          /* its ErrorResponse */
	size_t failure_len;
	struct link_failure failure_head;
	char failure_text[200];
	struct pool *next;         /* in the registry */
};

struct pools {
	pthread_mutex_t lock; /* registry, configuration, budgets */
	const struct config *config;
	struct node_list *nodes;
	struct tls_context *server_tls;
	struct pool *first;
	struct budget *databases, *users;
	struct pool_thread *threads[THREADS_MAX];
	_Atomic uint32_t thread_count;
};

struct shard {
	struct pool *pool;
	struct pool_thread *thread;
	struct list node;       /* in thread->shards */
	struct list idle;       /* most recently used first */
	struct list busy;       /* ACTIVE, or held until a cancel is over */
	struct list opening;
	struct list waiters;    /* longest waiting first */
	/* for other threads to look at */
	_Atomic uint32_t idle_count, active_count, waiting_count, opening_count, pinned_count;
	_Atomic uint64_t oldest_wait; /* `since` of the first waiter; USEC_NEVER: none */
	const struct params *accepted[64]; /* settings that a server has accepted */
	uint32_t accepted_next;
};

/* Takes room for one more link in every limit, or in none. */
bool budget_take(struct pool *pool, bool use_reserve);
void budget_give(struct pool *pool);

/* shard.c */
void shard_serve(struct shard *shard);                 /* gives idle links to waiters, opens what is missing */
void shard_offer(struct shard *shard, struct link *link); /* an IDLE link in no list looks for its next user */
void shard_end_link(struct shard *shard, struct link *link); /* out of all accounts; not yet freed */
void shard_fail_waiters(struct shard *shard, const struct link_failure *failure);

/* opening.c */
void shard_open_links(struct shard *shard);            /* as many as waiters need and limits allow */
void shard_close_opening(struct shard *shard);
int pool_target(struct pool *pool, struct link_target *ret, struct secret *secret) MUST_USE;
extern const struct link_events shard_link_events;
/* Some other thread has idle links, or waiters: tell it. */
void pool_ask_for_idle(struct shard *shard);
void pool_kick_waiting(struct pool *pool, const struct shard *but);
bool shard_move_link(struct shard *from, struct link *link, uint32_t to_thread);

#endif
