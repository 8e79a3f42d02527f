/*
 * Normalized texts: the fingerprint is that of what is written in full, a text that is cut is its beginning, and a
 * text's shape is normalized as the text is.
 */
#include "sql/intent.h"
#include "sql/normalize.h"
#include "sql/shape.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Fails with or without NDEBUG. */
static void require(bool holds)
{
	if (!holds)
		abort();
}

static uint64_t hash(const char *text, size_t len)
{
	uint64_t hash = 0xcbf29ce484222325ull;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ (uint8_t)text[i]) * 0x100000001b3ull;
	return hash;
}

static void check_cut(struct slice text, bool conforming, const char *whole, const struct sql_normalized *wanted)
{
	struct sql_normalized got;
	char out[24];

	sql_normalize(text, conforming, out, sizeof(out), &got);
	require(got.len < sizeof(out) && got.len <= wanted->len && strlen(out) == got.len);
	require(memcmp(out, whole, got.len) == 0);
	require(got.cut == (wanted->len >= sizeof(out)));
	require(got.fingerprint == wanted->fingerprint);
}

static void check_shape(struct slice text, const struct sql_normalized *wanted)
{
	uint8_t *shape = malloc(text.len + 1);
	struct sql_normalized got;
	char out[1];
	size_t len;

	require(shape != NULL);
	len = shape_fold(text, shape);
	if (len > 0) {
		sql_normalize(slice_make(shape, len), true, out, sizeof(out), &got);
		require(got.fingerprint == wanted->fingerprint);
	}
	free(shape);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	bool conforming = size == 0 || data[0] != '\\';
	size_t room = 6 * size + 32;
	struct slice text = slice_make(data, size);
	struct sql_normalized whole;
	char *out = malloc(room);

	require(out != NULL);
	sql_normalize(text, conforming, out, room, &whole);
	require(!whole.cut && whole.len < room && strlen(out) == whole.len);
	require(whole.fingerprint == hash(out, whole.len));
	check_cut(text, conforming, out, &whole);
	if (conforming && !memchr(data, 0, size))
		check_shape(text, &whole);
	require(sql_intent_name(sql_intent(text, conforming)) != NULL);
	free(out);
	return 0;
}
