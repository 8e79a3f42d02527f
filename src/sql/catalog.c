/* See catalog.h. */
#include "sql/catalog.h"

#include "base/map.h"

/*
 * suspects: functions that may write, or that tell of one node: volatile ones, except those known to be harmless,
 * stable ones that are known not to be, and aggregates made of such. What calls them without their name being seen is
 * found in the stored trees of views and policies of rows, as text: dependencies on PostgreSQL's own functions are not
 * recorded.
 */
const char catalog_query[] =
	"WITH RECURSIVE trusted(oid) AS ("
	" SELECT p.oid FROM pg_catalog.pg_proc p WHERE p.oid < 16384 AND p.proname IN ("
#define FUNCTION(name)
#define WORD(name)
#define HARMLESS(name) "'" name "', "
#include "sql/read_functions.def"
#undef FUNCTION
#undef WORD
#undef HARMLESS
	"'')"
	" UNION ALL"
	" SELECT d.objid FROM pg_catalog.pg_depend d"
	" JOIN pg_catalog.pg_extension e ON d.refobjid = e.oid AND d.refclassid = 'pg_catalog.pg_extension'::regclass"
	" WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND d.deptype = 'e' AND e.extname IN ('pgcrypto', "
	"'uuid-ossp')"
	"), suspect_functions(oid) AS ("
	" SELECT p.oid FROM pg_catalog.pg_proc p WHERE p.provolatile = 'v' AND p.oid NOT IN (SELECT oid FROM trusted)"
	" UNION"
	" SELECT p.oid FROM pg_catalog.pg_proc p WHERE p.proname LIKE 'pg\\_stat%' OR p.proname IN ("
#define FUNCTION(name) "'" name "', "
#define RELATION(name) "'" name "', "
#include "sql/node_names.def"
#undef FUNCTION
#undef RELATION
	"'')"
	" UNION" /* run SQL that they are given as text */
	" SELECT d.objid FROM pg_catalog.pg_depend d"
	" JOIN pg_catalog.pg_extension e ON d.refobjid = e.oid AND d.refclassid = 'pg_catalog.pg_extension'::regclass"
	" WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND d.deptype = 'e'"
	" AND e.extname IN ('dblink', 'tablefunc', 'xml2')"
	"), suspects(oid) AS ("
	" SELECT oid FROM suspect_functions"
	" UNION"
	" SELECT a.aggfnoid::oid FROM pg_catalog.pg_aggregate a JOIN suspect_functions s ON s.oid IN (a.aggtransfn,"
	" a.aggfinalfn, a.aggcombinefn, a.aggserialfn, a.aggdeserialfn, a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn)"
	"), suspect_operators(oid, name, types) AS ("
	" SELECT o.oid, o.oprname, ARRAY[o.oprleft, o.oprright] FROM pg_catalog.pg_operator o WHERE o.oprcode::oid IN "
	"(SELECT oid FROM suspects)"
	"), suspect_casts(source, target) AS ("
	" SELECT c.castsource, c.casttarget FROM pg_catalog.pg_cast c WHERE c.castfunc IN (SELECT oid FROM suspects)"
	"), suspect_checks(type) AS ("
	" SELECT c.contypid FROM pg_catalog.pg_constraint c,"
	" LATERAL pg_catalog.regexp_matches(c.conbin::text, ':(funcid|opfuncid|opno) (\\d+)', 'g') m"
	" WHERE c.contypid <> 0 AND (m[2]::oid IN (SELECT oid FROM suspects) OR (m[1] = 'opno' AND m[2]::oid IN"
	" (SELECT oid FROM suspect_operators)))"
	"), types(oid) AS (" /* whose values come to be, or are compared, by a suspect */
	" SELECT t.oid FROM pg_catalog.pg_type t WHERE t.oid >= 16384 AND (t.typinput::oid IN (SELECT oid FROM "
	"suspects)"
	" OR t.oid IN (SELECT source FROM suspect_casts UNION SELECT target FROM suspect_casts"
	" UNION SELECT type FROM suspect_checks"
	" UNION SELECT pg_catalog.unnest(o.types) FROM suspect_operators o" /* LIKE, IN, USING ... don't name theirs */
	" UNION SELECT p.amproclefttype FROM pg_catalog.pg_amproc p WHERE p.amproc::oid IN (SELECT oid FROM suspects)"
	" UNION SELECT o.amoplefttype FROM pg_catalog.pg_amop o WHERE o.amopopr IN (SELECT oid FROM "
	"suspect_operators)))"
	" UNION"
	" SELECT t.oid FROM pg_catalog.pg_type t JOIN types s ON s.oid IN (t.typbasetype, t.typelem)"
	"), trees(relation, text) AS ("
	" SELECT r.ev_class, r.ev_action::text FROM pg_catalog.pg_rewrite r"
	" JOIN pg_catalog.pg_class c ON c.oid = r.ev_class WHERE c.relkind = 'v'"
	" UNION ALL"
	" SELECT p.polrelid, p.polqual::text FROM pg_catalog.pg_policy p WHERE p.polqual IS NOT NULL"
	"), uses(relation, kind, oid) AS ("
	" SELECT t.relation, m[1], m[2]::oid FROM trees t, LATERAL pg_catalog.regexp_matches(t.text,"
	" ':(funcid|opfuncid|aggfnoid|winfnoid|opno|relid|resulttype) (\\d+)', 'g') m"
	"), relations(oid) AS ("
	" SELECT c.oid FROM pg_catalog.pg_class c WHERE c.relpersistence = 'u' OR c.relkind IN ('f', 'S')"
	" UNION"
	" SELECT t.relation FROM trees t WHERE t.text LIKE '%:hasForUpdate true%' OR"
	" t.text LIKE '%SQLVALUEFUNCTION :op 14 %'" /* current_schema, without a parenthesis */
	" UNION"
	" SELECT u.relation FROM uses u WHERE CASE WHEN u.kind = 'opno' THEN u.oid IN (SELECT oid FROM "
	"suspect_operators)"
	" WHEN u.kind = 'resulttype' THEN u.oid IN (SELECT oid FROM types)"
	" ELSE u.kind <> 'relid' AND u.oid IN (SELECT oid FROM suspects) END"
	" UNION"
	" SELECT a.attrelid FROM pg_catalog.pg_attribute a WHERE a.attnum > 0 AND NOT a.attisdropped"
	" AND a.atttypid IN (SELECT oid FROM types)"
	"), reaching(oid) AS ("
	" SELECT oid FROM relations"
	" UNION"
	" SELECT e.relation FROM reaching r JOIN (SELECT u.relation, u.oid FROM uses u WHERE u.kind = 'relid'"
	" UNION ALL SELECT i.inhparent, i.inhrelid FROM pg_catalog.pg_inherits i) e ON e.oid = r.oid"
	")"
	" SELECT CASE WHEN pg_catalog.bool_or(p.oid IN (SELECT oid FROM suspects)) THEN 'function writes' ELSE"
	" 'function reads' END, p.proname::text FROM pg_catalog.pg_proc p WHERE p.prokind <> 'p'"
	" GROUP BY p.proname HAVING pg_catalog.bool_or(p.oid >= 16384)"
	" UNION"
	" SELECT 'name writes', c.relname::text FROM pg_catalog.pg_class c JOIN reaching r ON r.oid = c.oid"
	" UNION"
	" SELECT 'name writes', t.typname::text FROM pg_catalog.pg_type t JOIN types s ON s.oid = t.oid"
	" UNION"
	" SELECT 'operator writes', o.name::text FROM suspect_operators o"
	" UNION"
	" SELECT 'database writes', '' FROM suspect_casts WHERE source < 16384 AND target < 16384"
	" UNION"
	" SELECT 'database writes', '' FROM suspect_operators o WHERE 16384 > ALL (o.types)"
	" AND o.name IN ('=', '<>', '<', '<=', '>', '>=', '~', '!~', '~~', '~~*', '!~~', '!~~*')";

