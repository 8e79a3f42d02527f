/*
 * Each statement's class says what it is; the table at the end says where that may run, and which of them must be
 * looked into. Queries go on to calls.c.
 */
#include "sql/access_priv.h"

/* What one statement is read with. */
struct reading {
	const char *text;
	bool conforming;
	const struct catalog *catalog;
	const struct statement *s;
	struct access *ret;
	struct lexer lexer; /* of the statement, behind the token at hand */
	struct token token;
};

static struct verdict verdict(enum access_level level, enum access_reason reason)
{
	return (struct verdict){level, reason};
}

static void next(struct reading *r)
{
	lexer_next(&r->lexer, &r->token);
}

static bool at(const struct reading *r, const char *word)
{
	return token_is(&r->lexer, &r->token, word);
}

static bool accept(struct reading *r, const char *word)
{
	if (!at(r, word))
		return false;
	next(r);
	return true;
}

static struct reading reading_begin(const char *text, bool conforming, const struct catalog *catalog,
				    const struct statement *s, struct access *ret)
{
	struct reading r = {.text = text, .conforming = conforming, .catalog = catalog, .s = s, .ret = ret};

	r.lexer = (struct lexer){
		.text = (const uint8_t *)text, .at = s->begin, .limit = s->end, .backslashes = !conforming};
	next(&r);
	return r;
}

/* From the token at hand to before `end`. */
static struct verdict find_calls(const struct reading *r, uint32_t end)
{
	struct lexer l = r->lexer;

	l.at = r->token.begin;
	l.limit = end;
	return calls_find(l, r->catalog);
}

/* ---- queries, and what holds one ---- */

static bool begins_query(const struct reading *r)
{
	return r->token.code == '(' || r->token.code == KW_SELECT || r->token.code == KW_VALUES ||
	       r->token.code == KW_TABLE || r->token.code == KW_WITH;
}

/* What the scanner calls a read. */
static struct verdict read_query(const struct reading *r, const struct statement *s)
{
	if (s->marks & SCAN_PG_TEMP)
		return verdict(ACCESS_WRITES, REASON_SESSION);
	if (!begins_query(r))
		return verdict(ACCESS_WRITES, REASON_UNKNOWN);
	return find_calls(r, s->end);
}

/* The statement that begins at the token at hand and ends at `end`, where another holds it. */
static struct verdict read_inner(const struct reading *r, uint32_t end)
{
	struct verdict v = verdict(ACCESS_WRITES, REASON_EFFECTS);
	uint32_t begin = r->token.begin;
	struct scan scan;

	if (begin >= end || scan_text(r->text + begin, end - begin, 0, r->conforming, &scan) < 0)
		return verdict(ACCESS_WRITES, REASON_UNKNOWN);
	if (scan.count == 1 && !scan.truncated && scan.first.class == STATEMENT_READ && scan.first.verb == VERB_OTHER) {
		struct statement inner = {.marks = scan.first.marks, .begin = begin, .end = end};

		v = read_query(r, &inner);
	}
	scan_free(&scan);
	return v;
}

/* From the parenthesis at hand to the one that closes it: returns where that is, and the token is behind it. */
static uint32_t skip_parentheses(struct reading *r)
{
	uint32_t depth = 0, closed;

	do {
		if (r->token.code == '(')
			depth++;
		else if (r->token.code == ')')
			depth--;
		closed = r->token.begin;
		next(r);
	} while (depth > 0 && r->token.code != TOKEN_END);
	return closed;
}

static bool parenthesis_begins_query(const struct reading *r)
{
	struct reading ahead = *r;

	next(&ahead);
	return begins_query(&ahead) && ahead.token.code != KW_VALUES; /* as the scanner sees it */
}

/* With ANALYZE or without: it is as harmless as what it explains. */
static struct verdict read_explain(struct reading *r)
{
	if (r->s->verb == VERB_EXECUTE)
		return verdict(ACCESS_WRITES, REASON_SESSION);
	next(r);
	if (r->token.code == '(' && !parenthesis_begins_query(r)) {
		skip_parentheses(r);
	} else {
		if (!accept(r, "analyze"))
			accept(r, "analyse");
		accept(r, "verbose");
	}
	return read_inner(r, r->s->end);
}

