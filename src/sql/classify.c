/*
 * Names a statement by how it begins. The table at the end gives each first word its class and, where more must be
 * known, a function that reads on; most statements need no second look. Words that the server also takes for names
 * (SET session = 1, DEALLOCATE prepare) are told apart by the token behind them.
 *
 * A statement that the server would refuse may get any class: it does nothing. What is malformed here but begins like
 * something that changes the session keeps its verb, in case a newer server knows it.
 */
#include "sql/scan_priv.h"

struct parser {
	struct lexer lexer; /* ends with the statement */
	struct token token; /* not yet taken */
	const struct facts *facts;
	struct statement *s;
};

struct head {
	enum statement_class class;
	enum statement_verb verb;
	void (*read_on)(struct parser *p); /* token: behind the first */
};

static const struct head heads[TOKEN_CODES];

static void next(struct parser *p)
{
	lexer_next(&p->lexer, &p->token);
}

static bool at(const struct parser *p, uint16_t code)
{
	return p->token.code == code;
}

static bool accept(struct parser *p, uint16_t code)
{
	if (!at(p, code))
		return false;
	next(p);
	return true;
}

static bool accept_either(struct parser *p, uint16_t one, uint16_t other)
{
	return accept(p, one) || accept(p, other);
}

/* The code of the token behind the one at hand. */
static uint16_t peek(const struct parser *p)
{
	struct lexer ahead = p->lexer;
	struct token t;

	lexer_next(&ahead, &t);
	return t.code;
}

static struct slice slice_of(const struct parser *p, uint32_t begin, uint32_t end)
{
	return slice_make(p->lexer.text + begin, end - begin);
}

static struct slice rest(const struct parser *p)
{
	return at(p, TOKEN_END) ? slice_make(NULL, 0) : slice_of(p, p->token.begin, p->s->end);
}

/* An identifier with its UESCAPE, or empty. */
static struct slice take_name(struct parser *p)
{
	uint32_t begin = p->token.begin, end = p->token.end;
	bool quoted = at(p, TOKEN_QUOTED);

	if (!token_is_identifier(&p->token))
		return slice_make(NULL, 0);
	next(p);
	if (quoted && accept(p, KW_UESCAPE)) {
		end = p->token.end;
		next(p);
	}
	return slice_of(p, begin, end);
}

/* a, or a.b.c for a parameter of an extension. */
static struct slice take_dotted_name(struct parser *p)
{
	struct slice name = take_name(p), more;

	while (name.len > 0 && accept(p, '.')) {
		more = take_name(p);
		if (more.len > 0)
			name.len = (size_t)(more.bytes + more.len - name.bytes);
	}
	return name;
}

/* [word] name: the word is the name when nothing follows it. */
static struct slice take_name_behind(struct parser *p, uint16_t word)
{
	if (at(p, word) && peek(p) != TOKEN_END)
		next(p);
	return take_name(p);
}

static void read_name(struct parser *p)
{
	p->s->name = take_name(p);
}

static void classify_as_query(struct parser *p)
{
	const struct facts *f = p->facts;
	bool writes = f->into || f->has_effects || (p->s->marks & (SCAN_FOR_UPDATE | SCAN_WRITING_CTE));

	p->s->class = writes ? STATEMENT_WRITE : STATEMENT_READ;
	if (f->into_temp || (f->into && (p->s->marks & SCAN_PG_TEMP)))
		p->s->verb = VERB_CREATE_TEMP;
}

static void classify_with(struct parser *p)
{
	uint16_t main = p->facts->main;

	classify_as_query(p);
	if (main == KW_INSERT || main == KW_UPDATE || main == KW_DELETE || main == KW_MERGE)
		p->s->class = STATEMENT_WRITE;
}

/* Nothing else begins with one. */
static void classify_parenthesis(struct parser *p)
{
	while (accept(p, '('))
		;
	if (at(p, KW_SELECT) || at(p, KW_VALUES) || at(p, KW_TABLE) || at(p, KW_WITH))
		classify_as_query(p);
	else
		p->s->class = STATEMENT_UNKNOWN;
}

