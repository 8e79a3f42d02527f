/*
 * See crew.h. Who runs a loop is its holder. Loops change hands under the lock, and only between turns: a thread that
 * is called (loop_stop() of the loop it leads with, or the condition when it is parked) gives away what is no longer
 * its own, calls those whose it is, and takes what is free and its own. So the lock is the edge between two holders.
 *
 *   parked --called, its loop is free--> active --called, not one of the first k--> parked
 *
 * The first of a thread's loops leads: it is loop i of thread i. The others follow it (loop_follow()).
 *
 * Whichever active thread ends a turn when the window is over looks at all of them. Nobody wakes up for it: where
 * nothing happens nothing has to be decided. Of several only the first has its loop told to spin, when it is alone.
 */
#include "loop/crew.h"

#include "base/log.h"
#include "loop/loop_priv.h"

#include <pthread.h>
#include <stdio.h>
#include <time.h>

#define WINDOW      (20 * USEC_PER_MSEC)
#define LEAST_WAITS 4u /* the mean of fewer says nothing */

struct crew_thread {
	struct crew *crew;
	uint32_t index;
	pthread_t thread;
	pthread_cond_t called;
	clockid_t cpu_clock;
	uint64_t cpu_at; /* µs, when the window began */
	bool looks;      /* something may have to be decided */
};

/* What is looked at of a loop's counters. */
#define COUNTS(X) X(events) X(waits) X(spins) X(spun_us) X(lost_us) X(soon) X(bytes_in)

struct crew_counts {
#define X(name) uint64_t name;
	COUNTS(X)
#undef X
};

struct crew_place {
	struct loop *loop;
	struct crew_thread *holder; /* NULL: free, for the thread whose it is */
	struct crew_counts at;      /* when the window began */
};

struct crew {
	pthread_mutex_t lock;
	struct crew_counters counters; /* written under the lock */
	_Atomic usec_t look_at;        /* the window's end; USEC_NEVER: nothing is decided */
	usec_t window_at;
	struct crew_memory memory;
	usec_t spin_most; /* 0: no thread ever spins */
	spin_judge_function *spin_judge;
	struct trial spinning;
	const char *name;
	uint32_t count, started;
	bool ending;
	crew_judge_function *judge; /* NULL: all are active for good */
	struct crew_thread *threads;
	struct crew_place places[];
};

static uint32_t active(const struct crew *crew)
{
	return atomic_load_explicit(&crew->counters.active, memory_order_relaxed);
}

const struct crew_counters *crew_counters(const struct crew *crew)
{
	return &crew->counters;
}

/* ---- who runs what; all of it under the lock ---- */

static struct crew_thread *owner_of(struct crew *crew, uint32_t place)
{
	return crew->ending ? NULL : &crew->threads[place % active(crew)];
}

static bool leads(const struct crew_thread *t)
{
	return t->crew->places[t->index].holder == t;
}

static void call(struct crew_thread *t)
{
	if (leads(t))
		loop_stop(t->crew->places[t->index].loop);
	else
		pthread_cond_signal(&t->called);
}

static void call_all(struct crew *crew)
{
	for (uint32_t i = 0; i < crew->started; i++)
		call(&crew->threads[i]);
}

/* The last first: the one that leads is the least. */
static void give(struct crew_thread *t)
{
	struct crew *crew = t->crew;

	for (uint32_t i = crew->count; i-- > 0;) {
		struct crew_place *place = &crew->places[i];
		struct crew_thread *owner = owner_of(crew, i);

		if (place->holder != t || owner == t)
			continue;
		if (i != t->index)
			loop_unfollow(place->loop);
		else
			loop_let_go(place->loop);
		place->holder = NULL;
		if (owner)
			call(owner);
	}
}

static void set_spinning(struct crew *crew, bool spins)
{
	struct loop *first = crew->places[0].loop;

	atomic_store_explicit(&first->spin, spins ? (uint32_t)crew->spin_most : 0, memory_order_relaxed);
	atomic_store_explicit(&crew->counters.spins, spins, memory_order_relaxed);
}

static void stop_spinning(struct crew *crew)
{
	crew->spinning = (struct trial){0};
	set_spinning(crew, false);
}

static void never_again(struct crew *crew)
{
	log_warn("one thread cannot wait for several loops: each has its own from now on");
	crew->judge = NULL;
	stop_spinning(crew);
	atomic_store(&crew->look_at, USEC_NEVER);
	atomic_store(&crew->counters.active, crew->count);
	call_all(crew);
}

static void take(struct crew_thread *t)
{
	struct crew *crew = t->crew;

	for (uint32_t i = t->index; i < crew->count; i++) {
		struct crew_place *place = &crew->places[i];

		if (place->holder || owner_of(crew, i) != t || (i != t->index && !leads(t)))
			continue;
		if (i != t->index && loop_follow(place->loop, crew->places[t->index].loop) < 0) {
			never_again(crew);
			return;
		}
		place->holder = t;
	}
}

