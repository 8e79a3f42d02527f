/* See shape.h. */
#include "sql/shape.h"

#include "sql/lexer.h"
#include "sql/scan.h"

/* ---- the shape ---- */

enum {
	WORD = BIT(0), /* part of a word or a number */
	DIGIT = BIT(1),
	SPECIAL = BIT(2), /* a quote, or what may begin something that is not folded */
};

static const uint8_t classes[256] = {
	['a' ... 'z'] = WORD,
	['A' ... 'Z'] = WORD,
	['_'] = WORD,
	[0x80 ... 0xff] = WORD,
	['0' ... '9'] = WORD | DIGIT,
	['\''] = SPECIAL,
	['"'] = SPECIAL,
	['-'] = SPECIAL,
	['*'] = SPECIAL,
	['$'] = SPECIAL,
};

/* Could it be one of the words that mean a moment? What might be is left as it is. */
static bool may_be_clock(const uint8_t *bytes, size_t len)
{
	while (len > 0 && memchr("'$ \t\n\r\v\f", *bytes, 8)) {
		bytes++;
		len--;
	}
	return len > 0 && memchr("nNtTyY", *bytes, 6);
}

/* at: behind the quote that opens. Behind the one that closes, or NULL: there is none, or a backslash. */
static const uint8_t *quote_end(const uint8_t *at, const uint8_t *end, uint8_t quote)
{
	for (; at < end; at++) {
		if (*at == '\\' && quote == '\'')
			return NULL;
		if (*at != quote)
			continue;
		if (at + 1 == end || at[1] != quote)
			return at + 1;
		at++;
	}
	return NULL;
}

/* Is the last thing in front of `out` a quote? A string behind it would be the rest of that one: 'tom' 'orrow', with a
 * line between them. */
static bool is_behind_quote(const uint8_t *start, const uint8_t *out)
{
	while (out > start && memchr(" \t\n\r\v\f", out[-1], 6))
		out--;
	return out > start && out[-1] == '\'';
}

/* A quote of either kind at `at`: copied, or left out. NULL: not to be folded. */
static const uint8_t *fold_quoted(const uint8_t *at, const uint8_t *end, const uint8_t *start, uint8_t **out)
{
	const uint8_t *behind = quote_end(at + 1, end, *at);

	if (!behind || is_behind_quote(start, *out))
		return NULL;
	if (*at == '\'' && !may_be_clock(at + 1, (size_t)(behind - at - 2))) {
		*(*out)++ = '\'';
		*(*out)++ = '\'';
	} else {
		memcpy(*out, at, (size_t)(behind - at));
		*out += behind - at;
	}
	return behind;
}

/* Does it begin what is not folded: a comment, or a dollar quote? */
static bool begins_other(const uint8_t *at, const uint8_t *end, uint8_t before)
{
	return (*at == '-' && before == '-') || (*at == '*' && before == '/') ||
	       (*at == '$' && (at + 1 == end || !(classes[at[1]] & DIGIT)));
}

size_t shape_fold(struct slice text, uint8_t *out)
{
	const uint8_t *at = text.bytes, *end = at + text.len;
	uint8_t *start = out, before = ' ';

	while (at < end) {
		uint8_t class = classes[*at];

		if (class & DIGIT && before != '$') { /* a number: within words they are copied below */
			*out++ = '0';
			while (at < end && classes[*at] & DIGIT)
				at++;
			before = '0';
		}
		if (at < end && classes[*at] & WORD) { /* a word, or what is behind the digits of "1e5" */
			do
				*out++ = *at++;
			while (at < end && classes[*at] & WORD);
			before = 'a';
		} else if (class & WORD) {
			continue; /* it was a number alone */
		} else if (!(class & SPECIAL)) {
			*out++ = before = *at++;
		} else if (*at == '\'' || *at == '"') {
			/* E'' U&'' B'' X'' U&"", and what a dollar may begin, are read in other ways */
			if (classes[before] & WORD || before == '&' || before == '$')
				return 0;
			before = *at;
			at = fold_quoted(at, end, start, &out);
			if (!at)
				return 0;
		} else {
			if (begins_other(at, end, before))
				return 0;
			*out++ = before = *at++;
		}
	}
	return (size_t)(out - start);
}

/* ---- pure reads ---- */

static const char *const pure_functions[] = {
#define FUNCTION(name) name,
#include "sql/pure_functions.def"
#undef FUNCTION
};

static bool is_pure_function(const uint8_t *bytes, size_t len)
{
	size_t low = 0, high = ARRAY_SIZE(pure_functions);
	char name[32];

	if (len >= sizeof(name))
		return false;
	for (size_t i = 0; i < len; i++)
		name[i] = (char)(bytes[i] >= 'A' && bytes[i] <= 'Z' ? bytes[i] + 32 : bytes[i]);
	name[len] = 0;
	while (low < high) {
		size_t middle = (low + high) / 2;
		int order = strcmp(name, pure_functions[middle]);

		if (order == 0)
			return true;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return false;
}

static bool word_is(const uint8_t *text, const struct token *t, const char *word)
{
	return t->end - t->begin == strlen(word) && strncasecmp((const char *)text + t->begin, word, strlen(word)) == 0;
}

/* One of the words that are functions elsewhere, in the one place where they are not. */
static bool is_clause(const uint8_t *text, const struct token *word, const struct token *before)
{
	if (word_is(text, word, "by"))
		return word_is(text, before, "group") || word_is(text, before, "order") ||
		       word_is(text, before, "partition");
	return before->code == ')' && (word_is(text, word, "over") || word_is(text, word, "filter"));
}

/* The word in front of a parenthesis, and the token in front of that. */
static bool may_precede_parenthesis(const uint8_t *text, const struct token *word, const struct token *before)
{
	if (!token_is_identifier(word))
		return true; /* an operator, a comma, another parenthesis */
	if (word->code == TOKEN_QUOTED || before->code == '.')
		return false;
	return is_pure_function(text + word->begin, word->end - word->begin) || is_clause(text, word, before);
}

static bool calls_only_pure_functions(struct slice text)
{
	struct lexer l = {.text = text.bytes, .limit = (uint32_t)text.len};
	struct token t, word = {0}, before = {0};

	for (lexer_next(&l, &t); t.code != TOKEN_END; lexer_next(&l, &t)) {
		if (t.code == '(' && !may_precede_parenthesis(text.bytes, &word, &before))
			return false;
		if (word.code == '.' && token_is_identifier(&t) && !token_is_identifier(&before))
			return false; /* (x).f, x[1].f and $1.f may be f(x) */
		before = word;
		word = t;
	}
	return true;
}

static bool begins_as_query(const uint8_t *text, const struct statement *st)
{
	static const char *const words[] = {"select", "with", "values", "table", "("};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (st->end - st->begin > strlen(words[i]) &&
		    strncasecmp((const char *)text + st->begin, words[i], strlen(words[i])) == 0)
			return true;
	return false;
}

bool shape_is_pure_read(struct slice text)
{
	struct scan scan;
	bool pure;

	if (text.len > UINT32_MAX / 2 ||
	    scan_text((const char *)text.bytes, text.len, 0, /* standard_conforming_strings= */ true, &scan) < 0)
		return false;
	pure = scan.count == 1 && !scan.truncated && scan.marks == 0 && scan.first.class == STATEMENT_READ &&
	       scan.first.verb == VERB_OTHER && begins_as_query(text.bytes, &scan.first) &&
	       calls_only_pure_functions(text);
	scan_free(&scan);
	return pure;
}
