/*
 * The effective configuration as TOML, and the difference of two. What is printed loads again and means the same
 * (but for secrets).
 */
#include "config/load_priv.h"
#include "config/value.h"

#define COMMENT_COLUMN 40u

static const char *origin_name(enum origin_kind kind)
{
	switch (kind) {
	case ORIGIN_FILE:
		return "file";
	case ORIGIN_ENVIRONMENT:
		return "environment";
	case ORIGIN_FLAG:
		return "command line";
	case ORIGIN_CONSOLE:
		return "console";
	case ORIGIN_DEFAULT:
		break;
	}
	return "default";
}

static void print_origin(const struct config *c, const struct config_origin *origin, FILE *out)
{
	switch (origin->kind) {
	case ORIGIN_DEFAULT:
	case ORIGIN_FLAG:
	case ORIGIN_CONSOLE:
		fputs(origin_name(origin->kind), out);
		return;
	case ORIGIN_ENVIRONMENT:
		fputs(origin_name(origin->kind), out);
		if (origin->line)
			fprintf(out, ", %s:%u", c->path, origin->line);
		return;
	case ORIGIN_FILE:
		fprintf(out, "%s:%u", c->path, origin->line);
		return;
	}
}

/* "name = value", padded to where comments begin. */
static void print_value(const struct config_key *key, const void *field, FILE *out)
{
	struct buf line = BUF_INIT(SIZE_MAX / 2);

	buf_printf(&line, "%s = ", key->name);
	value_print(key, field, /* show_secrets= */ false, &line);
	fputs(buf_cstr(&line), out);
	for (size_t at = line.len; at < COMMENT_COLUMN; at++)
		fputc(' ', out);
	buf_free(&line);
}

static void print_sections(const struct config *c, FILE *out)
{
	const char *section = "";

	for (uint32_t i = 0; i < config_key_count; i++) {
		const struct config_key *key = &config_keys[i];

		if (strcmp(key->section, section) != 0)
			fprintf(out, "%s[%s]\n", i ? "\n" : "", key->section);
		section = key->section;
		print_value(key, (const char *)c + key->offset, out);
		fputs(" # ", out);
		print_origin(c, &c->origins[i], out);
		fputc('\n', out);
	}
}

static void print_fields(const char *table, const void *object, FILE *out)
{
	for (uint32_t i = 0; i < table_key_count; i++) {
		struct buf line = BUF_INIT(SIZE_MAX / 2);

		if (strcmp(table_keys[i].section, table) != 0)
			continue;
		buf_printf(&line, "%s = ", table_keys[i].name);
		value_print(&table_keys[i], (const char *)object + table_keys[i].offset, /* show_secrets= */ false,
			    &line);
		fprintf(out, "%s\n", buf_cstr(&line));
		buf_free(&line);
	}
}

static void print_overrides(const struct config *c, const struct config_override *overrides, uint32_t count, FILE *out)
{
	for (uint32_t i = 0; i < count; i++) {
		print_value(overrides[i].key, overrides[i].value, out);
		fprintf(out, " # %s:%u\n", c->path, overrides[i].line);
	}
}

static void print_header(const struct config *c, const char *before, const char *name, const char *after, uint32_t line,
			 FILE *out)
{
	struct buf quoted = BUF_INIT(SIZE_MAX / 2);

	if (name)
		value_print_string(name, &quoted);
	fprintf(out, "\n%s%s%s", before, buf_cstr(&quoted), after);
	if (line)
		fprintf(out, " # %s:%u\n", c->path, line);
	else
		fputs(" # command line\n", out);
	buf_free(&quoted);
}

void config_print(const struct config *c, FILE *out)
{
	print_sections(c, out);
	for (uint32_t i = 0; i < c->node_count; i++) {
		print_header(c, "[[nodes]]", NULL, "", c->nodes[i].line, out);
		print_fields("nodes", &c->nodes[i], out);
	}
	for (uint32_t i = 0; i < c->database_count; i++) {
		const struct config_database *d = &c->databases[i];

		print_header(c, "[databases.", d->name, "]", d->line, out);
		print_fields("databases", d, out);
		print_overrides(c, d->overrides, d->override_count, out);
	}
	for (uint32_t i = 0; i < c->user_count; i++) {
		const struct config_user *u = &c->users[i];

		print_header(c, "[users.", u->name, "]", u->line, out);
		print_fields("users", u, out);
		print_overrides(c, u->overrides, u->override_count, out);
	}
	for (uint32_t i = 0; i < c->admin_token_count; i++) {
		print_header(c, "[admin_tokens.", c->admin_tokens[i].name, "]", c->admin_tokens[i].line, out);
		print_fields("admin_tokens", &c->admin_tokens[i], out);
	}
	for (uint32_t i = 0; i < c->node_alias_count; i++) {
		print_header(c, "[node_aliases.", c->node_aliases[i].name, "]", c->node_aliases[i].line, out);
		print_fields("node_aliases", &c->node_aliases[i], out);
	}
	for (uint32_t i = 0; i < c->hba_rule_count; i++) {
		print_header(c, "[[hba]]", NULL, "", c->hba_rules[i].line, out);
		print_fields("hba", &c->hba_rules[i], out);
	}
}

