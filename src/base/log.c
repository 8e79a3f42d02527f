/*
 * Where log lines go. Threads copy whole lines into a ring under a mutex that is held
 * for that copy only; the writer thread takes what is there and writes it with the
 * mutex released: only it moves `tail`, so the bytes it writes can't be overwritten.
 *
 * 0 <= head - tail <= RING_SIZE; both only grow, their place in the ring is modulo its size.
 * When tail <= gap, what lies from gap to the end of its lap is no line; gap < head, or UINT64_MAX.
 *
 * The writer has its thread's signals blocked (SIGPIPE too), and a write that fails
 * costs the lines it held, never the thread.
 */
#include "base/clock.h"
#include "base/journal.h"
#include "base/log_priv.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#define RING_SIZE      (1u << 20)
#define WRITE_AT_ONCE  (128u << 10)
#define KEPT_AVERAGE   512u
#define WRITE_PATIENCE 1000 /* ms that a full pipe may keep the writer waiting */

static struct {
	pthread_mutex_t mutex;
	pthread_cond_t more;
	pthread_t thread;
	bool running, asleep, reopen; /* under the mutex, as the ring's fields are */
	uint64_t head, tail, gap;
	char *ring; /* NULL: not started, lines are written at once */
	char *path; /* NULL: standard error */
	int fd;     /* the writer's while it runs */
	bool torn;  /* the last write ended within a line */
	uint64_t reported;
	_Atomic uint64_t dropped;
	_Atomic int format;
} writer = {.mutex = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER, .fd = STDERR_FILENO};

static struct journal *kept; /* set while there is one thread */

enum log_level log_min_level = LOG_INFO;

/* ---- writing ---- */

static size_t count_lines(const char *bytes, size_t len)
{
	size_t lines = 0;

	for (const char *end = bytes + len; (bytes = memchr(bytes, '\n', (size_t)(end - bytes))); bytes++)
		lines++;
	return lines;
}

/* Returns how many bytes were written: less than len only after an error. */
static size_t write_all(const char *bytes, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = write(writer.fd, bytes + done, len - done);

		if (n > 0) {
			done += (size_t)n;
		} else if (n < 0 && errno == EAGAIN) {
			struct pollfd wait = {.fd = writer.fd, .events = POLLOUT};

			if (poll(&wait, 1, WRITE_PATIENCE) == 0)
				break;
		} else if (n == 0 || errno != EINTR) {
			break;
		}
	}
	return done;
}

/* Writes whole lines; those not written whole are counted as dropped. */
static bool write_lines(const char *bytes, size_t len)
{
	size_t done;

	if (writer.torn && write_all("\n", 1) == 1)
		writer.torn = false;
	done = writer.torn ? 0 : write_all(bytes, len);
	if (done == len)
		return true;
	if (done > 0)
		writer.torn = bytes[done - 1] != '\n';
	atomic_fetch_add(&writer.dropped, count_lines(bytes + done, len - done));
	return false;
}

static void report_dropped(void)
{
	uint64_t dropped = atomic_load(&writer.dropped);
	char line[LOG_LINE_MAX];
	size_t len;

	if (dropped == writer.reported)
		return;
	len = log_line_format(line, (enum log_format)atomic_load(&writer.format), LOG_WARN, clock_wall(),
			      "log lines were dropped",
			      (const struct kv[]){kv_uint("lines", dropped - writer.reported), {.type = KV_END}});
	if (write_all(line, len) == len)
		writer.reported = dropped;
	else
		writer.torn = true;
}

static int open_file(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);

	return fd < 0 ? -errno : fd;
}

static void close_file(void)
{
	if (writer.fd != STDERR_FILENO)
		close(writer.fd);
	writer.fd = STDERR_FILENO;
}

/* Keeps the old file when the new one can't be opened, and says so there. */
static void reopen_file(void)
{
	char line[LOG_LINE_MAX];
	int fd;

	if (!writer.path)
		return;
	fd = open_file(writer.path);
	if (fd >= 0) {
		close_file();
		writer.fd = fd;
		writer.torn = false;
		return;
	}
	write_lines(line, log_line_format(line, (enum log_format)atomic_load(&writer.format), LOG_ERROR, clock_wall(),
					  "cannot reopen the log file, keeping the old one",
					  (const struct kv[]){kv_str("path", writer.path),
							      kv_str("error", strerrordesc_np(-fd)),
							      {.type = KV_END}}));
}

/* ---- the thread ---- */

/* Whole lines that lie next to each other; with the mutex held. */
static size_t next_run(const char **ret_bytes)
{
	size_t len;

	if (writer.tail == writer.gap)
		writer.tail += RING_SIZE - writer.tail % RING_SIZE;
	len = MIN((writer.gap > writer.tail ? MIN(writer.gap, writer.head) : writer.head) - writer.tail,
		  RING_SIZE - writer.tail % RING_SIZE);
	*ret_bytes = writer.ring + writer.tail % RING_SIZE;
	if (len > WRITE_AT_ONCE)
		len = (size_t)((const char *)memrchr(*ret_bytes, '\n', WRITE_AT_ONCE) + 1 - *ret_bytes);
	return len;
}

static void *writer_main(void *unused UNUSED)
{
	pthread_mutex_lock(&writer.mutex);
	for (;;) {
		const char *bytes;
		size_t len = next_run(&bytes);
		bool reopen = writer.reopen;

		if (len == 0 && !reopen) {
			if (!writer.running)
				break;
			writer.asleep = true;
			pthread_cond_wait(&writer.more, &writer.mutex);
			writer.asleep = false;
			continue;
		}
		writer.reopen = false;
		pthread_mutex_unlock(&writer.mutex);
		if (reopen)
			reopen_file();
		if (len > 0 && write_lines(bytes, len))
			report_dropped();
		pthread_mutex_lock(&writer.mutex);
		writer.tail += len;
	}
	pthread_mutex_unlock(&writer.mutex);
	return NULL;
}

