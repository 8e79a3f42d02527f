/*
 * Nodes: the servers of the cluster. Names are resolved on the control thread (it may block there);
 * workers copy an address under a lock when they connect, which is rare.
 */
#ifndef CLUSTER_NODE_H
#define CLUSTER_NODE_H

#include "config/config.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

#define NODE_ADDRESSES_MAX 16u

struct node {
	char *name; /* "host:port", or as configured */
	char *host; /* a name, an address, or the folder of a unix socket ("/var/run/postgresql") */
	uint16_t port;
	enum node_role role;
	_Atomic bool enabled;
	_Atomic uint32_t links;        /* open or being opened, over all pools */
	_Atomic uint64_t failures;     /* connects or logins that failed, since the start */
	_Atomic uint64_t last_used_wall, last_failed_wall; /* wall clock, microseconds; 0: never */
	pthread_mutex_t lock;          /* of what follows */
	struct sockaddr_storage addresses[NODE_ADDRESSES_MAX];
	socklen_t address_lens[NODE_ADDRESSES_MAX];
	uint32_t address_count, next_address;
	char resolve_error[128]; /* "" when the last attempt was right */
};

struct node_list;

/* From the configuration; addresses are not resolved yet. NULL: out of memory. */
struct node_list *node_list_new(const struct config *config);
void node_list_free(struct node_list *list);
uint32_t node_list_count(const struct node_list *list);
struct node *node_list_at(const struct node_list *list, uint32_t index);
/* Where everything goes in this build: the first enabled node with the role primary, or of any role when
 * there is only one; or the one of this name. NULL: none. */
struct node *node_list_primary(const struct node_list *list);
struct node *node_list_find(const struct node_list *list, const char *name);

/* Looks the name up; may block: control thread only. When it fails the old addresses stay. 0 or -EHOSTUNREACH. */
int node_resolve(struct node *node);
/* The next address in turn. 0, or -EHOSTUNREACH when none is known. */
int node_address(struct node *node, struct sockaddr_storage *ret, socklen_t *ret_len) MUST_USE;

#endif