void config_each_value(const struct config *c, void (*each)(const struct config_value_view *view, void *to), void *to)
{
	for (uint32_t i = 0; i < config_key_count; i++) {
		const struct config_key *key = &config_keys[i];
		struct buf value = BUF_INIT(1u << 20);
		struct config_value_view v = {.section = key->section,
					      .key = key->name,
					      .default_text = key->default_text,
					      .help = key->help,
					      .origin = origin_name(c->origins[i].kind),
					      .line = c->origins[i].line,
					      .reloads = key->reloads};

		value_print(key, (const char *)c + key->offset, /* show_secrets= */ false, &value);
		v.value = buf_cstr(&value);
		each(&v, to);
		buf_free(&value);
	}
}

/* --------------------------------------------------------------------------------------- differences */

struct diff {
	config_diff_fn *tell;
	void *argument;
};

static void tell_values(const struct diff *d, const char *path, const struct config_key *key, const void *old_field,
			const void *new_field)
{
	struct buf old_text = BUF_INIT(SIZE_MAX / 2), new_text = BUF_INIT(SIZE_MAX / 2);

	value_print(key, old_field, /* show_secrets= */ false, &old_text);
	value_print(key, new_field, /* show_secrets= */ false, &new_text);
	d->tell(d->argument, path, buf_cstr(&old_text), buf_cstr(&new_text), key->reloads);
	buf_free(&old_text);
	buf_free(&new_text);
}

static void diff_keys(const struct diff *d, const struct config *old, const struct config *new)
{
	char path[128];

	for (uint32_t i = 0; i < config_key_count; i++) {
		const struct config_key *key = &config_keys[i];
		const void *a = (const char *)old + key->offset, *b = (const char *)new + key->offset;

		if (value_equal(key, a, b))
			continue;
		snprintf(path, sizeof(path), "%s.%s", key->section, key->name);
		tell_values(d, path, key, a, b);
	}
}

static bool fields_equal(const char *table, const void *a, const void *b)
{
	for (uint32_t i = 0; i < table_key_count; i++)
		if (strcmp(table_keys[i].section, table) == 0 &&
		    !value_equal(&table_keys[i], (const char *)a + table_keys[i].offset,
				 (const char *)b + table_keys[i].offset))
			return false;
	return true;
}

static const struct config_override *find_override(const struct config_override *list, uint32_t count,
						   const struct config_key *key)
{
	for (uint32_t i = 0; i < count; i++)
		if (list[i].key == key)
			return &list[i];
	return NULL;
}

static bool overrides_equal(const struct config_override *a, uint32_t a_count, const struct config_override *b,
			    uint32_t b_count)
{
	if (a_count != b_count)
		return false;
	for (uint32_t i = 0; i < a_count; i++) {
		const struct config_override *other = find_override(b, b_count, a[i].key);

		if (!other || !value_equal(a[i].key, a[i].value, other->value))
			return false;
	}
	return true;
}

static const struct config_database *exact_database(const struct config *c, const char *name)
{
	const struct config_database *d = config_database_find(c, name);

	return d && strcmp(d->name, name) == 0 ? d : NULL;
}

static void diff_databases(const struct diff *diff, const struct config *old, const struct config *new)
{
	char path[300];

	for (uint32_t i = 0; i < old->database_count; i++) {
		const struct config_database *a = &old->databases[i], *b = exact_database(new, a->name);

		snprintf(path, sizeof(path), "databases.%s", a->name);
		if (!b)
			diff->tell(diff->argument, path, "given", "", true);
		else if (!fields_equal("databases", a, b) ||
			 !overrides_equal(a->overrides, a->override_count, b->overrides, b->override_count))
			diff->tell(diff->argument, path, "given", "changed", true);
	}
	for (uint32_t i = 0; i < new->database_count; i++) {
		snprintf(path, sizeof(path), "databases.%s", new->databases[i].name);
		if (!exact_database(old, new->databases[i].name))
			diff->tell(diff->argument, path, "", "given", true);
	}
}

