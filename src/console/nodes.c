/*
 * Nodes: SHOW NODES, ADD NODE and the like, SET primary. What is changed may go to a file, and is applied on the
 * control thread, so it is done there; the client is answered when it counts.
 */
#include "console/console_priv.h"

#include "cluster/members_state.h"
#include "cluster/operation.h"

#include <stdio.h>

struct node_job {
	struct console_job base; /* first */
	struct operation operation;
};

/* On the control thread. */
static int work(struct console_job *base)
{
	struct node_job *job = container_of(base, struct node_job, base);
	const struct console_context *c = &base->console->context;

	return operation_run(&job->operation, c->nodes, c->members);
}

/* ---- the client ---- */

static void notice(struct talk *t, const char *text)
{
	struct buf out = BUF_INIT(1024);

	message_notice(&out, "NOTICE", "00000", text, NULL);
	talk_send(t, &out);
}

static void tell_success(struct talk *t, const struct operation *o)
{
	char text[200];

	if (o->change.number && !o->change.persisted)
		notice(t, "it is forgotten at the next start, for there is no [topology] state_file");
	if (o->links_left && t->client.session) {
		snprintf(text, sizeof(text), "%u server connections leave as they become free", o->links_left);
		notice(t, text);
	}
}

static void tell(struct talk *t, struct console_job *base)
{
	const struct operation *o = &container_of(base, struct node_job, base)->operation;

	if (base->result == -EBUSY)
		talk_refuse(t, "%s. FORCE does it all the same", o->why);
	else if (base->result < 0)
		talk_refuse(t, "%s", *o->why ? o->why : "out of memory");
	else
		tell_success(t, o);
}

/* false: it was refused. */
static bool read_operation(struct talk *t, const struct command *c, struct operation *o)
{
	o->force = c->force;
	o->deadline = USEC_NEVER;
	if (c->verb == COMMAND_SET) {
		o->what = OPERATION_NAME_PRIMARY;
		if (strcasecmp(c->value, "none") != 0)
			snprintf(o->node, sizeof(o->node), "%s", c->value);
		return true;
	}
	o->what = c->operation;
	if (o->what != OPERATION_ADD) {
		snprintf(o->node, sizeof(o->node), "%s", c->value);
		return true;
	}
	if (member_parse(c->value, strlen(c->value), &o->member, o->why) == 0)
		return true;
	talk_refuse(t, "ADD NODE: %s", o->why);
	return false;
}

void operate_node(struct talk *t, const struct command *c)
{
	struct node_job *job = calloc(1, sizeof(*job));

	if (!job) {
		console_client_out_of_memory(&t->client);
		return;
	}
	if (!read_operation(t, c, &job->operation)) {
		free(job);
		return;
	}
	job->base.work = work;
	job->base.tell = tell;
	console_job_begin(t, &job->base);
}

/* ---- SHOW NODES ---- */

static void row_lag(struct rows *rows, uint64_t lag, uint64_t divisor)
{
	if (lag == NODE_LAG_UNKNOWN)
		row_null(rows);
	else
		row_number(rows, lag / divisor);
}

static void show_node(struct rows *rows, struct node *node, bool is_primary)
{
	char zone[NODE_ZONE_MAX];

	node_copy_zone(node, zone);
	row_begin(rows);
	row_text(rows, node->name);
	row_text(rows, node->host);
	row_number(rows, node->port);
	row_text(rows, member_role_word((enum node_role)atomic_load(&node->role)));
	row_number(rows, is_primary);
	row_number(rows, atomic_load(&node->enabled));
	row_number(rows, node_is_healthy(node));
	row_number(rows, node_bars(node) != 0);
	row_number(rows, atomic_load(&node->draining));
	row_number(rows, atomic_load(&node->links));
	row_number(rows, atomic_load(&node->weight));
	row_text(rows, *zone ? zone : NULL);
	row_lag(rows, atomic_load(&node->lag_bytes), 1);
	row_lag(rows, atomic_load(&node->lag_us), USEC_PER_MSEC);
	row_number(rows, atomic_load(&node->failures));
	row_text(rows, member_source_word((enum member_source)atomic_load(&node->source)));
	row_end(rows);
}

void show_nodes(struct console *console, const struct worker *w, struct rows *rows)
{
	const struct node_set *set = node_list_now(console->context.nodes);
	const struct node *primary = node_list_primary(console->context.nodes);

	(void)w;
	for (uint32_t i = 0; i < set->count; i++)
		show_node(rows, set->nodes[i], set->nodes[i] == primary);
}
