/*
 * Which statements of a pool are worth preparing on a new link: those that its links have used most, and lately. Now
 * and then somebody looks what each link has used since the last look; each sighting scores, and with each look at
 * links that were used all scores fade, so that what was hot yesterday goes. While nothing is used nothing fades.
 */
#ifndef SESSION_CANDIDATES_H
#define SESSION_CANDIDATES_H

#include "link/params.h"
#include "session/query_info.h"

#define CANDIDATE_SCORE 64u /* of one sighting; fades to nothing within as many looks */

struct candidate {
	struct statement_text *text;   /* a reference */
	const struct params *settings; /* of a link that had it, and that mean what the text needs */
	uint32_t score;
};

struct candidates {
	struct statement_table *table; /* of the texts */
	struct candidate *items;
	uint32_t count, max;
};

void candidates_init(struct candidates *c, struct statement_table *table);
void candidates_clear(struct candidates *c);
/* No more than max of them are kept from now on. 0 or -ENOMEM: then as many as before. */
int candidates_limit(struct candidates *c, uint32_t max) MUST_USE;
/* A link with these settings has used it. */
void candidates_saw(struct candidates *c, struct statement_text *text, const struct params *settings);
void candidates_fade(struct candidates *c);
void candidates_forget(struct candidates *c, struct statement_id id);
/* The best ones that can be prepared under the same settings, which are those of the best of all; a reference each.
 * How many; 0: *ret_settings is not set. */
uint32_t candidates_best(struct candidates *c, struct statement_text **ret, uint32_t max,
			 const struct params **ret_settings);

#endif
