/*
 * Nodes that are added, removed, enabled and disabled at run time, and the primary that an operator names. What is
 * changed counts when it is in the state file (if there is one) and the control thread has applied it; a change that it
 * has not come to yet says so (`applied`), and does without being asked again.
 */
#include "admin/admin_priv.h"

#include "base/log.h"
#include "cluster/members.h"
#include "cluster/members_state.h"

#include <stdio.h>

#define ADDRESS_SIZE  512u
#define APPLY_WAIT_MS 2000u

/* NULL: it was answered that there is nobody to tell. */
static struct members *members_of(struct request *request, struct answer *answer)
{
	struct members *members = request->admin->context.members;

	if (!members)
		answer_error(answer, MHD_HTTP_NOT_IMPLEMENTED, "nodes do not change here");
	return members;
}

/* Has it been applied, and by the workers? */
static bool wait_for(struct request *request, const struct members_change *change)
{
	if (!members_wait(request->admin->context.members, change->number, APPLY_WAIT_MS))
		return false;
	request_tell_workers(request);
	return true;
}

static json_t *change_json(const char *status, const char *name, const char *host, uint16_t port,
			   const struct members_change *change, bool applied)
{
	json_t *json = json_object();
	char address[ADDRESS_SIZE];

	snprintf(address, sizeof(address), "%s:%u", host, port);
	json_put(json, "status", json_text(status));
	json_put(json, "node", json_text(address));
	json_put(json, "name", json_text(*name ? name : address));
	json_put(json, "persisted", json_boolean(change->persisted));
	json_put(json, "applied", json_boolean(applied));
	return json;
}

/* ---- POST /nodes ---- */

void endpoint_node_add(struct request *request, struct answer *answer)
{
	struct members *members = members_of(request, answer);
	struct members_change change;
	struct member member;
	char why[MEMBERS_WHY_MAX], address[ADDRESS_SIZE];
	int r;

	if (!members)
		return;
	if (member_parse((const char *)request->body.bytes, request->body.len, &member, why) < 0) {
		answer_error(answer, MHD_HTTP_BAD_REQUEST, "the body must be a node in JSON: %s", why);
		return;
	}
	r = members_add(members, &member, &change, why);
	if (r < 0) {
		answer_error(answer, operation_status(r), "the node is not added: %s", why);
		return;
	}
	snprintf(address, sizeof(address), "%s:%u", member.host, member.port);
	request_log_change(request, "node added", address, change.persisted);
	answer_json(answer, MHD_HTTP_CREATED,
		    change_json("added", member.name, member.host, member.port, &change, wait_for(request, &change)));
}

/* ---- DELETE /nodes/{address} ---- */

static void answer_deletion(struct answer *answer, struct node *node, const struct members_change *change, bool applied)
{
	uint32_t links = atomic_load(&node->links);
	bool done = applied && links == 0;
	json_t *json = change_json(done ? "removed" : "leaving", node->name, node->host, node->port, change, applied);

	json_put(json, "links_left", json_integer(links));
	json_put(json, "draining", drain_json(node));
	answer_json(answer, done ? MHD_HTTP_OK : MHD_HTTP_ACCEPTED, json);
}

/* One that was removed already, and whose links still leave; the deadline may be another one now. */
static bool goes_already(struct request *request, struct answer *answer)
{
	struct node *node = node_list_find_leaving(request->admin->context.nodes, request->argument);
	struct members_change change = {0};
	usec_t deadline;

	if (!node || node_list_find(request->admin->context.nodes, request->argument))
		return false;
	if (!request_deadline(request, answer, &deadline))
		return true;
	if (deadline != USEC_NEVER) {
		node_set_drain_deadline(node, deadline);
		request_tell_workers(request);
	}
	answer_deletion(answer, node, &change, /* applied= */ true);
	return true;
}

