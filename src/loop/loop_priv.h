/*
 * What the files of loop/ share. Who does what:
 *   loop.c      the turn, messages, deferred calls
 *   epoll.c     what is asked of the kernel: one of the two back ends (struct poll_ops)
 *   uring.c     the other one; uring_thread.c has what the loops of a thread share, uring_buffers.c
 *               what is lent to the kernel, ring.c the memory they share with it, uring_check.c
 *               what must be true for it
 *   crew.c      which thread runs which loops; crew_judge.c how many threads there should be
 *   turn.c      turn memory and the recycled buffers
 *   listen.c    listeners
 *   freeze.c    nothing is read for a while
 *   conn.c      a connection's life: open, connect, pause, finish, close, detach
 *   receive.c   from the socket to ops->received()
 *   send.c      from conn_send() to the socket
 *   tls.c       contexts;  tls_conn.c  handshake, records
 */
#ifndef LOOP_LOOP_PRIV_H
#define LOOP_LOOP_PRIV_H

#include "loop/loop.h"

#include <stdatomic.h>
#include <sys/epoll.h>

#define CONN_STATES(X) \
	X(CLOSED, "no socket") \
	X(CONNECTING, "waits for EPOLLOUT; what is sent meanwhile is queued") \
	X(HANDSHAKING, "TLS is being set up; what is sent is queued") \
	X(OPEN, "bytes flow") \
	X(FINISHING, "writes what is queued; nothing is received any more") \
	X(LINGERING, "all written; throws away what still comes")

enum conn_state {
#define X(name, meaning) CONN_##name,
	CONN_STATES(X)
#undef X
};

enum conn_flag {
	CONN_PAUSED = BIT(0),       /* the owner wants no bytes, or too many are kept */
	CONN_HOLD = BIT(1),         /* an event came while it was paused or frozen: EPOLLIN isn't asked for */
	CONN_IN = BIT(2),           /* EPOLLIN is asked for */
	CONN_OUT = BIT(3),          /* EPOLLOUT is asked for, the socket was full */
	CONN_WRITABLE = BIT(4),     /* and isn't any more */
	CONN_OFF = BIT(5),          /* no event is asked for: hung up, but its bytes aren't read yet */
	CONN_ABOVE_HIGH = BIT(6),   /* drained() is owed */
	CONN_READY_FIRST = BIT(7),  /* the next readable event calls ready() */
	CONN_NO_MEMORY = BIT(8),    /* something could not be queued */
	CONN_TLS_BEGUN = BIT(9),    /* inside this received(): it must leave no byte over */
	CONN_ENDED = BIT(10),       /* nothing more is received: the peer has ended */
	CONN_RECEIVING = BIT(11),   /* the kernel may have taken bytes out of the socket that aren't shown yet */
	CONN_SEND_FAILED = BIT(12), /* with conn->error; the flush will tell */
	CONN_NEW = BIT(13),         /* nothing is asked for yet: what it sent ahead is shown first */
	CONN_LEFT = BIT(14),        /* the peer's end was seen behind bytes that aren't read yet */
	CONN_FROZEN = BIT(15),      /* its loop is frozen: read as if it were paused, whatever the owner says */
};

/* A chunk of output that the kernel didn't take. Circular list; conn->out is the last. */
struct conn_out {
	struct conn_out *next;
	uint32_t start, end, size; /* bytes[start, end) are still to be written */
	uint8_t bytes[];
};

struct conn_kept {
	struct conn_kept *next; /* in the loop's list of those to be freed after the flush, or to be used again */
	uint32_t size;
	uint8_t bytes[];
};

struct conn_finish {
	struct timer timer;
	struct conn *conn;
};

struct turn_chunk {
	struct turn_chunk *next;
	size_t size;
	uint8_t bytes[];
};

struct turn_memory {
	uint8_t *at, *end;       /* free part of the newest chunk of `used` */
	struct turn_chunk *used; /* newest first */
	struct turn_chunk *spare;
	uint32_t spare_count, small_kept_count, out_count;
	size_t taken;              /* bytes since the last flush */
	struct conn_kept *retired; /* consumed, but what was sent may still point into them */
	struct conn_kept *small_kept;
	struct conn_out *out_spare;
	struct timer trim;
};

struct loop {
	const struct poll_ops *poll;
	void *polling; /* the back end's own */
	int wake_fd;
	void *thread;
	struct timer_wheel *timers;
	struct turn_memory turn;
	struct list dirty;   /* have something to be done by conn_flush() */
	struct list later;   /* written by poll->wait(), together with the waiting */
	struct list resumed; /* to be shown what they have before the flush */
	struct list again;   /* the same, in the next turn: they had their share of this one */
	struct list deferred;
	struct list handshakes[2]; /* TLS handshakes whose next step is due; all of the first list come first */
	struct list conns;         /* all that are open */
	struct conn *showing;      /* whose received() runs; NULL once it was closed or detached in there */
	struct list followers;     /* run by this loop's turns, see loop_follow() */
	struct list following;     /* in the lead's list of them; alone when it leads */
	bool is_frozen;
	usec_t frozen_at;
	bool may_be_ready; /* the kernel is asked: always, but of a follower only when the lead's wait said so */
	struct loop_counters counters;

