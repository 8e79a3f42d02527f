/* See sql.h: the thread that waits for all statements that are run. It begins with the first of them. */
#include "admin/sql.h"

#include "base/log.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define RUN_MOST 64u /* of [admin] sql_concurrency */

struct sql_runner {
	pthread_mutex_t lock;
	struct list coming; /* under the lock */
	uint32_t reserved;  /* likewise: jobs that run, come, or are being made */
	bool has_thread, ending;
	pthread_t thread;
	_Atomic uint64_t done[SQL_RESULTS];
	int wake; /* eventfd */
	/* the thread's own */
	struct list running;
};

usec_t sql_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (usec_t)now.tv_sec * USEC_PER_SEC + (usec_t)now.tv_nsec / 1000;
}

struct sql_runner *sql_runner_new(void)
{
	struct sql_runner *runner = calloc(1, sizeof(*runner));

	if (!runner)
		return NULL;
	runner->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (runner->wake < 0) {
		free(runner);
		return NULL;
	}
	pthread_mutex_init(&runner->lock, NULL);
	list_init(&runner->coming);
	list_init(&runner->running);
	return runner;
}

void sql_runner_free(struct sql_runner *runner)
{
	if (!runner)
		return;
	close(runner->wake);
	pthread_mutex_destroy(&runner->lock);
	free(runner);
}

static void wake(struct sql_runner *runner)
{
	uint64_t one = 1;

	(void)!write(runner->wake, &one, sizeof(one));
}

void sql_runner_count(struct sql_runner *runner, struct sql_counts *ret)
{
	pthread_mutex_lock(&runner->lock);
	ret->running = runner->reserved;
	pthread_mutex_unlock(&runner->lock);
	for (size_t i = 0; i < SQL_RESULTS; i++)
		ret->done[i] = atomic_load(&runner->done[i]);
}

/* ---- the thread ---- */

static void log_job(const struct sql_job *job)
{
	static const char *const ends[] = {[SQL_CLIENT_GONE] = "client gone",
					   [SQL_TIMEOUT] = "too long",
					   [SQL_ENOUGH] = "result too large",
					   [SQL_SHUTDOWN] = "shutdown"};

	log_info("statement run over the admin API", kv_str("admin_client", job->client),
		 kv_str("token", job->token[0] ? job->token : NULL), kv_str("user", job->user),
		 kv_str("database", job->database), kv_str("transaction", job->writes ? "read write" : "read only"),
		 kv_str("query", job->query), kv_str("node", job->server_node[0] ? job->server_node : NULL),
		 kv_uint("elapsed_ms", job->elapsed / 1000), kv_uint("rows", json_array_size(job->rows)),
		 kv_str("ended", ends[job->stop]), kv_str("sqlstate", job->sqlstate[0] ? job->sqlstate : NULL),
		 kv_str("problem", job->code));
}

static enum sql_result result_of(const struct sql_job *job)
{
	return job->stop == SQL_CLIENT_GONE || job->stop == SQL_SHUTDOWN ? SQL_RESULT_STOPPED
	       : job->status                                             ? SQL_RESULT_ERROR
									 : SQL_RESULT_OK;
}

static void finish(struct sql_runner *runner, struct sql_job *job)
{
	struct answer *answer = later_answer(job->later);

	log_job(job);
	atomic_fetch_add(&runner->done[result_of(job)], 1);
	if (job->status)
		answer_problem_with(answer, job->status, job->code, job->detail ? job->detail : "out of memory",
				    json_incref(job->problem));
	else
		job->show(job, answer);
	later_send(job->later);
	list_remove(&job->node);
	sql_job_free(job);
	sql_runner_release(runner);
}

/* false: the runner ends. */
static bool take_coming(struct sql_runner *runner)
{
	struct list fresh, *node;
	bool ending;

	list_init(&fresh);
	pthread_mutex_lock(&runner->lock);
	while ((node = list_first(&runner->coming))) {
		list_remove(node);
		list_push_back(&fresh, node);
	}
	ending = runner->ending;
	pthread_mutex_unlock(&runner->lock);
	while ((node = list_first(&fresh))) {
		list_remove(node);
		list_push_back(&runner->running, node);
		sql_job_begin(list_entry(node, struct sql_job, node));
	}
	return !ending;
}

