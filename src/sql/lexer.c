/*
 * The scanner's tokens: one switch over a table of byte classes. It follows src/backend/parser/scan.l of PostgreSQL
 * in what it accepts, with the places named where that isn't obvious. Reads nothing outside [text, text + limit).
 */
#include "sql/lexer.h"

/* What a byte may begin or be part of. */
enum {
	SPACE = BIT(0),
	NEWLINE = BIT(1),
	LETTER = BIT(2), /* begins a word; every byte from 0x80 on does */
	DIGIT = BIT(3),
	PREFIX = BIT(4), /* a letter that may belong to the quote behind it: E'' B'' X'' U&'' U&"" */
	DOLLAR = BIT(5),
	WORD_BYTES = LETTER | DIGIT | DOLLAR,
	TAG_BYTES = LETTER | DIGIT,
};

static const uint8_t classes[256] = {
	[' '] = SPACE,           ['\t'] = SPACE,           ['\f'] = SPACE,
	['\v'] = SPACE,          ['\n'] = SPACE | NEWLINE, ['\r'] = SPACE | NEWLINE,
	['A'] = LETTER,          ['B'] = LETTER | PREFIX,  ['C' ... 'D'] = LETTER,
	['E'] = LETTER | PREFIX, ['F' ... 'T'] = LETTER,   ['U'] = LETTER | PREFIX,
	['V' ... 'W'] = LETTER,  ['X'] = LETTER | PREFIX,  ['Y' ... 'Z'] = LETTER,
	['a'] = LETTER,          ['b'] = LETTER | PREFIX,  ['c' ... 'd'] = LETTER,
	['e'] = LETTER | PREFIX, ['f' ... 't'] = LETTER,   ['u'] = LETTER | PREFIX,
	['v' ... 'w'] = LETTER,  ['x'] = LETTER | PREFIX,  ['y' ... 'z'] = LETTER,
	['_'] = LETTER,          [0x80 ... 0xff] = LETTER, ['0' ... '9'] = DIGIT,
	['$'] = DOLLAR,
};

static inline uint8_t byte_at(const struct lexer *l, uint32_t at)
{
	return at < l->limit ? l->text[at] : 0;
}

static inline bool class_at(const struct lexer *l, uint32_t at, uint8_t class)
{
	return at < l->limit && (classes[l->text[at]] & class);
}

static inline uint32_t skip_class(const struct lexer *l, uint32_t at, uint8_t class)
{
	while (at < l->limit && (classes[l->text[at]] & class))
		at++;
	return at;
}

static uint32_t ran_into_end(struct lexer *l)
{
	l->unterminated = true;
	return l->limit;
}

/* To the newline that ends a -- comment. */
static uint32_t skip_line(const struct lexer *l, uint32_t at)
{
	while (at < l->limit && l->text[at] != '\n' && l->text[at] != '\r')
		at++;
	return at;
}

/* at: at the first slash-star; these nest. */
static uint32_t skip_comment(struct lexer *l, uint32_t at)
{
	uint32_t depth = 0;

	while (l->limit - at >= 2) {
		if (l->text[at] == '/' && l->text[at + 1] == '*') {
			depth++;
			at += 2;
		} else if (l->text[at] == '*' && l->text[at + 1] == '/') {
			at += 2;
			if (--depth == 0)
				return at;
		} else {
			at++;
		}
	}
	return ran_into_end(l);
}

/*
 * White space and comments. An operator ends before a comment that starts in it, so looking for -- and slash-star
 * at each of its bytes finds the same comments as the server.
 */
static uint32_t skip_blank(struct lexer *l, uint32_t at)
{
	for (;;) {
		uint8_t c = byte_at(l, at);

		if (classes[c] & SPACE)
			at++;
		else if (c == '-' && byte_at(l, at + 1) == '-')
			at = skip_line(l, at + 2);
		else if (c == '/' && byte_at(l, at + 1) == '*')
			at = skip_comment(l, at);
		else
			return at;
	}
}

