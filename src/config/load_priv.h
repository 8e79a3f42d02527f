/* What the files of the loader share: load.c walks the tree, unavailable.c knows what can't be done, check.c looks at
 * the whole. */
#ifndef CONFIG_LOAD_PRIV_H
#define CONFIG_LOAD_PRIV_H

#include "config/keys.h"
#include "config/substitute.h"
#include "config/toml.h"

struct loader {
	struct config *config;
	struct config_origin *origins; /* the config's, writable */
	struct config_report *report;
	const char *file;
	struct line_map lines;
	bool no_memory;
};

/* A new config with all defaults, in its own arena. NULL: out of memory. */
struct config *config_new(const char *path, struct config_origin **ret_origins);

/* line: of the parsed text. */
void load_complain(struct loader *l, enum report_severity severity, uint32_t line, uint32_t column, const char *format,
		   ...) PRINTF_LIKE(5, 6);
void load_unknown(struct loader *l, const struct toml_member *m, const char *path, const struct suggestion *s);
/* Walks the root table; what is wrong goes to the report. */
void load_root(struct loader *l, const struct toml_value *root);

/* A whole table (or array of tables) of the root. False: no row knows the name. */
bool unavailable_table(struct loader *l, const struct toml_member *m);
/* A key or table inside a section that this build has. False: no row knows it. *told keeps what was said already. */
bool unavailable_key(struct loader *l, const char *section, const struct toml_value *table, const struct toml_member *m,
		     const char **told);
void unavailable_offer(struct suggestion *s, const char *path); /* path "": the names of tables */

/* config_load_text() with values on top. */
int load_text(const char *text, size_t len, const char *name, const struct config_setting *settings, uint32_t count,
	      struct config **ret, struct config_report *report) MUST_USE;
/* Puts them on top of what was read; what is wrong goes to the report. */
void load_settings(struct loader *l, const struct config_setting *settings, uint32_t count);

/* After the walk (or the flags): derived values, rules over more than one key, the files it names. */
void config_finish(struct loader *l);
/* The part of it that is about the admin API: reads its tokens. */
void config_finish_admin(struct loader *l);

#endif
