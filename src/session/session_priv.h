/*
 * What the files of session/ share: the session itself.
 *
 *   STARTUP -> (TLS ->) STARTUP -> AUTH -> WELCOMING -> IDLE <-> WAITING -> ACTIVE -> IDLE
 *      \__________\_________\________\_________\__________\________\_________\____> CLOSED
 *
 * With [pool] share also IDLE <-> SHARED, see share.h. AUTH -> CONSOLE: see console.h.
 *
 * received() of each state either takes bytes or leaves them with the loop: a session that waits keeps no buffer of
 * its own.
 */
#ifndef SESSION_SESSION_PRIV_H
#define SESSION_SESSION_PRIV_H

#include "base/event.h"
#include "session/console.h"
#include "session/prepared.h"
#include "session/share.h"
#include "session/worker.h"
#include "sql/hints.h"
#include "stage/request.h"
#include "wire/errors.h"
#include "wire/frame.h"
#include "wire/message.h"
#include "wire/reader.h"
#include "wire/startup.h"

#define SESSION_STATES(X) \
	X(STARTUP, "login", "its startup packet, or a TLS handshake, is awaited") \
	X(AUTH, "login", "it proves who it is") \
	X(WELCOMING, "login", "a server is asked what to report to it") \
	X(IDLE, "idle", "logged in, without a link") \
	X(WAITING, "waiting", "needs a link; what it sent is kept by the loop") \
	X(ACTIVE, "active", "has a link") \
	X(SHARED, "shared", "its request is on a shared link, or waits for one; the loop keeps its bytes") \
	X(CONSOLE, "console", "logged in to a database that leads to no node") \
	X(REPLICATION, "replication", "has a link of its own; bytes pass unread") \
	X(CLOSED, "closed", "to be freed at the end of this turn")

enum session_state {
#define X(name, shown, meaning) SESSION_##name,
	SESSION_STATES(X)
#undef X
};

/* Why a session keeps its link between transactions. */
#define PIN_TEMP      BIT(0)
#define PIN_ADVISORY  BIT(1)
#define PIN_LISTEN    BIT(2)
#define PIN_CURSOR    BIT(3)
#define PIN_PREPARE   BIT(4)
#define PIN_UNKNOWN   BIT(5) /* a text too long to be understood changed something */
#define PIN_SETTINGS  BIT(6) /* set_config with arguments that are not literals */
#define PIN_STATEMENT BIT(7) /* a statement too large to be kept was prepared */

