/* Loops go from thread to thread while they are used; to be run under ThreadSanitizer too. */
#include "loop/crew.h"
#include "loop/loop_test_util.h"

#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>

#define LOOPS 3

static struct loop *loops[LOOPS];
static struct crew *crew;

static void *const names[LOOPS] = {(void *)1, (void *)2, (void *)3}; /* what messages are told of their loop */

static void start(crew_judge_function *judge)
{
	for (int i = 0; i < LOOPS; i++)
		assert_int_equal(loop_new(backend, names[i], &loops[i]), 0);
	assert_int_equal(crew_start(loops, LOOPS, judge, "crew", &crew), 0);
}

static void end(void)
{
	crew_stop(crew);
	for (int i = 0; i < LOOPS; i++)
		loop_free(loops[i]);
}

static void force(uint32_t threads)
{
	assert_int_equal(crew_force(crew, threads), 0);
}

/* ---- who runs a loop ---- */

struct question {
	struct loop_message message;
	pthread_t answer;
	_Atomic bool answered;
};

static void who_runs(struct loop_message *message, void *thread UNUSED)
{
	struct question *q = container_of(message, struct question, message);

	q->answer = pthread_self();
	atomic_store(&q->answered, true);
}

static pthread_t ask(struct loop *loop)
{
	struct question q = {.message.run = who_runs};

	loop_post(loop, &q.message);
	while (!atomic_load(&q.answered))
		sched_yield();
	return q.answer;
}

static bool share(int a, int b)
{
	return pthread_equal(ask(loops[a]), ask(loops[b]));
}

static void as_many_threads_as_it_is_told(void **state UNUSED)
{
	start(crew_judge);
	assert_true(share(0, 1) && share(0, 2));
	assert_true(loop_shares_thread(loops[1], loops[2]));
	force(2);
	while (share(0, 1) || !share(0, 2))
		;
	assert_int_equal(atomic_load(&crew_counters(crew)->active), 2);
	force(3);
	while (share(0, 1) || share(0, 2) || share(1, 2))
		;
	assert_false(loop_shares_thread(loops[1], loops[2]));
	force(100);
	assert_int_equal(atomic_load(&crew_counters(crew)->active), 3);
	force(1);
	while (!share(0, 1) || !share(0, 2))
		;
	assert_int_equal(atomic_load(&crew_counters(crew)->splits), 2);
	assert_int_equal(atomic_load(&crew_counters(crew)->joins), 1);
	end();
}

static void a_fixed_one_has_a_thread_for_each(void **state UNUSED)
{
	start(NULL);
	assert_int_equal(crew_force(crew, 1), -ENOTSUP);
	assert_false(share(0, 1) || share(0, 2) || share(1, 2));
	assert_int_equal(atomic_load(&crew_counters(crew)->active), LOOPS);
	end();
}

static void ends_while_parked_and_on_the_way(void **state UNUSED)
{
	for (uint32_t i = 0; i < 200; i++) {
		start(crew_judge);
		force(1 + i % LOOPS);
		if (i % 2)
			force(1 + i / 2 % LOOPS);
		end();
	}
}

/* ---- under fire ---- */

#define TOKENS 8
#define HOPS   20000

struct token {
	struct loop_message message;
	int hops;
	_Atomic bool done;
};

static uint64_t runs[LOOPS]; /* not atomic: each is its loop's own */

static int number_of(void *thread)
{
	return (int)(uintptr_t)thread - 1;
}

/* To the next loop, the one before, or the same. */
static void hop(struct loop_message *message, void *thread)
{
	struct token *t = container_of(message, struct token, message);
	int at = number_of(thread);

	runs[at]++;
	if (++t->hops == HOPS)
		atomic_store(&t->done, true);
	else
		loop_post(loops[(at + t->hops) % LOOPS], &t->message);
}

/* A timer that sets itself again, in each loop: followers' timers are waited for, too. */
struct ticker {
	struct loop_message message;
	struct timer timer;
	struct loop *loop;
	_Atomic int ticks;
};

static void tick(struct timer *timer)
{
	struct ticker *t = container_of(timer, struct ticker, timer);

	atomic_fetch_add(&t->ticks, 1);
	timer_set(loop_timers(t->loop), timer, clock_now() + 10 * USEC_PER_MSEC);
}

