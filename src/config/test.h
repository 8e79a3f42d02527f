/* What tests of whole files share. */
#ifndef CONFIG_TEST_H
#define CONFIG_TEST_H

#include "config/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#define NODE "[[nodes]]\nhost = \"h\"\nrole = \"primary\"\n"

struct fixture {
	struct config_report report;
	struct config *config;
	int r;
};

static inline void load_as(struct fixture *f, const char *text, bool strict)
{
	f->config = NULL;
	config_report_init(&f->report, strict);
	f->r = config_load_text(text, strlen(text), "t.toml", &f->config, &f->report);
}

static inline void end(struct fixture *f)
{
	config_free(f->config);
	config_report_free(&f->report);
}

/* Loads without a word. */
static inline void load(struct fixture *f, const char *text)
{
	load_as(f, text, false);
	if (f->r < 0 || f->report.errors || f->report.warnings || f->report.notices)
		config_report_print(&f->report, stderr);
	assert_int_equal(f->r, 0);
	assert_int_equal(f->report.errors + f->report.warnings + f->report.notices, 0);
}

static inline bool has_message(const struct config_report *report, enum report_severity severity, uint32_t line,
			       const char *part)
{
	for (const struct report_message *m = report->first; m; m = m->next)
		if (m->severity == severity && m->line == line && strstr(m->text, part))
			return true;
	return false;
}

#endif
