/* See slab.h. A free object holds the link to the next one in its first bytes. */
#include "base/slab.h"
#include "base/poison.h"

#define ALIGNMENT 16

struct slab_free {
	struct slab_free *next;
};

struct slab_chunk {
	struct slab_chunk *next;
	_Alignas(ALIGNMENT) uint8_t bytes[];
};

void slab_init(struct slab *s, size_t object_size, uint32_t objects_per_chunk)
{
	assert(object_size <= SIZE_MAX / 2);
	*s = (struct slab){
		.size = (MAX(object_size, sizeof(struct slab_free)) + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1),
		.per_chunk = MAX(objects_per_chunk, 1),
	};
}

void slab_destroy(struct slab *s)
{
	struct slab_chunk *chunk;

	while ((chunk = s->chunks)) {
		s->chunks = chunk->next;
		unpoison(chunk->bytes, s->size * s->per_chunk);
		free(chunk);
	}
	slab_init(s, s->size, s->per_chunk);
}

static void put_free(struct slab *s, void *object)
{
	struct slab_free *freed = object;

	freed->next = s->free;
	s->free = freed;
	poison(object, s->size);
}

static bool add_chunk(struct slab *s)
{
	struct slab_chunk *chunk;

	if (s->size > (SIZE_MAX - sizeof(*chunk)) / s->per_chunk)
		return false;
	chunk = malloc(sizeof(*chunk) + s->size * s->per_chunk);
	if (!chunk)
		return false;
	chunk->next = s->chunks;
	s->chunks = chunk;
	/* Backwards, so that they are taken in the order of their addresses. */
	for (uint32_t i = s->per_chunk; i > 0; i--)
		put_free(s, chunk->bytes + s->size * (i - 1));
	s->total += s->per_chunk;
	return true;
}

void *slab_take(struct slab *s)
{
	struct slab_free *object;

	if (!s->free && !add_chunk(s))
		return NULL;
	object = s->free;
	unpoison(object, s->size);
	s->free = object->next;
	s->in_use++;
	return memset(object, 0, s->size);
}

void slab_give(struct slab *s, void *object)
{
	if (!object)
		return;
	assert(s->in_use > 0);
	s->in_use--;
	put_free(s, object);
}
