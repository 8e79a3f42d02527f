/*
 * Keys of the reference that this build can't act on (unavailable.def). They are never unknown; where they would have
 * changed something the report says so once, and strictly taken it is an error.
 */
#include "config/load_priv.h"

#define PATH_MAX_TEXT 256u

/* Does "cache.tables.*" cover "cache.tables.orders"? */
static bool path_matches(const char *pattern, const char *path)
{
	while (*pattern && *path) {
		if (*pattern == '*') {
			size_t rest = strcspn(path, ".");

			pattern++;
			path += rest;
		} else if (*pattern++ != *path++) {
			return false;
		}
	}
	return !*pattern && !*path;
}

static bool word_in(const char *words, const char *word)
{
	size_t len = strlen(word);

	for (const char *at = words; (at = strstr(at, word)) != NULL; at += len)
		if ((at == words || at[-1] == ' ') && (at[len] == ' ' || at[len] == 0))
			return true;
	return false;
}

static const struct unavailable *find_path(const char *path)
{
	for (uint32_t i = 0; i < unavailable_count; i++)
		if (path_matches(unavailables[i].path, path))
			return &unavailables[i];
	return NULL;
}

static const struct unavailable *find_key(const char *path, const char *key)
{
	if (!key[0] || strchr(key, ' '))
		return NULL;
	for (uint32_t i = 0; i < unavailable_count; i++)
		if (path_matches(unavailables[i].path, path) && word_in(unavailables[i].keys, key))
			return &unavailables[i];
	return NULL;
}

/* Offers the names of tables (path "") or the keys of one, word by word. */
void unavailable_offer(struct suggestion *s, const char *path)
{
	for (uint32_t i = 0; i < unavailable_count; i++) {
		const struct unavailable *row = &unavailables[i];

		if (!path[0] && !strchr(row->path, '.'))
			suggestion_offer(s, row->path);
		else if (path[0] && path_matches(row->path, path))
			suggestion_offer_words(s, row->keys);
	}
}

static bool is_false(const struct toml_value *v)
{
	return v && v->type == TOML_BOOLEAN && !v->boolean;
}

static bool is_true(const struct toml_value *v)
{
	return v && v->type == TOML_BOOLEAN && v->boolean;
}

/* A value that asks for nothing. */
static bool is_idle(const struct toml_value *v)
{
	switch (v->type) {
	case TOML_BOOLEAN:
		return !v->boolean;
	case TOML_INTEGER:
		return v->integer == 0;
	case TOML_STRING:
		return v->string.len == 0 || strcmp(v->string.text, "none") == 0 ||
		       strcmp(v->string.text, "disable") == 0;
	case TOML_ARRAY:
		return v->array.count == 0;
	default:
		return false;
	}
}

/* Would a table of this kind act, going by its own switch? */
static bool is_switched_on(const struct unavailable *row, const struct toml_value *table)
{
	const struct toml_value *enabled = toml_get(table, "enabled");

	return enabled ? !is_false(enabled) : row->on_by_default;
}

static bool has_tables(const struct toml_value *v)
{
	return v->type == TOML_TABLE ||
	       (v->type == TOML_ARRAY && v->array.count && v->array.items[0].type == TOML_TABLE);
}

/* Looks for unknown keys in a table or an array of tables. Returns whether something there would act. */
static bool walk(struct loader *l, const char *path, const struct toml_value *v);

static bool walk_member(struct loader *l, const char *path, const struct toml_member *m)
{
	char below[PATH_MAX_TEXT];
	struct suggestion s;
	const struct unavailable *row;

	if (snprintf(below, sizeof(below), "%s.%s", path, m->key) >= (int)sizeof(below))
		below[0] = 0;
	if (below[0] && has_tables(&m->value) && find_path(below))
		return walk(l, below, &m->value);
	row = find_key(path, m->key);
	if (row)
		return row->capability[0] && !is_idle(&m->value);
	suggestion_begin(&s, m->key);
	unavailable_offer(&s, path);
	load_unknown(l, m, below[0] ? below : m->key, &s);
	return false;
}

static bool walk(struct loader *l, const char *path, const struct toml_value *v)
{
	const struct unavailable *row = find_path(path);
	bool acts = false;

	if (strcmp(row->keys, "*") == 0)
		return true;
	if (v->type == TOML_ARRAY) {
		for (uint32_t i = 0; i < v->array.count; i++)
			acts |= walk(l, path, &v->array.items[i]);
		return acts;
	}
	for (uint32_t i = 0; v->type == TOML_TABLE && i < v->table.count; i++)
		acts |= walk_member(l, path, &v->table.members[i]);
	return acts && is_switched_on(row, v);
}

/* Of a table whose first rows may be of keys that mean nothing. */
static const char *capability_of(const char *path)
{
	for (uint32_t i = 0; i < unavailable_count; i++)
		if (unavailables[i].capability[0] && strcmp(unavailables[i].path, path) == 0)
			return unavailables[i].capability;
	return path;
}

static void tell(struct loader *l, const struct toml_member *m, const char *what)
{
	load_complain(l, l->report->strict ? REPORT_ERROR : REPORT_NOTICE, m->line, m->column,
		      "%s is not available in this build", what);
}

bool unavailable_table(struct loader *l, const struct toml_member *m)
{
	const struct unavailable *row = find_path(m->key);
	char what[PATH_MAX_TEXT];

	if (!row || strchr(m->key, '.') || !has_tables(&m->value))
		return false;
	if (walk(l, m->key, &m->value)) {
		snprintf(what, sizeof(what), m->value.type == TOML_ARRAY ? "[[%s]]" : "[%s]", m->key);
		load_complain(l, l->report->strict ? REPORT_ERROR : REPORT_NOTICE, m->line, m->column,
			      "%s is not available in this build: %s", what, capability_of(row->path));
	}
	return true;
}

/* Do other keys of it act? Then not all of it is missing, and the notice names the key. */
static bool section_has_keys(const char *section)
{
	for (uint32_t i = 0; i < config_key_count; i++)
		if (strcmp(config_keys[i].section, section) == 0)
			return true;
	for (uint32_t i = 0; i < config_alias_count; i++)
		if (strcmp(config_aliases[i].from_section, section) == 0)
			return true;
	return false;
}

bool unavailable_key(struct loader *l, const char *section, const struct toml_value *table, const struct toml_member *m,
		     const char **told)
{
	const struct unavailable *row = find_key(section, m->key);
	char what[PATH_MAX_TEXT];

	snprintf(what, sizeof(what), "%s.%s", section, m->key);
	if (!row && has_tables(&m->value) && find_path(what)) {
		row = find_path(what);
		if (walk(l, what, &m->value) && !is_false(toml_get(table, "enabled"))) {
			snprintf(what, sizeof(what), "[%s.%s]", section, m->key);
			tell(l, m, what);
		}
		return true;
	}
	if (!row)
		return false;
	if (!row->capability[0] || is_idle(&m->value) || (*told && strcmp(*told, row->capability) == 0))
		return true;
	if (!row->on_by_default && !is_true(toml_get(table, "enabled")))
		return true;
	*told = row->capability;
	if (section_has_keys(section))
		snprintf(what, sizeof(what), "[%s] %s: %s", section, m->key, row->capability);
	else
		snprintf(what, sizeof(what), "[%s]", section);
	tell(l, m, what);
	return true;
}
