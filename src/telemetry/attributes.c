/* See attributes.h. */
#include "telemetry/attributes.h"

#include "base/protobuf.h"

/* Of a character of UTF-8 that begins here; 0: none does. */
static size_t character_len(const uint8_t *at, size_t left)
{
	size_t len = at[0] < 0x80                    ? 1
		     : at[0] >= 0xc2 && at[0] < 0xe0 ? 2
		     : at[0] >= 0xe0 && at[0] < 0xf0 ? 3
		     : at[0] >= 0xf0 && at[0] < 0xf5 ? 4
						     : 0;

	if (len == 0 || len > left)
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((at[i] & 0xc0) != 0x80)
			return 0;
	if ((at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xed && at[1] > 0x9f) || (at[0] == 0xf0 && at[1] < 0x90) ||
	    (at[0] == 0xf4 && at[1] > 0x8f))
		return 0;
	return len;
}

/* A collector refuses a whole request for a string that isn't UTF-8. */
static void add_text(struct buf *b, uint32_t field, struct slice text)
{
	size_t begun = pb_begin(b, field);

	for (size_t at = 0; at < text.len;) {
		size_t good = 0, len;

		while (at + good < text.len && (len = character_len(text.bytes + at + good, text.len - at - good)) > 0)
			good += len;
		buf_add(b, text.bytes + at, good);
		at += good;
		if (at < text.len) {
			buf_add_char(b, '?');
			at++;
		}
	}
	pb_end(b, begun);
}

static void add_long(struct buf *b, uint32_t field, struct slice key, struct slice value)
{
	size_t attribute = pb_begin(b, field), any;

	add_text(b, 1, key);
	any = pb_begin(b, 2);
	add_text(b, 1, value);
	pb_end(b, any);
	pb_end(b, attribute);
}

static bool is_ascii(struct slice text)
{
	uint8_t all = 0;

	for (size_t i = 0; i < text.len; i++)
		all |= text.bytes[i];
	return all < 0x80;
}

/* As nearly all are: each length, and the field's tag, is one byte. */
static void add_short(struct buf *b, uint32_t field, struct slice key, struct slice value)
{
	uint8_t *to = buf_reserve(b, key.len + value.len + 8);

	if (!to)
		return;
	*to++ = (uint8_t)(field << 3 | 2);
	*to++ = (uint8_t)(key.len + value.len + 6);
	*to++ = 1 << 3 | 2;
	*to++ = (uint8_t)key.len;
	memcpy(to, key.bytes, key.len);
	to += key.len;
	*to++ = 2 << 3 | 2;
	*to++ = (uint8_t)(value.len + 2);
	*to++ = 1 << 3 | 2;
	*to++ = (uint8_t)value.len;
	memcpy(to, value.bytes, value.len);
	b->len += key.len + value.len + 8;
}

void otlp_string(struct buf *b, uint32_t field, const char *key, struct slice value)
{
	struct slice name = slice_str(key);

	if (likely(field < 16 && name.len + value.len < 120 && value.len > 0 && is_ascii(name) && is_ascii(value))) {
		add_short(b, field, name, value);
		return;
	}
	add_long(b, field, name, value);
}

void otlp_integer(struct buf *b, uint32_t field, const char *key, int64_t value)
{
	size_t attribute = pb_begin(b, field), any;

	pb_string(b, 1, key);
	any = pb_begin(b, 2);
	pb_varint_always(b, 3, (uint64_t)value);
	pb_end(b, any);
	pb_end(b, attribute);
}
