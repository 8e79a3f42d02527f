/* The command line of heliosdb-proxy. */
#include "admin/metrics.h"
#include "admin/reference.h"
#include "client/client.h"
#include "config/config.h"
#include "config/reference.h"
#include "import/import.h"
#include "server/built_in.h"
#include "server/import_command.h"
#include "server/load.h"
#include "server/proxy.h"

#include <getopt.h>
#include <stdio.h>

static const char help[] =
	"heliosdb-proxy: a proxy for everything that speaks PostgreSQL's protocol\n"
	"\n"
	"Usage: heliosdb-proxy --config proxy.toml\n"
	"       heliosdb-proxy --pgbouncer pgbouncer.ini\n"
	"       heliosdb-proxy --primary HOST:PORT [--standby HOST:PORT]... [--listen ADDRESS]\n"
	"       heliosdb-proxy import pgbouncer FILE.ini [--output FILE [--force]] [--admin ADDRESS]\n"
	"       heliosdb-proxy ctl VERB...         looks at a running proxy, and steers it (ctl --help)\n"
	"       heliosdb-proxy top                 shows what it does, again and again (top --help)\n"
	"       heliosdb-proxy completion bash|zsh makes a shell complete all this\n"
	"\n"
	"  -c, --config FILE        configuration (see proxy.toml(5))\n"
	"      --pgbouncer FILE     the same from PgBouncer's configuration; import writes it as proxy.toml\n"
	"      --check-config       check it, say what is wrong, and exit\n"
	"      --print-config       print all values in force, with where each is from, and exit\n"
	"      --strict             what this build can't do is an error, not a notice\n"
	"  -l, --listen ADDRESS     where clients connect, without a file (0.0.0.0:6432)\n"
	"      --admin ADDRESS      where the admin API listens, without a file (127.0.0.1:9090), or with --pgbouncer\n"
	"                           (nowhere)\n"
	"      --primary HOST:PORT  the primary, without a file\n"
	"      --standby HOST:PORT  a standby, without a file; may be repeated, or a comma list\n"
	"      --log-level LEVEL    trace, debug, info, warn, error\n"
	"      --json-logs          log lines as JSON\n"
	"      --generate WHAT      print a page made from the tables: reference, man, schema, errors,\n"
	"                           events, endpoints, metrics, pgbouncer, ctl, ctlman\n"
	"  -V, --version            print the version and the features built in\n"
	"  -h, --help               print this\n"
	"\n"
	"Signals: HUP reload, TERM/INT drain and end (again: at once), USR1 reopen the log, USR2 hand over to a new\n"
	"process. Exit status: 0 drained, 1 start failed, 2 usage, 3 ended before all transactions were.\n";

enum {
	OPT_ADMIN = 256,
	OPT_PGBOUNCER,
	OPT_PRIMARY,
	OPT_STANDBY,
	OPT_CHECK,
	OPT_PRINT,
	OPT_STRICT,
	OPT_LEVEL,
	OPT_JSON,
	OPT_GENERATE,
	OPT_CLOCK,
	OPT_TR
};

static const struct option options[] = {
	{"config", required_argument, NULL, 'c'},
	{"pgbouncer", required_argument, NULL, OPT_PGBOUNCER},
	{"listen", required_argument, NULL, 'l'},
	{"admin", required_argument, NULL, OPT_ADMIN},
	{"primary", required_argument, NULL, OPT_PRIMARY},
	{"standby", required_argument, NULL, OPT_STANDBY},
	{"check-config", no_argument, NULL, OPT_CHECK},
	{"print-config", no_argument, NULL, OPT_PRINT},
	{"strict", no_argument, NULL, OPT_STRICT},
	{"log-level", required_argument, NULL, OPT_LEVEL},
	{"json-logs", no_argument, NULL, OPT_JSON},
	{"generate", required_argument, NULL, OPT_GENERATE},
	{"test-clock", no_argument, NULL, OPT_CLOCK},
	{"tr", no_argument, NULL, OPT_TR},
	{"version", no_argument, NULL, 'V'},
	{"help", no_argument, NULL, 'h'},
	{0},
};

struct command_line {
	struct proxy_options proxy;
	const char *standbys[64];
	bool check, print;
};