static int start_thread(void)
{
	sigset_t all, before;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&writer.thread, NULL, writer_main, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -r;
}

int log_start(const char *path, enum log_format format, enum log_level level)
{
	char *path_copy = path && *path ? strdup(path) : NULL;
	char *ring = malloc(RING_SIZE);
	int fd = STDERR_FILENO, r = -ENOMEM;

	assert(!writer.running);
	if (!ring || (path && *path && !path_copy))
		goto fail;
	if (path_copy) {
		r = fd = open_file(path_copy);
		if (r < 0)
			goto fail;
	}
	pthread_mutex_lock(&writer.mutex);
	close_file();
	writer.fd = fd;
	free(writer.path);
	writer.path = path_copy;
	writer.ring = ring;
	writer.head = writer.tail = 0;
	writer.gap = UINT64_MAX;
	writer.torn = writer.reopen = false;
	log_set_format(format);
	log_set_level(level);
	writer.running = true;
	r = start_thread();
	if (r < 0) {
		writer.running = false;
		writer.ring = NULL;
		pthread_mutex_unlock(&writer.mutex);
		free(ring);
		return r;
	}
	pthread_mutex_unlock(&writer.mutex);
	return 0;
fail:
	free(ring);
	free(path_copy);
	return r;
}

/* The file stays open: last words still go there. */
void log_stop(void)
{
	size_t len;

	pthread_mutex_lock(&writer.mutex);
	if (!writer.running) {
		pthread_mutex_unlock(&writer.mutex);
		return;
	}
	writer.running = false;
	pthread_cond_signal(&writer.more);
	pthread_mutex_unlock(&writer.mutex);
	pthread_join(writer.thread, NULL);
	pthread_mutex_lock(&writer.mutex);
	for (const char *bytes; (len = next_run(&bytes)) > 0; writer.tail += len) /* came while it ended */
		write_lines(bytes, len);
	free(writer.ring);
	writer.ring = NULL;
	pthread_mutex_unlock(&writer.mutex);
}

/* ---- called by any thread ---- */

/* With the mutex held. A line is never split: one that doesn't fit before the end begins a new lap. */
static void ring_add(const char *line, size_t len)
{
	size_t lap_left = RING_SIZE - writer.head % RING_SIZE;
	size_t skipped = len > lap_left ? lap_left : 0;

	if (len + skipped > RING_SIZE - (writer.head - writer.tail)) {
		atomic_fetch_add(&writer.dropped, 1);
		return;
	}
	if (skipped > 0) {
		writer.gap = writer.head;
		writer.head += skipped;
	}
	memcpy(writer.ring + writer.head % RING_SIZE, line, len);
	writer.head += len;
	if (writer.asleep)
		pthread_cond_signal(&writer.more);
}

void log_write(enum log_level level, const char *message, const struct kv *pairs)
{
	int saved_errno = errno;
	char line[LOG_LINE_MAX];
	enum log_format format = (enum log_format)atomic_load_explicit(&writer.format, memory_order_relaxed);
	uint64_t now = clock_wall();
	size_t len = log_line_format(line, format, level, now, message, pairs);

	if (kept)
		journal_add(kept, &(struct journal_entry){
					  .wall_us = now, .level = level, .message = message, .pairs = pairs});
	pthread_mutex_lock(&writer.mutex);
	if (writer.ring)
		ring_add(line, len);
	else
		write_lines(line, len);
	pthread_mutex_unlock(&writer.mutex);
	errno = saved_errno;
}

int log_keep(size_t lines)
{
	if (lines > 0)
		kept = journal_new(lines, lines * KEPT_AVERAGE, clock_wall());
	return lines > 0 && !kept ? -ENOMEM : 0;
}

void log_forget(void)
{
	journal_free(kept);
	kept = NULL;
}

struct journal *log_journal(void)
{
	return kept;
}

void log_reopen(void)
{
	pthread_mutex_lock(&writer.mutex);
	if (writer.running) {
		writer.reopen = true;
		pthread_cond_signal(&writer.more);
	}
	pthread_mutex_unlock(&writer.mutex);
}

void log_set_level(enum log_level level)
{
	__atomic_store_n(&log_min_level, level, __ATOMIC_RELAXED);
}

void log_set_format(enum log_format format)
{
	atomic_store_explicit(&writer.format, format, memory_order_relaxed);
}

uint64_t log_dropped(void)
{
	return atomic_load_explicit(&writer.dropped, memory_order_relaxed);
}

int log_level_parse(const char *name, enum log_level *ret_level)
{
	static const struct {
		const char *name;
		enum log_level level;
	} levels[] = {
		{"trace", LOG_TRACE}, {"debug", LOG_DEBUG},  {"info", LOG_INFO},
		{"warn", LOG_WARN},   {"warning", LOG_WARN}, {"error", LOG_ERROR},
	};

	for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
		if (strcmp(name, levels[i].name) == 0) {
			*ret_level = levels[i].level;
			return 0;
		}
	}
	return -EINVAL;
}

bool log_limit_pass(struct log_limit *limit, uint32_t burst, uint64_t period_us, uint32_t *ret_suppressed)
{
	uint64_t now = clock_now();

	if (limit->window_start == 0 || now - limit->window_start >= period_us) {
		limit->window_start = now;
		limit->in_window = 0;
	}
	if (limit->in_window >= burst) {
		if (limit->suppressed < UINT32_MAX)
			limit->suppressed++;
		return false;
	}
	limit->in_window++;
	*ret_suppressed = limit->suppressed;
	limit->suppressed = 0;
	return true;
}
