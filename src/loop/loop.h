/*
 * The I/O of one thread (at a time, see crew.h): stream sockets (plain or TLS), listeners, timers, messages
 * from other threads. Written to completions: bytes are handed to the owner, and what
 * the owner sends is gathered and written once a connection at the end of the turn.
 *
 * A turn:  wait -> for each ready socket: receive, ops->received() -> messages ->
 *          timers -> resumed connections -> flush all that was queued -> deferred calls.
 * Flushing may lead to callbacks, which may queue and resume more: the loop repeats the
 * last three steps until nothing is left to do (at most 16 times, then it looks at the
 * sockets again first). Deferred calls run only once nothing is queued any more.
 *
 * Turn memory: bytes given to received(), and what loop_turn_alloc() returns, stay valid
 * until the flush at the end of the turn is over. So a received span can be sent to
 * another connection of the same loop by reference, without a copy (conn_send_ref); only
 * what the kernel does not take at once is copied, into the connection's own queue.
 * (When one turn uses more than LOOP_TURN_BYTES the loop flushes between two events and
 * starts over: never inside a callback.)
 *
 * Only loop_post() and loop_stop() may be called from another thread. loop_new() makes
 * the process ignore SIGPIPE, unless it handles it.
 */
#ifndef LOOP_LOOP_H
#define LOOP_LOOP_H

#include "base/list.h"
#include "loop/timer.h"
#include "loop/tls.h"

#include <sys/socket.h>
#include <sys/uio.h>

#define LOOP_TURN_BYTES    (1u << 20)
#define LOOP_RECEIVE_BYTES (64u << 10) /* asked of the kernel at once, per connection and turn */

struct loop;
struct conn;

struct conn_ops {
	/*
	 * Bytes have come. Returns how many of them are done with (0..len); the loop keeps the
	 * rest and shows it again in front of the next bytes, or after conn_resume().
	 * The owner may write into bytes[0..len).
	 */
	size_t (*received)(struct conn *conn, uint8_t *bytes, size_t len);
	/* The peer closed (error 0) or the connection failed (-errno; -EPROTO: TLS, see
	 * conn_tls_error()). The conn is closed already; nothing else is called for it. */
	void (*closed)(struct conn *conn, int error);
	/*
	 * The peer will send no more, but may still read: a FIN or a close_notify, or conn_end_input(). The bytes are
	 * those that are kept. True: there is still something to be said; it is asked again when all is written, and
	 * after conn_resume(), and closed() comes if the connection fails. False, or NULL: closed(conn, 0).
	 */
	bool (*ended)(struct conn *conn, const uint8_t *bytes, size_t len);
	/*
	 * The peer has closed while the conn was paused and before all of its bytes were read; once of its end, and
	 * once when it has hung up altogether. Then false says that nobody wants its bytes: closed() follows. True,
	 * or NULL: they are shown first, as ever.
	 */
	bool (*left)(struct conn *conn, bool altogether);
	/* conn_queued() was above CONN_HIGH_WATER and is now below CONN_LOW_WATER. May be NULL. */
	void (*drained)(struct conn *conn);
	/* A connect, or a TLS handshake, is done. */
	void (*ready)(struct conn *conn);
};

#define CONN_HIGH_WATER (256u << 10)
#define CONN_LOW_WATER  (64u << 10)

/* Embedded in its owner (a session, a link). Fields are the loop's, but for those said. */
struct conn {
	const struct conn_ops *ops; /* the owner may change it between callbacks */
	struct loop *loop;
	int fd;            /* -1: closed */
	uint32_t keep_max; /* the owner may set: when so much is kept, reading stops by itself
			      until conn_resume(). Default 1 MiB */
	uint8_t state;     /* loop's own */
	uint8_t error;     /* loop's own: errno of a failure that isn't told yet */
	uint16_t flags;    /* loop's own */
	uint16_t iov_count, iov_cap;
	struct iovec *iov; /* turn memory: what is to be written at the end of this turn */
	struct list dirty; /* in the loop's list of those with something queued */
	struct list resumed;
	struct list all; /* in the loop's list of all that are open */
	union {
		struct conn_kept *kept;     /* received, not consumed; NULL when nothing */
		struct conn_finish *finish; /* once conn_finish() was called */
	};
	uint32_t kept_at, kept_len; /* which of the kept bytes those are */
	struct conn_out *out;       /* not yet taken by the kernel, from earlier turns; NULL when nothing */
	uint32_t slot;              /* loop's own: the back end's name for it */
	bool never_frozen;          /* loop's own */
	bool thaws_first;           /* the owner may set: what came is shown before that of others, see loop_thaw() */
	size_t queued;              /* bytes in iov and out */
	struct conn_tls *tls;       /* NULL: plain */
};

/* Called at the end of the turn, once; for freeing what callbacks may still be looking at. */
struct loop_deferred {
	struct list node;
	void (*run)(struct loop_deferred *deferred);
};

/* A message to the loop's thread; the sender allocates, run() (on the loop's thread) frees. */
struct loop_message {
	struct loop_message *next;
	void (*run)(struct loop_message *message, void *thread); /* thread: as given to loop_new() */
};

