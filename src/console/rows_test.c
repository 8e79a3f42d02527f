/* The bytes of a result. */
#include "console/rows.h"

#include "wire/test.h"

static const struct column columns[] = {{"a", 's'}, {"b", 'i'}, {"c", 'q'}, {"d", 'N'}};

/* The value of the last column of the first row. */
static struct slice last_value(const struct rows *rows, uint32_t column)
{
	const uint8_t *at = rows->out.bytes + 7;

	for (uint32_t i = 0;; i++) {
		uint32_t len = get_be32(at);

		if (i == column)
			return slice_make(at + 4, len);
		at += 4 + (len == UINT32_MAX ? 0 : len);
	}
}

static void fill(struct rows *rows, uint32_t binary, uint64_t number)
{
	rows_init(rows, columns, ARRAY_SIZE(columns), binary);
	row_begin(rows);
	row_text(rows, "x");
	row_number(rows, number);
	row_number(rows, number);
	row_number(rows, number);
	row_end(rows);
	assert_false(rows->out.failed);
	assert_int_equal(get_be32(rows->out.bytes + 1), rows->out.len - 1);
}

static void test_numbers_as_text(void **state)
{
	struct rows rows;

	(void)state;
	fill(&rows, 0, 4294967296);
	assert_true(slice_equal(last_value(&rows, 0), SLICE_LITERAL("x")));
	assert_true(slice_equal(last_value(&rows, 1), SLICE_LITERAL("2147483647"))); /* no more fits */
	assert_true(slice_equal(last_value(&rows, 2), SLICE_LITERAL("4294967296")));
	assert_true(slice_equal(last_value(&rows, 3), SLICE_LITERAL("4294967296")));
	buf_free(&rows.out);
}

/* As numeric_send() writes them: digits, weight, sign, scale, then digits to the base of 10000. */
static void test_numbers_in_binary(void **state)
{
	static const struct {
		uint64_t number;
		struct slice numeric;
	} cases[] = {
		{0, {(const uint8_t *)"\0\0\0\0\0\0\0\0", 8}},
		{7, {(const uint8_t *)"\0\1\0\0\0\0\0\0\0\7", 10}},
		{10000, {(const uint8_t *)"\0\1\0\1\0\0\0\0\0\1", 10}},
		{20003, {(const uint8_t *)"\0\2\0\1\0\0\0\0\0\2\0\3", 12}},
	};
	struct rows rows;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		fill(&rows, UINT32_MAX, cases[i].number);
		assert_int_equal(last_value(&rows, 1).len, 4);
		assert_int_equal(get_be32(last_value(&rows, 1).bytes), cases[i].number);
		assert_int_equal(last_value(&rows, 2).len, 8);
		assert_int_equal(get_be32(last_value(&rows, 2).bytes + 4), cases[i].number);
		assert_true(slice_equal(last_value(&rows, 3), cases[i].numeric));
		buf_free(&rows.out);
	}
}

static void test_nulls(void **state)
{
	struct rows rows;

	(void)state;
	rows_init(&rows, columns, 2, 0);
	row_begin(&rows);
	row_text(&rows, NULL);
	row_null(&rows);
	row_end(&rows);
	assert_int_equal(rows.out.len, 5 + 2 + 4 + 4);
	buf_free(&rows.out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_numbers_as_text),
		cmocka_unit_test(test_numbers_in_binary),
		cmocka_unit_test(test_nulls),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
