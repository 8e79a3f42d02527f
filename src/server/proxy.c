/* See proxy.h. The start and the end. */
#include "server/proxy_priv.h"

#include "base/event.h"
#include "metrics/exposition.h"
#include "route/breaker.h"
#include "server/built_in.h"
#include "server/notify.h"
#include "stages/pipeline.h"

#include <openssl/rand.h>
#include <sched.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

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

static bool start_admin(struct proxy *p)
{
	struct admin_context context = {
		.pools = p->pools,
		.nodes = p->nodes,
		.cluster = p->cluster,
		.members = p->members,
		.patroni = p->patroni,
		.catalogs = p->catalogs,
		.sessions = &p->shared,
		.config = p->config,
		.config_is_imported = p->options->config_path && p->options->is_pgbouncer,
		.test_clock = p->options->test_clock,
		.started_wall = clock_wall(),
		.reload = reload_ask,
		.reload_and_wait = reload_and_wait,
		.features = features,
		.server = p,
	};
	struct admin_listener listeners[ADMIN_SOCKETS_MAX];
	int r;

	_Static_assert(ADMIN_SOCKETS_MAX <= ADMIN_LISTENERS_MAX, "each of them can be served");
	if (p->listeners.admin_count == 0)
		return true;
	for (uint32_t i = 0; i < p->listeners.admin_count; i++)
		listeners[i] = (struct admin_listener){p->listeners.admin[i].fd, p->listeners.admin[i].address};
	r = admin_start(&context, listeners, p->listeners.admin_count, &p->admin);
	if (r < 0)
		log_error("cannot start the admin API", kv_str("reason", strerror(-r)));
	return r == 0;
}

static void retire(void *server, void (*free_it)(void *argument), void *argument)
{
	workers_tell(server, NULL, free_it, argument);
}

static void follow_primary(void *server)
{
	struct proxy *p = server;

	nodes_primary_moved(p, pools_follow(p->pools));
}

static void tell_positions(void *server)
{
	struct proxy *p = server;

	for (uint32_t i = 0; i < p->shared.worker_count; i++)
		routing_positions_told(p->shared.workers[i]);
}

static bool start_cluster(struct proxy *p)
{
	struct cluster_context context = {
		.nodes = p->nodes,
		.members = p->members,
		.unsure = provider_ask,
		.config = p->config,
		.server_tls = p->server_tls,
		.io = io_name(p->config->proxy.io),
		.retire = retire,
		.followed = follow_primary,
		.located = tell_positions,
		.server = p,
	};
	int r = cluster_start(&context, &p->cluster);

	if (r < 0)
		log_error("cannot start the checks of nodes", kv_str("reason", strerror(-r)));
	else
		atomic_store_explicit(&p->shared.cluster, p->cluster, memory_order_release);
	return r == 0;
}

static bool make_console(struct proxy *p)
{
	struct console_context context = {
		.pools = p->pools,
		.nodes = p->nodes,
		.sessions = &p->shared,
		.reload = reload_ask,
		.reloads = reload_count,
		.shut_down = control_ask_shutdown,
		.let_run = jobs_let_run,
		.set = reload_set,
		.members = p->members,
		.server = p,
	};

	p->console = console_new(&context);
	return p->console != NULL;
}

static bool make_catalogs(struct proxy *p)
{
	struct catalogs_context context = {.config = p->config, .retire = retire, .server = p};

	p->catalogs = p->shared.catalogs = catalogs_new(&context);
	return p->catalogs != NULL;
}

static void expose(void *server, struct buf *out)
{
	struct proxy *p = server;
	struct exposition e = EXPOSITION_INIT(out, EXPOSITION_TEXT);
	struct counters sum;

	if (p->admin) {
		admin_expose(p->admin, out);
		return;
	}
	memset(&sum, 0, sizeof(sum));
	pools_add_counters(p->pools, &sum);
	exporter_add_counters(&sum);
	for (uint32_t i = 0; i < p->shared.worker_count; i++)
		counters_add(&sum, &p->shared.workers[i]->pool_thread.counters);
	for (uint32_t i = 0; i < COUNTER_METRICS; i++)
		exposition_single(&e, &counter_metrics[i], counter_value(&sum, i));
	exposition_end(&e);
}

static bool start_telemetry(struct proxy *p)
{
	struct exporter_context context = {.expose = expose, .server = p, .started_wall = clock_wall()};
	int r;

	p->telemetry = exporter_new(&context);
	r = p->telemetry ? exporter_configure(p->telemetry, p->config) : -ENOMEM;
	if (r < 0)
		log_error("cannot start telemetry", kv_str("reason", strerror(-r)));
	return r == 0;
}

static void write_pid_file(struct proxy *p)
{
	const char *path = p->config->proxy.pid_file;
	FILE *out = *path ? fopen(path, "we") : NULL;
	bool written;

	if (!*path)
		return;
	written = out && fprintf(out, "%ld\n", (long)getpid()) > 0;
	if (out && fclose(out) != 0)
		written = false;
	if (!written)
		log_warn("cannot write the pid file", kv_str("file", path), kv_str("reason", strerror(errno)));
	p->wrote_pid_file = written;
}

