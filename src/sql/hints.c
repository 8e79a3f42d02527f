/*
 * Comments in front of a text, the pairs in them, and their values. What has no sense is noted and left out; nothing
 * here fails. Work is bounded by HINT_BYTES_MAX.
 */
#include "sql/hints.h"

#include <stdio.h>

enum type { WORDS, TEXT, NAMES, TIME, SECONDS, LAG, RETRY, YES_NO, ROUTE, NODE };

static const struct key {
	const char *name;
	enum type type;
	uint8_t said;
	uint16_t field; /* offset in struct hints */
} keys[] = {
#define KEY(name, type, field) {name, type, HINT_SAID_##field, offsetof(struct hints, field)},
#define VALUE(field, word, value)
#include "sql/hints.def"
#undef KEY
#undef VALUE
};

static const struct value_word {
	uint8_t said, value;
	const char *word;
} words[] = {
#define KEY(name, type, field)
#define VALUE(field, word, value) {HINT_SAID_##field, value, word},
#include "sql/hints.def"
#undef KEY
#undef VALUE
};

static bool is_blank(uint8_t c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_word(struct slice s, const char *word)
{
	return s.len == strlen(word) && strncasecmp((const char *)s.bytes, word, s.len) == 0;
}

static bool begins(struct slice s, const char *with)
{
	size_t len = strlen(with);

	return s.len >= len && strncasecmp((const char *)s.bytes, with, len) == 0;
}

static struct slice skip(struct slice s, size_t n)
{
	return slice_make(s.bytes + n, s.len - n);
}

static struct slice skip_blank(struct slice s)
{
	while (s.len > 0 && is_blank(*s.bytes))
		s = skip(s, 1);
	return s;
}

static const struct key *find_key(struct slice name)
{
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (is_word(name, keys[i].name))
			return &keys[i];
	return NULL;
}

static uint8_t find_word(uint8_t said, struct slice value)
{
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (words[i].said == said && is_word(value, words[i].word))
			return words[i].value;
	return 0;
}

/* ---- values ---- */

static enum hint_answer read_answer(struct slice value)
{
	static const char *const yes[] = {"true", "yes", "on", "1"}, *const no[] = {"false", "no", "off", "0"};

	for (size_t i = 0; i < ARRAY_SIZE(yes); i++) {
		if (is_word(value, yes[i]))
			return HINT_YES;
		if (is_word(value, no[i]))
			return HINT_NO;
	}
	return HINT_UNSAID;
}

/* Digits; what is behind them is the unit. False: none, or more than ten. */
static bool read_number(struct slice value, uint64_t *ret, struct slice *ret_unit)
{
	size_t digits = 0;

	*ret = 0;
	for (; digits < value.len && value.bytes[digits] >= '0' && value.bytes[digits] <= '9'; digits++)
		if (digits < 10)
			*ret = *ret * 10 + (uint64_t)(value.bytes[digits] - '0');
	*ret_unit = skip(value, digits);
	return digits > 0 && digits <= 10;
}

struct unit {
	const char *name;
	uint64_t factor;
};

static const struct unit times[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
static const struct unit sizes[] = {{"b", 1}, {"kb", 1 << 10}, {"mb", 1 << 20}, {"gb", 1 << 30}};

static bool apply_unit(const struct unit *units, size_t count, struct slice unit, uint64_t *number)
{
	for (size_t i = 0; i < count; i++) {
		if (!is_word(unit, units[i].name))
			continue;
		*number *= units[i].factor; /* of ten digits: no overflow */
		return true;
	}
	return false;
}

/* Sets *problem and returns false, or takes the value. */
static bool read_amount(struct hints *h, const struct key *k, struct slice value, enum hint_problem_kind *problem)
{
	uint64_t number;
	struct slice unit;
	bool bytes = false;

	if (!read_number(value, &number, &unit))
		return false;
	if (unit.len == 0 && k->type == SECONDS)
		unit = SLICE_LITERAL("s");
	if (unit.len == 0) {
		*problem = HINT_UNIT_LACKS;
		return false;
	}
	if (!apply_unit(times, ARRAY_SIZE(times), unit, &number)) {
		bytes = k->type == LAG && apply_unit(sizes, ARRAY_SIZE(sizes), unit, &number);
		if (!bytes)
			return false;
	}
	if (k->type == LAG)
		h->lag_is_bytes = bytes;
	memcpy((char *)h + k->field, &number, sizeof(number));
	return true;
}

static bool read_retry(struct hints *h, struct slice value)
{
	enum hint_answer answer = value.len > 1 ? read_answer(value) : HINT_UNSAID;
	uint64_t number = answer == HINT_YES;
	struct slice unit = {0};

	if (answer == HINT_UNSAID && (!read_number(value, &number, &unit) || unit.len > 0 || number > 100))
		return false;
	h->retry = (uint32_t)number;
	return true;
}

static bool read_text(struct hints *h, const struct key *k, struct slice value)
{
	if (value.len == 0 || value.len > HINT_TEXT_MAX)
		return false;
	memcpy((char *)h + k->field, &value, sizeof(value));
	return true;
}

static bool read_word(struct hints *h, const struct key *k, struct slice value)
{
	unsigned int word = find_word(k->said, value);

	if (word == 0)
		return false;
	memcpy((char *)h + k->field, &word, sizeof(word));
	return true;
}

static bool read_yes_no(struct hints *h, const struct key *k, struct slice value)
{
	unsigned int answer = read_answer(value);

	if (answer == HINT_UNSAID)
		return false;
	memcpy((char *)h + k->field, &answer, sizeof(answer));
	return true;
}

/* route=node:NAME is node=NAME, and the route is whatever it was. */
static bool read_route(struct hints *h, const struct key *k, struct slice value)
{
	if (!begins(value, "node:"))
		return read_word(h, k, value);
	value = skip(value, 5);
	if (value.len == 0 || value.len > HINT_TEXT_MAX)
		return false;
	h->node = value;
	h->said |= BIT(HINT_SAID_node);
	return true;
}

static bool read_value(struct hints *h, const struct key *k, struct slice value, enum hint_problem_kind *problem)
{
	switch (k->type) {
	case WORDS:
		return read_word(h, k, value);
	case ROUTE:
		return read_route(h, k, value);
	case TEXT:
	case NAMES:
	case NODE:
		return read_text(h, k, value);
	case RETRY:
		return read_retry(h, value);
	case YES_NO:
		return read_yes_no(h, k, value);
	default:
		return read_amount(h, k, value, problem);
	}
}

bool hints_set(struct hints *h, struct slice key, struct slice value, struct hint_problem *ret_problem)
{
	const struct key *k = find_key(key);
	enum hint_problem_kind problem = HINT_VALUE_BAD;

	if (!k || !read_value(h, k, value, &problem)) {
		*ret_problem = (struct hint_problem){k ? problem : HINT_KEY_UNKNOWN, key, value};
		return false;
	}
	if (k->type != ROUTE || !begins(value, "node:"))
		h->said |= BIT(k->said);
	return true;
}

/* ---- pairs ---- */

struct reader {
	struct slice left; /* of the comment */
	uint32_t pairs;    /* so far, of all comments */
	struct hints *h;
};

static void note(struct reader *r, struct hint_problem p)
{
	if (r->h->problem_count < HINT_PROBLEMS_MAX)
		r->h->problems[r->h->problem_count] = p;
	r->h->problem_count++;
}

static bool ends_word(uint8_t c)
{
	return is_blank(c) || c == ',' || c == '=';
}

static struct slice take_word(struct reader *r)
{
	struct slice word = {r->left.bytes, 0};

	while (word.len < r->left.len && !ends_word(r->left.bytes[word.len]))
		word.len++;
	r->left = skip(r->left, word.len);
	return word;
}

/* '...' or "...", or up to a comma or blank. A quote without an end is part of a word. */
static struct slice take_value(struct reader *r)
{
	uint8_t quote = r->left.len > 0 ? r->left.bytes[0] : 0;
	struct slice value = {r->left.bytes, 0};

	if (quote == '\'' || quote == '"') {
		for (size_t i = 1; i < r->left.len; i++) {
			if (r->left.bytes[i] != quote)
				continue;
			if (i + 1 < r->left.len && r->left.bytes[i + 1] == quote) {
				i++;
				continue;
			}
			value = slice_make(r->left.bytes + 1, i - 1);
			r->left = skip(r->left, i + 1);
			return value;
		}
	}
	while (value.len < r->left.len && !is_blank(r->left.bytes[value.len]) && r->left.bytes[value.len] != ',')
		value.len++;
	r->left = skip(r->left, value.len);
	return value;
}

/* Is what comes next another name of the list, and no pair? tables=a, b, ttl=5 */
static bool list_goes_on(const struct reader *r)
{
	struct reader ahead = *r;
	struct slice word;

	ahead.left = skip_blank(ahead.left);
	if (ahead.left.len == 0 || *ahead.left.bytes != ',')
		return false;
	ahead.left = skip_blank(skip(ahead.left, 1));
	word = take_word(&ahead);
	ahead.left = skip_blank(ahead.left);
	return word.len > 0 && (ahead.left.len == 0 || *ahead.left.bytes != '=');
}

static struct slice take_names(struct reader *r)
{
	struct slice names = take_value(r);

	while (list_goes_on(r)) {
		r->left = skip_blank(skip(skip_blank(r->left), 1));
		take_word(r);
		names.len = (size_t)(r->left.bytes - names.bytes);
	}
	return names;
}

static void read_pair(struct reader *r)
{
	struct slice key = take_word(r), value = {0};
	const struct key *k = find_key(key);
	struct hint_problem problem;

	r->left = skip_blank(r->left);
	if (r->left.len == 0 || *r->left.bytes != '=') {
		note(r, (struct hint_problem){HINT_NO_PAIR, key, value});
		return;
	}
	r->left = skip_blank(skip(r->left, 1));
	value = k && k->type == NAMES ? take_names(r) : take_value(r);
	if (!hints_set(r->h, key, value, &problem))
		note(r, problem);
}

static void read_pairs(struct reader *r)
{
	for (;;) {
		while (r->left.len > 0 && (is_blank(*r->left.bytes) || *r->left.bytes == ','))
			r->left = skip(r->left, 1);
		if (r->left.len == 0)
			return;
		if (r->pairs++ == HINT_PAIRS_MAX) {
			note(r, (struct hint_problem){.kind = HINT_TOO_MANY});
			return;
		}
		read_pair(r);
	}
}

/* ---- comments ---- */

/* A key of ours and an = first: what a comment with a plus but without our name must have. */
static bool begins_with_key(struct slice inside)
{
	struct reader r = {.left = skip_blank(inside)};
	bool known = find_key(take_word(&r));

	r.left = skip_blank(r.left);
	return known && r.left.len > 0 && *r.left.bytes == '=';
}

/* Inside of a comment, behind its first two bytes: is it a hint, and where do its pairs begin? */
static bool find_pairs(struct slice inside, bool block, struct slice *ret_pairs)
{
	bool plus = block && inside.len > 0 && *inside.bytes == '+';
	struct slice s = skip_blank(skip(inside, plus));

	if (begins(s, "helios:")) {
		*ret_pairs = skip(s, strlen("helios:"));
		return true;
	}
	*ret_pairs = s;
	return plus && begins_with_key(s);
}

/* at: behind the opening. Offset behind the end, or 0: it has none. */
static uint32_t block_end(struct slice text, uint32_t at)
{
	uint32_t depth = 1;

	for (; at + 1 < text.len; at++) {
		bool opens = text.bytes[at] == '/' && text.bytes[at + 1] == '*';

		if (!opens && !(text.bytes[at] == '*' && text.bytes[at + 1] == '/'))
			continue;
		at++;
		depth = opens ? depth + 1 : depth - 1;
		if (depth == 0)
			return at + 1;
	}
	return 0;
}

/* Behind the last byte that isn't part of the line, newline excluded. */
static uint32_t line_end(struct slice text, uint32_t at)
{
	while (at < text.len && text.bytes[at] != '\n' && text.bytes[at] != '\r')
		at++;
	return at;
}

static void read_comment(struct reader *r, struct slice inside, bool block, struct hint_comment where)
{
	if (!find_pairs(inside, block, &r->left))
		return;
	if (r->h->comment_count == HINT_COMMENTS_MAX) {
		note(r, (struct hint_problem){.kind = HINT_TOO_MANY});
		return;
	}
	r->h->comments[r->h->comment_count++] = where;
	read_pairs(r);
}

/* A comment whose end isn't seen: if it is a hint, it's too long to be one; if the text has no end, it's none. */
static void note_cut(struct reader *r, struct slice inside, bool block, bool may_end)
{
	struct slice pairs;

	if (may_end && find_pairs(inside, block, &pairs))
		note(r, (struct hint_problem){.kind = HINT_TOO_MANY});
}

void hints_read(struct slice text, struct hints *ret)
{
	struct slice seen = slice_make(text.bytes, MIN(text.len, (size_t)HINT_BYTES_MAX));
	struct reader r = {.h = ret};
	uint32_t at = 0, end;

	*ret = (struct hints){0};
	for (;;) {
		bool block;

		while (at < seen.len && is_blank(seen.bytes[at]))
			at++;
		if (at + 2 > seen.len)
			return;
		block = seen.bytes[at] == '/' && seen.bytes[at + 1] == '*';
		if (!block && !(seen.bytes[at] == '-' && seen.bytes[at + 1] == '-'))
			return;
		end = block ? block_end(seen, at + 2) : line_end(seen, at + 2);
		if (end == 0 || (!block && end == seen.len && seen.len < text.len)) {
			note_cut(&r, slice_make(seen.bytes + at + 2, seen.len - at - 2), block, seen.len < text.len);
			return;
		}
		read_comment(&r, slice_make(seen.bytes + at + 2, end - at - (block ? 4 : 2)), block,
			     (struct hint_comment){at, end + (!block && end < seen.len)});
		at = end;
	}
}

const struct hints *hints_recall(struct hints_memo *memo, struct slice text)
{
	size_t seen = MIN(text.len, sizeof(memo->text));

	if (seen == 0 || text.len != memo->len || memcmp(text.bytes, memo->text, seen) != 0) {
		memo->len = text.len;
		if (seen)
			memcpy(memo->text, text.bytes, seen);
		hints_read(slice_make(memo->text, seen), &memo->hints);
	}
	return &memo->hints;
}

/* ---- stripping ---- */

static bool is_ascii(const uint8_t *text, const struct hint_comment *c)
{
	for (uint32_t i = c->begin; i < c->end; i++)
		if (text[i] >= 0x80)
			return false;
	return true;
}

size_t hints_blank_end(const struct hints *h, struct slice text)
{
	for (uint32_t i = h->comment_count; i-- > 0;)
		if (is_ascii(text.bytes, &h->comments[i]))
			return h->comments[i].end;
	return 0;
}

/* Lines stay lines. */
static void blank(uint8_t *at, const uint8_t *end)
{
	for (; at < end; at++)
		if (*at != '\n' && *at != '\r')
			*at = ' ';
}

void hints_blank(const struct hints *h, uint8_t *text)
{
	for (uint32_t i = 0; i < h->comment_count; i++)
		if (is_ascii(text, &h->comments[i]))
			blank(text + h->comments[i].begin, text + h->comments[i].end);
}

/* ---- texts ---- */

size_t hint_text(struct slice value, char out[HINT_TEXT_MAX + 1])
{
	size_t len = 0;

	for (size_t i = 0; i < value.len && len < HINT_TEXT_MAX; i++) {
		uint8_t c = value.bytes[i];

		out[len++] = (char)c;
		if ((c == '\'' || c == '"') && i + 1 < value.len && value.bytes[i + 1] == c)
			i++;
	}
	out[len] = '\0';
	return len;
}

void hint_problem_text(const struct hint_problem *p, char *out, size_t size)
{
	static const char *const texts[] = {
		[HINT_KEY_UNKNOWN] = "there is no such hint",
		[HINT_VALUE_BAD] = "this hint cannot have that value",
		[HINT_UNIT_LACKS] = "its value lacks a unit, such as ms or s",
		[HINT_NO_PAIR] = "a hint is key=value",
		[HINT_TOO_MANY] = "there are too many hints, or they are too long: the rest is not looked at",
	};
	int key = (int)MIN(p->key.len, (size_t)64), value = (int)MIN(p->value.len, (size_t)64);

	if (p->key.len == 0 && p->value.len == 0)
		snprintf(out, size, "hint ignored: %s", texts[p->kind]);
	else
		snprintf(out, size, "hint \"%.*s%s%.*s\" ignored: %s", key, (const char *)p->key.bytes,
			 p->kind == HINT_NO_PAIR ? "" : "=", value, value > 0 ? (const char *)p->value.bytes : "",
			 texts[p->kind]);
}