static void classify_execute(struct parser *p)
{
	p->s->verb = VERB_EXECUTE;
	read_name(p);
}

/* CREATE ... TABLE ... AS EXECUTE name: then that name too. */
static void classify_create(struct parser *p)
{
	bool scoped, temp;

	if (accept(p, KW_OR))
		accept(p, KW_REPLACE);
	scoped = accept_either(p, KW_LOCAL, KW_GLOBAL);
	temp = accept_either(p, KW_TEMP, KW_TEMPORARY) || scoped;
	if (p->facts->execute > 0 && (at(p, KW_TABLE) || peek(p) == KW_TABLE)) { /* UNLOGGED TABLE */
		p->lexer.at = p->facts->execute;
		next(p);
		next(p);
		classify_execute(p);
	}
	if (temp || (p->s->marks & SCAN_PG_TEMP))
		p->s->verb = VERB_CREATE_TEMP;
}

/* [FALSE | OFF | 0 | anything else] behind an option of EXPLAIN. */
static bool take_option_value(struct parser *p)
{
	bool zero = at(p, TOKEN_NUMBER) && slice_equal(slice_of(p, p->token.begin, p->token.end), SLICE_LITERAL("0"));
	bool off = at(p, KW_FALSE) || at(p, KW_OFF) || zero;

	while (!at(p, ',') && !at(p, ')') && !at(p, TOKEN_END))
		next(p);
	return !off;
}

/* (ANALYZE, BUFFERS off, ...). An option in quotes may be ANALYZE, and it may be there twice: any will do. */
static bool take_explain_options(struct parser *p)
{
	bool analyze = false;

	do {
		next(p);
		if (at(p, KW_ANALYZE) || at(p, KW_ANALYSE) || at(p, TOKEN_QUOTED)) {
			next(p);
			analyze |= take_option_value(p);
		} else {
			take_option_value(p);
		}
	} while (at(p, ','));
	accept(p, ')');
	return analyze;
}

/* VALUES isn't among them: an option could have that name, and a VALUES read as options has no ANALYZE in it. */
static bool begins_query(uint16_t code)
{
	return code == KW_SELECT || code == KW_TABLE || code == KW_WITH || code == '(';
}

static void classify_head(struct parser *p);

/* With ANALYZE it runs, so it is what it runs. Without, EXECUTE still needs its prepared statement. */
static void classify_explain(struct parser *p)
{
	bool analyze = false;

	if (at(p, '(') && !begins_query(peek(p))) {
		analyze = take_explain_options(p);
	} else {
		analyze = accept_either(p, KW_ANALYZE, KW_ANALYSE);
		accept(p, KW_VERBOSE);
	}
	if (at(p, KW_EXPLAIN)) /* not allowed, and we won't nest */
		p->s->class = STATEMENT_UNKNOWN;
	else if (analyze)
		classify_head(p);
	else if (accept(p, KW_EXECUTE))
		classify_execute(p);
}

/* PREPARE name ...; but PREPARE TRANSACTION 'id'. */
static void classify_prepare(struct parser *p)
{
	if (at(p, KW_TRANSACTION) && peek(p) == TOKEN_STRING) {
		p->s->class = STATEMENT_TRANSACTION;
		p->s->verb = VERB_PREPARE_TRANSACTION;
	} else {
		read_name(p);
	}
}

static void classify_deallocate(struct parser *p)
{
	if (at(p, KW_PREPARE) && peek(p) != TOKEN_END)
		next(p);
	if (at(p, KW_ALL))
		p->s->verb = VERB_DEALLOCATE_ALL;
	else
		read_name(p);
}

/* DECLARE name [options] CURSOR [WITH HOLD] FOR */
static void classify_declare(struct parser *p)
{
	struct slice name = take_name(p);

	while (!at(p, KW_CURSOR) && !at(p, KW_FOR) && !at(p, TOKEN_END))
		next(p);
	if (!accept(p, KW_CURSOR) || !accept(p, KW_WITH) || !accept(p, KW_HOLD))
		return;
	p->s->verb = VERB_DECLARE_HOLD;
	p->s->name = name;
}

