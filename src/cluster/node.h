/*
 * Nodes: the servers of the cluster. Names are resolved on the control thread (it may block there);
 * workers copy an address under a lock when they connect, which is rare.
 *
 * Which nodes there are changes with a reload, and when members come and go (members.h). A node is known by name, host
 * and port: what is still there, or comes back, is the same struct. Structs are kept until the end, for topologies,
 * pools and breakers know them; no more than NODES_EVER_MAX are made. Sets that are gone are freed when nobody can be
 * looking at them any more: see node_list_settle().
 */
#ifndef CLUSTER_NODE_H
#define CLUSTER_NODE_H

#include "cluster/position.h"
#include "config/config.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

#define NODES_EVER_MAX     1024u /* different ones since the start; those of the configuration may be more */
#define NODE_ADDRESSES_MAX 16u
#define NODE_ZONE_MAX      64u
#define NODE_LAG_UNKNOWN   UINT64_MAX

/* Does the primary wait for it? X(name, its sync_state there) */
#define NODE_SYNCS(X) \
	X(UNKNOWN, "") \
	X(SYNC, "sync") \
	X(QUORUM, "quorum") \
	X(ASYNC, "async") \
	X(POTENTIAL, "potential")

enum node_sync {
#define X(name, text) NODE_SYNC_##name,
	NODE_SYNCS(X)
#undef X
};

struct breaker_gate; /* route/breaker.h */

struct member; /* cluster/members.h */
struct node_list;

/* What must not be done with a node, see node_bar() and node_hold(). */
enum node_bars { NODE_BARRED = 1, NODE_HELD = 2 };

struct node {
	char *name; /* "host:port", or as configured */
	char *host; /* a name, an address, or the folder of a unix socket ("/var/run/postgresql") */
	uint16_t port;
	_Atomic(enum node_role) role;
	_Atomic bool enabled;                /* false as well when it is no longer in the list */
	_Atomic int source;                  /* enum member_source */
	_Atomic bool spared;                 /* takes no reads, by its source's word */
	_Atomic uint32_t lives;              /* times that it came (back): what was known of it before counts no more */
	_Atomic uint32_t links;              /* open or being opened, over all pools */
	_Atomic uint64_t links_wanted_since; /* see struct budget of the pools */
	_Atomic uint64_t failures;           /* connects or logins that failed, since the start */
	_Atomic uint64_t last_used_wall;     /* a login worked; wall clock, microseconds; 0: never */
	/* health, see node_answered() */
	_Atomic bool unhealthy;
	_Atomic unsigned bars; /* of enum node_bars; 0: it may be used */
	_Atomic bool doubtful; /* a link could not connect: to be checked at once */
	_Atomic uint32_t failed_in_row, good_in_row;
	_Atomic uint64_t last_check_wall;
	_Atomic usec_t refused_at;    /* see node_refuses(); 0: never */
	_Atomic uint64_t answered_at; /* when a server last answered a login, by clock_now(); 0: never */
	/* share of the reads, see route/balance.h */
	_Atomic uint32_t weight;
	_Atomic usec_t max_lag;    /* instead of the rules'; 0: theirs */
	_Atomic bool local;        /* of the proxy's own zone, or zones are not used */
	_Atomic usec_t ramp_since; /* it came back then, and is to get its share bit by bit; 0: it was always there */
	/* draining, see node_drain() */
	_Atomic bool draining;
	_Atomic uint64_t drain_since_wall;
	_Atomic bool leaving;                   /* it drains because it is disabled, or gone from the list */
	_Atomic usec_t drain_deadline;          /* by clock_now(); USEC_NEVER: none */
	_Atomic(struct breaker_gate *) breaker; /* NULL: it has none */
	/* where it is in the log, see position.h and cluster_want_positions() */
	struct position_cell position;
	_Atomic uint64_t lag_bytes, lag_us; /* of a standby; NODE_LAG_UNKNOWN */
	_Atomic(enum node_sync) sync;       /* of a standby */
	_Atomic uint64_t beat_lag_us;       /* what heartbeats say of it, which counts more; NODE_LAG_UNKNOWN */
	_Atomic uint64_t position_questions;
	_Atomic uint64_t heartbeats, heartbeat_failures; /* written or read */
	_Atomic uint32_t moves; /* times that its name no longer led to where connections had been made */
	_Atomic uint64_t resolve_failures;
	bool drain_told, lag_told; /* the control thread's: it has said that it is empty, that it lags too far */
	const struct node_list *list;
	pthread_mutex_t lock;     /* of what follows */
	char zone[NODE_ZONE_MAX]; /* "": none */
	struct sockaddr_storage addresses[NODE_ADDRESSES_MAX];
	socklen_t address_lens[NODE_ADDRESSES_MAX];
	uint32_t address_count, preferred; /* preferred: the one that worked last */
	char resolve_error[128];           /* "" when the last attempt was right */
	usec_t resolve_at;                 /* the control thread's own: the next time, see node_list_resolve() */
	bool gone;                         /* from the list; the control thread's own */
	struct node *next;                 /* of all there ever were */
};

