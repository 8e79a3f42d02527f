/* See reference.h. The JSON schema is schema.c. */
#include "base/event.h"
#include "config/keys.h"
#include "config/reference.h"
#include "config/value.h"
#include "wire/errors.h"

typedef void print_fn(FILE *out, const char *text);

/* ----------------------------------------------------------------------------------------- Markdown */

static void markdown(FILE *out, const char *text) /* inside a cell of a table */
{
	for (; *text; text++) {
		if (strchr("|<>*_", *text))
			fputc('\\', out);
		fputc(*text == '\n' ? ' ' : *text, out);
	}
}

static void markdown_default(FILE *out, const struct config_key *key)
{
	bool bare = key->type == TYPE_bool || key->type == TYPE_uint;

	if (!key->default_text[0] && key->type == TYPE_strings)
		fputs("`[]`", out);
	else
		fprintf(out, bare ? "`%s`" : "`\"%s\"`", key->default_text);
}

static void print_description(FILE *out, const struct config_key *key, print_fn *print)
{
	struct buf what = BUF_INIT(4096);

	value_describe(key, &what);
	print(out, buf_cstr(&what));
	buf_free(&what);
}

static void markdown_enum(FILE *out, const struct config_key *key)
{
	for (uint32_t i = 0; type_is_enum(key->type) && i < config_enum_count; i++) {
		if (config_enums[i].type != key->type || config_enums[i].alias)
			continue;
		fprintf(out, "<br>`\"%s\"`: ", config_enums[i].text);
		markdown(out, config_enums[i].help);
	}
}

static void markdown_aliases(FILE *out, const struct config_key *key)
{
	const char *separator = "<br>Also written ";

	for (uint32_t i = 0; i < config_alias_count; i++) {
		const struct config_alias *a = &config_aliases[i];

		if (strcmp(a->section, key->section) != 0 || strcmp(a->name, key->name) != 0)
			continue;
		fprintf(out, "%s`[%s] %s`", separator, a->from_section, a->from_name);
		separator = ", ";
	}
	if (separator[0] == ',')
		fputc('.', out);
}

static void markdown_key(FILE *out, const struct config_key *key, bool with_reload)
{
	fprintf(out, "| `%s` | ", key->name);
	print_description(out, key, markdown);
	fputs(" | ", out);
	markdown_default(out, key);
	if (with_reload)
		fprintf(out, " | %s", key->reloads ? "yes" : "no");
	fputs(" | ", out);
	markdown(out, key->help);
	markdown_enum(out, key);
	if (with_reload)
		markdown_aliases(out, key);
	fputs(" |\n", out);
}

typedef void print_section_fn(FILE *out, const struct config_section *section, const struct config_key *keys,
			      uint32_t count, bool with_reload);

/* Tables of which there may be several take what is new with a reload, each as a whole. */
static void print_sections(FILE *out, print_section_fn *print)
{
	for (uint32_t i = 0; i < config_section_count; i++)
		print(out, &config_sections[i], config_keys, config_key_count, /* with_reload= */ true);
	for (uint32_t i = 0; i < table_section_count; i++)
		print(out, &table_sections[i], table_keys, table_key_count, /* with_reload= */ false);
}

static void markdown_section(FILE *out, const struct config_section *section, const struct config_key *keys,
			     uint32_t count, bool with_reload)
{
	bool any = false;

	for (uint32_t i = 0; i < count; i++) {
		if (strcmp(keys[i].section, section->name) != 0)
			continue;
		if (!any) {
			fprintf(out, "\n## `%s`\n\n%s\n\n", section->header, section->help);
			fputs(with_reload ? "| key | value | default | reload | meaning |\n|---|---|---|---|---|\n"
					  : "| key | value | default | meaning |\n|---|---|---|---|\n",
			      out);
		}
		any = true;
		markdown_key(out, &keys[i], with_reload);
	}
}

static void markdown_unavailable(FILE *out)
{
	fputs("\n## Read, but not available in this build\n\n"
	      "Files of the reference product load. What this build can't do is named once when the file is read "
	      "(`--strict` makes it an error).\n\n| table | capability |\n|---|---|\n",
	      out);
	for (uint32_t i = 0; i < unavailable_count; i++) {
		const struct unavailable *row = &unavailables[i];

		if (!row->capability[0])
			continue;
		fprintf(out, "| `[%s]`", row->path);
		if (section_find(row->path) && strcmp(row->keys, "*") != 0) {
			fputs(" ", out);
			markdown(out, row->keys);
		}
		fprintf(out, " | %s |\n", row->capability);
	}
}

void reference_markdown(FILE *out)
{
	fputs("# proxy.toml\n\n"
	      "<!-- Made by the proxy from src/config/directives.def and tables.def. Do not edit. -->\n\n"
	      "The file is [TOML 1.0](https://toml.io/en/v1.0.0). Unknown keys are errors.\n\n"
	      "- Durations: a number of seconds, or a string with a unit: `us` `ms` `s` `min` `h` `d`. A key `x` may "
	      "also be "
	      "written `x_secs` or `x_ms`.\n"
	      "- Sizes: a number of bytes, or a string with a unit: `B` `kB` `MB` `GB` (1 kB is 1024 bytes).\n"
	      "- `${NAME}` is replaced by the environment's value (an error when it isn't set), `${NAME:-default}` by "
	      "the value "
	      "or the default, before the file is parsed and wherever it stands but in lines that begin with `#`.\n"
	      "- *Reload* says whether a change counts at once after SIGHUP; the others need a restart.\n",
	      out);
	print_sections(out, markdown_section);
	markdown_unavailable(out);
}

