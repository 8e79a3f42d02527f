/* See discovery.h. */
#include "cluster/discovery.h"

#include "base/event.h"
#include "base/log.h"
#include "cluster/members.h"

#include <arpa/inet.h>
#include <stdio.h>

struct discovered {
	char host[sizeof(((struct facts_sender *)0)->address)];
	uint16_t port;
	usec_t seen_at; /* by the clock of the primary's answers: while it does not answer nobody gets older */
};

struct discovery {
	struct members *members;
	struct discovered list[MEMBERS_MAX];
	uint32_t count;
	usec_t looked_at; /* the answer of the primary that was looked at last */
	bool is_news;     /* the list is to be offered */
	bool nameless_told, full_told;
};

/* ---- is it known already? ---- */

static bool address_is(const struct sockaddr_storage *address, const char *host, uint16_t port)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;
	struct in_addr a4;
	struct in6_addr a6;

	if (address->ss_family == AF_INET)
		return inet_pton(AF_INET, host, &a4) == 1 && a4.s_addr == v4->sin_addr.s_addr &&
		       ntohs(v4->sin_port) == port;
	return address->ss_family == AF_INET6 && inet_pton(AF_INET6, host, &a6) == 1 &&
	       memcmp(&a6, &v6->sin6_addr, sizeof(a6)) == 0 && ntohs(v6->sin6_port) == port;
}

/* By where its name leads. */
static bool node_is_at(struct node *node, const char *host, uint16_t port)
{
	struct sockaddr_storage addresses[NODE_ADDRESSES_MAX];
	socklen_t lens[NODE_ADDRESSES_MAX];
	uint32_t count = node_addresses(node, addresses, lens);

	for (uint32_t i = 0; i < count; i++)
		if (address_is(&addresses[i], host, port))
			return true;
	return false;
}

static bool is_a_node(const struct topology *t, const char *host, uint16_t port)
{
	for (uint32_t i = 0; i < t->count; i++)
		if (node_is_at(t->nodes[i].node, host, port))
			return true;
	return false;
}

/* A standby, for all that can be seen; what keeps the log without being one does so by these names. */
static bool streams(const struct facts_sender *s)
{
	if (strcmp(s->name, "pg_receivewal") == 0 || strcmp(s->name, "pg_basebackup") == 0)
		return false;
	return strcmp(s->state, "streaming") == 0 || strcmp(s->state, "catchup") == 0;
}

/* Are all who stream by this name among the standbys that are known? Then one of them has two addresses. */
static bool all_are_known_by_name(const struct topology *t, const struct topology_node *primary, const char *name)
{
	uint32_t senders = 0, known = 0;

	for (uint32_t i = 0; i < primary->facts.sender_count; i++)
		senders += streams(&primary->facts.senders[i]) && strcmp(primary->facts.senders[i].name, name) == 0;
	for (uint32_t i = 0; i < t->count; i++) {
		const struct topology_node *n = &t->nodes[i];

		known += n->standing == STANDING_STANDBY && n->facts.receiving &&
			 (!n->upstream || n->upstream == primary->node) && strcmp(n->facts.application_name, name) == 0;
	}
	return senders <= known;
}

static struct discovered *find(struct discovery *d, const char *host, uint16_t port)
{
	for (uint32_t i = 0; i < d->count; i++)
		if (d->list[i].port == port && strcmp(d->list[i].host, host) == 0)
			return &d->list[i];
	return NULL;
}

/* ---- what the primary has told ---- */

static void add(struct discovery *d, const struct facts_sender *s, uint16_t port, usec_t now)
{
	if (d->count == ARRAY_SIZE(d->list)) {
		if (!d->full_told)
			log_warn("more standbys are discovered than there is room for", kv_str("address", s->address));
		d->full_told = true;
		return;
	}
	d->list[d->count] = (struct discovered){.port = port, .seen_at = now};
	snprintf(d->list[d->count].host, sizeof(d->list[0].host), "%s", s->address);
	d->count++;
	d->is_news = true;
	log_event(EVENT_MEMBER_DISCOVERED, LOG_INFO,
		  "a standby streams from the primary: it is discovered, and asked who it is",
		  kv_str("address", s->address), kv_uint("port", port), kv_str("application_name", s->name));
}

static void take_sender(struct discovery *d, const struct topology *t, const struct topology_node *primary,
			const struct facts_sender *s, uint16_t port)
{
	usec_t now = primary->facts.known_at;
	struct discovered *known = find(d, s->address, port);

	if (!*s->address) {
		if (!d->nameless_told)
			log_warn("the primary does not tell where a standby is: it streams over a unix socket, or the "
				 "monitor is no member of pg_monitor",
				 kv_str("application_name", s->name));
		d->nameless_told = true;
	} else if (known) {
		known->seen_at = now;
	} else if (!is_a_node(t, s->address, port) && !all_are_known_by_name(t, primary, s->name)) {
		add(d, s, port, now);
	}
}

/* Nobody streams from the primary to itself: one that was promoted is seen all the same. */
static void forget_old_ones(struct discovery *d, const struct topology_node *primary, usec_t forget)
{
	usec_t now = primary->facts.known_at;

	for (uint32_t i = 0; i < d->count;) {
		struct discovered *e = &d->list[i];

		if (e->port == primary->port && strcmp(e->host, primary->host) == 0)
			e->seen_at = now;
		if (now <= e->seen_at + forget) {
			i++;
			continue;
		}
		log_event(EVENT_MEMBER_FORGOTTEN, LOG_INFO,
			  "a standby that was discovered has not streamed from the primary for long: it is forgotten",
			  kv_str("address", e->host), kv_uint("port", e->port));
		d->list[i] = d->list[--d->count];
		d->is_news = true;
	}
}

static void offer(struct discovery *d)
{
	struct member *list = calloc(d->count + 1, sizeof(*list));

	for (uint32_t i = 0; list && i < d->count; i++)
		member_init(&list[i], d->list[i].host, d->list[i].port);
	if (list && members_offer(d->members, MEMBER_DISCOVERED, list, d->count, LEADER_NOT_KNOWN) == 0)
		d->is_news = false; /* else there was no memory, and the next look tries again */
	free(list);
}

static void look(struct discovery *d, const struct monitor_settings *settings, const struct topology *t,
		 const struct topology_node *primary)
{
	uint16_t port = settings->discover_port ? settings->discover_port : (uint16_t)primary->port;

	d->looked_at = primary->facts.known_at;
	for (uint32_t i = 0; i < primary->facts.sender_count; i++)
		if (streams(&primary->facts.senders[i]) || !*primary->facts.senders[i].state)
			take_sender(d, t, primary, &primary->facts.senders[i], port);
	forget_old_ones(d, primary, settings->discover_forget);
	if (d->is_news)
		offer(d);
}

void discovery_look(struct discovery *d, const struct monitor_settings *settings, const struct topology *t)
{
	const struct topology_node *primary = t->by_configuration ? NULL : topology_find(t, t->primary);

	if (!d->members)
		return;
	if (!settings->discovers) {
		if (d->count > 0)
			members_withdraw(d->members, MEMBER_DISCOVERED);
		d->count = 0;
	} else if (primary && primary->facts.last == CHECK_GOOD && primary->facts.known_at != d->looked_at) {
		look(d, settings, t, primary);
	}
}

struct discovery *discovery_new(struct members *members)
{
	struct discovery *d = calloc(1, sizeof(*d));

	if (d)
		d->members = members;
	return d;
}

void discovery_free(struct discovery *d)
{
	free(d);
}
