/* Taking a node out of service and back, and the circuit breakers. */
#include "admin/admin_priv.h"

#include "route/breaker.h"

#include <stdio.h>

#define ADDRESS_SIZE 512u
#define DEADLINE_MAX (365ull * 86400)

/* ---- POST /nodes/{address}/drain, undrain ---- */

json_t *drain_json(struct node *node)
{
	usec_t now = clock_update(), deadline = atomic_load(&node->drain_deadline);
	uint32_t links = atomic_load(&node->links);
	json_t *json;

	if (!atomic_load(&node->draining))
		return json_null();
	json = json_object();
	json_put(json, "since", time_json(atomic_load(&node->drain_since_wall)));
	json_put(json, "deadline_in_ms",
		 deadline == USEC_NEVER
			 ? json_null()
			 : json_integer((json_int_t)(deadline > now ? (deadline - now) / USEC_PER_MSEC : 0)));
	json_put(json, "links_left", json_integer(links));
	json_put(json, "done", json_boolean(links == 0));
	return json;
}

static void answer_node(struct answer *answer, struct node *node, const char *status)
{
	json_t *json = json_object();
	char address[ADDRESS_SIZE];

	snprintf(address, sizeof(address), "%s:%u", node->host, node->port);
	json_put(json, "status", json_text(status));
	json_put(json, "node", json_text(address));
	json_put(json, "name", json_text(node->name));
	json_put(json, "draining", drain_json(node));
	answer_json(answer, MHD_HTTP_OK, json);
}

struct node *request_node(struct request *request, struct answer *answer)
{
	struct node *node = node_list_find(request->admin->context.nodes, request->argument);

	if (!node)
		answer_problem(answer, MHD_HTTP_NOT_FOUND, "no_such_node", "Node not found");
	return node;
}

bool node_is_primary(struct admin *admin, const struct node *node)
{
	const struct topology *topology = admin_hold_topology(admin);
	bool is = node == node_list_primary(admin->context.nodes) || (topology && node == topology->primary);

	admin_release_topology(topology);
	return is;
}

static void let_links_go(struct worker *worker, struct round_part *part, uint64_t unused)
{
	(void)part;
	(void)unused;
	worker_drain_nodes(worker);
}

/* Workers would find out within a second; a late one still does. */
void request_tell_workers(struct request *request)
{
	struct round *round = round_begin(request->admin->context.sessions, let_links_go, 0);

	if (round)
		(void)round_wait(round);
	round_unref(round);
}

bool request_deadline(struct request *request, struct answer *answer, usec_t *ret)
{
	const char *text = request_parameter(request, "deadline_secs");
	uint64_t seconds;

	text = text ? text : request_parameter(request, "deadline");
	*ret = USEC_NEVER;
	if (!text)
		return true;
	if (!parse_number(text, DEADLINE_MAX, &seconds)) {
		answer_error(answer, MHD_HTTP_BAD_REQUEST, "deadline_secs must be a number from 0 to %llu",
			     DEADLINE_MAX);
		return false;
	}
	*ret = seconds * USEC_PER_SEC;
	return true;
}

bool request_leaving(struct request *request, struct answer *answer, struct operation *o)
{
	return request_deadline(request, answer, &o->deadline) && request_flag(request, answer, "force", &o->force);
}

unsigned operation_status(int r)
{
	switch (r) {
	case -EBUSY:
	case -EEXIST:
	case -EPERM:
	case -ENOENT:
		return MHD_HTTP_CONFLICT;
	case -ENOSPC:
		return MHD_HTTP_INSUFFICIENT_STORAGE;
	default:
		return MHD_HTTP_INTERNAL_SERVER_ERROR;
	}
}

bool request_operate(struct request *request, struct answer *answer, struct operation *o, const char *refusal)
{
	const struct admin_context *c = &request->admin->context;
	int r;

	snprintf(o->node, sizeof(o->node), "%s", request->argument);
	r = operation_run(o, c->nodes, c->members);
	if (r < 0)
		answer_error(answer, operation_status(r), "%s: %s%s", refusal, o->why,
			     r == -EBUSY ? ". force=true does it all the same" : "");
	return r == 0;
}

