/*
 * Texts of the admin API: paths, tokens, numbers, and names that others chose (users, databases, application names),
 * which may be any bytes and have to become valid UTF-8. Pure.
 */
#ifndef ADMIN_TEXT_H
#define ADMIN_TEXT_H

#include "base/utf8.h"

/*
 * Does the path fit? A pattern's {name} stands for one segment, {name...} at its end for all that is left; neither is
 * empty. *ret_argument is what the last of them stood for, and points into the path.
 */
bool path_match(const char *pattern, const char *path, struct slice *ret_argument) MUST_USE;

/*
 * Undoes %XX, in place; the new length. What is no such escape stays as it is, and so does %00: the text must not end
 * where it didn't.
 */
size_t url_unescape(char *text);

/* The token of "Bearer TOKEN". NULL: it is of another kind. authorization may be NULL. */
const char *bearer_token(const char *authorization) MUST_USE;

/* The origin of a browser's page (NULL: none was sent) is this server, as the client calls it. */
bool origin_is_host(const char *origin, const char *host) MUST_USE;

/* A Host header, with or without a port: is it this name; is it an IP address or localhost, which no DNS leads astray?
 */
bool host_is(const char *host, const char *name) MUST_USE;
bool host_is_local(const char *host) MUST_USE;

/* A Content-Type (NULL: none) of JSON. */
bool type_is_json(const char *type) MUST_USE;

/* Decimal digits and nothing else, at most `max`. */
bool parse_number(const char *text, uint64_t max, uint64_t *ret) MUST_USE;

/* Of UTF-8, as JSON schemas count; other bytes are one each, more or less. */
size_t count_characters(const char *s);
/* "2026-11-23T14:31:45.123Z"; size >= 32. */
void format_time(uint64_t wall_us, char *text, size_t size);

#endif
