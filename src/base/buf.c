/*
 * See buf.h. One byte more than cap is allocated, so that the NUL of buf_cstr() and
 * of vsnprintf() always has a place.
 */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>

#define FIRST_CAP 64

void buf_init(struct buf *b, size_t max)
{
	*b = BUF_INIT(max);
}

void buf_free(struct buf *b)
{
	free(b->bytes);
	*b = BUF_INIT(b->max);
}

void buf_clear(struct buf *b)
{
	b->len = 0;
	b->failed = false;
}

void buf_free_secret(struct buf *b)
{
	if (b->bytes)
		explicit_bzero(b->bytes, b->cap + 1);
	buf_free(b);
}

/*
 * Grows to hold `need` bytes. Not by realloc: what it would leave behind could be
 * part of a secret, so the old bytes are wiped.
 */
static bool grow(struct buf *b, size_t need)
{
	size_t cap = b->cap > b->max / 2 ? b->max : MAX(b->cap * 2, FIRST_CAP);
	uint8_t *bytes;

	cap = MIN(MAX(cap, need), b->max);
	if (cap == SIZE_MAX)
		return false;
	bytes = malloc(cap + 1);
	if (!bytes)
		return false;
	if (b->bytes) {
		memcpy(bytes, b->bytes, b->len);
		explicit_bzero(b->bytes, b->len);
		free(b->bytes);
	}
	b->bytes = bytes;
	b->cap = cap;
	return true;
}

uint8_t *buf_reserve(struct buf *b, size_t more)
{
	if (b->failed)
		return NULL;
	if (more > b->max - b->len || ((more > b->cap - b->len || !b->bytes) && !grow(b, b->len + more))) {
		b->failed = true;
		return NULL;
	}
	return b->bytes + b->len;
}

static NEVER_INLINE void add_grown(struct buf *b, const void *bytes, size_t len)
{
	uint8_t *to = len ? buf_reserve(b, len) : NULL;

	if (!to)
		return;
	memcpy(to, bytes, len);
	b->len += len;
}

/* Mostly there is room. Without any bytes it isn't asked for: there may be no memory yet. */
void buf_add(struct buf *b, const void *bytes, size_t len)
{
	size_t at = b->len;

	if (unlikely(len - 1 >= b->cap - at || b->failed)) {
		add_grown(b, bytes, len);
		return;
	}
	b->len = at + len;
	memcpy(b->bytes + at, bytes, len);
}

void buf_add_str(struct buf *b, const char *s)
{
	buf_add(b, s, strlen(s));
}

void buf_add_char(struct buf *b, char c)
{
	buf_add(b, &c, 1);
}

void buf_printf(struct buf *b, const char *format, ...)
{
	va_list arguments;
	uint8_t *to;
	int len;

	va_start(arguments, format);
	len = vsnprintf(NULL, 0, format, arguments);
	va_end(arguments);
	if (len < 0) {
		b->failed = true;
		return;
	}
	to = buf_reserve(b, (size_t)len);
	if (!to)
		return;
	va_start(arguments, format);
	vsnprintf((char *)to, (size_t)len + 1, format, arguments);
	va_end(arguments);
	b->len += (size_t)len;
}

const char *buf_cstr(struct buf *b)
{
	if (b->failed || !b->bytes)
		return "";
	b->bytes[b->len] = '\0';
	return (const char *)b->bytes;
}
