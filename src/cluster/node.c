/* See node.h. */
#include "cluster/node.h"

#include "base/log.h"

#include <netdb.h>
#include <stdio.h>
#include <sys/un.h>

#define RESOLVE_LOST  (5 * USEC_PER_SEC) /* so often the names of nodes that are down are looked up */
#define RESOLVE_SHARE 9                  /* looking up takes no more than one of so many parts of the time, and one */

struct node_list {
	_Atomic(struct node_set *) now;
	struct node *all;
	_Atomic(struct node *) primary; /* see node_list_follow() */
	usec_t resolve_at;              /* no name is looked up before */
	void *alarm_argument;
	_Atomic(void (*)(void *argument)) alarm; /* NULL: none */
	_Atomic uint32_t leaving;                /* nodes that drain or are barred, or were when they left the list */
};

/* ---- one node ---- */

static bool node_is(const struct node *node, const struct config_node *from, const char *name)
{
	return strcmp(node->name, name) == 0 && strcmp(node->host, from->host) == 0 && node->port == from->port;
}

static void node_free(struct node *node)
{
	if (!node)
		return;
	free(node->name);
	free(node->host);
	pthread_mutex_destroy(&node->lock);
	free(node);
}

static struct node *node_new(const struct node_list *list, const struct config_node *from, const char *name)
{
	struct node *node = calloc(1, sizeof(*node));

	if (!node)
		return NULL;
	pthread_mutex_init(&node->lock, NULL);
	node->list = list;
	atomic_init(&node->lag_bytes, NODE_LAG_UNKNOWN);
	atomic_init(&node->lag_us, NODE_LAG_UNKNOWN);
	node->name = strdup(name);
	node->host = strdup(from->host);
	node->port = (uint16_t)from->port;
	if (node->name && node->host)
		return node;
	node_free(node);
	return NULL;
}

/* The node of these lines, made when it is new. NULL: out of memory. */
static struct node *node_for(struct node_list *list, const struct config_node *from)
{
	struct node *node;
	char name[300];

	snprintf(name, sizeof(name), from->host[0] == '/' ? "%s/.s.PGSQL.%u" : "%s:%u", from->host, from->port);
	if (from->name && *from->name)
		snprintf(name, sizeof(name), "%s", from->name);
	for (node = list->all; node; node = node->next)
		if (node_is(node, from, name))
			return node;
	node = node_new(list, from, name);
	if (!node)
		return NULL;
	node->next = list->all;
	list->all = node;
	return node;
}

/* ---- the list ---- */

static struct node_set *set_new(struct node_list *list, const struct config *config)
{
	struct node_set *set = calloc(1, sizeof(*set) + config->node_count * sizeof(struct node *));

	for (uint32_t i = 0; set && i < config->node_count; i++) {
		set->nodes[i] = node_for(list, &config->nodes[i]);
		if (!set->nodes[i]) {
			free(set);
			return NULL;
		}
		set->count++;
	}
	return set;
}

static bool set_has(const struct node_set *set, const struct node *node)
{
	for (uint32_t i = 0; set && i < set->count; i++)
		if (set->nodes[i] == node)
			return true;
	return false;
}

static bool sets_equal(const struct node_set *a, const struct node_set *b)
{
	return a && a->count == b->count && memcmp(a->nodes, b->nodes, a->count * sizeof(a->nodes[0])) == 0;
}

static void take_config(struct node *node, const struct config_node *from, const char *own_zone, bool at_start)
{
	pthread_mutex_lock(&node->lock);
	snprintf(node->zone, sizeof(node->zone), "%s", from->zone ? from->zone : "");
	atomic_store(&node->local, !*own_zone || strcmp(node->zone, own_zone) == 0);
	pthread_mutex_unlock(&node->lock);
	atomic_store(&node->role, from->role);
	atomic_store(&node->weight, from->weight);
	if (!at_start && from->enabled && !atomic_load(&node->enabled))
		atomic_store(&node->ramp_since, clock_now());
	atomic_store(&node->enabled, from->enabled);
}

