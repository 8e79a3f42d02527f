/*
 * From the text of a configuration to a struct config: substitution, TOML, then a walk over its tables that looks each
 * key up in the tables of keys.h. It never stops at a mistake: the report names all of them.
 */
#include "config/load_priv.h"
#include "config/read_file.h"
#include "config/value.h"

#include <stdarg.h>

#define PATH_TEXT   256u
#define OBJECTS_MAX 100000u
#define ALIASES_MAX 1000u

void load_complain(struct loader *l, enum report_severity severity, uint32_t line, uint32_t column, const char *format,
		   ...)
{
	char text[768];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	report_add(l->report, severity, l->file, line_map_get(&l->lines, line), column, "%s", text);
}

void load_unknown(struct loader *l, const struct toml_member *m, const char *path, const struct suggestion *s)
{
	const char *near = suggestion_get(s);
	bool is_table = m->value.type == TOML_TABLE;

	load_complain(l, REPORT_ERROR, m->line, m->column, "unknown %s %s%s%s%s", is_table ? "table" : "key", path,
		      near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

static void complain_of_value(struct loader *l, const struct toml_member *m, const char *header, int r, const char *why)
{
	if (r == -ENOMEM)
		l->no_memory = true;
	else
		load_complain(l, REPORT_ERROR, m->line, m->column, "%s%s%s %s", header, header[0] ? " " : "", m->key,
			      why);
}

static uint32_t file_line(const struct loader *l, uint32_t line)
{
	return line_map_get(&l->lines, line);
}

/* ------------------------------------------------------------------------------ keys of directives.def */

/* Is there another name for the key in the same table? */
static bool has_other_name(const char *section, const struct config_key *key)
{
	for (uint32_t i = 0; i < config_alias_count; i++) {
		const struct config_alias *a = &config_aliases[i];

		if (strcmp(a->from_section, section) == 0 && strcmp(a->section, section) == 0 &&
		    strcmp(a->name, key->name) == 0)
			return true;
	}
	return false;
}

/* Has the key been given before? In the same table that is a mistake, unless it is another name for it with the same
 * value; a later table simply counts more. */
static bool may_set(struct loader *l, const char *section, const struct toml_member *m, const struct config_key *key,
		    const void *value)
{
	const struct config_origin *before = &l->origins[key_index(key)];

	if (before->kind == ORIGIN_DEFAULT)
		return true;
	if (value_equal(key, (const char *)l->config + key->offset, value) &&
	    (strcmp(before->section, section) != 0 || has_other_name(section, key)))
		return true;
	if (strcmp(before->section, section) == 0) {
		load_complain(l, REPORT_ERROR, m->line, m->column, "[%s] %s was given before, in line %u", section,
			      m->key, before->line);
		return false;
	}
	load_complain(l, REPORT_NOTICE, m->line, m->column, "[%s] %s counts, not that of [%s] in line %u", section,
		      m->key, before->section, before->line);
	return true;
}

static void load_key(struct loader *l, const char *section, const struct toml_member *m, const struct config_key *key,
		     usec_t unit)
{
	_Alignas(uint64_t) uint8_t value[FIELD_SIZE_MAX];
	char header[PATH_TEXT], why[WHY_SIZE];
	bool substituted = line_map_is_substituted(&l->lines, m->value.line);
	int r = value_from_toml(key, &m->value, unit, &l->config->arena, value, why);

	if (r < 0) {
		snprintf(header, sizeof(header), "[%s]", section);
		complain_of_value(l, m, header, r, why);
		return;
	}
	if (!may_set(l, section, m, key, value))
		return;
	memcpy((char *)l->config + key->offset, value, key->size);
	l->origins[key_index(key)] = (struct config_origin){
		.kind = substituted ? ORIGIN_ENVIRONMENT : ORIGIN_FILE,
		.line = file_line(l, m->line),
		.section = arena_strdup(&l->config->arena, section),
	};
	if (!l->origins[key_index(key)].section)
		l->no_memory = true;
}

static void load_table(struct loader *l, const char *section, const struct toml_value *table);
static void load_routing_aliases(struct loader *l, const struct toml_value *table, const struct toml_member *m);

static void load_member(struct loader *l, const char *section, const struct toml_value *table,
			const struct toml_member *m, const char **told)
{
	struct suggestion s;
	char path[PATH_TEXT];
	usec_t unit;
	const struct config_key *key = key_find(section, m->key, &unit);

	if (key && m->value.type != TOML_TABLE) { /* else it may be one of the reference's: [analytics.slow_query] */
		load_key(l, section, m, key, unit);
		return;
	}
	snprintf(path, sizeof(path), "%s.%s", section, m->key);
	if (m->value.type == TOML_TABLE && strcmp(path, "routing.aliases") == 0) {
		load_routing_aliases(l, &m->value, m);
		return;
	}
	if (m->value.type == TOML_TABLE && section_has_aliases(path)) {
		load_table(l, path, &m->value);
		return;
	}
	if (unavailable_key(l, section, table, m, told))
		return;
	if (key) {
		load_key(l, section, m, key, unit);
		return;
	}
	suggestion_begin(&s, m->key);
	suggestion_offer_section(&s, section);
	unavailable_offer(&s, section);
	load_unknown(l, m, path, &s);
}

static void load_table(struct loader *l, const char *section, const struct toml_value *table)
{
	const char *told = NULL;

	for (uint32_t i = 0; i < table->table.count; i++)
		load_member(l, section, table, &table->table.members[i], &told);
}

static void load_section(struct loader *l, const struct toml_member *m)
{
	const struct config_section *section = section_find(m->key);

	if (m->value.type != TOML_TABLE) {
		load_complain(l, REPORT_ERROR, m->line, m->column, "%s must be a table: write [%s]", m->key, m->key);
		return;
	}
	if (section)
		*(bool *)((char *)l->config + section->given_offset) = true;
	load_table(l, m->key, &m->value);
}

/* -------------------------------------------------------------------------------- objects of tables.def */

struct object {
	const char *table;      /* "nodes" */
	char header[PATH_TEXT]; /* "[databases.shop]" */
	void *fields;           /* of the table's C struct */
	bool takes_pool_keys;
	struct config_override *overrides; /* room for one a member */
	uint32_t override_count;
};

static void object_defaults(struct loader *l, const char *table, void *fields)
{
	char why[WHY_SIZE];

	for (uint32_t i = 0; i < table_key_count; i++) {
		const struct config_key *key = &table_keys[i];

		if (strcmp(key->section, table) == 0 &&
		    value_from_text(key, key->default_text, &l->config->arena, (char *)fields + key->offset, why) < 0)
			l->no_memory = true;
	}
}

static void load_override(struct loader *l, struct object *o, const struct toml_member *m, const struct config_key *key,
			  usec_t unit)
{
	void *value = arena_zalloc(&l->config->arena, FIELD_SIZE_MAX);
	char why[WHY_SIZE];
	int r = value ? value_from_toml(key, &m->value, unit, &l->config->arena, value, why) : -ENOMEM;

	if (r < 0) {
		complain_of_value(l, m, o->header, r, why);
		return;
	}
	for (uint32_t i = 0; i < o->override_count; i++) {
		if (o->overrides[i].key == key) {
			load_complain(l, REPORT_ERROR, m->line, m->column, "%s %s was given before, in line %u",
				      o->header, m->key, o->overrides[i].line);
			return;
		}
	}
	o->overrides[o->override_count++] =
		(struct config_override){.key = key, .value = value, .line = file_line(l, m->line)};
}

static void load_object_member(struct loader *l, struct object *o, const struct toml_member *m)
{
	struct suggestion s;
	char path[2 * PATH_TEXT], why[WHY_SIZE];
	usec_t unit;
	const struct config_key *key = table_key_find(o->table, m->key, &unit);
	int r;

	if (key) {
		r = value_from_toml(key, &m->value, unit, &l->config->arena, (char *)o->fields + key->offset, why);
		if (r < 0)
			complain_of_value(l, m, o->header, r, why);
		return;
	}
	key = o->takes_pool_keys ? key_find("pool", m->key, &unit) : NULL;
	if (key) {
		load_override(l, o, m, key, unit);
		return;
	}
	suggestion_begin(&s, m->key);
	suggestion_offer_section(&s, o->table);
	if (o->takes_pool_keys)
		suggestion_offer_section(&s, "pool");
	snprintf(path, sizeof(path), "%s in %s", m->key, o->header);
	load_unknown(l, m, path, &s);
}

/* named: the table is an item of [[databases]] and has a name of its own. */
static void load_object(struct loader *l, struct object *o, const struct toml_value *table, bool named)
{
	object_defaults(l, o->table, o->fields);
	if (o->takes_pool_keys) {
		o->overrides = arena_zalloc(&l->config->arena, (table->table.count + 1) * sizeof(*o->overrides));
		if (!o->overrides) {
			l->no_memory = true;
			return;
		}
	}
	for (uint32_t i = 0; i < table->table.count && !l->no_memory; i++) {
		const struct toml_member *m = &table->table.members[i];

		if (!(named && strcmp(m->key, "name") == 0))
			load_object_member(l, o, m);
	}
}

static bool need(struct loader *l, const struct object *o, const struct toml_value *table, const char *key)
{
	if (toml_get(table, key))
		return true;
	load_complain(l, REPORT_ERROR, table->line, table->column, "%s needs %s", o->header, key);
	return false;
}

static bool is_array_of_tables(const struct toml_value *v)
{
	if (v->type != TOML_ARRAY)
		return false;
	for (uint32_t i = 0; i < v->array.count; i++)
		if (v->array.items[i].type != TOML_TABLE)
			return false;
	return true;
}

/* Room for `count` objects of the table's struct; NULL (told) when they are too many, or out of memory. */
static void *take_objects(struct loader *l, const struct toml_member *m, uint32_t count)
{
	void *memory = NULL;

	if (count > OBJECTS_MAX) {
		load_complain(l, REPORT_ERROR, m->line, m->column, "more than %u %s", OBJECTS_MAX, m->key);
		return NULL;
	}
	memory = arena_zalloc(&l->config->arena, MAX(count, 1u) * table_section_find(m->key)->size);
	if (!memory)
		l->no_memory = true;
	return memory;
}

static const char *address_text(struct loader *l, const char *host, uint32_t port)
{
	bool v6 = strchr(host, ':') != NULL;
	char text[PATH_TEXT + 16];
	const char *copy;

	snprintf(text, sizeof(text), v6 ? "[%.255s]:%u" : "%.255s:%u", host, port);
	copy = arena_strdup(&l->config->arena, text);
	if (!copy)
		l->no_memory = true;
	return copy ? copy : "";
}

static void load_nodes(struct loader *l, const struct toml_member *m)
{
	struct config_node *nodes;

	if (!is_array_of_tables(&m->value)) {
		load_complain(l, REPORT_ERROR, m->line, m->column, "nodes must be an array of tables: write [[nodes]]");
		return;
	}
	nodes = take_objects(l, m, m->value.array.count);
	if (!nodes)
		return;
	for (uint32_t i = 0; i < m->value.array.count && !l->no_memory; i++) {
		const struct toml_value *table = &m->value.array.items[i];
		struct object o = {.table = "nodes", .header = "[[nodes]]", .fields = &nodes[i]};

		load_object(l, &o, table, false);
		if (need(l, &o, table, "host") && toml_get(table, "host")->type == TOML_STRING && !nodes[i].host[0])
			load_complain(l, REPORT_ERROR, table->line, table->column, "[[nodes]] host must not be empty");
		if (m->value.array.count > 1)
			need(l, &o, table, "role");
		nodes[i].line = file_line(l, table->line);
		if (!l->no_memory && !nodes[i].name[0])
			nodes[i].name = address_text(l, nodes[i].host, nodes[i].port);
	}
	l->config->nodes = nodes;
	l->config->node_count = m->value.array.count;
}

static void load_hba(struct loader *l, const struct toml_member *m)
{
	struct config_hba *rules;

	if (!is_array_of_tables(&m->value)) {
		load_complain(l, REPORT_ERROR, m->line, m->column, "hba must be an array of tables: write [[hba]]");
		return;
	}
	rules = take_objects(l, m, m->value.array.count);
	if (!rules)
		return;
	for (uint32_t i = 0; i < m->value.array.count && !l->no_memory; i++) {
		const struct toml_value *table = &m->value.array.items[i];
		struct object o = {.table = "hba", .header = "[[hba]]", .fields = &rules[i]};

		load_object(l, &o, table, false);
		need(l, &o, table, "action");
		rules[i].line = file_line(l, table->line);
	}
	l->config->hba_rules = rules;
	l->config->hba_rule_count = m->value.array.count;
}

/* The i-th of [databases.NAME] or [[databases]]; NULL (told) when it isn't a table with a name. */
static const struct toml_value *named_table(struct loader *l, const struct toml_member *m, uint32_t i,
					    const char **ret_name)
{
	const struct toml_value *table, *name;

	if (m->value.type == TOML_TABLE) {
		table = &m->value.table.members[i].value;
		*ret_name = m->value.table.members[i].key;
		if (table->type == TOML_TABLE)
			return table;
		load_complain(l, REPORT_ERROR, m->value.table.members[i].line, m->value.table.members[i].column,
			      "%s.%s must be a table: write [%s.%s]", m->key, *ret_name, m->key, *ret_name);
		return NULL;
	}
	table = &m->value.array.items[i];
	name = toml_get(table, "name");
	if (name && name->type == TOML_STRING && name->string.len && strlen(name->string.text) == name->string.len) {
		*ret_name = arena_strdup(&l->config->arena, name->string.text);
		l->no_memory |= !*ret_name;
		return *ret_name ? table : NULL;
	}
	load_complain(l, REPORT_ERROR, table->line, table->column, "[[%s]] needs a name", m->key);
	return NULL;
}

static uint32_t named_count(struct loader *l, const struct toml_member *m)
{
	if (m->value.type == TOML_TABLE)
		return m->value.table.count;
	if (is_array_of_tables(&m->value))
		return m->value.array.count;
	load_complain(l, REPORT_ERROR, m->line, m->column, "%s must be tables: write [%s.NAME]", m->key, m->key);
	return 0;
}

static const char *keep(struct loader *l, const char *text)
{
	const char *copy = arena_strdup(&l->config->arena, text);

	l->no_memory |= !copy;
	return copy ? copy : "";
}

static void load_databases(struct loader *l, const struct toml_member *m)
{
	uint32_t count = named_count(l, m), n = 0;
	struct config_database *databases = take_objects(l, m, count);
	const char *name;

	for (uint32_t i = 0; databases && i < count && !l->no_memory; i++) {
		const struct toml_value *table = named_table(l, m, i, &name);
		struct object o = {.table = "databases", .fields = &databases[n], .takes_pool_keys = true};

		if (!table)
			continue;
		snprintf(o.header, sizeof(o.header), "[databases.%s]", name);
		load_object(l, &o, table, m->value.type == TOML_ARRAY);
		databases[n].name = keep(l, name);
		databases[n].overrides = o.overrides;
		databases[n].override_count = o.override_count;
		databases[n++].line = file_line(l, table->line);
	}
	l->config->databases = databases;
	l->config->database_count = n;
}

static void load_users(struct loader *l, const struct toml_member *m)
{
	uint32_t count = named_count(l, m), n = 0;
	struct config_user *users = take_objects(l, m, count);
	const char *name;

	for (uint32_t i = 0; users && i < count && !l->no_memory; i++) {
		const struct toml_value *table = named_table(l, m, i, &name);
		struct object o = {.table = "users", .fields = &users[n], .takes_pool_keys = true};

		if (!table)
			continue;
		snprintf(o.header, sizeof(o.header), "[users.%s]", name);
		load_object(l, &o, table, m->value.type == TOML_ARRAY);
		users[n].name = keep(l, name);
		users[n].overrides = o.overrides;
		users[n].override_count = o.override_count;
		users[n++].line = file_line(l, table->line);
	}
	l->config->users = users;
	l->config->user_count = n;
}

static void load_admin_tokens(struct loader *l, const struct toml_member *m)
{
	uint32_t count = named_count(l, m), n = 0;
	struct config_admin_token *tokens = take_objects(l, m, count);
	const char *name;

	for (uint32_t i = 0; tokens && i < count && !l->no_memory; i++) {
		const struct toml_value *table = named_table(l, m, i, &name);
		struct object o = {.table = "admin_tokens", .fields = &tokens[n]};

		if (!table)
			continue;
		snprintf(o.header, sizeof(o.header), "[admin_tokens.%s]", name);
		load_object(l, &o, table, m->value.type == TOML_ARRAY);
		tokens[n].name = keep(l, name);
		tokens[n++].line = file_line(l, table->line);
	}
	l->config->admin_tokens = tokens;
	l->config->admin_token_count = n;
}

/* Room for more of them, behind those that are there: both spellings may stand in a file. NULL (told): there is none.
 */
static struct config_node_alias *more_aliases(struct loader *l, const struct toml_member *m, uint32_t count)
{
	uint32_t there = l->config->node_alias_count;
	struct config_node_alias *all;

	if (count + there > ALIASES_MAX) {
		load_complain(l, REPORT_ERROR, m->line, m->column, "more than %u names for several nodes", ALIASES_MAX);
		return NULL;
	}
	all = arena_zalloc(&l->config->arena, (there + count + 1) * sizeof(*all));
	if (!all) {
		l->no_memory = true;
		return NULL;
	}
	if (there)
		memcpy(all, l->config->node_aliases, there * sizeof(*all));
	l->config->node_aliases = all;
	return all + there;
}

static void add_alias(struct loader *l, struct config_node_alias *alias, const char *name, uint32_t line)
{
	const struct config_node_alias *before = config_node_alias_find(l->config, name);

	if (before)
		load_complain(l, REPORT_ERROR, line, 0, "the name %s of several nodes was given before, in line %u",
			      name, before->line);
	alias->name = keep(l, name);
	alias->line = file_line(l, line);
	l->config->node_alias_count++;
}

static void load_node_aliases(struct loader *l, const struct toml_member *m)
{
	uint32_t count = named_count(l, m);
	struct config_node_alias *alias = more_aliases(l, m, count);
	const char *name;

	for (uint32_t i = 0; alias && i < count && !l->no_memory; i++) {
		const struct toml_value *table = named_table(l, m, i, &name);
		struct object o = {.table = "node_aliases", .fields = alias};

		if (!table)
			continue;
		snprintf(o.header, sizeof(o.header), "[node_aliases.%s]", name);
		load_object(l, &o, table, m->value.type == TOML_ARRAY);
		add_alias(l, alias++, name, table->line);
	}
}

/* [routing.aliases] NAME = ["a", "b"] */
static void load_routing_aliases(struct loader *l, const struct toml_value *table, const struct toml_member *m)
{
	uint32_t count = table->table.count;
	struct config_node_alias *alias = more_aliases(l, m, count);
	char why[WHY_SIZE];
	usec_t unit;

	for (uint32_t i = 0; alias && i < count && !l->no_memory; i++) {
		const struct toml_member *item = &table->table.members[i];
		int r = value_from_toml(table_key_find("node_aliases", "nodes", &unit), &item->value, 0,
					&l->config->arena, &alias->nodes, why);

		if (r < 0)
			complain_of_value(l, item, "[routing.aliases]", r, why);
		else
			add_alias(l, alias++, item->key, item->line);
	}
}

/* ------------------------------------------------------------------------------------------------ root */

static void load_objects(struct loader *l, const struct toml_member *m)
{
	if (strcmp(m->key, "nodes") == 0)
		load_nodes(l, m);
	else if (strcmp(m->key, "databases") == 0)
		load_databases(l, m);
	else if (strcmp(m->key, "users") == 0)
		load_users(l, m);
	else if (strcmp(m->key, "admin_tokens") == 0)
		load_admin_tokens(l, m);
	else if (strcmp(m->key, "node_aliases") == 0)
		load_node_aliases(l, m);
	else
		load_hba(l, m);
}

static void load_unknown_root(struct loader *l, const struct toml_member *m)
{
	struct suggestion s;

	suggestion_begin(&s, m->key);
	for (uint32_t i = 0; i < config_section_count; i++)
		suggestion_offer(&s, config_sections[i].name);
	for (uint32_t i = 0; i < table_section_count; i++)
		suggestion_offer(&s, table_sections[i].name);
	unavailable_offer(&s, "");
	if (m->value.type != TOML_TABLE) {
		suggestion_offer_section(&s, "proxy");
		unavailable_offer(&s, "proxy");
	}
	load_unknown(l, m, m->key, &s);
}

static void load_root_member(struct loader *l, const struct toml_value *root, const struct toml_member *m,
			     const char **told)
{
	usec_t unit;
	const struct config_key *key;

	if (section_find(m->key)) {
		load_section(l, m);
	} else if (table_section_find(m->key)) {
		load_objects(l, m);
	} else if ((key = key_find("proxy", m->key, &unit)) != NULL) {
		load_key(l, "proxy", m, key, unit);
	} else if (!unavailable_key(l, "proxy", root, m, told) && !unavailable_table(l, m)) {
		load_unknown_root(l, m);
	}
}

/* Sections that are only aliases of others ([pool_mode]) come last, and so count more. */
void load_root(struct loader *l, const struct toml_value *root)
{
	const struct toml_member *members = root->table.members;
	const char *told = NULL;

	for (uint32_t i = 0; i < root->table.count && !l->no_memory; i++)
		if (section_find(members[i].key) || !section_has_aliases(members[i].key))
			load_root_member(l, root, &members[i], &told);
	for (uint32_t i = 0; i < root->table.count && !l->no_memory; i++)
		if (!section_find(members[i].key) && section_has_aliases(members[i].key))
			load_section(l, &members[i]);
}

static int load_tree(struct loader *l, const char *text, size_t len)
{
	const struct toml_value *root;
	struct toml_error error;
	struct arena tree;
	int r;

	arena_init(&tree, 65536);
	r = toml_parse(text, len, &tree, &root, &error);
	if (r == -EINVAL)
		load_complain(l, REPORT_ERROR, error.line, error.column, "%s", error.text);
	if (r == 0)
		load_root(l, root);
	arena_destroy(&tree);
	return r;
}

/* For config_load_settings(). */
static void keep_text(struct loader *l, const char *text, size_t len)
{
	char *copy = arena_alloc(&l->config->arena, len + 1);

	l->no_memory |= !copy;
	if (!copy)
		return;
	memcpy(copy, text, len);
	copy[len] = 0;
	l->config->text = slice_make((const uint8_t *)copy, len);
}

int load_text(const char *text, size_t len, const char *name, const struct config_setting *settings, uint32_t count,
	      struct config **ret, struct config_report *report)
{
	struct loader l = {.report = report, .file = name};
	struct buf expanded = BUF_INIT(TOML_BYTES_MAX);
	struct arena scratch;
	int r;

	arena_init(&scratch, 16384);
	l.config = config_new(name, &l.origins);
	if (!l.config) {
		r = -ENOMEM;
		goto out;
	}
	r = substitute(text, len, name, &expanded, &scratch, &l.lines, report);
	if (r == -E2BIG) {
		report_add(report, REPORT_ERROR, name, 0, 0, "the file is larger than 16 MB");
		r = -EINVAL;
	}
	if (r == 0)
		r = load_tree(&l, (const char *)expanded.bytes, expanded.len);
	if (r == 0) {
		keep_text(&l, text, len);
		load_settings(&l, settings, count);
		config_finish(&l);
	}
	if (r == 0 && l.no_memory)
		r = -ENOMEM;
	if (r == 0 && report->errors)
		r = -EINVAL;
	report_sort(report);
	if (r == 0) {
		*ret = l.config;
		l.config = NULL; /* handed over */
	}
out:
	config_free(l.config);
	arena_destroy(&scratch);
	buf_free_secret(&expanded);
	return r;
}

int config_load_text(const char *text, size_t len, const char *name, struct config **ret, struct config_report *report)
{
	return load_text(text, len, name, NULL, 0, ret, report);
}

int config_load(const char *path, struct config **ret, struct config_report *report)
{
	struct buf text = BUF_INIT(READ_FILE_MAX);
	int r = read_regular_file(path, &text, NULL);

	if (r < 0)
		report_add(report, REPORT_ERROR, path, 0, 0, "%s", read_file_error(r));
	else
		r = config_load_text((const char *)text.bytes, text.len, path, ret, report);
	buf_free_secret(&text);
	return r;
}
