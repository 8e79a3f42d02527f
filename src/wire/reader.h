/*
 * Reads fields of one message. Every length is checked here and nowhere else; a read that
 * runs short gives a zero value and is remembered, so that a caller reads all and looks once.
 * https://www.postgresql.org/docs/current/protocol-message-types.html
 */
#ifndef WIRE_READER_H
#define WIRE_READER_H

#include "base/common.h"

struct reader {
	const uint8_t *at, *end;
	bool failed;
};

static inline struct reader reader_make(const void *bytes, size_t len)
{
	return (struct reader){(const uint8_t *)bytes, (const uint8_t *)bytes + len, false};
}

static inline size_t reader_left(const struct reader *r)
{
	return (size_t)(r->end - r->at);
}

/* Exactly all was read, and nothing ran short. */
static inline bool reader_done(const struct reader *r)
{
	return !r->failed && r->at == r->end;
}

static inline struct slice read_slice(struct reader *r, size_t len)
{
	struct slice s = {r->at, len};

	if (unlikely(len > reader_left(r))) {
		r->failed = true;
		r->at = r->end;
		return (struct slice){r->end, 0};
	}
	r->at += len;
	return s;
}

static inline struct slice read_rest(struct reader *r)
{
	return read_slice(r, reader_left(r));
}

static inline uint8_t read_u8(struct reader *r)
{
	struct slice s = read_slice(r, 1);
	return s.len ? s.bytes[0] : 0;
}

static inline uint16_t read_u16(struct reader *r)
{
	struct slice s = read_slice(r, 2);
	return s.len ? get_be16(s.bytes) : 0;
}

static inline uint32_t read_u32(struct reader *r)
{
	struct slice s = read_slice(r, 4);
	return s.len ? get_be32(s.bytes) : 0;
}

/* Up to a NUL, which is eaten; the slice is without it, but bytes[len] is 0, so it is a C string too.
 * Without a NUL: failed, and an empty one. */
static inline struct slice read_cstring(struct reader *r)
{
	const uint8_t *nul = NULL;
	struct slice s;

	if (likely(reader_left(r))) /* most names are empty */
		nul = *r->at == 0 ? r->at : (const uint8_t *)memchr(r->at, 0, reader_left(r));
	if (unlikely(!nul)) {
		r->failed = true;
		r->at = r->end;
		return SLICE_LITERAL("");
	}
	s = slice_make(r->at, (size_t)(nul - r->at));
	r->at = nul + 1;
	return s;
}

#endif
