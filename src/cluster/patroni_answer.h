/*
 * What Patroni says of its cluster: the answer to GET /cluster (Patroni 2.0 and later), as a value. Nothing is
 * concluded here.
 *
 * The answer comes from outside: what makes no sense is refused as a whole when it is no such document at all; a member
 * that cannot be used (no name, no address yet) is left out and counted.
 */
#ifndef CLUSTER_PATRONI_ANSWER_H
#define CLUSTER_PATRONI_ANSWER_H

#include "base/common.h"

#define PATRONI_MEMBERS_MAX 64u
#define PATRONI_NAME_MAX    128u
#define PATRONI_HOST_MAX    256u
#define PATRONI_URL_MAX     512u
#define PATRONI_TEXT_MAX    64u

/* X(name, text): the role of a member, as Patroni writes it. */
#define PATRONI_ROLES(X) \
	X(LEADER, "leader") \
	X(STANDBY_LEADER, "standby_leader") \
	X(SYNC_STANDBY, "sync_standby") \
	X(QUORUM_STANDBY, "quorum_standby") \
	X(REPLICA, "replica") \
	X(OTHER, "other") /* one that this build does not know: as a replica */

enum patroni_role {
#define X(name, text) PATRONI_##name,
	PATRONI_ROLES(X)
#undef X
};

struct patroni_member {
	char name[PATRONI_NAME_MAX];
	char host[PATRONI_HOST_MAX];
	uint16_t port;
	enum patroni_role role;
	char role_text[PATRONI_TEXT_MAX], state[PATRONI_TEXT_MAX];
	char api_url[PATRONI_URL_MAX]; /* "": not told */
	uint32_t timeline;             /* 0: not told */
	bool knows_lag;
	uint64_t lag; /* bytes */
	/* tags */
	bool no_failover, no_load_balance;
	char replicate_from[PATRONI_NAME_MAX]; /* "": not set */
};

struct patroni_answer {
	char scope[PATRONI_NAME_MAX]; /* "": not told (before 3.0) */
	bool paused;
	bool has_switchover;                                                     /* one is scheduled */
	char switchover_at[PATRONI_TEXT_MAX];                                    /* as Patroni writes it */
	char switchover_from[PATRONI_NAME_MAX], switchover_to[PATRONI_NAME_MAX]; /* "": not told */
	uint32_t left_out; /* members without an address, or beyond the maximum */
	uint32_t count;
	struct patroni_member members[PATRONI_MEMBERS_MAX];
};

/* 0; -EPROTO: it is no such answer, and why says what is wrong with it; *ret is then of no use. */
int patroni_answer_parse(const char *text, size_t len, struct patroni_answer *ret, char *why, size_t why_size) MUST_USE;
/* The one that is the leader, of a standby cluster, too; NULL: there is none now. */
const struct patroni_member *patroni_answer_leader(const struct patroni_answer *answer);
/* The base of its REST API, such as http://10.0.0.1:8008, from the URL that it tells; false: it can't be told. */
bool patroni_member_base_url(const struct patroni_member *member, char *to, size_t size) MUST_USE;
const char *patroni_role_name(enum patroni_role role);

#endif