static void publish(struct node_list *list, struct node_set *fresh, const struct config *config)
{
	struct node_set *old = atomic_load(&list->now);

	for (uint32_t i = 0; i < fresh->count; i++)
		take_config(fresh->nodes[i], &config->nodes[i], config->load_balancer.zone, /* at_start= */ !old);
	if (sets_equal(old, fresh)) {
		free(fresh);
		return;
	}
	fresh->older = old;
	atomic_store(&list->now, fresh);
	for (uint32_t i = 0; old && i < old->count; i++)
		if (!set_has(fresh, old->nodes[i]))
			atomic_store(&old->nodes[i]->enabled, false);
}

struct node_list *node_list_new(const struct config *config)
{
	struct node_list *list = calloc(1, sizeof(*list));
	struct node_set *set = list ? set_new(list, config) : NULL;

	if (!set) {
		node_list_free(list);
		return NULL;
	}
	publish(list, set, config);
	return list;
}

int node_list_reload(struct node_list *list, const struct config *config)
{
	struct node_set *set = set_new(list, config);

	if (!set)
		return -ENOMEM;
	for (uint32_t i = 0; i < set->count; i++)
		if (!set_has(atomic_load(&list->now), set->nodes[i]))
			(void)!node_resolve(set->nodes[i]); /* it is tried again */
	publish(list, set, config);
	return 0;
}

void node_list_free(struct node_list *list)
{
	struct node_set *set;
	struct node *node;

	if (!list)
		return;
	while ((set = atomic_load(&list->now))) {
		atomic_store(&list->now, set->older);
		free(set);
	}
	while ((node = list->all)) {
		list->all = node->next;
		node_free(node);
	}
	free(list);
}

const struct node_set *node_list_now(const struct node_list *list)
{
	return atomic_load_explicit(&((struct node_list *)(uintptr_t)list)->now, memory_order_acquire);
}

uint32_t node_list_count(const struct node_list *list)
{
	return node_list_now(list)->count;
}

struct node *node_list_at(const struct node_list *list, uint32_t index)
{
	return node_list_now(list)->nodes[index];
}

void node_list_follow(struct node_list *list, struct node *primary)
{
	atomic_store(&list->primary, primary);
}

struct node *node_list_primary(const struct node_list *list)
{
	const struct node_set *set = node_list_now(list);
	struct node *known = atomic_load(&((struct node_list *)(uintptr_t)list)->primary);

	if (known && atomic_load(&known->enabled))
		return known;
	for (uint32_t i = 0; i < set->count; i++)
		if (atomic_load(&set->nodes[i]->enabled) && atomic_load(&set->nodes[i]->role) == NODE_PRIMARY)
			return set->nodes[i];
	return set->count == 1 && atomic_load(&set->nodes[0]->enabled) ? set->nodes[0] : NULL;
}

struct node *node_list_find(const struct node_list *list, const char *name)
{
	const struct node_set *set = node_list_now(list);

	for (uint32_t i = 0; i < set->count; i++) {
		const struct node *n = set->nodes[i];
		char address[300];

		snprintf(address, sizeof(address), "%s:%u", n->host, n->port);
		if (strcmp(n->name, name) == 0 || strcmp(address, name) == 0)
			return set->nodes[i];
	}
	return NULL;
}

/* ---- health ---- */

static void become(struct node *node, bool unhealthy)
{
	if (atomic_exchange(&node->unhealthy, unhealthy) == unhealthy)
		return;
	if (unhealthy)
		log_warn("node is unhealthy: it takes no connections", kv_str("node", node->name),
			 kv_uint("failed_checks", atomic_load(&node->failed_in_row)));
	else
		log_info("node is healthy again", kv_str("node", node->name));
	if (!unhealthy)
		atomic_store(&node->ramp_since, clock_now());
}

