/*
 * Hints: whatever the bytes, what is returned lies within the text and is in order; stripped of its hints, a text has
 * none but those with more than ASCII, and its tokens are what and where they were; nothing behind the first word
 * counts.
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

/* As it is to be sent: as long as it was, and blank where it has changed. */
static void strip(const struct hints *h, const uint8_t *data, size_t size, uint8_t *out)
{
	size_t end = hints_blank_end(h, slice_make(data, size)), from = 0, changed = 0;

	for (uint32_t i = 0; i < h->comment_count; i++) {
		const struct hint_comment *c = &h->comments[i];

		require(from <= c->begin && c->begin + 2 <= c->end && c->end <= size);
		require(memcmp(data + c->begin, "/*", 2) == 0 || memcmp(data + c->begin, "--", 2) == 0);
		from = c->end;
	}
	memcpy(out, data, size);
	hints_blank(h, out);
	for (size_t i = 0; i < size; i++) {
		require(out[i] == data[i] || (out[i] == ' ' && data[i] < 0x80 && data[i] != '\n'));
		if (out[i] != data[i])
			changed = i + 1;
	}
	require(changed <= end && (end == 0) == (changed == 0));
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
		require(t.code == u.code && t.begin == u.begin && t.end == u.end);
	} while (t.code != TOKEN_END);
}

static bool has_more_than_ascii(const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (bytes[i] >= 0x80)
			return true;
	return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *out = malloc(size + 1);
	struct hints h, again;

	require(out != NULL);
	hints_read(slice_make(data, size), &h);
	require(h.comment_count <= HINT_COMMENTS_MAX && (h.said == 0 || h.comment_count > 0));
	check_slice(h.node, data, size);
	check_slice(h.branch, data, size);
	check_slice(h.tool, data, size);
	check_slice(h.workflow, data, size);
	check_slice(h.cache_tables, data, size);
	check_problems(&h, data, size);
	require(h.comment_count == 0 || hints_may_begin(data[0]));
	strip(&h, data, size, out);
	check_tokens(data, size, out, size);
	if (size < HINT_BYTES_MAX && h.comment_count < HINT_COMMENTS_MAX) {
		hints_read(slice_make(out, size), &again);
		for (uint32_t i = 0; i < again.comment_count; i++)
			require(has_more_than_ascii(out + again.comments[i].begin,
						    again.comments[i].end - again.comments[i].begin));
	}
	free(out);
	return 0;
}
