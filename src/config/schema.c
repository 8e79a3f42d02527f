/* The JSON schema of proxy.toml, for editors (taplo, Even Better TOML). See reference.h. */
#include "config/keys.h"
#include "config/reference.h"

#include <jansson.h>

/* New references; what could not be made for lack of memory is NULL, and left out. */

static json_t *enum_schema(enum config_type type)
{
	json_t *values = json_array();

	for (uint32_t i = 0; i < config_enum_count; i++)
		if (config_enums[i].type == type)
			json_array_append_new(values, json_string(config_enums[i].text));
	return json_pack("{s:o}", "enum", values);
}

static json_t *number_schema(const struct config_key *key)
{
	bool bounded = key->min || key->max;

	if (key->type == TYPE_uint)
		return json_pack("{s:s, s:I, s:I}", "type", "integer", "minimum", (json_int_t)key->min, "maximum",
				 (json_int_t)(bounded ? key->max : UINT32_MAX));
	if (key->type == TYPE_size)
		return json_pack("{s:[s,s], s:s}", "type", "integer", "string", "pattern",
				 "^\\s*[0-9]+(\\.[0-9]*)?\\s*([kKmMgGtT]?[iI]?[bB]?)\\s*$");
	return json_pack("{s:[s,s], s:i, s:s}", "type", "number", "string", "minimum", 0, "pattern",
			 "^\\s*[0-9]+(\\.[0-9]*)?\\s*[a-zA-Z]*\\s*$");
}

static json_t *type_schema(const struct config_key *key)
{
	switch (key->type) {
	case TYPE_bool:
		return json_pack("{s:s}", "type", "boolean");
	case TYPE_uint:
	case TYPE_size:
	case TYPE_duration:
		return number_schema(key);
	case TYPE_ratio:
		return json_pack("{s:[{s:s, s:i, s:i}, {s:s}]}", "anyOf", "type", "number", "minimum", 0, "maximum", 1,
				 "const", "");
	case TYPE_string:
	case TYPE_secret:
	case TYPE_address:
		return json_pack("{s:s}", "type", "string");
	case TYPE_strings:
	case TYPE_addresses:
		return json_pack("{s:[{s:s}, {s:s, s:{s:s}}]}", "anyOf", "type", "string", "type", "array", "items",
				 "type", "string");
	default:
		return enum_schema(key->type);
	}
}

static json_t *key_schema(const struct config_key *key)
{
	json_t *schema = type_schema(key);

	if (schema) {
		json_object_set_new(schema, "description", json_string(key->help));
		if (type_is_enum(key->type) || key->type == TYPE_string || key->type == TYPE_address)
			json_object_set_new(schema, "default", json_string(key->default_text));
	}
	return schema;
}

static void add_key(json_t *properties, const struct config_key *key, const char *name)
{
	char with_unit[128];

	json_object_set_new(properties, name, key_schema(key));
	if (key->type != TYPE_duration)
		return;
	snprintf(with_unit, sizeof(with_unit), "%s_secs", name);
	json_object_set_new(properties, with_unit, key_schema(key));
	snprintf(with_unit, sizeof(with_unit), "%s_ms", name);
	json_object_set_new(properties, with_unit, key_schema(key));
}

/* The keys and aliases of a section. */
static void add_section_keys(json_t *properties, const char *section)
{
	usec_t unit;

	for (uint32_t i = 0; i < config_key_count; i++)
		if (strcmp(config_keys[i].section, section) == 0)
			add_key(properties, &config_keys[i], config_keys[i].name);
	for (uint32_t i = 0; i < config_alias_count; i++)
		if (strcmp(config_aliases[i].from_section, section) == 0)
			add_key(properties, key_find(config_aliases[i].section, config_aliases[i].name, &unit),
				config_aliases[i].from_name);
}

static void add_unavailable_keys(json_t *properties, const char *section)
{
	for (uint32_t i = 0; i < unavailable_count; i++) {
		const char *words = unavailables[i].keys;
		char word[64];

		if (strcmp(unavailables[i].path, section) != 0 || words[0] == '*')
			continue;
		for (size_t len; words[0]; words += len + (words[len] == ' ')) {
			len = strcspn(words, " ");
			snprintf(word, sizeof(word), "%.*s", (int)len, words);
			if (len && !json_object_get(properties, word))
				json_object_set_new(properties, word, json_object());
		}
	}
}

