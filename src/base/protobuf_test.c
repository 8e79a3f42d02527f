/* What is written, read back: values at the edges of their encodings, messages in messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/protobuf.h"

static struct pb_reader read_again(const struct buf *b)
{
	return pb_reader_make(b->bytes, b->len);
}

static struct pb_field next(struct pb_reader *r, uint32_t number)
{
	struct pb_field f;

	assert_true(pb_next(r, &f));
	assert_int_equal(f.number, number);
	return f;
}

static void assert_over(struct pb_reader *r)
{
	struct pb_field f;

	assert_false(pb_next(r, &f));
	assert_false(r->failed);
}

static void fields(void **state)
{
	static const uint64_t values[] = {1, 127, 128, 16383, 16384, UINT32_MAX, 1ull << 63, UINT64_MAX};
	struct buf b = BUF_INIT(1 << 20);
	struct pb_reader r;
	double number = -1.5;
	uint64_t bits;

	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		pb_varint(&b, 1, values[i]);
		pb_fixed64(&b, (1u << 29) - 1, values[i]);
	}
	pb_fixed32(&b, 15, 0x01020304);
	pb_double(&b, 16, number);
	pb_bytes(&b, 17, slice_make("\0x", 2));
	pb_string_always(&b, 18, slice_str(""));
	pb_varint_always(&b, 19, 0);
	r = read_again(&b);
	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		assert_true(next(&r, 1).value == values[i]);
		assert_true(next(&r, (1u << 29) - 1).value == values[i]);
	}
	assert_int_equal(next(&r, 15).value, 0x01020304);
	memcpy(&bits, &number, sizeof(bits));
	assert_true(next(&r, 16).value == bits);
	assert_true(slice_equal(next(&r, 17).bytes, slice_make("\0x", 2)));
	assert_int_equal(next(&r, 18).bytes.len, 0);
	assert_int_equal(next(&r, 19).value, 0);
	assert_over(&r);
	buf_free(&b);
}

static void what_is_empty_is_left_out(void **state)
{
	struct buf b = BUF_INIT(16);

	pb_varint(&b, 1, 0);
	pb_fixed32(&b, 2, 0);
	pb_string(&b, 3, "");
	pb_bytes(&b, 4, (struct slice){0});
	assert_int_equal(b.len, 0);
	buf_free(&b);
}

/* https://protobuf.dev/programming-guides/encoding/#signed-ints */
static void signed_numbers(void **state)
{
	static const struct {
		int64_t value;
		uint64_t written;
	} cases[] = {{0, 0},
		     {-1, 1},
		     {1, 2},
		     {-2, 3},
		     {INT32_MAX, 0xfffffffe},
		     {INT32_MIN, 0xffffffff},
		     {INT64_MAX, UINT64_MAX - 1},
		     {INT64_MIN, UINT64_MAX}};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct buf b = BUF_INIT(64);
		struct pb_reader r;

		pb_signed(&b, 1, cases[i].value);
		r = read_again(&b);
		assert_true(next(&r, 1).value == cases[i].written);
		buf_free(&b);
	}
}

/* Their lengths are written when they are known: those of one, two and three bytes, in each other. */
static void messages(void **state)
{
	static const size_t sizes[] = {0, 1, 120, 123, 124, 125, 126, 127, 128, 129, 16378, 16380, 16384, 70000};
	static char text[70000];
	struct buf b = BUF_INIT(1 << 20);
	struct pb_reader r, inside;

	memset(text, 'x', sizeof(text));
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		size_t outer = pb_begin(&b, 700), inner = pb_begin(&b, 1);

		pb_bytes(&b, 1, slice_make(text, sizes[i]));
		pb_end(&b, inner);
		inner = pb_begin(&b, 2);
		pb_end(&b, inner);
		pb_end(&b, outer);
	}
	r = read_again(&b);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct slice outer = next(&r, 700).bytes, inner;

		inside = pb_reader_make(outer.bytes, outer.len);
		inner = next(&inside, 1).bytes;
		assert_int_equal(next(&inside, 2).bytes.len, 0);
		assert_over(&inside);
		inside = pb_reader_make(inner.bytes, inner.len);
		if (sizes[i])
			assert_true(slice_equal(next(&inside, 1).bytes, slice_make(text, sizes[i])));
		assert_over(&inside);
	}
	assert_over(&r);
	buf_free(&b);
}

/* A stream of messages is as a message in a field is, without the field. */
static void delimited(void **state)
{
	for (size_t len = 0; len < 300; len++) {
		struct buf b = BUF_INIT(1 << 12), same = BUF_INIT(1 << 12);
		size_t one = pb_begin_delimited(&b), two = pb_begin(&same, 1);

		for (size_t i = 0; i < len; i++) {
			pb_varint_always(&b, 1, i);
			pb_varint_always(&same, 1, i);
		}
		pb_end(&b, one);
		pb_end(&same, two);
		assert_true(slice_equal(slice_make(b.bytes, b.len), slice_make(same.bytes + 1, same.len - 1)));
		buf_free(&b);
		buf_free(&same);
	}
}

static void no_room(void **state)
{
	for (size_t max = 0; max < 200; max++) {
		struct buf b = BUF_INIT(max);
		size_t begun = pb_begin(&b, 1);

		for (int i = 0; i < 50; i++)
			pb_string(&b, 1, "much");
		pb_end(&b, begun);
		assert_true(b.failed && b.len <= max);
		buf_free(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fields),         cmocka_unit_test(what_is_empty_is_left_out),
		cmocka_unit_test(signed_numbers), cmocka_unit_test(messages),
		cmocka_unit_test(delimited),      cmocka_unit_test(no_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
