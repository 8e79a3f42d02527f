/*
 * The workers, the crew of threads that runs them, and talking to them.
 *
 * The end: each worker closes what it has in the thread that runs it, and its loop runs on until last words are written
 * and cancels are sent (p->grace_ms at most). Then the threads are joined. What is left is closed from here, in turns
 * of all loops until none has anything to do: messages go to and fro between them. Only then the first loop is freed.
 */
#include "server/proxy_priv.h"

#include "base/log.h"
#include "loop/crew.h"

#define SETTLE_TURNS_MAX 1000

/* ---- messages to the workers ---- */

struct telling_message {
	struct loop_message message;
	struct telling *telling;
};

struct telling {
	void (*run)(struct worker *w, void *argument);
	void (*last)(void *argument);
	void *argument;
	_Atomic uint32_t left;
	struct telling_message messages[];
};

static void telling_arrives(struct loop_message *message, void *thread)
{
	struct telling *t = container_of(message, struct telling_message, message)->telling;

	if (t->run)
		t->run(thread, t->argument);
	if (atomic_fetch_sub(&t->left, 1) > 1)
		return;
	if (t->last)
		t->last(t->argument);
	free(t);
}

void workers_tell(struct proxy *p, void (*run)(struct worker *, void *), void (*last)(void *), void *argument)
{
	struct telling *t = malloc(sizeof(*t) + p->thread_count * sizeof(t->messages[0]));

	if (!t) { /* `last` never runs, which is safe: what it would free or allow waits for ever */
		log_error("out of memory while talking to the workers");
		return;
	}
	*t = (struct telling){.run = run, .last = last, .argument = argument};
	atomic_init(&t->left, p->thread_count);
	for (uint32_t i = 0; i < p->thread_count; i++) {
		t->messages[i] = (struct telling_message){.message.run = telling_arrives, .telling = t};
		loop_post(p->threads[i].worker.pool_thread.loop, &t->messages[i].message);
	}
}

/* ---- start ---- */

const char *io_name(enum config_io io)
{
	return io == IO_EPOLL ? "epoll" : io == IO_URING ? "io_uring" : "auto";
}

static bool listen_on_its_share(struct proxy *p, struct worker *w)
{
	for (uint32_t i = 0; i < p->listeners.count; i++) {
		const struct listen_socket *s = &p->listeners.sockets[i];
		int r = s->shared || i % p->thread_count == w->pool_thread.index ? worker_listen(w, s->fd) : 0;

		if (r < 0) {
			log_error("cannot accept on a listening socket", kv_str("address", s->address),
				  kv_str("reason", strerror(-r)));
			return false;
		}
	}
	return true;
}

static bool make_worker(struct proxy *p, uint32_t index)
{
	struct worker_thread *t = &p->threads[index];
	struct worker *w = &t->worker;
	int r;

	w->pool_thread.index = index;
	r = loop_new(io_name(p->config->proxy.io), w, &w->pool_thread.loop);
	if (r < 0) {
		if (p->config->proxy.io == IO_URING)
			log_error("io_uring cannot be used: set [proxy] io to auto or epoll",
				  kv_str("reason", loop_refusal(r)));
		else
			log_error("cannot make an event loop", kv_str("reason", strerror(-r)));
		return false;
	}
	w->settings = (struct worker_settings){.config = p->config, .client_tls = p->client_tls};
	r = worker_init(w, &p->shared, p->pools);
	if (r < 0) {
		log_error("cannot make a worker", kv_str("reason", strerror(-r)));
		return false;
	}
	t->is_made = true;
	p->shared.workers[index] = w;
	return listen_on_its_share(p, w);
}

const char *workers_io(const struct proxy *p)
{
	return loop_backend(p->threads[0].worker.pool_thread.loop);
}

static bool start_threads(struct proxy *p)
{
	struct loop *loops[THREADS_MAX];
	int r;

	for (uint32_t i = 0; i < p->thread_count; i++)
		loops[i] = p->threads[i].worker.pool_thread.loop;
	r = crew_start(loops, p->thread_count, p->config->proxy.adaptive_workers ? crew_judge : NULL, "worker",
		       &p->shared.crew);
	if (r < 0)
		log_error("cannot start the workers' threads", kv_str("reason", strerror(-r)));
	return r == 0;
}

bool workers_start(struct proxy *p)
{
	p->threads = calloc(p->thread_count, sizeof(*p->threads));
	if (!p->threads)
		return false;
	p->shared.worker_count = p->thread_count;
	for (uint32_t i = 0; i < p->thread_count; i++)
		if (!make_worker(p, i))
			return false;
	if (!start_threads(p)) /* only now: they may look at each other */
		return false;
	workers_let_spin(p);
	return true;
}

void workers_let_spin(struct proxy *p)
{
	const struct config_proxy *c = &p->config->proxy;

	crew_let_spin(p->shared.crew, c->spin == SPIN_AUTO ? c->spin_most : 0, spin_judge);
}

/* ---- the end ---- */

/* Outlives whoever waits, should a worker be late. */
static struct ending {
	struct proxy *proxy;
	_Atomic bool told;
} ending;

static void end_worker(struct worker *w, void *argument)
{
	const struct ending *e = argument;

	catalogs_thread_end(e->proxy->catalogs, &w->pool_thread);
	worker_end(w);
}

static bool all_quiet(const struct proxy *p)
{
	for (uint32_t i = 0; i < p->thread_count; i++)
		if (!worker_is_quiet(&p->threads[i].worker))
			return false;
	return true;
}

static void mark(void *argument)
{
	atomic_store(&((struct ending *)argument)->told, true);
}

/* One more signal ends the waiting. */
static void close_in_their_threads(struct proxy *p)
{
	static const struct timespec pause = {.tv_nsec = 10000000};
	sigset_t set = control_signals();

	ending.proxy = p;
	atomic_store(&ending.told, false);
	workers_tell(p, end_worker, mark, &ending);
	for (unsigned waited = 0; waited < p->grace_ms && !(atomic_load(&ending.told) && all_quiet(p)); waited += 10) {
		int number = sigtimedwait(&set, NULL, &pause);

		if (number == SIGTERM || number == SIGINT || number == SIGQUIT)
			break;
	}
}

/* One turn of each loop. true: none has anything left to do. */
static bool settle(struct proxy *p)
{
	bool over = true;

	for (uint32_t i = 0; i < p->thread_count; i++) {
		struct worker *w = &p->threads[i].worker;

		if (!p->threads[i].is_made)
			continue;
		catalogs_thread_end(p->catalogs, &w->pool_thread);
		worker_end(w);
		loop_close_all(w->pool_thread.loop);
		loop_run_turn(w->pool_thread.loop, 0);
	}
	for (uint32_t i = 0; i < p->thread_count; i++)
		over = over && (!p->threads[i].is_made || loop_is_over(p->threads[i].worker.pool_thread.loop));
	return over;
}

void workers_end(struct proxy *p)
{
	if (!p->threads)
		return;
	if (p->shared.crew)
		close_in_their_threads(p);
	crew_stop(p->shared.crew);
	for (int i = 0; i < SETTLE_TURNS_MAX && !settle(p); i++)
		;
	for (uint32_t i = 0; i < p->thread_count; i++)
		if (p->threads[i].is_made)
			worker_destroy(&p->threads[i].worker);
	for (uint32_t i = 0; i < p->thread_count; i++)
		loop_free(p->threads[i].worker.pool_thread.loop);
}
