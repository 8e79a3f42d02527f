/* Which of several forms of an answer who asks would rather have: the Accept header (RFC 9110, 12.5.1). Pure. */
#ifndef ADMIN_ACCEPT_H
#define ADMIN_ACCEPT_H

#include "base/common.h"

#define ACCEPT_PARAMETERS 2u

struct accept_offer {
	const char *type, *subtype;
	/* What they must be where they are named, any of several words. Others mean nothing to us. */
	struct {
		const char *name, *values; /* NULL: there are no more */
	} parameters[ACCEPT_PARAMETERS];
};

/*
 * The offer with the highest q (of several, one that is named rather than one that a * stands for, then the one that is
 * named first, then the first of ours); 0 when there is no header (NULL), or nothing in it that is offered.
 */
size_t accept_choose(const char *header, const struct accept_offer *offers, size_t count);

#endif
