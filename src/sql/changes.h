/*
 * Which texts change what a catalog (catalog.h) says, in a way that makes reads of others something else. Wider than
 * what out-of-date plans need (policies, sequences, IMPORT), and narrower (DROP makes nothing more dangerous).
 */
#ifndef SQL_CHANGES_H
#define SQL_CHANGES_H

#include "sql/scan.h"

/* scan: of the text; what it has not seen is looked at for what its tags alone would tell. */
bool changes_catalog(struct slice text, const struct scan *scan);

#endif
