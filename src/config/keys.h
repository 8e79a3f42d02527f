/*
 * directives.def, tables.def, enums.def and unavailable.def as data. Shared inside config/, and with import/.
 */
#ifndef CONFIG_KEYS_H
#define CONFIG_KEYS_H

#include "config/config.h"

enum config_type {
	TYPE_bool,
	TYPE_uint,
	TYPE_size,
	TYPE_duration,
	TYPE_ratio,
	TYPE_string,
	TYPE_secret,
	TYPE_address,
	TYPE_strings,
	TYPE_addresses,
	TYPE_enum_io, /* the first of the enums */
	TYPE_enum_spin,
	TYPE_enum_pool_mode,
	TYPE_enum_reset,
	TYPE_enum_share,
	TYPE_enum_simple_query,
	TYPE_enum_session_state,
	TYPE_enum_tls_mode,
	TYPE_enum_auth_mode,
	TYPE_enum_log_level,
	TYPE_enum_log_format,
	TYPE_enum_node_role,
	TYPE_enum_admin_role,
	TYPE_enum_hba_action,
	TYPE_enum_balance_strategy,
	TYPE_enum_primary_reads,
	TYPE_enum_provider,
	TYPE_enum_hash_key,
	TYPE_enum_sticky,
	TYPE_enum_hint_rights,
	TYPE_enum_read_target,
	TYPE_enum_write_target,
	TYPE_enum_consistency,
	TYPE_enum_read_your_writes,
	TYPE_enum_user_read_your_writes,
	TYPE_enum_when_contested,
	TYPE_enum_compression,
};

#define FIELD_SIZE_MAX 16u /* of any C type in config.h */

struct config_key {
	const char *section, *name;
	enum config_type type;
	const char *default_text;
	uint64_t min, max; /* durations: seconds; both 0: no bounds */
	bool reloads;
	const char *help;
	uint32_t offset, size; /* of the field in struct config, or in the table's struct */
	uint32_t pool_offset;  /* of a [pool] key in struct config_pool */
};

struct config_section {
	const char *name;
	const char *header; /* how it is written: "[pool]" "[[nodes]]" "[databases.NAME]" */
	const char *help;
	uint32_t given_offset; /* of `given` in struct config; tables.def: 0 */
	uint32_t size;         /* of the C struct of tables.def */
};

struct config_alias {
	const char *from_section, *from_name, *section, *name;
};

struct config_enum {
	enum config_type type;
	const char *text;
	int value;
	bool alias; /* accepted, never printed */
	const char *help;
};

enum origin_kind { ORIGIN_DEFAULT, ORIGIN_FILE, ORIGIN_ENVIRONMENT, ORIGIN_FLAG, ORIGIN_CONSOLE };

struct config_origin {
	enum origin_kind kind;
	uint32_t line;       /* 0: not from a line of the file */
	const char *section; /* the table it was found in */
};

extern const struct config_key config_keys[]; /* of directives.def, in its order */
extern const uint32_t config_key_count;
extern const struct config_section config_sections[];
extern const uint32_t config_section_count;
extern const struct config_key table_keys[]; /* of tables.def */
extern const uint32_t table_key_count;
extern const struct config_section table_sections[];
extern const uint32_t table_section_count;
extern const struct config_alias config_aliases[];
extern const uint32_t config_alias_count;
extern const struct config_enum config_enums[];
extern const uint32_t config_enum_count;

const struct config_section *section_find(const char *name); /* of directives.def */
const struct config_section *table_section_find(const char *name);
bool section_has_aliases(const char *name);
uint32_t key_index(const struct config_key *key); /* of directives.def */
bool type_is_enum(enum config_type type);
bool key_is_pool(const struct config_key *key);

/*
 * The key that a spelling means, or NULL: the name itself, an alias, either with _secs or _ms for a duration;
 * *ret_unit is what a plain number then counts (durations).
 */
const struct config_key *key_find(const char *section, const char *spelling, usec_t *ret_unit);
const struct config_key *table_key_find(const char *table, const char *spelling, usec_t *ret_unit);

/* A search for what a misspelt word may have meant: offer candidates, then ask. */
struct suggestion {
	const char *word;
	char best[64]; /* "": none yet */
	uint32_t distance;
};
void suggestion_begin(struct suggestion *s, const char *word);
void suggestion_offer(struct suggestion *s, const char *candidate);
void suggestion_offer_words(struct suggestion *s, const char *words);     /* separated by spaces */
void suggestion_offer_section(struct suggestion *s, const char *section); /* its keys and aliases */
const char *suggestion_get(const struct suggestion *s);                   /* NULL: nothing is near */

/* What the reference has and this build does not. */
struct unavailable {
	const char *path;       /* "cache.l1"; a part "*" stands for any name; "proxy" also the top level */
	const char *keys;       /* separated by spaces; "*": any key, with anything below it */
	bool on_by_default;     /* acts even without enabled = true */
	const char *capability; /* "": accepted, and silent */
};
extern const struct unavailable unavailables[];
extern const uint32_t unavailable_count;

#endif
