/* See frame.h. */
#include "wire/frame.h"

bool frames_take(const uint8_t *bytes, size_t len, uint32_t body_max, bool (*take)(void *to, const struct frame *f),
		 void *to, size_t *ret_done)
{
	size_t at = 0;

	while (at < len) {
		struct frame f = {0};
		enum frame_result r = frame_read(bytes + at, len - at, &f);

		if (r == FRAME_BAD || (r != FRAME_SHORT && f.body_len > body_max))
			return false;
		if (r != FRAME_WHOLE)
			break;
		at += frame_size(&f);
		if (!take(to, &f))
			break;
	}
	*ret_done = at;
	return true;
}
