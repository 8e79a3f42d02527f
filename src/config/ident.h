/*
 * Which names of certificates may log in as which users: maps in PostgreSQL's pg_ident.conf format.
 * https://www.postgresql.org/docs/current/auth-username-maps.html
 */
#ifndef CONFIG_IDENT_H
#define CONFIG_IDENT_H

#include "base/arena.h"
#include "config/report.h"

struct ident;

int ident_load(const char *path, struct arena *arena, struct config_report *report, const struct ident **ret) MUST_USE;
int ident_load_text(const char *text, size_t len, const char *name, bool may_include, struct arena *arena,
		    struct config_report *report, const struct ident **ret) MUST_USE;

/* May `system_name` log in as `user`? map "": only if they are the same. ident may be NULL. */
bool ident_allows(const struct ident *ident, const char *map, const char *system_name, const char *user);
bool ident_has_map(const struct ident *ident, const char *map);

#endif
