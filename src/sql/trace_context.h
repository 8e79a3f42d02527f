/*
 * Trace context in a text's comments, as sqlcommenter puts it there: comma-separated key='value' pairs, both
 * URL-encoded, in a comment that ends the text, or in those in front of it.
 * https://google.github.io/sqlcommenter/spec/ and https://www.w3.org/TR/trace-context/
 *
 * Comments are anybody's: what is not valid by W3C's rules is as if it was not there.
 */
#ifndef SQL_TRACE_CONTEXT_H
#define SQL_TRACE_CONTEXT_H

#include "base/common.h"

#define TRACE_STATE_MAX 512u

struct trace_context {
	uint8_t trace_id[16], parent_id[8];
	uint8_t flags;                   /* BIT(0): the caller's span is recorded */
	char state[TRACE_STATE_MAX + 1]; /* tracestate; "": none, or not valid */
};

/* end: the text's last bytes, where that is not all of it; else the text once more. */
bool trace_context_read(struct slice text, struct slice end, struct trace_context *ret);
/* traceparent's value alone; ret->state is not touched. */
bool trace_parent_read(struct slice value, struct trace_context *ret);
bool trace_state_is_valid(struct slice value);

/* Can there be any? Most texts begin with a letter, and don't end with a comment. */
static inline bool trace_context_may_be(struct slice text, struct slice end)
{
	size_t len = end.len;

	while (len > 0 && (end.bytes[len - 1] <= ' ' || end.bytes[len - 1] == ';'))
		len--;
	return text.len > 0 && (text.bytes[0] <= '/' || (len > 0 && end.bytes[len - 1] == '/'));
}

#endif
