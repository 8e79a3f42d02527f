/* See units.h. */
#include "config/units.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <math.h>
#include <stdio.h>

struct unit {
	const char *name;
	uint64_t factor;
};

static const struct unit time_units[] = {
	{"us", 1},
	{"ms", USEC_PER_MSEC},
	{"s", USEC_PER_SEC},
	{"sec", USEC_PER_SEC},
	{"secs", USEC_PER_SEC},
	{"second", USEC_PER_SEC},
	{"seconds", USEC_PER_SEC},
	{"m", 60 * USEC_PER_SEC},
	{"min", 60 * USEC_PER_SEC},
	{"minute", 60 * USEC_PER_SEC},
	{"minutes", 60 * USEC_PER_SEC},
	{"h", 3600 * USEC_PER_SEC},
	{"hour", 3600 * USEC_PER_SEC},
	{"hours", 3600 * USEC_PER_SEC},
	{"d", 86400 * USEC_PER_SEC},
	{"day", 86400 * USEC_PER_SEC},
	{"days", 86400 * USEC_PER_SEC},
};

static const struct unit size_units[] = {
	{"b", 1},           {"k", 1ull << 10},   {"kb", 1ull << 10},  {"kib", 1ull << 10}, {"m", 1ull << 20},
	{"mb", 1ull << 20}, {"mib", 1ull << 20}, {"g", 1ull << 30},   {"gb", 1ull << 30},  {"gib", 1ull << 30},
	{"t", 1ull << 40},  {"tb", 1ull << 40},  {"tib", 1ull << 40},
};

/* Digits with at most one point: strtod would also take signs, exponents, hexadecimal, and the locale's comma. */
static int read_number(const char **at, double *ret)
{
	double number = 0, place = 1;
	bool digits = false;
	const char *s = *at;

	for (; isdigit((unsigned char)*s); s++, digits = true)
		number = number * 10 + (*s - '0');
	if (digits && *s == '.')
		for (s++; isdigit((unsigned char)*s); s++)
			number += (*s - '0') * (place /= 10);
	if (!digits)
		return -EINVAL;
	*at = s;
	*ret = number;
	return 0;
}

static int read_quantity(const char *text, const struct unit *units, size_t unit_count, uint64_t default_factor,
			 double *ret_number, uint64_t *ret_factor)
{
	const char *at = text;
	char name[16] = "";
	size_t len = 0;
	int r;

	while (isspace((unsigned char)*at))
		at++;
	r = read_number(&at, ret_number);
	if (r < 0)
		return r;
	while (isspace((unsigned char)*at))
		at++;
	for (; isalpha((unsigned char)*at) && len < sizeof(name) - 1; at++)
		name[len++] = (char)tolower((unsigned char)*at);
	while (isspace((unsigned char)*at))
		at++;
	if (*at)
		return -EINVAL;
	*ret_factor = default_factor;
	if (len == 0)
		return 0;
	for (size_t i = 0; i < unit_count; i++) {
		if (strcmp(units[i].name, name) == 0) {
			*ret_factor = units[i].factor;
			return 0;
		}
	}
	return -EINVAL;
}

static int scale(double number, uint64_t factor, uint64_t *ret)
{
	double scaled = number * (double)factor;

	if (!isfinite(scaled) || scaled < 0 || scaled >= 9.2e18)
		return -ERANGE;
	*ret = (uint64_t)(scaled + 0.5);
	return 0;
}

int duration_from_number(double number, usec_t unit, usec_t *ret)
{
	return scale(number, unit, ret);
}

int duration_parse(const char *text, usec_t unit, usec_t *ret)
{
	uint64_t factor;
	double number;
	int r = read_quantity(text, time_units, ARRAY_SIZE(time_units), unit, &number, &factor);

	return r < 0 ? r : scale(number, factor, ret);
}

const char *duration_print(usec_t duration, char text[DURATION_TEXT])
{
	static const struct unit units[] = {{"d", 86400 * USEC_PER_SEC}, {"h", 3600 * USEC_PER_SEC},
					    {"min", 60 * USEC_PER_SEC},  {"s", USEC_PER_SEC},
					    {"ms", USEC_PER_MSEC},       {"us", 1}};
	size_t i = duration == 0 ? 3 : 0;

	while (duration % units[i].factor != 0)
		i++;
	snprintf(text, DURATION_TEXT, "%llu%s", (unsigned long long)(duration / units[i].factor), units[i].name);
	return text;
}

int size_parse(const char *text, uint64_t *ret)
{
	uint64_t factor;
	double number;
	int r = read_quantity(text, size_units, ARRAY_SIZE(size_units), 1, &number, &factor);

	return r < 0 ? r : scale(number, factor, ret);
}

const char *size_print(uint64_t bytes, char text[SIZE_TEXT])
{
	static const char *const names[] = {"", "kB", "MB", "GB", "TB"};
	size_t i = 0;

	while (bytes && bytes % 1024 == 0 && i + 1 < ARRAY_SIZE(names)) {
		bytes /= 1024;
		i++;
	}
	snprintf(text, SIZE_TEXT, "%llu%s", (unsigned long long)bytes, names[i]);
	return text;
}

static int read_port(const char *text, uint32_t *ret)
{
	uint32_t port = 0;
	size_t digits = 0;

	for (; isdigit((unsigned char)text[digits]) && digits < 6; digits++)
		port = port * 10 + (uint32_t)(text[digits] - '0');
	if (digits == 0 || text[digits] || port == 0 || port > UINT16_MAX)
		return -EINVAL;
	*ret = port;
	return 0;
}

int address_split(const char *text, char host[HOST_MAX + 1], uint32_t *ret_port)
{
	const char *from = text, *colon = strrchr(text, ':');
	uint32_t port;
	size_t len;

	if (strncmp(text, "unix:", 5) == 0) {
		if (text[5] != '/' || strlen(text + 5) > HOST_MAX)
			return -EINVAL;
		memcpy(host, text + 5, strlen(text + 5) + 1);
		*ret_port = 0;
		return 0;
	}
	if (!colon)
		return -EINVAL;
	len = (size_t)(colon - text);
	if (text[0] == '[') {
		if (len < 2 || text[len - 1] != ']')
			return -EINVAL;
		from++;
		len -= 2;
	} else if (memchr(text, ':', len)) {
		return -EINVAL; /* an IPv6 address needs its brackets */
	}
	if (len > HOST_MAX || read_port(colon + 1, &port) < 0)
		return -EINVAL;
	for (size_t i = 0; i < len; i++)
		if (isspace((unsigned char)from[i]) || strchr("[]/,", from[i]))
			return -EINVAL;
	memcpy(host, from, len);
	host[len] = 0;
	*ret_port = port;
	return 0;
}

bool address_is_exposed(const char *text)
{
	char host[HOST_MAX + 1];
	struct in6_addr v6;
	struct in_addr v4;
	uint32_t port;

	if (!text[0] || address_split(text, host, &port) < 0 || port == 0 || strcasecmp(host, "localhost") == 0)
		return false;
	if (inet_pton(AF_INET, host, &v4) == 1)
		return (ntohl(v4.s_addr) >> 24) != 127;
	if (inet_pton(AF_INET6, host, &v6) == 1) {
		if (IN6_IS_ADDR_V4MAPPED(&v6))
			return v6.s6_addr[12] != 127;
		return !IN6_IS_ADDR_LOOPBACK(&v6);
	}
	return true;
}
