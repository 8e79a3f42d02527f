/* See load.h. */
#include "server/load.h"

#include "import/import.h"

/* What simply works is not told: `heliosdb-proxy import` says it all. */
static void tell(void *argument, enum import_verdict verdict, const char *file, uint32_t line, const char *text)
{
	struct config_report *report = argument;

	if (verdict == IMPORT_WRONG || (verdict == IMPORT_ABSENT && report->strict))
		report_add(report, REPORT_ERROR, file, line, 0, "%s", text);
	else if (verdict == IMPORT_ABSENT)
		report_add(report, REPORT_WARNING, file, line, 0, "%s", text);
}

static int load_pgbouncer(const struct proxy_options *options, struct config **ret, struct config_report *report)
{
	struct import_job job = {
		.admin_address = options->flags.admin,
		.read = import_read_file,
		.tell = tell,
		.argument = report,
	};
	struct buf toml = BUF_INIT(IMPORT_BYTES_MAX);
	int r = import_pgbouncer(&job, options->config_path, &toml);

	if (r == 0)
		r = config_load_text(buf_cstr(&toml), toml.len, options->config_path, ret, report);
	buf_free_secret(&toml);
	return r;
}

int load_config(const struct proxy_options *options, struct config **ret, struct config_report *report)
{
	int r;

	if (!options->config_path)
		return config_from_flags(&options->flags, ret, report);
	r = options->is_pgbouncer ? load_pgbouncer(options, ret, report)
				  : config_load(options->config_path, ret, report);
	return r < 0 ? r : config_apply_flags(*ret, &options->flags, report);
}
