/* See history.h. */
#include "admin/history.h"

const char *const history_columns[HISTORY_COLUMN_COUNT] = {
#define X(key, name) name,
	HISTORY_COLUMNS(X)
#undef X
};

/* Threads are asked one after the other: what seems to have gone down has not grown. */
static double rate(const counter_t *before, const counter_t *now, double seconds)
{
	uint64_t from = atomic_load((counter_t *)(uintptr_t)before), to = atomic_load((counter_t *)(uintptr_t)now);

	return to > from ? (double)(to - from) / seconds : 0;
}

static double quantile_ms(const struct history_look *before, const struct history_look *now, enum latency kind,
			  double share)
{
	struct latency_totals between;
	double us;

	latency_since(&between, &now->latencies[kind], &before->latencies[kind]);
	us = latency_quantile(&between, share);
	return us < 0 ? us : us / 1e3;
}

void history_add(struct history *h, const struct history_look *before, const struct history_look *now)
{
	struct history_row *row = &h->rows[h->count++ % HISTORY_ROWS];
	double seconds = (double)MAX(clock_since(before->at, now->at), 1u) / 1e6, *v = row->values;

#define RATE(counter) rate(&before->counters.counter, &now->counters.counter, seconds)
#define GAUGE(gauge)  (double)atomic_load((counter_t *)(uintptr_t)&now->counters.gauge)
	v[HISTORY_AT] = (double)now->wall / 1e6;
	v[HISTORY_TRANSACTIONS] = RATE(transactions_total);
	v[HISTORY_QUERIES] = RATE(queries_total);
	v[HISTORY_ERRORS] = RATE(query_errors_total);
	v[HISTORY_RECEIVED] = RATE(bytes_received_total);
	v[HISTORY_SENT] = RATE(bytes_sent_total);
	v[HISTORY_LOGINS] = RATE(logins_total);
	v[HISTORY_CLIENTS] = GAUGE(clients);
	v[HISTORY_WAITING] = GAUGE(clients_waiting);
	v[HISTORY_LINKS_ACTIVE] = now->links_active;
	v[HISTORY_LINKS_IDLE] = now->links_idle;
	v[HISTORY_QUERY_P50] = quantile_ms(before, now, LATENCY_QUERY, 0.5);
	v[HISTORY_QUERY_P95] = quantile_ms(before, now, LATENCY_QUERY, 0.95);
	v[HISTORY_QUERY_P99] = quantile_ms(before, now, LATENCY_QUERY, 0.99);
	v[HISTORY_TRANSACTION_P95] = quantile_ms(before, now, LATENCY_TRANSACTION, 0.95);
	v[HISTORY_WAIT_P95] = quantile_ms(before, now, LATENCY_WAIT, 0.95);
#undef RATE
#undef GAUGE
}

const struct history_row *history_at(const struct history *h, uint32_t age)
{
	if (age >= HISTORY_ROWS || age >= h->count)
		return NULL;
	return &h->rows[(h->count - 1 - age) % HISTORY_ROWS];
}
