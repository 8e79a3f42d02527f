/* What routing.c and routing_known.c share. */
#ifndef SESSION_ROUTING_PRIV_H
#define SESSION_ROUTING_PRIV_H

#include "session/session_priv.h"
#include "session/wishes.h"

/* The short way for a batch of one text that is known to read: it was routed. False: it is to be looked at. */
bool routing_begin_known(struct session *s, const uint8_t *bytes, size_t len);

#endif
