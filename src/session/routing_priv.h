/* What routing.c and routing_known.c share. */
#ifndef SESSION_ROUTING_PRIV_H
#define SESSION_ROUTING_PRIV_H

#include "session/session_priv.h"
#include "session/wishes.h"

/* Is all of the batch at the head a single text that is known to read, by the catalog of this number? */
bool routing_is_known_read(struct session *s, const uint8_t *bytes, size_t len, uint64_t catalog_number);
/* The standby whose turn it is; NULL: it is to be decided the long way. */
struct node *routing_next_fit(struct session *s, const struct topology *t, const struct known_catalog *known);

#endif