struct session {
	struct conn conn;
	struct worker *worker;
	struct link *link;
	struct shard *shard;         /* from login on; holds a reference to its pool */
	struct shard *source;        /* where its next link comes from: `shard`, or a twin of it on a standby */
	struct session_login *login; /* until it is welcomed */
	const struct params *settings, *startup_settings, *reported;
	struct map *statements; /* client's name -> statement_text; NULL: none yet */
	struct statement_text *unnamed;
	struct statement_text *bound;   /* the unnamed portal's statement; NULL: nothing of it must be known */
	struct query_info *begin;       /* a BEGIN of which the server does not know yet; see begin.c */
	struct map *portals;            /* named portals of which something must be known -> statement_text */
	struct turn *turn;              /* while it is SHARED */
	struct console_client *console; /* while it is CONSOLE */
	struct cancel_message *cancels; /* held back while its server runs something of the proxy's own; NULL */
	uint64_t measured;              /* the text of the request on its link, whose time is to be known; 0: none */
	uint32_t measured_batch;        /* `batch`, if nothing but that was sent */
	struct waiter waiter;
	struct timer timer;       /* for the earlier one of these two; 0: never */
	usec_t timer_due;         /* what timer_meaning says */
	usec_t transaction_until; /* its transaction may go on until then */
	struct list node;         /* in worker->sessions */
	char *application;        /* application_name as it logged in; NULL */
	usec_t connected, since;  /* since: in this state */
	usec_t timeout;           /* a hint's, of the batch that comes or is under way; 0: none. See hinted.c */
	const struct params *told_settings; /* of these it was told which helios.* are ignored */
	const struct node *last_standby;    /* with [load_balancer] sticky: where its reads go; NULL: not known yet */
	uint64_t key;                       /* with the strategy hash; 0: not known yet */
	uint32_t told_hints;                /* which hints do nothing, see wishes_tell_of() */
	usec_t heard;                       /* the last request that a server answered was over then */
	struct request_asker asker;         /* from login on; for stages */
	usec_t asked;                       /* the next request could have been sent then, but for a link; 0 */
	uint64_t left;                      /* bytes of a client message whose beginning was passed on or dropped */
	uint32_t changes_pending;           /* to prepared statements, that the server has not confirmed yet */
	uint32_t unnamed_pending;           /* of those, to the unnamed one */
	uint32_t batch, unnamed_batch; /* number of the batch up to Sync; of the last Parse of the unnamed statement */
	uint16_t unnamed_serial;       /* of the last Parse of the unnamed statement, in its entry's name_hash */
	struct catalog_entry *catalog; /* of its database; NULL: it was not asked for yet, see routing.c */
	struct routing_fit *fit;       /* of its pool; NULL: it is not known whether its reads may go to standbys */
	const struct route_rules *rules; /* its user's; NULL: likewise */
	struct list replaying;           /* in worker->replaying, while it waits for a standby; see routing_wait.c */
	usec_t replay_until;             /* so long; 0: its batch has not waited for one */
	/* Its last write was answered by wrote_at; as soon as it is known where that is in the log, it is 0, and a
	 * standby must have replayed up to own_lsn of own_timeline (0: it wrote nothing). */
	usec_t wrote_at;
	uint64_t own_lsn;
	uint32_t own_timeline;
	usec_t came; /* its next request has waited since then: for a link, or another batch; 0: it has not */
	usec_t transaction_began; /* of more than one request, that is not over; 0: none */
	uint64_t serial;          /* unique in the worker */
	uint16_t bound_mark;      /* of an Execute of the unnamed portal; see underway.h */
	uint32_t slot;
	uint32_t address; /* IPv4, network order; 0: unix or IPv6 */
	uint16_t port;
	uint8_t state; /* enum session_state */
	uint8_t pins;
	uint8_t mode;            /* enum pool_mode, as of the time the link was taken */
	uint8_t timer_meaning;   /* enum session_timer */
	uint8_t key_kind;        /* enum hash_key: of `key` */
	uint8_t route_reason;    /* enum route_reason: of the batch that `source` is for; ROUTE_REASON_COUNT: none */
	char refused[6];         /* fail_next: with this SQLSTATE, if stages are to hear of it; "" */
	uint8_t begin_state;     /* enum begin_state */
	uint8_t fault;           /* of its batch, which is run again as soon as ReadyForQuery comes; 0: none */
	bool left_dropped : 1;   /* left: to be dropped rather than passed on */
	bool skip_to_sync : 1;   /* an error was sent for an extended message; no link is held */
	bool fail_next : 1;      /* an error was sent for the message at the head of its bytes */
	bool waits_for_name : 1; /* its next message means a statement whose fate an earlier batch decides */
	bool hold_ready : 1;     /* ReadyForQuery is owed once its settings are on the link again */
	bool learned : 1;        /* pool.track_parameters were asked for since its last statement */
	bool syncing : 1;        /* its settings are being put onto the link, and must be accepted first */
	bool synced : 1;         /* they were: the link is for the message that waited for that, and is still to come */
	bool copying_in : 1;     /* the server wants copy data: Sync and Flush don't count */
	bool paused_for_link : 1; /* reading stopped: the server doesn't take more */
	bool long_key : 1;        /* protocol 3.2 */
	bool told_end : 1;        /* a log line said why it ends */
	bool logged : 1;          /* its login was logged: so will be its leaving */
	bool error_in_batch : 1;  /* since the last ReadyForQuery */
	bool direct_tls : 1;      /* TLS from the first byte */
	bool ended : 1;           /* it sends no more: it is closed when it has its answers */
	bool streams : 1;         /* replication: between CopyBothResponse and ReadyForQuery */
	bool command_runs : 1;    /* replication: something was sent since the last ReadyForQuery */
	bool said_goodbye : 1;    /* replication: the last that it sent looks like Terminate */
	bool changes_catalog : 1; /* likewise, of what catalogs say */
	bool changes_schema : 1;  /* something it sent may do so: until its transaction has ended */
	bool begin_by_portal : 1; /* begin: its client executed it by the extended protocol */
	bool share_refused : 1;   /* its next request has a link of its own */
	bool leaves_nothing : 1;  /* of the batch, should it fail: what came in front of the error needs no undoing */
	bool timed : 1;           /* how long its link was lent to it is to be known, for its node's sake */
	bool routed : 1;          /* the batch that comes next, or is under way, was: `source` is for it */
	bool waits_for_route : 1; /* its next batch waits until its link to a standby is given back */
	bool wrote : 1;           /* what it sent to the primary since it has the link may write */
	bool cancelling : 1;      /* what it runs takes too long, and a cancel of it is not over */
	bool limits_simple : 1;   /* [pool] simple_query is not allow */
	bool once : 1;            /* a hint says that its batch is not to be run again */
	bool repeated : 1;        /* a standby failed to answer its batch: it is run again, on the primary */
	bool blamed : 1;         /* the oldest of its requests has failed, though what the server refused is in front */
	bool unnamed_kept : 1;   /* session mode: the text of the unnamed statement is the link's, see underway.h */
	bool flushed_at_end : 1; /* and the server was told to send what it holds back for a Sync */
	uint8_t secret[32];      /* of its cancel key: 4 or 32 bytes count */
	struct loop_deferred deferred;
};