/* DECLARE name ... CURSOR ... FOR query */
static struct verdict read_declare(struct reading *r)
{
	while (r->token.code != TOKEN_END && !at(r, "cursor"))
		next(r);
	while (r->token.code != TOKEN_END && r->token.code != KW_FOR)
		next(r);
	next(r);
	return read_inner(r, r->s->end);
}

/* COPY (query) or [BINARY] table [(columns)] TO STDOUT */
static struct verdict read_copy(struct reading *r)
{
	struct verdict v;

	next(r);
	if (r->token.code == '(') {
		struct reading query = *r;
		uint32_t end = skip_parentheses(r);

		next(&query);
		v = read_inner(&query, end);
	} else {
		struct reading names = *r;

		while (token_is_identifier(&r->token) || r->token.code == '.') {
			if (at(r, "to") || at(r, "from"))
				break;
			next(r);
		}
		v = find_calls(&names, r->token.begin);
		if (r->token.code == '(')
			skip_parentheses(r);
		if (v.level == ACCESS_READS)
			v.reason = REASON_COPY_OUT;
	}
	if (r->s->marks & SCAN_PG_TEMP)
		return verdict(ACCESS_WRITES, REASON_SESSION);
	return accept(r, "to") && at(r, "stdout") ? v : verdict(ACCESS_WRITES, REASON_WRITE);
}

/* ---- transactions ---- */

/* What [ISOLATION] LEVEL, READ ONLY and READ WRITE say from here on; the last of each counts. */
static void read_modes(struct reading *r, enum access_said *read_only, enum access_said *serializable)
{
	while (r->token.code != TOKEN_END) {
		if (accept(r, "level")) {
			*serializable = at(r, "serializable") ? SAID_YES : SAID_NO;
			next(r); /* SERIALIZABLE, or the first word of READ COMMITTED, REPEATABLE READ ... */
			if (*serializable == SAID_NO)
				next(r);
		} else if (accept(r, "read")) {
			if (at(r, "only"))
				*read_only = SAID_YES;
			else if (at(r, "write"))
				*read_only = SAID_NO;
		} else {
			next(r);
		}
	}
}

/* May the transaction be where standbys are? */
static struct verdict judge_modes(const struct access *a)
{
	if (a->serializable == SAID_YES)
		return verdict(ACCESS_WRITES, REASON_SERIALIZABLE);
	if (a->read_only == SAID_NO)
		return verdict(ACCESS_WRITES, REASON_READ_WRITE);
	return verdict(ACCESS_FOLLOWS, REASON_CONTROL);
}

static void set_after(struct reading *r, bool open)
{
	r->ret->after = open ? AFTER_OPEN : AFTER_CLOSED;
	if (!open)
		r->ret->read_only = r->ret->serializable = SAID_NOTHING;
}

static struct verdict read_transaction(struct reading *r)
{
	switch (r->s->verb) {
	case VERB_BEGIN:
		r->ret->read_only = r->ret->serializable = SAID_NOTHING;
		set_after(r, /* open= */ true);
		read_modes(r, &r->ret->read_only, &r->ret->serializable);
		return judge_modes(r->ret);
	case VERB_COMMIT:
	case VERB_ROLLBACK:
		set_after(r, r->s->marks & SCAN_CHAIN);
		return verdict(ACCESS_FOLLOWS, REASON_CONTROL);
	case VERB_PREPARE_TRANSACTION:
		set_after(r, /* open= */ false);
		return verdict(ACCESS_WRITES, REASON_UTILITY);
	case VERB_SAVEPOINT:
	case VERB_RELEASE:
	case VERB_ROLLBACK_TO:
		return verdict(ACCESS_FOLLOWS, REASON_CONTROL);
	default: /* COMMIT PREPARED, ROLLBACK PREPARED */
		return verdict(ACCESS_WRITES, REASON_UTILITY);
	}
}

/* ---- settings ---- */

