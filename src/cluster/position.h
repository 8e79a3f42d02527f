/*
 * Where a node is in the write-ahead log, as its monitor publishes it and workers read it without a lock.
 *
 * Why a read is not stale on a standby that has reached a position which the primary told:
 *  - asked_at is read from the clock before the question is sent. The server answers later, and by then all that was
 *    confirmed to a client before asked_at has its place in the log: a commit is confirmed only when its record was
 *    inserted, with synchronous_commit = off as well, which is why the insert position is asked for and not what is
 *    written or flushed. So it lies behind every such commit.
 *  - Hence who wrote may go by any position with asked_at > the time at which the answer to its write was there. That
 *    time is to be read by clock_update() after the answer was received: clock_now() is of the beginning of the turn,
 *    and the answer may have come since. All threads read the same monotonic clock.
 *  - A standby that has replayed up to there shows those commits: its replay position moves when a record was applied.
 *  - Positions compare along one history only, and a history is known by its timeline. A newer timeline than that of
 * the write contains the write, or the write was lost with the old primary: then nothing is left to be read. The
 * timeline is of the last check over the same connection. A server that takes writes keeps its own as long as it runs;
 * one in recovery that was promoted says that it is not in recovery any more. That of a standby may be older than the
 * truth, never newer: it is not used for a while, and that is all.
 *  - A node whose connection broke, that failed a check, or whose role is not what it was has no position until it is
 *    checked again.
 *
 * One thread publishes; the fields are read as they were published together (a sequence number that is odd meanwhile).
 */
#ifndef CLUSTER_POSITION_H
#define CLUSTER_POSITION_H

#include "base/clock.h"

#include <stdatomic.h>

enum position_kind {
	POSITION_NONE,
	POSITION_INSERT, /* of a node that takes writes: where a standby is that has replayed all of it */
	POSITION_REPLAY, /* of a standby: what it has applied */
};

struct position {
	enum position_kind kind;
	uint32_t timeline; /* 0: unknown */
	uint64_t lsn;
	usec_t asked_at; /* the question was sent then, or later */
};

struct position_cell { /* zero: POSITION_NONE */
	_Atomic uint32_t sequence;
	_Atomic uint64_t what, lsn, asked_at; /* what: timeline and kind */
};

void position_publish(struct position_cell *cell, const struct position *position);
/* Any thread. false: none is known, or it is being published just now. */
bool position_read(const struct position_cell *cell, struct position *ret_position);
/* Does it tell where the primary was, on this timeline, at some moment after `time`? */
bool position_is_after(const struct position *position, uint32_t timeline, usec_t time);
/* Has this standby applied all that is before a position of a primary? */
bool position_reached(const struct position *standby, const struct position *primary);

/*
 * An insert position is where the next record will begin: right behind the header of a page when the last record filled
 * the page before it, or when a segment was switched. Replay has reached the end of the last record then, which is the
 * beginning of the page; and it stays there until somebody writes. So that is what is to be reached. No record ends
 * right behind a header, but for one: the header of a segment is longer, and on another page something may end there.
 */
uint64_t position_end_of_records(uint64_t insert_lsn, uint32_t block_size, uint32_t segment_size);

#endif