/* The nodes of one time. Never changes. */
struct node_set {
	struct node_set *older;
	uint64_t retired; /* when it was replaced, by the count of changes */
	uint32_t count;
	struct node *nodes[];
};

/* From the configuration; addresses are not resolved yet. NULL: out of memory. */
struct node_list *node_list_new(const struct config *config);
void node_list_free(struct node_list *list);
/*
 * Control thread: the nodes are those of these members from now on; new ones are resolved first. Who is enabled no
 * more, or gone, leaves like one that is drained. own_zone: of the proxy; "": none. 1: there is another set now, of
 * which the workers are to be told (node_list_settle()); 0; or -ENOMEM: then the nodes stay as they were. A member that
 * no struct can be made for any more (NODES_EVER_MAX) is left out, which is logged.
 */
int node_list_take(struct node_list *list, const struct member *members, uint32_t count, const char *own_zone) MUST_USE;
/* The same with the [[nodes]] of a configuration. */
int node_list_reload(struct node_list *list, const struct config *config) MUST_USE;
/*
 * Who says which node is the primary: leader NULL with is_named: nobody is. Control thread; any thread asks. false:
 * nobody has a say but the nodes.
 */
void node_list_name_leader(struct node_list *list, struct node *leader, bool is_named);
/* When the primary fails the next one is waited for. The cluster's thread. */
void node_list_expect_next(struct node_list *list, bool expect);
bool node_list_leader(const struct node_list *list, struct node **ret_leader);
/*
 * Control thread, now and then: nodes that have left are done with that, and sets of before are freed that nobody looks
 * at: every worker has passed a turn since (node_list_passed(), called once for each new set), and no other thread is
 * between hold and release.
 */
void node_list_settle(struct node_list *list);
void node_list_passed(void *list); /* any thread; in the order of the sets */
/* A thread that is no worker looks at sets between the two. */
void node_list_hold(struct node_list *list);
void node_list_release(struct node_list *list);
/* Structs and sets that there are, for people. */
void node_list_kept(const struct node_list *list, uint32_t *ret_nodes, uint32_t *ret_sets);
/* Any thread; valid for a worker until the end of its turn, for others see node_list_hold(). */
const struct node_set *node_list_now(const struct node_list *list);
/* For the control thread, which alone changes the list. */
uint32_t node_list_count(const struct node_list *list);
struct node *node_list_at(const struct node_list *list, uint32_t index);
/* The primary: what node_list_follow() was told last; as long as that is nothing, or a node that is not enabled, the
 * first enabled node that is configured as one, or the only node there is. NULL: none. */
struct node *node_list_primary(const struct node_list *list);
/* By name, or by "host:port". NULL: none. */
struct node *node_list_find(const struct node_list *list, const char *name);

/* Any thread: the same among those that are gone from the list and whose links still leave. */
struct node *node_list_find_leaving(struct node_list *list, const char *name);

/* Facts say that this node is the primary; NULL: they say nothing (any thread). */
void node_list_follow(struct node_list *list, struct node *primary);

/* Looks the name up; may block: control thread only. When it fails the old addresses stay, which is logged once. When
 * the address that worked last is not among those found, the node has moved: it is in doubt until its monitor has found
 * out who is there. 0 or -EHOSTUNREACH. */
int node_resolve(struct node *node);
/*
 * Control thread, once in a while: looks up the names whose time has come, each every `interval` (0: never), and every
 * few seconds while its node is down or has no address. at_once: all of them. How many have moved. A name server that
 * does not answer keeps the thread waiting for at most a tenth of its time.
 */
