/* One setting of PgBouncer by its name. */
#include "import/import_priv.h"

#include <strings.h>

/* Its value is written as the key's is (a number of seconds where that is a duration). */
static bool is_plain(const struct row *row)
{
	static const char *const plain[] = {"number", "seconds", "string", "word"};

	for (size_t i = 0; i < ARRAY_SIZE(plain); i++)
		if (strcmp(row->conversion, plain[i]) == 0)
			return true;
	return false;
}

int import_setting_key(const char *name, const char **ret_section, const char **ret_key)
{
	for (uint32_t i = 0; i < SETTING_COUNT; i++) {
		const struct row *row = &setting_rows[i];

		if (strcasecmp(row->name, name) != 0)
			continue;
		*ret_section = row->section;
		*ret_key = row->key;
		return is_plain(row) ? 0 : -EINVAL;
	}
	return -ENOENT;
}
