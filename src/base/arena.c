/*
 * See arena.h. The newest chunk of the usual size is the one being filled; what is too
 * large for it gets a chunk of its own, linked behind, so that filling goes on in front.
 */
#include "base/arena.h"
#include "base/poison.h"

#define ALIGNMENT 16

struct arena_chunk {
	struct arena_chunk *next;
	size_t size; /* of bytes */
	_Alignas(ALIGNMENT) uint8_t bytes[];
};

struct arena_hook {
	struct arena_hook *next;
	void (*run)(void *);
	void *argument;
};

static struct arena_chunk *chunk_new(size_t size)
{
	struct arena_chunk *chunk;

	if (size > SIZE_MAX - sizeof(*chunk))
		return NULL;
	chunk = malloc(sizeof(*chunk) + size);
	if (!chunk)
		return NULL;
	chunk->size = size;
	poison(chunk->bytes, size);
	return chunk;
}

static void chunk_free(struct arena_chunk *chunk)
{
	unpoison(chunk->bytes, chunk->size);
	free(chunk);
}

static void fill_from(struct arena *a, struct arena_chunk *chunk)
{
	a->at = chunk ? chunk->bytes : NULL;
	a->end = chunk ? chunk->bytes + chunk->size : NULL;
}

void arena_init(struct arena *a, size_t chunk_size)
{
	*a = (struct arena){.chunk_size = (MAX(chunk_size, 64) + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1)};
}

/* Newest first: what was hung on later may use what was there before. */
static void run_hooks(struct arena *a)
{
	struct arena_hook *hook;

	while ((hook = a->hooks)) {
		a->hooks = hook->next;
		hook->run(hook->argument);
	}
}

void arena_reset(struct arena *a)
{
	struct arena_chunk *kept = NULL, *next;

	run_hooks(a);
	for (struct arena_chunk *chunk = a->chunks; chunk; chunk = next) {
		next = chunk->next;
		if (!kept && chunk->size == a->chunk_size)
			kept = chunk;
		else
			chunk_free(chunk);
	}
	a->chunks = kept;
	if (kept) {
		kept->next = NULL;
		poison(kept->bytes, kept->size);
	}
	fill_from(a, kept);
}

void arena_destroy(struct arena *a)
{
	arena_reset(a);
	if (a->chunks)
		chunk_free(a->chunks);
	arena_init(a, a->chunk_size);
}

static void *alloc_large(struct arena *a, size_t size)
{
	struct arena_chunk *chunk = chunk_new(size);

	if (!chunk)
		return NULL;
	if (a->chunks) {
		chunk->next = a->chunks->next;
		a->chunks->next = chunk;
	} else {
		chunk->next = NULL;
		a->chunks = chunk;
	}
	unpoison(chunk->bytes, size);
	return chunk->bytes;
}

void *arena_alloc(struct arena *a, size_t size)
{
	size_t need;
	uint8_t *bytes;

	if (size > SIZE_MAX - ALIGNMENT)
		return NULL;
	need = (MAX(size, 1) + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
	if (need > (size_t)(a->end - a->at)) {
		struct arena_chunk *chunk;

		/* A quarter of a chunk may be left unused behind us, not more. */
		if (need > a->chunk_size / 4 && need != a->chunk_size)
			return alloc_large(a, need);
		chunk = chunk_new(a->chunk_size);
		if (!chunk)
			return NULL;
		chunk->next = a->chunks;
		a->chunks = chunk;
		fill_from(a, chunk);
	}
	bytes = a->at;
	a->at += need;
	unpoison(bytes, size);
	return bytes;
}

void *arena_zalloc(struct arena *a, size_t size)
{
	void *bytes = arena_alloc(a, size);

	if (bytes)
		memset(bytes, 0, size);
	return bytes;
}

char *arena_strndup(struct arena *a, const void *s, size_t len)
{
	char *copy;

	if (len == SIZE_MAX)
		return NULL;
	copy = arena_alloc(a, len + 1);
	if (!copy)
		return NULL;
	if (len > 0)
		memcpy(copy, s, len);
	copy[len] = '\0';
	return copy;
}

char *arena_strdup(struct arena *a, const char *s)
{
	return arena_strndup(a, s, strlen(s));
}

int arena_on_reset(struct arena *a, void (*run)(void *), void *argument)
{
	struct arena_hook *hook = arena_alloc(a, sizeof(*hook));

	if (!hook)
		return -ENOMEM;
	*hook = (struct arena_hook){.next = a->hooks, .run = run, .argument = argument};
	a->hooks = hook;
	return 0;
}
