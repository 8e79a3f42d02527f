/*
 * The turn, and what others put into it: messages, timers, deferred calls.
 *
 * Mailbox: senders push with one compare-and-swap, the loop takes the whole list at once
 * and turns it around. Waking it costs the sender a system call only when the loop sleeps:
 * the loop says `asleep`, then looks into the mailbox again; a sender pushes, then looks at
 * `asleep`. Both are sequentially consistent, so one of them sees the other.
 */
#include "loop/loop_priv.h"

#include <signal.h>
#include <unistd.h>

#define FLUSH_PASSES       16
#define HANDSHAKES_AT_ONCE 4

static void ignore_sigpipe(void)
{
	struct sigaction now;

	/* OpenSSL and the kernel's TLS write without MSG_NOSIGNAL. */
	if (sigaction(SIGPIPE, NULL, &now) == 0 && !(now.sa_flags & SA_SIGINFO) && now.sa_handler == SIG_DFL)
		signal(SIGPIPE, SIG_IGN);
}

int loop_new(const char *backend, void *thread, struct loop **ret_loop)
{
	struct loop *loop;
	int r;

	if (backend && strcmp(backend, "auto") != 0 && strcmp(backend, "epoll") != 0)
		return -ENOTSUP;
	loop = aligned_alloc(_Alignof(struct loop), sizeof(*loop));
	if (!loop)
		return -ENOMEM;
	memset(loop, 0, sizeof(*loop));
	loop->thread = thread;
	list_init(&loop->dirty);
	list_init(&loop->resumed);
	list_init(&loop->again);
	list_init(&loop->deferred);
	list_init(&loop->handshakes[0]);
	list_init(&loop->handshakes[1]);
	list_init(&loop->conns);
	turn_init(loop);
	loop->timers = timer_wheel_new(clock_update());
	r = loop->timers ? poll_open(loop) : -ENOMEM;
	if (r < 0) {
		timer_wheel_free(loop->timers);
		free(loop);
		return r;
	}
	ignore_sigpipe();
	*ret_loop = loop;
	return 0;
}

struct timer_wheel *loop_timers(struct loop *loop)
{
	return loop->timers;
}

const struct loop_counters *loop_counters(const struct loop *loop)
{
	return &loop->counters;
}

/* ---- messages ---- */

static void wake(struct loop *loop)
{
	uint64_t one = 1;

	if (atomic_load(&loop->asleep) && atomic_exchange(&loop->asleep, false))
		(void)!write(loop->wake_fd, &one, sizeof(one));
}

void loop_post(struct loop *loop, struct loop_message *message)
{
	struct loop_message *head = atomic_load_explicit(&loop->mailbox, memory_order_relaxed);

	do {
		message->next = head;
	} while (!atomic_compare_exchange_weak(&loop->mailbox, &head, message));
	wake(loop);
}

void loop_stop(struct loop *loop)
{
	atomic_store(&loop->stop, true);
	wake(loop);
}

/* ---- the end of a turn ---- */

void loop_defer(struct loop *loop, struct loop_deferred *deferred)
{
	list_push_back(&loop->deferred, &deferred->node);
}

/* Writes all that is queued. After that turn memory is free. */
static void flush(struct loop *loop)
{
	struct list *node;

	while ((node = list_first(&loop->dirty))) {
		list_remove(node);
		conn_flush(list_entry(node, struct conn, dirty));
	}
	turn_reset(loop);
}

static void flush_if_much(struct loop *loop)
{
	if (unlikely(loop->turn.taken > LOOP_TURN_BYTES))
		flush(loop);
}

/* Those that are resumed meanwhile have their turn later. */
static void show_resumed(struct loop *loop, struct list *resumed)
{
	struct list now, *node;

	if (list_is_empty(resumed))
		return;
	list_init(&now);
	list_insert_after(resumed, &now);
	list_remove(resumed);
	while ((node = list_first(&now))) {
		list_remove(node);
		conn_show_again(list_entry(node, struct conn, resumed));
		flush_if_much(loop);
	}
}

static void run_deferred(struct loop *loop)
{
	struct list *node;

	while ((node = list_first(&loop->deferred))) {
		struct loop_deferred *deferred = list_entry(node, struct loop_deferred, node);

		list_remove(node);
		deferred->run(deferred);
	}
}

