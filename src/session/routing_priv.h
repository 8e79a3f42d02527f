/* What routing.c and routing_known.c share. */
#ifndef SESSION_ROUTING_PRIV_H
#define SESSION_ROUTING_PRIV_H

#include "session/session_priv.h"
#include "session/wishes.h"

/* What is known now; NULL: nothing yet. */
const struct topology *routing_topology(const struct worker *w);
const struct known_catalog *routing_catalog(struct session *s);
/* As routing_begin(), of any batch: all of it is looked at. */
bool routing_look(struct session *s, const uint8_t *bytes, size_t len);

#endif
