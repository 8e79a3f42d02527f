/* For tests that read back what they wrote. Behind cmocka.h. */
#ifndef BASE_PROTOBUF_TEST_H
#define BASE_PROTOBUF_TEST_H

#include "base/protobuf.h"

/* The field with this number that comes at this place among them; fails when there is none. */
static inline struct pb_field pb_find_nth(struct slice message, uint32_t number, uint32_t nth)
{
	struct pb_reader r = pb_reader_make(message.bytes, message.len);
	struct pb_field f;

	while (pb_next(&r, &f))
		if (f.number == number && nth-- == 0)
			return f;
	fail_msg("no field %u", number);
	return f;
}

#endif
