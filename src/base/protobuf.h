/*
 * Protocol buffers' wire format, as much of it as OTLP and Prometheus need: a writer behind a struct buf (which
 * remembers failure) and a reader that trusts nothing. https://protobuf.dev/programming-guides/encoding/
 */
#ifndef BASE_PROTOBUF_H
#define BASE_PROTOBUF_H

#include "base/buf.h"

/* proto3: what is zero or empty is left out. */
void pb_varint(struct buf *b, uint32_t field, uint64_t value);
void pb_fixed32(struct buf *b, uint32_t field, uint32_t value);
void pb_bytes(struct buf *b, uint32_t field, struct slice bytes);
void pb_string(struct buf *b, uint32_t field, const char *text);
/* Written whatever they are: for members of a oneof, and for those that may be zero and must be there. */
void pb_fixed64(struct buf *b, uint32_t field, uint64_t value);
void pb_double(struct buf *b, uint32_t field, double value);
void pb_string_always(struct buf *b, uint32_t field, struct slice text);
void pb_varint_always(struct buf *b, uint32_t field, uint64_t value);
void pb_signed(struct buf *b, uint32_t field, int64_t value); /* sint32, sint64 */

/* A message within the message: what is written in between is its content. */
size_t pb_begin(struct buf *b, uint32_t field);
/* A message in a stream of them, each behind its length. */
size_t pb_begin_delimited(struct buf *b);
void pb_end(struct buf *b, size_t begun);

struct pb_reader {
	const uint8_t *at, *end;
	bool failed; /* what was read so far may be taken, or not */
};

struct pb_field {
	uint32_t number;
	uint64_t value;     /* of a varint, or of fixed width */
	struct slice bytes; /* of what has a length */
};

static inline struct pb_reader pb_reader_make(const void *bytes, size_t len)
{
	return (struct pb_reader){.at = bytes,
				  .end = len ? (const uint8_t *)bytes + len : bytes}; /* bytes may be NULL */
}
/* False: there is none left, or the rest is not of this format (failed). */
bool pb_next(struct pb_reader *r, struct pb_field *ret);

#endif
