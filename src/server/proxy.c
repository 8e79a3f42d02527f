/*
 * See proxy.h. Starts the threads, then is the control thread: signals, reload, resolving names, draining, hand-over.
 */
#include "server/proxy.h"

#include "admin/admin.h"
#include "base/log.h"
#include "cluster/node.h"
#include "server/handover.h"
#include "server/listen.h"
#include "server/notify.h"
#include "session/worker.h"

#include <openssl/rand.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

enum proxy_state { PROXY_RUNNING, PROXY_DRAINING, PROXY_HANDED_OVER };

struct worker_thread {
	struct worker worker;
	pthread_t thread;
	struct proxy *proxy;
	bool started;
};

struct proxy {
	const struct proxy_options *options;
	struct config *config;
	struct node_list *nodes;
	struct pools *pools;
	struct tls_context *client_tls, *server_tls;
	struct sessions_shared shared;
	struct worker_thread *threads;
	uint32_t thread_count;
	struct listen_set listeners;
	struct admin *admin;
	struct handover handover;
	enum proxy_state state;
	usec_t drain_until, resolve_at, sweep_at, watchdog_at, watchdog_period;
	_Atomic bool reload_asked;
};

#define RESOLVE_PERIOD (30 * USEC_PER_SEC)
#define SWEEP_PERIOD (10 * USEC_PER_SEC)

/* ---- messages to the workers ---- */

/* Runs `run` in each worker, and `last` (here, in whichever worker is last) when all have. */
struct broadcast {
	void (*run)(struct worker *w, void *argument);
	void (*last)(void *argument);
	void *argument;
	_Atomic uint32_t left;
};

struct broadcast_message {
	struct loop_message message;
	struct broadcast *broadcast;
};

static void broadcast_arrives(struct loop_message *message, void *thread)
{
	struct broadcast_message *m = container_of(message, struct broadcast_message, message);
	struct broadcast *b = m->broadcast;

	if (b->run)
		b->run(thread, b->argument);
	free(m);
	if (atomic_fetch_sub(&b->left, 1) == 1) {
		if (b->last)
			b->last(b->argument);
		free(b);
	}
}

static void broadcast(struct proxy *p, void (*run)(struct worker *, void *), void (*last)(void *), void *argument)
{
	struct broadcast *b = malloc(sizeof(*b));

	if (!b)
		return;
	*b = (struct broadcast){.run = run, .last = last, .argument = argument, .left = p->thread_count};
	for (uint32_t i = 0; i < p->thread_count; i++) {
		struct broadcast_message *m = malloc(sizeof(*m));

		if (!m) { /* this worker is left out: what waits for the last never runs, which is safe */
			log_error("out of memory while talking to the workers");
			continue;
		}
		*m = (struct broadcast_message){.message.run = broadcast_arrives, .broadcast = b};
		loop_post(p->threads[i].worker.pool_thread.loop, &m->message);
	}
}

/* ---- TLS ---- */

static const char *or_null(const char *text)
{
	return *text ? text : NULL;
}

static bool make_client_tls(const struct config *c, struct tls_context **ret)
{
	struct tls_settings s = {
		.cert_path = c->tls.cert_path, .key_path = c->tls.key_path, .ca_path = c->tls.ca_path,
		.min_version = c->tls.min_version, .ciphers = or_null(c->tls.ciphers),
		.ciphersuites = or_null(c->tls.ciphersuites), .ktls = c->tls.ktls,
		.require_client_cert = c->tls.require_client_cert || c->tls.mode >= TLS_VERIFY_CA,
		.request_client_cert = *c->tls.ca_path != 0,
	};
	char why[300];

	*ret = NULL;
	if (!c->tls.enabled || c->tls.mode == TLS_DISABLE)
		return true;
	*ret = tls_server_context_new(&s, why, sizeof(why));
	if (!*ret)
		log_error("TLS towards clients is not possible: check [tls] cert_path, key_path and ca_path",
		          kv_str("reason", why), kv_str("cert_path", c->tls.cert_path), kv_str("key_path", c->tls.key_path));
	return *ret != NULL;
}

