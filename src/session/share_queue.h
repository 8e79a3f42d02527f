/*
 * Who stands where on a shared link. Requests are answered in the order in which they were sent, so the first of the
 * queue is the one whose answer comes. A place can be left but not taken away: the server will answer it. Pure.
 */
#ifndef SESSION_SHARE_QUEUE_H
#define SESSION_SHARE_QUEUE_H

#include "base/clock.h"
#include "base/list.h"

struct session;
struct statement_text;
struct lane;

/* One request on its way: in the queue of a lane, or (lane NULL) in the line of those who wait for room. */
struct turn {
	struct list node;
	struct lane *lane;
	struct session *session;     /* NULL: nobody wants the answer */
	struct statement_text *text; /* of a batch: its statement; NULL: a simple query */
	uint64_t key;                /* of the text, in the memory */
	usec_t sent;                 /* or: began to wait */
	uint32_t request_len;        /* of what the client's connection keeps */
	uint8_t closes;              /* CloseCompletes to swallow: of statements that made room */
	bool prepares;               /* a Parse of ours stands in front, and its ParseComplete has not come */
	bool tells_parse;            /* the client sent a Parse, and is told that it is complete in front of the rest */
	bool describes;              /* its portal, before it is executed: no older RowDescription counts */
	bool told;                   /* some of the answer was passed on */
	bool cancelled;              /* the server was told to cancel it */
	bool returns;                /* the answer is an error of sharing: the request takes a way of its own */
	char sqlstate[6];            /* of an error that was passed on; "" */
	uint64_t rows;               /* by its CommandComplete, if stages are to hear of it */
};

struct queue {
	struct list turns;
	uint32_t count;
	bool closed;  /* nobody is added */
	usec_t since; /* the first has been first since then */
};

void queue_init(struct queue *q);
static inline struct turn *queue_first(const struct queue *q)
{
	struct list *first = list_first(&q->turns);

	return first ? list_entry(first, struct turn, node) : NULL;
}

/* The first takes long: nobody is put behind it. */
static inline bool queue_is_stalled(const struct queue *q, usec_t now, usec_t stall)
{
	return q->count > 0 && now - q->since >= stall;
}

static inline bool queue_has_room(const struct queue *q, uint32_t depth)
{
	return !q->closed && q->count < depth;
}

void queue_add(struct queue *q, struct turn *turn, usec_t now);
/* The first is answered. */
struct turn *queue_take(struct queue *q, usec_t now);
/* Its place is left. */
void queue_leave(struct turn *turn);
/* Does anybody but the first wait for an answer here? */
bool queue_has_others(const struct queue *q);
/* Closed; everybody but the first leaves his place. each() is told who had it, and may do to other queues what it
 * likes.
 */
void queue_move_others(struct queue *q, void (*each)(struct session *session));
/* May the server be told to cancel what this turn asked? Only what is first can be hit, and so can, by the time the
 * cancel arrives, what stands behind it: so there must be nobody, and nobody may come. */
bool queue_may_cancel(const struct queue *q, const struct turn *turn);

#endif