	_Alignas(64) _Atomic(struct loop_message *) mailbox; /* newest first */
	_Atomic bool asleep, stop;
	/* µs, the crew's to set: for so long a wait asks again and again before it sleeps (0: it does not); a turn that
	 * begins within so long after the one before came soon. */
	_Atomic uint32_t spin, soon;
	_Atomic(struct loop *) lead; /* whose turns run it: itself, when it follows none */
};

/* ---- loop.c ---- */
/* From now on the lead's thread runs this loop, too: the lead waits for both, and each of its turns is followed by one
 * of this loop if there is something to do. Both are between turns, and the caller's thread runs them. A follower leads
 * nobody. 0 or -errno; -ENOTSUP: not with this back end. */
int loop_follow(struct loop *loop, struct loop *lead) MUST_USE;
void loop_unfollow(struct loop *loop);
/* Of one that leads, when its thread no longer runs it: another may, from now on. */
void loop_let_go(struct loop *loop);
/* Writes all that is queued. When nothing is left turn memory is free. */
void loop_flush(struct loop *loop);
static inline void loop_flush_if_much(struct loop *loop)
{
	if (unlikely(loop->turn.taken > LOOP_TURN_BYTES))
		loop_flush(loop);
}
/* The end of loop_run(): nobody waits any more, so what the wait would have written is written. Its followers', too. */
void loop_leave(struct loop *loop);

static inline void count(uint64_t *counter, uint64_t by)
{
	__atomic_store_n(counter, *counter + by, __ATOMIC_RELAXED);
}

/* ---- what asks the kernel: epoll.c, uring.c. Functions that return an int return 0 or -errno. ---- */
struct poll_ops {
	const char *name;
	int (*open)(struct loop *loop); /* wake_fd is there */
	void (*close)(struct loop *loop);
	/* Waits at most so long (USEC_NEVER: for ever). False: it brought nothing. */
	bool (*wait)(struct loop *loop, usec_t wait);
	void (*dispatch)(struct loop *loop); /* all that it brought, with loop_flush_if_much() between any two */

	int (*add)(struct conn *conn); /* loop, fd, state and flags (CONN_IN, CONN_OUT) are set */
	/* What is asked for changes to `want` (CONN_IN, CONN_OUT), or begins again after leave(). */
	int (*change)(struct conn *conn, uint16_t want);
	void (*leave)(struct conn *conn);  /* nothing is asked for until the next change() */
	void (*remove)(struct conn *conn); /* also forgets what the wait has brought for it */
	int (*listen)(struct loop_listener *listener);
	void (*unlisten)(struct loop_listener *listener);
	/* The lead's wait says of a follower that it may_be_ready. NULL where a loop is bound to its thread. */
	int (*follow)(struct loop *loop, struct loop *lead);
	void (*unfollow)(struct loop *loop, struct loop *lead);
	void (*let_go)(struct loop *loop); /* its thread no longer runs it; NULL: that makes no difference */

	/* The rest is NULL where the kernel doesn't receive or send by itself (epoll). */
	/* From here on bytes stay in the socket. -EBUSY: some have been taken out (or an end, or an error). */
	int (*stop)(struct conn *conn);
	/* Shows what those are. False: the conn is closed now, or another's. */
	bool (*show)(struct conn *conn);
	/* How many conns `later` may hold now. */
	uint32_t (*room)(struct loop *loop);
	void (*recycle)(struct loop *loop); /* the flush is over, and with it turn memory */
};

extern const struct poll_ops epoll_ops, uring_ops;

/* Puts what the conn needs (reading, writing) into force, if it is not. 0 or -errno. */
int poll_update(struct conn *conn) MUST_USE;
int poll_stop(struct conn *conn); /* as in poll_ops */

/* ---- turn.c ---- */
#define TURN_RECEIVE_LEAST (16u << 10)
void turn_init(struct loop *loop);
void turn_destroy(struct loop *loop);
/* The flush is over: all turn memory is free again. */
void turn_reset(struct loop *loop);
/* At least TURN_RECEIVE_LEAST + `more` bytes, not taken yet; NULL when out of memory. more <= SMALL_KEPT. */
uint8_t *turn_room(struct loop *loop, size_t more, size_t *ret_len);
void turn_take(struct loop *loop, size_t len);                        /* of the room */
uint8_t *turn_copy(struct loop *loop, const void *bytes, size_t len); /* next to the last one, where possible */

