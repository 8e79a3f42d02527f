/* A pgbouncer.ini from anywhere: whatever comes of it is TOML that the loader can read, and is told of. */
#include "base/arena.h"
#include "config/toml.h"
#include "import/import.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct source {
	const uint8_t *data;
	size_t size;
	uint32_t wrong;
};

/* Each file is the whole input again. */
static int read_again(void *argument, const char *path, const char *from, struct buf *out)
{
	struct source *s = argument;

	(void)from;
	if (*path == 'x')
		return -ENOENT;
	buf_add(out, s->data, s->size);
	return out->failed ? -EFBIG : 0;
}

static void listen_to(void *argument, enum import_verdict verdict, const char *file, uint32_t line, const char *text)
{
	struct source *s = argument;

	(void)line;
	assert(file && *text && !strchr(text, '\n'));
	s->wrong += verdict == IMPORT_WRONG;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct source s = {data, size, 0};
	struct import_job job = {.read = read_again, .tell = listen_to, .argument = &s};
	struct buf out = BUF_INIT(IMPORT_BYTES_MAX);
	const struct toml_value *root;
	struct toml_error error;
	struct arena arena;
	int r;

	if (size > 65536)
		return 0;
	r = import_pgbouncer_text(&job, (const char *)data, size, "fuzz", &out);
	assert((r == -EINVAL) == (s.wrong > 0));
	if (r == 0) {
		arena_init(&arena, 4096);
		r = toml_parse((const char *)out.bytes, out.len, &arena, &root, &error);
		assert(r == 0 || r == -ENOMEM);
		arena_destroy(&arena);
	}
	buf_free(&out);
	return 0;
}