enum session_timer {
	TIMER_LOGIN,
	TIMER_WAIT,
	TIMER_REPLAY,
	TIMER_IDLE,
	TIMER_QUERY,
	TIMER_STATEMENT,
	TIMER_IDLE_TRANSACTION
};

static inline struct counters *session_counters(const struct session *s)
{
	return &s->worker->pool_thread.counters;
}

/* Of the pool that it logged in to. */
static inline struct pool_stats *session_stats(const struct session *s)
{
	return shard_stats(s->shard);
}

static inline struct pool *session_pool(const struct session *s)
{
	return shard_pool(s->shard);
}

static inline const struct config_pool *session_settings(const struct session *s)
{
	return pool_settings(shard_pool(s->shard));
}

/* Its link leads to a standby, while the pool's own lead to the primary. */
static inline bool session_is_away(const struct session *s)
{
	return s->source != s->shard;
}

/* ---- session.c ---- */
/* speaks_first: it has sent something already, as far as one knows. */
/* Counts one that was accepted; false: there is no room, and it was told so. Admitted, it must become a session, of
 * this worker or of another. */
bool session_admit(struct worker *w, int fd) MUST_USE;
void session_new(struct worker *w, int fd, const struct sockaddr *address, bool speaks_first);
void session_set_limits(struct session *s); /* anew, when it has a pool, or the worker another configuration */
void session_set_state(struct session *s, enum session_state to);
const char *session_state_name(enum session_state state);
/* Closes at once; a link is given back or closed. Frees at the end of the turn. */
void session_close(struct session *s, const char *why);
/* The same, but what was sent to the client still reaches it. */
void session_finish(struct session *s, const char *why);
/* Sends an ErrorResponse with severity FATAL first. */
void session_fatal(struct session *s, enum proxy_error error, const char *detail, ...);
/* Ends the session for want of memory. Returns false, for who says so to its caller. */
bool session_out_of_memory(struct session *s);
void session_fatal_bytes(struct session *s, const uint8_t *error, size_t len, const char *why);
/* Sends what is in out (and frees it); nothing when it failed. */
void session_send_buf(struct session *s, struct buf *out);
/* timeout 0: none. */
void session_set_timer(struct session *s, enum session_timer meaning, usec_t timeout);
/* From now on its transaction may take so long, whatever the timer is set to. */
void session_limit_transaction(struct session *s, usec_t timeout);
void session_log(enum log_level level, const struct session *s, const char *message, const char *detail);
bool session_is_loopback6(const struct session *s);
/* Where it comes from; false: that can't be told any more. */
bool session_address(const struct session *s, struct sockaddr_storage *ret);
/* As it named them; NULL: it is not known yet. */
const char *session_database(const struct session *s);
const char *session_user(const struct session *s);
size_t session_address_text(const struct session *s, char *text, size_t size);

/* ---- introduction.c: what a startup packet says ---- */
struct introduction;
/* What was kept of the packet that these bytes begin with, or NULL; not referenced. */
struct introduction *introduction_find(const struct worker *w, const uint8_t *bytes, size_t len);
/* packet: what to keep it by; empty: not at all. NULL: the session is closed. */
struct introduction *introduction_new(struct session *s, const struct startup *p, struct slice packet) MUST_USE;
struct introduction *introduction_ref(struct introduction *i);
void introduction_unref(struct introduction *i); /* NULL is fine */
void introductions_forget(struct worker *w);     /* the configuration has changed, or the worker ends */