static void say_where(const struct proxy *p)
{
	for (uint32_t i = 0; i < p->config->proxy.listen_address.count; i++)
		log_info("listening", kv_str("address", p->config->proxy.listen_address.items[i]),
			 kv_uint("workers", p->thread_count), kv_str("io", workers_io(p)));
	for (uint32_t i = 0; p->admin && i < p->listeners.admin_count; i++)
		log_info("admin API", kv_str("address", p->listeners.admin[i].address));
}

static bool start(struct proxy *p)
{
	const struct config *c = p->config;
	char why[300] = "";

	if (config_admin_is_exposed(c))
		log_warn("other machines can reach the admin API and it has no token: it answers health checks only. "
			 "Set [proxy] "
			 "admin_token, or admin_address to a loopback address, or admin_allow_insecure = true",
			 kv_str("admin_address", c->proxy.admin_address));
	raise_file_limit(c);
	if (RAND_bytes(p->shared.mock_key, sizeof(p->shared.mock_key)) != 1 || !make_client_tls(c, &p->client_tls) ||
	    !make_server_tls(c, &p->server_tls))
		return false;
	p->shared.stages = all_stages;
	if (!nodes_start(p))
		return false;
	p->pools = pools_new(c, p->nodes, p->server_tls);
	if (!p->pools || !handed_close_databases(p, p->handed))
		return false;
	p->shared.breakers = breakers_new(p->nodes, c);
	p->watch = watch_new();
	if (!p->shared.breakers || !p->watch || !make_catalogs(p) || !make_console(p))
		return false;
	p->thread_count = worker_count(c);
	(void)node_list_resolve(p->nodes, c->health.dns_interval, /* at_once= */ true);
	if (!listen_set_open(&p->listeners, c, p->thread_count, why, sizeof(why))) {
		log_error(why);
		return false;
	}
	handover_take_predecessors(&p->shared.predecessors);
	if (!provider_start(p) || !nodes_take(p) || !workers_start(p) || !start_cluster(p))
		return false;
	write_pid_file(p); /* ahead of the admin API: who is told that the proxy is ready may look for it */
	return start_admin(p) && start_telemetry(p);
}

/* ---- the end ---- */

/* Also after a start that failed halfway. */
static void end(struct proxy *p)
{
	bool files_are_ours = !p->handed_over && (p->serves || !p->listeners.inherited);

	reload_news_end(&p->reload_news);
	exporter_expose_no_more(p->telemetry); /* it asks the admin API */
	admin_stop(p->admin);                  /* first: it asks the workers */
	jobs_end(p);
	patroni_stop(p->patroni);
	cluster_stop(p->cluster); /* it tells the workers, too */
	workers_end(p);
	exporter_free(p->telemetry); /* what the workers have left behind is sent */
	listen_set_close(&p->listeners, files_are_ours);
	handover_close(&p->handover);
	listen_set_close_admin(&p->listeners, /* are_ours= */ !p->admin, files_are_ours);
	console_free(p->console);
	watch_free(p->watch);
	catalogs_free(p->catalogs);
	if (p->pools)
		pools_free(p->pools);
	cluster_free(p->cluster);
	patroni_free(p->patroni);
	breakers_free(p->shared.breakers);
	node_list_free(p->nodes);
	members_free(p->members);
	handed_free(p->handed);
	reload_forget_settings(p);
	tls_context_unref(p->client_tls);
	tls_context_unref(p->server_tls);
	free(p->threads);
	suspension_destroy(&p->shared.suspension);
	reload_news_free(&p->reload_news);
	if (!p->handed_over && p->wrote_pid_file)
		unlink(p->config->proxy.pid_file);
}

int proxy_run(const struct proxy_options *options, struct config *config)
{
	struct proxy p = {
		.options = options, .config = config, .listeners = LISTEN_SET_INIT, .handover = HANDOVER_INIT};
	sigset_t set = control_signals();
	int status = EXIT_START;

	jobs_init(&p);
	suspension_init(&p.shared.suspension);
	pthread_sigmask(SIG_BLOCK, &set, NULL); /* inherited by all threads: the control thread alone takes signals */
	signal(SIGPIPE, SIG_IGN);
	reload_news_init(&p.reload_news);
	handover_init();
	if (log_start(config->log.file, config->log.format, config->log.level) < 0) {
		fprintf(stderr, "heliosdb-proxy: cannot open the log file %s\n", config->log.file);
		config_free(config);
		return EXIT_START;
	}
	if (log_keep(config->admin.log_lines) < 0 || event_keep(config->admin.events) < 0)
		log_error("out of memory: the last log lines or events are not kept");
	log_info("heliosdb-proxy starts", kv_str("version", HELIOS_VERSION), kv_int("pid", getpid()));
	if (start(&p)) {
		p.serves = true;
		say_where(&p);
		log_event(EVENT_PROXY_STARTED, LOG_INFO, "clients are served", kv_str("version", HELIOS_VERSION),
			  kv_int("pid", getpid()));
		handover_tell_ready();
		notify_ready();
		p.watchdog_period = notify_watchdog_period();
		status = control_loop(&p);
	}
	end(&p);
	log_info("heliosdb-proxy ends", kv_int("status", status));
	log_stop();
	event_forget();
	log_forget();
	config_free(p.config);
	return status;
}
