/* See position.h. */
#include "cluster/position.h"

#define KIND_BITS     8u
#define READS_MAX     4
#define HEADER        24u /* XLogPageHeaderData, aligned */
#define SEGMENT_START 40u /* XLogLongPageHeaderData, aligned: the first page of a segment */

/* Stores and loads of the fields are release and acquire, which takes the place of fences (that thread sanitizers do
 * not know): who reads something new of them sees the odd sequence that came before it. */
void position_publish(struct position_cell *cell, const struct position *position)
{
	uint32_t sequence = atomic_load_explicit(&cell->sequence, memory_order_relaxed);
	uint64_t what = (uint64_t)position->timeline << KIND_BITS | position->kind;

	atomic_store_explicit(&cell->sequence, sequence + 1, memory_order_relaxed);
	atomic_store_explicit(&cell->what, what, memory_order_release);
	atomic_store_explicit(&cell->lsn, position->lsn, memory_order_release);
	atomic_store_explicit(&cell->asked_at, position->asked_at, memory_order_release);
	atomic_store_explicit(&cell->sequence, sequence + 2, memory_order_release);
}

static bool read_once(const struct position_cell *cell, struct position *ret)
{
	uint32_t sequence = atomic_load_explicit(&cell->sequence, memory_order_acquire);
	uint64_t what = atomic_load_explicit(&cell->what, memory_order_acquire);

	ret->kind = (enum position_kind)(what & ((1u << KIND_BITS) - 1));
	ret->timeline = (uint32_t)(what >> KIND_BITS);
	ret->lsn = atomic_load_explicit(&cell->lsn, memory_order_acquire);
	ret->asked_at = atomic_load_explicit(&cell->asked_at, memory_order_acquire);
	return !(sequence & 1) && atomic_load_explicit(&cell->sequence, memory_order_relaxed) == sequence;
}

/* The publisher is done within nanoseconds, unless its thread is put to sleep amid them: nobody waits for that. */
bool position_read(const struct position_cell *cell, struct position *ret_position)
{
	for (int i = 0; i < READS_MAX; i++) {
		struct position found;

		if (!read_once(cell, &found))
			continue;
		if (found.kind == POSITION_NONE)
			return false;
		*ret_position = found;
		return true;
	}
	return false;
}

bool position_is_after(const struct position *position, uint32_t timeline, usec_t time)
{
	return position->kind == POSITION_INSERT && position->timeline == timeline && position->asked_at > time;
}

bool position_reached(const struct position *standby, const struct position *primary)
{
	return standby->kind == POSITION_REPLAY && primary->kind == POSITION_INSERT && primary->timeline != 0 &&
	       standby->timeline >= primary->timeline && standby->lsn >= primary->lsn;
}

uint64_t position_end_of_records(uint64_t insert_lsn, uint32_t block_size, uint32_t segment_size)
{
	if (segment_size && insert_lsn % segment_size == SEGMENT_START)
		return insert_lsn - SEGMENT_START;
	if (block_size && insert_lsn % block_size == HEADER)
		return insert_lsn - HEADER;
	return insert_lsn;
}