/* ---- startup.c, login.c ---- */
size_t startup_received(struct session *s, uint8_t *bytes, size_t len);
void startup_ready(struct session *s); /* TLS is up, or the first bytes can be peeked at */
int login_begin(struct session *s, struct introduction *introduction) MUST_USE;
size_t login_received(struct session *s, uint8_t *bytes, size_t len);
void login_reloaded(struct session *s); /* the worker has a new configuration */
void login_end(struct session *s);      /* frees what only the login needs */
/* The settings of a session that is WELCOMING are on its link: error NULL, or the server's. */
void login_settings_done(struct session *s, const uint8_t *error, size_t len);
void login_link_failed(struct session *s, const struct link_failure *failure);
void login_link_granted(struct session *s, struct link *link);

/* ---- console.c ---- */
/* Does the name lead to the console, rather than to a node? */
bool console_serves(const struct worker *w, const char *database);
/* Of its machine, and of the user that the proxy runs as. */
bool console_trusts(const struct session *s);
/* It is who it says: is let in, or refused. */
void console_welcome(struct session *s);
size_t console_received(struct session *s, uint8_t *bytes, size_t len);
bool console_ended(struct session *s, bool first);
bool console_is_at_work(struct session *s);
void console_cancelled(struct session *s);
void console_drained(struct session *s);
void console_closed(struct session *s);

/* ---- request.c (client -> server) ---- */
size_t request_received(struct session *s, uint8_t *bytes, size_t len);
/* Passes a message on as it is, as far as it has come; the rest follows as it comes. Bytes taken. */
size_t session_pass_on(struct session *s, const struct frame *f, const uint8_t *whole, size_t available);
/* The same for one with a text that may have hints, at text_at. */
size_t session_pass_on_text(struct session *s, const struct frame *f, const uint8_t *whole, size_t available,
			    size_t text_at);
/* The client sends no more, these bytes are all that was not passed on: is there still something that it waits for? */
bool request_is_owed(struct session *s, const uint8_t *bytes, size_t len);
/* Has a link with the session's settings on it; false: it waits, or is closed. */
bool session_need_link(struct session *s);
/* What waited for a link, IDLE again, has this one, which is lent to nobody; its request is shown once more. */
void session_use_link(struct session *s, struct link *link);
/* A request was sent: query_timeout counts. */
void session_arm_query_timer(struct session *s);
/* The request that waits at the head of the client's bytes fails with this ErrorResponse. */
void session_fail_request(struct session *s, const uint8_t *error, size_t len);
extern const struct waiter_ops session_waiter_ops;

/* ---- routing.c: which node a batch goes to ---- */
/* The bytes begin a batch: where does it go? false: it stays with the loop until more of it has come, or its link to a
 * standby was given back. Only with s->worker->routing. */
bool routing_begin(struct session *s, const uint8_t *bytes, size_t len);
/* What was looked up just now for the message that begins here; NULL: nothing was. */
static inline const struct routing_memo *routing_memo(const struct session *s, const uint8_t *message)
{
	const struct routing *r = s->worker->routing;

	return unlikely(r) && r->memo.bytes == message ? &r->memo : NULL;
}
/* What was looked up for messages goes: their bytes may become others. Only with w->routing. */
static inline void routing_forget_memo(struct worker *w)
{
	w->routing->memo.bytes = NULL;
	query_infos_forget_memo(&w->queries);
}
/* The session ends, or its database may be another one: what routing keeps of it goes. */
void routing_forget(struct session *s);
/* Its writes have been answered. */
void routing_wrote(struct session *s);
/* Before its client may see an answer to what may write: others may have to see that, too. Only while s->wrote. */
void routing_note_write(struct session *s);
/* Is it WAITING for a standby to replay something? It does no longer. true: it did. */
bool routing_stop_waiting(struct session *s);
/* It has waited for as long as it may: what waits is shown again, and decided. */
void routing_wait_over(struct session *s);
void routing_end_waits(struct worker *w); /* the same for all */
/* It gives a link back that was timed: how long its node took is remembered. */
void routing_measure(struct session *s);
/* A standby failed to answer, with this error: true: the client is not to hear of it, for its batch goes to the primary
 * as soon as ReadyForQuery comes. Then, or when the link is lost instead, the link is given back: false: it can't be
 * run again, or the session is closed. */