static bool make_server_tls(const struct config *c, struct tls_context **ret)
{
	struct tls_settings s = {
		.cert_path = c->server_tls.cert_path, .key_path = c->server_tls.key_path, .ca_path = c->server_tls.ca_path,
		.min_version = c->server_tls.min_version, .ciphers = or_null(c->server_tls.ciphers),
		.ciphersuites = or_null(c->server_tls.ciphersuites), .ktls = c->server_tls.ktls, .mode = c->server_tls.mode,
	};
	char why[300];

	*ret = NULL;
	if (c->server_tls.mode < TLS_PREFER)
		return true;
	*ret = tls_client_context_new(&s, why, sizeof(why));
	if (!*ret)
		log_error("TLS towards nodes is not possible: check [server_tls]", kv_str("reason", why));
	return *ret != NULL;
}

/* ---- reload ---- */

struct reloaded { /* what was in force before */
	struct config *config;
	struct config_pool **settings;
	struct tls_context *client_tls;
	struct worker_settings fresh;
};

static void take_settings(struct worker *w, void *argument)
{
	struct reloaded *r = argument;

	worker_reload(w, &r->fresh);
}

/* Every worker has left what it did with the old ones behind. */
static void free_old(void *argument)
{
	struct reloaded *r = argument;

	for (size_t i = 0; r->settings && r->settings[i]; i++)
		free(r->settings[i]);
	free(r->settings);
	tls_context_unref(r->client_tls);
	config_free(r->config);
	free(r);
}

static void log_difference(void *argument, const char *path, const char *old_value, const char *new_value, bool reloads)
{
	(void)argument;
	if (reloads)
		log_info("configuration changed", kv_str("key", path), kv_str("from", old_value), kv_str("to", new_value));
	else
		log_warn("configuration changed, but this key needs a restart; the running value stays", kv_str("key", path),
		         kv_str("from", old_value), kv_str("to", new_value));
}

static struct config *load_again(struct proxy *p)
{
	struct config_report report;
	struct config *fresh = NULL;
	int r;

	config_report_init(&report, p->options->strict);
	r = config_load(p->options->config_path, &fresh, &report);
	if (r == 0)
		r = config_apply_flags(fresh, &p->options->flags, &report);
	for (const struct report_message *m = report.first; m; m = m->next)
		if (m->severity != REPORT_NOTICE)
			log_at(m->severity == REPORT_ERROR ? LOG_ERROR : LOG_WARN, m->text, kv_str("file", m->file),
			       kv_uint("line", m->line));
	config_report_free(&report);
	if (r < 0) {
		config_free(fresh);
		return NULL;
	}
	return fresh;
}

static bool reload(struct proxy *p)
{
	struct tls_context *client_tls = NULL, *server_tls = NULL;
	struct reloaded *r = calloc(1, sizeof(*r));
	struct config *fresh = NULL;

	notify_reloading();
	if (!p->options->config_path) {
		log_warn("there is no file to reload: the configuration was given by flags");
		goto fail;
	}
	fresh = r ? load_again(p) : NULL;
	if (!fresh || !make_client_tls(fresh, &client_tls) || !make_server_tls(fresh, &server_tls))
		goto fail;
	config_diff(p->config, fresh, log_difference, NULL);
	log_set_level(fresh->log.level);
	log_set_format(fresh->log.format);
	r->config = p->config;
	r->client_tls = p->client_tls;
	r->fresh = (struct worker_settings){.config = fresh, .client_tls = client_tls};
	p->config = fresh;
	p->client_tls = client_tls;
	pools_reload(p->pools, fresh, server_tls, &r->settings);
	tls_context_unref(p->server_tls);
	p->server_tls = server_tls;
	admin_reload(p->admin, fresh);
	broadcast(p, take_settings, free_old, r);
	log_info("configuration reloaded", kv_str("file", p->options->config_path));
	notify_ready();
	return true;
fail:
	tls_context_unref(client_tls);
	tls_context_unref(server_tls);
	config_free(fresh);
	free(r);
	log_error("configuration not reloaded; keeping the old one");
	notify_ready();
	return false;
}

static int reload_asked(void *server)
{
	struct proxy *p = server;

	atomic_store(&p->reload_asked, true);
	return 0;
}

/* ---- draining ---- */

static void stop_listening(struct worker *w, void *argument)
{
	(void)argument;
	worker_stop_listening(w);
}

static void drain_now(struct worker *w, void *argument)
{
	(void)argument;
	worker_drain(w, /* now= */ true);
}

static void drain_gently(struct worker *w, void *argument)
{
	(void)argument;
	worker_drain(w, /* now= */ false);
}

