/* See keys.h. */
#include "config/keys.h"

#define RELOAD true
#define START  false

const struct config_key config_keys[] = {
#define KEY(section_, key_, type_, default_, min_, max_, when_, help_) \
	{.section = #section_, \
	 .name = #key_, \
	 .type = TYPE_##type_, \
	 .default_text = default_, \
	 .min = min_, \
	 .max = max_, \
	 .reloads = when_, \
	 .help = help_, \
	 .offset = offsetof(struct config, section_.key_), \
	 .size = sizeof(config_type_##type_), \
	 .pool_offset = offsetof(struct config_##section_, key_)},
#include "config/directives.def"
};
const uint32_t config_key_count = ARRAY_SIZE(config_keys);

const struct config_section config_sections[] = {
#define SECTION(name_, help_) \
	{.name = #name_, .header = "[" #name_ "]", .help = help_, .given_offset = offsetof(struct config, name_.given)},
#include "config/directives.def"
};
const uint32_t config_section_count = ARRAY_SIZE(config_sections);

/* The structs of tables.def, found by the table's name. */
#define TABLE(name_, structure_, header_, help_) typedef struct structure_ table_struct_##name_;
#include "config/tables.def"

const struct config_key table_keys[] = {
#define TABLE_KEY(table_, key_, field_, type_, default_, min_, max_, help_) \
	{.section = #table_, \
	 .name = #key_, \
	 .type = TYPE_##type_, \
	 .default_text = default_, \
	 .min = min_, \
	 .max = max_, \
	 .reloads = true, \
	 .help = help_, \
	 .offset = offsetof(table_struct_##table_, field_), \
	 .size = sizeof(config_type_##type_)},
#include "config/tables.def"
};
const uint32_t table_key_count = ARRAY_SIZE(table_keys);

const struct config_section table_sections[] = {
#define TABLE(name_, structure_, header_, help_) \
	{.name = #name_, .header = header_, .help = help_, .size = sizeof(struct structure_)},
#include "config/tables.def"
};
const uint32_t table_section_count = ARRAY_SIZE(table_sections);

const struct config_alias config_aliases[] = {
#define ALIAS(from_section_, from_key_, section_, key_) {#from_section_, #from_key_, #section_, #key_},
#include "config/directives.def"
};
const uint32_t config_alias_count = ARRAY_SIZE(config_aliases);

const struct config_enum config_enums[] = {
#define ENUM(type_, text_, constant_, help_) {TYPE_##type_, text_, constant_, false, help_},
#define ENUM_ALIAS(type_, text_, constant_)  {TYPE_##type_, text_, constant_, true, ""},
#include "config/enums.def"
};
const uint32_t config_enum_count = ARRAY_SIZE(config_enums);

const struct unavailable unavailables[] = {
#define UNAVAILABLE(path_, keys_, on_by_default_, capability_) {path_, keys_, on_by_default_, capability_},
#include "config/unavailable.def"
#undef UNAVAILABLE
};
const uint32_t unavailable_count = ARRAY_SIZE(unavailables);

const struct config_section *section_find(const char *name)
{
	for (uint32_t i = 0; i < config_section_count; i++)
		if (strcmp(config_sections[i].name, name) == 0)
			return &config_sections[i];
	return NULL;
}

const struct config_section *table_section_find(const char *name)
{
	for (uint32_t i = 0; i < table_section_count; i++)
		if (strcmp(table_sections[i].name, name) == 0)
			return &table_sections[i];
	return NULL;
}

bool section_has_aliases(const char *name)
{
	for (uint32_t i = 0; i < config_alias_count; i++)
		if (strcmp(config_aliases[i].from_section, name) == 0)
			return true;
	return false;
}

uint32_t key_index(const struct config_key *key)
{
	return (uint32_t)(key - config_keys);
}

bool type_is_enum(enum config_type type)
{
	return type >= TYPE_enum_io;
}

bool key_is_pool(const struct config_key *key)
{
	return strcmp(key->section, "pool") == 0;
}

/* Is spelling the name itself, or that of a duration with its unit? */
static bool spells(const char *spelling, const char *name, enum config_type type, usec_t *ret_unit)
{
	size_t len = strlen(name);

	*ret_unit = USEC_PER_SEC;
	if (strncmp(spelling, name, len) != 0)
		return false;
	if (spelling[len] == 0)
		return true;
	if (type != TYPE_duration)
		return false;
	if (strcmp(spelling + len, "_secs") == 0)
		return true;
	*ret_unit = USEC_PER_MSEC;
	return strcmp(spelling + len, "_ms") == 0;
}

static const struct config_key *find_in(const struct config_key *keys, uint32_t count, const char *section,
					const char *spelling, usec_t *ret_unit)
{
	for (uint32_t i = 0; i < count; i++)
		if (strcmp(keys[i].section, section) == 0 && spells(spelling, keys[i].name, keys[i].type, ret_unit))
			return &keys[i];
	return NULL;
}

const struct config_key *table_key_find(const char *table, const char *spelling, usec_t *ret_unit)
{
	return find_in(table_keys, table_key_count, table, spelling, ret_unit);
}

const struct config_key *key_find(const char *section, const char *spelling, usec_t *ret_unit)
{
	const struct config_key *key = find_in(config_keys, config_key_count, section, spelling, ret_unit);
	usec_t unit;

	if (key)
		return key;
	for (uint32_t i = 0; i < config_alias_count; i++) {
		const struct config_alias *a = &config_aliases[i];

		if (strcmp(a->from_section, section) != 0)
			continue;
		key = find_in(config_keys, config_key_count, a->section, a->name, &unit);
		assert(key); /* the table is at fault */
		if (spells(spelling, a->from_name, key->type, ret_unit))
			return key;
	}
	return NULL;
}

#define WORD_MAX 63u

/* Levenshtein's distance; of words longer than WORD_MAX: far. */
static uint32_t distance(const char *a, const char *b)
{
	size_t a_len = strlen(a), b_len = strlen(b);
	uint32_t row[WORD_MAX + 1];

	if (a_len > WORD_MAX || b_len > WORD_MAX)
		return UINT32_MAX;
	for (uint32_t j = 0; j <= b_len; j++)
		row[j] = j;
	for (uint32_t i = 1; i <= a_len; i++) {
		uint32_t diagonal = row[0];

		row[0] = i;
		for (uint32_t j = 1; j <= b_len; j++) {
			uint32_t replaced = diagonal + (a[i - 1] != b[j - 1]);

			diagonal = row[j];
			row[j] = MIN(replaced, MIN(row[j], row[j - 1]) + 1);
		}
	}
	return row[b_len];
}

void suggestion_begin(struct suggestion *s, const char *word)
{
	*s = (struct suggestion){.word = word, .distance = UINT32_MAX};
}

void suggestion_offer(struct suggestion *s, const char *candidate)
{
	uint32_t d = distance(s->word, candidate);

	if (d < s->distance) {
		s->distance = d;
		snprintf(s->best, sizeof(s->best), "%s", candidate);
	}
}

void suggestion_offer_words(struct suggestion *s, const char *words)
{
	char word[WORD_MAX + 1];

	for (size_t len; words[0]; words += len + (words[len] == ' ')) {
		len = strcspn(words, " ");
		if (len > 0 && len <= WORD_MAX && words[0] != '*') {
			memcpy(word, words, len);
			word[len] = 0;
			suggestion_offer(s, word);
		}
	}
}

void suggestion_offer_section(struct suggestion *s, const char *section)
{
	for (uint32_t i = 0; i < config_key_count; i++)
		if (strcmp(config_keys[i].section, section) == 0)
			suggestion_offer(s, config_keys[i].name);
	for (uint32_t i = 0; i < table_key_count; i++)
		if (strcmp(table_keys[i].section, section) == 0)
			suggestion_offer(s, table_keys[i].name);
	for (uint32_t i = 0; i < config_alias_count; i++)
		if (strcmp(config_aliases[i].from_section, section) == 0)
			suggestion_offer(s, config_aliases[i].from_name);
}

const char *suggestion_get(const struct suggestion *s)
{
	return s->best[0] && s->distance <= 1 + strlen(s->word) / 4 ? s->best : NULL;
}
