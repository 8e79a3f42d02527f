/*
 * Replacing the binary without refusing one connection: the new process gets the listening sockets, says when it serves
 * them, and only then the old one stops accepting and drains.
 */
#ifndef SERVER_HANDOVER_H
#define SERVER_HANDOVER_H

#include "server/listen.h"
#include "session/worker.h"

#include <sys/types.h>

struct handover {
	pid_t pid;    /* of the new process; 0: none under way */
	int ready_fd; /* readable when it serves, at its end when it failed; -1: none */
	/* Listens for cancels that come to the new process and are for this one's clients; -1: none. Connections wait
	 * in its queue until a worker takes them. */
	int cancel_fd;
	char cancel_name[PREDECESSOR_NAME_MAX];
};

#define HANDOVER_INIT ((struct handover){.ready_fd = -1, .cancel_fd = -1})

enum handover_state { HANDOVER_NONE, HANDOVER_WAITING, HANDOVER_DONE, HANDOVER_FAILED };

/* Remembers the path of the running binary; call early. */
void handover_init(void);
/* Starts the next process, which is told of this one and of those before it, and gets state_fd (see handed.h). 0 or
 * -errno. */
int handover_start(struct handover *h, struct listen_set *set, const struct predecessors *before, int state_fd,
		   char *const *argv) MUST_USE;
enum handover_state handover_poll(struct handover *h);
/* In the new process: tells the old one, if there is one, that this one serves. */
void handover_tell_ready(void);
/* In the new process, before its workers start: who was there before. */
void handover_take_predecessors(struct predecessors *ret);
/* At the end; the workers have ended. */
void handover_close(struct handover *h);

#endif
