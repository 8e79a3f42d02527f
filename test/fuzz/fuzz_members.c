/*
 * The state of the members, and a node as the admin API is given it: whatever the bytes, what is taken is written as a
 * text that means the same; and it is within bounds.
 */
#include "cluster/members_state.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Fails with or without NDEBUG. */
static void require(bool holds)
{
	if (!holds)
		abort();
}

static void check_member(const struct member *m)
{
	require(*m->host && strlen(m->host) < sizeof(m->host) && strlen(m->name) < sizeof(m->name));
	require(m->port > 0 && m->weight <= 1000000 && m->role <= NODE_REPLICA && !strchr(m->name, '/'));
}

static void check_state(const struct members_state *state, struct members_state *again)
{
	char why[MEMBERS_WHY_MAX], *text = members_state_text(state);

	require(state->count <= MEMBERS_MAX && state->switch_count <= MEMBERS_MAX);
	for (uint32_t i = 0; i < state->count; i++)
		check_member(&state->list[i]);
	require(text != NULL);
	require(members_state_parse(text, strlen(text), again, why) == 0);
	require(memcmp(state, again, sizeof(*state)) == 0);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct members_state *states = calloc(2, sizeof(*states));
	struct member m;
	char why[MEMBERS_WHY_MAX] = "";

	require(states != NULL);
	if (members_state_parse((const char *)data, size, &states[0], why) == 0)
		check_state(&states[0], &states[1]);
	else
		require(*why != 0);
	if (member_parse((const char *)data, size, &m, why) == 0)
		check_member(&m);
	free(states);
	return 0;
}
