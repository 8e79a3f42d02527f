/* See report.h. */
#include "config/report.h"

#include <stdarg.h>

#define TEXT_MAX 1024u

void config_report_init(struct config_report *report, bool strict)
{
	*report = (struct config_report){.strict = strict};
	arena_init(&report->arena, 4096);
}

void config_report_free(struct config_report *report)
{
	arena_destroy(&report->arena);
	*report = (struct config_report){0};
}

/* Reports of one load come from few files: their names are shared. */
static const char *keep_name(struct config_report *report, const char *file)
{
	for (struct report_message *m = report->first; m; m = m->next)
		if (strcmp(m->file, file) == 0)
			return m->file;
	return arena_strdup(&report->arena, file);
}

void report_add(struct config_report *report, enum report_severity severity, const char *file, uint32_t line,
		uint32_t column, const char *format, ...)
{
	uint32_t kept = report->errors + report->warnings + report->notices;
	struct report_message **end = &report->first;
	char text[TEXT_MAX];
	va_list args;

	switch (severity) {
	case REPORT_ERROR:
		report->errors++;
		break;
	case REPORT_WARNING:
		report->warnings++;
		break;
	case REPORT_NOTICE:
		report->notices++;
		break;
	}
	if (kept >= REPORT_MESSAGES_MAX)
		return;

	struct report_message *m = arena_zalloc(&report->arena, sizeof(*m));

	if (!m)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	*m = (struct report_message){.severity = severity, .line = line, .column = column};
	m->file = keep_name(report, file ? file : "");
	m->text = arena_strdup(&report->arena, text);
	if (!m->file || !m->text)
		return;
	while (*end)
		end = &(*end)->next;
	*end = m;
}

/* Insertion sort: the list is short and nearly in order. */
void report_sort(struct config_report *report)
{
	struct report_message *from = report->first, *next;

	report->first = NULL;
	for (; from; from = next) {
		struct report_message **at = &report->first, **place = NULL;

		next = from->next;
		for (; *at; at = &(*at)->next) {
			if ((*at)->file != from->file)
				continue;
			if ((*at)->line > from->line) {
				place = at;
				break;
			}
			place = &(*at)->next; /* behind the last of the same file that isn't later */
		}
		at = place ? place : at;
		from->next = *at;
		*at = from;
	}
}

void config_report_print(const struct config_report *report, FILE *out)
{
	static const char *const names[] = {"notice", "warning", "error"};
	uint32_t all = report->errors + report->warnings + report->notices, printed = 0;

	for (const struct report_message *m = report->first; m; m = m->next, printed++) {
		if (m->file[0])
			fprintf(out, "%s:", m->file);
		if (m->line)
			fprintf(out, "%u:", m->line);
		if (m->line && m->column)
			fprintf(out, "%u:", m->column);
		fprintf(out, "%s%s: %s\n", m->file[0] ? " " : "", names[m->severity], m->text);
	}
	if (printed < all)
		fprintf(out, "%u more messages are not shown\n", all - printed);
}
