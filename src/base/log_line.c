/*
 * The form of a log line. Everything is written through put_*(), which stop at the end
 * of the line's room; TAIL_ROOM is kept back so that a line that had to be cut still
 * ends as its format demands.
 */
#include "base/log_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#define TAIL_ROOM 16 /* ..."}\n and one escape begun before the limit */

static const char *const level_name[] = {"trace", "debug", "info", "warning", "error"};

struct line {
	char *at, *end; /* end: without TAIL_ROOM */
};

enum quoting { BARE, QUOTED, JSON };

static void put(struct line *l, const void *bytes, size_t len)
{
	memcpy(l->at, bytes, len);
	l->at += len;
}

static bool put_if_fits(struct line *l, const char *s)
{
	size_t len = strlen(s);

	if (len > (size_t)(l->end - l->at))
		return false;
	put(l, s, len);
	return true;
}

/*
 * Length of the UTF-8 character at s (RFC 3629: no overlong forms, no surrogates), or 0;
 * 0 also for what must not stand in a log as it is: C1 controls and line separators.
 */
static size_t utf8_printable(const uint8_t *s, size_t len)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t n = s[0] < 0x80                   ? 1
		   : s[0] >= 0xc2 && s[0] < 0xe0 ? 2
		   : (s[0] & 0xf0) == 0xe0       ? 3
		   : s[0] >= 0xf0 && s[0] < 0xf5 ? 4
						 : 0;
	uint32_t c;

	if (n == 0 || n > len)
		return 0;
	if (n == 1)
		return s[0] >= 0x20 && s[0] != 0x7f;
	c = s[0] & (0x7fu >> n);
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return 0;
	return c < 0xa0 || c == 0x2028 || c == 0x2029 ? 0 : n;
}

/* One byte that can't stand as it is. Text: \n \r \t \xNN, undone without doubt as \ is \\. */
static size_t escape(char *to, size_t size, uint8_t c, enum quoting quoting)
{
	static const char plain[] = "\n\r\t", letter[] = "nrt";
	const char *found = c ? strchr(plain, c) : NULL;

	if (found)
		return (size_t)snprintf(to, size, "\\%c", letter[found - plain]);
	if (quoting != JSON)
		return (size_t)snprintf(to, size, "\\x%02x", c);
	return (size_t)snprintf(to, size, "\\u%04x", c < 0x80 ? c : 0xfffdu);
}

/* False: it was cut. */
static bool put_escaped(struct line *l, struct slice text, enum quoting quoting)
{
	for (size_t i = 0, n; i < text.len; i += n) {
		const uint8_t *s = text.bytes + i;
		char escaped[8];

		n = utf8_printable(s, text.len - i);
		if (l->end - l->at < (ptrdiff_t)sizeof(escaped)) {
			put(l, "...", 3);
			return false;
		}
		if (n == 0) {
			put(l, escaped, escape(escaped, sizeof(escaped), *s, quoting));
			n = 1;
		} else {
			if (*s == '\\' || (*s == '"' && quoting != BARE))
				put(l, "\\", 1);
			put(l, s, n);
		}
	}
	return true;
}

static bool needs_quotes(struct slice text)
{
	for (size_t i = 0, n; i < text.len; i += n) {
		const uint8_t *s = text.bytes + i;

		n = utf8_printable(s, text.len - i);
		if (n == 0 || *s == ' ' || *s == '"' || *s == '=' || *s == '\\')
			return true;
	}
	return text.len == 0;
}

static bool put_text(struct line *l, struct slice text, enum log_format format)
{
	enum quoting quoting = format == LOG_FORMAT_JSON ? JSON : needs_quotes(text) ? QUOTED : BARE;
	bool whole;

	if (quoting == BARE)
		return put_escaped(l, text, BARE);
	put(l, "\"", 1);
	whole = put_escaped(l, text, quoting);
	put(l, "\"", 1);
	return whole;
}

/* False: nothing more fits. */
static bool put_pair(struct line *l, const struct kv *pair, enum log_format format)
{
	char key[128], number[24];

	if (pair->type == KV_STR && !pair->str)
		return true;
	snprintf(key, sizeof(key), format == LOG_FORMAT_JSON ? ",\"%s\":" : " %s=", pair->key);
	if ((size_t)(l->end - l->at) < strlen(key) + sizeof(number) || !put_if_fits(l, key))
		return false;
	switch (pair->type) {
	case KV_STR:
		return put_text(l, slice_str(pair->str), format);
	case KV_SLICE:
		return put_text(l, pair->slice, format);
	case KV_INT:
		snprintf(number, sizeof(number), "%" PRId64, pair->i);
		return put_if_fits(l, number);
	case KV_UINT:
		snprintf(number, sizeof(number), "%" PRIu64, pair->u);
		return put_if_fits(l, number);
	case KV_END:
		break;
	}
	return false;
}

/* gmtime_r takes a lock of libc's, so each thread asks once a second. */
static const struct tm *utc(uint64_t seconds)
{
	static __thread struct tm cached;
	static __thread uint64_t cached_for = UINT64_MAX;
	time_t t = (time_t)seconds;

	if (seconds != cached_for) {
		gmtime_r(&t, &cached);
		cached_for = seconds;
	}
	return &cached;
}

static void put_head(struct line *l, enum log_format format, enum log_level level, uint64_t wall_us)
{
	const struct tm *tm = utc(wall_us / 1000000);
	const char *pattern = format == LOG_FORMAT_JSON
				      ? "{\"ts\":\"%04d-%02d-%02dT%02d:%02d:%02d.%03dZ\",\"level\":\"%s\",\"msg\":"
				      : "%04d-%02d-%02d %02d:%02d:%02d.%03d UTC %s ";
	char head[160];

	snprintf(head, sizeof(head), pattern, tm->tm_year + 1900, tm->tm_mon + 1, tm->tm_mday, tm->tm_hour, tm->tm_min,
		 tm->tm_sec, (int)(wall_us / 1000 % 1000), level_name[level]);
	put_if_fits(l, head);
}

size_t log_line_format(char *line, enum log_format format, enum log_level level, uint64_t wall_us, const char *message,
		       const struct kv *pairs)
{
	struct line l = {.at = line, .end = line + LOG_LINE_MAX - TAIL_ROOM};
	bool fits;

	put_head(&l, format, level, wall_us);
	if (format == LOG_FORMAT_JSON)
		fits = put_text(&l, slice_str(message), format);
	else
		fits = put_escaped(&l, slice_str(message), BARE);
	for (; fits && pairs->type != KV_END; pairs++)
		fits = put_pair(&l, pairs, format);
	if (format == LOG_FORMAT_JSON)
		put(&l, "}", 1);
	put(&l, "\n", 1);
	return (size_t)(l.at - line);
}
