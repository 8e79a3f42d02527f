/* Pages made from the table of verbs: `heliosdb-proxy --generate ctl` and `ctlman`. */
#include "client/client_priv.h"

static const char *key_type(const struct verb_key *key)
{
	return key->type == 'n' ? "number" : key->words[0] ? key->words : "text";
}

static void print_keys(FILE *out, const char *keys, const char *before, const char *after)
{
	struct verb_key key;
	bool is_first = true;

	while (verb_next_key(&keys, &key)) {
		fprintf(out, "%s%s%s=", is_first ? "" : ", ", before, key.name);
		for (const char *at = key_type(&key); *at; at++)
			fprintf(out, strcmp(before, "`") == 0 && *at == '|' ? "\\%c" : "%c", *at);
		fputs(after, out);
		is_first = false;
	}
}

/* A | would end a cell. */
static void print_cell(FILE *out, const char *text)
{
	for (; *text; text++)
		fprintf(out, *text == '|' ? "\\%c" : "%c", *text);
}

void ctl_reference(FILE *out)
{
	fputs("# heliosdb-proxy ctl: all verbs\n"
	      "\n"
	      "Made from `src/client/verbs.def` by `heliosdb-proxy --generate ctl`. How to use it: [ctl](../ctl.md).\n"
	      "\n"
	      "| verb | what it does | keys | request |\n"
	      "|---|---|---|---|\n",
	      out);
	for (size_t i = 0; i < verb_count; i++) {
		const struct verb *v = &verbs[i];
		const char *argument = verb_argument_name(v->argument);

		fprintf(out, "| `%s%s", v->words, *argument ? " " : "");
		print_cell(out, argument);
		fprintf(out, "`%s | %s | ", v->flags & VERB_ASKS ? " (asks)" : "", v->help);
		print_keys(out, v->keys, "`", "`");
		fprintf(out, " | `%s %s%s` |\n", v->method, v->flags & VERB_RAW ? "" : "/api/v1",
			v->flags & VERB_RAW ? "PATH" : v->path);
	}
}

/* roff: a backslash and a minus need one in front. */
static void print_roff(FILE *out, const char *text)
{
	for (; *text; text++)
		fprintf(out, *text == '\\' ? "\\e" : *text == '-' ? "\\-" : "%c", *text);
}

static const char man_head[] =
	".TH HELIOSDB-PROXY-CTL 1 \"\" \"heliosdb-proxy\" \"HeliosProxy\"\n"
	".SH NAME\n"
	"heliosdb-proxy-ctl \\- look at a running heliosdb-proxy, and steer it\n"
	".SH SYNOPSIS\n"
	".B heliosdb-proxy ctl\n"
	".RI [ option ...]\n"
	".I VERB\n"
	".RI [ ARGUMENT ]\n"
	".RI [ KEY=VALUE ...]\n"
	".SH DESCRIPTION\n"
	"Each verb is one request of the proxy's admin API. What it answers is printed as a table, as CSV, or as it "
	"came (JSON).\n"
	"Control characters in names and queries are never sent to a terminal.\n"
	".PP\n"
	"Where the API is and which token it wants is taken from the options, else from the environment, else from the "
	"proxy's\n"
	"own configuration, when that can be read. The configuration's token is sent to the address that the same file "
	"names, and\n"
	"nowhere else.\n"
	".SH OPTIONS\n"
	".TP\n"
	".BR \\-o \", \" \\-\\-output \" \" table | json | csv\n"
	"How to print the answer.\n"
	".TP\n"
	".BR \\-f \", \" \\-\\-follow\n"
	"With events and log: go on with what comes. After a broken connection it goes on where it was.\n"
	".TP\n"
	".BR \\-y \", \" \\-\\-yes\n"
	"Don't ask before what is dangerous. Without a terminal it never asks.\n"
	".TP\n"
	".BI \\-\\-timeout \" SECONDS\"\n"
	"How long to wait for an answer (30).\n"
	".TP\n"
	".BI \\-\\-url \" URL\"\n"
	"The admin API, http:// or https://.\n"
	".TP\n"
	".BI \\-\\-socket \" PATH\"\n"
	"Its unix socket.\n"
	".TP\n"
	".BI \\-\\-token\\-file \" FILE\"\n"
	"The token is the first line of this file; \\- is standard input.\n"
	".TP\n"
	".BR \\-c \", \" \\-\\-config \" \\fIFILE\\fR\"\n"
	"The proxy's configuration (/etc/heliosproxy/proxy.toml).\n"
	".TP\n"
	".BI \\-\\-cacert \" FILE\"\n"
	"Authorities that may have signed the API's certificate, in place of the system's.\n"
	".TP\n"
	".BI \\-\\-cert \" FILE\" \"\\fR, \" \\-\\-key \" FILE\"\n"
	"A client certificate, and its key.\n"
	".SH VERBS\n"
	"Keys follow the argument as KEY=VALUE.\n";

static const char man_tail[] = ".SH EXIT STATUS\n"
			       ".TP\n"
			       ".B 0\n"
			       "It is done.\n"
			       ".TP\n"
			       ".B 1\n"
			       "The proxy refused it, and said why; or it was not confirmed.\n"
			       ".TP\n"
			       ".B 2\n"
			       "Wrong usage.\n"
			       ".TP\n"
			       ".B 3\n"
			       "The proxy cannot be reached, or what answers is none.\n"
			       ".SH ENVIRONMENT\n"
			       ".TP\n"
			       ".B HELIOS_ADMIN_URL\n"
			       "As\n"
			       ".BR \\-\\-url .\n"
			       ".TP\n"
			       ".B HELIOS_ADMIN_TOKEN\n"
			       "The token.\n"
			       ".TP\n"
			       ".B PGPASSWORD\n"
			       "The password that\n"
			       ".B sql\n"
			       "logs in with.\n"
			       ".SH EXAMPLES\n"
			       ".nf\n"
			       "heliosdb\\-proxy ctl nodes\n"
			       "heliosdb\\-proxy ctl \\-o csv sessions database=shop state=active\n"
			       "heliosdb\\-proxy ctl node drain db2 deadline_secs=30\n"
			       "heliosdb\\-proxy ctl events \\-\\-follow\n"
			       ".fi\n"
			       ".SH SEE ALSO\n"
			       ".BR heliosdb\\-proxy (1),\n"
			       ".BR heliosdb\\-proxy\\-top (1)\n";

void ctl_man(FILE *out)
{
	fputs(man_head, out);
	for (size_t i = 0; i < verb_count; i++) {
		const struct verb *v = &verbs[i];
		const char *argument = verb_argument_name(v->argument);

		fputs(".TP\n\\fB", out);
		print_roff(out, v->words);
		fprintf(out, "\\fR%s\\fI", *argument ? " " : "");
		print_roff(out, argument);
		fputs("\\fR\n", out);
		print_roff(out, v->help);
		fputc('\n', out);
		if (*v->keys) {
			fputs("Keys: ", out);
			print_keys(out, v->keys, "", "");
			fputs(".\n", out);
		}
	}
	fputs(man_tail, out);
}
