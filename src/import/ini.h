/*
 * The syntax of pgbouncer.ini: sections, "key = value" lines, comments, %include. Pure: files are read by whoever
 * calls. A line has no continuation; ; and # begin a comment only at its start; a key with other characters than
 * [A-Za-z0-9_.*-] stands in quotes.
 */
#ifndef IMPORT_INI_H
#define IMPORT_INI_H

#include "base/buf.h"

#define INI_DEPTH_MAX    10u /* of %include in %include, as PgBouncer */
#define INI_INCLUDES_MAX 1000u
#define INI_BYTES_MAX    (16u << 20) /* of all files together */

struct ini_place {
	const char *file; /* lives as long as the call */
	uint32_t line;
};

/* What a text is made of, in its order. Each returns 0, or -errno that ends the walk. */
struct ini_events {
	int (*section)(void *argument, const char *name, struct ini_place place);
	int (*value)(void *argument, const char *key, const char *value, struct ini_place place);
	int (*syntax_error)(void *argument, const char *why, struct ini_place place);
	/* The text of a file that `from` includes. 0, or -errno (told by the reader's caller: syntax_error). */
	int (*read)(void *argument, const char *path, const char *from, struct buf *out);
	void *argument;
};

/* 0, or what the first event that was not 0 returned; -ENOMEM. */
int ini_walk(const struct ini_events *events, const char *text, size_t len, const char *name) MUST_USE;

#endif