void endpoint_node_drain(struct request *request, struct answer *answer)
{
	struct operation o = {.what = OPERATION_DRAIN};
	struct node *node = request_node(request, answer);

	if (!node || !request_leaving(request, answer, &o) ||
	    !request_operate(request, answer, &o, "the node is not drained"))
		return;
	request_log_node(request, "node drains: it gets nothing new, and its server connections leave", node);
	request_tell_workers(request);
	answer_node(answer, node, "draining");
}

void endpoint_node_undrain(struct request *request, struct answer *answer)
{
	struct node *node = request_node(request, answer);
	bool drained;

	if (!node)
		return;
	drained = node_undrain(node);
	if (drained)
		request_log_node(request, "node is used again", node);
	answer_node(answer, node, drained ? "undrained" : "not draining");
}

/* ---- GET /api/circuit ---- */

static void put_counts(json_t *json, const struct breaker_counts *counts)
{
	json_put(json, "calls", json_integer((json_int_t)counts->calls));
	json_put(json, "failures", json_integer((json_int_t)counts->failures));
	json_put(json, "slow_calls", json_integer((json_int_t)counts->slow));
}

static json_t *changes_json(const struct breaker_view *v)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < v->change_count; i++) {
		const struct breaker_change *c = &v->changes[i];
		json_t *json = json_object();

		json_put(json, "at", time_json(c->wall));
		json_put(json, "from", json_text(breaker_state_name(c->from)));
		json_put(json, "to", json_text(breaker_state_name(c->to)));
		json_put(json, "reason", json_text(breaker_reason_text(c->why)));
		(void)json_array_append_new(list, json);
	}
	return list;
}

static void put_circuit(json_t *json, const struct breaker_view *v)
{
	json_t *window = json_object(), *times = json_object();

	json_put(json, "since", time_json(v->since_wall));
	json_put(json, "retry_in_ms",
		 v->state == BREAKER_OPEN ? json_integer((json_int_t)(v->retry_in / USEC_PER_MSEC)) : json_null());
	put_counts(json, &v->total);
	put_counts(window, &v->window);
	json_put(json, "window", window);
	json_put(json, "opened", json_integer((json_int_t)v->opened));
	json_put(json, "rejected", json_integer((json_int_t)v->rejected));
	json_put(json, "transitions", json_integer((json_int_t)v->transitions));
	json_put(json, "probes", json_integer(v->probes));
	json_put(json, "good_probes", json_integer(v->good_probes));
	json_put(json, "usual_failure_rate", json_real(v->usual));
	for (size_t i = 0; i < ARRAY_SIZE(v->time_in); i++)
		json_put(times, breaker_state_name((enum breaker_state)i),
			 json_integer((json_int_t)(v->time_in[i] / USEC_PER_MSEC)));
	json_put(json, "time_in_ms", times);
	json_put(json, "history", changes_json(v));
}

const char *circuit_name(const struct node *node)
{
	struct breaker_view v;

	return breaker_look(node, &v) ? breaker_state_name(v.state) : NULL;
}

/* While breakers are off all are closed, and there is nothing more to be told. */
static json_t *circuit_json(const struct node *node)
{
	json_t *json = json_object();
	struct breaker_view v = {.state = BREAKER_CLOSED};
	bool is_on = breaker_look(node, &v);
	char address[ADDRESS_SIZE];

	snprintf(address, sizeof(address), "%s:%u", node->host, node->port);
	json_put(json, "node", json_text(address));
	json_put(json, "name", json_text(node->name));
	json_put(json, "state", json_text(breaker_state_name(v.state)));
	if (is_on)
		put_circuit(json, &v);
	return json;
}

void endpoint_circuit(struct request *request, struct answer *answer)
{
	const struct admin_context *c = &request->admin->context;
	const struct node_set *nodes = node_list_now(c->nodes);
	json_t *json = json_object(), *list = json_array();

	for (uint32_t i = 0; i < nodes->count; i++)
		(void)json_array_append_new(list, circuit_json(nodes->nodes[i]));
	json_put(json, "enabled", json_boolean(c->sessions->breakers && breakers_enabled(c->sessions->breakers)));
	json_put(json, "circuits", list);
	answer_json(answer, MHD_HTTP_OK, json);
}
