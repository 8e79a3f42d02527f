/* See fingerprint.h. */
#include "session/fingerprint.h"

#include "sql/normalize.h"
#include "sql/shape.h"

#define SLOTS      4096u
#define SHAPED_MAX 2048u

void fingerprints_free(struct fingerprints *f)
{
	free(f->texts);
	free(f->shapes);
	*f = (struct fingerprints){0};
}

static bool have_slots(struct fingerprints *f)
{
	if (!f->texts)
		f->texts = calloc(SLOTS, sizeof(*f->texts));
	if (!f->shapes)
		f->shapes = calloc(SLOTS, sizeof(*f->shapes));
	if (f->texts && f->shapes)
		return true;
	fingerprints_free(f);
	return false;
}

static uint64_t compute(struct slice text)
{
	struct sql_normalized normalized;
	char nothing[1];

	sql_normalize(slice_make(text.bytes, MIN(text.len, (size_t)FINGERPRINT_BYTES_MAX)),
		      /* standard_conforming_strings= */ true, nothing, sizeof(nothing), &normalized);
	return normalized.fingerprint ? normalized.fingerprint : 1;
}

/* The hash of its shape; 0: it has none. */
static NEVER_INLINE uint64_t shape_of(struct slice text)
{
	uint8_t shape[SHAPED_MAX];
	size_t len = text.len <= sizeof(shape) ? shape_fold(text, shape) : 0;

	return len ? hash_bytes(shape, len) : 0;
}

/* Texts of one shape have the same tokens, so they have the same fingerprint. */
static NEVER_INLINE uint64_t find_by_shape(struct fingerprints *f, struct slice text)
{
	uint64_t hash = shape_of(text);
	struct fingerprint_slot *slot = &f->shapes[hash & (SLOTS - 1)];

	if (unlikely(!hash))
		return compute(text);
	if (unlikely(slot->hash != hash))
		*slot = (struct fingerprint_slot){.hash = hash, .fingerprint = compute(text)};
	return slot->fingerprint;
}

static uint64_t find(struct fingerprints *f, struct slice text)
{
	uint64_t hash = hash_bytes(text.bytes, text.len);
	struct fingerprint_slot *slot = &f->texts[hash & (SLOTS - 1)];

	if (slot->hash != hash || unlikely(!hash))
		*slot = (struct fingerprint_slot){.hash = hash, .fingerprint = find_by_shape(f, text)};
	return slot->fingerprint;
}

uint64_t fingerprint_find(struct fingerprints *f, struct slice text, struct query_infos *q)
{
	uint64_t fingerprint = likely(f->texts) || have_slots(f) ? find(f, text) : compute(text);

	if (q && q->found.text == text.bytes)
		*q->found.fingerprint = fingerprint;
	return fingerprint;
}