/* --------------------------------------------------------------------------------------------- roff */

static void roff(FILE *out, const char *text)
{
	if (*text == '.' || *text == '\'')
		fputs("\\&", out);
	for (; *text; text++) {
		if (*text == '\\')
			fputs("\\e", out);
		else if (*text == '-')
			fputs("\\-", out);
		else
			fputc(*text, out);
		if (*text == '\n' && (text[1] == '.' || text[1] == '\''))
			fputs("\\&", out);
	}
}

static void roff_enum(FILE *out, const struct config_key *key)
{
	for (uint32_t i = 0; type_is_enum(key->type) && i < config_enum_count; i++) {
		if (config_enums[i].type != key->type || config_enums[i].alias)
			continue;
		fputs(".br\n\\fB", out);
		roff(out, config_enums[i].text);
		fputs("\\fR: ", out);
		roff(out, config_enums[i].help);
		fputc('\n', out);
	}
}

static void roff_key(FILE *out, const struct config_key *key, bool with_reload)
{
	fputs(".TP\n.B ", out);
	roff(out, key->name);
	fputc('\n', out);
	roff(out, key->help);
	fputs("\n.br\n", out);
	if (!type_is_enum(key->type)) {
		fputs("Value: ", out);
		print_description(out, key, roff);
		fputs(". ", out);
	}
	fputs("Default: ", out);
	roff(out, key->default_text[0] ? key->default_text : "empty");
	fputs(with_reload && !key->reloads ? ". Needs a restart.\n" : ".\n", out);
	roff_enum(out, key);
}

static void roff_section(FILE *out, const struct config_section *section, const struct config_key *keys, uint32_t count,
			 bool with_reload)
{
	bool any = false;

	for (uint32_t i = 0; i < count; i++) {
		if (strcmp(keys[i].section, section->name) != 0)
			continue;
		if (!any) {
			fputs(".SS ", out);
			roff(out, section->header);
			fputc('\n', out);
			roff(out, section->help);
			fputc('\n', out);
		}
		any = true;
		roff_key(out, &keys[i], with_reload);
	}
}

void reference_man(FILE *out)
{
	fputs(".\\\" Made by the proxy from src/config/directives.def and tables.def. Do not edit.\n"
	      ".TH PROXY.TOML 5 \"\" \"heliosdb\\-proxy " HELIOS_VERSION "\" \"File Formats\"\n"
	      ".SH NAME\nproxy.toml \\- configuration of heliosdb\\-proxy(1)\n"
	      ".SH DESCRIPTION\nThe file is TOML 1.0. Unknown keys are errors. SIGHUP reads it again; a file with a "
	      "mistake "
	      "leaves the running configuration as it is.\n"
	      ".PP\nDurations are numbers of seconds, or strings with a unit (us, ms, s, min, h, d); a key may also be "
	      "written "
	      "with _secs or _ms behind its name. Sizes are numbers of bytes, or strings with a unit (B, kB, MB, GB; "
	      "1 kB is 1024 bytes).\n"
	      ".PP\n${NAME} is replaced by the value of an environment variable (an error when it isn't set), "
	      "${NAME:\\-default} by the value or the default.\n"
	      ".SH TABLES\n",
	      out);
	print_sections(out, roff_section);
	fputs(".SH EXAMPLE\n.nf\n[proxy]\nlisten_address = \"0.0.0.0:6432\"\n\n[pool]\nmode = \"transaction\"\n"
	      "max_connections = 50\n\n[[nodes]]\nhost = \"pg1.example.org\"\nrole = \"primary\"\n.fi\n"
	      ".SH SEE ALSO\nheliosdb\\-proxy(1)\n",
	      out);
}

/* ------------------------------------------------------------------------------------------- errors */

void reference_errors(FILE *out)
{
	fputs("# Errors that the proxy raises\n\n"
	      "<!-- Made by the proxy from src/wire/errors.def. Do not edit. -->\n\n"
	      "Errors of the servers pass through unchanged; these are the proxy's own. A FATAL one ends the "
	      "connection.\n\n"
	      "| SQLSTATE | severity | message | when | hint |\n|---|---|---|---|---|\n",
	      out);
	for (uint32_t i = 0; i < PROXY_ERROR_COUNT; i++) {
		const struct proxy_error_info *info = proxy_error_info((enum proxy_error)i);

		fprintf(out, "| `%s` | %s | ", info->sqlstate, info->severity);
		markdown(out, info->message);
		fputs(" | ", out);
		markdown(out, info->when ? info->when : "");
		fputs(" | ", out);
		markdown(out, info->hint ? info->hint : "");
		fputs(" |\n", out);
	}
}

/* ------------------------------------------------------------------------------------------- events */

static void cell(FILE *out, const char *text)
{
	fputs(" | ", out);
	markdown(out, text);
}

void reference_events(FILE *out)
{
	fputs("# Events\n\n"
	      "<!-- Made by the proxy from src/base/events.def. Do not edit. -->\n\n"
	      "What each kind means, and what to do. How to get them: [events](../events.md).\n\n"
	      "| kind | when | subject | other fields | what to do |\n|---|---|---|---|---|\n",
	      out);
	for (uint32_t i = 0; i < EVENT_KIND_COUNT; i++) {
		const struct event_info *info = event_info((enum event_kind)i);

		fprintf(out, "| `%s`", info->name);
		cell(out, info->when);
		cell(out, info->subject);
		cell(out, info->fields);
		cell(out, info->action);
		fputs(" |\n", out);
	}
}
