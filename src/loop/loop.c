/*
 * The turn, and what others put into it: messages, timers, deferred calls.
 *
 * Mailbox: senders push with one compare-and-swap, the loop takes the whole list at once
 * and turns it around. Waking it costs the sender a system call only when the loop sleeps:
 * the loop says `asleep`, then looks into the mailbox again; a sender pushes, then looks at
 * `asleep`. Both are sequentially consistent, so one of them sees the other.
 *
 * A loop may run others, its followers, within its turns (see crew.c). It waits for all of them at once: all say
 * `asleep` before the wait, and none after it, so what they post to each other costs no system call.
 */
#include "loop/loop_priv.h"

#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define FLUSH_PASSES       16
#define HANDSHAKES_AT_ONCE 4
#define STALL              100u /* µs: more than asking once takes, or than a server's process that has its turn */

static void ignore_sigpipe(void)
{
	struct sigaction now;

	/* OpenSSL and the kernel's TLS write without MSG_NOSIGNAL. */
	if (sigaction(SIGPIPE, NULL, &now) == 0 && !(now.sa_flags & SA_SIGINFO) && now.sa_handler == SIG_DFL)
		signal(SIGPIPE, SIG_IGN);
}

static int open_backend(struct loop *loop, const char *backend)
{
	loop->poll = strcmp(backend, uring_ops.name) == 0 ? &uring_ops : &epoll_ops;
	return loop->poll->open(loop);
}

const char *loop_refusal(int error)
{
	switch (-error) {
	case ENOTSUP:
		return "it isn't in this build";
	case ENOSYS:
		return "this kernel has none";
	case EPERM:
	case EACCES:
		return "it is forbidden here (the container's seccomp profile, or sysctl kernel.io_uring_disabled)";
	case EPROTONOSUPPORT:
		return "this kernel's sends don't tell what is needed";
	case EINVAL:
		return "this kernel is older than 6.1";
	default:
		return strerror(-error);
	}
}

const char *loop_backend(const struct loop *loop)
{
	return loop->poll->name;
}

