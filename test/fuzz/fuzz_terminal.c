/* What is printed on a terminal, and what comes from it: a clean text stays as it is, controls nothing, and fits its
 * column. */
#include "client/terminal.h"
#include "client/text.h"

#include <locale.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Fails with or without NDEBUG. */
static void require(bool holds)
{
	if (!holds)
		abort();
}

static void look_at(const uint8_t *data, size_t size, bool unicode)
{
	struct buf clean = BUF_INIT(4u << 20), again = BUF_INIT(4u << 20), column = BUF_INIT(4u << 20);
	size_t width = size ? data[0] % 40 : 0;

	buf_add_clean(&clean, (const char *)data, size, unicode);
	require(!clean.failed && (!clean.len || !memchr(clean.bytes, 0, clean.len)));
	for (size_t i = 0; i < clean.len; i++) {
		require(clean.bytes[i] >= 0x20 && clean.bytes[i] != 0x7f);
		require(unicode || clean.bytes[i] < 0x80);
		require(i == 0 || clean.bytes[i - 1] != 0xc2 || clean.bytes[i] >= 0xa0); /* C1 */
	}
	buf_add_clean(&again, (const char *)clean.bytes, clean.len, unicode);
	require(again.len == clean.len && (!clean.len || memcmp(again.bytes, clean.bytes, clean.len) == 0));
	buf_add_column(&column, buf_cstr(&clean), width, size & 1);
	require(text_width(buf_cstr(&column)) == width);
	buf_free(&clean);
	buf_free(&again);
	buf_free(&column);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *at = (const char *)data, *end = at + size;
	static bool has_locale;

	if (!has_locale)
		has_locale = setlocale(LC_CTYPE, "C.UTF-8") != NULL;
	look_at(data, size, true);
	look_at(data, size, false);
	while (at < end) {
		const char *before = at;

		(void)key_next(&at, end);
		require(at > before && at <= end);
	}
	return 0;
}
