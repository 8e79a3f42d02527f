/*
 * PostgreSQL's tokens, one at a time. Where versions differ, the reading that some version accepts is taken: numbers
 * end as before PostgreSQL 15 ("1INTO" is two tokens), \v is white space as since 16. What no version accepts may come
 * out as anything: the server refuses the whole text.
 *
 * Invariant: begin < end <= at <= limit for every token but TOKEN_END, and each token begins where the one before
 * ended or behind it, so any text of n bytes gives at most n tokens in time O(n).
 */
#ifndef SQL_LEXER_H
#define SQL_LEXER_H

#include "base/common.h"

/*
 * A token's code: the byte itself for a symbol (1..127; operators come byte by byte), one of these, or a keyword.
 * From TOKEN_WORD on all are identifiers, if the grammar takes that keyword for one.
 */
enum {
	TOKEN_END = 0,
	TOKEN_OTHER = 128, /* NUL */
	TOKEN_NUMBER,
	TOKEN_PARAMETER, /* $1 */
	TOKEN_STRING,    /* '' E'' U&'' B'' X'' and dollar quotes, with all lines of 'a' \n 'b' */
	TOKEN_WORD,      /* an identifier that isn't in keywords.def */
	TOKEN_QUOTED,    /* "x" or U&"x" */
	TOKEN_KEYWORDS,  /* below: none is a keyword */
#define GROUP(length, letter)
#define WORD(name, text)            KW_##name,
#define FUNCTION(name, text, marks) KW_##name,
#include "sql/keywords.def"
#undef GROUP
#undef WORD
#undef FUNCTION
	TOKEN_CODES, /* how many */
};

struct token {
	uint32_t begin, end; /* offsets in the text */
	uint16_t code;
};

struct lexer {
	const uint8_t *text;
	uint32_t at, limit;
	bool backslashes;  /* '' strings know \ escapes: standard_conforming_strings is off */
	bool unterminated; /* a string, quoted identifier or comment ran into the end */
};

/* The next token behind white space and comments; TOKEN_END, at the end of the text, for ever. */
void lexer_next(struct lexer *l, struct token *ret);

/* The keyword or function of keywords.def with this name, in any case, or TOKEN_WORD. */
uint16_t keyword_find(const uint8_t *word, size_t len);

static inline bool token_is_identifier(const struct token *t)
{
	return t->code >= TOKEN_WORD;
}

#endif