uint32_t node_list_resolve(struct node_list *list, usec_t interval, bool at_once);
/* Its addresses in the order in which they are to be tried: the one that worked last, then the others as the resolver
 * gave them. Their number; 0: none is known. */
uint32_t node_addresses(struct node *node, struct sockaddr_storage addresses[NODE_ADDRESSES_MAX],
			socklen_t lens[NODE_ADDRESSES_MAX]);
/* A connection to this one could be made. */
void node_address_worked(struct node *node, const struct sockaddr_storage *address, socklen_t len);

/* Stands for a primary when no node is known yet, and somebody is going to name them: whoever needs it waits, for no
 * link is opened to it. In no set. */
struct node *node_list_unknown(const struct node_list *list);

/* What a check found out: failure_threshold bad ones in a row make a node unhealthy, success_threshold good ones in a
 * row healthy. One thread checks a node. */
void node_checked(struct node *node, bool good, const struct config_health *settings);
/* A server answered a login, be it with an error about the user, the database or its limits: that node is well. */
void node_answered(struct node *node);
/* A link could not be opened, for a reason that may lie with the node: it is to be checked soon; the alarm is raised.
 */
void node_in_doubt(struct node *node);
/* The same, and it lets nobody in, for it is gone, starts or shuts down. If it is the primary, and the next one is
 * waited for (node_list_expect_next()), what follows the primary waits from now on: until a check is good, there is
 * another one, or it took too long. true: that is so. */
bool node_refuses(struct node *node);
/* alarm(argument) is called when a node is in doubt, from any thread. Set once, before or while nodes are in use; the
 * argument lives as long as any thread uses them. */
void node_list_set_alarm(struct node_list *list, void (*alarm)(void *argument), void *argument);
/* What the topology says of it; reason: of its last check, when that was bad. */
void node_set_health(struct node *node, bool up, const char *reason);
/* How far a standby lags; both NODE_LAG_UNKNOWN: not known. */
void node_set_lag(struct node *node, uint64_t bytes, uint64_t us);
/* The same by heartbeats. NODE_LAG_UNKNOWN: they say nothing any more. */
void node_set_beat_lag(struct node *node, uint64_t us);
/* As the primary says in pg_stat_replication. */
void node_set_sync(struct node *node, const char *sync_state);
/*
 * By the topology it must not be used: it is of another cluster, on an old timeline, or one of several primaries. No
 * link to it is opened, those that are there are closed, whatever goes on on them (pool/drain.c); who needs one waits
 * until it is known which node is the primary, for no longer than query_wait_timeout. False: that is nothing new.
 */
bool node_bar(struct node *node, bool barred);
/* The same for what follows the primary, and nothing else: it was named as that, and says that it is in recovery. */
bool node_hold(struct node *node, bool held);
static inline unsigned node_bars(const struct node *node)
{
	return atomic_load_explicit(&((struct node *)(uintptr_t)node)->bars, memory_order_relaxed);
}
/* Enabled, and not known to be unhealthy. */
bool node_is_healthy(const struct node *node);
void node_copy_zone(struct node *node, char zone[NODE_ZONE_MAX]);

/*
 * Draining: nothing new begins on the node, what is under way may end. Its links are closed as they become free; when
 * the deadline has passed those that are left are closed too, and their clients are told (pool/drain.c). deadline: how
 * long from now; USEC_NEVER: for ever. A node that drains already has this deadline from now on. Any thread.
 */
void node_drain(struct node *node, usec_t deadline);
/* The same deadline, for one that drains for another reason; else nothing comes of it. */
void node_set_drain_deadline(struct node *node, usec_t deadline);
/* It is used again, bit by bit. false: it did not drain. */
bool node_undrain(struct node *node);
/* May something new begin there, as far as the operator is concerned? Enabled and not draining; health is not asked. */
static inline bool node_takes_new(const struct node *node)
{
	struct node *n = (struct node *)(uintptr_t)node;

	return atomic_load_explicit(&n->enabled, memory_order_relaxed) &&
	       !atomic_load_explicit(&n->draining, memory_order_relaxed);
}
/* Is there any node that links are to leave, for it drains or is barred? For who looks now and then. */
bool node_list_shuns(const struct node_list *list);

#endif
