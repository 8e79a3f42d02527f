/*
 * What is to be said about a configuration: a list of messages with their places. Out of memory a message is lost, the
 * counts are kept, so an error never passes for none.
 */
#ifndef CONFIG_REPORT_H
#define CONFIG_REPORT_H

#include "base/arena.h"

#include <stdio.h>

#define REPORT_MESSAGES_MAX 1000u /* more are counted, not kept */

enum report_severity { REPORT_NOTICE, REPORT_WARNING, REPORT_ERROR };

struct report_message {
	struct report_message *next;
	enum report_severity severity;
	const char *file;      /* "" when there is none */
	uint32_t line, column; /* from 1; 0: unknown */
	const char *text;
};

struct config_report {
	bool strict;                  /* set by the caller: what can't be done in this build is an error */
	struct report_message *first; /* by file and line once the load is over */
	uint32_t errors, warnings, notices;
	struct arena arena;
};

void config_report_init(struct config_report *report, bool strict);
void config_report_free(struct config_report *report);
/* "proxy.toml:12:3: error: ..." a line each. */
void config_report_print(const struct config_report *report, FILE *out);

void report_add(struct config_report *report, enum report_severity severity, const char *file, uint32_t line,
		uint32_t column, const char *format, ...) PRINTF_LIKE(6, 7);
void report_sort(struct config_report *report); /* by line, keeping the order of what has the same place */

#endif
