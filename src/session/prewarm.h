/*
 * Prewarming: a link that was just opened knows no prepared statement, so what comes first on it would pay for that.
 * When nobody waits for the link, the statements that the pool's links used most (candidates.h) are prepared on it
 * before it is offered. [pool] prewarm_statements turns it on; see docs/prepared-statements.md. The rules:
 *
 *   1. Somebody who waits gets the link as it is. Whoever comes while it is being prepared waits for the few statements
 *      that were sent (a step) and no longer: between two steps the link goes to him.
 *   2. A statement that fails is no candidate any more; so are those after which the server was gone.
 *   3. A step that takes long (someone holds a lock) is cancelled when somebody waits, and in any case when
 *      connect_timeout has passed; the link goes on as it is.
 *   4. A statement that only prewarming has prepared does not count as used, so it does not keep itself alive.
 */
#ifndef SESSION_PREWARM_H
#define SESSION_PREWARM_H

#include "base/list.h"

struct worker;

/* Of a worker. */
struct prewarm {
	struct list pools;   /* what is known of each */
	struct list warming; /* links under way */
};

void prewarm_init(struct worker *w);
void prewarm_tick(struct worker *w); /* once a second: forgets pools that are not used, or where it is off now */
void prewarm_end(struct worker *w);  /* links under way are closed, all is forgotten */

#endif
