/* What answer.c and answer_error.c share. */
#ifndef SESSION_ANSWER_PRIV_H
#define SESSION_ANSWER_PRIV_H

#include "session/session_priv.h"

/* A message of a kind that is looked into is no longer than this: the loop keeps it until it is whole. */
#define LOOK_MAX     ((1u << 20) - FRAME_HEADER)
#define FAREWELL_MAX 2048u /* notices that may be one; longer ones are not looked at */

enum answer {
	ANSWER_PASS,    /* to the client */
	ANSWER_SWALLOW, /* it answered something of the proxy's own */
	ANSWER_LOOK,    /* what to do with it hangs on the next message */
	ANSWER_BROKEN,  /* makes no sense here */
	ANSWER_GONE,    /* the session has no link any more, or is closed */
};

/* The error to something of the proxy's own, until its ReadyForQuery. */
static inline bool answer_keeps_error(uint8_t purpose)
{
	return purpose == PURPOSE_SETTINGS || purpose == PURPOSE_BEGIN;
}

/* What the server skips up to the client's next Sync is answered by nobody. */
void answer_skip_to_sync(struct session *s);

/* whole: the message, with its header. */
enum answer answer_server_error(struct session *s, const struct frame *f, const uint8_t *whole);
enum answer answer_server_notice(const struct session *s, const struct frame *f);

#endif
