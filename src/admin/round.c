/* See admin_priv.h. */
#include "admin/admin_priv.h"

#include <time.h>

#define ROWS_CHUNK (16u << 10)

struct round {
	pthread_mutex_t lock;
	pthread_cond_t done;
	_Atomic uint32_t references; /* whoever asks, and each message that has not run */
	uint32_t pending;            /* under the lock */
	uint32_t count;
	round_work *work;
	uint64_t argument;
	void *data; /* what it points to, if it is ours; else NULL */
	struct timespec began;
	struct round_part parts[];
};

/* Not clock_now(): tests move that one. */
static struct timespec real_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now;
}

/* On the worker's thread. */
static void run_part(struct loop_message *message, void *thread)
{
	struct round_part *part = container_of(message, struct round_part, message);
	struct round *round = part->round;

	if (round->work)
		round->work(container_of((struct pool_thread *)thread, struct worker, pool_thread), part,
			    round->argument);
	pthread_mutex_lock(&round->lock);
	part->is_done = true;
	if (--round->pending == 0)
		pthread_cond_broadcast(&round->done);
	pthread_mutex_unlock(&round->lock);
	round_unref(round);
}

static struct round *round_new(uint32_t count)
{
	struct round *round = calloc(1, sizeof(*round) + count * sizeof(round->parts[0]));
	pthread_condattr_t monotonic;

	if (!round)
		return NULL;
	pthread_mutex_init(&round->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&round->done, &monotonic);
	pthread_condattr_destroy(&monotonic);
	round->count = round->pending = count;
	atomic_init(&round->references, count + 1);
	round->began = real_now();
	for (uint32_t i = 0; i < count; i++) {
		round->parts[i].message.run = run_part;
		round->parts[i].round = round;
		arena_init(&round->parts[i].arena, ROWS_CHUNK);
	}
	return round;
}

static void round_post(struct round *round, struct sessions_shared *sessions, round_work *work, uint64_t argument)
{
	round->work = work;
	round->argument = argument;
	for (uint32_t i = 0; i < round->count; i++)
		loop_post(sessions->workers[i]->pool_thread.loop, &round->parts[i].message);
}

struct round *round_begin(struct sessions_shared *sessions, round_work *work, uint64_t argument)
{
	struct round *round = round_new(sessions->worker_count);

	if (round)
		round_post(round, sessions, work, argument);
	return round;
}

struct round *round_begin_with(struct sessions_shared *sessions, round_work *work, const void *data, size_t size)
{
	struct round *round = round_new(sessions->worker_count);
	void *copy = malloc(size);

	if (!round || !copy) {
		if (round)
			atomic_store(&round->references, 1);
		round_unref(round);
		free(copy);
		return NULL;
	}
	memcpy(copy, data, size);
	round->data = copy;
	round_post(round, sessions, work, (uintptr_t)copy);
	return round;
}

struct round *round_ref(struct round *round)
{
	atomic_fetch_add(&round->references, 1);
	return round;
}

void round_unref(struct round *round)
{
	if (!round || atomic_fetch_sub(&round->references, 1) > 1)
		return;
	for (uint32_t i = 0; i < round->count; i++)
		arena_destroy(&round->parts[i].arena);
	pthread_cond_destroy(&round->done);
	pthread_mutex_destroy(&round->lock);
	free(round->data);
	free(round);
}

bool round_wait(struct round *round)
{
	struct timespec until = round->began;
	bool all;

	until.tv_sec += ROUND_WAIT_MS / 1000;
	pthread_mutex_lock(&round->lock);
	while (round->pending > 0)
		if (pthread_cond_timedwait(&round->done, &round->lock, &until) == ETIMEDOUT)
			break;
	all = round->pending == 0;
	pthread_mutex_unlock(&round->lock);
	return all;
}

uint32_t round_late(struct round *round)
{
	uint32_t late;

	pthread_mutex_lock(&round->lock);
	late = round->pending;
	pthread_mutex_unlock(&round->lock);
	return late;
}

uint64_t round_age_ms(const struct round *round)
{
	struct timespec now = real_now();

	return (uint64_t)((now.tv_sec - round->began.tv_sec) * 1000 + (now.tv_nsec - round->began.tv_nsec) / 1000000);
}

uint32_t round_count(const struct round *round)
{
	return round->count;
}

const struct round_part *round_part(struct round *round, uint32_t index)
{
	const struct round_part *part = &round->parts[index];
	bool is_done;

	pthread_mutex_lock(&round->lock);
	is_done = part->is_done;
	pthread_mutex_unlock(&round->lock);
	return is_done ? part : NULL;
}
