/*
 * What telemetry reads of others: a collector's answer, and metrics as text. Whatever the bytes, a refusal's reason
 * lies within them, and what is made of metrics can be read back.
 */
#include "telemetry/otlp.h"
#include "base/protobuf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Fails with or without NDEBUG. */
static void require(bool holds)
{
	if (!holds)
		abort();
}

static void check_answer(const uint8_t *data, size_t size)
{
	struct otlp_refusal refusal;
	uintptr_t from, base = (uintptr_t)data;

	otlp_read_answer(slice_make(data, size), &refusal);
	from = (uintptr_t)refusal.why.bytes;
	require(refusal.why.len == 0 || (from >= base && from + refusal.why.len <= base + size));
}

static void check_metrics(const uint8_t *data, size_t size)
{
	struct buf b = BUF_INIT(64u << 20), resource = BUF_INIT(16);
	struct otlp_message m;
	struct pb_reader r;
	struct pb_field f;

	otlp_begin(&m, &resource, &b);
	(void)otlp_add_metrics(&m, slice_make(data, size), 1, 2);
	otlp_end(&m);
	require(!b.failed);
	r = pb_reader_make(b.bytes, b.len);
	while (pb_next(&r, &f))
		require(f.number == 1);
	require(!r.failed);
	buf_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	check_answer(data, size);
	check_metrics(data, size);
	return 0;
}
