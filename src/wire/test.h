/*
 * What the unit tests of this folder share. cmocka wants its headers in this order.
 */
#ifndef WIRE_TEST_H
#define WIRE_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"

/* The content is exactly these bytes (a string literal). */
#define assert_buf_is(b, literal) \
	do { \
		assert_false((b)->failed); \
		assert_int_equal((b)->len, sizeof(literal) - 1); \
		assert_memory_equal((b)->bytes, literal, sizeof(literal) - 1); \
	} while (0)

#define assert_slice_is(s, text) \
	do { \
		struct slice slice_is = (s); \
		assert_int_equal(slice_is.len, strlen(text)); \
		assert_memory_equal(slice_is.bytes, text, strlen(text)); \
	} while (0)

#endif
