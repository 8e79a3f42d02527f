/*
 * A pgbouncer.ini as proxy.toml: the same ports, databases, users, limits and time-outs, PgBouncer's defaults where
 * ours differ, and a word about each setting that the file has. Pure but for import_read_file().
 */
#ifndef IMPORT_IMPORT_H
#define IMPORT_IMPORT_H

#include "base/buf.h"

#include <stdio.h>

#define IMPORT_BYTES_MAX (64u << 20) /* of the TOML text */

enum import_verdict {
	IMPORT_BECAME,  /* a key of proxy.toml */
	IMPORT_NOTHING, /* nothing is needed */
	IMPORT_ABSENT,  /* this version does not have it */
	IMPORT_WRONG    /* it can't be imported; there is no result then */
};

/* One call for each setting that a file has; text is a whole line for people. Secrets are not in it. */
typedef void import_tell_fn(void *argument, enum import_verdict verdict, const char *file, uint32_t line,
			    const char *text);
/* The text of `path`, which `from` (NULL: the command line) asks for. 0 or -errno. */
typedef int import_read_fn(void *argument, const char *path, const char *from, struct buf *out);

struct import_job {
	const char *admin_address; /* where the admin API is to listen; NULL: nowhere, as PgBouncer has none */
	import_read_fn *read;
	import_tell_fn *tell;
	void *argument; /* of both */
};

/* 0, -EINVAL (something was IMPORT_WRONG), -ENOMEM, or what reading the file gave (told, too). */
int import_pgbouncer(const struct import_job *job, const char *path, struct buf *out) MUST_USE;
int import_pgbouncer_text(const struct import_job *job, const char *text, size_t len, const char *name,
			  struct buf *out) MUST_USE;

/* As PgBouncer a path is relative to the working directory; what isn't there is looked for beside `from`. */
int import_read_file(void *argument, const char *path, const char *from, struct buf *out) MUST_USE;

/* Where a setting of [pgbouncer] stands in proxy.toml. 0; -ENOENT: PgBouncer has no such setting; -EINVAL: it is not
 * one key whose value is written alike. */
int import_setting_key(const char *name, const char **ret_section, const char **ret_key) MUST_USE;

void import_reference(FILE *out);                             /* docs/reference/pgbouncer.md */
const char *import_verdict_text(enum import_verdict verdict); /* "became" ... */

#endif
