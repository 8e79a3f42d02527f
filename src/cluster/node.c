/* See node.h. */
#include "cluster/node.h"

#include "base/log.h"

#include <netdb.h>
#include <stdio.h>
#include <sys/un.h>

struct node_list {
	uint32_t count;
	struct node nodes[];
};

static int node_init(struct node *node, const struct config_node *from)
{
	char name[300];

	snprintf(name, sizeof(name), from->host[0] == '/' ? "%s/.s.PGSQL.%u" : "%s:%u", from->host, from->port);
	node->name = strdup(from->name && *from->name ? from->name : name);
	node->host = strdup(from->host);
	node->port = from->port;
	node->role = from->role;
	atomic_init(&node->enabled, from->enabled);
	pthread_mutex_init(&node->lock, NULL);
	return node->name && node->host ? 0 : -ENOMEM;
}

struct node_list *node_list_new(const struct config *config)
{
	struct node_list *list = calloc(1, sizeof(*list) + config->node_count * sizeof(struct node));

	if (!list)
		return NULL;
	for (uint32_t i = 0; i < config->node_count; i++) {
		list->count++;
		if (node_init(&list->nodes[i], &config->nodes[i]) < 0) {
			node_list_free(list);
			return NULL;
		}
	}
	return list;
}

void node_list_free(struct node_list *list)
{
	if (!list)
		return;
	for (uint32_t i = 0; i < list->count; i++) {
		free(list->nodes[i].name);
		free(list->nodes[i].host);
		pthread_mutex_destroy(&list->nodes[i].lock);
	}
	free(list);
}

uint32_t node_list_count(const struct node_list *list)
{
	return list->count;
}

struct node *node_list_at(const struct node_list *list, uint32_t index)
{
	return (struct node *)(uintptr_t)&list->nodes[index];
}

struct node *node_list_primary(const struct node_list *list)
{
	for (uint32_t i = 0; i < list->count; i++)
		if (list->nodes[i].enabled && list->nodes[i].role == NODE_PRIMARY)
			return node_list_at(list, i);
	return list->count == 1 && list->nodes[0].enabled ? node_list_at(list, 0) : NULL;
}

struct node *node_list_find(const struct node_list *list, const char *name)
{
	for (uint32_t i = 0; i < list->count; i++) {
		const struct node *n = &list->nodes[i];
		char address[300];

		snprintf(address, sizeof(address), "%s:%u", n->host, n->port);
		if (strcmp(n->name, name) == 0 || strcmp(address, name) == 0)
			return node_list_at(list, i);
	}
	return NULL;
}

static void set_unix_address(struct node *node)
{
	struct sockaddr_un *un = (struct sockaddr_un *)&node->addresses[0];

	*un = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(un->sun_path, sizeof(un->sun_path), "%s/.s.PGSQL.%u", node->host, node->port);
	node->address_lens[0] = sizeof(*un);
	node->address_count = 1;
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
	pthread_mutex_lock(&node->lock);
	if (r != 0) {
		snprintf(node->resolve_error, sizeof(node->resolve_error), "%s", gai_strerror(r));
	} else {
		node->resolve_error[0] = 0;
		node->address_count = 0;
		for (struct addrinfo *a = found; a && node->address_count < NODE_ADDRESSES_MAX; a = a->ai_next) {
			memcpy(&node->addresses[node->address_count], a->ai_addr, a->ai_addrlen);
			node->address_lens[node->address_count++] = a->ai_addrlen;
		}
	}
	pthread_mutex_unlock(&node->lock);
	if (found)
		freeaddrinfo(found);
	return r == 0 ? 0 : -EHOSTUNREACH;
}

int node_address(struct node *node, struct sockaddr_storage *ret, socklen_t *ret_len)
{
	int r = -EHOSTUNREACH;

	pthread_mutex_lock(&node->lock);
	if (node->address_count) {
		uint32_t at = node->next_address++ % node->address_count;

		*ret = node->addresses[at];
		*ret_len = node->address_lens[at];
		r = 0;
	}
	pthread_mutex_unlock(&node->lock);
	return r;
}
