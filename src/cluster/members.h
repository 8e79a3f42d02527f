/*
 * Members: who belongs to the cluster, as several sources say it: the configuration, an operator over the admin API,
 * the primary's list of standbys (discovery.h), a provider such as Patroni. What they say is merged into one list, on
 * the control thread alone, and that list becomes the nodes (node_list_take(), server/nodes.c).
 *
 * How it is merged:
 *  - Two are the same member when they have the same host and port, or else the same name.
 *  - The configuration wins: name, address, role, weight, zone and sync of a [[nodes]] table stay. A source adds what
 * the configuration can't know: who leads, who takes no reads. Of the sources the one that stands first in the enum
 *    wins.
 *  - A member that its source names no longer stays for [topology] forget (what an operator deletes, and what discovery
 *    forgets, does not), and is then retired like a node that a reload took out.
 *  - No more than MEMBERS_MAX; whoever comes later is refused, which is counted, and logged once.
 *
 * What an operator changed (members added by hand, nodes enabled and disabled, the primary that was named) is the
 * state; with [topology] state_file it is written to a file before it counts.
 */
#ifndef CLUSTER_MEMBERS_H
#define CLUSTER_MEMBERS_H

#include "cluster/node.h"

#define MEMBERS_MAX     64u /* no more can be chosen from, see BALANCE_MAX */
#define MEMBER_NAME_MAX 128u
#define MEMBER_HOST_MAX 256u

/* X(name, word, meaning). Earlier ones win. */
#define MEMBER_SOURCES(X) \
	X(CONFIGURED, "configuration", "a [[nodes]] table") \
	X(MANUAL, "manual", "added over the admin API") \
	X(PATRONI, "patroni", "a member of the Patroni cluster") \
	X(HELIOSDB, "heliosdb", "told by a HeliosDB node") \
	X(DISCOVERED, "discovered", "a standby that streams from the primary")

enum member_source {
#define X(name, word, meaning) MEMBER_##name,
	MEMBER_SOURCES(X)
#undef X
		MEMBER_SOURCE_COUNT,
};

struct member {                     /* a value: it points to nothing */
	char name[MEMBER_NAME_MAX]; /* "": host:port */
	char host[MEMBER_HOST_MAX]; /* as struct node */
	uint16_t port;
	enum node_role role; /* a first guess, as in the configuration */
	uint32_t weight;     /* 100 is usual */
	char zone[NODE_ZONE_MAX];
	usec_t max_lag; /* 0: as [lag_routing] says */
	bool sync;
	bool enabled;
	bool spared;               /* takes no reads, by its source's word */
	bool leads;                /* the primary, by its source's word; see members_offer() */
	enum member_source source; /* members_offer() sets it */
};

/* Ordinary: a standby of weight 100, enabled. */
void member_init(struct member *member, const char *host, uint16_t port);
void member_from_config(struct member *member, const struct config_node *node);

/* Have they the same host and port? */
bool member_is_at(const struct member *member, const char *host, uint16_t port);

struct members;

/* What a source knows of who leads. Of the sources that know, the first counts. */
enum members_leader {
	LEADER_NOT_KNOWN, /* it says nothing of that (any more): the nodes' own facts decide */
	LEADER_IS_NAMED,  /* the member with `leads`, and no other; if there is none the cluster has no primary now */
};

/*
 * These are the source's members from now on. Any thread; it is all copied, and the control thread is woken if anything
 * has changed. A source that does not know its members just now does not call: what it said last stays. 0, or -ENOMEM:
 * then what it said last stays, too. count may be larger than MEMBERS_MAX: the rest is refused.
 */
int members_offer(struct members *members, enum member_source source, const struct member *list, uint32_t count,
		  enum members_leader leader) MUST_USE;
/* The source has ended (another provider was configured): nothing of it is left. */
void members_withdraw(struct members *members, enum member_source source);

/* ---- for server/ ---- */
/* wake(argument): from any thread; the control thread is to call members_merge() soon. NULL: out of memory. */
struct members *members_new(const struct config *config, void (*wake)(void *argument), void *argument);
void members_free(struct members *members); /* NULL is fine */
/* Reads the state file, if the configuration has one; no file is fine. 0, or -errno: the log says what is wrong, and
 * the start must end, for the next change would write over it. */
int members_load_state(struct members *members) MUST_USE;
/* What an operator has changed up to now, for the next process. NULL: out of memory. free() it. */
char *members_hand_on(struct members *members);
/* There, before the first merge: that holds, unless a state file does. 0 or a negative errno: the log says what is
 * wrong. */
int members_take_over(struct members *members, const char *text) MUST_USE;
/* Control thread: a new configuration. */
void members_reload(struct members *members, const struct config *config);
/* Is there anything new to be merged? Also true when time alone has made it so. */
bool members_are_due(struct members *members);
/* What all say together. */
struct merged_members {
	struct member *list; /* the configuration's first, in its order. free() it */
	uint32_t count;
	enum members_leader leader;
	const char *leader_source; /* the word of the source that knows; NULL: none */
	uint64_t change;           /* the operator's last change that is in it, see members_wait() */
};
int members_merge(struct members *members, struct merged_members *ret) MUST_USE; /* 0 or -ENOMEM */
/* The nodes are those of this list now. */
void members_applied(struct members *members, const struct merged_members *merged);

/* ---- what an operator does: admin threads. All return 0, or -errno and a text for people in why. ---- */
#define MEMBERS_WHY_MAX 256u
struct members_change {
	bool persisted;  /* in the state file */
	uint64_t number; /* for members_wait() */
};
/* -EEXIST: there is such a node; -ENOSPC: too many. Of all four: -EIO: the file can't be written, -ENOMEM. */
int members_add(struct members *members, const struct member *member, struct members_change *ret,
		char why[MEMBERS_WHY_MAX]) MUST_USE;
/* -ENOENT: it was not added by hand. */
int members_remove(struct members *members, const char *host, uint16_t port, struct members_change *ret,
		   char why[MEMBERS_WHY_MAX]) MUST_USE;
/* Counts more than the configuration, until it says the same. */
int members_enable(struct members *members, const char *host, uint16_t port, bool enabled, struct members_change *ret,
		   char why[MEMBERS_WHY_MAX]) MUST_USE;
/* host NULL: nobody is named any more. Only with provider = "manual": else -EPERM. */
int members_name_primary(struct members *members, const char *host, uint16_t port, struct members_change *ret,
			 char why[MEMBERS_WHY_MAX]) MUST_USE;
/* Waits until the change has been applied; false: not within so long, it will be. */
bool members_wait(struct members *members, uint64_t change, unsigned milliseconds);

/* ---- for people ---- */
struct members_counts {
	uint32_t by_source[MEMBER_SOURCE_COUNT]; /* of the merged list */
	uint64_t refused;                        /* members that there was no room for, since the start */
	uint32_t left_out;                       /* the same of the last merge */
};
void members_count(struct members *members, struct members_counts *ret);
const char *member_source_word(enum member_source source);

#endif
