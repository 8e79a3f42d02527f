/*
 * The admin API: a small HTTP server for health checks, Prometheus and people. It runs in threads of its own; what it
 * shows of a worker it reads from counters or asks for by message, so a slow HTTP client never delays a query.
 *
 * Access: with an admin_token, or [admin_tokens], everything but the health checks and "/" asks for one, and each
 * endpoint for a role. Where other machines can reach the API, there is no token and admin_allow_insecure is false,
 * only those answer. Root and the proxy's own user need none on a unix socket.
 *
 * Order at the end: admin_stop() before the loops of the workers are freed. What a late worker still owes the admin API
 * then owns itself.
 */
#ifndef ADMIN_ADMIN_H
#define ADMIN_ADMIN_H

#include "base/buf.h"
#include "cluster/cluster.h"
#include "cluster/node.h"
#include "cluster/patroni.h"
#include "config/config.h"
#include "pool/pool.h"
#include "route/catalogs.h"
#include "session/worker.h"

struct admin;

#define RELOAD_WHY_MAX 512u

/* How a reload went. */
struct reload_outcome {
	struct buf changed;       /* what has changed, "pool.mode", "nodes", "databases.shop": each with its NUL */
	char why[RELOAD_WHY_MAX]; /* it was refused: what is wrong first */
};

struct admin_context {
	struct pools *pools;
	struct node_list *nodes;
	struct members *members;          /* NULL: there are none but those of the configuration */
	struct cluster *cluster;          /* NULL: nobody checks the nodes */
	struct patroni *patroni;          /* NULL: it is not asked */
	struct catalogs *catalogs;        /* NULL: none are read */
	struct sessions_shared *sessions; /* workers are all there, and stay */
	const struct config *config;      /* at the start; admin_reload() replaces it */
	bool config_is_imported;          /* it was made from another pooler's */
	bool test_clock;                  /* POST /debug/clock?advance_ms=N exists */
	const char *const *features;      /* for GET /version; ends with NULL. NULL: none */
	uint64_t started_wall;            /* of the process; wall clock, microseconds */
	/* POST /reload: has the file read again. Called on an admin thread, without locks. 0 or -errno. NULL: not
	 * offered */
	int (*reload)(void *server);
	/* The same, and waits for it, at most for so long. 0; -ENOENT: there is no file; -EINVAL: it was refused, and
	 * the old configuration stays; -ETIMEDOUT: it is still to come. In any case the caller frees ret->changed.
	 * NULL: likewise */
	int (*reload_and_wait)(void *server, unsigned wait_ms, struct reload_outcome *ret);
	void *server;
};

#define ADMIN_LISTENERS_MAX 2u

struct admin_listener {
	int fd;
	const char *address; /* "host:port" or "unix:/path" */
};

/* Takes the listening sockets over. 0, or -errno: then they are still the caller's. */
int admin_start(const struct admin_context *context, const struct admin_listener *listeners, uint32_t count,
		struct admin **ret_admin) MUST_USE;
/* From the control thread, about once a second. */
void admin_tick(struct admin *admin);
/* Is all there that the configuration names (certificates)? Otherwise a line is logged. Before admin_reload(). */
bool admin_prepare(struct admin *admin, const struct config *config) MUST_USE;
/* From the control thread; the old config may be freed afterwards. */
void admin_reload(struct admin *admin, const struct config *config);
/* All metrics in Prometheus' format, as /metrics answers; on any thread. */
void admin_expose(struct admin *admin, struct buf *out);
/* From now on the readiness check fails. */
void admin_set_draining(struct admin *admin);
/* Accepts no more, but leaves the socket open and served requests alone: for a hand-over to the next process. */
void admin_quiesce(struct admin *admin);
/* Ends requests under way, frees all, closes the socket. NULL is fine. */
void admin_stop(struct admin *admin);

#endif