enum {
	FUNCTION_READS = BIT(0),
	FUNCTION_WRITES = BIT(1),
	NAME_WRITES = BIT(2),
};

struct catalog {
	struct map names; /* the value is a set of the bits above */
	struct operator* operators;
	uint32_t operator_count;
	bool all_writes;
	bool beyond_ascii; /* a name that writes has other bytes than ASCII */
};

struct operator
{
	struct operator* next;
	size_t len;
	uint8_t bytes[];
};

struct catalog *catalog_new(void)
{
	return calloc(1, sizeof(struct catalog));
}

void catalog_free(struct catalog *c)
{
	if (!c)
		return;
	while (c->operators) {
		struct operator* o = c->operators;

		c->operators = o->next;
		free(o);
	}
	map_free(&c->names);
	free(c);
}

static uintptr_t facts_of(const struct catalog *c, struct slice name)
{
	return (uintptr_t)map_get(&c->names, name);
}

static bool is_ascii(struct slice name)
{
	for (size_t i = 0; i < name.len; i++)
		if (name.bytes[i] >= 0x80)
			return false;
	return true;
}

static int add_fact(struct catalog *c, struct slice name, uintptr_t fact)
{
	uintptr_t facts = facts_of(c, name) | fact;

	if (fact == NAME_WRITES && !is_ascii(name))
		c->beyond_ascii = true;
	return map_put(&c->names, name, (void *)facts, NULL);
}

static int add_operator(struct catalog *c, struct slice name)
{
	struct operator* o;

	if (name.len == 0)
		return -EINVAL;
	o = malloc(sizeof(*o) + name.len);
	if (!o)
		return -ENOMEM;
	*o = (struct operator){.next = c->operators, .len = name.len};
	memcpy(o->bytes, name.bytes, name.len);
	c->operators = o;
	c->operator_count++;
	return 0;
}

int catalog_add(struct catalog *c, struct slice kind, struct slice name)
{
	if (slice_equal(kind, SLICE_LITERAL("function reads")))
		return add_fact(c, name, FUNCTION_READS);
	if (slice_equal(kind, SLICE_LITERAL("function writes")))
		return add_fact(c, name, FUNCTION_WRITES);
	if (slice_equal(kind, SLICE_LITERAL("name writes")))
		return add_fact(c, name, NAME_WRITES);
	if (slice_equal(kind, SLICE_LITERAL("operator writes")))
		return add_operator(c, name);
	if (!slice_equal(kind, SLICE_LITERAL("database writes")))
		return -EINVAL;
	c->all_writes = true;
	return 0;
}

uint32_t catalog_size(const struct catalog *c)
{
	return c->names.count + c->operator_count;
}

enum catalog_fact catalog_function(const struct catalog *c, struct slice name)
{
	uintptr_t facts = facts_of(c, name);

	if (facts & FUNCTION_WRITES)
		return CATALOG_WRITES;
	return facts & FUNCTION_READS ? CATALOG_READS : CATALOG_UNKNOWN;
}

bool catalog_name_writes(const struct catalog *c, struct slice name)
{
	return (facts_of(c, name) & NAME_WRITES) || (c->beyond_ascii && !is_ascii(name));
}

bool catalog_operator_writes(const struct catalog *c, struct slice symbols)
{
	for (const struct operator* o = c->operators; o; o = o->next)
		if (memmem(symbols.bytes, symbols.len, o->bytes, o->len))
			return true;
	return false;
}

bool catalog_all_writes(const struct catalog *c)
{
	return c->all_writes;
}
