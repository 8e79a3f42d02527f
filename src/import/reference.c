/* docs/reference/pgbouncer.md: what becomes of each setting, from pgbouncer.def. */
#include "import/import_priv.h"

static void print_text(FILE *out, const char *text)
{
	for (; *text; text++) {
		if (strchr("|<>*_", *text))
			fputc('\\', out);
		fputc(*text, out);
	}
}

static void print_target(FILE *out, const struct row *row)
{
	if (*row->key && !table_section_find(row->section))
		fprintf(out, "`[%s] %s`", row->section, row->key);
	else if (*row->key)
		fprintf(out, "`%s`", row->key);
	else
		fputs(strcmp(row->conversion, "absent") == 0 ? "not there" : "needs nothing", out);
}

static void print_rows(FILE *out, const struct row *rows, uint32_t count, bool has_defaults)
{
	fputs(has_defaults ? "| setting | PgBouncer's default | becomes | |\n|---|---|---|---|\n"
			   : "| setting | becomes | |\n|---|---|---|\n",
	      out);
	for (uint32_t i = 0; i < count; i++) {
		fprintf(out, "| `%s` | ", rows[i].name);
		if (has_defaults)
			fprintf(out, rows[i].default_text && *rows[i].default_text ? "`%s` | " : " | ",
				rows[i].default_text);
		print_target(out, &rows[i]);
		fputs(" | ", out);
		print_text(out, rows[i].remark);
		fputs(" |\n", out);
	}
}

void import_reference(FILE *out)
{
	fputs("# PgBouncer's settings\n\n"
	      "<!-- Made by the proxy from src/import/pgbouncer.def. Do not edit. -->\n\n"
	      "What `heliosdb-proxy import pgbouncer` and `--pgbouncer` make of each setting of PgBouncer 1.25; the "
	      "page\n"
	      "[PgBouncer](../pgbouncer.md) says how to move. *not there*: this version does not have it, which is "
	      "told when "
	      "a file\nsets it to something else than the default.\n\n"
	      "## `[pgbouncer]`\n\n",
	      out);
	print_rows(out, setting_rows, SETTING_COUNT, true);
	fputs("\n## `[databases]`\n\nKeys of a `[databases.NAME]` table.\n\n", out);
	print_rows(out, database_rows, DATABASE_COUNT, false);
	fputs("\n## `[users]`\n\nKeys of a `[users.NAME]` table.\n\n", out);
	print_rows(out, user_rows, USER_COUNT, false);
	fputs("\n## `[peers]`\n\nNot there: a cancel that a balancer brings to another process is lost. One process "
	      "uses all "
	      "cores, so there need be no others.\n",
	      out);
}