static int generate(const char *what)
{
	if (strcmp(what, "reference") == 0)
		reference_markdown(stdout);
	else if (strcmp(what, "man") == 0)
		reference_man(stdout);
	else if (strcmp(what, "errors") == 0)
		reference_errors(stdout);
	else if (strcmp(what, "events") == 0)
		reference_events(stdout);
	else if (strcmp(what, "endpoints") == 0)
		return admin_reference(stdout) == 0 ? EXIT_OK : EXIT_START;
	else if (strcmp(what, "pgbouncer") == 0)
		import_reference(stdout);
	else if (strcmp(what, "metrics") == 0)
		metrics_reference(stdout);
	else if (strcmp(what, "ctl") == 0)
		ctl_reference(stdout);
	else if (strcmp(what, "ctlman") == 0)
		ctl_man(stdout);
	else if (strcmp(what, "schema") == 0)
		return reference_schema(stdout) == 0 ? EXIT_OK : EXIT_START;
	else
		return EXIT_USAGE;
	return EXIT_OK;
}

static void print_version(void)
{
	printf("heliosdb-proxy %s\nfeatures:", HELIOS_VERSION);
	for (const char *const *f = features; *f; f++)
		printf(" %s", *f);
	putchar('\n');
}

static int usage_error(const char *text)
{
	fprintf(stderr, "heliosdb-proxy: %s\nTry heliosdb-proxy --help.\n", text);
	return EXIT_USAGE;
}

/* An exit status, or -1: go on. */
static int parse(int argc, char **argv, struct command_line *c)
{
	struct config_flags *f = &c->proxy.flags;
	int option;

	while ((option = getopt_long(argc, argv, "c:l:Vh", options, NULL)) != -1) {
		switch (option) {
		case 'c':
			c->proxy.config_path = optarg;
			c->proxy.is_pgbouncer = false;
			break;
		case OPT_PGBOUNCER:
			c->proxy.config_path = optarg;
			c->proxy.is_pgbouncer = true;
			break;
		case 'l':
			f->listen = optarg;
			break;
		case OPT_ADMIN:
			f->admin = optarg;
			break;
		case OPT_PRIMARY:
			f->primary = optarg;
			break;
		case OPT_STANDBY:
			if (f->standby_count == ARRAY_SIZE(c->standbys))
				return usage_error("too many --standby");
			c->standbys[f->standby_count++] = optarg;
			break;
		case OPT_CHECK:
			c->check = true;
			break;
		case OPT_PRINT:
			c->print = true;
			break;
		case OPT_STRICT:
			c->proxy.strict = true;
			break;
		case OPT_LEVEL:
			f->log_level = optarg;
			break;
		case OPT_JSON:
			f->json_logs = true;
			break;
		case OPT_GENERATE:
			option = generate(optarg);
			return option == EXIT_USAGE
				       ? usage_error("--generate takes reference, man, schema, errors, "
						     "events, endpoints, metrics, pgbouncer, ctl or ctlman")
				       : option;
		case OPT_CLOCK:
			c->proxy.test_clock = true;
			break;
		case OPT_TR: /* accepted for the reference's sake; transaction replay is not in this build */
			break;
		case 'V':
			print_version();
			return EXIT_OK;
		case 'h':
			fputs(help, stdout);
			return EXIT_OK;
		default:
			return usage_error("unknown option");
		}
	}
	if (optind < argc)
		return usage_error("unexpected argument");
	if (!c->proxy.config_path && !f->primary)
		return usage_error("no node: give --config FILE, --pgbouncer FILE or --primary HOST:PORT");
	f->standbys = c->standbys;
	return -1;
}

static int load(const struct command_line *c, struct config **ret)
{
	struct config_report report;
	int r;

	config_report_init(&report, c->proxy.strict);
	r = load_config(&c->proxy, ret, &report);
	config_report_print(&report, stderr);
	config_report_free(&report);
	return r;
}

/* The other programs in this one. */
static const struct {
	const char *name;
	int (*run)(int argc, char **argv); /* its exit status */
} commands[] = {
	{"import", import_command},         {"ctl", ctl_command},           {"top", top_command},
	{"completion", completion_command}, {"complete", complete_command},
};

int main(int argc, char **argv)
{
	struct command_line c = {.proxy.argv = argv};
	struct config *config = NULL;
	int status;

	for (size_t i = 0; argc > 1 && i < ARRAY_SIZE(commands); i++)
		if (strcmp(argv[1], commands[i].name) == 0)
			return commands[i].run(argc - 1, argv + 1);
	status = parse(argc, argv, &c);

	if (status >= 0)
		return status;
	if (load(&c, &config) < 0) {
		config_free(config);
		return EXIT_START;
	}
	if (c.print)
		config_print(config, stdout);
	if (c.check && !c.print)
		printf("%s: the configuration is fine\n", c.proxy.config_path ? c.proxy.config_path : "flags");
	if (c.print || c.check) {
		config_free(config);
		return EXIT_OK;
	}
	return proxy_run(&c.proxy, config);
}
