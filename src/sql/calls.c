/*
 * What a query calls. A name before a parenthesis is a call, but for few places where no call could stand; and every
 * call must be known. Names that stand alone, and operators, are looked up in the catalog.
 *
 * A query is walked once, with a stack of the clauses that its parentheses stand in. Where a place isn't certain, it's
 * a call: that costs a read, the other mistake costs a client its answer.
 */
#include "sql/access_priv.h"

#define DEPTH_MAX 64u
#define NAME_SIZE 64u

/* How far the query of one level of parentheses has come. */
enum clause {
	CLAUSE_NONE, /* no query, or not begun: lists of arguments, of columns ... */
	CLAUSE_WITH, /* behind WITH, before the query that uses it */
	CLAUSE_SELECT,
	CLAUSE_FROM,
	CLAUSE_GROUP,
	CLAUSE_REST,
};

/* What stood before a parenthesis: behind DISTINCT ON (a) and OPERATOR(+) an expression follows, not so behind others.
 */
enum opener { OPENER_OTHER, OPENER_EXPRESSION };

struct place {
	uint8_t clause, opener;
};

struct walk {
	struct lexer lexer;
	const struct catalog *catalog; /* or NULL */
	struct token before[4];        /* the latest first; code TOKEN_END: none */
	struct place places[DEPTH_MAX];
	uint32_t depth;
	enum opener closed; /* of the parenthesis that was closed last */
	uint32_t symbols;   /* where the operators that end at the last token began, or UINT32_MAX */
	struct verdict verdict;
};

static const char *const pure_functions[] = {
#define FUNCTION(name) name,
#include "sql/pure_functions.def"
#undef FUNCTION
};

static const char *const read_functions[] = {
#define FUNCTION(name) name,
#define HARMLESS(name) name,
#define WORD(name)     name,
#include "sql/read_functions.def"
#undef FUNCTION
#undef HARMLESS
#undef WORD
};

static const struct node_name {
	const char *name;
	bool is_function;
} node_names[] = {
#define FUNCTION(name) {name, true},
#define RELATION(name) {name, false},
#include "sql/node_names.def"
#undef FUNCTION
#undef RELATION
};

static int compare_strings(const void *key, const void *element)
{
	return strcmp(key, *(const char *const *)element);
}

static int compare_node_names(const void *key, const void *element)
{
	return strcmp(key, ((const struct node_name *)element)->name);
}

static bool is_built_in(const char *name)
{
	return bsearch(name, pure_functions, ARRAY_SIZE(pure_functions), sizeof(char *), compare_strings) ||
	       bsearch(name, read_functions, ARRAY_SIZE(read_functions), sizeof(char *), compare_strings);
}

/* Does it tell of one node, called or as a relation? */
static bool is_of_node(const char *name, bool called)
{
	const struct node_name *found =
		bsearch(name, node_names, ARRAY_SIZE(node_names), sizeof(node_names[0]), compare_node_names);

	return strncmp(name, "pg_stat", 7) == 0 || (found && (called || !found->is_function));
}

bool token_is(const struct lexer *l, const struct token *t, const char *word)
{
	size_t len = strlen(word);

	return t->code >= TOKEN_WORD && t->code != TOKEN_QUOTED && t->end - t->begin == len &&
	       strncasecmp((const char *)l->text + t->begin, word, len) == 0;
}

/* Of the n-th token before the one at hand, from 0. */
static bool was(const struct walk *w, size_t n, const char *word)
{
	return token_is(&w->lexer, &w->before[n], word);
}

static bool was_one_of(const struct walk *w, size_t n, const char *const *words, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (was(w, n, words[i]))
			return true;
	return false;
}

static uint16_t code_before(const struct walk *w, size_t n)
{
	return w->before[n].code;
}

static void judge(struct walk *w, enum access_level level, enum access_reason reason)
{
	if (level > w->verdict.level)
		w->verdict = (struct verdict){level, reason};
}

static struct slice name_of(const struct walk *w, const struct token *t, char out[NAME_SIZE])
{
	size_t len = scan_identifier(slice_make(w->lexer.text + t->begin, t->end - t->begin), out, NAME_SIZE);

	return slice_make(out, len);
}

/* ---- names ---- */

