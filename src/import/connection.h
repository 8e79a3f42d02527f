/* The values of [databases], [users] and [peers]: key=value pairs, 'quoted' where there are blanks, '' for a quote. */
#ifndef IMPORT_CONNECTION_H
#define IMPORT_CONNECTION_H

#include "base/arena.h"

struct pair {
	const char *key, *value;
};

/* The next pair at *at, which moves on. 1, 0 (there is none), -EINVAL, -ENOMEM. */
int pair_next(const char **at, struct arena *arena, struct pair *ret) MUST_USE;

#endif
