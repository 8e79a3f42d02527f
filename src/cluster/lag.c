/* See lag.h. */
#include "cluster/lag.h"

void lag_track_add(struct lag_track *t, usec_t at, uint64_t lsn)
{
	struct lag_sample *last = t->count ? &t->samples[t->count - 1] : NULL;

	if (last && last->lsn == lsn) {
		last->last = MAX(last->last, at);
		return;
	}
	if (last && (last->last >= at || last->lsn > lsn))
		return;
	if (t->count == LAG_SAMPLES) { /* coarser from here on, and twice as far back */
		for (uint32_t i = 0; i < LAG_SAMPLES / 2; i++)
			t->samples[i] = t->samples[2 * i];
		t->count = LAG_SAMPLES / 2;
	}
	t->samples[t->count++] = (struct lag_sample){at, at, lsn};
}

bool lag_measure(const struct lag_track *t, usec_t at, uint64_t lsn, uint64_t *ret_bytes, usec_t *ret_time)
{
	const struct lag_sample *primary = NULL, *reached = NULL;

	for (uint32_t i = 0; i < t->count && t->samples[i].first <= at; i++) {
		primary = &t->samples[i];
		if (primary->lsn <= lsn)
			reached = primary;
	}
	if (!primary || lsn == 0)
		return false;
	*ret_bytes = primary->lsn > lsn ? primary->lsn - lsn : 0;
	*ret_time = *ret_bytes == 0 ? 0 : at - (reached ? reached->last : t->samples[0].first);
	return true;
}
