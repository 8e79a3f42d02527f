/* See ident.h. */
#include "config/auth_lines.h"
#include "config/ident.h"

#include <stdio.h>

struct ident_entry {
	struct ident_entry *next;
	const char *map;
	const char *system_name;
	const regex_t *system_regex; /* NULL: exact */
	const char *user;
	const regex_t *user_regex;
	bool any_user; /* all */
};

struct ident {
	struct ident_entry *first;
};

/* A name, or a regular expression that begins with a slash. */
static int read_name(const struct auth_line *line, const struct auth_token *token, struct arena *arena,
		     struct config_report *report, const char **ret_name, const regex_t **ret_regex)
{
	regex_t *regex;
	char why[160];
	int r = 0;

	*ret_name = token->text;
	if (token->text[0] != '/')
		return 0;
	r = auth_regex_compile(token->text + 1, arena, &regex, why, sizeof(why));
	if (r == -EINVAL)
		report_add(report, REPORT_ERROR, line->file, line->line, 0, "regular expression %.80s: %s", token->text,
			   why);
	if (r == 0)
		*ret_regex = regex;
	return r;
}

static int read_line(const struct auth_line *line, struct arena *arena, struct config_report *report,
		     struct ident_entry *e)
{
	const struct auth_field *at = line->fields;
	const struct auth_token *map = auth_field_single(at), *system_name = NULL, *user = NULL;
	int r;

	if (at->next) {
		system_name = auth_field_single(at->next);
		user = auth_field_single(at->next->next);
	}
	if (!map || !system_name || !user || at->next->next->next) {
		report_add(report, REPORT_ERROR, line->file, line->line, 0,
			   "expected a map, a system name and a user, one of each");
		return -EINVAL;
	}
	if (!user->quoted && user->text[0] == '+') {
		report_add(report, REPORT_ERROR, line->file, line->line, 0,
			   "groups (%.80s) are not available: name the users", user->text);
		return -EINVAL;
	}
	e->map = map->text;
	e->any_user = auth_token_is(user, "all");
	r = read_name(line, system_name, arena, report, &e->system_name, &e->system_regex);
	if (r == 0)
		r = read_name(line, user, arena, report, &e->user, &e->user_regex);
	if (r == 0 && !e->user_regex && strstr(e->user, "\\1") && (!e->system_regex || e->system_regex->re_nsub < 1)) {
		report_add(report, REPORT_ERROR, line->file, line->line, 0,
			   "\\1 needs a system name that is a regular expression with parentheses");
		return -EINVAL;
	}
	return r;
}

static int read_lines(const struct auth_line *line, int result, struct arena *arena, struct config_report *report,
		      const struct ident **ret)
{
	struct ident *ident = arena_zalloc(arena, sizeof(*ident));
	struct ident_entry **end;

	if (!ident)
		return -ENOMEM;
	end = &ident->first;
	for (; line; line = line->next) {
		struct ident_entry *e = arena_zalloc(arena, sizeof(*e));
		int r = e ? read_line(line, arena, report, e) : -ENOMEM;

		if (r == -ENOMEM)
			return r;
		if (r < 0) {
			result = r;
			continue;
		}
		*end = e;
		end = &e->next;
	}
	if (result == 0)
		*ret = ident;
	return result;
}

int ident_load(const char *path, struct arena *arena, struct config_report *report, const struct ident **ret)
{
	struct auth_line *lines;
	int r = auth_lines_load(path, arena, report, &lines);

	return r == -ENOMEM ? r : read_lines(lines, r, arena, report, ret);
}

int ident_load_text(const char *text, size_t len, const char *name, bool may_include, struct arena *arena,
		    struct config_report *report, const struct ident **ret)
{
	struct auth_line *lines;
	int r = auth_lines_load_text(text, len, name, may_include, arena, report, &lines);

	return r == -ENOMEM ? r : read_lines(lines, r, arena, report, ret);
}

/* Is user what stands in the map, with \1 (the first one) being what the system name's parentheses matched? */
static bool expands_to(const char *from, const char *system_name, const regmatch_t *match, const char *user)
{
	const char *mark = strstr(from, "\\1");
	size_t before, inside, len = strlen(user);

	if (!mark)
		return strcmp(from, user) == 0;
	if (match->rm_so < 0)
		return false;
	before = (size_t)(mark - from);
	inside = (size_t)(match->rm_eo - match->rm_so);
	return len == before + inside + strlen(mark + 2) && memcmp(user, from, before) == 0 &&
	       memcmp(user + before, system_name + match->rm_so, inside) == 0 &&
	       strcmp(user + before + inside, mark + 2) == 0;
}

static bool entry_allows(const struct ident_entry *e, const char *system_name, const char *user)
{
	regmatch_t matches[2] = {{-1, -1}, {-1, -1}};

	if (e->system_regex) {
		if (regexec(e->system_regex, system_name, ARRAY_SIZE(matches), matches, 0) != 0)
			return false;
	} else if (strcmp(e->system_name, system_name) != 0) {
		return false;
	}
	if (e->any_user)
		return true;
	if (e->user_regex)
		return regexec(e->user_regex, user, 0, NULL, 0) == 0;
	if (e->system_regex)
		return expands_to(e->user, system_name, &matches[1], user);
	return strcmp(e->user, user) == 0;
}

bool ident_allows(const struct ident *ident, const char *map, const char *system_name, const char *user)
{
	if (!map[0])
		return strcmp(system_name, user) == 0;
	for (const struct ident_entry *e = ident ? ident->first : NULL; e; e = e->next)
		if (strcmp(e->map, map) == 0 && entry_allows(e, system_name, user))
			return true;
	return false;
}

bool ident_has_map(const struct ident *ident, const char *map)
{
	for (const struct ident_entry *e = ident ? ident->first : NULL; e; e = e->next)
		if (strcmp(e->map, map) == 0)
			return true;
	return false;
}
