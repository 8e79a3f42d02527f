/* See summary.h. */
#include "sql/summary.h"

#include "sql/lexer.h"

#include <strings.h>

#define TOKENS_MAX 4096u /* of a text; what is behind them is not looked at */
#define WORD_MAX   32u
#define DEPTH_MAX  64u

struct summarizer {
	struct lexer lexer;
	struct token now, next;
	char before[WORD_MAX];              /* the word in front of `now`, in upper case; "": it was none */
	uint32_t tokens, statements, depth; /* depth: of parentheses around `now` */
	uint64_t queries; /* by depth: a verb that FROM belongs to was there; not so in extract(x FROM y) */
	bool is_full;
	struct sql_summary *to;
	size_t len;
};

static bool is_word(const struct summarizer *s, const struct token *t, const char *word)
{
	size_t len = strlen(word);

	return token_is_identifier(t) && t->code != TOKEN_QUOTED && t->end - t->begin == len &&
	       strncasecmp((const char *)s->lexer.text + t->begin, word, len) == 0;
}

static bool is_one_of(const struct summarizer *s, const struct token *t, const char *const *words)
{
	while (*words && !is_word(s, t, *words))
		words++;
	return *words != NULL;
}

static size_t copy_upper(const struct summarizer *s, const struct token *t, char *to, size_t size)
{
	size_t len = MIN((size_t)(t->end - t->begin), size - 1);

	for (size_t i = 0; i < len; i++) {
		uint8_t c = s->lexer.text[t->begin + i];

		to[i] = (char)(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
	}
	to[len] = 0;
	return len;
}

static void advance(struct summarizer *s)
{
	s->before[0] = 0;
	if (token_is_identifier(&s->now) && s->now.code != TOKEN_QUOTED)
		(void)copy_upper(s, &s->now, s->before, sizeof(s->before));
	s->now = s->next;
	if (s->now.code == '(' && ++s->depth < DEPTH_MAX)
		s->queries &= ~(1ull << s->depth);
	if (s->now.code == ')' && s->depth > 0)
		s->depth--;
	if (s->next.code != TOKEN_END)
		lexer_next(&s->lexer, &s->next);
	if (++s->tokens > TOKENS_MAX)
		s->now.code = TOKEN_END;
}

/* A word is left out as a whole, and so is all behind it. */
static void put(struct summarizer *s, const void *bytes, size_t len, const char *separator)
{
	size_t between = s->len ? strlen(separator) : 0;

	if (s->is_full || s->len + between + len > SQL_SUMMARY_MAX) {
		s->is_full = true;
		return;
	}
	memcpy(s->to->text + s->len, separator, between);
	memcpy(s->to->text + s->len + between, bytes, len);
	s->len += between + len;
}

static void put_verb(struct summarizer *s, const char *verb)
{
	if (s->depth < DEPTH_MAX)
		s->queries |= 1ull << s->depth;
	put(s, verb, strlen(verb), " ");
}

/* a, a.b, "a"."b", from here on. In FROM, what a parenthesis follows is a function, and no table. */
static void put_name(struct summarizer *s, bool in_from)
{
	uint32_t begin = s->now.begin, end;

	if (!token_is_identifier(&s->now))
		return;
	for (;;) {
		end = s->now.end;
		if (s->next.code != '.' || s->next.begin != end)
			break;
		advance(s);
		if (!token_is_identifier(&s->next) || s->next.begin != s->now.end)
			break;
		advance(s);
	}
	if (!in_from || s->next.code != '(')
		put(s, s->lexer.text + begin, end - begin, " ");
}

static void skip_words(struct summarizer *s, const char *const *words)
{
	while (is_one_of(s, &s->next, words))
		advance(s);
}

/* The names behind FROM, or USING of a DELETE: a, b AS c, d e */
static void put_list(struct summarizer *s)
{
	static const char *const skipped[] = {"ONLY", "LATERAL", NULL};
	static const char *const ends[] = {"JOIN", "SELECT", "FOR", NULL};

	for (;;) {
		skip_words(s, skipped);
		if (!token_is_identifier(&s->next))
			return;
		advance(s);
		put_name(s, /* in_from= */ true);
		if (is_word(s, &s->next, "AS"))
			advance(s);
		/* an alias; what ends the list is no worse for being skipped, but for these */
		if (token_is_identifier(&s->next) && !is_one_of(s, &s->next, ends))
			advance(s);
		if (s->next.code != ',')
			return;
		advance(s);
	}
}

static void put_next_name(struct summarizer *s, bool in_from)
{
	static const char *const skipped[] = {"ONLY", "LATERAL", "IF", "NOT", "EXISTS", "CONCURRENTLY", NULL};

	skip_words(s, skipped);
	if (!token_is_identifier(&s->next))
		return;
	advance(s);
	put_name(s, in_from);
}

/* CREATE UNIQUE INDEX x: the kind of thing and its name. */
static void put_object(struct summarizer *s)
{
	static const char *const kinds[] = {
		"TABLE", "INDEX", "VIEW",   "SEQUENCE", "SCHEMA",    "FUNCTION",  "PROCEDURE", "DATABASE",    "ROLE",
		"USER",  "TYPE",  "DOMAIN", "TRIGGER",  "EXTENSION", "AGGREGATE", "POLICY",    "PUBLICATION", NULL};
	static const char *const skipped[] = {"OR",        "REPLACE",      "TEMP",   "TEMPORARY", "UNLOGGED", "UNIQUE",
					      "RECURSIVE", "MATERIALIZED", "GLOBAL", "LOCAL",     "FOREIGN",  NULL};
	char kind[WORD_MAX];

	skip_words(s, skipped);
	if (!is_one_of(s, &s->next, kinds))
		return;
	advance(s);
	put(s, kind, copy_upper(s, &s->now, kind, sizeof(kind)), " ");
	put_next_name(s, /* in_from= */ false);
}

static bool was(const struct summarizer *s, const char *word)
{
	return strcmp(s->before, word) == 0;
}

/* Verbs in the middle of a statement: of WITH, INSERT ... SELECT, subqueries. True: it was one. */
static bool take_verb(struct summarizer *s)
{
	if (is_word(s, &s->now, "SELECT")) {
		put_verb(s, "SELECT");
	} else if (is_word(s, &s->now, "INSERT") && is_word(s, &s->next, "INTO")) {
		put_verb(s, "INSERT");
		advance(s);
		put_next_name(s, /* in_from= */ false);
	} else if (is_word(s, &s->now, "MERGE") && is_word(s, &s->next, "INTO")) {
		put_verb(s, "MERGE");
		advance(s);
		put_next_name(s, /* in_from= */ false);
	} else if (is_word(s, &s->now, "DELETE") && is_word(s, &s->next, "FROM")) {
		put_verb(s, "DELETE");
		advance(s);
		put_next_name(s, /* in_from= */ false);
	} else if (is_word(s, &s->now, "UPDATE") && !was(s, "FOR") && !was(s, "KEY") && !was(s, "DO") &&
		   !was(s, "ON") && !was(s, "OR") && !was(s, "THEN") && !was(s, "AFTER") && !was(s, "BEFORE")) {
		put_verb(s, "UPDATE");
		put_next_name(s, /* in_from= */ false);
	} else {
		return false;
	}
	return true;
}

static void take_first(struct summarizer *s)
{
	static const char *const ddl[] = {"CREATE", "ALTER", "DROP", NULL};
	static const char *const named[] = {"TRUNCATE", "LOCK",    "COPY", "ANALYZE", "VACUUM",
					    "REINDEX",  "CLUSTER", "CALL", "TABLE",   NULL};
	static const char *const silent[] = {"WITH", NULL};
	char word[WORD_MAX];
	size_t len = copy_upper(s, &s->now, word, sizeof(word));

	s->statements++;
	if (s->statements == 1)
		memcpy(s->to->operation, word, MIN(len, SQL_OPERATION_MAX) + 1);
	if (is_one_of(s, &s->now, silent))
		return; /* what it does is said by the verbs that follow */
	if (s->statements > 1)
		put(s, "", 0, ";");
	if (take_verb(s))
		return;
	put(s, word, len, " ");
	if (is_one_of(s, &s->now, ddl)) {
		put_object(s);
	} else if (is_one_of(s, &s->now, named)) {
		if (is_word(s, &s->next, "TABLE"))
			advance(s);
		put_next_name(s, /* in_from= */ false);
	}
}

static bool is_in_query(const struct summarizer *s)
{
	return s->depth < DEPTH_MAX && s->queries >> s->depth & 1;
}

void sql_summarize(struct slice text, struct sql_summary *ret)
{
	struct summarizer s = {.lexer = {.text = text.bytes, .limit = (uint32_t)MIN(text.len, (size_t)UINT32_MAX - 1)},
			       .to = ret};
	bool begins = true;

	memset(ret, 0, sizeof(*ret));
	lexer_next(&s.lexer, &s.next);
	for (advance(&s); s.now.code != TOKEN_END && !s.is_full; advance(&s)) {
		if (s.now.code == ';') {
			begins = true;
			s.queries = s.depth = 0;
		} else if (begins && s.now.code == '(') {
			continue; /* (SELECT ...) UNION ... */
		} else if (begins) {
			begins = false;
			if (token_is_identifier(&s.now) && s.now.code != TOKEN_QUOTED)
				take_first(&s);
		} else if (!take_verb(&s)) {
			if (is_word(&s, &s.now, "FROM") && is_in_query(&s) && !was(&s, "DISTINCT"))
				put_list(&s);
			else if (is_word(&s, &s.now, "JOIN"))
				put_next_name(&s, /* in_from= */ true);
		}
	}
	ret->text[s.len] = 0;
	if (s.statements > 1)
		ret->operation[0] = 0;
}
