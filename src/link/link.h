/*
 * A link: one authenticated connection to a server. This layer connects, sets up TLS, logs in, and keeps what
 * is known of the connection; who uses it (a client session, the pool, a job of the proxy) is its user, and
 * sees the server's bytes. https://www.postgresql.org/docs/current/protocol-flow.html
 *
 *   CONNECTING -> ENCRYPTING -> LOGGING_IN -> IDLE <-> ACTIVE
 *        \____________\_____________\__________\________\____> CLOSED
 *
 * Before it has authenticated a link may go back to CONNECTING once, to try with TLS what failed without it or the
 * other way round (server_tls.mode allow and prefer).
 */
#ifndef LINK_LINK_H
#define LINK_LINK_H

#include "base/clock.h"
#include "link/expect.h"
#include "link/params.h"
#include "link/statements.h"
#include "loop/loop.h"
#include "wire/scram.h"

#define LINK_STATES(X) \
	X(CONNECTING, "the TCP or unix connection is being made") \
	X(ENCRYPTING, "asked for TLS, or its handshake goes on") \
	X(LOGGING_IN, "authenticating, until ReadyForQuery") \
	X(IDLE, "clean, in its pool or on the way to another worker") \
	X(ACTIVE, "lent to its user") \
	X(CLOSED, "to be freed at the end of this turn")

enum link_state {
#define X(name, meaning) LINK_##name,
	LINK_STATES(X)
#undef X
};

const char *link_state_name(enum link_state state);

struct link;

#define LINK_ADDRESSES_MAX 16u
#define LINK_BATCH_MAX     (16u << 10) /* a batch that is longer is not kept */

/* What it takes to log in. Strings are copied by link_open(). */
struct link_target {
	/* Tried one after the other from address_at on, until a connection can be made. */
	struct sockaddr_storage addresses[LINK_ADDRESSES_MAX];
	socklen_t address_lens[LINK_ADDRESSES_MAX];
	uint32_t address_count, address_at;
	const char *host; /* for SNI, verify-full and logs */
	uint16_t port;
	const char *user, *database;
	const char *replication;     /* value of the startup parameter; NULL: none */
	const char *connect_query;   /* run before the link is logged in; NULL or "": none */
	const struct secret *secret; /* copied; NULL: none */
	struct tls_context *tls;     /* counted; NULL: never TLS */
	enum tls_mode tls_mode;
	bool tls_direct;
	bool poses;                     /* see struct link */
	usec_t keepalive, user_timeout; /* of the socket, see socket_set_options() */
	usec_t deadline;                /* logged in by then, or failed */
};

/* Why a link could not be opened. `error` holds a whole ErrorResponse message, the server's own where there is one. */
struct link_failure {
	const uint8_t *error;
	size_t error_len;
	char sqlstate[6];
	bool from_server;    /* the server said so */
	bool wants_password; /* it asked for a password and there was none */
	const char *what;    /* for logs: "connect", "tls", "login", "connect_query" */
	const char *tried;   /* for logs: the addresses that no connection could be made to, and why; NULL: none */
};

struct link_events { /* of the pool that opened it */
	void (*logged_in)(struct link *link);
	/* The link is closed already; freed at the end of the turn. */
	void (*failed)(struct link *link, const struct link_failure *failure);
	/* Lost while IDLE. Closed already. */
	void (*lost)(struct link *link, int error);
};

struct link_user_ops { /* of who has it while ACTIVE */
	/* As conn_ops.received. */
	size_t (*received)(struct link *link, uint8_t *bytes, size_t len);
	/* The server is gone; the link is CLOSED and still in its pool's accounts: pool_give_back() it. */
	void (*lost)(struct link *link, int error);
	void (*drained)(struct link *link);
	/* Its node is taken out of service, and the time to finish is over: whoever is served by it is told, and it is
	 * given back. NULL: what it is used for ends by itself soon. */
	void (*expelled)(struct link *link);
	/* Checks of its node fail: what is under way may stay without an answer for as long as the connection stands.
	 * Told again and again. true: who can go on elsewhere does, and has given it back. false, or NULL: it waits. */
	bool (*stranded)(struct link *link);
};

/* What is believed of the session parameters, kept to undo them with a transaction. */
struct settings_mark {
	const struct params *client, *link;
};

struct savepoint {
	char name[64];
	struct settings_mark mark;
};

