/*
 * Shared links: requests of several clients under way on one server connection, each ended by its own ReadyForQuery, so
 * that the server finds the next one in the packet with the last. [pool] share turns it on; see docs/shared-links.md.
 *
 * What is shared: a simple query, or a batch of (Parse,) Bind, (Describe,) Execute, Sync, that is whole, alone in what
 * its client sent, and a pure read (sql/shape.h), of a client outside of a transaction whose settings are those of the
 * link. Everything else has a link of its own as ever. The rules:
 *
 *   1. A client's bytes stay with the loop until its answer is over. So at any time before, its request can take a way
 *      of its own, as if it had only just come.
 *   2. Answers come in order. An answer is passed on to whoever asked, or, when he wants it no more, to nobody.
 *   3. Who stands behind a request that takes long takes a way of his own; the answer that comes here is nobody's.
 *   4. A cancel goes to the server only when nobody else waits on that link, and nobody is added until it is over.
 *   5. What began to be answered is not sent again. What is sent again is a pure read.
 *   6. A text is measured on links of its clients' own first; one that takes long as a rule is not shared.
 *
 * A link is shared (a lane) as long as there are requests on it. It goes back to its pool with the last one's answer;
 * nobody is added when somebody waits for a link of his own.
 *
 * Requests that may be shared and find neither room on a lane nor an idle link wait together (in the backlog of their
 * group), and as long as none of the group's lanes takes any more the group has one place in the pool's line: that of
 * whoever of them has waited longest. What it is granted becomes a lane, or is his own if it has other settings. So
 * sharing begins under any load, and shared requests and others take turns by age.
 */
#ifndef SESSION_SHARE_H
#define SESSION_SHARE_H

#include "base/clock.h"
#include "base/list.h"
#include "base/slab.h"

struct session;
struct link;
struct share_memory;

/* Of a worker. */
struct share {
	struct slab turns, lanes, group_slab;
	struct list groups;          /* of lanes: one for each shard that has any */
	struct share_memory *memory; /* what is known of texts; NULL until the first */
};

void share_init(struct share *share);
void share_end(struct share *share); /* closes all lanes; their sessions get an error */
void share_destroy(struct share *share);

/* The session, IDLE, is shown these bytes. true: they are a request that is on a lane now, or waits for one; they stay
 * with the loop, and it is SHARED. */
bool share_request(struct session *s, const uint8_t *bytes, size_t len);
/* The link on which a request was measured is about to be given back. */
void share_measured(struct session *s);
/* SHARED -> IDLE: it does not wait for its answer any more. What only it has on the server is cancelled. */
void share_leave(struct session *s);
/* The link on which its request is answered now, after those behind it were moved away: the server may be told to
 * cancel. NULL: its request is not the one, leaving is enough. */
struct link *share_cancellable(struct session *s);
/* It is that link's server that is told to cancel; and nobody else has been there since, nor has it been answered. */
void share_mark_cancelled(struct session *s);
bool share_is_cancelled(const struct session *s);
void share_drained(struct session *s); /* its client takes bytes again */
/* A part of a message was passed on, and its end was not yet. */
bool share_in_message(const struct session *s);
/* When its request was sent; 0: it waits. */
usec_t share_sent(const struct session *s);
/* Of its lane, for people. NULL: it waits. */
const struct link *share_link(const struct session *s);

#endif
