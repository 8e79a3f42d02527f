/* See utf8.h. */
#include "base/utf8.h"

/* Length of the UTF-8 character at s (RFC 3629: no overlong forms, no surrogates), or 0. The NUL ends it in time. */
static size_t utf8_len(const uint8_t *s)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t n;
	uint32_t c;

	if (s[0] < 0x80)
		return 1;
	n = s[0] >= 0xc2 && s[0] < 0xe0 ? 2 : (s[0] & 0xf0) == 0xe0 ? 3 : s[0] >= 0xf0 && s[0] < 0xf5 ? 4 : 0;
	if (n == 0)
		return 0;
	c = s[0] & (0x7fu >> n);
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	return c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000) ? 0 : n;
}

size_t buf_add_character(struct buf *b, const char *s)
{
	size_t len = utf8_len((const uint8_t *)s);

	if (len == 0) {
		buf_add_str(b, "\xef\xbf\xbd");
		return 1;
	}
	buf_add(b, s, len);
	return len;
}

void buf_add_utf8(struct buf *b, const char *s)
{
	while (*s)
		s += buf_add_character(b, s);
}
