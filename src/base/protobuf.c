/* See protobuf.h. */
#include "base/protobuf.h"

enum { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

#define VARINT_MAX 10u

static size_t write_varint(uint8_t out[VARINT_MAX], uint64_t value)
{
	size_t len = 0;

	for (; value >= 0x80; value >>= 7)
		out[len++] = (uint8_t)(value | 0x80);
	out[len++] = (uint8_t)value;
	return len;
}

static void add_varint(struct buf *b, uint64_t value)
{
	uint8_t bytes[VARINT_MAX];

	buf_add(b, bytes, write_varint(bytes, value));
}

static void add_tag(struct buf *b, uint32_t field, uint32_t type)
{
	add_varint(b, (uint64_t)field << 3 | type);
}

static void add_little(struct buf *b, uint64_t value, size_t len)
{
	uint8_t bytes[8];

	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)(value >> 8 * i);
	buf_add(b, bytes, len);
}

void pb_varint_always(struct buf *b, uint32_t field, uint64_t value)
{
	add_tag(b, field, WIRE_VARINT);
	add_varint(b, value);
}

void pb_varint(struct buf *b, uint32_t field, uint64_t value)
{
	if (value)
		pb_varint_always(b, field, value);
}

/* Small ones are short, whatever their sign: 0, -1, 1, -2 ... */
void pb_signed(struct buf *b, uint32_t field, int64_t value)
{
	pb_varint_always(b, field, (uint64_t)value << 1 ^ (value < 0 ? UINT64_MAX : 0));
}

void pb_fixed32(struct buf *b, uint32_t field, uint32_t value)
{
	if (!value)
		return;
	add_tag(b, field, WIRE_FIXED32);
	add_little(b, value, 4);
}

void pb_fixed64(struct buf *b, uint32_t field, uint64_t value)
{
	add_tag(b, field, WIRE_FIXED64);
	add_little(b, value, 8);
}

void pb_double(struct buf *b, uint32_t field, double value)
{
	uint64_t bits;

	memcpy(&bits, &value, sizeof(bits));
	pb_fixed64(b, field, bits);
}

void pb_string_always(struct buf *b, uint32_t field, struct slice text)
{
	add_tag(b, field, WIRE_BYTES);
	add_varint(b, text.len);
	buf_add(b, text.bytes, text.len);
}

void pb_bytes(struct buf *b, uint32_t field, struct slice bytes)
{
	if (bytes.len)
		pb_string_always(b, field, bytes);
}

void pb_string(struct buf *b, uint32_t field, const char *text)
{
	pb_bytes(b, field, slice_str(text));
}

size_t pb_begin_delimited(struct buf *b)
{
	buf_add_char(b, 0); /* its length, where that is less than 128 */
	return b->len;
}

size_t pb_begin(struct buf *b, uint32_t field)
{
	add_tag(b, field, WIRE_BYTES);
	return pb_begin_delimited(b);
}

void pb_end(struct buf *b, size_t begun)
{
	uint8_t bytes[VARINT_MAX];
	size_t content = b->len - begun, len;

	if (b->failed)
		return;
	len = write_varint(bytes, content);
	if (len > 1) {
		if (!buf_reserve(b, len - 1))
			return;
		memmove(b->bytes + begun + len - 1, b->bytes + begun, content);
		b->len += len - 1;
	}
	memcpy(b->bytes + begun - 1, bytes, len);
}

/* ---- reading ---- */

static uint64_t read_varint(struct pb_reader *r)
{
	uint64_t value = 0;

	for (unsigned shift = 0; shift < 64; shift += 7) {
		if (r->at == r->end)
			break;
		value |= (uint64_t)(*r->at & 0x7f) << shift;
		if (!(*r->at++ & 0x80))
			return value;
	}
	r->failed = true;
	return 0;
}

static uint64_t read_little(struct pb_reader *r, size_t len)
{
	uint64_t value = 0;

	if ((size_t)(r->end - r->at) < len) {
		r->failed = true;
		return 0;
	}
	for (size_t i = 0; i < len; i++)
		value |= (uint64_t)r->at[i] << 8 * i;
	r->at += len;
	return value;
}

static struct slice read_bytes(struct pb_reader *r)
{
	uint64_t len = read_varint(r);
	struct slice bytes = {r->at, (size_t)len};

	if (r->failed || len > (uint64_t)(r->end - r->at)) {
		r->failed = true;
		return (struct slice){0};
	}
	r->at += len;
	return bytes;
}

bool pb_next(struct pb_reader *r, struct pb_field *ret)
{
	uint64_t tag;

	*ret = (struct pb_field){0};
	if (r->failed || r->at == r->end)
		return false;
	tag = read_varint(r);
	if (tag >> 3 == 0 || tag >> 3 > UINT32_MAX)
		r->failed = true;
	ret->number = (uint32_t)(tag >> 3);
	switch (tag & 7) {
	case WIRE_VARINT:
		ret->value = read_varint(r);
		break;
	case WIRE_FIXED64:
		ret->value = read_little(r, 8);
		break;
	case WIRE_FIXED32:
		ret->value = read_little(r, 4);
		break;
	case WIRE_BYTES:
		ret->bytes = read_bytes(r);
		break;
	default: /* groups are of another age */
		r->failed = true;
	}
	return !r->failed;
}
