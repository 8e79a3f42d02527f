/* See gzip.h. */
#include "services/gzip.h"

#include <zlib.h>

#define WINDOW_BITS (15 + 16) /* + 16: gzip's frame rather than zlib's */
#define MEMORY      8

int gzip_pack(struct slice bytes, struct buf *to)
{
	z_stream z = {0};
	uint8_t *room;
	size_t size;
	int r;

	if (bytes.len > UINT32_MAX / 2 ||
	    deflateInit2(&z, Z_BEST_SPEED, Z_DEFLATED, WINDOW_BITS, MEMORY, Z_DEFAULT_STRATEGY) != Z_OK)
		return -ENOMEM;
	size = deflateBound(&z, (uLong)bytes.len);
	room = buf_reserve(to, size);
	if (!room) {
		deflateEnd(&z);
		return -ENOMEM;
	}
	z.next_in = (Bytef *)(uintptr_t)bytes.bytes;
	z.avail_in = (uInt)bytes.len;
	z.next_out = room;
	z.avail_out = (uInt)size;
	r = deflate(&z, Z_FINISH);
	deflateEnd(&z);
	if (r != Z_STREAM_END)
		return -ENOMEM;
	to->len += size - z.avail_out;
	return 0;
}
