/*
 * Frames of protocol 3: a type byte, a length that counts itself, a body.
 * https://www.postgresql.org/docs/current/protocol-overview.html
 */
#ifndef WIRE_FRAME_H
#define WIRE_FRAME_H

#include "base/common.h"

#define FRAME_HEADER 5u
/* No message is longer than PostgreSQL itself accepts (PQ_LARGE_MESSAGE_LIMIT, 1 GiB - 1). */
#define FRAME_BODY_MAX 0x3fffffffu

struct frame {
	uint8_t type;
	uint32_t body_len;
	const uint8_t *body; /* body_len bytes, when the frame is whole */
};

enum frame_result {
	FRAME_WHOLE, /* header and body are there */
	FRAME_HEAD,  /* the header is there and sane, the body is not yet whole */
	FRAME_SHORT, /* not even a header */
	FRAME_BAD,   /* a length that cannot be */
};

static inline enum frame_result frame_read(const uint8_t *bytes, size_t len, struct frame *ret)
{
	uint32_t total;

	if (unlikely(len < FRAME_HEADER))
		return FRAME_SHORT;
	ret->type = bytes[0];
	total = get_be32(bytes + 1);
	if (unlikely(total < 4 || total - 4 > FRAME_BODY_MAX))
		return FRAME_BAD;
	ret->body_len = total - 4;
	ret->body = bytes + FRAME_HEADER;
	return len - FRAME_HEADER >= ret->body_len ? FRAME_WHOLE : FRAME_HEAD;
}

/* Bytes of the whole frame. */
static inline size_t frame_size(const struct frame *f)
{
	return (size_t)FRAME_HEADER + f->body_len;
}

/*
 * For those who look at whole messages, off a query's way: takes one after the other of those that are there, until
 * take() has had enough (false; what it worked for may be gone then). ret_done: their bytes. false: one is longer than
 * body_max, or cannot be; those before it were taken.
 */
bool frames_take(const uint8_t *bytes, size_t len, uint32_t body_max, bool (*take)(void *to, const struct frame *f),
		 void *to, size_t *ret_done) MUST_USE;

#endif
