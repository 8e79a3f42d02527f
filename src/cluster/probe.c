/* See probe.h. */
#include "cluster/probe.h"

struct probe {
	struct probe *next;
	struct probes *probes;
	struct node *node;
	struct conn conn;
	struct timer timeout; /* set: the connection is being made */
	usec_t due;
};

struct probes {
	struct node_list *nodes;
	struct config_health settings;
	struct probe *first; /* one for each node that there ever was */
	bool stopped;
};

static void probe_end(struct probe *probe, bool good)
{
	timer_cancel(&probe->timeout);
	conn_close(&probe->conn);
	node_checked(probe->node, good, &probe->probes->settings);
}

static void probe_ready(struct conn *conn)
{
	probe_end(container_of(conn, struct probe, conn), /* good= */ true);
}

static void probe_closed(struct conn *conn, int error)
{
	(void)error;
	probe_end(container_of(conn, struct probe, conn), /* good= */ false);
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
	probe_end(container_of(timer, struct probe, timeout), /* good= */ false);
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
	struct sockaddr_storage address;
	socklen_t len;

	probe->due = clock_now() + probe->probes->settings.check_interval;
	conn_init(&probe->conn, &probe_ops);
	if (node_address(probe->node, &address, &len) < 0 ||
	    conn_connect(&probe->conn, loop, (const struct sockaddr *)&address, len) < 0) {
		node_checked(probe->node, /* good= */ false, &probe->probes->settings);
		return;
	}
	timer_set(loop_timers(loop), &probe->timeout, clock_now() + probe->probes->settings.check_timeout);
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

		if (!probe || timer_is_set(&probe->timeout) || !atomic_load(&probe->node->enabled))
			continue;
		if (atomic_exchange(&probe->node->doubtful, false) || clock_now() >= probe->due)
			probe_begin(probe, loop);
	}
}

void probes_stop(struct probes *probes)
{
	probes->stopped = true;
	for (struct probe *probe = probes->first; probe; probe = probe->next) {
		timer_cancel(&probe->timeout);
		conn_close(&probe->conn);
	}
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
