/*
 * Wrong tokens, by where they came from: after a few, the source has to wait before its next one is looked at, twice as
 * long each time. A right token does not undo that, for who has one could go on guessing at a better one. Other sources
 * are not touched by it. Bounded: when there is no room the source that has been quiet for longest is forgotten.
 */
#ifndef ADMIN_STRIKES_H
#define ADMIN_STRIKES_H

#include "base/clock.h"

#include <sys/socket.h>

#define STRIKES_FREE 5u   /* wrong tokens before there is any wait */
#define STRIKES_MAX  256u /* sources */

/* An IPv4 address, an IPv6 network of 64 bits (who has one address there has them all), or a user of this machine. */
struct source {
	sa_family_t family;
	uint8_t bytes[8];
};

struct strike {
	struct source source;
	uint32_t count; /* 0: free */
	usec_t last, until;
};

struct strikes {
	struct strike table[STRIKES_MAX];
};

/* uid: for who comes by a unix socket. */
struct source source_of(const struct sockaddr *address, uint32_t uid);
bool source_equal(const struct source *a, const struct source *b);

/* How long the source must wait; 0: it may try. */
usec_t strikes_wait(const struct strikes *s, const struct source *source, usec_t now);
/* One more. How many there were of late is in *ret_count. */
void strikes_add(struct strikes *s, const struct source *source, usec_t now, uint32_t *ret_count);

#endif