static int timeout_of(const struct sql_runner *runner)
{
	usec_t now = sql_now(), first = UINT64_MAX;

	list_for_each (node, &runner->running)
		first = MIN(first, sql_job_wakes(list_entry(node, struct sql_job, node)));
	if (first == UINT64_MAX)
		return -1;
	return first <= now ? 0 : (int)MIN((first - now) / 1000 + 1, (usec_t)60000);
}

/* fds: two for each job, in the list's order; NULL: nothing is known. */
static void go_on(struct sql_runner *runner, const struct pollfd *fds, size_t count)
{
	struct list *node = list_first(&runner->running);

	for (size_t i = 0; node && i + 1 < count; i += 2) {
		struct sql_job *job = list_entry(node, struct sql_job, node);

		node = node->next == &runner->running ? NULL : node->next;
		if (fds[i + 1].revents)
			sql_job_stop(job, SQL_CLIENT_GONE);
		sql_job_go_on(job, fds[i].revents != 0);
		if (job->state == SQL_DONE)
			finish(runner, job);
	}
}

static void turn(struct sql_runner *runner)
{
	struct pollfd fds[1 + 2 * RUN_MOST] = {{.fd = runner->wake, .events = POLLIN}};
	size_t count = 1;
	uint64_t ignored;

	list_for_each (node, &runner->running) {
		const struct sql_job *job = list_entry(node, struct sql_job, node);
		short events = sql_job_events(job);

		fds[count++] = (struct pollfd){.fd = events ? PQsocket(job->conn) : -1, .events = events};
		fds[count++] = (struct pollfd){.fd = job->client_fd, .events = POLLRDHUP};
	}
	if (poll(fds, count, timeout_of(runner)) < 0)
		for (size_t i = 0; i < count; i++)
			fds[i].revents = 0;
	(void)!read(runner->wake, &ignored, sizeof(ignored));
	go_on(runner, fds + 1, count - 1);
}

static void *run(void *argument)
{
	struct sql_runner *runner = argument;
	struct list *node;

	while (take_coming(runner))
		turn(runner);
	while ((node = list_first(&runner->running))) {
		struct sql_job *job = list_entry(node, struct sql_job, node);

		sql_job_stop(job, SQL_SHUTDOWN);
		finish(runner, job);
	}
	return NULL;
}

/* ---- other threads ---- */

static int start_thread(struct sql_runner *runner)
{
	sigset_t all, before;
	int r;

	/* Signals are for the control thread. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&runner->thread, NULL, run, runner);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	runner->has_thread = r == 0;
	return -r;
}

int sql_runner_reserve(struct sql_runner *runner, uint32_t most)
{
	int r = 0;

	pthread_mutex_lock(&runner->lock);
	if (runner->ending || runner->reserved >= MIN(most, RUN_MOST))
		r = -EBUSY;
	else if (!runner->has_thread)
		r = start_thread(runner);
	if (r == 0)
		runner->reserved++;
	else
		atomic_fetch_add(&runner->done[SQL_RESULT_REFUSED], 1);
	pthread_mutex_unlock(&runner->lock);
	return r;
}

void sql_runner_release(struct sql_runner *runner)
{
	pthread_mutex_lock(&runner->lock);
	runner->reserved--;
	pthread_mutex_unlock(&runner->lock);
}

void sql_runner_run(struct sql_runner *runner, struct sql_job *job)
{
	bool ending;

	list_init(&job->node);
	pthread_mutex_lock(&runner->lock);
	ending = runner->ending;
	if (!ending)
		list_push_back(&runner->coming, &job->node);
	pthread_mutex_unlock(&runner->lock);
	if (ending) {
		sql_job_stop(job, SQL_SHUTDOWN);
		finish(runner, job);
		return;
	}
	wake(runner);
}

void sql_runner_stop(struct sql_runner *runner)
{
	bool has_thread;

	if (!runner)
		return;
	pthread_mutex_lock(&runner->lock);
	runner->ending = true;
	has_thread = runner->has_thread;
	pthread_mutex_unlock(&runner->lock);
	wake(runner);
	if (has_thread)
		pthread_join(runner->thread, NULL);
}