static void classify_close(struct parser *p)
{
	if (!at(p, KW_ALL))
		read_name(p);
}

static void classify_discard(struct parser *p)
{
	if (at(p, KW_ALL))
		p->s->verb = VERB_DISCARD_ALL;
}

static void classify_start(struct parser *p)
{
	if (at(p, KW_TRANSACTION))
		p->s->verb = VERB_BEGIN;
	else
		p->s->class = STATEMENT_UNKNOWN;
}

/* [WORK | TRANSACTION] [AND [NO] CHAIN] */
static void read_chain(struct parser *p)
{
	accept_either(p, KW_WORK, KW_TRANSACTION);
	if (accept(p, KW_AND) && at(p, KW_CHAIN))
		p->s->marks |= SCAN_CHAIN;
}

static void classify_commit(struct parser *p)
{
	if (at(p, KW_PREPARED))
		p->s->verb = VERB_OTHER;
	else
		read_chain(p);
}

static void classify_rollback(struct parser *p)
{
	if (at(p, KW_PREPARED)) {
		p->s->verb = VERB_OTHER;
		return;
	}
	read_chain(p);
	if (!accept(p, KW_TO))
		return;
	p->s->verb = VERB_ROLLBACK_TO;
	p->s->name = take_name_behind(p, KW_SAVEPOINT);
}

static void classify_release(struct parser *p)
{
	p->s->name = take_name_behind(p, KW_SAVEPOINT);
}

/* After SET or SET LOCAL: is the word at hand the parameter's name, whatever else it could mean? */
static bool is_assigned(const struct parser *p)
{
	switch (peek(p)) {
	case '=':
	case '.':
	case KW_TO:
	case KW_FROM:
		return true;
	default:
		return false;
	}
}

/* Is the SESSION at hand the one of SESSION AUTHORIZATION, or CHARACTERISTICS, and not of SET [SESSION | LOCAL]? */
static bool is_session_noun(const struct parser *p)
{
	uint16_t behind = peek(p);

	return behind == KW_AUTHORIZATION || behind == KW_CHARACTERISTICS;
}

static void take_scope(struct parser *p)
{
	if (is_assigned(p))
		return;
	if (accept(p, KW_LOCAL))
		p->s->verb = VERB_SET_LOCAL;
	else if (at(p, KW_SESSION) && !is_session_noun(p))
		next(p);
}

/* The notations that are no `name TO value`. False for what is. */
static bool take_special_setting(struct parser *p, struct slice *name)
{
	if (at(p, KW_SESSION)) {
		next(p);
		if (accept(p, KW_AUTHORIZATION)) {
			*name = slice_str("session_authorization");
			return true;
		}
		if (peek(p) != KW_AS)
			return false; /* SET SESSION characteristics = 1 */
		next(p);
		next(p);
		accept(p, KW_TRANSACTION);
		*name = slice_str("session characteristics");
	} else if (at(p, KW_TIME) && peek(p) == KW_ZONE) {
		next(p);
		next(p);
		*name = slice_str("timezone");
	} else if (at(p, KW_XML) && peek(p) == KW_OPTION) {
		next(p);
		next(p);
		*name = slice_str("xmloption");
	} else if (accept(p, KW_SCHEMA)) {
		*name = slice_str("search_path");
	} else if (accept(p, KW_NAMES)) {
		*name = slice_str("client_encoding");
	} else {
		return false;
	}
	return true;
}

/* Both say DEFAULT in their own way. */
static bool is_default(const struct parser *p, struct slice name)
{
	return (at(p, KW_LOCAL) && slice_equal(name, SLICE_LITERAL("timezone"))) ||
	       (at(p, TOKEN_END) && slice_equal(name, SLICE_LITERAL("client_encoding")));
}

