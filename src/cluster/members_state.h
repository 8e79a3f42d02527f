/*
 * What an operator has changed of the members, as a value, and as the JSON of [topology] state_file:
 *
 *   {"version": 1, "nodes": [{"host": "10.0.0.3", "port": 5432, "role": "standby", ...}],
 *    "enabled": [{"host": "10.0.0.2", "port": 5432, "enabled": false}], "primary": {"host": "10.0.0.1", "port": 5432}}
 *
 * Whatever it does not know is an error, since it would be lost with the next change.
 */
#ifndef CLUSTER_MEMBERS_STATE_H
#define CLUSTER_MEMBERS_STATE_H

#include "cluster/members.h"

#define MEMBERS_STATE_VERSION 1

struct member_switch { /* enabled or disabled by hand, whatever the configuration says */
	char host[MEMBER_HOST_MAX];
	uint16_t port;
	bool enabled;
};

struct members_state {
	struct member list[MEMBERS_MAX];
	struct member_switch switches[MEMBERS_MAX];
	uint32_t count, switch_count;
	char primary_host[MEMBER_HOST_MAX]; /* "": none was named */
	uint16_t primary_port;
};

/* 0, -ENOMEM, or -EINVAL and in why what is wrong with it; then *ret is undefined. */
int members_state_parse(const char *text, size_t len, struct members_state *ret, char why[MEMBERS_WHY_MAX]) MUST_USE;
/* NULL: out of memory. free() it. */
char *members_state_text(const struct members_state *state);
/* A member as in "nodes", as the admin API is given it. 0 or -EINVAL. */
int member_parse(const char *text, size_t len, struct member *ret, char why[MEMBERS_WHY_MAX]) MUST_USE;
const char *member_role_word(enum node_role role);

/* -ENOENT: there is no such file; else as members_state_parse(), or another -errno. */
int members_state_load(const char *path, struct members_state *ret, char why[MEMBERS_WHY_MAX]) MUST_USE;
/* Whoever reads the file, at whatever time, sees all of the old state or all of this one. 0 or -errno. */
int members_state_save(const char *path, const struct members_state *state, char why[MEMBERS_WHY_MAX]) MUST_USE;

#endif
