/*
 * The control thread: it alone takes signals, and does what is slow or due now and then.
 *
 *   RUNNING --SIGTERM--> DRAINING      no new clients; sessions close as they become free
 *      |----SHUTDOWN WAIT_FOR_CLIENTS on the console---> LEAVING     no new clients
 *      \----SIGUSR2----> HANDED_OVER   no new clients; the next process has the sockets, ours live until they leave
 *
 * Either ends when the last client has left, at the deadline, or with a second signal.
 */
#include "server/proxy_priv.h"

#include "base/event.h"
#include "base/log.h"
#include "server/notify.h"

#include <malloc.h>
#include <stdio.h>

#define SWEEP_PERIOD       (10 * USEC_PER_SEC)
#define HANDSHAKES_TO_TRIM 500u

#define GRACE_MS         3000u /* last words are written for at most 2 s */
#define GRACE_FORCED_MS  1000u
#define GRACE_AT_ONCE_MS 200u

/* ---- draining ---- */

static void stop_listening(struct worker *w, void *argument)
{
	(void)argument;
	worker_stop_listening(w);
}

static void nobody_accepts(void *argument)
{
	struct proxy *p = argument;

	atomic_store(&p->nobody_accepts, true);
}

static void take_visitors(struct worker *w, void *argument)
{
	struct proxy *p = argument;

	if (w->pool_thread.index == 0 && p->handover.cancel_fd >= 0)
		worker_take_visitors(w, p->handover.cancel_fd);
}

static void drain(struct worker *w, void *argument)
{
	(void)argument;
	worker_drain(w);
}

static void begin_to_leave(struct proxy *p, enum proxy_state state, const char *message)
{
	char text[32];

	snprintf(text, sizeof(text), "%llus",
		 (unsigned long long)(p->config->proxy.shutdown_drain_timeout / USEC_PER_SEC));
	log_event(EVENT_PROXY_STOPPING, LOG_INFO, message, kv_uint("clients", proxy_clients(p)),
		  kv_str("deadline", text));
	suspension_refuse(&p->shared); /* else nobody could finish */
	p->drain_until = clock_update() + p->config->proxy.shutdown_drain_timeout;
	admin_set_draining(p->admin);
	if (p->state == PROXY_RUNNING)
		workers_tell(p, stop_listening, nobody_accepts, p);
	p->state = state;
}

static void begin_drain(struct proxy *p)
{
	if (p->handover.pid) {
		log_info("the next process is told to end, too", kv_int("next_pid", p->handover.pid));
		(void)kill(p->handover.pid, SIGTERM);
	}
	atomic_store(&p->shared.draining, true); /* first: who is accepted until the sockets are closed is told */
	begin_to_leave(p, PROXY_DRAINING, "shutting down: no new clients, transactions may end");
	workers_tell(p, drain, NULL, NULL);
	if (!p->handed_over) /* else the service goes on, in the next process */
		notify_stopping();
}

/* As long as it has clients. */
static void begin_to_wait(struct proxy *p)
{
	if (p->state != PROXY_RUNNING)
		return;
	begin_to_leave(p, PROXY_LEAVING, "shutting down when the last client has left: no new clients");
	p->drain_until = USEC_NEVER;
}

static void handed_over(struct proxy *p)
{
	p->handed_over = true;
	begin_to_leave(p, PROXY_HANDED_OVER, "the next process serves; this one finishes with its clients");
	workers_tell(p, take_visitors, NULL, p);
	admin_quiesce(p->admin);
	notify_main_pid(p->handover.pid);
	p->handover.pid = 0;
}

/* Not while it is suspended: the next process would serve, for which nothing was to move. */
static void begin_handover(struct proxy *p)
{
	bool is_suspended = suspension_is_on(&p->shared.suspension);
	int state = p->state == PROXY_RUNNING && !is_suspended ? handed_write(p) : -EALREADY, r = state;

	if (state >= 0) {
		r = handover_start(&p->handover, &p->listeners, &p->shared.predecessors, state, p->options->argv);
		close(state);
	}
	if (r < 0)
		log_event(EVENT_HANDOVER_FAILED, LOG_ERROR, "cannot start the next process; this one goes on",
			  kv_str("reason", is_suspended ? "suspended: RESUME comes first" : strerror(-r)));
	else
		log_event(EVENT_HANDOVER_BEGUN, LOG_INFO, "starting the next process",
			  kv_int("next_pid", p->handover.pid));
}

static void look_after_handover(struct proxy *p)
{
	switch (handover_poll(&p->handover)) {
	case HANDOVER_DONE:
		if (p->state == PROXY_RUNNING)
			handed_over(p);
		else
			p->handover.pid = 0; /* SIGTERM came first: both end */
		break;
	case HANDOVER_FAILED:
		log_event(EVENT_HANDOVER_FAILED, LOG_ERROR,
			  "the next process did not start; this one goes on. Its own log says why");
		break;
	case HANDOVER_NONE:
	case HANDOVER_WAITING:
		break;
	}
}

/* Once no worker accepts any more the kernel refuses who comes (or the next process has them). */
static bool sockets_are_closed(struct proxy *p)
{
	if (!atomic_load(&p->nobody_accepts))
		return false;
	listen_set_close(&p->listeners, /* unlink_unix= */ !p->handed_over);
	return true;
}

static int end_by_force(struct proxy *p, const char *why, unsigned grace_ms)
{
	log_event(EVENT_PROXY_FORCED, LOG_WARN, "closing all clients at once", kv_str("reason", why),
		  kv_uint("clients", proxy_clients(p)));
	p->grace_ms = grace_ms;
	return EXIT_FORCED;
}