bool routing_failed(struct session *s, struct slice sqlstate);
bool routing_repeat(struct session *s);
/*
 * Of a batch on a standby, messages that come in front of its result are not passed on before it is seen that there is
 * one, and a short result not before it is whole. bytes begin with a message of either. 0: wait for more;
 * ROUTING_GO_ON: it is as any other; else so many bytes are not for the client, for they end with an error as
 * routing_failed() says.
 */
#define ROUTING_GO_ON   SIZE_MAX
#define ROUTING_PREFACE 1u
#define ROUTING_RESULT  2u
extern const uint8_t routing_parts[256];
static inline bool routing_is_preface(uint8_t type)
{
	return routing_parts[type] == ROUTING_PREFACE;
}
static inline bool routing_is_foreseen(uint8_t type)
{
	return routing_parts[type] != 0;
}
/* What has come ends with ReadyForQuery. */
static inline bool routing_ends_ready(const uint8_t *bytes, size_t len)
{
	return len > FRAME_HEADER && bytes[len - FRAME_HEADER - 1] == 'Z' && get_be32(bytes + len - FRAME_HEADER) == 5;
}
/* All in front of the result is there, and no error behind it, as nearly always. */
static inline bool routing_is_answered(const uint8_t *bytes, size_t len)
{
	const uint8_t *at = bytes;

	while (len > 0 && routing_is_preface(*at)) {
		size_t size = len < FRAME_HEADER ? len : (size_t)get_be32(at + 1) + 1;

		if (size >= len) /* one that cannot be is seen by whoever reads it */
			return false;
		at += size;
		len -= size;
	}
	return at != bytes && *at != 'E';
}
size_t routing_foresee(struct session *s, const uint8_t *bytes, size_t len);
bool routing_lost(struct session *s);
/* Nothing of its answer has come: it may be repeated while its link stands. */
bool routing_can_leave(const struct session *s);

/* ---- hinted.c: texts for which hints_may_begin() is true ---- */
/* By the configuration, at first and after each reload. */
void hinted_configure(struct worker *w, const struct config *config);
/* Has hinted_begin() anything to do for a text that begins so? */
static inline bool hinted_may_begin(const struct session *s, uint8_t first)
{
	return first <= s->worker->hinted_up_to;
}
/* Before a text is sent, or what it means is bound: a time-out of its hints, or the default, is kept. false: it must
 * wait. */
bool hinted_begin(struct session *s, struct slice text) MUST_USE;
/* The same before what is not known to have a text is bound, unless the batch has a time-out. */
bool hinted_begin_unseen(struct session *s) MUST_USE;
/* It is being sent: the client is told what of its hints is ignored. */
void hinted_tell_of(struct session *s, struct slice text);
/* May it be one of several on a link? */
bool hinted_shares(const struct session *s, struct slice text);
/* Only with a time-out: a message of this type is to wait. */
bool hinted_holds(struct session *s, uint8_t type);
void hinted_answered(struct session *s);
void hinted_go_on(struct session *s); /* what has waited */
void hinted_arm_timer(struct session *s);
void hinted_overdue(struct session *s);
/* Cancels what runs as if its time were over, again and again until it ends. false: nothing was done, for it is not all
 * that its server was sent, and a cancel too many could hit another one. */
bool hinted_cancel(struct session *s) MUST_USE;
/* Blanks the hints in a copy of a text. */
void hinted_blank(struct worker *w, uint8_t *text, size_t len);
/* The beginning of a message, with hints blanked in the text (len bytes of it) that is at text_at. Its length; 0: the
 * message may go as it is. Memory of this turn. */
size_t hinted_head(struct session *s, const uint8_t *whole, size_t text_at, size_t len, uint8_t **ret_head);
/* As a listener of wishes.h. */
void hinted_tell(void *to, const char *text);

/* ---- extended.c: Parse, Bind, Describe, Close. Bytes taken; 0: more are needed, or it waits ---- */
/* Sends a message as far as the statement's name, which stands in its body, and another name instead. ret_rest: what is
 * to follow. false: the session is closed, for want of memory. */
