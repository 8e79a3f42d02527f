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
/* ---- routing_wait.c ---- */
/* Its batch is kept until a standby may have replayed what it needs. false: it has waited for as long as it may (limit
 * 0: not at all; USEC_NEVER: for ever). */
bool routing_wait(struct session *s, usec_t limit);
/* A batch with SHOW helios.lsn: it goes to the primary, with that setting, as soon as it is known where the session's
 * writes are in the log. false: that is waited for, or it has failed. */
bool routing_show_lsn(struct session *s, const struct topology *t);
/* ---- routing.c ---- */
/* Its batch goes nowhere: it fails with this error, which takes no arguments. */
void routing_refuse(struct session *s, enum proxy_error error);
/* A user's; never NULL. */
const struct route_rules *routing_rules_of(const struct routing *routing, const char *user);
/* Takes over what has become known of where its writes are in the log. false: it is not known yet of the last one. */
bool routing_find_own(struct session *s, const struct topology *t);
/* The cell of those whose writes count for it, too; WRITERS_CELLS: nobody's do. */
uint32_t routing_cell(const struct session *s);

#endif