static void begin_ticking(struct loop_message *message, void *thread)
{
	struct ticker *t = container_of(message, struct ticker, message);

	t->loop = loops[number_of(thread)];
	timer_init(&t->timer, tick);
	tick(&t->timer);
}

static void end_ticking(struct loop_message *message, void *thread UNUSED)
{
	struct ticker *t = container_of(message, struct ticker, message);

	timer_cancel(&t->timer);
	atomic_store(&t->ticks, -1);
}

static size_t echo(struct conn *conn, uint8_t *bytes, size_t len)
{
	conn_send_ref(conn, bytes, len);
	return len;
}

static const struct conn_ops echoing = {.received = echo, .closed = probe_closed};

/* Says something, and waits for the echo. False: not all came back. */
static void talk(int fd)
{
	char c = 'q';

	assert_int_equal(write(fd, &c, 1), 1);
	c = 0;
	while (read(fd, &c, 1) != 1)
		;
	assert_int_equal(c, 'q');
}

static void loops_change_hands_under_fire(void **state UNUSED)
{
	struct token tokens[TOKENS] = {0};
	struct ticker tickers[LOOPS] = {0};
	struct probe probes[LOOPS];
	int fds[LOOPS], left = TOKENS;
	uint32_t changes = 0;
	uint64_t total = 0;

	memset(runs, 0, sizeof(runs));
	for (int i = 0; i < LOOPS; i++) {
		assert_int_equal(loop_new(backend, names[i], &loops[i]), 0);
		fds[i] = open_probe(loops[i], &probes[i]);
		probes[i].conn.ops = &echoing;
	}
	assert_int_equal(crew_start(loops, LOOPS, crew_judge, "crew", &crew), 0);
	for (int i = 0; i < LOOPS; i++) {
		tickers[i].message.run = begin_ticking;
		loop_post(loops[i], &tickers[i].message);
	}
	for (int i = 0; i < TOKENS; i++) {
		tokens[i].message.run = hop;
		loop_post(loops[i % LOOPS], &tokens[i].message);
	}
	while (left > 0 || changes < 300) {
		force(changes++ % LOOPS + 1);
		for (int i = 0; i < LOOPS; i++)
			talk(fds[i]);
		left = 0;
		for (int i = 0; i < TOKENS; i++)
			left += !atomic_load(&tokens[i].done);
	}
	for (uint32_t threads = 1; threads <= LOOPS; threads++) { /* and when nothing else happens */
		force(threads);
		for (int i = 0; i < LOOPS; i++) {
			int seen = atomic_load(&tickers[i].ticks);

			while (atomic_load(&tickers[i].ticks) < seen + 2)
				sched_yield();
		}
	}
	for (int i = 0; i < LOOPS; i++) {
		tickers[i].message.run = end_ticking;
		loop_post(loops[i], &tickers[i].message);
		while (atomic_load(&tickers[i].ticks) >= 0)
			sched_yield();
	}
	crew_stop(crew);
	for (int i = 0; i < LOOPS; i++) {
		total += runs[i];
		close(fds[i]);
		probe_end(&probes[i]);
		loop_free(loops[i]);
	}
	assert_int_equal(total, TOKENS * HOPS);
}

/* ---- by load ---- */

/* ---- what is under way ---- */

#define TALKERS 12
#define AHEAD   (300u << 10) /* of what has come back: above CONN_HIGH_WATER, and more than a socket holds */

/* One end is a conn that sends back what comes; the other one is the test's, which knows what it said. */
struct talker {
	struct conn conn;
	int fd;
	size_t said, heard;
};

/* Takes a part, now and then: the rest is kept, and shown again. */
static size_t send_back(struct conn *conn, uint8_t *bytes, size_t len)
{
	size_t used = len % 7 == 0 ? len - len / 3 : len;

	conn_send_ref(conn, bytes, used);
	if (conn_queued(conn) > CONN_HIGH_WATER)
		conn_pause(conn);
	else if (used < len)
		conn_resume(conn);
	return used;
}

