/* What the admin API reads of a request itself: a path and five headers, one a line. */
#include "admin/accept.h"
#include "admin/text.h"

#include <stdlib.h>

#define LINES 6

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_path(char *path)
{
	static const char *const patterns[] = {"/nodes/{address}/drain", "/nodes/{address...}", "/sessions/{pid}", "/"};
	size_t before = strlen(path), len = url_unescape(path);
	struct slice argument;

	assert(len <= before && strlen(path) == len);
	for (size_t i = 0; i < ARRAY_SIZE(patterns); i++) {
		if (!path_match(patterns[i], path, &argument) || !argument.bytes)
			continue;
		assert(argument.len > 0 && (const char *)argument.bytes > path);
		assert((const char *)argument.bytes + argument.len <= path + len);
	}
}

static void read_host(const char *host, const char *origin)
{
	char same[64];

	if (host_is_local(host))
		assert(strlen(host) >= 2 && !host_is(host, "evil.example"));
	if (strlen(host) < sizeof(same) - 8) {
		memcpy(same, "http://", 7);
		memcpy(same + 7, host, strlen(host) + 1);
		assert(origin_is_host(same, host));
	}
	(void)!origin_is_host(origin, host);
}

static const struct accept_offer offers[] = {
	{"text", "plain", {{"version", "0.0.4"}}},
	{"application", "openmetrics-text", {{"version", "1.0.0 0.0.1"}, {"a", "b"}}},
};

static void read_texts(char *const lines[LINES])
{
	const char *token = bearer_token(lines[1]);
	struct buf text = BUF_INIT(1u << 20);
	uint64_t n;

	assert(!token || (token >= lines[1] + 7 && token <= lines[1] + strlen(lines[1])));
	read_path(lines[0]);
	read_host(lines[2], lines[3]);
	assert(!type_is_json(lines[4]) || strlen(lines[4]) >= strlen("application/json"));
	assert(!parse_number(lines[5], 65536, &n) || n <= 65536);
	for (int i = 0; i < LINES; i++) {
		buf_add_utf8(&text, lines[i]);
		assert(accept_choose(lines[i], offers, ARRAY_SIZE(offers)) < ARRAY_SIZE(offers));
	}
	buf_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *copy = malloc(size + 1), *rest = copy, none[] = "", *lines[LINES];

	if (!copy)
		return 0;
	memcpy(copy, data, size);
	copy[size] = 0;
	for (int i = 0; i < LINES; i++) {
		lines[i] = rest ? strsep(&rest, "\n") : none;
		if (!lines[i])
			lines[i] = none;
	}
	read_texts(lines);
	free(copy);
	return 0;
}
