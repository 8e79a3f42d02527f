/*
 * The HTTP connections of one listening socket: how many there may be, who has them, and since when they owe us a
 * request. Any thread.
 *
 * libmicrohttpd gives a connection up that is silent for a while. One that sends a byte now and then would stay for
 * ever: a request has to have come whole within REQUEST_TIME of the connection's beginning, or of the answer before.
 */
#ifndef ADMIN_CLIENTS_H
#define ADMIN_CLIENTS_H

#include "admin/strikes.h"
#include "base/list.h"

#include <pthread.h>
#include <sys/types.h>

#define REQUEST_TIME (20 * USEC_PER_SEC)
#define REFUSED_TIME (2 * USEC_PER_SEC) /* the same for one that is refused */

struct admin_tls;

struct client {
	struct list node; /* of clients.list */
	struct source source;
	int fd;             /* the library's */
	usec_t waits_since; /* for a whole request; USEC_NEVER: one is being answered */
	bool has_uid;       /* it came by a unix socket, from a process of this user */
	uid_t uid;
	struct admin_tls *tls; /* what it began with; NULL: no TLS */
	bool streams;          /* it is sent a stream */
	bool is_refused;       /* there was no room: that is all it is told */
};

/* How many there may be. */
struct room {
	uint32_t max, max_per_source;
	uint32_t refused; /* that are told so; more are to be closed without a word */
};

struct clients {
	pthread_mutex_t lock;
	struct list list;
	uint32_t count;
};

void clients_init(struct clients *all);
void clients_destroy(struct clients *all); /* none is left */
/*
 * May one more come? Streams do not count, whose number is limited elsewhere. *ret_refused: only to be told that it may
 * not. Several that come at the same moment may all be let in, so the limits are not exact.
 */
bool clients_have_room(struct clients *all, const struct source *source, const struct room *room, bool *ret_refused);
/* Whether it has a user, and so its source, is found out here. NULL: out of memory. */
struct client *client_new(struct clients *all, int fd, const struct sockaddr *address, bool is_refused);
void client_free(struct clients *all, struct client *client);
/* Its answer is a stream, until client_waits(). */
void client_streams(struct clients *all, struct client *client);
/* A request has come whole; it has been answered, and the next one is waited for. */
void client_is_served(struct clients *all, struct client *client);
void client_waits(struct clients *all, struct client *client);
/* Those that have kept us waiting for too long are shut down; how many, without those that are refused. */
uint32_t clients_hang_up_late(struct clients *all, usec_t now);
uint32_t clients_count(struct clients *all);

#endif
