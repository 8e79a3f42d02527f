/*
 * Users and their secrets from a file, in the reference's form (user:secret) or PgBouncer's ("user" "secret"), told
 * apart line by line.
 */
#ifndef CONFIG_USERLIST_H
#define CONFIG_USERLIST_H

#include "base/arena.h"
#include "config/report.h"
#include "wire/scram.h"

struct userlist;

/* Empty; its secrets are wiped when the arena goes. NULL: out of memory. */
struct userlist *userlist_new(struct arena *arena);
/* Adds a file's users. A user that is there already: the later line counts, and a warning. 0, -EINVAL, -ENOMEM. */
int userlist_load(struct userlist *list, const char *path, struct config_report *report) MUST_USE;
int userlist_load_text(struct userlist *list, const char *text, size_t len, const char *name,
		       struct config_report *report) MUST_USE;
/* Adds or replaces one. 0, -EINVAL (a damaged SCRAM verifier), -ENOMEM. */
int userlist_add(struct userlist *list, const char *user, const char *secret) MUST_USE;

/* NULL: no such user. Lives as long as the list. */
const struct secret *userlist_get(const struct userlist *list, const char *user);
uint32_t userlist_count(const struct userlist *list);
/* Is (or was) any of the secrets a password in clear? */
bool userlist_has_plain(const struct userlist *list);

#endif
