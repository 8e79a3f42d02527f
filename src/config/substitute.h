/*
 * ${NAME} and ${NAME:-default} in the text of a configuration file, before it is parsed. NAME is
 * [A-Za-z_][A-Za-z0-9_]*; set but empty counts as set. Anything else behind "${", or a "${" without its "}" on the
 * line, stays as it is. Lines that begin with # are left alone. What was put in is not looked at again, and nothing is
 * escaped.
 */
#ifndef CONFIG_SUBSTITUTE_H
#define CONFIG_SUBSTITUTE_H

#include "base/buf.h"
#include "config/report.h"

/* Where each line of the new text is from (a value may bring lines of its own). */
struct line_map {
	uint32_t *lines; /* of the old text, from 1; LINE_SUBSTITUTED is set where a variable of the environment was
			    used */
	uint32_t count;
};

#define LINE_SUBSTITUTED (1u << 31)

/* 0, -EINVAL (a variable isn't set; all of them are in the report), -E2BIG (out is full), -ENOMEM. */
int substitute(const char *text, size_t len, const char *file, struct buf *out, struct arena *arena,
	       struct line_map *ret_map, struct config_report *report) MUST_USE;

/* The old line of a new one. */
uint32_t line_map_get(const struct line_map *map, uint32_t line);
bool line_map_is_substituted(const struct line_map *map, uint32_t line);

#endif
