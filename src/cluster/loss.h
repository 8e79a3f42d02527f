/*
 * The primary is gone, or lets nobody in: is the next one waited for ([proxy] write_timeout)? Then what needs a primary
 * is held; afterwards it fails at once, for clients are not to pile up behind a cluster that stays away.
 */
#ifndef CLUSTER_LOSS_H
#define CLUSTER_LOSS_H

#include "cluster/topology.h"

struct loss {
	usec_t since; /* by clock_now(); 0: there is a primary */
	bool gave_up; /* that was told */
};

struct loss_settings {
	usec_t hold_for; /* since the loss; 0: it is not waited for */
	bool names_next; /* whoever has named the leader is going to name the next one, however long that takes */
};

/* fails: the primary of the topology let a client not in, and no check was good since. */
void loss_look(struct loss *loss, const struct loss_settings *settings, const struct topology *topology, bool fails);
/* Is it no use to tell clients that the primary fails, should it? */
bool loss_is_waited_for(const struct loss *loss, const struct loss_settings *settings, const struct topology *topology);

#endif
