/* See trace_context.h. */
#include "sql/trace_context.h"

#define COMMENTS_MAX   16u
#define COMMENT_MAX    4096u
#define PARENT_LEN     55u /* of version 00: 2-32-16-2 */
#define STATE_KEYS_MAX 32u
#define STATE_PART_MAX 256u

/* ---- W3C's rules ---- */

static int hex_digit(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; /* upper case is not valid */
}

static bool read_hex(const uint8_t *from, uint8_t *to, size_t count)
{
	uint8_t any = 0;

	for (size_t i = 0; i < count; i++) {
		int high = hex_digit(from[2 * i]), low = hex_digit(from[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		to[i] = (uint8_t)(high << 4 | low);
		any |= to[i];
	}
	return any || count == 1; /* an id of zeros is none */
}

bool trace_parent_read(struct slice value, struct trace_context *ret)
{
	const uint8_t *b = value.bytes;
	struct trace_context c = {0};
	uint8_t version;

	if (value.len < PARENT_LEN || b[2] != '-' || b[35] != '-' || b[52] != '-' || !read_hex(b, &version, 1) ||
	    !read_hex(b + 3, c.trace_id, 16) || !read_hex(b + 36, c.parent_id, 8) || !read_hex(b + 53, &c.flags, 1))
		return false;
	/* what a later version has more of stands behind another dash */
	if (version == 0xff || (version == 0 && value.len != PARENT_LEN) || (value.len > PARENT_LEN && b[55] != '-'))
		return false;
	memcpy(ret->trace_id, c.trace_id, sizeof(c.trace_id));
	memcpy(ret->parent_id, c.parent_id, sizeof(c.parent_id));
	ret->flags = version == 0 ? c.flags : c.flags & BIT(0);
	return true;
}

static bool is_state_key(const uint8_t *key, size_t len)
{
	if (len == 0 || len > STATE_PART_MAX)
		return false;
	for (size_t i = 0; i < len; i++) {
		bool starts = (key[i] >= 'a' && key[i] <= 'z') || (key[i] >= '0' && key[i] <= '9');

		if (!starts && (i == 0 || !memchr("_-*/@", key[i], 5)))
			return false;
	}
	return true;
}

static bool is_state_value(const uint8_t *value, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (value[i] < 0x20 || value[i] > 0x7e || value[i] == ',' || value[i] == '=')
			return false;
	return len > 0 && len <= STATE_PART_MAX && value[len - 1] != ' ';
}

static bool is_state_member(const uint8_t *at, const uint8_t *end)
{
	const uint8_t *equals;

	while (at < end && (*at == ' ' || *at == '\t'))
		at++;
	while (at < end && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	if (at == end)
		return true; /* allowed, and means nothing */
	equals = memchr(at, '=', (size_t)(end - at));
	return equals && is_state_key(at, (size_t)(equals - at)) &&
	       is_state_value(equals + 1, (size_t)(end - equals) - 1);
}

bool trace_state_is_valid(struct slice value)
{
	const uint8_t *at = value.bytes, *end = at + value.len;
	uint32_t members = 0;

	if (value.len == 0 || value.len > TRACE_STATE_MAX)
		return false;
	for (;;) {
		const uint8_t *comma = memchr(at, ',', (size_t)(end - at));

		if (++members > STATE_KEYS_MAX || !is_state_member(at, comma ? comma : end))
			return false;
		if (!comma)
			return true;
		at = comma + 1;
	}
}

/* ---- sqlcommenter's pairs ---- */

static int any_hex_digit(uint8_t c)
{
	return hex_digit(c >= 'A' && c <= 'F' ? (uint8_t)(c + 'a' - 'A') : c);
}

/*
 * What is between the quotes: %XX is a byte, and so is %%XX, which libraries write for drivers that take % for
 * themselves. Returns the length; SIZE_MAX: it does not fit, or is not of this form.
 */
static size_t decode(struct slice from, char *to, size_t size)
{
	size_t len = 0;

	for (size_t i = 0; i < from.len; i++) {
		uint8_t c = from.bytes[i];

		if (c == '%') {
			int high, low;

			if (i + 1 < from.len && from.bytes[i + 1] == '%')
				i++;
			high = i + 2 < from.len ? any_hex_digit(from.bytes[i + 1]) : -1;
			low = high >= 0 ? any_hex_digit(from.bytes[i + 2]) : -1;
			if (low < 0)
				return SIZE_MAX;
			c = (uint8_t)(high << 4 | low);
			i += 2;
		} else if (c == '\\' && i + 1 < from.len) {
			c = from.bytes[++i];
		}
		if (len + 1 >= size)
			return SIZE_MAX;
		to[len++] = (char)c;
	}
	to[len] = 0;
	return len;
}

static bool is_blank(uint8_t c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* The next key='value'; at behind it. Some libraries write numbers without quotes: such a value is empty here. False:
 * there is none. */
static bool next_pair(const uint8_t **at, const uint8_t *end, struct slice *ret_key, struct slice *ret_value)
{
	const uint8_t *p = *at, *start;

	while (p < end && (is_blank(*p) || *p == ','))
		p++;
	start = p;
	while (p < end && *p != '=' && *p != '\'' && !is_blank(*p))
		p++;
	*ret_key = slice_make(start, (size_t)(p - start));
	*ret_value = (struct slice){0};
	if (end - p < 2 || p[0] != '=')
		return false;
	if (p[1] != '\'') {
		while (p < end && *p != ',' && *p != '\'')
			p++;
		*at = p;
		return p == end || *p == ',';
	}
	start = p += 2;
	while (p < end && *p != '\'')
		p += *p == '\\' && p + 1 < end ? 2 : 1;
	if (p >= end)
		return false;
	*ret_value = slice_make(start, (size_t)(p - start));
	*at = p + 1;
	return true;
}

/* What is between the marks of a comment. */
static bool read_comment(const uint8_t *at, const uint8_t *end, struct trace_context *ret)
{
	char parent[128], state[TRACE_STATE_MAX + 1];
	struct slice key, value;
	bool found = false;
	size_t len;

	ret->state[0] = 0;
	if (end - at > (ptrdiff_t)COMMENT_MAX)
		return false;
	while (next_pair(&at, end, &key, &value)) {
		if (slice_equal(key, SLICE_LITERAL("traceparent"))) {
			len = decode(value, parent, sizeof(parent));
			found = len != SIZE_MAX && trace_parent_read(slice_make(parent, len), ret);
		} else if (slice_equal(key, SLICE_LITERAL("tracestate"))) {
			len = decode(value, state, sizeof(state));
			ret->state[0] = 0;
			if (len != SIZE_MAX && trace_state_is_valid(slice_make(state, len)))
				memcpy(ret->state, state, len + 1);
		}
	}
	return found;
}

/* ---- where comments are ---- */

/* The last thing in the text. */
static bool read_last(struct slice text, struct trace_context *ret)
{
	const uint8_t *end = text.bytes + text.len, *at;

	while (end > text.bytes && (is_blank(end[-1]) || end[-1] == ';'))
		end--;
	if (end - text.bytes < 4 || end[-1] != '/' || end[-2] != '*')
		return false;
	end -= 2;
	for (at = end; at - text.bytes >= 2 && end - at <= (ptrdiff_t)COMMENT_MAX; at--) {
		if (at[-2] == '/' && at[-1] == '*')
			return read_comment(at, end, ret);
		if (at < end && at[-1] == '*' && at[0] == '/')
			return false; /* the end of one within it, or of one in front of what is no comment */
	}
	return false;
}

/* Those in front of the first word: the first that has one. */
static bool read_first(struct slice text, struct trace_context *ret)
{
	const uint8_t *at = text.bytes, *end = at + text.len;

	for (uint32_t i = 0; i < COMMENTS_MAX; i++) {
		const uint8_t *close;

		while (at < end && is_blank(*at))
			at++;
		if (end - at < 4 || at[0] != '/' || at[1] != '*')
			return false;
		close = memmem(at + 2, MIN((size_t)(end - at) - 2, (size_t)COMMENT_MAX), "*/", 2);
		if (!close)
			return false;
		if (read_comment(at + 2, close, ret))
			return true;
		at = close + 2;
	}
	return false;
}

bool trace_context_read(struct slice text, struct slice end, struct trace_context *ret)
{
	return trace_context_may_be(text, end) && (read_last(end, ret) || read_first(text, ret));
}
