/* See event.h. */
#include "base/event.h"

#include "base/clock.h"

#include <stdatomic.h>

#define EVENT_AVERAGE 512u /* bytes */

_Static_assert(EVENT_KIND_COUNT <= 64, "a filter has a bit for each kind");

static const struct event_info kinds[] = {
#define EVENT(id, name, subject, when, fields, action) {name, subject, when, fields, action},
#include "base/events.def"
#undef EVENT
};

static struct journal *kept; /* set while there is one thread */
static _Atomic uint64_t counts[EVENT_KIND_COUNT];

const struct event_info *event_info(enum event_kind kind)
{
	assert(kind < EVENT_KIND_COUNT);
	return &kinds[kind];
}

/* ---- filters ---- */

static bool name_matches(const char *name, struct slice pattern)
{
	bool is_prefix = pattern.len > 0 && pattern.bytes[pattern.len - 1] == '*';

	if (is_prefix)
		return strncmp(name, (const char *)pattern.bytes, pattern.len - 1) == 0;
	return slice_equal(slice_str(name), pattern);
}

static uint64_t kinds_like(struct slice pattern)
{
	uint64_t bits = 0;

	for (unsigned kind = 0; kind < EVENT_KIND_COUNT; kind++)
		if (name_matches(kinds[kind].name, pattern))
			bits |= UINT64_C(1) << kind;
	return bits;
}

bool event_filter(const char *filter, uint64_t *ret_kinds)
{
	uint64_t all = 0;

	if (!filter || !*filter) {
		*ret_kinds = UINT64_MAX;
		return true;
	}
	for (const char *at = filter;; at++) {
		struct slice name = slice_make(at, strcspn(at, ","));
		uint64_t bits = kinds_like(name);

		if (!bits)
			return false;
		all |= bits;
		at += name.len;
		if (!*at)
			break;
	}
	*ret_kinds = all;
	return true;
}

/* ---- writing ---- */

int event_keep(size_t events)
{
	if (events > 0)
		kept = journal_new(events, events * EVENT_AVERAGE, clock_wall());
	return events > 0 && !kept ? -ENOMEM : 0;
}

void event_forget(void)
{
	journal_free(kept);
	kept = NULL;
}

struct journal *event_journal(void)
{
	return kept;
}

uint64_t event_count(enum event_kind kind)
{
	return atomic_load_explicit(&counts[kind], memory_order_relaxed);
}

void event_write(enum event_kind kind, enum log_level level, const char *message, const struct kv *pairs)
{
	atomic_fetch_add_explicit(&counts[kind], 1, memory_order_relaxed);
	if (kept)
		journal_add(kept, &(struct journal_entry){.wall_us = clock_wall(),
							  .level = MAX(level, LOG_INFO), /* severity */
							  .kind = kind,
							  .message = message,
							  .pairs = pairs});
}

void event_log(enum event_kind kind, enum log_level level, const char *message, const struct kv *pairs)
{
	if (level >= __atomic_load_n(&log_min_level, __ATOMIC_RELAXED))
		log_write(level, message, pairs);
	event_write(kind, level, message, pairs);
}
