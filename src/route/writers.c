/* See writers.h. */
#include "route/writers.h"

#include "base/map.h"

#include <string.h>

uint32_t writers_cell_of(const char *user)
{
	return 1 + (uint32_t)(hash_bytes(user, strlen(user)) % (WRITERS_CELLS - 1));
}

void writers_note(struct writers *w, uint32_t cell, usec_t at)
{
	_Atomic usec_t *last = &w->cells[cell].at;
	usec_t known = atomic_load_explicit(last, memory_order_relaxed);

	while (known < at && !atomic_compare_exchange_weak(last, &known, at))
		;
}

void writers_note_all(struct writers *w, usec_t at)
{
	for (uint32_t i = 0; i < WRITERS_CELLS; i++)
		writers_note(w, i, at);
}

usec_t writers_last(const struct writers *w, uint32_t cell)
{
	return atomic_load(&((struct writers *)(uintptr_t)w)->cells[cell].at);
}

bool writers_settle(struct writers_known *known, usec_t last, const struct position *primary, uint32_t timeline)
{
	if (known->at == last)
		return true;
	if (!primary || !position_is_after(primary, timeline, last))
		return false;
	*known = (struct writers_known){.at = last, .lsn = primary->lsn, .timeline = primary->timeline};
	return true;
}