struct loop_listener {
	struct loop *loop;
	int fd; /* listening, non-blocking; the owner closes it after loop_unlisten() */
	/* A new connection: fd is non-blocking and close-on-exec, and is the callee's now. */
	void (*accepted)(struct loop_listener *listener, int fd, const struct sockaddr *address, socklen_t len);
	void *owner;        /* the owner's own */
	bool speaks_first;  /* set by loop_listen(): who is accepted has sent something already (TCP_DEFER_ACCEPT) */
	uint8_t state;      /* loop's own */
	uint32_t slot;      /* loop's own: the back end's name for it */
	uint64_t turn;      /* loop's own: the last one in which it was called */
	struct timer retry; /* loop's own: after EMFILE and the like accepting pauses for 100 ms */
};

struct loop_counters { /* since the start; written by the loop's thread, read by any with relaxed atomic loads */
	uint64_t turns, waits, spins, spun_us, lost_us, soon, events, receives, sends, accepts, bytes_in, bytes_out,
		messages;
	uint64_t open; /* connections that are open now, or have last words to write */
};

/* ---- the loop ---- */
/* `thread` is handed to messages. backend: "epoll", "io_uring" or "auto"; what `auto` would take and can't have, it
 * leaves. 0 or -errno; loop_refusal() has a text for what io_uring may say. With io_uring the loop belongs to the
 * thread that runs its first turn, or to those of its crew; another one may still run turns for the end, when they are
 * gone. */
int loop_new(const char *backend, void *thread, struct loop **ret_loop) MUST_USE;
const char *loop_refusal(int error);
const char *loop_backend(const struct loop *loop); /* "epoll" or "io_uring" */
/* For the end: fails every connection with -ECANCELED, so that the owners let go of them. */
void loop_close_all(struct loop *loop);
/* Nothing is open, queued, or waits in the mailbox: the loop may be freed. */
bool loop_is_over(struct loop *loop);
void loop_free(struct loop *loop);                               /* all connections must be closed; frees no owner */
void loop_run(struct loop *loop);                                /* until loop_stop() */
void loop_run_turn(struct loop *loop, usec_t wait_at_most);      /* one turn; for tests too */
void loop_stop(struct loop *loop);                               /* any thread */
void loop_post(struct loop *loop, struct loop_message *message); /* any thread */
/* Now both are run by the same thread (any thread may ask; by the time it acts it may be otherwise). */
bool loop_shares_thread(const struct loop *loop, const struct loop *with);
bool loop_leads(const struct loop *loop); /* what comes for it wakes its thread by one system call less */
void loop_defer(struct loop *loop, struct loop_deferred *deferred);
struct timer_wheel *loop_timers(struct loop *loop);
const struct loop_counters *loop_counters(const struct loop *loop);
/*
 * From now on nothing is read: what comes meanwhile is shown after the thaw, in its order, and ends are told then.
 * Paused or resumed, conns are what their owners say. What is queued is still written, and what is closing closes.
 * Timers stand still (timer.h). Frozen already: nothing happens; so with the thaw. Not from inside a timer.
 */
void loop_freeze(struct loop *loop);
void loop_thaw(struct loop *loop);
/* How many of those that can be frozen have something that is not written yet. */
uint32_t loop_unwritten(const struct loop *loop);
/* Fails those with -ETIMEDOUT. How many. */
uint32_t loop_fail_unwritten(struct loop *loop);
void *loop_turn_alloc(struct loop *loop, size_t size); /* 8-byte aligned; NULL when out of memory */
static inline bool conn_is_open(const struct conn *c)
{
	return c->fd >= 0;
}

/* ---- listening ---- */
int loop_listen(struct loop *loop, struct loop_listener *listener) MUST_USE; /* fd and accepted are set */
void loop_unlisten(struct loop_listener *listener);
/* Who connects meanwhile waits in the kernel's queue, for the next loop_go_on_listening(). */
void loop_rest_listening(struct loop_listener *listener);
void loop_go_on_listening(struct loop_listener *listener);

/* ---- connections ---- */
/* For TCP: without Nagle's delay; keep-alive probes after this idle time (0: none), four within as long again, and what
 * the peer does not confirm for user_timeout ends it (0: the system's time). A listening socket hands its options on to
 * those it accepts. Other kinds of sockets are left as they are. */
void socket_set_options(int fd, usec_t keepalive, usec_t user_timeout);
/* Of a listening one: who connects is accepted with its first bytes, or when it has been silent for so long (0: at
 * once). Other kinds of sockets are left as they are. */
void socket_defer_accept(int fd, usec_t silence);
/* Makes *conn closed and empty; ops must be set before anything else. */
void conn_init(struct conn *conn, const struct conn_ops *ops);
/* Takes over a connected, non-blocking socket with the options it shall have; reading begins. 0 or -errno (then the fd
 * is still the caller's). */
