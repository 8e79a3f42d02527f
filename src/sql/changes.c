/* See changes.h. */
#include "sql/changes.h"

static const char *const ddl_verbs[] = {"create", "alter", "import"};

static bool is_blank(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static const char *skip_blanks(const char *at, const char *end)
{
	while (at < end && is_blank(*at))
		at++;
	return at;
}

static bool is_part_of_name(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '$' ||
	       (uint8_t)c >= 0x80;
}

static bool is_word(const char *at, const char *end, const char *word)
{
	size_t len = strlen(word);

	return (size_t)(end - at) > len && strncasecmp(at, word, len) == 0 && !is_part_of_name(at[len]);
}

static bool is_any_word(const char *at, const char *end, const char *const *words, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (is_word(at, end, words[i]))
			return true;
	return false;
}

/* A DO block is a string in another language: does a word that changes the schema stand anywhere in it? */
static bool may_hold_ddl(const char *at, const char *end)
{
	for (; at < end; at++)
		if (is_any_word(at, end, ddl_verbs, ARRAY_SIZE(ddl_verbs)))
			return true;
	return false;
}

static bool statement_changes_catalog(const char *text, const struct statement *st)
{
	static const char *const harmless[] = {"index",      "unique",      "role",         "user",
					       "group",      "trigger",     "database",     "tablespace",
					       "statistics", "publication", "subscription", "system"};
	const char *at = text + st->begin, *end = text + st->end;

	if (st->class == STATEMENT_UTILITY)
		return is_word(at, end, "do") && may_hold_ddl(at, end);
	if (st->class != STATEMENT_DDL || st->verb == VERB_CREATE_TEMP ||
	    !is_any_word(at, end, ddl_verbs, ARRAY_SIZE(ddl_verbs)))
		return false;
	while (is_part_of_name(*at)) /* something stands behind it */
		at++;
	at = skip_blanks(at, end);
	return !is_any_word(at, end, harmless, ARRAY_SIZE(harmless));
}

/* Of what was not scanned: does such a word follow a semicolon? One that a comment hides is seen by its tag, at the
 * end. */
static bool rest_changes_catalog(struct slice text)
{
	const char *at = (const char *)text.bytes, *end = at + text.len;

	while (at < end && (at = memchr(at, ';', (size_t)(end - at)))) {
		at = skip_blanks(at + 1, end);
		if (is_any_word(at, end, ddl_verbs, ARRAY_SIZE(ddl_verbs)))
			return true;
	}
	return false;
}

bool changes_catalog(struct slice text, const struct scan *scan)
{
	for (uint32_t i = 0; i < MIN(scan->count, SCAN_STATEMENTS_MAX); i++)
		if (statement_changes_catalog((const char *)text.bytes, &scan->statements[i]))
			return true;
	return scan->truncated && rest_changes_catalog(text);
}
