/*
 * Log lines: a message for people, then key=value pairs. Lower layers return
 * errors; who decides logs, once, and says what follows.
 *
 *   log_warn("login refused", kv_str("user", user), kv_uint("limit", limit));
 *   2026-11-23 13:42:25.123 UTC warning login refused user=app limit=100
 *
 * Threads never wait for the disk: a line goes to a bounded ring that a thread of
 * its own writes out. When the ring is full, or the disk is, lines are dropped and
 * counted, and the count is logged once there is room again. Before log_start() and
 * after log_stop() lines are written at once.
 *
 * What others sent (a user name, a server's text) can't forge a line or a pair: control
 * characters and bytes that aren't UTF-8 are escaped. A line has LOG_LINE_MAX bytes at most;
 * a value that doesn't fit is cut ("..."), pairs behind it are left out.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/common.h"

#define LOG_LINE_MAX 8192

enum log_level { LOG_TRACE, LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

enum kv_type { KV_END, KV_STR, KV_SLICE, KV_INT, KV_UINT };

struct kv {
	const char *key;
	enum kv_type type;
	union {
		const char *str; /* NULL: the pair is left out */
		struct slice slice;
		int64_t i;
		uint64_t u;
	};
};

#define kv_str(k, v)   ((struct kv){.key = (k), .type = KV_STR, .str = (v)})
#define kv_slice(k, v) ((struct kv){.key = (k), .type = KV_SLICE, .slice = (v)})
#define kv_int(k, v)   ((struct kv){.key = (k), .type = KV_INT, .i = (v)})
#define kv_uint(k, v)  ((struct kv){.key = (k), .type = KV_UINT, .u = (v)})

/* Starts the writer thread. path NULL or "": standard error. 0 or -errno. */
int log_start(const char *path, enum log_format format, enum log_level level) MUST_USE;
/* Writes what is queued, ends the thread. */
void log_stop(void);
/* Opens the file anew (after logrotate moved it). Async-signal-UNSAFE: control thread only. */
void log_reopen(void);
void log_set_level(enum log_level level);
void log_set_format(enum log_format format);
/* "trace" "debug" "info" "warn"/"warning" "error". 0 or -EINVAL. */
int log_level_parse(const char *name, enum log_level *ret_level) MUST_USE;
/* Lines dropped since the start. */
uint64_t log_dropped(void);

struct journal;
/* The last lines are kept from now on: no more than so many, of some 512 bytes on average. Before there are other
 * threads. 0: none. 0 or -ENOMEM. */
int log_keep(size_t lines) MUST_USE;
void log_forget(void);             /* when no other thread is left */
struct journal *log_journal(void); /* NULL: none are kept */

/* Read by all threads without a lock; changed by log_set_level() only. */
extern enum log_level log_min_level;

void log_write(enum log_level level, const char *message, const struct kv *pairs);

#define log_at(level, message, ...) \
	do { \
		if (unlikely((level) >= __atomic_load_n(&log_min_level, __ATOMIC_RELAXED))) \
			log_write((level), (message), \
				  (const struct kv[]){__VA_ARGS__ __VA_OPT__(, ){.type = KV_END}}); \
	} while (0)

#define log_trace(...) log_at(LOG_TRACE, __VA_ARGS__)
#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__)
#define log_info(...)  log_at(LOG_INFO, __VA_ARGS__)
#define log_warn(...)  log_at(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__)

/*
 * For what can happen a thousand times a second: true at most `burst` times in each
 * `period_us`; says in *ret_suppressed how many were kept back since the last true.
 */
struct log_limit {
	uint64_t window_start;
	uint32_t in_window, suppressed;
};
bool log_limit_pass(struct log_limit *limit, uint32_t burst, uint64_t period_us, uint32_t *ret_suppressed);

#endif