static void let_down(struct conn *conn UNUSED, int error UNUSED)
{
	fail_msg("a conn was closed");
}

static const struct conn_ops sending_back = {.received = send_back, .closed = let_down, .drained = conn_resume};

static uint8_t byte_at(size_t at)
{
	return (uint8_t)((at * 2654435761u) >> 13);
}

static void say(struct talker *t, size_t len)
{
	static uint8_t bytes[64 << 10];
	ssize_t n;

	len = MIN(len, MIN(sizeof(bytes), AHEAD - (t->said - t->heard)));
	for (size_t i = 0; i < len; i++)
		bytes[i] = byte_at(t->said + i);
	n = write(t->fd, bytes, len);
	t->said += n > 0 ? (size_t)n : 0;
}

static void hear(struct talker *t)
{
	static uint8_t bytes[64 << 10];
	ssize_t n = read(t->fd, bytes, sizeof(bytes));

	for (ssize_t i = 0; i < n; i++)
		if (bytes[i] != byte_at(t->heard + (size_t)i))
			fail_msg("another byte was expected at %zu", t->heard + (size_t)i);
	t->heard += n > 0 ? (size_t)n : 0;
}

/* From a few bytes to streams, and while a loop is on its way: each of them comes back, and in its order. */
static void bytes_keep_their_order(void **state UNUSED)
{
	struct talker talkers[TALKERS] = {0};
	uint32_t random = 1, changes = 0;
	int fds[2];

	for (int i = 0; i < LOOPS; i++)
		assert_int_equal(loop_new(backend, names[i], &loops[i]), 0);
	for (int i = 0; i < TALKERS; i++) {
		socket_pair(fds);
		talkers[i].fd = fds[1];
		conn_init(&talkers[i].conn, &sending_back);
		assert_int_equal(conn_open(&talkers[i].conn, loops[i % LOOPS], fds[0]), 0);
	}
	assert_int_equal(crew_start(loops, LOOPS, crew_judge, "crew", &crew), 0);
	for (int round = 0; round < 3000; round++) {
		struct talker *t = &talkers[random % TALKERS];

		random = random * 1664525u + 1013904223u;
		say(t, random >> 31 ? random >> 15 & 0xffff : random >> 20 & 0x3f);
		hear(&talkers[(random >> 8) % TALKERS]);
		if (round % 10 == 0)
			force(changes++ % LOOPS + 1);
	}
	for (int i = 0; i < TALKERS; i++)
		while (talkers[i].heard < talkers[i].said) {
			hear(&talkers[i]);
			force(changes++ % LOOPS + 1);
		}
	crew_stop(crew);
	for (int i = 0; i < TALKERS; i++) {
		conn_close(&talkers[i].conn);
		close(talkers[i].fd);
	}
	for (int i = 0; i < LOOPS; i++)
		loop_free(loops[i]);
}

/* The same on one thread, step by step: what the kernel had taken out of the socket is shown by whoever runs it next.
 */
static void what_has_come_goes_along(void **state UNUSED)
{
	struct loop *lead, *loop = new_loop();
	struct probe p, other, leaving;
	int fd = open_probe(loop, &p), fd_other, fd_leaving;

	assert_int_equal(loop_new(backend, NULL, &lead), 0);
	fd_leaving = open_probe(lead, &leaving);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(loop_follow(loop, lead), 0);
		settle(lead);
		put(fd, "bytes ");
		if (i % 2) { /* so the ring is asked, in the middle of a turn */
			assert_int_equal(conn_detach(&leaving.conn), 0);
			assert_int_equal(conn_attach(&leaving.conn, lead), 0);
		}
		put(fd, "more");
		loop_unfollow(loop);
		fd_other = open_probe(loop, &other);
		put(fd_other, "not the same"); /* comes before those are shown */
		if (i % 4 < 2) {
			run_until(loop, p.got.len == 10 && other.got.len == 12);
			loop_let_go(loop);
		} else {
			assert_int_equal(loop_follow(loop, lead), 0);
			run_until(lead, p.got.len == 10 && other.got.len == 12);
			loop_unfollow(loop);
		}
		assert_true(probe_got(&p, "bytes more"));
		assert_true(probe_got(&other, "not the same"));
		p.got.len = 0;
		probe_end(&other);
		close(fd_other);
	}
	probe_end(&p);
	probe_end(&leaving);
	close(fd);
	close(fd_leaving);
	loop_free(loop);
	loop_free(lead);
}

