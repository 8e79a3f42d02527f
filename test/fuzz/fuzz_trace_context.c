/*
 * What telemetry reads of a query: whatever the bytes, a context that is found is valid by W3C's rules, and a summary
 * is bounded, whole, and the same for the same bytes.
 */
#include "sql/summary.h"
#include "sql/trace_context.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Fails with or without NDEBUG. */
static void require(bool holds)
{
	if (!holds)
		abort();
}

static bool is_zero(const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (bytes[i])
			return false;
	return true;
}

static void check_context(struct slice text, struct slice end)
{
	struct trace_context c;

	if (!trace_context_read(text, end, &c))
		return;
	require(!is_zero(c.trace_id, sizeof(c.trace_id)) && !is_zero(c.parent_id, sizeof(c.parent_id)));
	require(memchr(c.state, 0, sizeof(c.state)) != NULL);
	require(!c.state[0] || trace_state_is_valid(slice_str(c.state)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sql_summary one, two;

	check_context(slice_make(data, size), slice_make(data, size));
	check_context(slice_make(data, size / 2), slice_make(data + size / 2, size - size / 2));
	sql_summarize(slice_make(data, size), &one);
	sql_summarize(slice_make(data, size), &two);
	require(memcmp(&one, &two, sizeof(one)) == 0);
	require(memchr(one.text, 0, sizeof(one.text)) && memchr(one.operation, 0, sizeof(one.operation)));
	return 0;
}
