/*
 * See normalize.h. One pass over the tokens. What is written is hashed on its way, also where there is no more room.
 * Elements of a list are written first; one that turns out to be like the one before it is taken back.
 */
#include "sql/normalize.h"

#include "sql/lexer.h"

#include <ctype.h>
#include <strings.h>

#define LISTS_MAX 4u /* one inside of the other; what is deeper is written in full */

#define HASH_START 0xcbf29ce484222325ull
#define HASH_PRIME 0x100000001b3ull

/* What is taken back when an element is. */
struct written {
	size_t len;
	uint64_t hashes[1 + LISTS_MAX]; /* of the whole text, and of the element that each open list is in */
	bool cut;
};

struct list {
	struct written before; /* the last element that is like the one in front of it; with its comma */
	uint64_t last;         /* hash of the element before this one; 0: there is none that another may be like */
	uint32_t depth;        /* of parentheses and brackets around its commas */
	bool is_rows;          /* of VALUES */
	bool is_marked;        /* ", ..." stands behind the last element */
	bool has_literal;      /* the element that is being written */
};

struct writer {
	char *out;
	size_t size;
	struct written now;
	struct list lists[LISTS_MAX];
	uint32_t count; /* of open lists */
	uint32_t depth;
	struct token last;     /* the last token; TOKEN_END: none yet */
	bool is_glued;         /* no blank before the next token, whatever it is */
	bool ends_statement;   /* a ; is to be written if anything follows */
	bool is_long_operator; /* the operator that ends with `last` has what makes a - at its end a part of it */
};

/* ---- what is written ---- */

static void put(struct writer *w, const void *bytes, size_t len)
{
	struct written *now = &w->now;
	size_t room = w->size - 1 - now->len, fits = MIN(len, room);

	for (uint32_t list = 0; list <= w->count; list++) {
		const uint8_t *at = bytes;
		uint64_t hash = now->hashes[list];

		for (size_t i = 0; i < len; i++)
			hash = (hash ^ at[i]) * HASH_PRIME;
		now->hashes[list] = hash;
	}
	if (now->cut)
		return;
	memcpy(w->out + now->len, bytes, fits);
	now->len += fits;
	now->cut = fits < len;
}

static void put_lower(struct writer *w, const uint8_t *bytes, size_t len)
{
	uint8_t lower[64];

	while (len > 0) {
		size_t part = MIN(len, sizeof(lower));

		for (size_t i = 0; i < part; i++)
			lower[i] = (uint8_t)(bytes[i] | (bytes[i] >= 'A' && bytes[i] <= 'Z' ? 0x20 : 0));
		put(w, lower, part);
		bytes += part;
		len -= part;
	}
}

/* Not in the middle of a character. */
static void end_whole(struct writer *w)
{
	size_t len = w->now.len, start = len;

	while (w->now.cut && start > 0 && len - start < 4 && ((uint8_t)w->out[start - 1] & 0xc0) == 0x80)
		start--;
	if (w->now.cut && start > 0 && (uint8_t)w->out[start - 1] >= 0xc0)
		w->now.len = start - 1;
	w->out[w->now.len] = 0;
}

/* ---- lists ---- */

static void element_begin(struct writer *w)
{
	w->now.hashes[w->count] = HASH_START;
	w->lists[w->count - 1].has_literal = false;
}

static void list_open(struct writer *w, bool is_rows)
{
	if (w->count == LISTS_MAX)
		return;
	w->lists[w->count++] = (struct list){.depth = w->depth, .is_rows = is_rows};
	element_begin(w);
}

static void element_end(struct writer *w)
{
	struct list *list = &w->lists[w->count - 1];
	uint64_t hash = w->now.hashes[w->count];
	bool is_again = list->has_literal && hash == list->last;

	if (is_again)
		w->now = list->before;
	else
		list->is_marked = false;
	if (list->has_literal && !list->is_marked && (is_again || !list->is_rows)) {
		put(w, ", ...", 5);
		list->is_marked = true;
	}
	list->last = list->has_literal ? hash : 0;
	list->before = w->now;
}

static void list_close(struct writer *w)
{
	element_end(w);
	w->count--;
}

/* Rows end with whatever is neither one more row nor the comma in front of it. */
static void close_rows(struct writer *w, uint16_t code)
{
	while (w->count > 0) {
		const struct list *list = &w->lists[w->count - 1];

		if (!list->is_rows || w->depth > list->depth ||
		    (w->depth == list->depth && (code == ',' || code == '(')))
			return;
		list_close(w);
	}
}

static bool is_in_list(const struct writer *w)
{
	return w->count > 0 && w->lists[w->count - 1].depth == w->depth;
}

/* ---- the tokens before ---- */

