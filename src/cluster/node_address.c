/* See node.h: where nodes are. Their names are looked up here, and what was found is kept. */
#include "cluster/node.h"

#include "base/event.h"
#include "base/log.h"
#include "cluster/node_priv.h"

#include <netdb.h>
#include <stdio.h>
#include <sys/un.h>

#define RESOLVE_LOST  (5 * USEC_PER_SEC) /* so often the names of nodes that are down are looked up */
#define RESOLVE_SHARE 9                  /* looking up takes no more than one of so many parts of the time, and one */

static void set_unix_address(struct node *node)
{
	struct sockaddr_un *un = (struct sockaddr_un *)&node->addresses[0];

	*un = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(un->sun_path, sizeof(un->sun_path), "%s/.s.PGSQL.%u", node->host, node->port);
	node->address_lens[0] = sizeof(*un);
	node->address_count = 1;
}

uint32_t node_addresses(struct node *node, struct sockaddr_storage addresses[NODE_ADDRESSES_MAX],
			socklen_t lens[NODE_ADDRESSES_MAX])
{
	uint32_t count = 0;

	pthread_mutex_lock(&node->lock);
	if (node->address_count) {
		addresses[0] = node->addresses[node->preferred];
		lens[count++] = node->address_lens[node->preferred];
	}
	for (uint32_t i = 0; i < node->address_count; i++) {
		if (i == node->preferred)
			continue;
		addresses[count] = node->addresses[i];
		lens[count++] = node->address_lens[i];
	}
	pthread_mutex_unlock(&node->lock);
	return count;
}

/* The lock is held. */
static void prefer(struct node *node, const struct sockaddr_storage *address, socklen_t len)
{
	for (uint32_t i = 0; i < node->address_count; i++)
		if (node->address_lens[i] == len && memcmp(&node->addresses[i], address, len) == 0)
			node->preferred = i;
}

void node_address_worked(struct node *node, const struct sockaddr_storage *address, socklen_t len)
{
	pthread_mutex_lock(&node->lock);
	prefer(node, address, len);
	pthread_mutex_unlock(&node->lock);
}

/* The lock is held. What worked last still goes first, if it is among them. false: it is not; the node has moved. */
static bool take_addresses(struct node *node, const struct addrinfo *found)
{
	struct sockaddr_storage last = node->addresses[node->preferred];
	socklen_t last_len = node->address_lens[node->preferred];
	bool moved = node->address_count > 0;

	node->address_count = node->preferred = 0;
	for (const struct addrinfo *a = found; a && node->address_count < NODE_ADDRESSES_MAX; a = a->ai_next) {
		moved &= a->ai_addrlen != last_len || memcmp(a->ai_addr, &last, last_len) != 0;
		memcpy(&node->addresses[node->address_count], a->ai_addr, a->ai_addrlen);
		node->address_lens[node->address_count++] = a->ai_addrlen;
	}
	prefer(node, &last, last_len);
	return !moved;
}

/* The lock is held. Is the error another one than before? */
static bool note_error(struct node *node, const char *error)
{
	bool is_news = strcmp(node->resolve_error, error) != 0;

	snprintf(node->resolve_error, sizeof(node->resolve_error), "%s", error);
	return is_news;
}

static void resolve_failed(struct node *node, int error)
{
	const char *reason = gai_strerror(error);
	uint32_t known;
	bool is_news;

	pthread_mutex_lock(&node->lock);
	is_news = note_error(node, reason);
	known = node->address_count;
	pthread_mutex_unlock(&node->lock);
	atomic_fetch_add(&node->resolve_failures, 1);
	if (is_news)
		log_event(EVENT_NODE_UNRESOLVED, LOG_WARN,
			  known ? "cannot resolve a node's name; what is known of it stays"
				: "cannot resolve a node's name, and no address is known",
			  kv_str("node", node->name), kv_str("reason", reason));
}

static void resolved(struct node *node, const struct addrinfo *found)
{
	bool was_failing, stayed;

	pthread_mutex_lock(&node->lock);
	was_failing = note_error(node, "");
	stayed = take_addresses(node, found);
	pthread_mutex_unlock(&node->lock);
	if (was_failing)
		log_event(EVENT_NODE_RESOLVED, LOG_INFO, "a node's name can be resolved again",
			  kv_str("node", node->name));
	if (stayed)
		return;
	log_event(EVENT_NODE_MOVED, LOG_WARN, "a node's name leads to another address now", kv_str("node", node->name));
	atomic_fetch_add(&node->moves, 1);
	node_in_doubt(node);
}

int node_resolve(struct node *node)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = AF_UNSPEC}, *found = NULL;
	char port[8];
	int r;

	if (node->host[0] == '/') {
		pthread_mutex_lock(&node->lock);
		set_unix_address(node);
		pthread_mutex_unlock(&node->lock);
		return 0;
	}
	snprintf(port, sizeof(port), "%u", node->port);
	r = getaddrinfo(node->host, port, &hints, &found);
	if (r != 0) {
		resolve_failed(node, r);
		return -EHOSTUNREACH;
	}
	resolved(node, found);
	freeaddrinfo(found);
	return 0;
}

/* When is it to be looked up after now? */
static usec_t next_resolve(struct node *node, usec_t interval)
{
	bool is_lost = !node_is_healthy(node);

	pthread_mutex_lock(&node->lock);
	is_lost |= node->address_count == 0;
	pthread_mutex_unlock(&node->lock);
	if (is_lost && atomic_load(&node->enabled))
		interval = interval ? MIN(interval, RESOLVE_LOST) : RESOLVE_LOST;
	return interval ? clock_now() + interval : USEC_NEVER;
}

uint32_t node_list_resolve(struct node_list *list, usec_t interval, bool at_once)
{
	const struct node_set *set = node_list_now(list);
	usec_t begun = clock_update();
	uint32_t moved = 0;

	if (begun < list->resolve_at && !at_once)
		return 0;
	for (uint32_t i = 0; i < set->count; i++) {
		struct node *node = set->nodes[i];
		uint32_t moves = atomic_load(&node->moves);

		/* sooner than was planned, when it was lost meanwhile */
		node->resolve_at = MIN(node->resolve_at, next_resolve(node, interval));
		if (begun < node->resolve_at && !at_once)
			continue;
		(void)!node_resolve(node); /* the old addresses stay */
		moved += atomic_load(&node->moves) != moves;
		clock_update();
		node->resolve_at = next_resolve(node, interval);
	}
	list->resolve_at = clock_now() + RESOLVE_SHARE * (clock_now() - begun);
	return moved;
}
