/*
 * See trace_ring.h.
 *
 * Positions count bytes and never go back: 0 <= end - begin <= size. A record is in one piece: where there is no room
 * for it up to the end of the memory, a size of 0 says that it stands at the beginning. Each is a multiple of 8, so
 * there is always room for that.
 */
#include "telemetry/trace_ring.h"

#include <stdatomic.h>

struct trace_ring {
	struct trace_ring *next;
	size_t size;
	_Atomic bool retired;
	_Atomic uint64_t begin __attribute__((aligned(64))); /* the reader's */
	_Atomic uint64_t end __attribute__((aligned(64)));   /* the writer's */
	uint64_t begin_seen;                                 /* by the writer */
	uint8_t bytes[] __attribute__((aligned(64)));
};

static _Atomic(struct trace_ring *) newcomers; /* that the reader has not seen yet */
static struct trace_ring *rings, *current;     /* the reader's; current: what trace_rings_first() gave is of */

struct trace_ring *trace_ring_new(size_t size)
{
	size_t whole = (sizeof(struct trace_ring) + size + 63) & ~(size_t)63;
	struct trace_ring *r = aligned_alloc(64, whole);

	assert(size >= 4096 && (size & (size - 1)) == 0);
	if (!r)
		return NULL;
	memset(r, 0, sizeof(*r)); /* the rest takes no memory before it is used */
	r->size = size;
	r->next = atomic_load(&newcomers);
	while (!atomic_compare_exchange_weak(&newcomers, &r->next, r))
		;
	return r;
}

void trace_ring_retire(struct trace_ring *ring)
{
	atomic_store_explicit(&ring->retired, true, memory_order_release);
}

static struct slice cut(struct slice text, size_t max)
{
	return slice_make(text.bytes, MIN(text.len, max));
}

static uint8_t *put(uint8_t *to, struct slice text)
{
	if (text.len)
		memcpy(to, text.bytes, text.len);
	return to + text.len;
}

/* Room for a record; NULL: there is none. *ret_skipped: so many bytes are not used. */
static uint8_t *find_room(struct trace_ring *r, uint64_t end, size_t size, size_t *ret_skipped)
{
	size_t at = end & (r->size - 1), left = r->size - at;

	*ret_skipped = left < size ? left : 0;
	if (end + *ret_skipped + size - r->begin_seen > r->size)
		r->begin_seen = atomic_load_explicit(&r->begin, memory_order_acquire);
	if (end + *ret_skipped + size - r->begin_seen > r->size)
		return NULL;
	return r->bytes + (*ret_skipped ? 0 : at);
}

bool trace_ring_add(struct trace_ring *ring, const struct trace_record *record, const struct trace_strings *strings)
{
	uint64_t end = atomic_load_explicit(&ring->end, memory_order_relaxed);
	struct trace_strings s = *strings;
	size_t size = sizeof(*record), skipped;
	struct trace_record *r;
	uint8_t *to;

#define X(name) s.name = cut(s.name, TRACE_NAME_MAX);
	TRACE_STRINGS(X)
#undef X
	s.text = cut(strings->text, TRACE_TEXT_MAX);
	s.state = cut(strings->state, TRACE_TEXT_MAX);
#define X(name) size += s.name.len;
	TRACE_STRINGS(X)
#undef X
	size = (size + 7) & ~(size_t)7;
	to = find_room(ring, end, size, &skipped);
	if (!to)
		return false;
	if (skipped)
		memset(ring->bytes + (end & (ring->size - 1)), 0, sizeof(uint32_t));
	r = (struct trace_record *)(void *)to;
	*r = *record;
	r->size = (uint32_t)size;
	to = r->bytes;
#define X(name) \
	r->name##_len = (uint16_t)s.name.len; \
	to = put(to, s.name);
	TRACE_STRINGS(X)
#undef X
	atomic_store_explicit(&ring->end, end + skipped + size, memory_order_release);
	return true;
}

void trace_record_strings(const struct trace_record *record, struct trace_strings *ret)
{
	const uint8_t *at = record->bytes;

#define X(name) \
	ret->name = slice_make(at, record->name##_len); \
	at += record->name##_len;
	TRACE_STRINGS(X)
#undef X
}

/* ---- the reader ---- */

static void take_newcomers(void)
{
	struct trace_ring *r = atomic_exchange(&newcomers, NULL);

	while (r) {
		struct trace_ring *next = r->next;

		r->next = rings;
		rings = r;
		r = next;
	}
}

static const struct trace_record *first_of(struct trace_ring *r)
{
	uint64_t begin = atomic_load_explicit(&r->begin, memory_order_relaxed);
	const struct trace_record *record;

	if (begin == atomic_load_explicit(&r->end, memory_order_acquire))
		return NULL;
	record = (const struct trace_record *)(const void *)(r->bytes + (begin & (r->size - 1)));
	if (record->size)
		return record;
	begin += r->size - (begin & (r->size - 1));
	atomic_store_explicit(&r->begin, begin, memory_order_release);
	return (const struct trace_record *)(const void *)r->bytes;
}

const struct trace_record *trace_rings_first(void)
{
	struct trace_ring **at = &rings;

	take_newcomers();
	while ((current = *at)) {
		/* in this order: what was written before it was retired is seen */
		bool retired = atomic_load_explicit(&current->retired, memory_order_acquire);
		const struct trace_record *record = first_of(current);

		if (record)
			return record;
		if (retired) {
			*at = current->next;
			free(current);
		} else {
			at = &current->next;
		}
	}
	return NULL;
}

void trace_rings_drop(void)
{
	const struct trace_record *record = first_of(current);
	uint64_t begin = atomic_load_explicit(&current->begin, memory_order_relaxed);

	atomic_store_explicit(&current->begin, begin + record->size, memory_order_release);
}

unsigned trace_rings_fill(void)
{
	uint64_t most = 0;

	take_newcomers();
	for (const struct trace_ring *r = rings; r; r = r->next) {
		uint64_t used = atomic_load_explicit(&((struct trace_ring *)(uintptr_t)r)->end, memory_order_relaxed) -
				atomic_load_explicit(&((struct trace_ring *)(uintptr_t)r)->begin, memory_order_relaxed);

		most = MAX(most, used * 100 / r->size);
	}
	return (unsigned)most;
}

void trace_rings_free(void)
{
	take_newcomers();
	while (rings) {
		struct trace_ring *next = rings->next;

		free(rings);
		rings = next;
	}
}
