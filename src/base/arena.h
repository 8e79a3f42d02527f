/*
 * Memory that is freed all at once. Allocations are 16-byte aligned.
 * What isn't memory hangs on it too (arena_on_reset).
 */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include "base/common.h"

struct arena {
	struct arena_chunk *chunks; /* newest first */
	uint8_t *at, *end;
	size_t chunk_size;
	struct arena_hook *hooks;
};

void arena_init(struct arena *a, size_t chunk_size);
/* Frees all but one chunk of the usual size. */
void arena_reset(struct arena *a);
void arena_destroy(struct arena *a);
void *arena_alloc(struct arena *a, size_t size); /* NULL when out of memory; not zeroed */
void *arena_zalloc(struct arena *a, size_t size);
char *arena_strdup(struct arena *a, const char *s);
char *arena_strndup(struct arena *a, const void *s, size_t len);
int arena_on_reset(struct arena *a, void (*run)(void *), void *argument) MUST_USE;

#endif
