/*
 * Objects of one size for one thread: freed ones are kept on a list and reused.
 * Memory goes back to the system only with the slab. Under ASan each object is
 * poisoned while it is free.
 */
#ifndef BASE_SLAB_H
#define BASE_SLAB_H

#include "base/common.h"

struct slab {
	size_t size; /* of one object, rounded up to 16 */
	uint32_t per_chunk;
	struct slab_chunk *chunks;
	struct slab_free *free;
	size_t in_use, total;
};

void slab_init(struct slab *s, size_t object_size, uint32_t objects_per_chunk);
void slab_destroy(struct slab *s);
void *slab_take(struct slab *s);              /* zeroed; NULL when out of memory */
void slab_give(struct slab *s, void *object); /* NULL is fine */

#endif