void control_ask_shutdown(void *proxy, enum console_shutdown how)
{
	struct proxy *p = proxy;

	atomic_store(&p->shutdown_asked, (int)how + 1);
	(void)pthread_kill(p->control, SIGNAL_MEMBERS); /* it looks at once */
}

/* The exit status, or -1: not yet. */
static int look_after_shutdown(struct proxy *p)
{
	int asked = atomic_exchange(&p->shutdown_asked, 0) - 1;

	if (asked == SHUTDOWN_AFTER_CLIENTS)
		begin_to_wait(p);
	else if (asked >= 0 && p->state != PROXY_DRAINING)
		begin_drain(p);
	if (asked != SHUTDOWN_NOW)
		return -1;
	(void)end_by_force(p, "SHUTDOWN on the console", GRACE_AT_ONCE_MS);
	return EXIT_OK;
}

/* The exit status, or -1: not yet. */
static int is_the_end(struct proxy *p)
{
	if (p->state == PROXY_RUNNING)
		return -1;
	if (sockets_are_closed(p) && proxy_clients(p) == 0) {
		p->grace_ms = GRACE_MS;
		return EXIT_OK;
	}
	if (clock_update() >= p->drain_until)
		return end_by_force(p, "shutdown_drain_timeout has passed", GRACE_FORCED_MS);
	return -1;
}

/* ---- the loop ---- */

static void workers_live(void *argument)
{
	struct proxy *p = argument;

	atomic_store(&p->workers_answered, true);
}

/* systemd hears that we live when every worker has answered, not only this thread: one that is stuck is noticed. */
static void look_after_watchdog(struct proxy *p, usec_t now)
{
	if (atomic_exchange(&p->workers_answered, false))
		notify_watchdog();
	if (now >= p->watchdog_at) {
		workers_tell(p, NULL, workers_live, p);
		p->watchdog_at = now + p->watchdog_period;
	}
}

/* How long to wait for signals: what is due is looked for so often. */
static struct timespec tick_period(const struct proxy *p)
{
	usec_t period = USEC_PER_SEC;

	if (p->state != PROXY_RUNNING || p->handover.pid)
		period = 5 * USEC_PER_MSEC;
	else if (p->watchdog_period)
		period = MIN(period, MAX(p->watchdog_period / 4, 5 * USEC_PER_MSEC));
	return (struct timespec){.tv_sec = (time_t)(period / USEC_PER_SEC),
				 .tv_nsec = (long)(period % USEC_PER_SEC * 1000)};
}

/*
 * A handshake needs some 25 kB, most of which it gives back, as holes between what lives on: a storm of clients would
 * have taken more than twice what it needs for good. Not after a few: the workers wait meanwhile, some milliseconds
 * after thousands.
 */
static void trim_memory(struct proxy *p)
{
	uint64_t handshakes = 0;

	for (uint32_t i = 0; i < p->thread_count; i++)
		handshakes += atomic_load_explicit(&p->threads[i].worker.pool_thread.counters.tls_handshakes_total,
						   memory_order_relaxed);
	if (handshakes - p->trimmed_at < HANDSHAKES_TO_TRIM)
		return;
	p->trimmed_at = handshakes;
	(void)malloc_trim(0);
}

/* Links to a machine that a name no longer leads to are closed when they are free. */
static void look_up_names(struct proxy *p)
{
	uint32_t moved = node_list_resolve(p->nodes, p->config->health.dns_interval, p->resolve_all);

	p->resolve_all = false;
	if (moved)
		(void)pools_follow(p->pools);
}

static void tick(struct proxy *p)
{
	usec_t now = clock_update();

	jobs_run(p);
	look_up_names(p);
	pools_keep_stats(p->pools);
	watch_tick(p);
	admin_tick(p->admin);
	if (now >= p->sweep_at) {
		pools_sweep(p->pools);
		trim_memory(p);
		p->sweep_at = now + SWEEP_PERIOD;
	}
	if (p->watchdog_period)
		look_after_watchdog(p, now);
	if (atomic_exchange(&p->reload_asked, false))
		reload(p);
	look_after_handover(p);
}

/* The exit status, or -1: go on. */
static int take_signal(struct proxy *p, int number)
{
	switch (number) {
	case SIGHUP:
		reload(p);
		break;
	case SIGUSR1:
		log_reopen();
		log_info("log file opened anew");
		break;
	case SIGUSR2:
		begin_handover(p);
		break;
	case SIGTERM:
	case SIGINT:
	case SIGQUIT:
		if (p->state == PROXY_DRAINING)
			return end_by_force(p, "second signal", GRACE_AT_ONCE_MS);
		begin_drain(p);
		break;
	}
	return -1;
}

sigset_t control_signals(void)
{
	const int numbers[] = {SIGHUP, SIGUSR1, SIGUSR2, SIGTERM, SIGINT, SIGQUIT, SIGNAL_MEMBERS};
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		sigaddset(&set, numbers[i]);
	return set;
}

int control_loop(struct proxy *p)
{
	sigset_t set = control_signals();

	for (;;) {
		struct timespec wait = tick_period(p);
		int number = sigtimedwait(&set, NULL, &wait), status;

		status = number > 0 ? take_signal(p, number) : -1;
		if (status >= 0)
			return status;
		tick(p);
		status = look_after_shutdown(p);
		if (status < 0)
			status = is_the_end(p);
		if (status >= 0)
			return status;
	}
}