static inline bool session_send_renamed_head(struct session *s, const struct frame *f, struct slice name,
					     const char *other, struct slice *ret_rest)
{
	size_t before = (size_t)(name.bytes - f->body), behind = before + name.len + 1;
	size_t other_size = strlen(other) + 1, size = FRAME_HEADER + before + other_size;
	uint8_t *head = loop_turn_alloc(s->conn.loop, size);

	if (!head) {
		session_out_of_memory(s);
		return false;
	}
	*ret_rest = slice_make(f->body + behind, f->body_len - behind);
	head[0] = f->type;
	put_be32(head + 1, (uint32_t)(size - 1 + ret_rest->len));
	memcpy(head + FRAME_HEADER, f->body, before);
	memcpy(head + FRAME_HEADER + before, other, other_size);
	conn_send_ref(&s->link->conn, head, size);
	return true;
}
size_t extended_request(struct session *s, const struct frame *f, uint8_t *whole, size_t available);

/* ---- begin.c: BEGIN without a link ---- */
enum begin_state {
	BEGIN_NONE,     /* the server knows whether there is a transaction */
	BEGIN_DEFERRED, /* answered, and not sent */
	BEGIN_SENT,     /* in front of the first request, which is not answered yet */
	BEGIN_FAILED,   /* the first request failed without the server, and the transaction of it */
	BEGIN_SHOWN,    /* the server is being told of that */
};

/* A simple query, or a whole batch, of text that begins or ends a transaction: is it answered here? The batch's bytes,
 * or 0. */
bool begin_answers(struct session *s, struct query_info *info, size_t text_len);
size_t begin_answers_batch(struct session *s, const uint8_t *bytes, size_t len);
/* There is a link with the session's settings: the server is told first what it does not know. false: that must be
 * waited for, or the session is closed. */
bool begin_go_on(struct session *s);
/* ReadyForQuery of what showed the server a failed transaction has come; error: the last of it, or NULL. */
void begin_shown(struct session *s, const uint8_t *error, size_t len);
void begin_forget(struct session *s);
void begin_set_idle_timer(struct session *s);
/* These bytes of a session without a link begin with a BEGIN that is deferred, or will be. */
bool begin_comes(struct session *s, const uint8_t *bytes, size_t len);

/* The request that comes next is the first of a transaction, which was begun with begin_text(). */
static inline bool begin_is_deferred(const struct session *s)
{
	return s->begin_state == BEGIN_DEFERRED;
}

static inline const char *begin_text(const struct session *s)
{
	return s->begin ? s->begin->text : NULL;
}

/* The first request is over without the server, and so is the transaction but for its end. */
static inline void begin_fail(struct session *s)
{
	if (s->begin_state != BEGIN_NONE)
		s->begin_state = BEGIN_FAILED;
}

/* What ReadyForQuery says while there is no link. */
static inline char begin_status(const struct session *s)
{
	return s->begin_state == BEGIN_NONE ? 'I' : s->begin_state == BEGIN_DEFERRED ? 'T' : 'E';
}

/* ---- repair.c: a batch whose plan was older than the schema ---- */
/* The client's bytes from a message on; what was taken of them ends the batch that is under way, maybe. */
void repair_keep(struct link *link, const uint8_t *bytes, size_t len);
/* The oldest entry failed. True: the client is not to hear of it, for its batch is run again. */
bool repair_begin(struct session *s, const struct error_fields *e);
/* ReadyForQuery of what failed has come. False: the session is closed. */
bool repair_go_on(struct session *s);

/* ---- answer.c (server -> client) ---- */
extern const struct link_user_ops session_link_ops;
/* A notice with which a server that stops at once takes leave (57P01, 57P02), and closes the connection. The frame is
 * whole, or longer than such a notice is. */
bool answer_is_farewell(const struct frame *f);
/* link_lost.c: see struct link_user_ops. */
void answer_lost(struct link *link, int error);
void answer_expelled(struct link *link);
bool answer_stranded(struct link *link);
/* The server has refused a BEGIN that the client was told is done, and skips all that was sent behind it. */
void answer_begin_refused(struct session *s, struct slice sqlstate, const uint8_t *error, size_t len);
/* Gives out local answers that are at the head. */
void answer_locals(struct session *s);
/* Returns the link to its pool if nothing holds it. */
void session_maybe_release(struct session *s);
void session_release(struct session *s);
int session_expect(struct session *s, enum expect_kind kind, uint8_t flags, uint8_t purpose, void *object) MUST_USE;
/* What hangs on an entry that goes without an answer. */
void expect_drop(struct session *s, struct expect *x);
/* The oldest entry goes: what it stood for was answered, or was skipped. */
void answer_pop(struct session *s, bool skipped);