static bool token_is(const uint8_t *text, const struct token *t, const char *word)
{
	size_t len = strlen(word);

	return t->code != TOKEN_QUOTED && token_is_identifier(t) && t->end - t->begin == len &&
	       strncasecmp((const char *)text + t->begin, word, len) == 0;
}

/* Words that are no operand and no function: a parenthesis behind them is not theirs, and - is a sign. */
static bool is_between(const uint8_t *text, const struct token *t)
{
	static const char *const words[] = {
		"in",        "and",    "values", "select",    "where",    "on",   "or",    "as",           "from",
		"not",       "exists", "any",    "all",       "over",     "when", "then",  "else",         "case",
		"set",       "by",     "limit",  "offset",    "like",     "join", "using", "between",      "having",
		"union",     "except", "with",   "returning", "some",     "into", "ilike", "filter",       "distinct",
		"intersect", "is",     "check",  "explain",   "copy",     "to",   "group", "materialized", "lateral",
		"default",   "vacuum", "only",   "analyze",   "conflict",
	};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (words[i][0] == (text[t->begin] | 0x20) && token_is(text, t, words[i]))
			return true;
	return false;
}

enum { OPERATOR = BIT(0), LONG = BIT(1) /* an operator with it may end with + or - */ };

static const uint8_t operators[TOKEN_OTHER] = {
	['+'] = OPERATOR,        ['-'] = OPERATOR,        ['*'] = OPERATOR,        ['/'] = OPERATOR,
	['<'] = OPERATOR,        ['>'] = OPERATOR,        ['='] = OPERATOR,        ['~'] = OPERATOR | LONG,
	['!'] = OPERATOR | LONG, ['@'] = OPERATOR | LONG, ['#'] = OPERATOR | LONG, ['%'] = OPERATOR | LONG,
	['^'] = OPERATOR | LONG, ['&'] = OPERATOR | LONG, ['|'] = OPERATOR | LONG, ['`'] = OPERATOR | LONG,
	['?'] = OPERATOR | LONG,
};

static bool is_operator(uint16_t code)
{
	return code < TOKEN_OTHER && operators[code];
}

static bool is_value(uint16_t code)
{
	return code == TOKEN_STRING || code == TOKEN_NUMBER || code == TOKEN_PARAMETER;
}

/*
 * +, - in front of a number: its sign, or between two operands? An operator of several characters ends with one only if
 * it has a character that those of standard SQL don't have: a=-1 has a sign, a@-1 has not.
 */
static bool is_sign(const struct writer *w, const uint8_t *text, const struct token *t)
{
	const struct token *last = &w->last;

	if (is_operator(last->code))
		return t->begin > last->end || !w->is_long_operator;
	if (token_is_identifier(last))
		return is_between(text, last);
	return !is_value(last->code) && last->code != ')' && last->code != ']';
}

/*
 * What the lexer takes for a word or a number of its own, though PostgreSQL 16 reads one number: 1_000, 0x1F, .5 behind
 * digits.
 */
static bool is_number_going_on(const struct writer *w, const uint8_t *text, const struct token *t)
{
	uint32_t at = t->begin + 1;
	uint8_t first = text[t->begin] | 0x20;

	if (w->last.code != TOKEN_NUMBER || w->last.end != t->begin)
		return false;
	if (t->code == TOKEN_NUMBER)
		return true;
	if (!token_is_identifier(t) || t->end == at)
		return false;
	if (text[t->begin] == '_')
		return text[at] >= '0' && text[at] <= '9';
	if (first != 'x' && first != 'o' && first != 'b')
		return false;
	while (at < t->end && (text[at] == '_' || isxdigit(text[at])))
		at++;
	return at == t->end;
}

static bool is_constant(const struct writer *w, const uint8_t *text, const struct token *t)
{
	uint32_t len = t->end - t->begin;
	uint8_t first = text[t->begin] | 0x20;

	if (w->last.code == TOKEN_END || w->last.code >= TOKEN_OTHER || strchr(".)];", w->last.code))
		return false;
	return (len == 4 && first == 'n' && token_is(text, t, "null")) ||
	       (len == 4 && first == 't' && token_is(text, t, "true")) ||
	       (len == 5 && first == 'f' && token_is(text, t, "false"));
}

static bool is_apart(const struct writer *w, const uint8_t *text, const struct token *t)
{
	uint16_t last = w->last.code;

	if (last == TOKEN_END || w->is_glued)
		return false;
	switch (t->code) {
	case ')':
	case ']':
	case '[':
	case ',':
	case '.':
	case ':':
		return false;
	case '(':
		return last != '(' && last != '[' && (!token_is_identifier(&w->last) || is_between(text, &w->last));
	default:
		break;
	}
	if (last == '(' || last == '[' || last == '.' || last == ':')
		return false;
	return !is_operator(last) || !is_operator(t->code) || t->begin > w->last.end;
}