static json_t *closed_object(json_t *properties, const char *help)
{
	return json_pack("{s:s, s:s, s:o, s:b}", "type", "object", "description", help, "properties", properties,
			 "additionalProperties", 0);
}

/* Tables within the section that hold other names of keys, such as [circuit_breaker.failure_conditions]. */
static void add_inner_tables(json_t *properties, const char *section)
{
	size_t len = strlen(section);

	for (uint32_t i = 0; i < config_alias_count; i++) {
		const char *path = config_aliases[i].from_section;
		json_t *inner;

		if (strncmp(path, section, len) != 0 || path[len] != '.' || json_object_get(properties, path + len + 1))
			continue;
		inner = json_object();
		add_section_keys(inner, path);
		json_object_set_new(properties, path + len + 1,
				    closed_object(inner, "Other names of keys of the table around it."));
	}
}

/* [routing.aliases] NAME = ["a", "b"] */
static json_t *aliases_schema(void)
{
	usec_t unit;
	json_t *nodes = key_schema(table_key_find("node_aliases", "nodes", &unit));

	return json_pack("{s:s, s:s, s:o}", "type", "object", "description",
			 "Other names of [node_aliases.NAME] nodes.", "additionalProperties", nodes);
}

static json_t *section_schema(const struct config_section *section)
{
	json_t *properties = json_object();

	add_section_keys(properties, section->name);
	add_unavailable_keys(properties, section->name);
	/* tables of capabilities that this build lacks, such as [auth.jwt] */
	for (uint32_t i = 0; i < unavailable_count; i++) {
		size_t len = strlen(section->name);
		const char *path = unavailables[i].path;

		if (strncmp(path, section->name, len) == 0 && path[len] == '.' && !strpbrk(path + len + 1, ".*"))
			json_object_set_new(properties, path + len + 1, json_object());
	}
	add_inner_tables(properties, section->name);
	if (strcmp(section->name, "routing") == 0)
		json_object_set_new(properties, "aliases", aliases_schema());
	return closed_object(properties, section->help);
}

static json_t *table_schema(const struct config_section *table)
{
	bool has_names = strchr(table->header, '.') != NULL;
	json_t *properties = json_object(), *object;

	for (uint32_t i = 0; i < table_key_count; i++)
		if (strcmp(table_keys[i].section, table->name) == 0)
			add_key(properties, &table_keys[i], table_keys[i].name);
	if (!has_names)
		return json_pack("{s:s, s:o}", "type", "array", "items", closed_object(properties, table->help));
	if (strcmp(table->name, "databases") == 0 || strcmp(table->name, "users") == 0)
		add_section_keys(properties, "pool");
	object = closed_object(properties, table->help);
	return json_pack("{s:s, s:o}", "type", "object", "additionalProperties", object);
}

int reference_schema(FILE *out)
{
	json_t *properties = json_object(), *root;
	int r = -ENOMEM;

	for (uint32_t i = 0; i < config_section_count; i++)
		json_object_set_new(properties, config_sections[i].name, section_schema(&config_sections[i]));
	for (uint32_t i = 0; i < table_section_count; i++)
		json_object_set_new(properties, table_sections[i].name, table_schema(&table_sections[i]));
	for (uint32_t i = 0; i < unavailable_count; i++)
		if (!strchr(unavailables[i].path, '.') && !json_object_get(properties, unavailables[i].path))
			json_object_set_new(properties, unavailables[i].path, json_object());
	for (uint32_t i = 0; i < config_alias_count; i++)
		if (!strchr(config_aliases[i].from_section, '.') &&
		    !json_object_get(properties, config_aliases[i].from_section))
			json_object_set_new(properties, config_aliases[i].from_section, json_object());
	add_section_keys(properties, "proxy"); /* also at the top level */
	add_unavailable_keys(properties, "proxy");
	root = json_pack("{s:s, s:s, s:s, s:o, s:b}", "$schema", "http://json-schema.org/draft-07/schema#", "title",
			 "proxy.toml of heliosdb-proxy", "type", "object", "properties", properties,
			 "additionalProperties", 0);
	if (root && json_dumpf(root, out, JSON_INDENT(2)) == 0) {
		fputc('\n', out);
		r = 0;
	}
	json_decref(root);
	return r;
}
