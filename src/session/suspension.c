/* See suspension.h. */
#include "session/suspension.h"

#include "base/event.h"
#include "session/worker.h"

#define LOOK_INTERVAL (10 * USEC_PER_MSEC)

void suspension_init(struct suspension *s)
{
	pthread_mutex_init(&s->lock, NULL);
}

void suspension_destroy(struct suspension *s)
{
	pthread_mutex_destroy(&s->lock);
}

/* ---- on a worker's thread ---- */

/* It has nothing to write any more. */
static void is_flushed(struct worker *w)
{
	struct suspension *s = &w->shared->suspension;

	pthread_mutex_lock(&s->lock);
	if (s->state != SUSPENSION_FLUSHING || s->serial != w->suspension.serial) {
		pthread_mutex_unlock(&s->lock);
		return;
	}
	s->closed += w->suspension.closed;
	if (--s->flushing == 0) {
		s->state = SUSPENSION_ON;
		if (s->closed)
			log_warn("connections were closed that did not take what was to be written within "
				 "suspend_timeout",
				 kv_uint("closed", s->closed));
		log_info("suspended, and all is written",
			 kv_uint("flushed_ms", clock_since(s->since, clock_now()) / USEC_PER_MSEC));
	}
	pthread_mutex_unlock(&s->lock);
}

/* Those who are closed may leave last words to others: so it looks once more. */
static void look(struct timer *timer)
{
	struct suspension_part *part = container_of(timer, struct suspension_part, look);
	struct worker *w = container_of(part, struct worker, suspension);
	struct loop *loop = w->pool_thread.loop;

	if (loop_unwritten(loop) == 0) {
		is_flushed(w);
		return;
	}
	if (clock_now() >= part->flush_until)
		part->closed += loop_fail_unwritten(loop);
	timer_set(loop_timers(loop), timer, clock_now() + LOOK_INTERVAL);
}

static void stand_still(struct worker *w, uint64_t serial, usec_t flush_until)
{
	struct suspension_part *part = &w->suspension;

	if (!part->is_on) {
		for (uint32_t i = 0; i < w->listener_count; i++)
			loop_rest_listening(&w->listeners[i]);
		loop_freeze(w->pool_thread.loop);
	}
	if (part->is_on && part->serial == serial)
		return;
	part->is_on = true;
	part->serial = serial;
	part->flush_until = flush_until;
	part->closed = 0;
	timer_set(loop_timers(w->pool_thread.loop), &part->look, clock_now());
}

static void go_on(struct worker *w)
{
	if (!w->suspension.is_on)
		return;
	w->suspension.is_on = false;
	timer_cancel(&w->suspension.look);
	loop_thaw(w->pool_thread.loop);
	for (uint32_t i = 0; i < w->listener_count; i++)
		loop_go_on_listening(&w->listeners[i]);
}

/* What is said now counts, however often it has changed on the message's way. */
static void told(struct loop_message *message, void *thread)
{
	struct worker *w = thread;
	struct suspension *s = &w->shared->suspension;
	enum suspension_state state;
	uint64_t serial;
	usec_t flush_until;

	(void)message;
	atomic_store(&w->suspension.is_told, false);
	pthread_mutex_lock(&s->lock);
	state = s->state;
	serial = s->serial;
	flush_until = s->flush_until;
	pthread_mutex_unlock(&s->lock);
	if (state == SUSPENSION_OFF)
		go_on(w);
	else
		stand_still(w, serial, flush_until);
}

void suspension_join(struct worker *w)
{
	timer_init(&w->suspension.look, look);
	w->suspension.look.always = true;
}

/* ---- any thread ---- */

static void tell_all(struct sessions_shared *shared)
{
	for (uint32_t i = 0; i < shared->worker_count; i++) {
		struct worker *w = shared->workers[i];

		if (!w || atomic_exchange(&w->suspension.is_told, true))
			continue;
		w->suspension.message.run = told;
		loop_post(w->pool_thread.loop, &w->suspension.message);
	}
}

int suspension_begin(struct sessions_shared *shared, usec_t timeout, bool by_console)
{
	struct suspension *s = &shared->suspension;
	int r;

	pthread_mutex_lock(&s->lock);
	r = s->is_refused ? -ESHUTDOWN : s->state != SUSPENSION_OFF ? -EALREADY : 0;
	if (r == -EALREADY && !by_console)
		s->ends_with_consoles = false; /* somebody else counts on it now */
	if (r == 0) {
		s->state = SUSPENSION_FLUSHING;
		s->ends_with_consoles = by_console;
		s->flushing = shared->worker_count;
		s->serial++;
		s->closed = 0;
		s->since = clock_update();
		s->flush_until = timeout ? s->since + timeout : USEC_NEVER;
		atomic_store(&s->is_on, true);
		log_event(EVENT_PROXY_SUSPENDED, LOG_INFO, "suspended: nothing is read until RESUME",
			  kv_str("by", by_console ? "SUSPEND on the console" : "the admin API"));
	}
	pthread_mutex_unlock(&s->lock);
	if (r == 0)
		tell_all(shared);
	return r;
}

/* Under the lock. */
static void end(struct suspension *s, const char *why)
{
	s->state = SUSPENSION_OFF;
	atomic_store(&s->is_on, false);
	log_event(EVENT_PROXY_RESUMED, LOG_INFO, "the suspension is over: clients are served", kv_str("by", why),
		  kv_uint("lasted_ms", clock_since(s->since, clock_update()) / USEC_PER_MSEC));
}

int suspension_end(struct sessions_shared *shared, const char *why)
{
	struct suspension *s = &shared->suspension;
	bool was_on;

	pthread_mutex_lock(&s->lock);
	was_on = s->state != SUSPENSION_OFF;
	if (was_on)
		end(s, why);
	pthread_mutex_unlock(&s->lock);
	if (was_on)
		tell_all(shared);
	return was_on ? 0 : -EALREADY;
}

void suspension_refuse(struct sessions_shared *shared)
{
	struct suspension *s = &shared->suspension;

	pthread_mutex_lock(&s->lock);
	s->is_refused = true;
	pthread_mutex_unlock(&s->lock);
	(void)!suspension_end(shared, "the proxy ends");
}

enum suspension_state suspension_state(struct sessions_shared *shared)
{
	struct suspension *s = &shared->suspension;
	enum suspension_state state;

	pthread_mutex_lock(&s->lock);
	state = s->state;
	pthread_mutex_unlock(&s->lock);
	return state;
}

uint64_t suspension_closed(struct sessions_shared *shared)
{
	struct suspension *s = &shared->suspension;
	uint64_t closed;

	pthread_mutex_lock(&s->lock);
	closed = s->closed;
	pthread_mutex_unlock(&s->lock);
	return closed;
}

void suspension_console_opened(struct sessions_shared *shared)
{
	struct suspension *s = &shared->suspension;

	pthread_mutex_lock(&s->lock);
	s->consoles++;
	pthread_mutex_unlock(&s->lock);
}

void suspension_console_closed(struct sessions_shared *shared)
{
	struct suspension *s = &shared->suspension;
	bool ends;

	pthread_mutex_lock(&s->lock);
	assert(s->consoles > 0);
	ends = --s->consoles == 0 && s->state != SUSPENSION_OFF && s->ends_with_consoles;
	if (ends)
		end(s, "the last console has left");
	pthread_mutex_unlock(&s->lock);
	if (ends)
		tell_all(shared);
}