int loop_new(const char *backend, void *thread, struct loop **ret_loop)
{
	struct loop *loop;
	int r;

	loop = aligned_alloc(_Alignof(struct loop), sizeof(*loop));
	if (!loop)
		return -ENOMEM;
	memset(loop, 0, sizeof(*loop));
	loop->thread = thread;
	list_init(&loop->dirty);
	list_init(&loop->later);
	list_init(&loop->resumed);
	list_init(&loop->again);
	list_init(&loop->deferred);
	list_init(&loop->handshakes[0]);
	list_init(&loop->handshakes[1]);
	list_init(&loop->conns);
	list_init(&loop->followers);
	list_init(&loop->following);
	atomic_init(&loop->lead, loop);
	loop->may_be_ready = true;
	turn_init(loop);
	loop->timers = timer_wheel_new(clock_update());
	loop->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	r = !loop->timers ? -ENOMEM : loop->wake_fd < 0 ? -errno : open_backend(loop, backend);
	if (r < 0) {
		if (loop->wake_fd >= 0)
			close(loop->wake_fd);
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

/* Both are lists of conns by `dirty`. */
static void move_all(struct list *from, struct list *to)
{
	struct list *node;

	while ((node = list_first(from))) {
		list_remove(node);
		list_push_back(to, node);
	}
}

/* Writes all that is queued, or leaves up to `later` conns to the wait. When nothing is left turn memory is free. */
static void flush(struct loop *loop, uint32_t later)
{
	struct list *node;

	move_all(&loop->later, &loop->dirty);
	while ((node = list_first(&loop->dirty))) {
		struct conn *conn = list_entry(node, struct conn, dirty);

		list_remove(node);
		if (later > 0 && conn_may_send_later(conn)) {
			list_push_back(&loop->later, node);
			later--;
		} else {
			conn_flush(conn);
		}
	}
	if (list_is_empty(&loop->later))
		turn_reset(loop);
}

void loop_flush(struct loop *loop)
{
	flush(loop, 0);
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
		loop_flush_if_much(loop);
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

/* What happened to those since they were left to the wait may need more than writing. */
static bool all_may_be_later(const struct loop *loop)
{
	list_for_each (node, &loop->later) {
		if (!conn_may_send_later(list_entry(node, struct conn, dirty)))
			return false;
	}
	return true;
}

/*
 * With io_uring what can wait is written together with the waiting, in one system call. Not when a deferred call may
 * free what is queued.
 */
static void end_turn(struct loop *loop)
{
	for (int pass = 0; pass == 0 || (pass < FLUSH_PASSES && !(is_settled(loop) && all_may_be_later(loop)));
	     pass++) {
		bool at_once = !loop->poll->room || !list_is_empty(&loop->deferred);

		show_resumed(loop, &loop->resumed);
		flush(loop, at_once ? 0 : loop->poll->room(loop));
		if (list_is_empty(&loop->later))
			run_deferred(loop);
	}
	if (!all_may_be_later(loop))
		flush(loop, 0);
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

/* ---- waiting ---- */

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
		loop_flush_if_much(loop);
	}
}

static usec_t time_to_wait(struct loop *loop, usec_t at_most)
{
	if (at_most == 0 || !is_settled(loop) || !list_is_empty(&loop->again) || next_handshake(loop))
		return 0;
	return MIN(at_most, timer_wheel_next(loop->timers, clock_now()));
}

/* False: there is something to do. */
static bool fall_asleep(struct loop *loop)
{
	atomic_store(&loop->asleep, true);
	return !atomic_load(&loop->mailbox) && !atomic_load(&loop->stop);
}

static void be_awake(struct loop *loop)
{
	if (atomic_load_explicit(&loop->asleep, memory_order_relaxed))
		atomic_store(&loop->asleep, false);
}

static void wait_for_events(struct loop *loop, usec_t wait)
{
	if (wait > 0 && !fall_asleep(loop))
		wait = 0;
	if (likely(loop->may_be_ready))
		(void)loop->poll->wait(loop, wait);
	be_awake(loop);
}

/* ---- followers ---- */

static struct loop *follower_of(struct list *node)
{
	return list_entry(node, struct loop, following);
}

static bool has_mail(const struct loop *loop)
{
	return atomic_load_explicit(&loop->mailbox, memory_order_relaxed) != NULL;
}

static bool any_has_mail(const struct loop *loop)
{
	list_for_each (node, &loop->followers)
		if (has_mail(follower_of(node)))
			return true;
	return has_mail(loop);
}

/*
 * Asks again and again instead of sleeping: whoever is awake when something comes needs not be woken, which takes
 * longer than most of what is waited for. No one needs to write to wake_fd meanwhile. False: nothing has come.
 */
static bool spin(struct loop *loop, usec_t at_most)
{
	usec_t began = clock_update(), now = began, before;
	bool found = false;

	while (!found && now - began < at_most && !atomic_load_explicit(&loop->stop, memory_order_relaxed)) {
		found = loop->poll->wait(loop, 0) || any_has_mail(loop);
		count(&loop->counters.spins, !found);
		if (!found)
			sched_yield(); /* what has been put on this core, for it was to sleep, comes first */
		before = now;
		now = clock_update();
		if (unlikely(now - before > STALL))
			count(&loop->counters.lost_us, now - before);
	}
	count(&loop->counters.spun_us, now - began);
	return found;
}

static usec_t time_to_wait_for_all(struct loop *loop, usec_t wait)
{
	list_for_each (node, &loop->followers)
		wait = time_to_wait(follower_of(node), wait);
	return wait;
}

static void wait_for_all(struct loop *loop, usec_t wait)
{
	if (wait > 0)
		list_for_each (node, &loop->followers)
			wait = fall_asleep(follower_of(node)) ? wait : 0;
	wait_for_events(loop, wait);
	list_for_each (node, &loop->followers)
		be_awake(follower_of(node));
}

/* Mail or a timer alone is no reason to ask the kernel. */
static void run_followers(struct loop *loop)
{
	list_for_each (node, &loop->followers) {
		struct loop *follower = follower_of(node);

		clock_update();
		if (!follower->may_be_ready && time_to_wait(follower, USEC_NEVER) > 0 &&
		    !atomic_load_explicit(&follower->mailbox, memory_order_relaxed))
			continue;
		loop_run_turn(follower, 0);
		follower->may_be_ready = false;
	}
}

/* Of one that leads, or spins. */
static void wait_for_something(struct loop *loop, usec_t wait, usec_t spins)
{
	wait = time_to_wait_for_all(loop, wait);
	if (spins > 0 && wait > 0) {
		spins = MIN(spins, wait);
		if (spin(loop, spins))
			return;
		wait = wait == USEC_NEVER ? wait : wait - spins;
	}
	wait_for_all(loop, wait);
}

/* ---- the turn ---- */

void loop_run_turn(struct loop *loop, usec_t wait_at_most)
{
	bool leads = !list_is_empty(&loop->followers);
	usec_t began = clock_now(), wait = time_to_wait(loop, wait_at_most);
	uint32_t spins = atomic_load_explicit(&loop->spin, memory_order_relaxed);

	if (unlikely(leads || spins > 0))
		wait_for_something(loop, wait, spins);
	else
		wait_for_events(loop, wait);
	if (clock_update() - began <= atomic_load_explicit(&loop->soon, memory_order_relaxed))
		count(&loop->counters.soon, 1);
	count(&loop->counters.turns, 1);
	show_resumed(loop, &loop->again);
	loop->poll->dispatch(loop);
	run_messages(loop);
	timer_wheel_run(loop->timers, clock_now());
	end_turn(loop);
	run_handshakes(loop);
	if (unlikely(leads))
		run_followers(loop);
}

int loop_follow(struct loop *loop, struct loop *lead)
{
	int r = loop->poll->follow && loop->poll == lead->poll ? loop->poll->follow(loop, lead) : -ENOTSUP;

	if (r < 0)
		return r;
	list_push_back(&lead->followers, &loop->following);
	atomic_store_explicit(&loop->lead, lead, memory_order_relaxed);
	return 0;
}

void loop_unfollow(struct loop *loop)
{
	struct loop *lead = atomic_load_explicit(&loop->lead, memory_order_relaxed);

	loop->poll->unfollow(loop, lead);
	list_remove(&loop->following);
	loop->may_be_ready = true;
	atomic_store_explicit(&loop->lead, loop, memory_order_relaxed);
}

void loop_let_go(struct loop *loop)
{
	if (loop->poll->let_go)
		loop->poll->let_go(loop);
}

bool loop_shares_thread(const struct loop *loop, const struct loop *with)
{
	return atomic_load_explicit(&loop->lead, memory_order_relaxed) ==
	       atomic_load_explicit(&with->lead, memory_order_relaxed);
}

bool loop_leads(const struct loop *loop)
{
	return atomic_load_explicit(&loop->lead, memory_order_relaxed) == loop;
}

void loop_leave(struct loop *loop)
{
	flush(loop, 0);
	list_for_each (node, &loop->followers)
		flush(follower_of(node), 0);
	atomic_store(&loop->stop, false);
}

void loop_run(struct loop *loop)
{
	while (!atomic_load_explicit(&loop->stop, memory_order_relaxed))
		loop_run_turn(loop, USEC_NEVER);
	loop_leave(loop);
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
	loop->poll->close(loop);
	close(loop->wake_fd);
	timer_wheel_free(loop->timers);
	free(loop);
}
