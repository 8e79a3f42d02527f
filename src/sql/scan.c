/*
 * Cuts a query string into statements and notes what is found anywhere in them; classify.c then looks at how each
 * one begins. A statement ends at a ; outside of parentheses (CREATE RULE ... DO (a; b)) and outside of the body of
 * CREATE FUNCTION ... BEGIN ATOMIC a; b; END.
 *
 * A token that could be a keyword or a name (almost all keywords are allowed as names somewhere) is decided by the
 * tokens before it. Where that isn't certain, the reading that makes a write of the statement is taken.
 */
#include "sql/scan_priv.h"

#define FUNCTION_MARKS (SCAN_SESSION_ADVISORY_LOCK | SCAN_ADVISORY_UNLOCK | SCAN_SET_CONFIG | SCAN_NEXTVAL)
#define IS_FUNCTION    BIT(31)

static const uint32_t functions[TOKEN_CODES] = {
#define GROUP(length, letter)
#define WORD(name, text)
#define FUNCTION(name, text, marks) [KW_##name] = IS_FUNCTION | (marks),
#include "sql/keywords.def"
#undef GROUP
#undef WORD
#undef FUNCTION
};

/* How a statement begins, token by token: CREATE [OR REPLACE] FUNCTION or PROCEDURE, END, or neither. */
enum routine {
	ROUTINE_START, /* nothing yet */
	ROUTINE_CREATE,
	ROUTINE_OR,
	ROUTINE_REPLACE,
	ROUTINE_NO, /* from here on it is known */
	ROUTINE_YES,
	ROUTINE_END,
};

struct walk {
	struct facts facts;
	uint16_t before[3];   /* codes of the last tokens, the latest first; 0: none */
	uint16_t quoted;      /* what the last quoted identifier would be without quotes, for calls of "nextval"( */
	uint16_t change;      /* the last token, if it may begin an INSERT, UPDATE, DELETE or MERGE in parentheses */
	uint32_t depth;       /* of parentheses */
	uint32_t bodies;      /* open BEGIN ATOMIC; they hold statements, so a CREATE FUNCTION fits in */
	enum routine routine; /* of the statement, or of the one in the innermost body */
	bool with_outside;    /* WITH, at depth 0 */
	bool insert_begins;   /* the last INSERT or MERGE is surely no name: the INTO behind it is its own */
	bool into_is_own;     /* the last INTO is one of those */
};

static enum routine routine_next(enum routine now, uint16_t code)
{
	switch (now) {
	case ROUTINE_START:
		return code == KW_CREATE ? ROUTINE_CREATE : code == KW_END ? ROUTINE_END : ROUTINE_NO;
	case ROUTINE_CREATE:
		if (code == KW_OR)
			return ROUTINE_OR;
		FALLTHROUGH;
	case ROUTINE_REPLACE:
		return code == KW_FUNCTION || code == KW_PROCEDURE ? ROUTINE_YES : ROUTINE_NO;
	case ROUTINE_OR:
		return code == KW_REPLACE ? ROUTINE_REPLACE : ROUTINE_NO;
	default:
		return now;
	}
}

/* BEGIN ATOMIC opens a body. Each statement in it ends with a ; so its END is the one where a statement would begin. */
static void see_body(struct walk *w, uint16_t code)
{
	if (w->depth > 0)
		return;
	if (code == KW_ATOMIC && w->before[0] == KW_BEGIN && w->routine == ROUTINE_YES) {
		w->bodies++;
		w->routine = ROUTINE_START;
	} else if (w->routine == ROUTINE_END && w->bodies > 0) {
		w->bodies--;
		w->routine = ROUTINE_NO;
	}
}

/*
 * Is a verb in WITH [RECURSIVE] a AS (...), b AS (...) the name of one of these? In the SEARCH and CYCLE clauses that
 * may follow it could be a column's, but whether it is can't be told by the word before, which could be a column's too.
 */
