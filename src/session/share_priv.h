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

/* The lanes of one shard, and who waits for room on one of them. It exists while there is a lane. */
struct share_group {
	struct list node;
	struct worker *worker;
	struct shard *shard;
	struct list lanes, backlog;
	uint32_t count; /* of lanes */
};

/* ---- share.c ---- */
/* The answer to this turn, which is in no queue any more, is over. It is freed. */
void share_answered(struct worker *w, struct turn *turn);
/* Its request takes the way of a link of its own; the turn is not its any more. */
void share_return(struct session *s);
/* There is room on the lane: for whoever has waited longest and fits. */
void share_serve(struct lane *lane);
/* The lane takes nothing more: who could only wait for it does not wait any longer. */
void share_prune(struct share_group *group);
void turn_free(struct worker *w, struct turn *turn);

/* ---- share_lane.c ---- */
/* The link, taken from the pool, becomes a lane. NULL: no memory; it was given back. */
struct lane *lane_new(struct share_group *group, struct link *link);
/* May this session's request with this statement (NULL: a simple query) be on it, now or when there is room? */
bool lane_fits(const struct lane *lane, const struct session *s, const struct statement_text *text);
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
