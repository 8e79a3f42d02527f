/*
 * Hints: whatever the bytes, what is returned lies within the text and is in order; stripped of its hints, a text has
 * none; and nothing behind the first word counts.
 */
#include "sql/hints.h"
#include "sql/lexer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Fails with or without NDEBUG. */
static void require(bool holds)
{
	if (!holds)
		abort();
}

static void check_slice(struct slice s, const uint8_t *data, size_t size)
{
	uintptr_t from = (uintptr_t)s.bytes, base = (uintptr_t)data;
	char out[HINT_TEXT_MAX + 1];

	require(s.len == 0 || (from >= base && from + s.len <= base + MIN(size, (size_t)HINT_BYTES_MAX)));
	require(hint_text(s, out) <= HINT_TEXT_MAX);
}

static void check_problems(const struct hints *h, const uint8_t *data, size_t size)
{
	char text[512];

	for (uint32_t i = 0; i < MIN(h->problem_count, HINT_PROBLEMS_MAX); i++) {
		check_slice(h->problems[i].key, data, size);
		check_slice(h->problems[i].value, data, size);
		hint_problem_text(&h->problems[i], text, sizeof(text));
		require(strlen(text) > 0);
	}
}

static size_t strip(const struct hints *h, const uint8_t *data, size_t size, uint8_t *out)
{
	size_t from = 0, len = 0;

	for (uint32_t i = 0; i < h->comment_count; i++) {
		const struct hint_comment *c = &h->comments[i];

		require(from <= c->begin && c->begin + 2 <= c->end && c->end <= size);
		require(memcmp(data + c->begin, "/*", 2) == 0 || memcmp(data + c->begin, "--", 2) == 0);
		memcpy(out + len, data + from, c->begin - from);
		len += c->begin - from;
		from = c->end;
	}
	memcpy(out + len, data + from, size - from);
	return len + size - from;
}

/* The tokens are the server's: hints are no part of any. */
static void check_tokens(const uint8_t *data, size_t size, const uint8_t *other, size_t other_size)
{
	struct lexer one = {.text = data, .limit = (uint32_t)size},
		     two = {.text = other, .limit = (uint32_t)other_size};
	struct token t, u;

	do {
		lexer_next(&one, &t);
		lexer_next(&two, &u);
		require(t.code == u.code && t.end - t.begin == u.end - u.begin);
	} while (t.code != TOKEN_END);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *out = malloc(size + 1);
	struct hints h, again;
	size_t len;

	require(out != NULL);
	hints_read(slice_make(data, size), &h);
	require(h.comment_count <= HINT_COMMENTS_MAX && (h.said == 0 || h.comment_count > 0));
	check_slice(h.node, data, size);
	check_slice(h.branch, data, size);
	check_slice(h.tool, data, size);
	check_slice(h.workflow, data, size);
	check_slice(h.cache_tables, data, size);
	check_problems(&h, data, size);
	len = strip(&h, data, size, out);
	check_tokens(data, size, out, len);
	if (size < HINT_BYTES_MAX && h.comment_count < HINT_COMMENTS_MAX) {
		hints_read(slice_make(out, len), &again);
		require(again.said == 0 && again.comment_count == 0);
	}
	free(out);
	return 0;
}
