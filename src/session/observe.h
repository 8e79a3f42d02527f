/* What observe.c does of an answer, for those who do it for each. */
#ifndef SESSION_OBSERVE_H
#define SESSION_OBSERVE_H

#include "session/session_priv.h"

#include "stage/stage.h"

void observe_tell(struct request *r); /* for pipeline_set_worker() */

uint64_t observe_rows_at_end(struct slice tag);
/* The rows that a CommandComplete tells of: the last word of its tag, if that is a number. */
static inline uint64_t observe_rows(struct slice tag)
{
	const uint8_t *at = tag.bytes;
	size_t len = tag.len;

	if (likely(len > 1 && at[len - 2] == ' ' && at[len - 1] >= '0' && at[len - 1] <= '9'))
		return at[len - 1] - '0';
	return observe_rows_at_end(tag);
}

static inline void observe_completed(struct request *r, struct slice tag) /* a command of it */
{
	r->rows += observe_rows(tag);
}

#endif
