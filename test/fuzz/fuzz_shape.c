/*
 * Shapes of texts: a shape has the tokens of its text, so it is read as its text is; and a text is no other pure read
 * than its shape.
 */
#include "sql/lexer.h"
#include "sql/scan.h"
#include "sql/shape.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Fails with or without NDEBUG. */
static void require(bool holds)
{
	if (!holds)
		abort();
}

static void check_tokens(struct slice text, struct slice shape)
{
	struct lexer one = {.text = text.bytes, .limit = (uint32_t)text.len},
		     other = {.text = shape.bytes, .limit = (uint32_t)shape.len};
	struct token t, u;

	do {
		lexer_next(&one, &t);
		lexer_next(&other, &u);
		require(t.code == u.code);
		if (t.code != TOKEN_STRING && t.code != TOKEN_NUMBER && t.code != TOKEN_END)
			require(t.end - t.begin == u.end - u.begin &&
				memcmp(text.bytes + t.begin, shape.bytes + u.begin, t.end - t.begin) == 0);
	} while (t.code != TOKEN_END);
}

static uint32_t marks_of(struct slice text)
{
	struct scan scan;
	uint32_t marks;

	require(scan_text((const char *)text.bytes, text.len, 0, /* standard_conforming_strings= */ true, &scan) == 0);
	marks = scan.marks;
	scan_free(&scan);
	return marks;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *out = malloc(size + 1);
	struct slice text = slice_make(data, size), shape;
	bool pure = shape_is_pure_read(text);
	size_t len;

	require(out != NULL);
	len = shape_fold(text, out);
	require(len <= size);
	if (len > 0) {
		shape = slice_make(out, len);
		check_tokens(text, shape);
		require(marks_of(text) == marks_of(shape));
		require(pure == shape_is_pure_read(shape));
	}
	free(out);
	return 0;
}
