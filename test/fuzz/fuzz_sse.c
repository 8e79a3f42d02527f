/* Server-sent events: however the bytes are cut, the same events come, and none is without data. */
#include "client/sse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Fails with or without NDEBUG. */
static void require(bool holds)
{
	if (!holds)
		abort();
}

struct told {
	uint64_t sum, count;
};

static bool tell(void *argument, const struct sse *sse)
{
	struct told *t = argument;

	require(memchr(sse->id, 0, sizeof(sse->id)) && memchr(sse->event, 0, sizeof(sse->event)));
	t->count++;
	t->sum = t->sum * 31 + sse->data.len;
	for (size_t i = 0; i < sse->data.len; i++)
		t->sum = t->sum * 31 + sse->data.bytes[i];
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct told whole = {0}, cut = {0};
	struct sse sse;
	bool good;

	sse_init(&sse, tell, &whole);
	good = sse_read(&sse, (const char *)data, size);
	sse_free(&sse);
	sse_init(&sse, tell, &cut);
	for (size_t i = 0; i < size; i++)
		if (!sse_read(&sse, (const char *)data + i, 1))
			break;
	sse_free(&sse);
	if (good)
		require(whole.sum == cut.sum && whole.count == cut.count);
	return 0;
}
