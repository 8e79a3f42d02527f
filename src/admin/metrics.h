/*
 * What GET /metrics shows, in groups of families that have the same labels. Each has a table, which the reference
 * (heliosdb-proxy --generate metrics) is made from, and a function that adds the samples in the table's order:
 *   metrics_workers.c  what workers count, how long requests take, their loops
 *   metrics_pools.c    pools
 *   metrics_nodes.c    nodes, what is known of them, Patroni, catalogs
 *   metrics_admin.c    the admin API; metrics_events.c, metrics_sql.c: its streams, its statements
 *   metrics_process.c  the process
 */
#ifndef ADMIN_METRICS_H
#define ADMIN_METRICS_H

#include "metrics/exposition.h"

#include <stdio.h>

struct admin;

struct metric_group {
	const char *labels, *about; /* for the reference; labels: "" or "a, b" */
	const struct metric *metrics;
	size_t count;
	/* false: out of memory */
	bool (*expose)(struct exposition *e, struct admin *admin, const struct metric *m);
};

extern const struct metric_group metrics_counters, metrics_old, metrics_latencies, metrics_routes, metrics_loops,
	metrics_sessions, metrics_crew, metrics_pools, metrics_nodes, metrics_members, metrics_member_sources,
	metrics_circuits, metrics_facts, metrics_topology, metrics_patroni, metrics_catalogs, metrics_process,
	metrics_requests, metrics_admin, metrics_events, metrics_errors, metrics_streams_open, metrics_streams,
	metrics_statements_running, metrics_statements, metrics_build;

/* Rows of pools that are shown, unless fewer are asked for. */
#define METRICS_POOLS_MAX 2000u

/* A page that lists all of them. */
void metrics_reference(FILE *out);

#endif
