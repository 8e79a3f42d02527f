/* See text.h. */
#include "admin/text.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <strings.h>
#include <time.h>

/* ---- paths ---- */

/* Behind the '}' of a placeholder. */
static const char *placeholder_end(const char *pattern, bool *ret_takes_rest)
{
	const char *close = strchr(pattern, '}');

	assert(close);
	*ret_takes_rest = close - pattern > 3 && memcmp(close - 3, "...", 3) == 0;
	return close + 1;
}

bool path_match(const char *pattern, const char *path, struct slice *ret_argument)
{
	struct slice argument = {0};

	while (*pattern) {
		bool takes_rest;
		size_t len;

		if (*pattern != '{') {
			if (*pattern++ != *path++)
				return false;
			continue;
		}
		pattern = placeholder_end(pattern, &takes_rest);
		len = takes_rest ? strlen(path) : strcspn(path, "/");
		if (len == 0)
			return false;
		argument = slice_make(path, len);
		path += len;
	}
	if (*path)
		return false;
	*ret_argument = argument;
	return true;
}

/* ---- requests ---- */

static int hex_digit(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

size_t url_unescape(char *text)
{
	char *to = text;

	for (const char *from = text; *from;) {
		int high = *from == '%' ? hex_digit(from[1]) : -1, low = high >= 0 ? hex_digit(from[2]) : -1;

		if (low >= 0 && (high | low)) {
			*to++ = (char)(high << 4 | low);
			from += 3;
		} else {
			*to++ = *from++;
		}
	}
	*to = 0;
	return (size_t)(to - text);
}

const char *bearer_token(const char *authorization)
{
	static const char scheme[] = "Bearer ";

	if (!authorization || strncasecmp(authorization, scheme, sizeof(scheme) - 1) != 0)
		return NULL;
	authorization += sizeof(scheme) - 1;
	return authorization + strspn(authorization, " ");
}

bool origin_is_host(const char *origin, const char *host)
{
	static const char *const schemes[] = {"http://", "https://"};

	if (!origin)
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(schemes); i++) {
		size_t len = strlen(schemes[i]);

		if (strncasecmp(origin, schemes[i], len) == 0)
			return host && strcasecmp(origin + len, host) == 0;
	}
	return false;
}

/* Without the port; an IPv6 address keeps its brackets. */
static struct slice host_name(const char *host)
{
	const char *close = *host == '[' ? strchr(host, ']') : NULL;

	return slice_make(host, close ? (size_t)(close + 1 - host) : strcspn(host, ":"));
}

bool host_is(const char *host, const char *name)
{
	struct slice s = host_name(host);

	return s.len == strlen(name) && strncasecmp((const char *)s.bytes, name, s.len) == 0;
}

bool host_is_local(const char *host)
{
	struct slice s = host_name(host);
	char text[INET6_ADDRSTRLEN + 2];
	uint8_t address[16];

	if (host_is(host, "localhost"))
		return true;
	if (s.len < 2 || s.len >= sizeof(text))
		return false;
	memcpy(text, s.bytes, s.len);
	text[s.len] = 0;
	if (text[0] != '[')
		return inet_pton(AF_INET, text, address) == 1;
	text[s.len - 1] = 0;
	return inet_pton(AF_INET6, text + 1, address) == 1;
}

bool type_is_json(const char *type)
{
	static const char json[] = "application/json";
	size_t len = sizeof(json) - 1;

	return type && strncasecmp(type, json, len) == 0 && (type[len] == 0 || type[len] == ';' || type[len] == ' ');
}

bool parse_number(const char *text, uint64_t max, uint64_t *ret)
{
	uint64_t value = 0;

	if (!*text)
		return false;
	for (; *text; text++) {
		uint64_t digit = (uint64_t)*text - '0';

		if (*text < '0' || *text > '9' || value > max / 10 || value * 10 > max - MIN(digit, max))
			return false;
		value = value * 10 + digit;
	}
	if (value > max)
		return false;
	*ret = value;
	return true;
}

/* ---- names that others chose ---- */

size_t count_characters(const char *s)
{
	size_t count = 0;

	for (; *s; s++)
		count += (*s & 0xc0) != 0x80;
	return count;
}

void format_time(uint64_t wall_us, char *text, size_t size)
{
	time_t seconds = (time_t)(wall_us / 1000000);
	struct tm tm;

	gmtime_r(&seconds, &tm);
	snprintf(text, size, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday,
		 tm.tm_hour, tm.tm_min, tm.tm_sec, (int)(wall_us / 1000 % 1000));
}
