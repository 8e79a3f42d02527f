/* Answers to GET /cluster. */
#include "cluster/patroni_answer.h"

#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const char *text, size_t size)
{
	assert(memchr(text, 0, size));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct patroni_answer a;
	char why[100] = "", url[PATRONI_URL_MAX];
	uint32_t leaders = 0;

	if (patroni_answer_parse((const char *)data, size, &a, why, sizeof(why)) < 0) {
		assert(*why);
		return 0;
	}
	assert(a.count <= PATRONI_MEMBERS_MAX);
	for (uint32_t i = 0; i < a.count; i++) {
		const struct patroni_member *m = &a.members[i];

		check_text(m->name, sizeof(m->name));
		check_text(m->host, sizeof(m->host));
		check_text(m->state, sizeof(m->state));
		check_text(m->api_url, sizeof(m->api_url));
		assert(*m->name && *m->host && m->port);
		leaders += m->role == PATRONI_LEADER || m->role == PATRONI_STANDBY_LEADER;
		if (patroni_member_base_url(m, url, sizeof(url)))
			assert(strlen(url) <= strlen(m->api_url));
	}
	assert(leaders <= 1 && (leaders == 1) == (patroni_answer_leader(&a) != NULL));
	return 0;
}