/* More than the rings have room for at once. */
static void a_crowd_changes_hands(void **state UNUSED)
{
	struct rlimit limit;
	struct loop *lead, *loop = new_loop();
	struct probe *probes;
	int *fds, crowd;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = MIN(limit.rlim_max, 6000);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	crowd = (int)(limit.rlim_cur / 2 - 100);
	probes = calloc((size_t)crowd, sizeof(*probes));
	fds = calloc((size_t)crowd, sizeof(*fds));
	assert_int_equal(loop_new(backend, NULL, &lead), 0);
	for (int i = 0; i < crowd; i++)
		fds[i] = open_probe(loop, &probes[i]);
	for (size_t round = 1; round <= 4; round++) {
		if (round % 2 == 0)
			assert_int_equal(loop_follow(loop, lead), 0);
		settle(round % 2 ? loop : lead);
		for (int i = 0; i < crowd; i++)
			put(fds[i], "a");
		if (round > 2)
			loop_run_turn(round % 2 ? loop : lead, 0);
		round % 2 ? loop_let_go(loop) : loop_unfollow(loop);
		for (int i = 0; i < crowd; i++)
			put(fds[i], "b");
		for (int i = 0; i < crowd; i++)
			run_until(loop, probes[i].got.len == 2 * round);
		for (int i = 0; i < crowd; i++)
			assert_memory_equal(probes[i].got.bytes + 2 * round - 2, "ab", 2);
		loop_let_go(loop);
	}
	for (int i = 0; i < crowd; i++) {
		probe_end(&probes[i]);
		close(fds[i]);
	}
	loop_free(loop);
	loop_free(lead);
	free(probes);
	free(fds);
}

/* The kernel did something for it until then. */
static void a_conn_leaves_a_loop_whose_thread_has_ended(void **state UNUSED)
{
	struct probe p;
	int fd;

	assert_int_equal(loop_new(backend, names[0], &loops[0]), 0);
	fd = open_probe(loops[0], &p);
	p.conn.ops = &echoing;
	assert_int_equal(crew_start(loops, 1, crew_judge, "crew", &crew), 0);
	talk(fd);
	crew_stop(crew);
	loop_run_turn(loops[0], 0);
	assert_int_equal(conn_detach(&p.conn), 0);
	assert_int_equal(conn_attach(&p.conn, loops[0]), 0);
	probe_end(&p);
	close(fd);
	loop_free(loops[0]);
}

/* ---- the load ---- */

#define PAIRS 24 /* each wait brings as many events as there are bytes under way: one of each pair */

static _Atomic bool rests;

static size_t bounce(struct conn *conn, uint8_t *bytes, size_t len)
{
	if (!atomic_load(&rests))
		conn_send_ref(conn, bytes, len);
	return len;
}

static const struct conn_ops bouncing = {.received = bounce, .closed = probe_closed};

/* As crew_judge() does, but whatever the CPU time: other programs may leave us little. */
static uint32_t judge_by_batch(struct crew_memory *memory UNUSED, const struct crew_window *window, usec_t now UNUSED,
			       uint32_t active, uint32_t most)
{
	assert_int_equal(most, LOOPS);
	assert_true(window->batch_most <= window->batch_sum && window->busy_most <= window->busy_sum);
	return window->batch_most > 10 * PAIRS / 2 ? MIN(active + 1, most) : window->batch_sum < 50 ? 1 : active;
}

static bool always(struct trial *trial UNUSED, const struct spin_window *window, usec_t now UNUSED)
{
	assert_true(window->length > 0);
	return true;
}