static uint32_t clients(struct proxy *p)
{
	return atomic_load(&p->shared.clients);
}

static void begin_drain(struct proxy *p, bool handed_over)
{
	char text[32];

	snprintf(text, sizeof(text), "%llus", (unsigned long long)(p->config->proxy.shutdown_drain_timeout / USEC_PER_SEC));
	log_info(handed_over ? "the next process serves; this one finishes with its clients"
	                     : "shutting down: no new clients, transactions may end",
	         kv_uint("clients", clients(p)), kv_str("deadline", text));
	p->state = handed_over ? PROXY_HANDED_OVER : PROXY_DRAINING;
	p->drain_until = clock_update() + p->config->proxy.shutdown_drain_timeout;
	admin_set_draining(p->admin);
	broadcast(p, stop_listening, NULL, NULL);
	if (handed_over) {
		admin_quiesce(p->admin);
		notify_main_pid(p->handover.pid);
		return;
	}
	notify_stopping();
	atomic_store(&p->shared.draining, true);
	broadcast(p, drain_gently, NULL, NULL);
}

static void begin_handover(struct proxy *p)
{
	int r = handover_start(&p->handover, &p->listeners, p->options->argv);

	if (r < 0)
		log_error("cannot start the next process; this one goes on", kv_str("reason", strerror(-r)));
	else
		log_info("starting the next process", kv_int("next_pid", p->handover.pid));
}

/* ---- the control thread's loop ---- */

static void tick(struct proxy *p)
{
	usec_t now = clock_update();

	if (now >= p->resolve_at) {
		for (uint32_t i = 0; i < node_list_count(p->nodes); i++)
			(void)!node_resolve(node_list_at(p->nodes, i)); /* the old addresses stay; failures show at connecting */
		p->resolve_at = now + RESOLVE_PERIOD;
	}
	if (now >= p->sweep_at) {
		pools_sweep(p->pools);
		p->sweep_at = now + SWEEP_PERIOD;
	}
	if (p->watchdog_period && now >= p->watchdog_at) {
		notify_watchdog();
		p->watchdog_at = now + p->watchdog_period;
	}
	if (atomic_exchange(&p->reload_asked, false))
		reload(p);
	switch (handover_poll(&p->handover)) {
	case HANDOVER_DONE:
		begin_drain(p, /* handed_over= */ true);
		p->handover.pid = 0;
		break;
	case HANDOVER_FAILED:
		log_error("the next process did not start; this one goes on. Its own log says why");
		break;
	case HANDOVER_NONE:
	case HANDOVER_WAITING:
		break;
	}
}

static int end_by_force(struct proxy *p, const char *why)
{
	log_warn("closing all clients at once", kv_str("reason", why), kv_uint("clients", clients(p)));
	broadcast(p, drain_now, NULL, NULL);
	return EXIT_FORCED;
}

/* The exit status, or -1: go on. */
static int take_signal(struct proxy *p, int number)
{
	switch (number) {
	case SIGHUP:
		reload(p);
		break;
	case SIGUSR1:
		log_reopen();
		log_info("log file opened anew");
		break;
	case SIGUSR2:
		begin_handover(p);
		break;
	case SIGTERM:
	case SIGINT:
	case SIGQUIT:
		if (p->state == PROXY_DRAINING)
			return end_by_force(p, "second signal");
		begin_drain(p, /* handed_over= */ false);
		break;
	}
	return -1;
}

static sigset_t our_signals(void)
{
	static const int numbers[] = {SIGHUP, SIGUSR1, SIGUSR2, SIGTERM, SIGINT, SIGQUIT};
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		sigaddset(&set, numbers[i]);
	return set;
}

static int control_loop(struct proxy *p)
{
	sigset_t set = our_signals();

	for (;;) {
		bool busy = p->state != PROXY_RUNNING || p->handover.pid;
		struct timespec wait = {.tv_sec = busy ? 0 : 1, .tv_nsec = busy ? 20000000 : 0};
		int number = sigtimedwait(&set, NULL, &wait), status;

		status = number > 0 ? take_signal(p, number) : -1;
		if (status >= 0)
			return status;
		tick(p);
		if (p->state == PROXY_RUNNING)
			continue;
		if (clients(p) == 0)
			return EXIT_OK;
		if (clock_update() >= p->drain_until)
			return end_by_force(p, "shutdown_drain_timeout has passed");
	}
}