void node_checked(struct node *node, bool good, const struct config_health *settings)
{
	atomic_store(&node->last_check_wall, clock_wall());
	if (good) {
		atomic_store(&node->failed_in_row, 0);
		if (atomic_fetch_add(&node->good_in_row, 1) + 1 >= settings->success_threshold)
			become(node, /* unhealthy= */ false);
	} else {
		atomic_store(&node->good_in_row, 0);
		if (atomic_fetch_add(&node->failed_in_row, 1) + 1 >= settings->failure_threshold)
			become(node, /* unhealthy= */ true);
	}
}

void node_answered(struct node *node)
{
	atomic_store(&node->doubtful, false);
	atomic_store(&node->failed_in_row, 0);
	atomic_store(&node->last_check_wall, clock_wall());
	atomic_store(&node->answered_at, clock_now());
	become(node, /* unhealthy= */ false);
}

/* Those that links are to leave: they drain, or are barred. */
static _Atomic uint32_t *leaving_count(struct node *node)
{
	return &((struct node_list *)(uintptr_t)node->list)->leaving;
}

bool node_bar(struct node *node, bool barred)
{
	if (atomic_exchange(&node->barred, barred) == barred)
		return false;
	if (!barred) {
		atomic_fetch_sub(leaving_count(node), 1);
		return true;
	}
	atomic_fetch_add(leaving_count(node), 1);
	log_error("queries do not go to this node any more; those for the primary wait until there is one",
		  kv_str("node", node->name));
	return true;
}

void node_set_health(struct node *node, bool up)
{
	become(node, /* unhealthy= */ !up);
}

void node_set_lag(struct node *node, uint64_t bytes, uint64_t us)
{
	atomic_store_explicit(&node->lag_bytes, bytes, memory_order_relaxed);
	atomic_store_explicit(&node->lag_us, us, memory_order_relaxed);
}

void node_list_set_alarm(struct node_list *list, void (*alarm)(void *argument), void *argument)
{
	list->alarm_argument = argument;
	atomic_store(&list->alarm, alarm);
}

void node_in_doubt(struct node *node)
{
	void (*alarm)(void *argument) = atomic_load(&node->list->alarm);

	if (!atomic_exchange(&node->doubtful, true) && alarm)
		alarm(node->list->alarm_argument);
}

bool node_is_healthy(const struct node *node)
{
	return atomic_load(&node->enabled) && !atomic_load(&node->unhealthy);
}

void node_copy_zone(struct node *node, char zone[NODE_ZONE_MAX])
{
	pthread_mutex_lock(&node->lock);
	memcpy(zone, node->zone, NODE_ZONE_MAX);
	pthread_mutex_unlock(&node->lock);
}

/* ---- draining ---- */

void node_drain(struct node *node, usec_t deadline)
{
	atomic_store(&node->drain_deadline, deadline == USEC_NEVER ? USEC_NEVER : clock_update() + deadline);
	if (atomic_load(&node->draining))
		return;
	atomic_store(&node->drain_since_wall, clock_wall());
	if (!atomic_exchange(&node->draining, true))
		atomic_fetch_add(leaving_count(node), 1);
}

bool node_undrain(struct node *node)
{
	if (!atomic_exchange(&node->draining, false))
		return false;
	atomic_fetch_sub(leaving_count(node), 1);
	atomic_store(&node->ramp_since, clock_update());
	return true;
}

bool node_list_any_is_left(const struct node_list *list)
{
	return atomic_load_explicit(&((struct node_list *)(uintptr_t)list)->leaving, memory_order_relaxed) > 0;
}

/* ---- addresses ---- */

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
		log_warn(known ? "cannot resolve a node's name; what is known of it stays"
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
		log_info("a node's name can be resolved again", kv_str("node", node->name));
	if (stayed)
		return;
	log_warn("a node's name leads to another address now", kv_str("node", node->name));
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
