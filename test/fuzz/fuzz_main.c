/*
 * Replays files through a fuzz target: each argument is a file or a directory (not its subdirectories). Builds without
 * libFuzzer link this instead of it, so that seeds and past finds are tests in every normal run.
 *
 * The bytes are handed over in memory of exactly their size, so that the sanitizers see any step beyond the end.
 */
#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/common.h"

#define FILE_MAX (16l << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int read_file(FILE *file, uint8_t **ret_bytes, size_t *ret_size)
{
	uint8_t *bytes;
	long size;

	if (fseek(file, 0, SEEK_END) < 0 || (size = ftell(file)) < 0 || fseek(file, 0, SEEK_SET) < 0)
		return -errno;
	if (size > FILE_MAX)
		return -EFBIG;
	bytes = malloc(size > 0 ? (size_t)size : 1);
	if (!bytes)
		return -ENOMEM;
	if (fread(bytes, 1, (size_t)size, file) != (size_t)size) {
		free(bytes);
		return -EIO;
	}
	*ret_bytes = bytes;
	*ret_size = (size_t)size;
	return 0;
}

static int replay_file(const char *path)
{
	FILE *file = fopen(path, "rb");
	uint8_t *bytes = NULL;
	size_t size = 0;
	int r = file ? read_file(file, &bytes, &size) : -errno;

	if (file)
		fclose(file);
	if (r < 0) {
		fprintf(stderr, "%s: %s\n", path, strerror(-r));
		return r;
	}
	fprintf(stderr, "%s (%zu bytes)\n", path, size); /* before it runs: when it ends us, this line tells */
	LLVMFuzzerTestOneInput(bytes, size);
	free(bytes);
	return 1;
}

static int replay_directory(const char *path, DIR *directory)
{
	const struct dirent *entry;
	int replayed = 0;

	while ((entry = readdir(directory))) {
		char file[4096];
		int r;

		if (entry->d_name[0] == '.')
			continue;
		if (snprintf(file, sizeof(file), "%s/%s", path, entry->d_name) >= (int)sizeof(file))
			return -ENAMETOOLONG;
		r = replay_file(file);
		if (r < 0)
			return r;
		replayed += r;
	}
	return replayed;
}

static int replay(const char *path)
{
	DIR *directory = opendir(path);
	int r;

	if (!directory)
		return replay_file(path);
	r = replay_directory(path, directory);
	closedir(directory);
	return r;
}

int main(int argc, char **argv)
{
	int replayed = 0;

	for (int i = 1; i < argc; i++) {
		int r = replay(argv[i]);

		if (r < 0)
			return 1;
		replayed += r;
	}
	fprintf(stderr, "%d inputs replayed\n", replayed);
	return replayed > 0 ? 0 : 1; /* a test of nothing is no test */
}
