/*
 * What operators have changed while the proxy ran, on its way to the next process: databases that are paused or
 * disabled, nodes that are drained, and what was said of members where no [topology] state_file keeps it. It lies in an
 * unnamed file whose descriptor the next process inherits. Not handed on: what the console SET, for that holds until
 * the configuration is read again.
 */
#ifndef SERVER_HANDED_H
#define SERVER_HANDED_H

#include "base/common.h"

struct proxy;
struct handed; /* what has come, until it is done */

/* A descriptor, closed at exec; or -errno. Control thread. */
int handed_write(struct proxy *p) MUST_USE;
/* The variable that names it for the next process. */
#define HANDED_ENVIRONMENT "HELIOS_STATE_FD"

/*
 * In the next process, in this order: reads it (NULL in *ret: nothing was handed on; false: it can't be read, which
 * ends the start, so that nothing is undone behind the operator's back), and does what it says of members, before there
 * are nodes.
 */
bool handed_read(struct proxy *p, struct handed **ret) MUST_USE;
/* There are pools, and no workers yet. false: no memory. */
bool handed_close_databases(struct proxy *p, const struct handed *handed) MUST_USE;
/* There are other nodes: those among them are drained that were, each once. NULL is fine. */
void handed_drain_nodes(struct proxy *p, struct handed *handed);
void handed_free(struct handed *handed); /* NULL is fine */

#endif
