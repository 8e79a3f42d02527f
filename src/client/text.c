/* See text.h. */
#include "client/text.h"

#include <wchar.h>

#define REPLACEMENT 0xfffdu

/* ---- UTF-8 ---- */

static const struct lead {
	uint8_t from, to, more;
	uint8_t second_from, second_to; /* rules out what is longer than needed, surrogates, and more than U+10FFFF */
} leads[] = {
	{0xc2, 0xdf, 1, 0x80, 0xbf}, {0xe0, 0xe0, 2, 0xa0, 0xbf}, {0xe1, 0xec, 2, 0x80, 0xbf},
	{0xed, 0xed, 2, 0x80, 0x9f}, {0xee, 0xef, 2, 0x80, 0xbf}, {0xf0, 0xf0, 3, 0x90, 0xbf},
	{0xf1, 0xf3, 3, 0x80, 0xbf}, {0xf4, 0xf4, 3, 0x80, 0x8f},
};

static const struct lead *lead_of(uint8_t c)
{
	for (size_t i = 0; i < ARRAY_SIZE(leads); i++)
		if (c >= leads[i].from && c <= leads[i].to)
			return &leads[i];
	return NULL;
}

uint32_t utf8_next(const char **at, const char *end)
{
	const uint8_t *s = (const uint8_t *)*at;
	const struct lead *lead;
	uint32_t c;

	if (*at >= end)
		return 0;
	*at += 1;
	if (s[0] < 0x80)
		return s[0] ? s[0] : REPLACEMENT;
	lead = lead_of(s[0]);
	if (!lead || end - (const char *)s <= lead->more || s[1] < lead->second_from || s[1] > lead->second_to)
		return REPLACEMENT;
	c = s[0] & (0x3fu >> lead->more);
	for (uint8_t i = 1; i <= lead->more; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return REPLACEMENT;
		c = c << 6 | (s[i] & 0x3f);
	}
	*at += lead->more;
	return c;
}

static void add_utf8(struct buf *b, uint32_t c)
{
	if (c < 0x80) {
		buf_add_char(b, (char)c);
	} else if (c < 0x800) {
		buf_add_char(b, (char)(0xc0 | c >> 6));
		buf_add_char(b, (char)(0x80 | (c & 0x3f)));
	} else if (c < 0x10000) {
		buf_add_char(b, (char)(0xe0 | c >> 12));
		buf_add_char(b, (char)(0x80 | (c >> 6 & 0x3f)));
		buf_add_char(b, (char)(0x80 | (c & 0x3f)));
	} else {
		buf_add_char(b, (char)(0xf0 | c >> 18));
		buf_add_char(b, (char)(0x80 | (c >> 12 & 0x3f)));
		buf_add_char(b, (char)(0x80 | (c >> 6 & 0x3f)));
		buf_add_char(b, (char)(0x80 | (c & 0x3f)));
	}
}

/* ---- what may be printed ---- */

/* Marks that say nothing themselves but turn, join or hide what stands beside them. */
static bool is_invisible(uint32_t c)
{
	return (c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) || (c >= 0x2060 && c <= 0x206f) ||
	       c == 0x061c || c == 0x00ad || c == 0x180e || c == 0xfeff || (c >= 0xfff0 && c <= 0xfffb) ||
	       (c >= 0xe0000 && c <= 0xe0fff);
}

int char_width(uint32_t c)
{
	if (c < 0x20 || (c >= 0x7f && c < 0xa0) || is_invisible(c))
		return -1;
	if (c < 0x7f)
		return 1;
	return wcwidth((wchar_t)c);
}

void buf_add_clean(struct buf *b, const char *text, size_t len, bool unicode)
{
	const char *at = text, *end = len ? text + len : text; /* text may be NULL then */

	while (at < end) {
		uint32_t c = utf8_next(&at, end);

		if (c == '\n' || c == '\t' || c == '\r')
			buf_add_char(b, ' ');
		else if (c < 0x80 ? char_width(c) < 0 : !unicode || char_width(c) <= 0)
			buf_add_char(b, '?');
		else
			add_utf8(b, c);
	}
}

size_t text_width(const char *text)
{
	const char *at = text, *end = text + strlen(text);
	size_t width = 0;

	while (at < end) {
		int w = char_width(utf8_next(&at, end));

		width += w > 0 ? (size_t)w : 0;
	}
	return width;
}

void buf_add_column(struct buf *b, const char *text, size_t width, bool to_the_right)
{
	const char *at = text, *end = text + strlen(text);
	size_t whole = text_width(text), used = 0, before = to_the_right && whole < width ? width - whole : 0;

	for (size_t i = 0; i < before; i++)
		buf_add_char(b, ' ');
	while (at < end && width > 0) {
		const char *next = at;
		int w = char_width(utf8_next(&next, end));
		size_t columns = w > 0 ? (size_t)w : 0;

		/* the last column is the mark's */
		if (used + columns > (whole > width ? width - 1 : width))
			break;
		buf_add(b, at, (size_t)(next - at));
		used += columns;
		at = next;
	}
	if (at < end && width > used) {
		buf_add_char(b, '~');
		used++;
	}
	for (; before + used < width; used++) /* also where a wide character had no room */
		buf_add_char(b, ' ');
}