/* Who the session is decides what it may do, so callers want to know without looking at names. */
static void mark_role(struct statement *s)
{
	char name[64];
	size_t len = scan_identifier(s->name, name, sizeof(name));
	struct slice plain = slice_make(name, len);

	if (slice_equal(plain, SLICE_LITERAL("role")) || slice_equal(plain, SLICE_LITERAL("session_authorization")))
		s->marks |= SCAN_ROLE_OR_AUTH;
}

static void classify_set(struct parser *p)
{
	struct statement *s = p->s;

	take_scope(p);
	if ((at(p, KW_TRANSACTION) || at(p, KW_CONSTRAINTS)) && !is_assigned(p)) {
		s->verb = VERB_SET_LOCAL;
		return;
	}
	if (!is_assigned(p) && take_special_setting(p, &s->name)) {
		s->value = is_default(p, s->name) ? slice_str("DEFAULT") : rest(p);
	} else {
		s->name = take_dotted_name(p); /* also of SET ROLE x, which has nothing between the two */
		accept_either(p, KW_TO, '=');
		if (!at(p, KW_FROM))
			s->value = rest(p);
	}
	if (s->verb == VERB_SET)
		mark_role(s);
}

static void classify_reset(struct parser *p)
{
	uint16_t behind = peek(p);

	if (at(p, KW_ALL)) {
		p->s->verb = VERB_RESET_ALL;
		return;
	}
	if (at(p, KW_TIME) && behind == KW_ZONE)
		p->s->name = slice_str("timezone");
	else if (at(p, KW_SESSION) && behind == KW_AUTHORIZATION)
		p->s->name = slice_str("session_authorization");
	else if (at(p, KW_TRANSACTION) && behind != TOKEN_END && behind != '.')
		p->s->name = slice_str("transaction_isolation");
	else
		p->s->name = take_dotted_name(p);
	mark_role(p->s);
}

