/*
 * Lag by our clock alone: how long ago the primary was where a standby is now. So neither clocks that differ nor a
 * primary that is idle matter. A track remembers where the primary was and when: as fine as it was asked, coarser the
 * longer ago.
 */
#ifndef CLUSTER_LAG_H
#define CLUSTER_LAG_H

#include "base/clock.h"

#define LAG_SAMPLES 64u

struct lag_sample { /* the primary was at this position from `first` to `last`, by clock_now() */
	usec_t first, last;
	uint64_t lsn;
};

struct lag_track { /* zero: nothing is known */
	uint32_t count;
	struct lag_sample samples[LAG_SAMPLES];
};

/* The primary was there at this time. What is older than what is known, or before it, is not taken. */
void lag_track_add(struct lag_track *track, usec_t at, uint64_t lsn);
/* Of a standby that was at lsn at this time. In time: since the primary was last seen to be where the standby is, or
 * before; one that is behind all that is remembered lags at least as long as that goes back. false: not known. */
bool lag_measure(const struct lag_track *track, usec_t at, uint64_t lsn, uint64_t *ret_bytes, usec_t *ret_time);

#endif
