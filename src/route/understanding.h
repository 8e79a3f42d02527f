/*
 * What is understood of the texts that a worker has seen: where each may run (sql/access.h), and the hints in front of
 * it (sql/hints.h). Remembered by the text's hash, so that a text seen before costs one look-up; and by its shape
 * (sql/shape.h), so that one that differs from others in its values only is not read again either.
 *
 * Of a worker: not thread-safe. What was understood with another catalog is not found any more, and goes as others take
 * its place.
 */
#ifndef ROUTE_UNDERSTANDING_H
#define ROUTE_UNDERSTANDING_H

#include "sql/access.h"
#include "sql/hints.h"

#define UNDERSTOOD_BYTES_MAX (256u << 10) /* of one text; a longer one is WRITES */

struct understanding {
	struct access access;
	bool changes_catalog;      /* sql/changes.h: once it has taken effect, tell catalogs_schema_changed() */
	bool shows_lsn;            /* SHOW helios.lsn, alone: the session is to have that setting */
	const struct hints *hints; /* NULL: there are neither hints nor any that are bad */
};

struct understandings {
	struct understanding_slot *texts;
	struct shape_slot *shapes;
	struct understanding last; /* of what is not remembered */
	struct hints last_hints;
};

#define UNDERSTANDINGS_INIT ((struct understandings){0}) /* takes memory with the first text */

void understandings_free(struct understandings *u);

/*
 * catalog: of the session's database; NULL: see access_find(), and views are taken for tables. number: the catalog's
 * own, that no other catalog of any database has (catalogs.h); 0 for NULL. standard_conforming_strings: as the session
 * has it now. Valid until the next call; hints may point into text.
 */
const struct understanding *understand(struct understandings *u, const struct catalog *catalog, uint64_t number,
				       struct slice text, bool standard_conforming_strings);

#endif
