/* See set_syntax.h. */
#include "session/set_syntax.h"

#define CALL "SELECT pg_catalog.set_config("

static void add_name(struct buf *to, const char *name)
{
	buf_add_char(to, '"');
	for (; *name; name++) {
		if (*name == '"')
			buf_add_char(to, '"');
		buf_add_char(to, *name);
	}
	buf_add_char(to, '"');
}

/* Behind the literal E'...' at `at`, in which quotes and backslashes stand twice; NULL: there is none. */
static const char *skip_literal(const char *at)
{
	if (at[0] != 'E' || at[1] != '\'')
		return NULL;
	for (at += 2; *at; at++) {
		if (*at == '\'' && at[1] != '\'')
			return at + 1;
		at += (*at == '\'' || *at == '\\') && at[1];
	}
	return NULL;
}

/* What is left of its value, as an ordinary literal. */
static void add_literal(struct buf *to, const char *begin, const char *end)
{
	buf_add_char(to, '\'');
	for (const char *at = begin + 2; at < end - 1; at++)
		if (*at != '\\' && *at != '\'')
			buf_add_char(to, *at);
	buf_add_char(to, '\'');
}

/* The second argument of the call; of settings_application_sql()'s the name that servers since 16 get. NULL: it is no
 * such call. */
static const char *find_value(const char *sql)
{
	const char *at, *otherwise;

	if (strncmp(sql, CALL, strlen(CALL)) != 0)
		return NULL;
	at = skip_literal(sql + strlen(CALL));
	if (!at || strncmp(at, ", ", 2) != 0)
		return NULL;
	at += 2;
	if (strncmp(at, "CASE ", 5) != 0)
		return at;
	at = strstr(at, " THEN ");
	at = at ? skip_literal(at + strlen(" THEN ")) : NULL;
	otherwise = at && strncmp(at, " ELSE ", 6) == 0 ? at + 6 : NULL;
	return otherwise;
}

void set_syntax_add(struct buf *to, const char *name, const char *sql)
{
	const char *value = find_value(sql), *end = value ? skip_literal(value) : NULL;

	if (!end) {
		buf_add_str(to, sql);
		return;
	}
	buf_add_str(to, "SET ");
	add_name(to, name);
	buf_add_str(to, " = ");
	add_literal(to, value, end);
}

void set_syntax_add_reset(struct buf *to, const char *name)
{
	buf_add_str(to, "RESET ");
	add_name(to, name);
}
