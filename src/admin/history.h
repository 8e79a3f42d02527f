/*
 * What the last minutes looked like: a row of numbers for each second, made of two looks at the counters. Pure.
 */
#ifndef ADMIN_HISTORY_H
#define ADMIN_HISTORY_H

#include "base/clock.h"
#include "metrics/latency.h"

#define HISTORY_ROWS 900u

/* HISTORY_COLUMN(key, name): of a row. */
#define HISTORY_COLUMNS(X) \
	X(AT, "at_seconds") \
	X(TRANSACTIONS, "transactions_per_second") \
	X(QUERIES, "queries_per_second") \
	X(ERRORS, "errors_per_second") \
	X(RECEIVED, "received_bytes_per_second") \
	X(SENT, "sent_bytes_per_second") \
	X(LOGINS, "logins_per_second") \
	X(CLIENTS, "clients") \
	X(WAITING, "clients_waiting") \
	X(LINKS_ACTIVE, "links_active") \
	X(LINKS_IDLE, "links_idle") \
	X(QUERY_P50, "query_p50_ms") \
	X(QUERY_P95, "query_p95_ms") \
	X(QUERY_P99, "query_p99_ms") \
	X(TRANSACTION_P95, "transaction_p95_ms") \
	X(WAIT_P95, "wait_p95_ms")

enum history_column {
#define X(key, name) HISTORY_##key,
	HISTORY_COLUMNS(X)
#undef X
		HISTORY_COLUMN_COUNT
};

extern const char *const history_columns[HISTORY_COLUMN_COUNT];

/* One look. */
struct history_look {
	usec_t at;     /* of a clock that runs evenly */
	uint64_t wall; /* microseconds since 1970 */
	struct counters counters;
	uint32_t links_active, links_idle;
	struct latency_totals latencies[LATENCY_COUNT];
};

struct history_row {
	double values[HISTORY_COLUMN_COUNT]; /* negative: there is none */
};

/* All zero: empty. The oldest rows make room. */
struct history {
	struct history_row rows[HISTORY_ROWS];
	uint64_t count; /* since the start */
};

void history_add(struct history *h, const struct history_look *before, const struct history_look *now);
/* One of those that are kept, by its age: 0 is the newest. NULL: there is none as old. */
const struct history_row *history_at(const struct history *h, uint32_t age);

#endif
