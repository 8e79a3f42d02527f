/*
 * What pg_hba.conf and pg_ident.conf have in common: lines of fields, fields of comma-separated tokens, quotes,
 * comments, a backslash at the end of a line that goes on, @file in a list, include, include_if_exists and include_dir.
 * https://www.postgresql.org/docs/current/auth-pg-hba-conf.html
 * Also their regular expressions: POSIX extended ones here, bounded in size; what means something else in PostgreSQL's
 * (\d, (?:, *? ...) is refused.
 */
#ifndef CONFIG_AUTH_LINES_H
#define CONFIG_AUTH_LINES_H

#include "base/arena.h"
#include "config/report.h"

#include <regex.h>

struct auth_token {
	struct auth_token *next;
	const char *text;
	bool quoted; /* began with a quote: no keyword, no @file, no + */
};

struct auth_field {
	struct auth_field *next;
	struct auth_token *tokens; /* at least one */
};

struct auth_line {
	struct auth_line *next;
	const char *file;
	uint32_t line;
	struct auth_field *fields; /* at least one */
};

/* The lines of a file and of all it includes. 0, -EINVAL (the report says why; *ret_lines holds what could be read),
 * -ENOMEM. */
int auth_lines_load(const char *path, struct arena *arena, struct config_report *report,
		    struct auth_line **ret_lines) MUST_USE;
int auth_lines_load_text(const char *text, size_t len, const char *name, bool may_include, struct arena *arena,
			 struct config_report *report, struct auth_line **ret_lines) MUST_USE;

/* The only token of a field; NULL when there are more, or there is no field. */
const struct auth_token *auth_field_single(const struct auth_field *field);
/* A token that was not quoted, and is this word. */
bool auth_token_is(const struct auth_token *token, const char *word);

/* pattern: without the slash. 0, -EINVAL (why), -ENOMEM. Freed with the arena. */
int auth_regex_compile(const char *pattern, struct arena *arena, regex_t **ret, char *why, size_t why_size) MUST_USE;

#endif
