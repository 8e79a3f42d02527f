/*
 * Events that nobody sees happen, since they follow from counts and states: looked at once a second by the control
 * thread, so that nothing on a query's way pays for them.
 *
 * What happens often is told with how often: at once the first time, then after 1 s, 2 s, ... 60 s while it goes on, so
 * that one client with a wrong password doesn't push everything else out of the history.
 */
#include "server/proxy_priv.h"

#include "base/event.h"
#include "wire/errors.h"

#include <stdio.h>

#define PERIOD          (USEC_PER_SEC - 50 * USEC_PER_MSEC) /* the control thread's ticks come a bit early or late */
#define BURST_MOST      (60 * USEC_PER_SEC)
#define SATURATED_MAX   256u
#define CALM            (5 * USEC_PER_SEC) /* so long has a pool to be well before that is told */
#define BEGINS_A_SECOND 20u

struct burst {
	uint64_t told;
	usec_t since, due, period;
};

/* A pool whose clients wait too long. Names that are longer are cut: they only have to be found again. */
struct saturated {
	char database[128], user[128], node[128];
	usec_t began, bad_at; /* when it began; when it was last bad */
};

struct watch {
	usec_t next;
	struct burst errors[PROXY_ERROR_COUNT], logins, lines;
	struct saturated saturated[SATURATED_MAX];
	uint32_t saturated_count;
	struct log_limit begins;
};

struct watch *watch_new(void)
{
	return calloc(1, sizeof(struct watch));
}

void watch_free(struct watch *watch)
{
	free(watch);
}

/* ---- bursts ---- */

/* How many are to be told now, and of how many seconds. 0: none. */
static uint64_t burst_due(struct burst *b, uint64_t total, usec_t now, uint64_t *ret_seconds)
{
	uint64_t count = total - b->told;

	if (now >= b->due && count == 0)
		b->period = 0; /* it is over: the next is told at once */
	if (count == 0)
		b->since = now;
	if (count == 0 || now < b->due)
		return 0;
	*ret_seconds = MAX((now - b->since + USEC_PER_SEC / 2) / USEC_PER_SEC, 1u);
	b->period = MIN(MAX(b->period * 2, USEC_PER_SEC), BURST_MOST);
	b->due = now + b->period - USEC_PER_SEC / 2;
	b->since = now;
	b->told = total;
	return count;
}

/* The log tells of each. */
static void watch_errors(struct watch *w, usec_t now)
{
	uint64_t count, seconds = 0;

	for (unsigned i = 0; i < PROXY_ERROR_COUNT; i++) {
		const struct proxy_error_info *info = proxy_error_info((enum proxy_error)i);

		if (strcmp(info->severity, "NOTICE") == 0)
			continue;
		count = burst_due(&w->errors[i], proxy_error_count((enum proxy_error)i), now, &seconds);
		if (count)
			event_write(EVENT_ERRORS_RAISED, LOG_INFO, "errors of the proxy's own",
				    (const struct kv[]){kv_str("error", info->name),
							kv_str("sqlstate", info->sqlstate),
							kv_uint("count", count),
							kv_uint("seconds", seconds),
							{.type = KV_END}});
	}
}

static uint64_t sum_of(struct proxy *p, size_t offset)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < p->thread_count; i++) {
		char *counters = (char *)&p->threads[i].worker.pool_thread.counters;

		sum += atomic_load_explicit((counter_t *)(void *)(counters + offset), memory_order_relaxed);
	}
	return sum;
}

#define SUM_OF(p, counter) sum_of((p), offsetof(struct counters, counter))

/* The log has its own lines of both. */
static void watch_others(struct proxy *p, usec_t now)
{
	uint64_t count, seconds = 0;

	count = burst_due(&p->watch->logins, SUM_OF(p, login_failures_total), now, &seconds);
	if (count)
		event_write(
			EVENT_LOGINS_REFUSED, LOG_WARN, "logins were refused",
			(const struct kv[]){kv_uint("count", count), kv_uint("seconds", seconds), {.type = KV_END}});
	count = burst_due(&p->watch->lines, log_dropped(), now, &seconds);
	if (count)
		event_write(
			EVENT_LOG_DROPPED, LOG_WARN, "log lines were dropped",
			(const struct kv[]){kv_uint("count", count), kv_uint("seconds", seconds), {.type = KV_END}});
}

/* ---- pools ---- */

struct look {
	struct watch *watch;
	usec_t now, threshold;
};

static bool is_called(const char *kept, size_t size, const char *name)
{
	return strncmp(kept, name ? name : "", size - 1) == 0;
}

static struct saturated *find(struct watch *w, const struct pool_view *view)
{
	for (uint32_t i = 0; i < w->saturated_count; i++) {
		struct saturated *s = &w->saturated[i];

		if (is_called(s->database, sizeof(s->database), view->database) &&
		    is_called(s->user, sizeof(s->user), view->user) && is_called(s->node, sizeof(s->node), view->node))
			return s;
	}
	return NULL;
}

