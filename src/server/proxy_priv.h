/*
 * What the files of server/ share. Who does what:
 *   main.c      the command line
 *   proxy.c     the start and the end
 *   control.c   the control thread: signals, draining, what is due now and then
 *   workers.c   the workers and their threads, and talking to them
 *   watch.c     events that follow from counts
 *   nodes.c     members that come and go
 *   provider.c  members that a provider names (Patroni)
 *   reload.c    a new configuration; TLS contexts
 *   listen.c    listening sockets;  handover.c, handed.c  the next process, and what it gets;  notify.c  systemd
 */
#ifndef SERVER_PROXY_PRIV_H
#define SERVER_PROXY_PRIV_H

#include "admin/admin.h"
#include "cluster/cluster.h"
#include "cluster/patroni.h"
#include "cluster/members.h"
#include "console/console.h"
#include "route/catalogs.h"
#include "server/handed.h"
#include "server/handover.h"
#include "server/listen.h"
#include "server/proxy.h"
#include "session/worker.h"
#include "telemetry/exporter.h"

#include <pthread.h>
#include <signal.h>

/* What was handed over stays handed over when SIGTERM follows: see proxy.handed_over. */
enum proxy_state { PROXY_RUNNING, PROXY_LEAVING, PROXY_DRAINING, PROXY_HANDED_OVER };

struct worker_thread {
	struct worker worker;
	bool is_made; /* worker_init() was called, worker_destroy() is owed */
};

/* Of the last reload, for who waits for one. */
struct reload_news {
	pthread_mutex_t lock; /* of all below */
	pthread_cond_t over;
	uint64_t asked, done; /* done: what was asked for up to there is over */
	int result;
	struct reload_outcome outcome;
};

struct proxy {
	const struct proxy_options *options;
	struct config *config;
	pthread_t control;
	struct members *members;
	struct node_list *nodes;
	struct pools *pools;
	struct cluster *cluster;
	struct patroni *patroni; /* asks it, where that is configured */
	struct catalogs *catalogs;
	struct tls_context *client_tls, *server_tls;
	struct sessions_shared shared;
	struct worker_thread *threads;
	uint32_t thread_count;
	struct listen_set listeners;
	struct admin *admin;
	struct exporter *telemetry;
	struct console *console;
	struct {
		pthread_mutex_t lock;
		struct control_job *first, **end;
		bool ended;
	} jobs; /* see jobs.c */
	struct handover handover;
	struct handed *handed; /* from the process before this one; NULL: nothing */
	enum proxy_state state;
	bool serves; /* it was started */
	bool wrote_pid_file;
	bool handed_over; /* socket files and the pid file are the next process's */
	usec_t drain_until, sweep_at, watchdog_at, watchdog_period;
	uint64_t trimmed_at; /* tls_handshakes_total, when memory was last given back */
	unsigned grace_ms;   /* for last words, at the end */
	struct watch *watch; /* NULL: no memory */
	bool resolve_all;    /* a reload was asked for: names that were looked up are looked up again */
	_Atomic bool reload_asked;
	struct reload_news reload_news;
	struct config_setting *settings; /* of SET; they count more than the file, until it is read again */
	uint32_t setting_count;
	_Atomic uint64_t reloads, reloads_failed; /* that are over */
	_Atomic int shutdown_asked;               /* enum console_shutdown + 1; 0: nobody did */
	_Atomic bool nobody_accepts;              /* every worker has stopped listening */
	_Atomic bool workers_answered;            /* since the watchdog was last told */
};

static inline uint32_t proxy_clients(struct proxy *p)
{
	return atomic_load(&p->shared.clients);
}

/* ---- control.c ---- */
sigset_t control_signals(void);
/* Runs until the end has come. The exit status. */
int control_loop(struct proxy *p);
/* From any thread. */
void control_ask_shutdown(void *proxy, enum console_shutdown how);

/* ---- workers.c ---- */
bool workers_start(struct proxy *p) MUST_USE;
const char *workers_io(const struct proxy *p); /* which back end they run with */
/* As the configuration says. */
void workers_let_spin(struct proxy *p);
const char *io_name(enum config_io io);
/* Runs `run` in each worker, and then `last` in whichever worker is last (both may be NULL). */
void workers_tell(struct proxy *p, void (*run)(struct worker *w, void *argument), void (*last)(void *argument),
		  void *argument);
/* Closes all sessions and links, joins the threads, frees the workers and their loops. */
void workers_end(struct proxy *p);

/* ---- nodes.c ---- */
#define SIGNAL_MEMBERS \
	SIGRTMIN /* wakes the control thread: members are to be merged, or the console wants something \
		  */
/* Makes the members and the nodes; false: the log says why not. */
bool nodes_start(struct proxy *p) MUST_USE;
/* The nodes are those of all sources now. false: no memory, they stay. */
bool nodes_take(struct proxy *p);
/* The same, and all that follows from it. */
void nodes_apply(struct proxy *p);
/* So many pools lead elsewhere, for there is another primary (any thread). */
void nodes_primary_moved(struct proxy *p, uint32_t pools);
/* What is due of that. */
void nodes_tick(struct proxy *p);

/* ---- watch.c ---- */
/* NULL: out of memory. */
struct watch *watch_new(void);
void watch_free(struct watch *watch); /* NULL is fine */
/* Once a second or oftener: what has become of counts and states is told as events. */
void watch_tick(struct proxy *p);

/* ---- jobs.c ---- */
void jobs_init(struct proxy *p);
/* For console_context.let_run. */
void jobs_let_run(void *proxy, struct control_job *job);
/* Those that are there, and what is due of the nodes. Control thread. */
void jobs_run(struct proxy *p);
/* None is run any more. */
void jobs_end(struct proxy *p);

/* ---- provider.c ---- */
bool provider_start(struct proxy *p) MUST_USE;
void provider_reload(struct proxy *p);
/* Any thread: something is not as it was said to be. */
void provider_ask(void *proxy);

/* ---- reload.c ---- */
/* *ret: NULL when TLS is off. */
bool make_client_tls(const struct config *c, struct tls_context **ret) MUST_USE;
bool make_server_tls(const struct config *c, struct tls_context **ret) MUST_USE;
/* The log says what came of it. */
void reload(struct proxy *p);
/* Also when systemd or the admin API asks: from any thread; the control thread does it. 0, -ENOENT: there is no file.
 */
int reload_ask(void *proxy);
/* See admin_context. */
int reload_and_wait(void *proxy, unsigned wait_ms, struct reload_outcome *ret);
/* A key has this value until the file is read again. Control thread. 0, -ENOMEM, -EINVAL (why). */
int reload_set(void *proxy, const char *section, const char *name, const char *value, char *why, size_t size);
void reload_forget_settings(struct proxy *p);
void reload_news_init(struct reload_news *news);
void reload_news_end(struct reload_news *news); /* nobody is kept waiting any more */
void reload_news_free(struct reload_news *news);
void reload_count(void *proxy, uint64_t *ret_over, uint64_t *ret_failed);

#endif