/* A value as written, without its quotes, in lower case; empty when it is anything else than one plain word. */
static void plain_value(struct slice written, char out[32])
{
	bool quoted = written.len >= 2 && (written.bytes[0] == '\'' || written.bytes[0] == '"');

	*out = '\0';
	if (quoted && written.bytes[written.len - 1] == written.bytes[0])
		written = slice_make(written.bytes + 1, written.len - 2);
	if (written.len >= 32)
		return;
	for (size_t i = 0; i < written.len; i++) {
		uint8_t c = written.bytes[i];

		out[i] = (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
	}
	out[written.len] = '\0';
}

/* As the server reads a boolean: any beginning of these that no other has. What it isn't sure of is not read only. */
static enum access_said said_on(const char *value)
{
	static const char *const words[] = {"true", "yes", "on", "1"};

	if (strcmp(value, "default") == 0)
		return SAID_DEFAULT;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (*value && strncmp(value, words[i], strlen(value)) == 0 && strcmp(value, "o") != 0)
			return SAID_YES;
	return SAID_NO;
}

static enum access_said said_serializable(const char *value)
{
	static const char *const others[] = {"read committed", "read uncommitted", "repeatable read"};

	if (strcmp(value, "default") == 0)
		return SAID_DEFAULT;
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		if (strcmp(value, others[i]) == 0)
			return SAID_NO;
	return SAID_YES;
}

static bool names(const struct statement *s, const char *parameter)
{
	char name[64];

	scan_identifier(s->name, name, sizeof(name));
	return strcasecmp(name, parameter) == 0; /* "Timezone" is timezone, quotes or not */
}

static struct verdict read_set(struct reading *r)
{
	const struct statement *s = r->s;
	struct access *ret = r->ret;
	char value[32];

	next(r);
	if (s->verb == VERB_SET_LOCAL && s->name.len == 0) {
		accept(r, "local");
		accept(r, "session");
		if (accept(r, "transaction")) {
			if (at(r, "snapshot"))
				return verdict(ACCESS_WRITES, REASON_SNAPSHOT);
			read_modes(r, &ret->read_only, &ret->serializable);
		}
		return judge_modes(ret);
	}
	plain_value(s->value, value);
	if (names(s, "session characteristics"))
		read_modes(r, &ret->session_read_only, &ret->session_serializable);
	else if (names(s, "transaction_read_only"))
		ret->read_only = said_on(value) == SAID_YES ? SAID_YES : SAID_NO;
	else if (names(s, "transaction_isolation"))
		ret->serializable = said_serializable(value) == SAID_NO ? SAID_NO : SAID_YES;
	else if (s->verb == VERB_SET && names(s, "default_transaction_read_only"))
		ret->session_read_only = said_on(value);
	else if (s->verb == VERB_SET && names(s, "default_transaction_isolation"))
		ret->session_serializable = said_serializable(value);
	return judge_modes(ret);
}

static void read_reset(struct reading *r)
{
	bool all = r->s->verb != VERB_RESET;

	if (all || names(r->s, "default_transaction_read_only"))
		r->ret->session_read_only = SAID_DEFAULT;
	if (all || names(r->s, "default_transaction_isolation"))
		r->ret->session_serializable = SAID_DEFAULT;
}

/* ---- statements ---- */

static struct verdict read_session(struct reading *r)
{
	switch (r->s->verb) {
	case VERB_SET:
	case VERB_SET_LOCAL:
		return read_set(r);
	case VERB_RESET:
	case VERB_RESET_ALL:
	case VERB_DISCARD_ALL:
		read_reset(r);
		FALLTHROUGH;
	case VERB_DISCARD_OTHER:
	case VERB_UNLISTEN:
	case VERB_DEALLOCATE:
	case VERB_DEALLOCATE_ALL:
	case VERB_CLOSE_CURSOR:
		return verdict(ACCESS_FOLLOWS, REASON_CONTROL);
	case VERB_OTHER:
		if (at(r, "declare"))
			return read_declare(r);
		return verdict(ACCESS_WRITES, REASON_UNKNOWN);
	default:
		return verdict(ACCESS_WRITES, REASON_SESSION);
	}
}

static struct verdict read_utility(struct reading *r)
{
	if (at(r, "explain"))
		return read_explain(r);
	if (at(r, "fetch") || at(r, "move"))
		return verdict(ACCESS_FOLLOWS, REASON_CONTROL);
	return verdict(ACCESS_WRITES, at(r, "lock") ? REASON_LOCK : REASON_UTILITY);
}

static struct verdict read_write(struct reading *r)
{
	bool changes = at(r, "insert") || at(r, "update") || at(r, "delete") || at(r, "merge");

	if (r->s->marks & SCAN_SESSION_ADVISORY_LOCK)
		return verdict(ACCESS_WRITES, REASON_LOCK);
	return verdict(ACCESS_WRITES, changes ? REASON_WRITE : REASON_EFFECTS);
}

static struct verdict read_statement(struct reading *r)
{
	switch (r->s->class) {
	case STATEMENT_EMPTY:
		return verdict(ACCESS_FOLLOWS, REASON_NOTHING);
	case STATEMENT_READ:
		if (at(r, "show"))
			return verdict(ACCESS_FOLLOWS, REASON_CONTROL);
		return at(r, "explain") ? read_explain(r) : read_query(r, r->s);
	case STATEMENT_WRITE:
		return read_write(r);
	case STATEMENT_DDL:
		return verdict(ACCESS_WRITES, REASON_DDL);
	case STATEMENT_TRANSACTION:
		return read_transaction(r);
	case STATEMENT_SESSION:
		return read_session(r);
	case STATEMENT_COPY:
		return read_copy(r);
	case STATEMENT_UTILITY:
		return read_utility(r);
	default:
		return verdict(ACCESS_WRITES, REASON_UNKNOWN);
	}
}

static uint32_t ties_of(const struct statement *s)
{
	static const uint8_t ties[] = {
		[VERB_CREATE_TEMP] = TIE_TEMP, [VERB_LISTEN] = TIE_LISTEN, [VERB_DECLARE_HOLD] = TIE_CURSOR,
		[VERB_PREPARE] = TIE_PREPARED, [VERB_LOAD] = TIE_LOAD,
	};

	return (s->verb < ARRAY_SIZE(ties) ? ties[s->verb] : 0) |
	       (s->marks & SCAN_SESSION_ADVISORY_LOCK ? TIE_LOCK : 0);
}

static void add(struct access *ret, struct verdict v)
{
	if (ret->reason == REASON_NOTHING || v.level > ret->level) {
		ret->level = v.level;
		ret->reason = v.reason;
	}
}

void access_find(const char *text, const struct scan *scan, bool standard_conforming_strings,
		 const struct catalog *catalog, struct access *ret)
{
	*ret = (struct access){.level = ACCESS_FOLLOWS, .reason = REASON_NOTHING};
	for (uint32_t i = 0; i < MIN(scan->count, SCAN_STATEMENTS_MAX); i++) {
		const struct statement *s = &scan->statements[i];
		struct reading r = reading_begin(text, standard_conforming_strings, catalog, s, ret);
		uint32_t ties = ties_of(s);

		if (ties & ~TIE_LOCK)
			add(ret, verdict(ACCESS_WRITES, REASON_SESSION));
		add(ret, read_statement(&r));
		ret->ties |= ties;
	}
	if (scan->truncated)
		add(ret, verdict(ACCESS_WRITES, REASON_UNKNOWN));
}

const char *access_level_name(enum access_level level)
{
	static const char *const names_of_levels[] = {"follows", "reads", "doubtful", "writes"};

	return (unsigned int)level < ARRAY_SIZE(names_of_levels) ? names_of_levels[level] : "writes";
}

static const struct reason {
	const char *word, *text;
} reasons[] = {
#define REASON(name, word, text) {word, text},
#include "sql/access_reasons.def"
#undef REASON
};

const char *access_reason_word(enum access_reason reason)
{
	return reasons[(unsigned int)reason < REASONS ? reason : REASON_UNKNOWN].word;
}

const char *access_reason_text(enum access_reason reason)
{
	return reasons[(unsigned int)reason < REASONS ? reason : REASON_UNKNOWN].text;
}