/* Those for which there is no room are told when there is. */
static void begin(struct watch *w, const struct pool_view *view, usec_t now)
{
	struct saturated *s = &w->saturated[w->saturated_count];
	uint32_t unused;

	if (w->saturated_count == SATURATED_MAX || !log_limit_pass(&w->begins, BEGINS_A_SECOND, USEC_PER_SEC, &unused))
		return;
	w->saturated_count++;
	*s = (struct saturated){.began = now, .bad_at = now};
	snprintf(s->database, sizeof(s->database), "%s", view->database);
	snprintf(s->user, sizeof(s->user), "%s", view->user);
	snprintf(s->node, sizeof(s->node), "%s", view->node ? view->node : "");
	log_event(EVENT_POOL_SATURATED, LOG_WARN, "clients wait long for a server connection",
		  kv_str("database", view->database), kv_str("user", view->user), kv_str("node", view->node),
		  kv_uint("waiting", view->waiting), kv_uint("wait_ms", view->oldest_wait_us / USEC_PER_MSEC),
		  kv_uint("active", view->active), kv_uint("max", view->max));
}

static void look_at_pool(const struct pool_view *view, void *to)
{
	struct look *look = to;
	struct saturated *s;

	if (view->waiting == 0 || view->paused || view->oldest_wait_us < look->threshold / 2)
		return;
	s = find(look->watch, view);
	if (s)
		s->bad_at = look->now;
	else if (view->oldest_wait_us >= look->threshold)
		begin(look->watch, view, look->now);
}

static void end_those_that_are_well(struct watch *w, usec_t now)
{
	for (uint32_t i = 0; i < w->saturated_count;) {
		struct saturated *s = &w->saturated[i];

		if (now - s->bad_at < CALM) {
			i++;
			continue;
		}
		log_event(EVENT_POOL_RELIEVED, LOG_INFO, "clients no longer wait long for a server connection",
			  kv_str("database", s->database), kv_str("user", s->user),
			  kv_str("node", *s->node ? s->node : NULL),
			  kv_uint("lasted_ms", (s->bad_at - s->began) / USEC_PER_MSEC));
		*s = w->saturated[--w->saturated_count];
	}
}

static void watch_pools(struct proxy *p, usec_t now)
{
	struct look look = {.watch = p->watch, .now = now, .threshold = p->config->admin.saturation_wait};

	if (look.threshold && SUM_OF(p, clients_waiting) > 0)
		pools_each(p->pools, look_at_pool, &look);
	end_those_that_are_well(p->watch, now);
}

/* ---- nodes ---- */

static void watch_drain(struct node *node)
{
	if (!atomic_load(&node->draining)) {
		node->drain_told = false;
	} else if (!node->drain_told && atomic_load(&node->links) == 0) {
		node->drain_told = true;
		log_event(EVENT_DRAIN_DONE, LOG_INFO, "a node that drains has no server connections any more",
			  kv_str("node", node->name));
	}
}

static bool is_beyond(uint64_t lag, uint64_t limit, bool was)
{
	return limit && lag > (was ? limit - limit / 5 : limit); /* back in only when it is well below */
}

/* As reads see it that have no wishes of their own (route/route.c). */
static void watch_lag(struct node *node, const struct config_lag_routing *c)
{
	uint64_t us = atomic_load_explicit(&node->lag_us, memory_order_relaxed);
	uint64_t bytes = atomic_load_explicit(&node->lag_bytes, memory_order_relaxed);
	usec_t max = atomic_load_explicit(&node->max_lag, memory_order_relaxed);
	bool lags;

	max = max ? max : c->max_lag;
	if (!c->enabled || us == NODE_LAG_UNKNOWN || bytes == NODE_LAG_UNKNOWN)
		return;
	lags = is_beyond(us, max, node->lag_told) || is_beyond(bytes, c->max_lag_bytes, node->lag_told);
	if (lags == node->lag_told)
		return;
	node->lag_told = lags;
	if (lags)
		log_event(EVENT_LAG_EXCEEDED, LOG_WARN, "a standby lags too far: it takes no reads",
			  kv_str("node", node->name), kv_uint("lag_ms", us / USEC_PER_MSEC),
			  kv_uint("lag_bytes", bytes), kv_uint("max_lag_ms", max / USEC_PER_MSEC),
			  kv_uint("max_lag_bytes", c->max_lag_bytes));
	else
		log_event(EVENT_LAG_WITHIN, LOG_INFO, "a standby takes reads again: it no longer lags too far",
			  kv_str("node", node->name), kv_uint("lag_ms", us / USEC_PER_MSEC),
			  kv_uint("lag_bytes", bytes));
}

static void watch_nodes(struct proxy *p)
{
	const struct node_set *set;

	node_list_hold(p->nodes);
	set = node_list_now(p->nodes);
	for (uint32_t i = 0; i < set->count; i++) {
		watch_drain(set->nodes[i]);
		watch_lag(set->nodes[i], &p->config->lag_routing);
	}
	node_list_release(p->nodes);
}

void watch_tick(struct proxy *p)
{
	usec_t now = clock_now();

	if (now < p->watch->next)
		return;
	p->watch->next = now + PERIOD;
	watch_errors(p->watch, now);
	watch_others(p, now);
	watch_pools(p, now);
	watch_nodes(p);
}