/* ---- start ---- */

static void raise_file_limit(const struct config *c)
{
	struct rlimit limit;
	rlim_t wanted = c->proxy.max_clients + 2000u;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	if (limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
		(void)getrlimit(RLIMIT_NOFILE, &limit);
	}
	if (limit.rlim_cur < wanted)
		log_warn("too few file descriptors for max_clients: raise the limit (ulimit -n, LimitNOFILE=)",
		         kv_uint("limit", limit.rlim_cur), kv_uint("wanted", wanted));
}

static uint32_t worker_count(const struct config *c)
{
	cpu_set_t set;

	if (c->proxy.workers)
		return MIN(c->proxy.workers, THREADS_MAX);
	return sched_getaffinity(0, sizeof(set), &set) == 0 ? (uint32_t)MAX(1, MIN(CPU_COUNT(&set), 64)) : 1;
}

static void *worker_main(void *argument)
{
	struct worker_thread *t = argument;
	char name[16];

	snprintf(name, sizeof(name), "worker-%u", t->worker.pool_thread.index);
	pthread_setname_np(pthread_self(), name);
	loop_run(t->worker.pool_thread.loop);
	return NULL;
}

static const char *io_name(enum config_io io)
{
	return io == IO_EPOLL ? "epoll" : io == IO_URING ? "io_uring" : "auto";
}

static bool start_worker(struct proxy *p, uint32_t index)
{
	struct worker_thread *t = &p->threads[index];
	int r;

	t->proxy = p;
	t->worker.pool_thread.index = index;
	r = loop_new(io_name(p->config->proxy.io), &t->worker, &t->worker.pool_thread.loop);
	if (r < 0) {
		log_error(r == -ENOTSUP ? "io_uring is not available in this build: set [proxy] io to auto or epoll"
		                        : "cannot make an event loop",
		          kv_str("reason", strerror(-r)));
		return false;
	}
	t->worker.settings = (struct worker_settings){.config = p->config, .client_tls = p->client_tls};
	if (worker_init(&t->worker, &p->shared, p->pools) < 0)
		return false;
	p->shared.workers[index] = &t->worker;
	for (uint32_t i = 0; i < p->listeners.count; i++)
		if ((p->listeners.sockets[i].shared || i % p->thread_count == index) &&
		    worker_listen(&t->worker, p->listeners.sockets[i].fd) < 0)
			return false;
	return true;
}

static bool start_workers(struct proxy *p)
{
	p->threads = calloc(p->thread_count, sizeof(*p->threads));
	if (!p->threads)
		return false;
	p->shared.worker_count = p->thread_count;
	for (uint32_t i = 0; i < p->thread_count; i++)
		if (!start_worker(p, i))
			return false;
	for (uint32_t i = 0; i < p->thread_count; i++) { /* only now: they may look at each other */
		if (pthread_create(&p->threads[i].thread, NULL, worker_main, &p->threads[i]) != 0)
			return false;
		p->threads[i].started = true;
	}
	return true;
}

static bool start_admin(struct proxy *p)
{
	struct admin_context context = {
		.pools = p->pools, .nodes = p->nodes, .sessions = &p->shared, .config = p->config,
		.test_clock = p->options->test_clock, .started_wall = clock_wall(), .reload = reload_asked, .server = p,
	};
	int r;

	if (p->listeners.admin < 0)
		return true;
	r = admin_start(&context, p->listeners.admin, &p->admin);
	if (r < 0)
		log_error("cannot start the admin API", kv_str("reason", strerror(-r)));
	return r == 0;
}

static void write_pid_file(const struct config *c)
{
	FILE *out = *c->proxy.pid_file ? fopen(c->proxy.pid_file, "we") : NULL;

	if (!*c->proxy.pid_file)
		return;
	if (!out || fprintf(out, "%ld\n", (long)getpid()) < 0 || fclose(out) != 0)
		log_warn("cannot write the pid file", kv_str("file", c->proxy.pid_file), kv_str("reason", strerror(errno)));
}

static void say_where(const struct proxy *p)
{
	for (uint32_t i = 0; i < p->config->proxy.listen_address.count; i++)
		log_info("listening", kv_str("address", p->config->proxy.listen_address.items[i]),
		         kv_uint("workers", p->thread_count));
	if (p->admin)
		log_info("admin API", kv_str("address", p->config->proxy.admin_address));
}

