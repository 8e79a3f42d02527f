/*
 * Where a text may run. The first byte: bit 0 standard_conforming_strings, bit 1 with a catalog. Whatever the bytes:
 * what is a read without a catalog is so for its shape; of several statements the highest level counts; a text that is
 * cut is no read; and a name of the catalog that writes is nowhere in a read.
 */
#include "sql/access.h"
#include "sql/lexer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Fails with or without NDEBUG. */
static void require(bool holds)
{
	if (!holds)
		abort();
}

static struct catalog *make_catalog(void)
{
	struct catalog *c = catalog_new();

	require(c != NULL);
	require(catalog_add(c, SLICE_LITERAL("function reads"), SLICE_LITERAL("r")) == 0);
	require(catalog_add(c, SLICE_LITERAL("function writes"), SLICE_LITERAL("w")) == 0);
	require(catalog_add(c, SLICE_LITERAL("name writes"), SLICE_LITERAL("v")) == 0);
	require(catalog_add(c, SLICE_LITERAL("operator writes"), SLICE_LITERAL("##")) == 0);
	return c;
}

static struct access find(const char *text, size_t len, bool conforming, const struct catalog *c)
{
	struct access a;
	struct scan scan;

	require(scan_text(text, len, 0, conforming, &scan) == 0);
	access_find(text, &scan, conforming, c, &a);
	require(a.level <= ACCESS_WRITES && a.reason < REASONS && a.after <= AFTER_CLOSED);
	require(!a.ties || a.level == ACCESS_WRITES);
	require(!scan.truncated || a.level == ACCESS_WRITES);
	require((scan.count == 0) == (a.reason == REASON_NOTHING) || scan.truncated);
	require(a.read_only != SAID_DEFAULT && a.serializable != SAID_DEFAULT);
	require(a.read_only != SAID_NO || a.level == ACCESS_WRITES);
	scan_free(&scan);
	return a;
}

/* A query: what it names is looked up wherever it stands. */
static void check_read(const char *text, size_t len, bool conforming)
{
	struct lexer l = {.text = (const uint8_t *)text, .limit = (uint32_t)len, .backslashes = !conforming};
	struct token t;

	lexer_next(&l, &t);
	if (t.code != KW_SELECT && t.code != KW_WITH && t.code != KW_TABLE && t.code != KW_VALUES && t.code != '(')
		return; /* EXPLAIN, DECLARE and COPY have names of their own */
	for (; t.code != TOKEN_END; lexer_next(&l, &t))
		require(t.code != TOKEN_WORD || t.end - t.begin != 1 || (text[t.begin] | 0x20) != 'v');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	bool conforming = size > 0 && (data[0] & 1), known = size > 0 && (data[0] & 2);
	const char *text = (const char *)data + (size > 0);
	size_t len = size - (size > 0);
	struct catalog *c = known ? make_catalog() : NULL;
	struct access whole = find(text, len, conforming, c);
	enum access_level highest = ACCESS_FOLLOWS;
	struct scan scan;

	require(scan_text(text, len, 0, conforming, &scan) == 0);
	for (uint32_t i = 0; !scan.truncated && i < scan.count && i < 8; i++) {
		const struct statement *s = &scan.statements[i];
		struct access one = find(text + s->begin, s->end - s->begin, conforming, c);

		highest = MAX(highest, one.level);
		require(one.level <= whole.level);
	}
	require(scan.truncated || scan.count > 8 || highest == whole.level);
	if (known && whole.level == ACCESS_READS && scan.count == 1)
		check_read(text + scan.first.begin, scan.first.end - scan.first.begin, conforming);
	scan_free(&scan);
	catalog_free(c);
	return 0;
}
