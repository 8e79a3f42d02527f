/*
 * A hash map from short byte strings to pointers. Open addressing; keys are copied.
 * Not thread-safe. The hash is seeded once a process, so that a client cannot
 * choose names that collide.
 */
#ifndef BASE_MAP_H
#define BASE_MAP_H

#include "base/common.h"

struct map {
	struct map_slot *slots;
	uint32_t count, used, cap; /* used counts deleted slots too */
};

#define MAP_INIT ((struct map){0})

void map_free(struct map *m); /* not the values */
void *map_get(const struct map *m, struct slice key);
/* Adds or replaces; *ret_old (may be NULL) gets the value that stood there or NULL. 0 or -ENOMEM. */
int map_put(struct map *m, struct slice key, void *value, void **ret_old) MUST_USE;
/* Removes; returns the value or NULL. */
void *map_remove(struct map *m, struct slice key);
/* Walks all: start with *at = 0; false at the end. The map must not change meanwhile. */
bool map_next(const struct map *m, uint32_t *at, struct slice *ret_key, void **ret_value);

/* The process-wide seeded hash (XXH3). */
uint64_t hash_bytes(const void *bytes, size_t len);

#endif