static bool names_query(const struct walk *w)
{
	uint16_t before = w->before[0];

	return before == KW_WITH || before == ',' || (before == KW_RECURSIVE && w->before[1] == KW_WITH);
}

/* The verb of a query or a change. True when it is the main one of a WITH. */
static bool see_main(struct walk *w, uint16_t code)
{
	if (!w->with_outside || w->depth > 0 || w->facts.main || names_query(w))
		return false;
	w->facts.main = code;
	return true;
}

/* In parentheses: may a statement begin here? No other symbol but a parenthesis comes before one. */
static bool may_begin_change(const struct walk *w)
{
	uint16_t before = w->before[0];

	switch (before) {
	case '(':
	case ')':
		return true;
	case KW_SELECT:
	case KW_AS:
	case KW_FOR:
	case KW_DO:
		return false; /* all reserved, so no column's name */
	case KW_KEY:
		return w->before[1] != KW_NO; /* FOR NO KEY UPDATE */
	default:
		return before >= TOKEN_WORD;
	}
}

static void see_change_verb(struct walk *w, uint16_t code)
{
	bool is_main = see_main(w, code);

	if (w->depth > 0 && may_begin_change(w))
		w->change = code;
	w->insert_begins = is_main || (w->depth > 0 && w->before[0] == '(');
}

/* The token behind a verb that may begin a change: does it bear that out? */
static void see_behind_change(struct walk *w, const struct token *t)
{
	switch (w->change) {
	case KW_INSERT:
	case KW_MERGE:
		w->facts.has_change |= t->code == KW_INTO;
		break;
	case KW_DELETE:
		w->facts.has_change |= t->code == KW_FROM;
		break;
	default: /* UPDATE */
		w->facts.has_change |= token_is_identifier(t) && t->code != KW_FROM;
	}
	w->change = 0;
}

/* FOR UPDATE, FOR NO KEY UPDATE, FOR SHARE, FOR KEY SHARE; not those of CREATE POLICY. */
static void see_lock(struct walk *w, uint16_t code)
{
	const uint16_t *before = w->before;
	bool locks = before[0] == KW_FOR || (before[0] == KW_KEY && code == KW_SHARE && before[1] == KW_FOR) ||
		     (before[0] == KW_KEY && code == KW_UPDATE && before[1] == KW_NO && before[2] == KW_FOR);

	if (locks && w->facts.has_query)
		w->facts.marks |= SCAN_FOR_UPDATE;
}

static void see_into(struct walk *w)
{
	uint16_t before = w->before[0];

	w->into_is_own = (before == KW_INSERT || before == KW_MERGE) && w->insert_begins;
	if (!w->into_is_own && before != KW_AS)
		w->facts.into = true;
}

static void see_temp(struct walk *w)
{
	const uint16_t *before = w->before;
	bool behind_into =
		before[0] == KW_INTO || (before[1] == KW_INTO && (before[0] == KW_LOCAL || before[0] == KW_GLOBAL));

	if (behind_into && !w->into_is_own)
		w->facts.into_temp = true;
}

static void see_function(struct walk *w, uint16_t code)
{
	if (functions[code]) {
		w->facts.has_effects = true;
		w->facts.marks |= functions[code] & FUNCTION_MARKS;
	}
}

/* A parenthesis: is it the list of arguments of a function that we know? */
static void see_open(struct walk *w)
{
	uint16_t before = w->before[0];

	if (before >= TOKEN_WORD)
		see_function(w, before == TOKEN_QUOTED ? w->quoted : before);
	w->depth++;
}

/* x.f may be f(x), whatever the type of x: ('s'::regclass).nextval. */
static void see_behind_dot(struct walk *w, uint16_t code)
{
	if (code >= TOKEN_WORD)
		see_function(w, code == TOKEN_QUOTED ? w->quoted : code);
}

/* Quoted names of functions call them all the same. Wrong case is no reason to look closer: it costs a mark too many.
 */