static void see_name(struct walk *w, const struct token *t)
{
	char name[NAME_SIZE];
	struct slice slice = name_of(w, t, name);

	bool behind_dot = code_before(w, 0) == '.'; /* x.f may be f(x), of any type of x */

	if (is_of_node(name, behind_dot))
		judge(w, ACCESS_WRITES, REASON_NODE);
	else if (w->catalog && catalog_name_writes(w->catalog, slice))
		judge(w, ACCESS_WRITES, REASON_NAME_WRITES);
	else if (w->catalog && behind_dot && catalog_function(w->catalog, slice) == CATALOG_WRITES)
		judge(w, ACCESS_DOUBTFUL, REASON_FUNCTION_WRITES);
}

/* ---- a name before a parenthesis ---- */

static struct place *place(struct walk *w)
{
	return &w->places[w->depth];
}

/* [FROM | JOIN | , | .] name name(: the second is an alias, for nothing but names follows these. */
static bool is_behind_relation(const struct walk *w)
{
	if (!token_is_identifier(&w->before[1]) || was(w, 1, "lateral") || was(w, 1, "only") || was(w, 1, "from"))
		return false;
	return code_before(w, 2) == ',' || code_before(w, 2) == '.' || was(w, 2, "from") || was(w, 2, "join");
}

/* An alias with a list of columns, the name of a WITH query, or a type of CAST(x AS type(3)). */
static bool is_alias(struct walk *w)
{
	uint16_t before = code_before(w, 1);

	if (was(w, 1, "as"))
		return true;
	if (place(w)->clause == CLAUSE_WITH)
		return before == ',' || before == KW_WITH || before == KW_RECURSIVE;
	if (place(w)->clause != CLAUSE_FROM)
		return false;
	return (before == ')' && w->closed == OPENER_OTHER) || is_behind_relation(w) ||
	       (was(w, 1, "ordinality") && was(w, 2, "with"));
}

/* Words that are functions elsewhere, in the one place where they are not. */
static bool is_clause(struct walk *w)
{
	static const char *const by[] = {"group", "order", "partition"}, *const samples[] = {"bernoulli", "system"},
				 *const strings[] = {"char", "character", "nchar", "bit"};
	bool behind_call = code_before(w, 1) == ')' && w->closed == OPENER_OTHER;

	if (was(w, 0, "by"))
		return was_one_of(w, 1, by, ARRAY_SIZE(by));
	if (was(w, 0, "over") || was(w, 0, "filter") || was(w, 0, "repeatable"))
		return behind_call;
	if (was(w, 0, "group"))
		return was(w, 1, "within");
	if (was(w, 0, "sets"))
		return was(w, 1, "grouping");
	if (was(w, 0, "rollup") || was(w, 0, "cube"))
		return place(w)->clause == CLAUSE_GROUP && (was(w, 1, "by") || code_before(w, 1) == ',');
	if (was(w, 0, "materialized"))
		return place(w)->clause == CLAUSE_WITH && was(w, 1, "not") && was(w, 2, "as");
	if (was(w, 0, "zone"))
		return was(w, 1, "time") && was(w, 2, "at");
	if (was(w, 0, "varying"))
		return was_one_of(w, 1, strings, ARRAY_SIZE(strings));
	return was(w, 1, "tablesample") && was_one_of(w, 0, samples, ARRAY_SIZE(samples));
}

static void judge_call(struct walk *w)
{
	char name[NAME_SIZE];
	struct slice slice = name_of(w, &w->before[0], name);
	enum catalog_fact fact = w->catalog ? catalog_function(w->catalog, slice) : CATALOG_UNKNOWN;
	bool qualified = code_before(w, 1) == '.', quoted = code_before(w, 0) == TOKEN_QUOTED;
	bool built_in = qualified ? was(w, 2, "pg_catalog") && code_before(w, 3) != '.' : !quoted;

	if (is_of_node(name, /* called= */ true))
		judge(w, ACCESS_WRITES, REASON_NODE);
	else if (fact == CATALOG_WRITES)
		judge(w, ACCESS_DOUBTFUL, REASON_FUNCTION_WRITES);
	else if (fact == CATALOG_READS || (built_in && is_built_in(name)))
		return;
	else if (strncmp(name, "pg_", 3) == 0 || strncmp(name, "lo_", 3) == 0)
		judge(w, ACCESS_WRITES, REASON_NODE);
	else
		judge(w, ACCESS_DOUBTFUL, REASON_FUNCTION_UNKNOWN);
}

static enum opener opener_of(const struct walk *w)
{
	return was(w, 0, "operator") || (was(w, 0, "on") && was(w, 1, "distinct")) ? OPENER_EXPRESSION : OPENER_OTHER;
}

