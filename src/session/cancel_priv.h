/* What the files about cancels share: a CancelRequest on its way. */
#ifndef SESSION_CANCEL_PRIV_H
#define SESSION_CANCEL_PRIV_H

#include "session/session_priv.h"

/*
 * Goes to the worker of the session that is to be cancelled, and comes back when the server has closed its end: only
 * then is the connection that asked closed, so that a client that waits for that knows that it was done.
 */
struct cancel_message {
	struct loop_message message;
	struct cancel_message *next; /* of those that its session holds back */
	struct worker *at;           /* it was held back here; NULL: it was not */
	struct list node;            /* in at->cancels, while `again` is set */
	struct timer again;          /* the server may have missed it */
	uint32_t tries;
	struct worker *from;                    /* where the connection that asked is */
	void (*over)(struct cancel_message *m); /* in that thread, last; frees it */
	struct cancel_visitor *visitor;         /* it asked; NULL: a client did, and the next two tell which */
	uint32_t from_slot;
	uint64_t from_serial; /* tells the connection from a later one in the same slot */
	uint32_t pid;
	uint32_t key_len;
	uint8_t key[32];
};

/* Begins; from, over, visitor and the asker are set. false: there is nothing to be done, and nothing was. */
bool cancel_begin(struct cancel_message *m, uint32_t pid, struct slice key) MUST_USE;
/* Any thread: m->over() follows. Wipes the key. */
void cancel_is_over(void *message);
/* ---- cancel_relay.c ---- */
/* The key is none of ours: asks the processes before this one. false: there are none, or too many are being asked. */
bool cancel_ask_predecessors(struct worker *w, struct cancel_message *m) MUST_USE;

#endif