static bool is_settled(const struct loop *loop)
{
	return list_is_empty(&loop->resumed) && list_is_empty(&loop->dirty) && list_is_empty(&loop->deferred);
}

static void end_turn(struct loop *loop)
{
	for (int pass = 0; pass == 0 || (pass < FLUSH_PASSES && !is_settled(loop)); pass++) {
		show_resumed(loop, &loop->resumed);
		flush(loop);
		run_deferred(loop);
	}
}

/* ---- handshakes ---- */

static struct list *next_handshake(struct loop *loop)
{
	struct list *node = list_first(&loop->handshakes[0]);

	return node ? node : list_first(&loop->handshakes[1]);
}

/*
 * Each costs a hundred microseconds and more. When many clients come at once they wait in line, and those that are
 * served already never wait for more than a few of them: all that came for those is written by now.
 */
static void run_handshakes(struct loop *loop)
{
	struct list *node = next_handshake(loop);

	if (!node)
		return;
	for (int i = 0; i < HANDSHAKES_AT_ONCE && node; i++, node = next_handshake(loop)) {
		list_remove(node);
		conn_tls_handshake(list_entry(node, struct conn, resumed));
	}
	end_turn(loop);
}

/* ---- the turn ---- */

static void handle_events(struct loop *loop)
{
	while (loop->event_at < loop->event_count) {
		struct epoll_event event = loop->events[loop->event_at++];
		void *object = (void *)(uintptr_t)(event.data.u64 & ~(uint64_t)3);
		uint64_t drained;

		switch (event.data.u64 & 3) {
		case POLL_CONN:
			if (object) /* else it was closed meanwhile */
				conn_event(object, event.events);
			break;
		case POLL_LISTENER:
			listener_event(object);
			break;
		case POLL_WAKE:
			(void)!read(loop->wake_fd, &drained, sizeof(drained));
			break;
		}
		flush_if_much(loop);
	}
}

static void run_messages(struct loop *loop)
{
	struct loop_message *newest, *oldest = NULL, *next;

	if (!atomic_load_explicit(&loop->mailbox, memory_order_relaxed))
		return;
	for (newest = atomic_exchange(&loop->mailbox, NULL); newest; newest = next) {
		next = newest->next;
		newest->next = oldest;
		oldest = newest;
	}
	for (; oldest; oldest = next) {
		next = oldest->next;
		count(&loop->counters.messages, 1);
		oldest->run(oldest, loop->thread);
		flush_if_much(loop);
	}
}

static usec_t time_to_wait(struct loop *loop, usec_t at_most)
{
	if (at_most == 0 || !is_settled(loop) || !list_is_empty(&loop->again) || next_handshake(loop))
		return 0;
	return MIN(at_most, timer_wheel_next(loop->timers, clock_now()));
}

static void wait_for_events(struct loop *loop, usec_t wait)
{
	if (wait > 0) {
		atomic_store(&loop->asleep, true);
		if (atomic_load(&loop->mailbox) || atomic_load(&loop->stop))
			wait = 0;
	}
	poll_wait(loop, wait);
	if (atomic_load_explicit(&loop->asleep, memory_order_relaxed))
		atomic_store(&loop->asleep, false);
	clock_update();
}

void loop_run_turn(struct loop *loop, usec_t wait_at_most)
{
	wait_for_events(loop, time_to_wait(loop, wait_at_most));
	count(&loop->counters.turns, 1);
	show_resumed(loop, &loop->again);
	handle_events(loop);
	run_messages(loop);
	timer_wheel_run(loop->timers, clock_now());
	end_turn(loop);
	run_handshakes(loop);
}

void loop_run(struct loop *loop)
{
	while (!atomic_load_explicit(&loop->stop, memory_order_relaxed))
		loop_run_turn(loop, USEC_NEVER);
	atomic_store(&loop->stop, false);
}

void loop_close_all(struct loop *loop)
{
	struct list *node;

	while ((node = list_first(&loop->conns)))
		conn_fail(list_entry(node, struct conn, all), -ECANCELED);
}

bool loop_is_over(struct loop *loop)
{
	return list_is_empty(&loop->conns) && is_settled(loop) && list_is_empty(&loop->again) &&
	       !atomic_load(&loop->mailbox);
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	run_messages(loop);
	end_turn(loop);
	turn_destroy(loop);
	poll_close(loop);
	timer_wheel_free(loop->timers);
	free(loop);
}
