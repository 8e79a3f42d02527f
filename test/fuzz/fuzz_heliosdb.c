/*
 * What a HeliosDB node says of itself: bytes as columns, a line each, '\1' alone for an SQL null. And what a client
 * said of its parameters, as such a node is given it: nothing of it stands outside of the literal.
 */
#include "cluster/facts_heliosdb.h"
#include "session/set_syntax.h"

#include <stdlib.h>

#define COLUMNS_MAX 8u
#define CALL        "SELECT pg_catalog.set_config(E'x', E'"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Fails with or without NDEBUG. */
static void require(bool holds)
{
	if (!holds)
		abort();
}

static uint32_t split(char *text, const char *columns[COLUMNS_MAX])
{
	uint32_t count = 0;

	for (char *at = text, *end; at && count < COLUMNS_MAX; at = end) {
		end = strchr(at, '\n');
		if (end)
			*end++ = 0;
		columns[count++] = strcmp(at, "\1") == 0 ? NULL : at;
	}
	return count;
}

static bool ends_within(const char *text, size_t size)
{
	return memchr(text, 0, size) != NULL;
}

static void check_facts(const char *const *columns, uint32_t count)
{
	struct node_facts f = {.timeline = 77}, before = f;
	int r = facts_take_heliosdb(&f, columns, count);

	require(r == 0 || r == -EPROTO || r == -ENOTSUP);
	if (r == 0) {
		require(f.known && !f.tells_log && f.timeline == 0 && f.system_id == FACTS_HELIOSDB_SYSTEM);
		require(ends_within(f.upstream_host, sizeof(f.upstream_host)) && *f.application_name &&
			ends_within(f.application_name, sizeof(f.application_name)));
	} else {
		require(memcmp(&f, &before, sizeof(f)) == 0);
	}
	for (uint32_t i = 0; i < FACTS_SENDERS_MAX + 1; i++)
		if (facts_take_heliosdb_sender(&f, columns, count) == 0)
			require(f.sender_count <= FACTS_SENDERS_MAX &&
				ends_within(f.senders[0].address, sizeof(f.senders[0].address)));
}

/* A literal in which quotes and backslashes stand twice, as sessions write it, of whatever a client said. */
static void check_setting(const char *value)
{
	struct buf call = BUF_INIT(1u << 20), sql = BUF_INIT(1u << 20);
	const char *text;
	size_t len;

	buf_add_str(&call, CALL);
	for (const char *at = value; *at; at++) {
		if (*at == '\'' || *at == '\\')
			buf_add_char(&call, *at);
		buf_add_char(&call, *at);
	}
	buf_add_str(&call, "', false)");
	set_syntax_add(&sql, "x", buf_cstr(&call));
	text = buf_cstr(&sql);
	len = strlen(text);
	require(len >= 12 && strncmp(text, "SET \"x\" = '", 11) == 0);
	require(!strchr(text, '\\') && memchr(text + 11, '\'', len - 11) == text + len - 1);
	buf_free(&sql);
	buf_free(&call);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = calloc(1, size + 1);
	const char *columns[COLUMNS_MAX];

	require(text != NULL);
	if (size)
		memcpy(text, data, size);
	if (size < 65536)
		check_setting(text);
	check_facts(columns, split(text, columns));
	free(text);
	return 0;
}
