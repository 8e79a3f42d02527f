/* See intent.h. */
#include "sql/intent.h"

#include "sql/lexer.h"
#include "sql/scan.h"

#include <strings.h>

static const char *const names[INTENTS] = {
	[INTENT_UNKNOWN] = "unknown",     [INTENT_TRANSACTION] = "transaction", [INTENT_UTILITY] = "utility",
	[INTENT_RETRIEVAL] = "retrieval", [INTENT_STORAGE] = "storage",         [INTENT_SCHEMA] = "schema",
};

/* What a class says by itself; those of reads, writes and COPY need a second look. */
static const uint8_t of_class[] = {
	[STATEMENT_EMPTY] = INTENT_UNKNOWN,   [STATEMENT_READ] = INTENT_RETRIEVAL,
	[STATEMENT_WRITE] = INTENT_STORAGE,   [STATEMENT_DDL] = INTENT_SCHEMA,
	[STATEMENT_COPY] = INTENT_STORAGE,    [STATEMENT_TRANSACTION] = INTENT_TRANSACTION,
	[STATEMENT_SESSION] = INTENT_UTILITY, [STATEMENT_UTILITY] = INTENT_UTILITY,
	[STATEMENT_UNKNOWN] = INTENT_UNKNOWN,
};

struct looked_at {
	const uint8_t *text;
	const struct statement *s;
	bool backslashes;
};

static bool begins_with(const struct looked_at *l, const char *word)
{
	size_t len = strlen(word), have = l->s->end - l->s->begin;

	return have >= len && strncasecmp((const char *)l->text + l->s->begin, word, len) == 0;
}

/* COPY ... TO: what is copied has its own TO only in parentheses. */
static bool copies_out(const struct looked_at *l)
{
	struct lexer lexer = {.text = l->text, .at = l->s->begin, .limit = l->s->end, .backslashes = l->backslashes};
	uint32_t depth = 0;
	struct token t;

	for (lexer_next(&lexer, &t); t.code != TOKEN_END; lexer_next(&lexer, &t)) {
		if (t.code == '(')
			depth++;
		else if (t.code == ')')
			depth -= depth > 0;
		else if (depth == 0 && (t.code == KW_FROM || t.code == KW_TO))
			return t.code == KW_TO;
	}
	return false;
}

static enum sql_intent intent_of(const struct looked_at *l)
{
	enum statement_class class = l->s->class;
	bool is_query =
		begins_with(l, "select") || begins_with(l, "values") || begins_with(l, "table") || begins_with(l, "(");

	if (begins_with(l, "explain") || begins_with(l, "show"))
		return INTENT_UTILITY;
	if (l->s->marks & SCAN_WRITING_CTE)
		return INTENT_STORAGE;
	if (begins_with(l, "fetch") || (class == STATEMENT_WRITE && is_query) ||
	    (class == STATEMENT_COPY && copies_out(l)))
		return INTENT_RETRIEVAL;
	return (enum sql_intent)of_class[class];
}

enum sql_intent sql_intent(struct slice text, bool standard_conforming_strings)
{
	enum sql_intent intent = INTENT_UNKNOWN;
	struct scan scan;

	if (scan_text((const char *)text.bytes, text.len, 0, standard_conforming_strings, &scan) < 0)
		return INTENT_UNKNOWN;
	for (uint32_t i = 0; i < MIN(scan.count, SCAN_STATEMENTS_MAX); i++) {
		struct looked_at l = {
			.text = text.bytes, .s = &scan.statements[i], .backslashes = !standard_conforming_strings};

		intent = MAX(intent, intent_of(&l));
	}
	scan_free(&scan);
	return intent;
}

const char *sql_intent_name(enum sql_intent intent)
{
	return names[intent];
}
