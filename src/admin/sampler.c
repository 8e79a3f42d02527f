/*
 * A look at all counters once a second, on a thread of its own, so that there is a history to show as soon as somebody
 * looks. With a thousand pools that is half a millisecond of a core.
 */
#include "admin/admin_priv.h"

#include "admin/history.h"
#include "base/log.h"
#include "telemetry/exporter.h"

#include <signal.h>

#define PERIOD USEC_PER_SEC

struct sampler {
	struct admin *admin;
	pthread_t thread;
	pthread_mutex_t lock; /* of history and stops */
	pthread_cond_t wakes;
	bool stops;
	struct history history;
	struct history_look looks[2]; /* the thread's own */
};

static usec_t steady_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (usec_t)t.tv_sec * USEC_PER_SEC + (usec_t)t.tv_nsec / 1000;
}

void admin_sum_counters(const struct admin *admin, struct counters *ret)
{
	const struct sessions_shared *sessions = admin->context.sessions;

	memset(ret, 0, sizeof(*ret));
	pools_add_counters(admin->context.pools, ret);
	exporter_add_counters(ret);
	for (uint32_t i = 0; i < sessions->worker_count; i++)
		counters_add(ret, &sessions->workers[i]->pool_thread.counters);
}

void admin_sum_latencies(const struct admin *admin, struct latency_totals ret[LATENCY_COUNT])
{
	const struct sessions_shared *sessions = admin->context.sessions;

	memset(ret, 0, LATENCY_COUNT * sizeof(*ret));
	for (uint32_t i = 0; i < sessions->worker_count; i++)
		latencies_sum(ret, &sessions->workers[i]->pool_thread.latencies);
}

static void look(const struct admin *admin, struct history_look *ret)
{
	struct pool_link_totals links;

	ret->at = steady_now();
	ret->wall = clock_wall();
	admin_sum_counters(admin, &ret->counters);
	admin_sum_latencies(admin, ret->latencies);
	pools_sum_links(admin->context.pools, &links);
	ret->links_active = links.active;
	ret->links_idle = links.idle;
}

/* false: it is to stop. */
static bool sleep_until(struct sampler *s, usec_t at)
{
	struct timespec t = {.tv_sec = (time_t)(at / USEC_PER_SEC), .tv_nsec = (long)(at % USEC_PER_SEC) * 1000};
	bool stops;

	pthread_mutex_lock(&s->lock);
	while (!s->stops && pthread_cond_timedwait(&s->wakes, &s->lock, &t) == 0)
		;
	stops = s->stops;
	pthread_mutex_unlock(&s->lock);
	return !stops;
}

static void *run(void *sampler)
{
	struct sampler *s = sampler;
	struct history_look *before = &s->looks[0], *now = &s->looks[1], *swap;
	usec_t next = steady_now();

	look(s->admin, before);
	while (sleep_until(s, next = MAX(next + PERIOD, steady_now()))) {
		look(s->admin, now);
		pthread_mutex_lock(&s->lock);
		history_add(&s->history, before, now);
		pthread_mutex_unlock(&s->lock);
		swap = before;
		before = now;
		now = swap;
	}
	return NULL;
}

/* NULL: there is no history. */
struct sampler *sampler_start(struct admin *admin)
{
	struct sampler *s = calloc(1, sizeof(*s));
	pthread_condattr_t by_steady;
	sigset_t all, old;
	int r;

	if (!s)
		return NULL;
	s->admin = admin;
	pthread_mutex_init(&s->lock, NULL);
	pthread_condattr_init(&by_steady);
	pthread_condattr_setclock(&by_steady, CLOCK_MONOTONIC);
	pthread_cond_init(&s->wakes, &by_steady);
	pthread_condattr_destroy(&by_steady);
	/* Signals are for the control thread. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&s->thread, NULL, run, s);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r == 0)
		return s;
	log_warn("no history of statistics is kept", kv_str("detail", strerror(r)));
	pthread_cond_destroy(&s->wakes);
	pthread_mutex_destroy(&s->lock);
	free(s);
	return NULL;
}

void sampler_stop(struct sampler *s)
{
	if (!s)
		return;
	pthread_mutex_lock(&s->lock);
	s->stops = true;
	pthread_cond_signal(&s->wakes);
	pthread_mutex_unlock(&s->lock);
	pthread_join(s->thread, NULL);
	pthread_cond_destroy(&s->wakes);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

uint32_t sampler_copy(struct sampler *s, uint32_t most, struct history_row *rows)
{
	const struct history_row *row;
	uint32_t count = 0;

	if (!s)
		return 0;
	pthread_mutex_lock(&s->lock);
	while (count < most && history_at(&s->history, count))
		count++;
	for (uint32_t i = 0; i < count && (row = history_at(&s->history, count - 1 - i)); i++)
		rows[i] = *row;
	pthread_mutex_unlock(&s->lock);
	return count;
}
