/* What log.c (where lines go) and log_line.c (what they look like) share. */
#ifndef BASE_LOG_PRIV_H
#define BASE_LOG_PRIV_H

#include "base/log.h"

/* Makes one line, with its '\n', in line[LOG_LINE_MAX]; returns its length. */
size_t log_line_format(char *line, enum log_format format, enum log_level level, uint64_t wall_us, const char *message,
		       const struct kv *pairs);

#endif