#define SMALL_KEPT ((4u << 10) - sizeof(struct conn_kept))
struct conn_kept *kept_new(struct loop *loop, size_t size);
void kept_retire(struct loop *loop, struct conn_kept *kept);
struct conn_out *out_new(struct loop *loop, size_t size); /* may be smaller, or larger */
void out_free(struct loop *loop, struct conn_out *out);

/* ---- listen.c ---- */
void listener_event(struct loop_listener *listener);

/* ---- conn.c ---- */
void conn_set_resumed(struct conn *conn);
void conn_event(struct conn *conn, uint32_t events);
void conn_ready_first(struct conn *conn); /* see conn_ready_before_first_receive() */
/* Closes and tells the owner. */
void conn_fail(struct conn *conn, int error);
void conn_set_dirty(struct conn *conn);
/* All is written, after conn_finish(). */
void conn_finish_written(struct conn *conn);
int conn_socket_error(const struct conn *conn); /* SO_ERROR as -errno */
static inline bool conn_may_read(const struct conn *conn)
{
	return conn->state == CONN_OPEN && !(conn->flags & (CONN_PAUSED | CONN_FROZEN));
}

/* It is paused, and bytes came that wait in the socket: the peer's end would not be heard behind them (EPOLLRDHUP). */
static inline bool conn_watches_end(const struct conn *conn)
{
	return conn->state == CONN_OPEN && (conn->flags & (CONN_PAUSED | CONN_HOLD)) == (CONN_PAUSED | CONN_HOLD) &&
	       !(conn->flags & (CONN_ENDED | CONN_LEFT));
}
/* The peer has hung up, and there still are bytes of it. False: nobody wants them any more, the conn is closed. */
bool conn_keeps_last_bytes(struct conn *conn, int error) MUST_USE;

/* ---- freeze.c ---- */
/* It would be read, were its loop not frozen. */
static inline bool conn_is_only_frozen(const struct conn *conn)
{
	return conn->state == CONN_OPEN && (conn->flags & (CONN_PAUSED | CONN_FROZEN)) == CONN_FROZEN;
}

/* ---- receive.c ---- */
/* False: the conn is closed now, or another's. */
bool conn_receive(struct conn *conn, uint32_t events);
/* Shows what is kept, or what TLS has, without a new event. */
void conn_show_again(struct conn *conn);
/* The peer sends no more: what follows is its owner's to say. False: the conn is closed now, or another's. */
bool conn_hear_end(struct conn *conn);
/* The write side has failed: shows what the peer said before it left, then closes. */
void conn_receive_last(struct conn *conn, int error);
/* Where to receive, so that it will stand behind what is kept; NULL when out of memory. */
uint8_t *conn_receive_room(struct conn *conn, size_t *ret_len);
/* Bytes came in a buffer that is turn memory and has SMALL_KEPT bytes of room in front of them. */
void conn_arrived(struct conn *conn, uint8_t *bytes, size_t len);
/* Receiving failed: told at once, or behind what is kept. */
void conn_receive_failed(struct conn *conn, int error);
/* `len` bytes were put into that room: shows them. False: the conn is closed now, or another's. */
bool conn_received(struct conn *conn, uint8_t *room, size_t len) MUST_USE;
void conn_forget_kept(struct conn *conn);

/* ---- send.c ---- */
void conn_flush(struct conn *conn);
/* Nothing has to be done but to write iov, and nothing follows from its having been written. */
bool conn_may_send_later(const struct conn *conn);
/* The kernel took all of iov, or `len` bytes of it (the rest is in out then; -ENOMEM). */
void conn_sent(struct conn *conn);
int conn_sent_part(struct conn *conn, size_t len) MUST_USE;
void conn_drop_output(struct conn *conn);
/* Writes iov and out as far as the kernel takes them; what is left is in out. 0 or -errno. */
int conn_write_plain(struct conn *conn) MUST_USE;
/* Moves what iov holds behind out. 0 or -ENOMEM. */
int conn_keep_output(struct conn *conn) MUST_USE;
/* The socket was full and is not known to be otherwise. */
static inline bool conn_is_full(const struct conn *conn)
{
	return (conn->flags & (CONN_OUT | CONN_WRITABLE)) == CONN_OUT;
}
/* The first `len` bytes, of out and then of iov, are written. */
void conn_output_advance(struct conn *conn, size_t len);

/* ---- tls_conn.c ---- */
void conn_tls_free(struct conn_tls *tls); /* NULL is fine */
void conn_tls_shutdown(struct conn *conn);
/* The next step of the handshake is due: it is taken at the end of this turn, or of one of the next. */
void conn_tls_handshake_due(struct conn *conn);
void conn_tls_handshake(struct conn *conn);     /* takes it */
bool conn_tls_receive(struct conn *conn);       /* as conn_receive */
int conn_tls_write(struct conn *conn) MUST_USE; /* as conn_write_plain */
bool conn_tls_has_bytes(const struct conn *conn);
bool conn_tls_wants_write(const struct conn *conn);
void conn_tls_set_error(struct conn *conn, const char *text);

#endif
