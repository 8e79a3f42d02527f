/* Commands of the console: whatever the bytes, what was read ends within its place, and is read so again. */
#include "console/command.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Fails with or without NDEBUG. */
static void require(bool holds)
{
	if (!holds)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct command c, again;
	uint8_t *copy = malloc(size + 2);
	int r = command_read(slice_make(data, size), &c);

	require(copy);
	require(r == 0 || r == -EINVAL || r == -E2BIG);
	if (r == 0) {
		require(memchr(c.name, 0, sizeof(c.name)) && memchr(c.value, 0, sizeof(c.value)) &&
			memchr(c.tag, 0, sizeof(c.tag)));
		require((c.verb == COMMAND_EMPTY) == (c.tag[0] == 0));
		/* a blank in front changes nothing */
		copy[0] = ' ';
		memcpy(copy + 1, data, size);
		require(command_read(slice_make(copy, size + 1), &again) == 0);
		require(again.verb == c.verb && strcmp(again.name, c.name) == 0 && strcmp(again.value, c.value) == 0);
	}
	free(copy);
	return 0;
}