/* ---- observe.c: what stages hear; only observe_waits() and observe_failed() may be called without a pipeline ---- */
void observe_waits(struct session *s); /* for a link */
/* The entry x, which was pushed last, is a simple query with this text, for which w->queries was asked just before;
 * with these bytes in front, at least HINT_BYTES_MAX; an Execute of this statement (NULL: it is not known), of at most
 * so many rows (0: all). */
void observe_sent(struct session *s, struct expect *x, struct slice text);
void observe_sent_part(struct session *s, struct expect *x, struct slice text);
static inline void observe_query(struct session *s, struct expect *x, struct slice text, bool complete)
{
	if (likely(complete))
		observe_sent(s, x, text);
	else
		observe_sent_part(s, x, text);
}
void observe_executed(struct session *s, struct expect *x, struct statement_text *statement, uint32_t row_most);
/* It was answered without a server, and not with an error. statement NULL: a simple query. */
void observe_answered_here(struct session *s, struct slice text, struct statement_text *statement);
void observe_suspended(struct request *r); /* the portal has stopped at its limit */
/* Its Parse was not sent, and this error told. */
void observe_rejected(struct session *s, struct statement_text *statement, const char *sqlstate);
/* The oldest entry x, which may be none or no request, ends with an error. */
void observe_failed(struct session *s, const struct expect *x, struct slice sqlstate);
/* Its entry goes; dropped: unheard of. */
void observe_settled(struct session *s, struct request *r, bool skipped);
void observe_dropped(struct request *r);
/* A request on a shared link is over. sqlstate: "" or of its error. */
void observe_shared(struct session *s, const struct turn *turn, struct slice text);
/* The request at the head of the client's bytes fails without a server, with this ErrorResponse; then it is dropped. */
void observe_refusal(struct session *s, const uint8_t *error, size_t len);
void observe_refused(struct session *s, const struct frame *f, size_t available);

/* ---- latency.c: how long requests take ---- */
/* What is at the head of its bytes was not taken: it must wait, unless its rest is still to come. */
void latency_waits(struct session *s, const uint8_t *bytes, size_t len);

/* When the request that is sent now was received. */
static inline usec_t latency_take_begin(struct session *s)
{
	usec_t came = s->came;

	if (likely(!came))
		return clock_now();
	s->came = 0;
	return came;
}

static inline struct latencies *session_latencies(const struct session *s)
{
	return &s->worker->pool_thread.latencies;
}

/* A server has answered what began then, and is in this state. */
void latency_answered_apart(struct session *s, usec_t began, char status);
static inline void latency_answered(struct session *s, usec_t began, char status)
{
	const struct link *link = s->link;

	if (unlikely(status != 'I' || s->transaction_began || began < link->lent || link->expects.count ||
		     began < link->answered))
		latency_answered_apart(s, began, status);
	else
		latency_add(session_latencies(s), LATENCY_REQUEST, clock_now() - began);
}

/* The same of one on a link that is shared; sent: then. */
void latency_answered_shared(struct session *s, usec_t began, usec_t sent);
/* The proxy has answered. Of what had not to wait for that, nothing is counted. */
void latency_answered_here(struct session *s);
/* Its link is lost, or expelled, and its request fails of that. */
void latency_lost(struct session *s);
/* A transaction is over of which no server knows. */
void latency_ended_here(struct session *s);

/* ---- contested.c ---- */
/* It needs a link to the primary, of which there are several: true: its request fails of that. */
bool contested_refuses(struct session *s);
void contested_tick(struct worker *w);

/* ---- evidence.c: circuit breakers hear of links ---- */
void evidence_follow(struct worker *w); /* the configuration is new */
void evidence_tick(const struct worker *w);
/* Only these two are called on the way of a query, and only with a watcher: something was sent, ReadyForQuery came. */
void evidence_asked(struct session *s);
void evidence_answered(struct session *s);
static inline bool evidence_is_wanted(const struct session *s)
{
	return unlikely(s->worker->pool_thread.watcher != NULL);
}

