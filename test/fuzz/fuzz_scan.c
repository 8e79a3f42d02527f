/*
 * The scanner: whatever the bytes, what it returns lies within the text and is in order. The first byte of the input
 * says how to scan: bit 0 standard_conforming_strings, bit 1 with a limit of half the text.
 */
#include "sql/scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Fails with or without NDEBUG. */
static void require(bool holds)
{
	if (!holds)
		abort();
}

/* In the text between begin and end, or one of the constants that scan.h allows. */
static void check_slice(struct slice s, const char *text, uint32_t begin, uint32_t end)
{
	static const char *const constants[] = {
		"timezone",  "session_authorization",   "client_encoding",       "search_path",
		"xmloption", "session characteristics", "transaction_isolation", "DEFAULT",
	};
	uintptr_t from = (uintptr_t)s.bytes, base = (uintptr_t)text;

	if (s.len == 0 || (from >= base + begin && from + s.len <= base + end))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(constants); i++)
		if (slice_equal(s, slice_str(constants[i])))
			return;
	abort();
}

static void check_identifier(struct slice name)
{
	char out[64];
	size_t len = scan_identifier(name, out, sizeof(out));

	require(len < sizeof(out) && out[len] == '\0');
}

static void check_statement(const struct statement *s, const char *text, uint32_t after, uint32_t limit)
{
	require(after <= s->begin && s->begin < s->end && s->end <= limit);
	require(s->class > STATEMENT_EMPTY && s->class <= STATEMENT_UNKNOWN && s->verb <= VERB_LOAD);
	require(!strchr(" \t\n\v\f\r", text[s->begin]) || text[s->begin] == '\0');
	check_slice(s->name, text, s->begin, s->end);
	check_slice(s->value, text, s->begin, s->end);
	check_identifier(s->name);
}

/* A statement alone is what it was among others. Not the last one, which the end of the text may have changed. */
static void check_alone(const struct statement *s, const char *text, bool conforming)
{
	struct scan alone;

	require(scan_text(text + s->begin, s->end - s->begin, 0, conforming, &alone) == 0);
	require(alone.count == 1 && alone.marks == s->marks && !alone.truncated);
	require(alone.first.class == s->class && alone.first.verb == s->verb);
	require(slice_equal(alone.first.name, s->name) && slice_equal(alone.first.value, s->value));
	scan_free(&alone);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	bool conforming = size > 0 && (data[0] & 1), cut = size > 0 && (data[0] & 2);
	const char *text = (const char *)data + (size > 0);
	size_t len = size - (size > 0), max = cut ? len / 2 : 0, limit = max > 0 ? max : len;
	uint32_t after = 0, marks = 0;
	struct scan scan;

	require(scan_text(text, len, max, conforming, &scan) == 0);
	require(scan.count != 1 || scan.statements == &scan.first);
	require(scan.truncated || limit == len);
	for (uint32_t i = 0; i < MIN(scan.count, SCAN_STATEMENTS_MAX); i++) {
		check_statement(&scan.statements[i], text, after, (uint32_t)limit);
		if (i + 1 < scan.count)
			check_alone(&scan.statements[i], text, conforming);
		after = scan.statements[i].end;
		marks |= scan.statements[i].marks;
	}
	require(scan.count > SCAN_STATEMENTS_MAX || marks == scan.marks);
	check_identifier(slice_make(text, len));
	scan_free(&scan);
	return 0;
}
