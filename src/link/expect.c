/* See expect.h. */
#include "link/expect.h"

void expects_free(struct expects *e)
{
	free(e->ring);
	*e = (struct expects){0};
}

int expects_grow(struct expects *e)
{
	uint32_t cap = e->cap ? e->cap * 2 : 16, i;
	struct expect *ring = malloc(cap * sizeof(*ring));

	if (!ring)
		return -ENOMEM;
	for (i = 0; i < e->count; i++)
		ring[i] = *expects_at(e, i);
	free(e->ring);
	e->ring = ring;
	e->first = 0;
	e->cap = cap;
	return 0;
}