static bool start(struct proxy *p)
{
	const struct config *c = p->config;
	char why[300] = "";

	if (config_admin_is_exposed(c)) {
		log_error("other machines could reach the admin API without a token: set [proxy] admin_token, or admin_address to "
		          "a loopback address, or admin_allow_insecure = true",
		          kv_str("admin_address", c->proxy.admin_address));
		return false;
	}
	raise_file_limit(c);
	if (RAND_bytes(p->shared.mock_key, sizeof(p->shared.mock_key)) != 1 || !make_client_tls(c, &p->client_tls) ||
	    !make_server_tls(c, &p->server_tls))
		return false;
	p->nodes = node_list_new(c);
	p->pools = p->nodes ? pools_new(c, p->nodes, p->server_tls) : NULL;
	if (!p->pools)
		return false;
	p->thread_count = worker_count(c);
	for (uint32_t i = 0; i < node_list_count(p->nodes); i++)
		if (node_resolve(node_list_at(p->nodes, i)) < 0)
			log_warn("cannot resolve a node's name; trying again every 30 s",
			         kv_str("node", node_list_at(p->nodes, i)->name));
	p->resolve_at = clock_update() + RESOLVE_PERIOD;
	if (!listen_set_open(&p->listeners, c, p->thread_count, why, sizeof(why))) {
		log_error(why);
		return false;
	}
	return start_workers(p) && start_admin(p);
}

/* ---- end ---- */

static void wait_for_clients(struct proxy *p)
{
	/* closed sessions may still have last words to write, for 2 s at most */
	for (int i = 0; i < 150 && clients(p) > 0; i++)
		usleep(20000);
	usleep(20000);
}

static void close_links(struct worker *w, void *argument)
{
	(void)argument;
	worker_drain(w, /* now= */ true);
}

static void stop_workers(struct proxy *p)
{
	broadcast(p, close_links, NULL, NULL);
	for (uint32_t i = 0; i < p->thread_count && p->threads; i++) {
		if (!p->threads[i].started)
			continue;
		worker_stop(&p->threads[i].worker);
		pthread_join(p->threads[i].thread, NULL);
	}
	for (uint32_t i = 0; i < p->thread_count && p->threads; i++) {
		struct worker *w = &p->threads[i].worker;

		if (!w->shared)
			continue;
		worker_destroy(w);
	}
}

static void end(struct proxy *p)
{
	if (p->threads)
		stop_workers(p);
	admin_stop(p->admin);
	listen_set_close(&p->listeners, /* unlink_unix= */ p->state != PROXY_HANDED_OVER);
	if (p->pools)
		pools_free(p->pools);
	for (uint32_t i = 0; i < p->thread_count && p->threads; i++)
		if (p->threads[i].worker.pool_thread.loop)
			loop_free(p->threads[i].worker.pool_thread.loop);
	node_list_free(p->nodes);
	tls_context_unref(p->client_tls);
	tls_context_unref(p->server_tls);
	free(p->threads);
	if (p->state != PROXY_HANDED_OVER && *p->config->proxy.pid_file)
		unlink(p->config->proxy.pid_file);
}

int proxy_run(const struct proxy_options *options, struct config *config)
{
	struct proxy p = {.options = options, .config = config, .handover = HANDOVER_INIT};
	sigset_t set = our_signals();
	int status = EXIT_START;

	pthread_sigmask(SIG_BLOCK, &set, NULL); /* inherited by all threads: the control thread alone takes signals */
	signal(SIGPIPE, SIG_IGN);
	handover_init();
	if (log_start(config->log.file, config->log.format, config->log.level) < 0) {
		fprintf(stderr, "heliosdb-proxy: cannot open the log file %s\n", config->log.file);
		return EXIT_START;
	}
	log_info("heliosdb-proxy starts", kv_str("version", HELIOS_VERSION), kv_int("pid", getpid()));
	if (start(&p)) {
		write_pid_file(config);
		say_where(&p);
		handover_tell_ready();
		notify_ready();
		p.watchdog_period = notify_watchdog_period();
		status = control_loop(&p);
		wait_for_clients(&p);
	}
	end(&p);
	log_info("heliosdb-proxy ends", kv_int("status", status));
	log_stop();
	config_free(p.config);
	return status;
}