static void the_load_decides(void **state UNUSED)
{
	struct probe probes[PAIRS][2];

	atomic_store(&rests, false);
	for (int i = 0; i < LOOPS; i++)
		assert_int_equal(loop_new(backend, names[i], &loops[i]), 0);
	for (int i = 0; i < PAIRS; i++) {
		int fd = open_probe(loops[1], &probes[i][0]);

		probe_init(&probes[i][1]);
		assert_int_equal(conn_open(&probes[i][1].conn, loops[1], fd), 0);
		probes[i][0].conn.ops = probes[i][1].conn.ops = &bouncing;
		conn_send(&probes[i][0].conn, "x", 1);
	}
	assert_int_equal(crew_start(loops, LOOPS, judge_by_batch, "crew", &crew), 0);
	crew_let_spin(crew, USEC_PER_MSEC, always);
	while (atomic_load(&crew_counters(crew)->active) < LOOPS || atomic_load(&crew_counters(crew)->spins))
		sched_yield();
	assert_true(atomic_load(&crew_counters(crew)->splits) >= 2); /* more, if the machine stalled in between */
	atomic_store(&rests, true);
	while (atomic_load(&crew_counters(crew)->active) > 1) { /* it takes a turn now and then to find out */
		ask(loops[0]);
		usleep(1000);
	}
	crew_stop(crew);
	for (int i = 0; i < PAIRS; i++) {
		probe_end(&probes[i][0]);
		probe_end(&probes[i][1]);
	}
	for (int i = 0; i < LOOPS; i++)
		loop_free(loops[i]);
}

/* ---- spinning ---- */

static uint64_t spins(void)
{
	return __atomic_load_n(&loop_counters(loops[0])->spins, __ATOMIC_RELAXED);
}

static bool is_told_to(void)
{
	return atomic_load(&crew_counters(crew)->spins);
}

/* It takes a turn now and then to find out. */
static void wait_until_it_spins(int count)
{
	uint64_t before;

	while (!is_told_to())
		ask(loops[0]);
	for (int i = 0; i < count; i++)
		for (before = spins(); spins() == before;)
			ask(loops[i]);
}

/* The turns that are under way do it to their end. */
static void check_that_it_does_not_spin(int count)
{
	uint64_t before;

	assert_false(is_told_to());
	ask(loops[0]);
	ask(loops[0]);
	before = spins();
	for (int i = 0; i < 100; i++)
		ask(loops[i % count]);
	assert_int_equal(spins(), before);
}

static void one_spins_as_long_as_it_may(void **state UNUSED)
{
	uint64_t before;

	assert_int_equal(loop_new(backend, names[0], &loops[0]), 0);
	assert_int_equal(crew_start(loops, 1, crew_judge, "crew", &crew), 0);
	check_that_it_does_not_spin(1);
	crew_let_spin(crew, USEC_PER_MSEC, always);
	wait_until_it_spins(1);
	do { /* and not when there is nothing to do, though it is told to */
		before = spins();
		usleep(20000);
	} while (spins() != before);
	assert_true(is_told_to());
	wait_until_it_spins(1);
	crew_let_spin(crew, 0, always);
	check_that_it_does_not_spin(1);
	crew_let_spin(crew, USEC_PER_SEC, always);
	wait_until_it_spins(1);
	crew_stop(crew); /* in the middle of it */
	loop_free(loops[0]);
}

static void of_several_one_spins_that_is_alone(void **state UNUSED)
{
	start(crew_judge);
	crew_let_spin(crew, USEC_PER_MSEC, always);
	wait_until_it_spins(LOOPS);
	force(2);
	check_that_it_does_not_spin(LOOPS);
	force(1);
	force(0);
	wait_until_it_spins(LOOPS);
	end();
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_many_threads_as_it_is_told),
		cmocka_unit_test(a_fixed_one_has_a_thread_for_each),
		cmocka_unit_test(ends_while_parked_and_on_the_way),
		cmocka_unit_test(loops_change_hands_under_fire),
		cmocka_unit_test(bytes_keep_their_order),
		cmocka_unit_test(what_has_come_goes_along),
		cmocka_unit_test(a_crowd_changes_hands),
		cmocka_unit_test(a_conn_leaves_a_loop_whose_thread_has_ended),
		cmocka_unit_test(the_load_decides),
		cmocka_unit_test(one_spins_as_long_as_it_may),
		cmocka_unit_test(of_several_one_spins_that_is_alone),
	};

	choose_backend(argc, argv);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
