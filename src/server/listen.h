/*
 * Listening sockets: opened here, inherited from the process before (SIGUSR2), or from systemd.
 *
 * TCP addresses get one socket for each worker (SO_REUSEPORT: the kernel spreads connections, and no worker is woken in
 * vain); unix sockets are shared by all workers. Inherited sockets are taken as they are: connections may be waiting in
 * each of their queues, so every one of them is served.
 */
#ifndef SERVER_LISTEN_H
#define SERVER_LISTEN_H

#include "config/config.h"

#define LISTEN_SOCKETS_MAX 512u

struct listen_socket {
	int fd;
	bool shared; /* by all workers */
	bool from_systemd;
	char address[160]; /* as configured */
};

struct admin_socket {
	int fd; /* once the admin API runs it owns it */
	char address[160];
};

#define ADMIN_SOCKETS_MAX 2u /* [proxy] admin_address and [admin] socket */

struct listen_set {
	struct listen_socket sockets[LISTEN_SOCKETS_MAX];
	uint32_t count;
	struct admin_socket admin[ADMIN_SOCKETS_MAX];
	uint32_t admin_count;
	bool inherited; /* from the process before: until this one serves, socket files are that one's */
};

#define LISTEN_SET_INIT ((struct listen_set){0})

/* Opens (or inherits) all that the configuration names. false: why says what to do. */
bool listen_set_open(struct listen_set *set, const struct config *config, uint32_t workers, char *why, size_t size);
/* Options of the sockets that clients come by, and so of theirs. */
void listen_set_options(const struct listen_set *set, const struct config_proxy *p);
/* The clients' sockets; again: nothing happens. */
void listen_set_close(struct listen_set *set, bool unlink_unix);
/* are_ours: the admin API, which would own them, was never started. */
void listen_set_close_admin(struct listen_set *set, bool are_ours, bool unlink_unix);
/* The environment variable's value for the next process: "address fd\n"... malloc'd. */
char *listen_set_describe(struct listen_set *set);

#define LISTEN_ENVIRONMENT "HELIOS_HANDED_OVER_SOCKETS"
#define READY_ENVIRONMENT  "HELIOS_READY_FD"

#endif