int conn_open(struct conn *conn, struct loop *loop, int fd) MUST_USE;
/* The same for one that has most likely sent something already: that is received in this turn, not inside this call. */
void conn_open_with_bytes(struct conn *conn, struct loop *loop, int fd);
/* Begins to connect: ready() or closed() follows, never from inside this call. 0 or -errno. */
int conn_connect(struct conn *conn, struct loop *loop, const struct sockaddr *address, socklen_t len) MUST_USE;
/* Closes at once; what is queued is lost; no callback. Closed already: nothing happens.
 * The memory may be freed from a loop_deferred, not before. */
void conn_close(struct conn *conn);
/* Stops reading, writes what is queued, then closes and calls closed(conn, 0), never inside
 * this call; after `linger` microseconds at the latest. For last words before good-bye: when
 * the peer is still sending, its bytes are thrown away until it stops, as closing with unread
 * bytes would make the kernel reset the connection and the last words be lost. */
void conn_finish(struct conn *conn, usec_t linger);

/* Queues bytes that stay valid until the end of this turn (turn memory, constants). */
void conn_send_ref(struct conn *conn, const void *bytes, size_t len);
/* Queues a copy (in turn memory). */
void conn_send(struct conn *conn, const void *bytes, size_t len);
static inline size_t conn_queued(const struct conn *conn)
{
	return conn->queued;
}
/* On a closed conn sending does nothing. Out of memory: closed(conn, -ENOMEM) at the end of the turn. */

/* Stops and starts reading. Resuming shows kept bytes again in this turn (not inside this
 * call), even when nothing new has come. Pausing is lazy: it costs a system call only if
 * bytes do come meanwhile. */
void conn_pause(struct conn *conn);
void conn_resume(struct conn *conn);
/* Is it about to be shown bytes again, in this turn, since conn_resume()? */
bool conn_is_resumed(const struct conn *conn);
bool conn_is_paused(const struct conn *conn);
/* What is kept: it was shown, and its owner left it. Valid until the end of this turn. */
struct slice conn_kept(const struct conn *conn);
/* The owner is done with so many bytes at the head of what is kept; not inside of received(). Resume it if there may be
 * more. */
void conn_consume(struct conn *conn, size_t len);
/* Bytes that were shown and taken are to be shown once more, in front of what is kept (a copy); not inside of
 * received(). Resume it, too. Out of memory: false, and nothing is kept. */
bool conn_unread(struct conn *conn, const void *bytes, size_t len) MUST_USE;
/* As if the peer had sent no more than what was shown: ended() follows in this turn, not inside this call. */
void conn_end_input(struct conn *conn);
/* It is read even while its loop is frozen, until it is closed for good or conn_init() is called. */
void conn_never_freeze(struct conn *conn);

/* Looks at up to len bytes that have come without taking them (recv MSG_PEEK); for telling
 * direct TLS from a startup packet. Returns the number, or -errno. Plain connections only. */
int conn_peek(struct conn *conn, void *bytes, size_t len);
/* With this set before conn_open() returns to the loop, the first readable event calls
 * ops->ready() instead of receiving, once (for conn_peek). */
void conn_ready_before_first_receive(struct conn *conn);

/*
 * Begins a TLS handshake, as the accepting side or as the connecting one; ready() or closed()
 * follows. Nothing may be kept (conn->kept_len == 0 as seen after received() returned): the
 * caller refuses bytes that were sent ahead of the handshake. What was queued before (the 'S')
 * is written first, in plain (-EAGAIN when the socket doesn't take it: then close). host: for SNI and verify-full
 * (NULL: neither). alpn: wire format, e.g. "\x0apostgresql", or NULL; the accepting side refuses a client that offers
 * only others. 0 or -errno.
 */
int conn_start_tls(struct conn *conn, struct tls_context *context, bool accepting, const char *host,
		   struct slice alpn) MUST_USE;
static inline bool conn_is_tls(const struct conn *conn)
{
	return conn->tls != NULL;
}
const char *conn_tls_error(const struct conn *conn);   /* text for logs; "" when none. Valid in closed() */
const char *conn_tls_version(const struct conn *conn); /* "TLSv1.3"; "" when plain */
const char *conn_tls_cipher(const struct conn *conn);
bool conn_tls_has_alpn(const struct conn *conn); /* one was agreed on */
bool conn_tls_resumed(const struct conn *conn);
/* tls-server-end-point of the server's certificate (RFC 5929 4.1): ours when accepting, the peer's
 * when connecting. Length, or 0 when there is none. size >= 64. */
size_t conn_tls_end_point(const struct conn *conn, uint8_t *bytes, size_t size);
/* CN of the peer's verified certificate, or its whole subject in RFC 2253 form. Length or 0. */
size_t conn_tls_peer_cn(const struct conn *conn, char *text, size_t size);
size_t conn_tls_peer_dn(const struct conn *conn, char *text, size_t size);

/* Takes a quiet connection (nothing queued, nothing kept, no handshake under way) out of its loop,
 * TLS state and all, so that another thread can attach it to its own. Inside its own received() all
 * bytes shown count as consumed. 0, or -EBUSY. Attached, it is not paused. */
int conn_detach(struct conn *conn) MUST_USE;
int conn_attach(struct conn *conn, struct loop *loop) MUST_USE; /* 0 or -errno: then close it */

#endif
