/*
 * What the proxy understands of SQL, for tests that are not in C.
 *   access --catalog-query           prints the query whose rows say what a database's functions and views do
 *   access [CATALOG] <TEXTS          a line for each text: level, reason
 * CATALOG: those rows, a line each, with a tab between the columns. TEXTS: each ended by a NUL.
 */
#include <stdio.h>

#include "sql/access.h"

static struct catalog *catalog_read(const char *path)
{
	struct catalog *c = catalog_new();
	FILE *file = fopen(path, "r");
	char *line = NULL;
	size_t size = 0;
	ssize_t len;

	if (!c || !file) {
		perror(path);
		exit(1);
	}
	while ((len = getline(&line, &size, file)) > 0) {
		char *tab = strchr(line, '\t');

		len -= line[len - 1] == '\n';
		if (!tab || catalog_add(c, slice_make(line, (size_t)(tab - line)),
					slice_make(tab + 1, (size_t)(line + len - tab - 1))) < 0) {
			fprintf(stderr, "%s: no row of a catalog: %s\n", path, line);
			exit(1);
		}
	}
	free(line);
	fclose(file);
	return c;
}

static void print_access(const char *text, size_t len, const struct catalog *catalog)
{
	struct access a;
	struct scan scan;

	if (scan_text(text, len, 0, /* standard_conforming_strings= */ true, &scan) < 0)
		exit(1);
	access_find(text, &scan, /* standard_conforming_strings= */ true, catalog, &a);
	printf("%s %s\n", access_level_name(a.level), access_reason_word(a.reason));
	scan_free(&scan);
}

int main(int argc, char **argv)
{
	struct catalog *catalog = NULL;
	char *text = NULL;
	size_t size = 0;
	ssize_t len;

	setvbuf(stdout, NULL, _IOLBF, 0); /* whoever asks waits for each answer */
	if (argc > 1 && strcmp(argv[1], "--catalog-query") == 0) {
		puts(catalog_query);
		return 0;
	}
	if (argc > 1)
		catalog = catalog_read(argv[1]);
	while ((len = getdelim(&text, &size, '\0', stdin)) > 0)
		print_access(text, (size_t)len - (text[len - 1] == '\0'), catalog);
	free(text);
	catalog_free(catalog);
	return 0;
}