/* ---- replication.c: as conn_ops.received, of the client and of the server ---- */
size_t replication_request(struct session *s, uint8_t *bytes, size_t len);
size_t replication_answer(struct session *s, uint8_t *bytes, size_t len);
/* It is between two messages, and what it does, if anything, would never end. */
bool replication_may_end(const struct session *s);

/* ---- effects.c: what statements do to the session ---- */
enum policy { POLICY_GO_ON, POLICY_ANSWERED, POLICY_REFUSED };
/* Before a text goes to the server: what is refused, and what pins from the start. *ret_what: for the error. */
enum policy effects_before(struct session *s, const struct query_info *info, enum proxy_error *ret_error,
			   const char **ret_what);
/* A statement of it was completed; tag: of the CommandComplete. */
void effects_completed(struct session *s, const struct query_info *info, uint32_t index, struct slice tag);
/* ReadyForQuery came for a request of the client. */
void effects_ready(struct session *s, char status);
/* The first request of a batch outside of a transaction is about to be sent. */
void effects_mark(struct session *s);
void session_pin(struct session *s, uint8_t why);
void session_unpin(struct session *s, uint8_t why);

/* ---- settings.c ---- */
/* Is what the link has what the session wants? Otherwise SQL that makes it so is queued in front (its answer
 * swallowed). true: go on, false: wait until it is accepted (s->syncing), or the session is closed. */
bool settings_sync(struct session *s);
void settings_sync_done(struct session *s, const uint8_t *error, size_t len);
/* pool.track_parameters: asks the server what they are. true: it was asked, and the link must stay until it answers. */
bool settings_learn(struct session *s);
void settings_learned_row(struct session *s, const struct frame *f);
/* SQL that sets a parameter to a value given as text; malloc'd, NULL: out of memory. */
char *settings_sql(const char *name, const char *value);
/* The same for application_name; clean: the value with '?' for each byte that is not printable ASCII. */
char *settings_application_sql(const char *name, const char *value, const char *clean);
/* A server has accepted them before. */
bool settings_are_known(struct shard *shard, const struct params *settings);
/* SQL that turns `from` into `to`. True: role or session_authorization are in it. */
bool settings_difference(const struct worker *w, struct buf *sql, const struct params *from, const struct params *to);
/* Tells the client what the link reports otherwise than what the client was told. */
void settings_report(struct session *s);

/* ---- cancel.c ---- */
uint32_t session_pid(const struct session *s);
/* An event about it; the log says the same in its own way. */
void session_tell(const struct session *s, enum event_kind kind, const char *message);
/* s: the connection that asks; it is closed when the cancel is done with. false: there is nothing to be done. */
bool cancel_request(struct session *s, uint32_t pid, struct slice key);
/* What the session runs has taken too long: cancels it. false: that can't be done now. */
bool cancel_overdue(struct session *s);
/* The request at the head of its client's bytes, which no server has, is cancelled: it fails with 57014. */
void cancel_waiting(struct session *s);
/* What the server ran was not the client's, and is over: now the cancels held back are for the client's request. */
void cancel_held_back(struct session *s);
void cancel_drop_held(struct session *s); /* there is nothing any more that they could be for */
void cancels_end(struct worker *w);       /* no cancel is sent once more */

/* ---- auth_query.c ---- */
struct auth_asker {       /* a login that asks; embedded in it */
	struct list node; /* alone: it doesn't wait */
	/* secret: lives as long as the call; of kind NONE when the user has none. error: NULL, or why nothing is known.
	 */
	void (*answered)(struct auth_asker *asker, const struct secret *secret, const char *error);
};
/* Asks auth_query for a user's secret. answered() follows, maybe from inside. */
void auth_query_ask(struct worker *w, const char *database, const char *user, struct auth_asker *asker);
void auth_query_leave(struct auth_asker *asker); /* doesn't wait: nothing happens */
/* What is kept of this user did not let it in: it is asked for anew next time. */
void auth_query_forget(struct worker *w, const char *database, const char *user);
void auth_queries_init(struct auth_queries *a);
void auth_queries_forget_all(struct auth_queries *a); /* the configuration has changed */
void auth_queries_free(struct auth_queries *a);       /* the worker ends */

#endif