struct link {
	struct conn conn;
	enum link_state state;
	char tx_status;       /* of the last ReadyForQuery: 'I' 'T' 'E' */
	bool close_when_free; /* drained, too old, or doubtful: not back into the pool */
	bool used_password;   /* the server asked for one (or for a proof) */
	bool held_for_cancel; /* free, but a cancel is under way */
	bool apart;           /* opened for one waiter alone, see pool_open_replication() */
	bool in_hand;         /* its pool's own: see shard_take_in_hand() */
	uint8_t standing;     /* its pool's own: enum link_standing */
	bool begin_sent;      /* something under way may begin a transaction */
	bool open_batch;      /* extended messages were sent, and the ReadyForQuery of their Sync has not come */
	bool fresh;           /* nothing of its user's was sent since it was lent, or since settings were */
	bool answering;       /* some of the answer that is under way was passed on */
	bool fatal;           /* the server said FATAL: it is about to close */
	bool poses;           /* to a standby, for clients to whom it is to look like the primary */
	bool kept;            /* its user had all answers and kept it: its time is counted apart, see note_pause() */
	bool foretold;        /* its pool's own: the same, whoever heard it */
	bool blamed;          /* likewise: what it is lent for has failed, and is not told to be good later */
	uint8_t key_len;
	struct list cancels_under_way; /* to the server: it must not change hands meanwhile */
	uint32_t backend_pid;
	uint8_t key[32];
	uint64_t id; /* unique in the process */
	usec_t born, used, expires;
	usec_t lent;  /* its pool's own: since when its user has it */
	usec_t asked; /* its user's own: something was sent then that is not answered yet; 0: nothing, or not measured
		       */
	usec_t answered;   /* likewise: a request was, with others behind it */
	usec_t busy_since; /* likewise, while it is kept: the server owes answers since then; 0: none */
	uint32_t ticket;   /* its pool's own: see pool_watcher.opening() */
	const struct link_events *events;
	const struct link_user_ops *user_ops;
	void *user;                           /* the user's own */
	void *owner;                          /* the pool shard's own */
	void *server;                         /* its owner's own, too: where the link leads */
	struct list node;                     /* in a list of its owner */
	const struct params *settings;        /* what was SET on it: name -> SQL that sets it */
	const struct params *settings_before; /* while new ones are being put onto it */
	const struct params *reported;        /* ParameterStatus: name -> value */
	const struct params *reported_at_mark;
	bool reset_in_transaction; /* RESET: what is reported then is the server's default, not the client's wish */
	struct statement_set statements;
	struct statement_id unnamed;
	bool has_unnamed, unnamed_in_transaction;
	/* of the batch that was begun last, while no other is under way: */
	bool shares;           /* it uses a statement that was prepared before it */
	bool unnamed_in_batch; /* it has bound the unnamed statement: nothing may change what that means before it ends
				*/
	struct buf batch;      /* its messages as the client sent them, if it may have to be run again; see repair.c */
	char *text; /* its user's own: the beginning of the request that an entry of expects says it is of; see
		       session/underway.h */
	uint32_t text_len, text_room;
	struct expects expects;
	struct buf error;          /* ErrorResponse to something of the proxy's own, until its ReadyForQuery */
	uint32_t statements_epoch; /* of its pool, when its statements were last known to be good */
	uint64_t left;             /* bytes of a server message whose beginning was passed on already */
	bool left_swallow;
	/* the transaction that is open, or the last one */
	struct settings_mark mark; /* at its beginning */
	struct savepoint *savepoints;
	uint32_t savepoint_count;
	bool dirty;               /* has state that only reset_query takes away */
	bool changed;             /* its user ran something that may leave state (session mode) */
	struct timer timer;       /* login deadline */
	struct link_login *login; /* only while logging in */
	struct loop_deferred deferred;
};

/* Begins to open a link; events follow, never from inside. 0 or -errno. */
int link_open(struct loop *loop, const struct link_target *target, const struct link_events *events, void *owner,
	      struct link **ret_link) MUST_USE;
/* Closes (politely: Terminate is tried when the server expects one) and frees at the end of the turn. */
void link_close(struct link *link);
void link_lend(struct link *link, const struct link_user_ops *ops, void *user); /* IDLE -> ACTIVE */
void link_take_back(struct link *link);                                         /* ACTIVE -> IDLE */

/* A ParameterStatus of the server: believed. body: name NUL value NUL. false: malformed. */
bool link_parameter_status(struct link *link, const uint8_t *body, size_t len);
/* Forgets savepoints and marks. */
void link_forget_transaction(struct link *link);

/* Opens a connection of its own to the server to cancel what the link runs; done(link), if the link still is, and
 * over(argument) (may be NULL) when the server has closed it,
 * or it failed: from then on no cancel of ours can hit what the link runs next. 0 or -errno. */
int link_cancel(struct link *link, const struct link_target *target, void (*done)(struct link *link),
		void (*over)(void *argument), void *argument) MUST_USE;

#endif