/*
 * Behind a closing quote: do white space with a newline in it and another quote follow? Then the string goes on, with
 * the same escapes: E'a' \n 'b\''. Comments up to the end of a line count as white space here, others don't.
 */
static bool string_goes_on(const struct lexer *l, uint32_t at, uint32_t *ret_at)
{
	bool newline = false;

	for (;;) {
		if (class_at(l, at, SPACE))
			newline |= classes[l->text[at++]] & NEWLINE;
		else if (byte_at(l, at) == '-' && byte_at(l, at + 1) == '-')
			at = skip_line(l, at + 2);
		else
			break;
	}
	if (!newline || byte_at(l, at) != '\'')
		return false;
	*ret_at = at + 1;
	return true;
}

/* From behind an opening quote to behind the closing one. doubled: two quotes in a row stand for one. */
static uint32_t skip_quoted(struct lexer *l, uint32_t at, uint8_t quote, bool doubled)
{
	for (;;) {
		const uint8_t *found = memchr(l->text + at, quote, l->limit - at);

		if (!found)
			return ran_into_end(l);
		at = (uint32_t)(found - l->text) + 1;
		if (!doubled || byte_at(l, at) != quote)
			return at;
		at++;
	}
}

static uint32_t skip_escaped(struct lexer *l, uint32_t at)
{
	while (at < l->limit) {
		uint8_t c = l->text[at++];

		if (c == '\\')
			at++;
		else if (c == '\'' && byte_at(l, at) == '\'')
			at++;
		else if (c == '\'')
			return at;
	}
	return ran_into_end(l);
}

enum string_kind { STRING_PLAIN, STRING_ESCAPED, STRING_BITS };

/* at: behind the opening quote. B'' and X'' have no '' in them: it ends one string and begins another. */
static uint32_t skip_string(struct lexer *l, uint32_t at, enum string_kind kind)
{
	do {
		if (kind == STRING_ESCAPED)
			at = skip_escaped(l, at);
		else
			at = skip_quoted(l, at, '\'', kind == STRING_PLAIN);
	} while (!l->unterminated && string_goes_on(l, at, &at));
	return at;
}

static uint32_t skip_number(const struct lexer *l, uint32_t at)
{
	uint32_t digits = skip_class(l, at, DIGIT), exponent;

	if (byte_at(l, digits) == '.' && byte_at(l, digits + 1) != '.') /* not the first half of 1..2 */
		digits = skip_class(l, digits + 1, DIGIT);
	if ((byte_at(l, digits) | 0x20) != 'e')
		return digits;
	exponent = digits + 1;
	if (byte_at(l, exponent) == '+' || byte_at(l, exponent) == '-')
		exponent++;
	return class_at(l, exponent, DIGIT) ? skip_class(l, exponent, DIGIT) : digits;
}

/* $1, $$...$$, $tag$...$tag$, or a lone dollar (at). */
static uint16_t lex_dollar(struct lexer *l, uint32_t at, uint32_t *ret_end)
{
	uint32_t tag_end = at + 1;
	const uint8_t *found;

	if (class_at(l, tag_end, DIGIT)) {
		*ret_end = skip_class(l, tag_end, DIGIT);
		return TOKEN_PARAMETER;
	}
	tag_end = skip_class(l, tag_end, TAG_BYTES);
	if (byte_at(l, tag_end) != '$') {
		*ret_end = at + 1;
		return '$';
	}
	tag_end++;
	found = memmem(l->text + tag_end, l->limit - tag_end, l->text + at, tag_end - at);
	*ret_end = found ? (uint32_t)(found - l->text) + (tag_end - at) : ran_into_end(l);
	return TOKEN_STRING;
}