static void see_quoted(struct walk *w, const uint8_t *bytes, size_t len)
{
	char name[64];

	if (bytes[0] != '"') { /* U&"" */
		len = scan_identifier(slice_make(bytes, len), name, sizeof(name));
		w->quoted = len > 0 ? keyword_find((const uint8_t *)name, len) : TOKEN_WORD;
	} else {
		w->quoted = len > 2 ? keyword_find(bytes + 1, len - 2) : TOKEN_WORD;
	}
	if (w->quoted == KW_PG_TEMP)
		w->facts.marks |= SCAN_PG_TEMP;
}

/* pg_temp_12 is what pg_temp stands for in one session. */
static bool is_temp_schema(const uint8_t *bytes, size_t len)
{
	return len > 8 && bytes[7] == '_' && keyword_find(bytes, 7) == KW_PG_TEMP;
}

/* https://www.postgresql.org/docs/current/datatype-datetime.html#DATATYPE-DATETIME-SPECIAL-VALUES */
static bool is_clock(const uint8_t *bytes, size_t len)
{
	static const char *const words[] = {"now", "today", "tomorrow", "yesterday"};
	size_t at = 0;

	while (at < len && bytes[at] != '\'' && bytes[at] != '$')
		at++; /* E'', U&'' */
	if (at < len && bytes[at] == '$')
		do
			at++;
		while (at < len && bytes[at] != '$'); /* $tag$ */
	while (at < len && memchr("'$ \t\n\r\v\f", bytes[at], 8))
		at++;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (len - at >= strlen(words[i]) &&
		    strncasecmp((const char *)bytes + at, words[i], strlen(words[i])) == 0)
			return true;
	return false;
}

/* Keywords that mean something wherever they stand. */
static void see_keyword(struct walk *w, const struct token *t)
{
	struct facts *f = &w->facts;

	switch (t->code) {
	case KW_SELECT:
		f->has_select |= w->depth == 0;
		FALLTHROUGH;
	case KW_VALUES:
	case KW_TABLE:
		f->has_query = true;
		see_main(w, t->code);
		break;
	case KW_UPDATE:
		see_lock(w, t->code);
		FALLTHROUGH;
	case KW_INSERT:
	case KW_DELETE:
	case KW_MERGE:
		see_change_verb(w, t->code);
		break;
	case KW_SHARE:
		see_lock(w, t->code);
		break;
	case KW_WITH:
		f->has_with = true;
		w->with_outside |= w->depth == 0;
		break;
	case KW_INTO:
		see_into(w);
		break;
	case KW_TEMP:
	case KW_TEMPORARY:
		see_temp(w);
		break;
	case KW_EXECUTE:
		if (w->before[0] == KW_AS && w->depth == 0 && !f->has_select)
			f->execute = t->begin;
		break;
	case KW_PG_TEMP:
		f->marks |= SCAN_PG_TEMP;
		break;
	case KW_UESCAPE: /* U&"!0070g_temp" UESCAPE '!': nobody writes that in good faith, so it may be any name */
		if (w->before[0] == TOKEN_QUOTED) {
			f->marks |= SCAN_PG_TEMP | FUNCTION_MARKS;
			f->has_effects = true;
		}
		break;
	case KW_ATOMIC:
	case KW_END:
		see_body(w, t->code);
		break;
	default:
		break;
	}
}

/*
 * A token's code, or TOKEN_WORD for a keyword that is surely a name: behind a dot (a.into), and AS AS. Functions and
 * schemas stay what they are: pg_catalog.nextval, database.pg_temp.
 */
static uint16_t code_in_place(const struct walk *w, uint16_t code)
{
	if (code <= TOKEN_KEYWORDS || functions[code] || code == KW_PG_TEMP)
		return code;
	return w->before[0] == '.' || (code == KW_AS && w->before[0] == KW_AS) ? TOKEN_WORD : code;
}

