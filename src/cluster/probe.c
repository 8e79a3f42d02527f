/* See probe.h. */
#include "cluster/probe.h"

#define PROBES_APART (200 * USEC_PER_MSEC) /* of one node, however much in doubt it is */

struct probe {
	struct probe *next;
	struct probes *probes;
	struct node *node;
	struct loop *loop;
	struct conn conn;
	struct timer timeout; /* set: a connection is being made, to the address of now */
	usec_t due, begun, deadline;
	struct sockaddr_storage addresses[NODE_ADDRESSES_MAX]; /* tried one after the other */
	socklen_t address_lens[NODE_ADDRESSES_MAX];
	uint32_t address_count, address_at;
};

struct probes {
	struct node_list *nodes;
	struct config_health settings;
	struct probe *first; /* one for each node that there ever was */
	bool stopped;
};

static void probe_from_here(struct probe *probe);

static void probe_end(struct probe *probe, bool good)
{
	timer_cancel(&probe->timeout);
	conn_close(&probe->conn);
	node_checked(probe->node, good, &probe->probes->settings);
}

static void probe_ready(struct conn *conn)
{
	struct probe *probe = container_of(conn, struct probe, conn);

	node_address_worked(probe->node, &probe->addresses[probe->address_at], probe->address_lens[probe->address_at]);
	probe_end(probe, /* good= */ true);
}

static void probe_closed(struct conn *conn, int error)
{
	struct probe *probe = container_of(conn, struct probe, conn);

	(void)error;
	probe->address_at++;
	probe_from_here(probe);
}

static size_t probe_received(struct conn *conn, uint8_t *bytes, size_t len)
{
	(void)conn;
	(void)bytes;
	return len;
}

static const struct conn_ops probe_ops = {.received = probe_received, .closed = probe_closed, .ready = probe_ready};

static void probe_timeout(struct timer *timer)
{
	struct probe *probe = container_of(timer, struct probe, timeout);

	conn_close(&probe->conn);
	probe->address_at++;
	probe_from_here(probe);
}

/* Connects to the address of now, or to the first one behind it where that can be begun; each has its share of the
 * time. None: the check has failed. */
static void probe_from_here(struct probe *probe)
{
	for (; probe->address_at < probe->address_count && !probe->probes->stopped; probe->address_at++) {
		const struct sockaddr *address = (const struct sockaddr *)&probe->addresses[probe->address_at];
		usec_t now = clock_now(), left = probe->deadline > now ? probe->deadline - now : 0;

		conn_init(&probe->conn, &probe_ops);
		if (conn_connect(&probe->conn, probe->loop, address, probe->address_lens[probe->address_at]) < 0)
			continue;
		timer_set(loop_timers(probe->loop), &probe->timeout,
			  now + left / (probe->address_count - probe->address_at));
		return;
	}
	probe_end(probe, /* good= */ false);
}

static struct probe *probe_of(struct probes *probes, struct node *node)
{
	struct probe *probe;

	for (probe = probes->first; probe; probe = probe->next)
		if (probe->node == node)
			return probe;
	probe = calloc(1, sizeof(*probe));
	if (!probe)
		return NULL; /* the next tick tries again */
	*probe = (struct probe){.next = probes->first, .probes = probes, .node = node};
	timer_init(&probe->timeout, probe_timeout);
	conn_init(&probe->conn, &probe_ops);
	/* the first one not at once: at a start there are better things to do */
	probe->due = clock_now() + probes->settings.check_interval;
	probes->first = probe;
	return probe;
}

static void probe_begin(struct probe *probe, struct loop *loop)
{
	usec_t now = clock_now();

	probe->loop = loop;
	probe->begun = now;
	probe->due = now + probe->probes->settings.check_interval;
	probe->deadline = now + probe->probes->settings.check_timeout;
	probe->address_count = node_addresses(probe->node, probe->addresses, probe->address_lens);
	probe->address_at = 0;
	probe_from_here(probe);
}

struct probes *probes_new(struct node_list *nodes)
{
	struct probes *probes = calloc(1, sizeof(*probes));

	if (probes)
		probes->nodes = nodes;
	return probes;
}

void probes_tick(struct probes *probes, struct loop *loop, const struct config_health *settings)
{
	const struct node_set *set = node_list_now(probes->nodes);

	probes->settings = *settings;
	for (uint32_t i = 0; i < set->count && !probes->stopped; i++) {
		struct probe *probe = probe_of(probes, set->nodes[i]);

		if (!probe || timer_is_set(&probe->timeout) || !atomic_load(&probe->node->enabled) ||
		    (probe->begun && clock_now() < probe->begun + PROBES_APART))
			continue;
		if (atomic_exchange(&probe->node->doubtful, false) || clock_now() >= probe->due)
			probe_begin(probe, loop);
	}
}

void probes_pause(struct probes *probes)
{
	for (struct probe *probe = probes->first; probe; probe = probe->next) {
		timer_cancel(&probe->timeout);
		conn_close(&probe->conn);
	}
}

void probes_stop(struct probes *probes)
{
	probes->stopped = true;
	probes_pause(probes);
}

void probes_free(struct probes *probes)
{
	struct probe *probe;

	if (!probes)
		return;
	while ((probe = probes->first)) {
		probes->first = probe->next;
		free(probe);
	}
	free(probes);
}
