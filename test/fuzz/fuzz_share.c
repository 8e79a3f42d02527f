/* Requests of clients that may be shared: what is said of one lies within it, in order, and makes up all of it. */
#include "session/share_read.h"
#include "wire/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Fails with or without NDEBUG. */
static void require(bool holds)
{
	if (!holds)
		abort();
}

static bool is_within(struct slice s, const uint8_t *data, size_t size)
{
	return s.len == 0 || (s.bytes >= data && s.bytes + s.len <= data + size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct share_request r;
	struct frame f = {0};
	size_t at = 0;

	if (!share_read(data, size, &r))
		return 0;
	require(r.bytes == data && r.len == size && size <= SHARE_REQUEST_MAX);
	require(is_within(r.sql, data, size) && is_within(r.parse, data, size) && is_within(r.name, data, size) &&
		is_within(r.values, data, size) && is_within(r.rest, data, size));
	while (at < size) {
		require(frame_read(data + at, size - at, &f) == FRAME_WHOLE);
		at += frame_size(&f);
	}
	require(f.type == (r.is_batch ? 'S' : 'Q'));
	if (r.is_batch)
		require(r.values.bytes + r.values.len == r.rest.bytes && r.rest.bytes + r.rest.len == data + size);
	return 0;
}
