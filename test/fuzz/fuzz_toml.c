/* Configuration files: substitution, TOML, checks; what loads must print to something that loads the same. */
#include "config/config.h"

#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void differs(void *argument, const char *path, const char *old_value, const char *new_value, bool reloads)
{
	*(bool *)argument = true;
}

/* Without secrets, of which only "***" is printed, and that may not even load. */
static void check_print(const struct config *config)
{
	struct config_report report;
	struct config *again;
	bool different = false;
	size_t len;
	char *text;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return;
	config_print(config, out);
	if (fclose(out) != 0)
		return;
	config_report_init(&report, false);
	if (!strstr(text, "***") && !strstr(text, "${")) {
		int r = config_load_text(text, len, "printed", &again, &report);

		assert(r == 0 || r == -ENOMEM);
		if (r == 0) {
			config_diff(config, again, differs, &different);
			assert(!different);
			config_free(again);
		}
	}
	config_report_free(&report);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config_report report;
	struct config_pool pool;
	struct config *config;

	if (size > 0 && memmem(data, size, "_file", 5))
		return 0; /* it could name any file of this machine */
	config_report_init(&report, size % 2 == 0);
	if (config_load_text((const char *)data, size, "fuzz", &config, &report) == 0) {
		assert(report.errors == 0);
		config_pool_for(config, "shop", "app", &pool);
		check_print(config);
		config_free(config);
	} else {
		assert(report.errors > 0);
	}
	config_report_free(&report);
	return 0;
}