static const struct head heads[TOKEN_CODES] = {
	['('] = {STATEMENT_READ, VERB_OTHER, classify_parenthesis},
	[KW_SELECT] = {STATEMENT_READ, VERB_OTHER, classify_as_query},
	[KW_SHOW] = {STATEMENT_READ},
	[KW_TABLE] = {STATEMENT_READ, VERB_OTHER, classify_as_query},
	[KW_VALUES] = {STATEMENT_READ, VERB_OTHER, classify_as_query},
	[KW_WITH] = {STATEMENT_READ, VERB_OTHER, classify_with},

	[KW_DELETE] = {STATEMENT_WRITE},
	[KW_INSERT] = {STATEMENT_WRITE},
	[KW_MERGE] = {STATEMENT_WRITE},
	[KW_UPDATE] = {STATEMENT_WRITE},

	[KW_ALTER] = {STATEMENT_DDL},
	[KW_COMMENT] = {STATEMENT_DDL},
	[KW_CREATE] = {STATEMENT_DDL, VERB_OTHER, classify_create},
	[KW_DROP] = {STATEMENT_DDL},
	[KW_GRANT] = {STATEMENT_DDL},
	[KW_IMPORT] = {STATEMENT_DDL},
	[KW_REASSIGN] = {STATEMENT_DDL},
	[KW_REVOKE] = {STATEMENT_DDL},
	[KW_SECURITY] = {STATEMENT_DDL},
	[KW_TRUNCATE] = {STATEMENT_DDL},

	[KW_ABORT] = {STATEMENT_TRANSACTION, VERB_ROLLBACK, read_chain},
	[KW_BEGIN] = {STATEMENT_TRANSACTION, VERB_BEGIN},
	[KW_COMMIT] = {STATEMENT_TRANSACTION, VERB_COMMIT, classify_commit},
	[KW_END] = {STATEMENT_TRANSACTION, VERB_COMMIT, read_chain},
	[KW_RELEASE] = {STATEMENT_TRANSACTION, VERB_RELEASE, classify_release},
	[KW_ROLLBACK] = {STATEMENT_TRANSACTION, VERB_ROLLBACK, classify_rollback},
	[KW_SAVEPOINT] = {STATEMENT_TRANSACTION, VERB_SAVEPOINT, read_name},
	[KW_START] = {STATEMENT_TRANSACTION, VERB_OTHER, classify_start},

	[KW_CLOSE] = {STATEMENT_SESSION, VERB_CLOSE_CURSOR, classify_close},
	[KW_DEALLOCATE] = {STATEMENT_SESSION, VERB_DEALLOCATE, classify_deallocate},
	[KW_DECLARE] = {STATEMENT_SESSION, VERB_OTHER, classify_declare},
	[KW_DISCARD] = {STATEMENT_SESSION, VERB_DISCARD_OTHER, classify_discard},
	[KW_EXECUTE] = {STATEMENT_SESSION, VERB_EXECUTE, classify_execute},
	[KW_LISTEN] = {STATEMENT_SESSION, VERB_LISTEN, read_name},
	[KW_LOAD] = {STATEMENT_SESSION, VERB_LOAD},
	[KW_PREPARE] = {STATEMENT_SESSION, VERB_PREPARE, classify_prepare},
	[KW_RESET] = {STATEMENT_SESSION, VERB_RESET, classify_reset},
	[KW_SET] = {STATEMENT_SESSION, VERB_SET, classify_set},
	[KW_UNLISTEN] = {STATEMENT_SESSION, VERB_UNLISTEN, read_name},

	[KW_COPY] = {STATEMENT_COPY},

	[KW_ANALYSE] = {STATEMENT_UTILITY},
	[KW_ANALYZE] = {STATEMENT_UTILITY},
	[KW_CALL] = {STATEMENT_UTILITY},
	[KW_CHECKPOINT] = {STATEMENT_UTILITY},
	[KW_CLUSTER] = {STATEMENT_UTILITY},
	[KW_DO] = {STATEMENT_UTILITY},
	[KW_EXPLAIN] = {STATEMENT_UTILITY, VERB_OTHER, classify_explain},
	[KW_FETCH] = {STATEMENT_UTILITY},
	[KW_LOCK] = {STATEMENT_UTILITY},
	[KW_MOVE] = {STATEMENT_UTILITY},
	[KW_NOTIFY] = {STATEMENT_UTILITY},
	[KW_REFRESH] = {STATEMENT_UTILITY},
	[KW_REINDEX] = {STATEMENT_UTILITY},
	[KW_REPACK] = {STATEMENT_UTILITY},
	[KW_VACUUM] = {STATEMENT_UTILITY},
	[KW_WAIT] = {STATEMENT_UTILITY},
};

static void classify_head(struct parser *p)
{
	const struct head *head = &heads[p->token.code];

	p->s->class = head->class == STATEMENT_EMPTY ? STATEMENT_UNKNOWN : head->class;
	p->s->verb = head->verb;
	if (!head->read_on)
		return;
	if (!at(p, '(')) /* those are counted by their function */
		next(p);
	head->read_on(p);
}

void statement_classify(const struct lexer *text, const struct facts *facts, struct statement *s)
{
	struct parser p = {.lexer = *text, .facts = facts, .s = s};

	p.lexer.at = s->begin;
	p.lexer.limit = s->end;
	next(&p);
	classify_head(&p);
}

const char *statement_class_name(enum statement_class class)
{
	static const char *const names[] = {
		[STATEMENT_EMPTY] = "empty",
		[STATEMENT_READ] = "read",
		[STATEMENT_WRITE] = "write",
		[STATEMENT_DDL] = "ddl",
		[STATEMENT_TRANSACTION] = "transaction",
		[STATEMENT_SESSION] = "session",
		[STATEMENT_COPY] = "copy",
		[STATEMENT_UTILITY] = "utility",
		[STATEMENT_UNKNOWN] = "unknown",
	};

	return (unsigned int)class < ARRAY_SIZE(names) ? names[class] : "unknown";
}
