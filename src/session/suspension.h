/*
 * SUSPEND: nothing is read from clients and servers, nobody is accepted, and time-outs stand still, on every worker
 * (loop_freeze()), until it is ended. What was under way goes on from where it was.
 *
 *   OFF --begin--> FLUSHING --nothing is left to be written; suspend_timeout sees to that--> ON
 *    ^                 '---------------------------end---------------------------------------'
 *
 * Any thread may begin and end it, under a lock; workers bring themselves in line with what is said then, by message.
 */
#ifndef SESSION_SUSPENSION_H
#define SESSION_SUSPENSION_H

#include "loop/loop.h"

#include <pthread.h>
#include <stdatomic.h>

struct sessions_shared;
struct worker;

enum suspension_state { SUSPENSION_OFF, SUSPENSION_FLUSHING, SUSPENSION_ON };

struct suspension { /* what the workers share of it; all but is_on under the lock */
	pthread_mutex_t lock;
	enum suspension_state state;
	_Atomic bool is_on; /* it is not OFF */
	bool is_refused;    /* the proxy ends */
	bool ends_with_consoles;
	uint32_t consoles; /* that could end it */
	uint32_t flushing; /* workers that still have something to write */
	uint64_t serial, closed;
	usec_t since, flush_until;
};

struct suspension_part { /* of each worker */
	struct loop_message message;
	_Atomic bool is_told; /* the message is under way */
	bool is_on;
	uint64_t serial;
	usec_t flush_until;
	uint64_t closed;
	struct timer look;
};

void suspension_init(struct suspension *suspension);
void suspension_destroy(struct suspension *suspension);
void suspension_join(struct worker *w); /* before it runs */

/* Who has not taken what is to be written after `timeout` is closed (0: it is waited for). by_console: it ends when the
 * last console that could end it is gone, for nobody can come in to do it. 0; -EALREADY; -ESHUTDOWN: the proxy ends. */
int suspension_begin(struct sessions_shared *shared, usec_t timeout, bool by_console) MUST_USE;
/* 0; -EALREADY: it is off. */
int suspension_end(struct sessions_shared *shared, const char *why) MUST_USE;
/* It ends, and none begins any more. */
void suspension_refuse(struct sessions_shared *shared);
enum suspension_state suspension_state(struct sessions_shared *shared);
/* How many connections were closed since the last one began, for they did not take what was to be written. */
uint64_t suspension_closed(struct sessions_shared *shared);
static inline bool suspension_is_on(struct suspension *suspension)
{
	return atomic_load_explicit(&suspension->is_on, memory_order_relaxed);
}

/* A console that may end it. */
void suspension_console_opened(struct sessions_shared *shared);
void suspension_console_closed(struct sessions_shared *shared);

#endif