void endpoint_node_delete(struct request *request, struct answer *answer)
{
	struct operation o = {.what = OPERATION_REMOVE};
	struct node *node;

	if (!members_of(request, answer) || goes_already(request, answer))
		return;
	node = request_node(request, answer);
	if (!node || !request_leaving(request, answer, &o) ||
	    !request_operate(request, answer, &o, "the node is not removed"))
		return;
	request_log_change(request, "node removed: its server connections leave", node->name, o.change.persisted);
	answer_deletion(answer, node, &o.change, wait_for(request, &o.change));
}

/* ---- POST /nodes/{address}/enable, disable ---- */

/* false: it was answered why not; else what came of it. */
static bool set_enabled(struct request *request, struct answer *answer, struct node *node, struct operation *o)
{
	bool enabled = o->what == OPERATION_ENABLE;
	json_t *json;

	if (!members_of(request, answer) || !request_operate(request, answer, o, "the node stays as it is"))
		return false;
	request_log_change(request, enabled ? "node enabled" : "node disabled: its server connections leave",
			   node->name, o->change.persisted);
	json = change_json(enabled ? "enabled" : "disabled", node->name, node->host, node->port, &o->change,
			   wait_for(request, &o->change));
	json_put(json, "links_left", json_integer(atomic_load(&node->links)));
	answer_json(answer, MHD_HTTP_OK, json);
	return true;
}

void endpoint_node_enable(struct request *request, struct answer *answer)
{
	struct operation o = {.what = OPERATION_ENABLE};
	struct node *node = request_node(request, answer);

	if (node)
		(void)set_enabled(request, answer, node, &o);
}

void endpoint_node_disable(struct request *request, struct answer *answer)
{
	struct operation o = {.what = OPERATION_DISABLE};
	struct node *node = request_node(request, answer);

	if (!node || !request_leaving(request, answer, &o) || !set_enabled(request, answer, node, &o))
		return;
	if (o.deadline != USEC_NEVER && !atomic_load(&node->enabled)) {
		node_set_drain_deadline(node, o.deadline);
		request_tell_workers(request);
	}
}

/* ---- POST /topology/primary ---- */

/* Of {"node": "a"} or {"node": null}. false: it was answered that the body is not that. */
static bool read_name(struct request *request, struct answer *answer, char *name, size_t size)
{
	json_t *root = json_loadb((const char *)request->body.bytes, request->body.len, JSON_REJECT_DUPLICATES, NULL);
	const json_t *value = json_object_get(root, "node");
	bool right = value && json_object_size(root) == 1 &&
		     (json_is_null(value) ||
		      (json_is_string(value) && json_string_length(value) > 0 && json_string_length(value) < size));

	if (right)
		snprintf(name, size, "%s", json_is_null(value) ? "" : json_string_value(value));
	else
		answer_error(answer, MHD_HTTP_BAD_REQUEST,
			     "the body must be {\"node\": \"a\"}, a name or host:port, or {\"node\": null}");
	json_decref(root);
	return right;
}

void endpoint_name_primary(struct request *request, struct answer *answer)
{
	struct members *members = members_of(request, answer);
	char name[sizeof(request->argument)], why[MEMBERS_WHY_MAX];
	struct members_change change;
	struct node *node = NULL;
	json_t *json;
	int r;

	if (!members || !read_name(request, answer, name, sizeof(name)))
		return;
	if (*name) {
		node = node_list_find(request->admin->context.nodes, name);
		if (!node) {
			answer_problem(answer, MHD_HTTP_NOT_FOUND, "no_such_node", "Node not found");
			return;
		}
	}
	r = members_name_primary(members, node ? node->host : NULL, node ? node->port : 0, &change, why);
	if (r < 0) {
		answer_error(answer, operation_status(r), "%s", why);
		return;
	}
	request_log_change(request, "the primary was named", node ? node->name : "nobody", change.persisted);
	json = json_object();
	json_put(json, "status", json_text("named"));
	json_put(json, "primary", node ? json_text(node->name) : json_null());
	json_put(json, "persisted", json_boolean(change.persisted));
	json_put(json, "applied", json_boolean(wait_for(request, &change)));
	answer_json(answer, MHD_HTTP_OK, json);
}
