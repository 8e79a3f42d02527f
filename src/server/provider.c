/*
 * What a provider says of the cluster becomes members (cluster/members.h). Patroni's: each member is a node, a leader
 * is the only one that may be the primary, and the leader of a standby cluster is a standby.
 */
#include "server/proxy_priv.h"

#include "base/log.h"
#include "cluster/members.h"
#include "cluster/patroni.h"

#include <stdio.h>

static void member_from_patroni(struct member *to, const struct patroni_member *from)
{
	member_init(to, from->host, from->port);
	snprintf(to->name, sizeof(to->name), "%s", from->name);
	to->role = from->role == PATRONI_LEADER ? NODE_PRIMARY : NODE_STANDBY;
	to->sync = from->role == PATRONI_SYNC_STANDBY || from->role == PATRONI_QUORUM_STANDBY;
	to->spared = from->no_load_balance;
	to->leads = from->role == PATRONI_LEADER;
}

/* On Patroni's thread. */
static bool take_word(void *server, const struct patroni_answer *answer, bool decides)
{
	struct proxy *p = server;
	struct member *list = calloc(answer->count + 1, sizeof(*list));
	int r = -ENOMEM;

	for (uint32_t i = 0; list && i < answer->count; i++)
		member_from_patroni(&list[i], &answer->members[i]);
	if (list)
		r = members_offer(p->members, MEMBER_PATRONI, list, answer->count,
				  decides ? LEADER_IS_NAMED : LEADER_NOT_KNOWN);
	free(list);
	if (r < 0)
		log_error("out of memory; what Patroni said is not taken before its next answer");
	return r == 0;
}

static void forget_word(void *server)
{
	struct proxy *p = server;

	members_withdraw(p->members, MEMBER_PATRONI);
}

bool provider_start(struct proxy *p)
{
	struct patroni_context context = {.told = take_word, .left = forget_word, .server = p};
	int r = -ENOMEM;

	p->patroni = patroni_new(&context);
	if (p->patroni)
		r = patroni_configure(p->patroni, p->config);
	if (r < 0)
		log_error("cannot start the thread that asks Patroni", kv_str("reason", strerror(-r)));
	return r == 0;
}

void provider_reload(struct proxy *p)
{
	if (patroni_configure(p->patroni, p->config) < 0)
		log_error("out of memory; Patroni is asked as before, or not at all");
}

void provider_ask(void *proxy)
{
	struct proxy *p = proxy;

	patroni_ask(p->patroni);
}