static void see_open(struct walk *w)
{
	if (token_is_identifier(&w->before[0]) && !is_alias(w) && !is_clause(w))
		judge_call(w);
	if (w->depth + 1 == DEPTH_MAX) {
		judge(w, ACCESS_WRITES, REASON_NESTING);
		return;
	}
	w->depth++;
	*place(w) = (struct place){.clause = CLAUSE_NONE, .opener = (uint8_t)opener_of(w)};
}

static void see_close(struct walk *w)
{
	w->closed = (enum opener)place(w)->opener;
	w->depth -= w->depth > 0;
}

/* ---- clauses ---- */

/* WITH ORDINALITY, WITH TIES, TIME WITH TIME ZONE and others stand behind something. */
static bool begins_with(const struct walk *w)
{
	return code_before(w, 0) == TOKEN_END || code_before(w, 0) == '(';
}

static void see_clause(struct walk *w, const struct token *t)
{
	static const char *const rest[] = {"where", "having", "window", "order",  "limit",    "offset",
					   "fetch", "for",    "union",  "except", "intersect"};
	struct place *p = place(w);

	if (code_before(w, 0) == '.' || was(w, 0, "as"))
		return; /* a name */
	switch (t->code) {
	case KW_SELECT:
		p->clause = CLAUSE_SELECT;
		return;
	case KW_VALUES:
	case KW_TABLE:
		p->clause = CLAUSE_REST;
		return;
	case KW_WITH:
		if (begins_with(w))
			p->clause = CLAUSE_WITH;
		return;
	case KW_FROM:
		if (p->clause == CLAUSE_SELECT && !was(w, 0, "distinct"))
			p->clause = CLAUSE_FROM;
		return;
	case KW_BY:
		if (p->clause != CLAUSE_NONE && was(w, 0, "group") && code_before(w, 1) != '.' && !was(w, 1, "as"))
			p->clause = CLAUSE_GROUP;
		return;
	default:
		break;
	}
	if (p->clause == CLAUSE_NONE || t->code == TOKEN_QUOTED)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(rest); i++)
		if (token_is(&w->lexer, t, rest[i]))
			p->clause = CLAUSE_REST;
}

/* WITH a AS (...) (SELECT ...) ORDER BY f(x): the query is in parentheses. */
static void see_query_in_parentheses(struct walk *w)
{
	if (place(w)->clause == CLAUSE_WITH && code_before(w, 0) == ')')
		place(w)->clause = CLAUSE_REST;
}

/* ---- operators ---- */

static bool is_operator(uint16_t code)
{
	return code < 128 && code > 0 && strchr("+-*/<>=~!@#%^&|`?", code);
}

/* Those that stand together are looked at when the last one is over: the server may cut them in more than one way. */
static void see_operator(struct walk *w, const struct token *t)
{
	bool goes_on = is_operator(t->code) && w->symbols != UINT32_MAX && t->begin == w->before[0].end;

	if (w->symbols != UINT32_MAX && !goes_on) {
		struct slice symbols = slice_make(w->lexer.text + w->symbols, w->before[0].end - w->symbols);

		if (catalog_operator_writes(w->catalog, symbols))
			judge(w, ACCESS_DOUBTFUL, REASON_OPERATOR_WRITES);
	}
	if (!goes_on)
		w->symbols = is_operator(t->code) ? t->begin : UINT32_MAX;
}

static void see_token(struct walk *w, const struct token *t)
{
	if (w->catalog)
		see_operator(w, t);
	if (t->code == '(') {
		see_query_in_parentheses(w);
		see_open(w);
	} else if (t->code == ')') {
		see_close(w);
	} else if (token_is_identifier(t)) {
		see_name(w, t);
		see_clause(w, t);
	}
	memmove(&w->before[1], &w->before[0], sizeof(w->before) - sizeof(w->before[0]));
	w->before[0] = *t;
}

struct verdict calls_find(struct lexer l, const struct catalog *catalog)
{
	struct walk w = {
		.lexer = l, .catalog = catalog, .symbols = UINT32_MAX, .verdict = {ACCESS_READS, REASON_QUERY}};
	struct token t;

	if (catalog && catalog_all_writes(catalog))
		return (struct verdict){ACCESS_DOUBTFUL, REASON_DATABASE};
	do {
		lexer_next(&w.lexer, &t);
		see_token(&w, &t);
	} while (t.code != TOKEN_END && w.verdict.level < ACCESS_WRITES);
	return w.verdict;
}
