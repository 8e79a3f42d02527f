/*
 * What the endpoints of the reference and those of the versioned API both show: collected in one place, so that they
 * can't tell different stories. Each API has its own names for it.
 */
#ifndef ADMIN_VIEWS_H
#define ADMIN_VIEWS_H

#include "admin/admin_priv.h"

/* {"items": [...], "total": N}; takes the reference. */
static inline json_t *list_json(json_t *items, uint64_t total)
{
	json_t *json = json_object();

	json_put(json, "items", items);
	json_put(json, "total", json_integer((json_int_t)total));
	return json;
}

#define REQUEST_TEXT_MAX 255u /* characters */
/* A parameter to look for, "" when it is not given; false: it was answered that it is too long. */
bool request_text(struct request *request, struct answer *answer, const char *parameter, const char **ret) MUST_USE;

/* ---- sessions.c ---- */
#define SESSION_TEXT_MAX (4 * REQUEST_TEXT_MAX + 1)

/* Which sessions are asked for. "": whichever. */
struct session_wish {
	char database[SESSION_TEXT_MAX], user[SESSION_TEXT_MAX], state[SESSION_TEXT_MAX]; /* exactly */
	char application[SESSION_TEXT_MAX], address[SESSION_TEXT_MAX];                    /* that has this in it */
	char query[SESSION_TEXT_MAX]; /* likewise; case doesn't count */
	uint64_t limit;
	uint32_t pid; /* 0: whichever */
};

struct session_list {
	json_t *list;
	uint64_t matched; /* those above the limit, too */
	uint32_t late;    /* workers whose sessions are not there */
};

/* false: out of memory. The caller takes the list. */
bool sessions_collect(struct sessions_shared *sessions, const struct session_wish *wish,
		      json_t *(*show)(const struct session_view *view), struct session_list *ret) MUST_USE;
/* What both APIs call the same. */
json_t *session_common_json(const struct session_view *view);

/* false: it was answered that the parameter limit makes no sense. */
bool request_limit(struct request *request, struct answer *answer, uint64_t *ret) MUST_USE;
/* false: it was answered that {pid} is none. */
bool request_pid(struct request *request, struct answer *answer, uint64_t *ret) MUST_USE;
/* All workers were asked to do that with the session that the path names; a reference for the caller. NULL: it was
 * answered that {pid} is none, or there is no memory. */
struct round *request_session_round(struct request *request, struct answer *answer, round_work *work,
				    uint64_t *ret_pid);
/* There is none with that pid, or workers are late who may have it, and then do `what`. */
void answer_no_session(struct answer *answer, uint32_t late, const char *what);

/* ---- endpoints_v1_config.c ---- */
/* The values of the start of all keys that need a restart. NULL: out of memory. */
struct running_config *running_config_new(const struct config *config);
void running_config_free(struct running_config *running); /* NULL is fine */

/* ---- endpoints_v1_suspension.c ---- */
/* "off", "flushing", "on" */
const char *suspension_text(struct sessions_shared *sessions);

/* ---- endpoints_cluster.c ---- */
typedef json_t *node_show(struct admin *admin, struct node *node, const struct pool_rows *pools,
			  const struct topology *topology);
/* All nodes, each as show() has it. NULL: out of memory. */
json_t *nodes_json(struct admin *admin, const struct topology *topology, node_show *show);
json_t *known_number(bool known, int64_t number); /* else null */
json_t *milliseconds(bool known, int64_t us);
json_t *lsn_json(uint64_t lsn); /* "0/3000148"; 0: null */
json_t *system_json(uint64_t id);
json_t *node_name_json(const struct node *node); /* NULL: null */
/* Why its name has no address, else why its last check failed (found NULL: it is in no topology), else why a pool's
 * last login did. */
json_t *node_error_json(struct node *node, const struct topology_node *found, const struct pool_rows *pools);
json_t *addresses_json(struct node *node);
/* Nodes that are up and may be used, or those that are not or may not. */
json_t *names_json(const struct topology *t, bool healthy);
json_t *history_json(const struct topology *t);
/* NULL: those who name a leader say that there is none. */
const struct node *topology_named(const struct topology *t);

#endif