static void diff_users(const struct diff *diff, const struct config *old, const struct config *new)
{
	char path[300];

	for (uint32_t i = 0; i < old->user_count; i++) {
		const struct config_user *a = &old->users[i], *b = config_user_find(new, a->name);

		snprintf(path, sizeof(path), "users.%s", a->name);
		if (!b)
			diff->tell(diff->argument, path, "given", "", true);
		else if (!fields_equal("users", a, b) ||
			 !overrides_equal(a->overrides, a->override_count, b->overrides, b->override_count))
			diff->tell(diff->argument, path, "given", "changed", true);
	}
	for (uint32_t i = 0; i < new->user_count; i++) {
		snprintf(path, sizeof(path), "users.%s", new->users[i].name);
		if (!config_user_find(old, new->users[i].name))
			diff->tell(diff->argument, path, "", "given", true);
	}
}

static const struct config_admin_token *find_admin_token(const struct config *c, const char *name)
{
	for (uint32_t i = 0; i < c->admin_token_count; i++)
		if (strcmp(c->admin_tokens[i].name, name) == 0)
			return &c->admin_tokens[i];
	return NULL;
}

static void diff_admin_tokens(const struct diff *diff, const struct config *old, const struct config *new)
{
	char path[300];

	for (uint32_t i = 0; i < old->admin_token_count; i++) {
		const struct config_admin_token *a = &old->admin_tokens[i], *b = find_admin_token(new, a->name);

		snprintf(path, sizeof(path), "admin_tokens.%s", a->name);
		if (!b)
			diff->tell(diff->argument, path, "given", "", true);
		else if (!fields_equal("admin_tokens", a, b) || memcmp(a->digest, b->digest, sizeof(a->digest)) != 0)
			diff->tell(diff->argument, path, "given", "changed", true);
	}
	for (uint32_t i = 0; i < new->admin_token_count; i++) {
		snprintf(path, sizeof(path), "admin_tokens.%s", new->admin_tokens[i].name);
		if (!find_admin_token(old, new->admin_tokens[i].name))
			diff->tell(diff->argument, path, "", "given", true);
	}
}

static void diff_node_aliases(const struct diff *diff, const struct config *old, const struct config *new)
{
	char path[300];

	for (uint32_t i = 0; i < old->node_alias_count; i++) {
		const struct config_node_alias *a = &old->node_aliases[i], *b = config_node_alias_find(new, a->name);

		snprintf(path, sizeof(path), "node_aliases.%s", a->name);
		if (!b)
			diff->tell(diff->argument, path, "given", "", true);
		else if (!fields_equal("node_aliases", a, b))
			diff->tell(diff->argument, path, "given", "changed", true);
	}
	for (uint32_t i = 0; i < new->node_alias_count; i++) {
		snprintf(path, sizeof(path), "node_aliases.%s", new->node_aliases[i].name);
		if (!config_node_alias_find(old, new->node_aliases[i].name))
			diff->tell(diff->argument, path, "", "given", true);
	}
}

/* Whole lists, where the order counts: "3 nodes" -> "4 nodes". */
static void diff_list(const struct diff *d, const char *table, const void *old, uint32_t old_count, const void *new,
		      uint32_t new_count)
{
	uint32_t size = table_section_find(table)->size;
	char old_text[32], new_text[32];
	bool same = old_count == new_count;

	for (uint32_t i = 0; i < old_count && same; i++)
		same = fields_equal(table, (const char *)old + i * size, (const char *)new + i *size);
	if (same)
		return;
	snprintf(old_text, sizeof(old_text), "%u %s", old_count, table);
	snprintf(new_text, sizeof(new_text), "%u %s", new_count, table);
	d->tell(d->argument, table, old_text, new_text, true);
}

void config_diff(const struct config *old, const struct config *new, config_diff_fn *tell, void *argument)
{
	struct diff d = {tell, argument};

	diff_keys(&d, old, new);
	diff_list(&d, "nodes", old->nodes, old->node_count, new->nodes, new->node_count);
	diff_databases(&d, old, new);
	diff_users(&d, old, new);
	diff_admin_tokens(&d, old, new);
	diff_node_aliases(&d, old, new);
	diff_list(&d, "hba", old->hba_rules, old->hba_rule_count, new->hba_rules, new->hba_rule_count);
}
