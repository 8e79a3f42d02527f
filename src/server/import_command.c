/* See import_command.h. The result goes to standard output or to a new file, what is said of it to standard error. */
#include "server/import_command.h"

#include "import/import.h"
#include "server/proxy.h"

#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct option options[] = {
	{"output", required_argument, NULL, 'o'},
	{"force", no_argument, NULL, 'f'},
	{"admin", required_argument, NULL, 'a'},
	{0},
};

struct command {
	const char *path, *output, *admin;
	bool force;
};

static int usage_error(const char *text)
{
	fprintf(stderr,
		"heliosdb-proxy import: %s\n"
		"Usage: heliosdb-proxy import pgbouncer FILE.ini [--output FILE [--force]] [--admin ADDRESS]\n",
		text);
	return EXIT_USAGE;
}

static int parse(int argc, char **argv, struct command *c)
{
	int option;

	while ((option = getopt_long(argc, argv, "o:f", options, NULL)) != -1) {
		switch (option) {
		case 'o':
			c->output = optarg;
			break;
		case 'f':
			c->force = true;
			break;
		case 'a':
			c->admin = optarg;
			break;
		default:
			return usage_error("unknown option");
		}
	}
	if (argc - optind != 2)
		return usage_error("it takes a format and a file");
	if (strcmp(argv[optind], "pgbouncer") != 0)
		return usage_error("pgbouncer is the only format that it knows");
	c->path = argv[optind + 1];
	return EXIT_OK;
}

static void tell(void *argument, enum import_verdict verdict, const char *file, uint32_t line, const char *text)
{
	uint32_t *counts = argument;

	counts[verdict]++;
	if (*file)
		fprintf(stderr, line ? "%s:%u: " : "%s: ", file, line);
	fprintf(stderr, "%s\n", text);
}

static int failed(const char *path, int error)
{
	fprintf(stderr, "heliosdb-proxy import: cannot write %s: %s\n", path, strerror(error));
	return EXIT_START;
}

/* Written beside, then put in its place: nobody ever sees half of it. There may be passwords in it. */
static int write_file(const struct command *c, const struct buf *toml)
{
	char fresh[4096];
	ssize_t written = 0;
	int fd, r;

	if (snprintf(fresh, sizeof(fresh), "%s.XXXXXX", c->output) >= (int)sizeof(fresh))
		return failed(c->output, ENAMETOOLONG);
	fd = mkostemp(fresh, O_CLOEXEC); /* 0600 */
	if (fd < 0)
		return failed(c->output, errno);
	for (size_t at = 0; at < toml->len && written >= 0; at += (size_t)written)
		written = write(fd, toml->bytes + at, toml->len - at);
	r = written < 0 || fsync(fd) < 0 ? errno : 0;
	close(fd);
	if (r == 0 && (c->force ? rename(fresh, c->output) : link(fresh, c->output)) < 0)
		r = errno;
	if (r != 0 || !c->force)
		unlink(fresh);
	if (r == EEXIST)
		fprintf(stderr, "heliosdb-proxy import: %s is there already; --force replaces it\n", c->output);
	else if (r != 0)
		return failed(c->output, r);
	return r ? EXIT_START : EXIT_OK;
}

static int write_result(const struct command *c, const struct buf *toml)
{
	if (c->output)
		return write_file(c, toml);
	if (fwrite(toml->bytes, 1, toml->len, stdout) != toml->len || fflush(stdout) != 0)
		return failed("standard output", errno);
	return EXIT_OK;
}

int import_command(int argc, char **argv)
{
	struct command c = {0};
	uint32_t counts[IMPORT_WRONG + 1] = {0};
	struct import_job job = {.read = import_read_file, .tell = tell, .argument = counts};
	struct buf toml = BUF_INIT(IMPORT_BYTES_MAX);
	int status = parse(argc, argv, &c), r;

	if (status != EXIT_OK)
		return status;
	job.admin_address = c.admin;
	r = import_pgbouncer(&job, c.path, &toml);
	fprintf(stderr, "%u settings",
		counts[IMPORT_BECAME] + counts[IMPORT_NOTHING] + counts[IMPORT_ABSENT] + counts[IMPORT_WRONG]);
	for (enum import_verdict v = IMPORT_BECAME; v <= IMPORT_WRONG; v++)
		fprintf(stderr, "%s %u %s", v == IMPORT_BECAME ? ":" : ",", counts[v], import_verdict_text(v));
	fputc('\n', stderr);
	if (r == -ENOMEM)
		fprintf(stderr, "heliosdb-proxy import: out of memory\n");
	status = r == 0 ? write_result(&c, &toml) : EXIT_START;
	buf_free_secret(&toml);
	return status;
}
