/* What the files of shared links share: share.c (sessions), share_lane.c (links), share_queue.c (who stands where). */
#ifndef SESSION_SHARE_PRIV_H
#define SESSION_SHARE_PRIV_H

#include "session/session_priv.h"
#include "session/share_memory.h"
#include "session/share_queue.h"
#include "session/share_read.h"

/* So often a text is measured before it is shared. */
#define SHARE_RUNS 2u

/* A link while it is shared: its user. Ends when its queue is empty. */
struct lane {
	struct list node; /* in its group */
	struct share_group *group;
	struct link *link;
	struct queue queue;
	uint32_t preparing; /* turns whose Parse has not been answered */
	struct timer stall; /* runs while somebody stands behind the first */
};

/*
 * The lanes of one shard, and who waits for room on one of them. It exists while there is either. A lane is open as
 * long as its queue is. While any is, whoever waits fits one of those; while none is, the group waits in the pool's
 * line.
 */
struct share_group {
	struct list node;
	struct worker *worker;
	struct shard *shard;
	struct list lanes;
	struct list backlog; /* turns, longest waiting first */
	uint32_t waiting;    /* of them */
	struct waiter waiter;
};

/* ---- share.c ---- */
/* The answer to this turn, which is in no queue any more, is over. It is freed. */
void share_answered(struct worker *w, struct turn *turn);
/* Its request takes the way of a link of its own; the turn is not its any more. */
void share_return(struct session *s);
/* The same, when its standby can't answer: it is run again, on the primary. */
void share_send_home(struct session *s);
/* There is room on the lane: for whoever has waited longest and fits. */
void share_serve(struct lane *lane);
/* Some lane was closed, opened or ended, or nobody waits any more: the group waits in the pool's line if it has to, and
 * not longer. It may be gone. */
void share_settle(struct share_group *group);
void turn_free(struct worker *w, struct turn *turn);

/* ---- share_lane.c ---- */
/* The link, taken from the pool, becomes a lane. NULL: no memory; it is nobody's still. */
struct lane *lane_new(struct share_group *group, struct link *link);
/* Does the link look to the server as the session's own would? */
bool link_is_like(const struct link *link, const struct session *s);
/* May this session's requests be on it, now or when there is room? It is closed when its first one takes long. */
bool lane_is_for(struct lane *lane, const struct session *s);
/* Is there room for one with this statement (NULL: a simple query)? */
bool lane_has_room(const struct lane *lane, const struct statement_text *text);
/* How many of the group's lanes are open; closed, on their way back. */
uint32_t lanes_open(const struct share_group *group);
uint32_t lanes_closed(const struct share_group *group);
/* Somebody hangs on its first one's end: when that takes long, he is told. */
void lane_watch(struct lane *lane);
/* Sends the request. false: no memory; nothing was sent. */
bool lane_send(struct lane *lane, struct turn *turn, const struct share_request *r);
/* Nothing is added any more, and who stands behind the first takes a way of his own. */
void lane_move_others(struct lane *lane);
/* The link is closed; nobody's answer comes. */
void lane_drop(struct lane *lane);
/* Empty and closed by its queue's rules: goes back to the pool. The lane is gone. */
void lane_end(struct lane *lane);

#endif