/* False: it is the end. */
static bool find_place(struct crew_thread *t)
{
	struct crew *crew = t->crew;
	bool found;

	pthread_mutex_lock(&crew->lock);
	if (leads(t))
		atomic_store(&crew->places[t->index].loop->stop, false);
	give(t);
	take(t);
	while (!leads(t) && !crew->ending) {
		pthread_cond_wait(&t->called, &crew->lock);
		take(t);
	}
	found = !crew->ending;
	t->looks = crew->judge || crew->count == 1;
	if (!found)
		give(t);
	pthread_mutex_unlock(&crew->lock);
	clock_update(); /* it may have been parked for long */
	return found;
}

/* ---- how many run ---- */

static uint64_t cpu_of(const struct crew_thread *t)
{
	struct timespec ts = {0};

	(void)clock_gettime(t->cpu_clock, &ts);
	return (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / 1000;
}

static uint64_t read_count(const uint64_t *counter)
{
	return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

static struct crew_counts counts_of(const struct loop *loop)
{
	const struct loop_counters *c = loop_counters(loop);

#define X(name) .name = read_count(&c->name),
	return (struct crew_counts){COUNTS(X)};
#undef X
}

/* Since the window began. */
static struct crew_counts new_counts(const struct crew_place *place)
{
	struct crew_counts now = counts_of(place->loop);

#define X(name) .name = now.name - place->at.name,
	return (struct crew_counts){COUNTS(X)};
#undef X
}

/* With more threads, or a spinning one, what is long comes in more pieces: they are no more work. */
static uint64_t work_of(const struct crew_counts *counts)
{
	return counts->events + counts->bytes_in / 512;
}

static bool may_look(const struct crew *crew)
{
	return crew->judge || (crew->count == 1 && crew->spin_most > 0);
}

static void begin_window(struct crew *crew, usec_t now)
{
	for (uint32_t i = 0; i < crew->count; i++) {
		crew->places[i].at = counts_of(crew->places[i].loop);
		if (i < active(crew))
			crew->threads[i].cpu_at = cpu_of(&crew->threads[i]);
	}
	crew->window_at = now;
	atomic_store_explicit(&crew->look_at, may_look(crew) ? now + WINDOW : USEC_NEVER, memory_order_relaxed);
}

/* Of one thread, over all its loops; their waits, and what it spun, are those of the one that leads. */
static void measure(struct crew *crew, uint32_t thread, struct crew_window *window)
{
	struct crew_counts lead = new_counts(&crew->places[thread]);
	uint64_t cpu = cpu_of(&crew->threads[thread]) - crew->threads[thread].cpu_at, waits = lead.waits - lead.spins;
	uint64_t events = 0, busy = (cpu - MIN(cpu, lead.spun_us)) * 100 / window->length;
	uint32_t batch;

	for (uint32_t i = thread; i < crew->count; i += active(crew)) {
		struct crew_counts counts = new_counts(&crew->places[i]);

		events += counts.events;
		window->work += work_of(&counts);
	}
	batch = waits < LEAST_WAITS ? 0 : (uint32_t)(events * 10 / waits);
	window->batch_most = MAX(window->batch_most, batch);
	window->batch_sum += batch;
	window->busy_most = MAX(window->busy_most, (uint32_t)busy);
	window->busy_sum += (uint32_t)busy;
}

static void change(struct crew *crew, uint32_t threads)
{
	uint32_t before = active(crew);

	if (threads == before)
		return;
	atomic_fetch_add(threads > before ? &crew->counters.splits : &crew->counters.joins, 1);
	log_debug(threads > before ? "more threads" : "fewer threads", kv_uint("from", before), kv_uint("to", threads));
	atomic_store(&crew->counters.active, threads);
	call_all(crew);
}

static void judge_threads(struct crew *crew, const struct crew_window *window, usec_t now)
{
	if (crew->judge)
		change(crew, crew->judge(&crew->memory, window, now, active(crew), crew->count));
}

/* A trial of one and of the other would be measured by each other's work. */
static void judge_spinning(struct crew *crew, const struct crew_window *of_all, usec_t now)
{
	struct crew_counts lead = new_counts(&crew->places[0]);
	struct spin_window window = {
		.work = of_all->work, .length = of_all->length, .soon = lead.soon, .lost = lead.lost_us};

	if (crew->spin_most == 0)
		return;
	if (active(crew) > 1 || crew_judge_tries(&crew->memory)) {
		stop_spinning(crew);
		return;
	}
	window.waits = lead.waits - lead.spins;
	for (uint32_t i = 0; i < crew->count; i++)
		window.events += new_counts(&crew->places[i]).events;
	set_spinning(crew, crew->spin_judge(&crew->spinning, &window, now));
}

static void look(struct crew *crew)
{
	usec_t now = clock_now();
	struct crew_window window = {0};

	if (pthread_mutex_trylock(&crew->lock) != 0)
		return; /* who has it looks, or changes things */
	if (now >= atomic_load_explicit(&crew->look_at, memory_order_relaxed) && now > crew->window_at) {
		window.length = now - crew->window_at;
		for (uint32_t i = 0; i < active(crew); i++)
			measure(crew, i, &window);
		judge_threads(crew, &window, now);
		judge_spinning(crew, &window, now);
		begin_window(crew, now);
	}
	pthread_mutex_unlock(&crew->lock);
}

void crew_let_spin(struct crew *crew, usec_t at_most, spin_judge_function *judge)
{
	pthread_mutex_lock(&crew->lock);
	crew->spin_most = crew->count == 1 || crew->judge ? MIN(at_most, USEC_PER_SEC) : 0;
	crew->spin_judge = judge;
	stop_spinning(crew);
	atomic_store_explicit(&crew->places[0].loop->soon, 2 * (uint32_t)crew->spin_most, memory_order_relaxed);
	if (!crew->judge)
		begin_window(crew, clock_update());
	pthread_mutex_unlock(&crew->lock);
}

int crew_force(struct crew *crew, uint32_t threads)
{
	int r = 0;

	pthread_mutex_lock(&crew->lock);
	if (!crew->judge)
		r = -ENOTSUP;
	else if (threads)
		change(crew, MIN(threads, crew->count));
	if (r == 0)
		stop_spinning(crew);
	if (r == 0)
		begin_window(crew, clock_update());
	if (r == 0 && threads)
		atomic_store(&crew->look_at, USEC_NEVER);
	pthread_mutex_unlock(&crew->lock);
	return r;
}

/* ---- the threads ---- */

static void run(const struct crew_thread *t)
{
	struct crew *crew = t->crew;
	struct loop *loop = crew->places[t->index].loop;

	if (!t->looks) {
		loop_run(loop);
		return;
	}
	while (!atomic_load_explicit(&loop->stop, memory_order_relaxed)) {
		loop_run_turn(loop, USEC_NEVER);
		if (unlikely(clock_now() >= atomic_load_explicit(&crew->look_at, memory_order_relaxed)))
			look(crew);
	}
	loop_leave(loop);
}

static void *thread_main(void *argument)
{
	struct crew_thread *t = argument;
	char name[16];

	snprintf(name, sizeof(name), "%s-%u", t->crew->name, t->index);
	pthread_setname_np(pthread_self(), name);
	while (find_place(t))
		run(t);
	return NULL;
}

static int start_thread(struct crew *crew, uint32_t index)
{
	struct crew_thread *t = &crew->threads[index];
	int error;

	*t = (struct crew_thread){.crew = crew, .index = index};
	pthread_cond_init(&t->called, NULL);
	error = pthread_create(&t->thread, NULL, thread_main, t);
	if (error) {
		pthread_cond_destroy(&t->called);
		return -error;
	}
	crew->started++;
	return -pthread_getcpuclockid(t->thread, &t->cpu_clock);
}

static bool can_adapt(struct loop *const *loops, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (!loops[i]->poll->follow)
			return false;
	return count > 1;
}

int crew_start(struct loop *const *loops, uint32_t count, crew_judge_function *judge, const char *name,
	       struct crew **ret_crew)
{
	struct crew *crew = calloc(1, sizeof(*crew) + count * sizeof(crew->places[0]));
	struct crew_thread *threads = calloc(count, sizeof(*threads));
	int r = 0;

	if (!crew || !threads) {
		free(crew);
		free(threads);
		return -ENOMEM;
	}
	pthread_mutex_init(&crew->lock, NULL);
	crew->threads = threads;
	crew->count = count;
	crew->name = name;
	crew->judge = can_adapt(loops, count) ? judge : NULL;
	atomic_init(&crew->counters.active, crew->judge ? 1 : count);
	for (uint32_t i = 0; i < count; i++)
		crew->places[i].loop = loops[i];
	pthread_mutex_lock(&crew->lock); /* they wait until all are there */
	for (uint32_t i = 0; i < count && r == 0; i++)
		r = start_thread(crew, i);
	if (r == 0)
		begin_window(crew, clock_update());
	pthread_mutex_unlock(&crew->lock);
	if (r < 0) {
		crew_stop(crew);
		return r;
	}
	*ret_crew = crew;
	return 0;
}

void crew_stop(struct crew *crew)
{
	if (!crew)
		return;
	pthread_mutex_lock(&crew->lock);
	crew->ending = true;
	call_all(crew);
	pthread_mutex_unlock(&crew->lock);
	for (uint32_t i = 0; i < crew->started; i++) {
		pthread_join(crew->threads[i].thread, NULL);
		pthread_cond_destroy(&crew->threads[i].called);
	}
	pthread_mutex_destroy(&crew->lock);
	free(crew->threads);
	free(crew);
}
