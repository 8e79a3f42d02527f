/*
 * Identifiers as PostgreSQL means them. Folding is for ASCII only, as servers do it in every multi-byte encoding;
 * U&"" escapes become UTF-8.
 */
#include "sql/lexer.h"
#include "sql/scan.h"

#define IDENTIFIER_MAX 63u

/* One identifier of a.b, cut when it is whole. */
struct part {
	char bytes[IDENTIFIER_MAX + 4]; /* the last character may stand out */
	size_t len;
};

static void part_add(struct part *p, uint8_t c)
{
	if (p->len < sizeof(p->bytes))
		p->bytes[p->len++] = (char)c;
}

static void part_add_utf8(struct part *p, uint32_t code)
{
	if (code < 0x80) {
		part_add(p, (uint8_t)code);
		return;
	}
	if (code < 0x800) {
		part_add(p, (uint8_t)(0xc0 | code >> 6));
	} else {
		if (code < 0x10000) {
			part_add(p, (uint8_t)(0xe0 | code >> 12));
		} else {
			part_add(p, (uint8_t)(0xf0 | code >> 18));
			part_add(p, (uint8_t)(0x80 | (code >> 12 & 0x3f)));
		}
		part_add(p, (uint8_t)(0x80 | (code >> 6 & 0x3f)));
	}
	part_add(p, (uint8_t)(0x80 | (code & 0x3f)));
}

/* To 63 bytes, but not within a character. */
static void part_cut(struct part *p)
{
	size_t len = IDENTIFIER_MAX;

	if (p->len <= len)
		return;
	for (int i = 0; i < 3 && ((uint8_t)p->bytes[len] & 0xc0) == 0x80; i++)
		len--;
	p->len = len;
}

static bool hex_read(const uint8_t *from, size_t digits, uint32_t *ret)
{
	uint32_t value = 0;

	for (size_t i = 0; i < digits; i++) {
		uint8_t c = from[i], letter = c | 0x20;

		if (c >= '0' && c <= '9')
			value = value << 4 | (uint32_t)(c - '0');
		else if (letter >= 'a' && letter <= 'f')
			value = value << 4 | (uint32_t)(letter - 'a' + 10);
		else
			return false;
	}
	*ret = value;
	return true;
}

/* Behind the escape character: XXXX or +XXXXXX. Returns how many bytes that is, 0 when it's neither. */
static size_t escape_read(const uint8_t *at, size_t left, uint32_t *ret)
{
	if (left >= 7 && at[0] == '+')
		return hex_read(at + 1, 6, ret) ? 7 : 0;
	return left >= 4 && hex_read(at, 4, ret) ? 4 : 0;
}

/* Two halves of a surrogate pair make one character. */
static size_t code_read(const uint8_t *at, size_t left, uint8_t escape, uint32_t *ret)
{
	uint32_t low;
	size_t used = escape_read(at, left, ret), more;

	if (used == 0 || *ret < 0xd800 || *ret > 0xdbff || left == used || at[used] != escape)
		return used;
	more = escape_read(at + used + 1, left - used - 1, &low);
	if (more == 0 || low < 0xdc00 || low > 0xdfff)
		return used;
	*ret = 0x10000 + ((*ret & 0x3ff) << 10) + (low & 0x3ff);
	return used + 1 + more;
}

/* What stands between the quotes; escape is 0 when there are none. */
static void part_unquote(struct part *p, const uint8_t *bytes, size_t len, uint8_t escape)
{
	for (size_t i = 0; i < len; i++) {
		uint32_t code;
		size_t used;

		if (escape && bytes[i] == escape) {
			used = code_read(bytes + i + 1, len - i - 1, escape, &code);
			if (used > 0 && code > 0 && code <= 0x10ffff) {
				part_add_utf8(p, code);
				i += used;
				continue;
			}
			if (i + 1 < len && bytes[i + 1] == escape)
				i++;
		} else if (bytes[i] == '"' && i + 1 < len && bytes[i + 1] == '"') {
			i++;
		}
		part_add(p, bytes[i]);
	}
}

/* UESCAPE 'c' behind a U&"": takes it from the lexer and returns c; else a backslash. */
static uint8_t take_escape(struct lexer *l)
{
	struct lexer ahead = *l;
	struct token t;

	lexer_next(&ahead, &t);
	if (t.code != KW_UESCAPE)
		return '\\';
	lexer_next(&ahead, &t);
	if (t.code != TOKEN_STRING || t.end - t.begin != 3)
		return '\\';
	*l = ahead;
	return l->text[t.begin + 1];
}

static void part_read(struct part *p, struct lexer *l, const struct token *t)
{
	const uint8_t *bytes = l->text + t->begin;
	size_t len = t->end - t->begin, prefix;

	p->len = 0;
	if (t->code == TOKEN_QUOTED) {
		prefix = bytes[0] == '"' ? 1 : 3;
		len -= prefix + !l->unterminated;
		part_unquote(p, bytes + prefix, len, prefix == 3 ? take_escape(l) : 0);
	} else {
		bool folds = token_is_identifier(t);

		for (size_t i = 0; i < len; i++)
			part_add(p, folds && bytes[i] >= 'A' && bytes[i] <= 'Z' ? bytes[i] | 0x20 : bytes[i]);
	}
	part_cut(p);
}

size_t scan_identifier(struct slice written, char *out, size_t size)
{
	struct lexer lexer = {.text = written.bytes, .limit = (uint32_t)MIN(written.len, (size_t)UINT32_MAX - 1)};
	struct token token;
	struct part part;
	size_t len = 0;
	bool joined = true; /* to what stands before: nothing, or a dot */

	if (size == 0)
		return 0;
	for (lexer_next(&lexer, &token); token.code != TOKEN_END; lexer_next(&lexer, &token)) {
		size_t fits;

		if (token.code != '.' && !joined && len < size - 1)
			out[len++] = ' ';
		joined = token.code == '.';
		part_read(&part, &lexer, &token);
		fits = MIN(part.len, size - 1 - len);
		memcpy(out + len, part.bytes, fits);
		len += fits;
	}
	out[len] = '\0';
	return len;
}
