/* See accept.h. What is out of order in a header is skipped up to the next comma; nothing is copied. */
#include "admin/accept.h"

#include <strings.h>

#define Q_ONE 1000u /* thousandths */

/* How well an offer is liked. */
struct liking {
	uint32_t q, exactness; /* of the range that names it most exactly; 0: none does */
	size_t place;          /* of that in the header */
};

enum { EXACT_NOT, EXACT_ANY, EXACT_TYPE, EXACT_SUBTYPE }; /* and one more for each parameter */

/* ---- words ---- */

static void skip_space(const char **at)
{
	*at += strspn(*at, " \t");
}

/* Whatever is no separator. */
static struct slice take_word(const char **at)
{
	struct slice word = {(const uint8_t *)*at, strcspn(*at, " \t,;=/\"")};

	*at += word.len;
	return word;
}

/* A word, or what stands in quotes; escapes stay, for no value of ours has any. */
static struct slice take_value(const char **at)
{
	struct slice value;
	const char *end;

	if (**at != '"')
		return take_word(at);
	for (end = ++*at; *end && *end != '"'; end++)
		if (*end == '\\' && end[1])
			end++;
	value = slice_make(*at, (size_t)(end - *at));
	*at = *end ? end + 1 : end;
	return value;
}

static bool is_word(struct slice word, const char *text)
{
	return word.len == strlen(text) && strncasecmp((const char *)word.bytes, text, word.len) == 0;
}

static bool is_one_of(struct slice word, const char *texts)
{
	while (*texts) {
		size_t len = strcspn(texts, " ");

		if (slice_equal(word, slice_make(texts, len)))
			return true;
		texts += len + strspn(texts + len, " ");
	}
	return false;
}

/* 0.5, 1, 1.000; what is none is 0: not wanted. */
static uint32_t read_q(struct slice text)
{
	uint32_t q = 0, unit = Q_ONE / 10;

	if (text.len == 0 || text.len > 5 || text.bytes[0] < '0' || text.bytes[0] > '1' ||
	    (text.len > 1 && text.bytes[1] != '.'))
		return 0;
	q = (text.bytes[0] - '0') * Q_ONE;
	for (size_t i = 2; i < text.len; i++, unit /= 10) {
		if (text.bytes[i] < '0' || text.bytes[i] > '9')
			return 0;
		q += (text.bytes[i] - '0') * unit;
	}
	return q <= Q_ONE ? q : 0;
}

/* ---- ranges ---- */

static uint32_t match_type(struct slice type, struct slice subtype, const struct accept_offer *offer)
{
	if (is_word(type, "*") && is_word(subtype, "*"))
		return EXACT_ANY;
	if (!is_word(type, offer->type))
		return EXACT_NOT;
	return is_word(subtype, "*") ? EXACT_TYPE : is_word(subtype, offer->subtype) ? EXACT_SUBTYPE : EXACT_NOT;
}

/* False: another one is meant. */
static bool match_parameter(struct slice name, struct slice value, const struct accept_offer *offer,
			    uint32_t *exactness)
{
	for (size_t i = 0; i < ACCEPT_PARAMETERS && offer->parameters[i].name; i++) {
		if (!is_word(name, offer->parameters[i].name))
			continue;
		++*exactness;
		return is_one_of(value, offer->parameters[i].values);
	}
	return true;
}

/* Reads one range, up to its comma or the end. */
static struct liking read_range(const char **at, const struct accept_offer *offer)
{
	struct liking found = {.q = Q_ONE};
	struct slice type, subtype = {0};
	bool matches;

	skip_space(at);
	type = take_word(at);
	if (**at == '/') {
		++*at;
		subtype = take_word(at);
	}
	found.exactness = match_type(type, subtype, offer);
	matches = found.exactness != EXACT_NOT;
	for (skip_space(at); **at == ';'; skip_space(at)) {
		struct slice name, value = {0};

		++*at;
		skip_space(at);
		name = take_word(at);
		if (**at == '=') {
			++*at;
			value = take_value(at);
		}
		if (is_word(name, "q"))
			found.q = read_q(value);
		else
			matches = match_parameter(name, value, offer, &found.exactness) && matches;
	}
	if (!matches || (**at && **at != ','))
		found.exactness = EXACT_NOT;
	*at += strcspn(*at, ",");
	return found;
}

/* The range that names an offer most exactly says how much it is wanted. */
static struct liking like(const char *header, const struct accept_offer *offer)
{
	struct liking best = {0}, found;
	const char *at = header;

	for (size_t place = 0; *at; place++) {
		found = read_range(&at, offer);
		found.place = place;
		if (found.exactness > best.exactness || (found.exactness == best.exactness && found.q > best.q))
			best = found;
		at += *at == ',';
	}
	return best;
}

/* To say more of the same type is not to like it more. */
static bool is_better(const struct liking *a, const struct liking *b)
{
	if (a->q != b->q)
		return a->q > b->q;
	if (MIN(a->exactness, EXACT_SUBTYPE) != MIN(b->exactness, EXACT_SUBTYPE))
		return a->exactness > b->exactness;
	return a->place < b->place;
}

size_t accept_choose(const char *header, const struct accept_offer *offers, size_t count)
{
	struct liking best = {0};
	size_t chosen = 0;

	for (size_t i = 0; header && i < count; i++) {
		struct liking found = like(header, &offers[i]);

		if (found.exactness == EXACT_NOT || found.q == 0 || !is_better(&found, &best))
			continue;
		best = found;
		chosen = i;
	}
	return chosen;
}