/* A letter that begins a word or a string. */
static uint16_t lex_prefix(struct lexer *l, uint32_t at, uint32_t *ret_end)
{
	uint8_t letter = l->text[at] | 0x20, next = byte_at(l, at + 1), third;

	if (letter == 'u') {
		third = next == '&' ? byte_at(l, at + 2) : 0;
		if (third == '\'') {
			*ret_end = skip_string(l, at + 3, STRING_PLAIN);
			return TOKEN_STRING;
		}
		if (third == '"') {
			*ret_end = skip_quoted(l, at + 3, '"', /* doubled= */ true);
			return TOKEN_QUOTED;
		}
	} else if (next == '\'') {
		*ret_end = skip_string(l, at + 2, letter == 'e' ? STRING_ESCAPED : STRING_BITS);
		return TOKEN_STRING;
	}
	*ret_end = skip_class(l, at + 1, WORD_BYTES);
	return keyword_find(l->text + at, *ret_end - at);
}

static uint16_t lex_symbol(struct lexer *l, uint32_t at, uint32_t *ret_end)
{
	uint8_t c = l->text[at];

	switch (c) {
	case '\'':
		*ret_end = skip_string(l, at + 1, l->backslashes ? STRING_ESCAPED : STRING_PLAIN);
		return TOKEN_STRING;
	case '"':
		*ret_end = skip_quoted(l, at + 1, '"', /* doubled= */ true);
		return TOKEN_QUOTED;
	default:
		*ret_end = at + 1;
		return c ? c : TOKEN_OTHER;
	}
}

void lexer_next(struct lexer *l, struct token *ret)
{
	uint32_t at = skip_blank(l, l->at), end = at;
	uint16_t code = TOKEN_END;

	if (at < l->limit) {
		uint8_t class = classes[l->text[at]];

		if (class == LETTER) {
			end = skip_class(l, at + 1, WORD_BYTES);
			code = keyword_find(l->text + at, end - at);
		} else if (class & PREFIX) {
			code = lex_prefix(l, at, &end);
		} else if (class & DIGIT) {
			end = skip_number(l, at);
			code = TOKEN_NUMBER;
		} else if (class & DOLLAR) {
			code = lex_dollar(l, at, &end);
		} else {
			code = lex_symbol(l, at, &end);
		}
	}
	l->at = end;
	*ret = (struct token){.begin = at, .end = end, .code = code};
}

static inline uint64_t load_u64(const void *from)
{
	uint64_t v;

	memcpy(&v, from, sizeof(v));
	return v;
}

static inline uint32_t load_u32(const void *from)
{
	uint32_t v;

	memcpy(&v, from, sizeof(v));
	return v;
}

/*
 * Are the n bytes of an identifier this word, in any case? Bytes that differ in nothing but 0x20 are the same letter:
 * what else would be equal to a letter, a digit or _ this way is no byte of an identifier. n is a constant, so that
 * this comes down to a few comparisons of overlapping machine words.
 */
static inline __attribute__((always_inline)) bool is_word(const uint8_t *bytes, const char *word, size_t n)
{
	const uint64_t letters = 0xdfdfdfdfdfdfdfdfull;
	uint64_t differ = 0;

	if (n >= 8) {
		for (size_t i = 0; i + 8 < n; i += 8)
			differ |= load_u64(bytes + i) ^ load_u64(word + i);
		differ |= load_u64(bytes + n - 8) ^ load_u64(word + n - 8);
	} else if (n >= 4) {
		differ = (load_u32(bytes) ^ load_u32(word)) | (load_u32(bytes + n - 4) ^ load_u32(word + n - 4));
	} else {
		for (size_t i = 0; i < n; i++)
			differ |= (uint8_t)(bytes[i] ^ (uint8_t)word[i]);
	}
	return !(differ & letters);
}

uint16_t keyword_find(const uint8_t *word, size_t len)
{
#define KEY(length, letter) ((length) << 8 | (letter))
#define GROUP(length, letter) \
	break; \
	case KEY(length, letter):
#define WORD(name, text) \
	if (is_word(word, text, sizeof(text) - 1)) \
		return KW_##name;
#define FUNCTION(name, text, marks) WORD(name, text)
	switch (KEY(len, word[0] | 0x20)) {
	default:
#include "sql/keywords.def"
	}
#undef KEY
#undef GROUP
#undef WORD
#undef FUNCTION
	return TOKEN_WORD;
}
