/* See understanding.h. */
#include "route/understanding.h"

#include "base/map.h"
#include "sql/changes.h"
#include "sql/lexer.h"
#include "sql/shape.h"

#define TEXT_SLOTS  4096u
#define SHAPE_SLOTS 4096u
#define SHAPED_MAX  2048u /* bytes of a text whose shape is looked at */

/* The hints of a text, and the beginning of it, which they point into. */
struct kept_hints {
	struct hints hints;
	uint8_t text[];
};

struct understanding_slot {
	uint64_t key; /* 0: free */
	uint32_t len;
	struct understanding understanding;
	struct kept_hints *kept;
};

struct shape_slot {
	uint64_t key; /* 0: free */
	struct access access;
};

void understandings_free(struct understandings *u)
{
	for (uint32_t i = 0; u->texts && i < TEXT_SLOTS; i++)
		free(u->texts[i].kept);
	free(u->texts);
	free(u->shapes);
	*u = UNDERSTANDINGS_INIT;
}

/* Spreads all bits of a small number over the whole. */
static uint64_t spread(uint64_t n)
{
	n *= 0x9e3779b97f4a7c15u;
	return n ^ (n >> 32);
}

/* Never 0. What isn't in the bytes themselves changes the key, so that what was meant otherwise isn't found. */
static uint64_t key_of(const void *bytes, size_t len, uint64_t number, bool standard_conforming_strings)
{
	uint64_t key = hash_bytes(bytes, len) ^ spread(number * 2 + standard_conforming_strings);

	return key ? key : 1;
}

/* ---- one text ---- */

static bool is_show_lsn(struct slice text)
{
	static const char *const words[] = {"show", "helios", ".", "lsn"};
	struct lexer l = {.text = text.bytes, .limit = (uint32_t)text.len};
	struct token t;

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		lexer_next(&l, &t);
		if (t.end - t.begin != strlen(words[i]) ||
		    strncasecmp((const char *)text.bytes + t.begin, words[i], t.end - t.begin) != 0)
			return false;
	}
	do
		lexer_next(&l, &t);
	while (t.code == ';');
	return t.code == TOKEN_END;
}

static struct understanding read_text(const struct catalog *catalog, struct slice text,
				      bool standard_conforming_strings)
{
	struct understanding result = {.access = {.level = ACCESS_WRITES, .reason = REASON_UNKNOWN},
				       .changes_catalog = true};
	const char *bytes = (const char *)text.bytes;
	struct scan scan;

	if (scan_text(bytes, text.len, UNDERSTOOD_BYTES_MAX, standard_conforming_strings, &scan) < 0)
		return result; /* out of memory */
	access_find(bytes, &scan, standard_conforming_strings, catalog, &result.access);
	result.changes_catalog = changes_catalog(text, &scan);
	result.shows_lsn = is_show_lsn(text);
	scan_free(&scan);
	return result;
}

/* ---- texts that differ in their values only ---- */

static bool begins_with(const uint8_t *shape, size_t len, const char *word)
{
	size_t word_len = strlen(word);

	return len > word_len && strncasecmp((const char *)shape, word, word_len) == 0 &&
	       memchr(" \t\r\n(", shape[word_len], 5);
}

/* One statement of a kind in which no value counts for anything (EXPLAIN has options that are numbers, SET ...). */
static bool is_of_use(const uint8_t *shape, size_t len)
{
	static const char *const words[] = {"select", "insert", "update", "delete", "values", "table", "with", "merge"};
	const uint8_t *semicolon = memchr(shape, ';', len);

	if (semicolon && semicolon != shape + len - 1)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (begins_with(shape, len, words[i]))
			return true;
	return false;
}

/* The key of the text's shape; 0: it has none of use. A shape has no backslashes, so it is read the same either way. */
static uint64_t shape_key(struct slice text, uint64_t number)
{
	uint8_t shape[SHAPED_MAX];
	size_t len = text.len <= sizeof(shape) ? shape_fold(text, shape) : 0;

	return len && is_of_use(shape, len) ? key_of(shape, len, number, /* standard_conforming_strings= */ true) : 0;
}

/* What has a shape has no comments, so no hints; and it is DML or a query. */
static struct understanding read_by_shape(struct understandings *u, const struct catalog *catalog, uint64_t number,
					  struct slice text, bool standard_conforming_strings)
{
	uint64_t key = shape_key(text, number);
	struct shape_slot *slot = &u->shapes[key & (SHAPE_SLOTS - 1)];
	struct understanding result;

	if (key && slot->key == key)
		return (struct understanding){.access = slot->access};
	result = read_text(catalog, text, standard_conforming_strings);
	if (key)
		*slot = (struct shape_slot){.key = key, .access = result.access};
	return result;
}

/* ---- hints ---- */

static bool says_anything(const struct hints *h)
{
	return h->comment_count > 0 || h->problem_count > 0;
}

/* A copy whose slices point into a copy of the text. NULL: there are none, or out of memory. */
static struct kept_hints *keep_hints(struct slice text)
{
	size_t len = MIN(text.len, (size_t)HINT_BYTES_MAX + 1); /* one more: that there is more counts, too */
	struct kept_hints *kept;
	struct hints hints;

	hints_read(text, &hints);
	kept = says_anything(&hints) ? malloc(sizeof(*kept) + len) : NULL;
	if (!kept)
		return NULL;
	memcpy(kept->text, text.bytes, len);
	hints_read(slice_make(kept->text, len), &kept->hints);
	return kept;
}

/* ---- all texts ---- */

static bool has_memory(struct understandings *u)
{
	if (likely(u->texts))
		return true;
	u->texts = calloc(TEXT_SLOTS, sizeof(*u->texts));
	u->shapes = calloc(SHAPE_SLOTS, sizeof(*u->shapes));
	if (u->texts && u->shapes)
		return true;
	understandings_free(u);
	return false;
}

/* Not remembered. */
static NEVER_INLINE const struct understanding *understand_once(struct understandings *u, const struct catalog *catalog,
								struct slice text, bool standard_conforming_strings)
{
	u->last = read_text(catalog, text, standard_conforming_strings);
	hints_read(text, &u->last_hints);
	u->last.hints = says_anything(&u->last_hints) ? &u->last_hints : NULL;
	return &u->last;
}

const struct understanding *understand(struct understandings *u, const struct catalog *catalog, uint64_t number,
				       struct slice text, bool standard_conforming_strings)
{
	struct understanding_slot *slot;
	uint64_t key;

	if (unlikely(text.len > UNDERSTOOD_BYTES_MAX || !has_memory(u)))
		return understand_once(u, catalog, text, standard_conforming_strings);
	key = key_of(text.bytes, text.len, number, standard_conforming_strings);
	slot = &u->texts[key & (TEXT_SLOTS - 1)];
	if (likely(slot->key == key && slot->len == text.len))
		return &slot->understanding;
	free(slot->kept);
	*slot = (struct understanding_slot){.key = key, .len = (uint32_t)text.len, .kept = keep_hints(text)};
	slot->understanding = read_by_shape(u, catalog, number, text, standard_conforming_strings);
	slot->understanding.hints = slot->kept ? &slot->kept->hints : NULL;
	return &slot->understanding;
}