static void see_token(struct walk *w, const uint8_t *text, const struct token *t)
{
	uint16_t code = code_in_place(w, t->code);

	if (unlikely(w->routine < ROUTINE_NO))
		w->routine = routine_next(w->routine, code);
	if (unlikely(w->change))
		see_behind_change(w, t);
	if (code > TOKEN_KEYWORDS)
		see_keyword(w, t);
	else if (code == '(')
		see_open(w);
	else if (code == ')')
		w->depth -= w->depth > 0;
	else if (code == ';')
		w->routine = w->depth == 0 ? ROUTINE_START : w->routine; /* in a body: the next statement */
	else if (code == TOKEN_QUOTED)
		see_quoted(w, text + t->begin, t->end - t->begin);
	else if (code == TOKEN_STRING && is_clock(text + t->begin, t->end - t->begin))
		w->facts.marks |= SCAN_CLOCK_LITERAL;
	else if (code == TOKEN_WORD && is_temp_schema(text + t->begin, t->end - t->begin))
		w->facts.marks |= SCAN_PG_TEMP;
	if (unlikely(w->before[0] == '.'))
		see_behind_dot(w, code);
	w->before[2] = w->before[1];
	w->before[1] = w->before[0];
	w->before[0] = code;
}

/* The next statement that isn't empty; false at the end of the text. */
static bool statement_read(struct lexer *l, struct statement *s)
{
	struct walk w = {.routine = ROUTINE_START};
	struct token t;

	do
		lexer_next(l, &t);
	while (t.code == ';');
	if (t.code == TOKEN_END)
		return false;

	*s = (struct statement){.begin = t.begin};
	w.facts.first = t.code;
	for (; t.code != TOKEN_END; lexer_next(l, &t)) {
		if (t.code == ';' && w.depth == 0 && w.bodies == 0)
			break;
		see_token(&w, l->text, &t);
		s->end = t.end;
	}
	s->marks = w.facts.marks;
	if (w.facts.has_change && (w.facts.has_with || w.facts.first == KW_COPY))
		s->marks |= SCAN_WRITING_CTE;
	statement_classify(l, &w.facts, s);
	return true;
}

/* Room for one statement more, which is neither the first nor beyond the maximum. */
static int scan_grow(struct scan *s)
{
	struct statement *grown;

	if (s->count > 1 && (s->count & (s->count - 1))) /* grows by doubling, at powers of two */
		return 0;
	grown = reallocarray(s->statements == &s->first ? NULL : s->statements, 2 * (size_t)s->count, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	if (s->count == 1)
		grown[0] = s->first;
	s->statements = grown;
	return 0;
}

static int scan_add(struct scan *s, const struct statement *statement)
{
	if (s->count == 0) {
		s->first = *statement;
	} else if (s->count < SCAN_STATEMENTS_MAX) {
		int r = scan_grow(s);

		if (r < 0)
			return r;
		s->statements[s->count] = *statement;
	} else {
		s->truncated = true;
	}
	s->count++;
	s->marks |= statement->marks;
	return 0;
}

int scan_text(const char *text, size_t len, size_t max, bool standard_conforming_strings, struct scan *ret)
{
	size_t limit = MIN(max > 0 ? MIN(len, max) : len, (size_t)UINT32_MAX - 1);
	struct lexer lexer = {
		.text = (const uint8_t *)text, .limit = (uint32_t)limit, .backslashes = !standard_conforming_strings};
	struct statement statement;

	*ret = (struct scan){.truncated = limit < len};
	ret->statements = &ret->first;
	while (statement_read(&lexer, &statement)) {
		int r;

		ret->truncated |= lexer.unterminated;
		if (ret->truncated && lexer.at == lexer.limit && statement.class == STATEMENT_READ)
			statement.class = STATEMENT_UNKNOWN; /* who knows how it goes on */
		r = scan_add(ret, &statement);
		if (r < 0) {
			scan_free(ret);
			return r;
		}
	}
	ret->truncated |= lexer.unterminated;
	return 0;
}

void scan_free(struct scan *s)
{
	if (s->statements != &s->first)
		free(s->statements);
	*s = (struct scan){.statements = &s->first};
}
