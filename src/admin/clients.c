/* See clients.h. */
#include "admin/clients.h"

#include <stdlib.h>
#include <sys/un.h>

void clients_init(struct clients *all)
{
	pthread_mutex_init(&all->lock, NULL);
	list_init(&all->list);
	all->count = 0;
}

void clients_destroy(struct clients *all)
{
	assert(list_is_empty(&all->list));
	pthread_mutex_destroy(&all->lock);
}

bool clients_have_room(struct clients *all, const struct source *source, const struct room *room, bool *ret_refused)
{
	uint32_t same = 0, count = 0, refused = 0;

	pthread_mutex_lock(&all->lock);
	for (const struct list *at = all->list.next; at != &all->list; at = at->next) {
		const struct client *client = list_entry(at, const struct client, node);
		bool counts = !client->streams && !client->is_refused;

		count += counts;
		same += counts && source_equal(&client->source, source);
		refused += client->is_refused;
	}
	pthread_mutex_unlock(&all->lock);
	*ret_refused = count >= room->max || same >= room->max_per_source;
	return !*ret_refused || refused < room->refused;
}

struct client *client_new(struct clients *all, int fd, const struct sockaddr *address, bool is_refused)
{
	struct client *client = calloc(1, sizeof(*client));
	struct ucred peer = {0};
	socklen_t len = sizeof(peer);

	if (!client)
		return NULL;
	if (!address || address->sa_family == AF_UNIX)
		client->has_uid = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && len == sizeof(peer);
	client->uid = client->has_uid ? peer.uid : (uid_t)-1;
	client->source = source_of(address, client->uid);
	client->fd = fd;
	client->is_refused = is_refused;
	client->waits_since = clock_update();
	pthread_mutex_lock(&all->lock);
	list_push_back(&all->list, &client->node);
	all->count++;
	pthread_mutex_unlock(&all->lock);
	return client;
}

void client_free(struct clients *all, struct client *client)
{
	pthread_mutex_lock(&all->lock);
	list_remove(&client->node);
	all->count--;
	pthread_mutex_unlock(&all->lock);
	free(client);
}

void client_streams(struct clients *all, struct client *client)
{
	pthread_mutex_lock(&all->lock);
	client->streams = true;
	pthread_mutex_unlock(&all->lock);
}

static void set_waits(struct clients *all, struct client *client, usec_t since)
{
	pthread_mutex_lock(&all->lock);
	client->waits_since = since;
	client->streams = false;
	pthread_mutex_unlock(&all->lock);
}

void client_is_served(struct clients *all, struct client *client)
{
	set_waits(all, client, USEC_NEVER);
}

void client_waits(struct clients *all, struct client *client)
{
	set_waits(all, client, clock_update());
}

uint32_t clients_hang_up_late(struct clients *all, usec_t now)
{
	uint32_t late = 0;

	pthread_mutex_lock(&all->lock);
	for (struct list *at = all->list.next; at != &all->list; at = at->next) {
		struct client *client = list_entry(at, struct client, node);

		if (clock_since(client->waits_since, now) < (client->is_refused ? REFUSED_TIME : REQUEST_TIME))
			continue;
		/* The library sees the end, and closes the descriptor after it has told us. */
		(void)shutdown(client->fd, SHUT_RDWR);
		client->waits_since = USEC_NEVER;
		late += !client->is_refused;
	}
	pthread_mutex_unlock(&all->lock);
	return late;
}

uint32_t clients_count(struct clients *all)
{
	uint32_t count;

	pthread_mutex_lock(&all->lock);
	count = all->count;
	pthread_mutex_unlock(&all->lock);
	return count;
}