/* ---- tokens ---- */

static void put_literal(struct writer *w)
{
	put(w, "?", 1);
	for (uint32_t i = 0; i < w->count; i++)
		w->lists[i].has_literal = true;
}

static void put_token(struct writer *w, const uint8_t *text, const struct token *t)
{
	const uint8_t *bytes = text + t->begin;
	size_t len = t->end - t->begin;

	if (is_value(t->code) || (token_is_identifier(t) && is_constant(w, text, t)))
		put_literal(w);
	else if (token_is_identifier(t) && t->code != TOKEN_QUOTED)
		put_lower(w, bytes, len);
	else
		put(w, bytes, len);
}

static void put_open(struct writer *w, const uint8_t *text, const struct token *t, const struct token *next)
{
	bool is_rows = token_is(text, &w->last, "values");
	bool is_list = t->code == '[' ? token_is(text, &w->last, "array") : token_is(text, &w->last, "in");
	bool is_query =
		token_is(text, next, "select") || token_is(text, next, "with") || token_is(text, next, "values");

	if (is_rows && t->code == '(')
		list_open(w, /* is_rows= */ true);
	put(w, text + t->begin, 1);
	w->depth++;
	if (is_list && !is_query)
		list_open(w, /* is_rows= */ false);
}

static void put_close(struct writer *w, const uint8_t *text, const struct token *t)
{
	if (is_in_list(w))
		list_close(w);
	put(w, text + t->begin, 1);
	w->depth -= w->depth > 0;
}

static void put_comma(struct writer *w)
{
	bool ends_element = is_in_list(w);

	if (ends_element)
		element_end(w);
	put(w, ", ", 2);
	if (ends_element)
		element_begin(w);
}

static void close_all(struct writer *w)
{
	while (w->count > 0)
		list_close(w);
	w->depth = 0;
}

/* The sign of a number, or the point of one that begins with it: they go with its digits. */
static bool is_left_out(const struct writer *w, const uint8_t *text, const struct token *t, const struct token *next)
{
	if (t->code == '.')
		return next->code == TOKEN_NUMBER && next->begin == t->end;
	return (t->code == '-' || t->code == '+') && (next->code == TOKEN_NUMBER || next->code == '.') &&
	       is_sign(w, text, t);
}

static void see_token(struct writer *w, const uint8_t *text, const struct token *t, const struct token *next)
{
	bool goes_on = is_operator(w->last.code) && t->begin == w->last.end;

	if (w->ends_statement)
		put(w, "; ", 2);
	close_rows(w, t->code);
	if (is_apart(w, text, t))
		put(w, " ", 1);
	switch (t->code) {
	case '(':
	case '[':
		put_open(w, text, t, next);
		break;
	case ')':
	case ']':
		put_close(w, text, t);
		break;
	case ',':
		put_comma(w);
		break;
	default:
		put_token(w, text, t);
	}
	w->is_glued = t->code == ',';
	w->ends_statement = false;
	w->is_long_operator = is_operator(t->code) && (operators[t->code] & LONG || (goes_on && w->is_long_operator));
	w->last = *t;
}

void sql_normalize(struct slice text, bool standard_conforming_strings, char *out, size_t size,
		   struct sql_normalized *ret)
{
	size_t limit = strnlen((const char *)text.bytes, MIN(text.len, (size_t)UINT32_MAX - 1));
	struct lexer lexer = {
		.text = text.bytes, .limit = (uint32_t)limit, .backslashes = !standard_conforming_strings};
	struct writer w = {.out = out, .size = size, .now.hashes = {HASH_START}};
	struct token t, next;

	lexer_next(&lexer, &t);
	for (; t.code != TOKEN_END; t = next) {
		lexer_next(&lexer, &next);
		if (t.code == ';') {
			close_all(&w);
			w.ends_statement = w.last.code != TOKEN_END;
			w.is_glued = true;
			w.last.code = w.ends_statement ? ';' : TOKEN_END;
		} else if (is_number_going_on(&w, text.bytes, &t)) {
			w.last = t;
			w.last.code = TOKEN_NUMBER;
		} else if (!is_left_out(&w, text.bytes, &t, &next)) {
			see_token(&w, text.bytes, &t, &next);
		} else if (w.last.code == TOKEN_NUMBER && w.last.end == t.begin) {
			w.last.end = t.end; /* 1_000.5 */
		}
	}
	close_all(&w);
	end_whole(&w);
	*ret = (struct sql_normalized){.len = w.now.len, .cut = w.now.cut, .fingerprint = w.now.hashes[0]};
}
