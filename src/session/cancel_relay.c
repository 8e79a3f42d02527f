/*
 * Cancels across a hand-over (SIGUSR2). The new process has the clients' address, so cancels of the old one's clients
 * come to it. It knows a private socket of each process before it that may still live: there it repeats a CancelRequest
 * whose key it does not know, to the youngest first. The old process takes that for what it is, but never passes it on:
 * the new one asks all of them itself, so that it does not matter which of them are gone.
 *
 * Both sides believe only processes of the same user, for any on the machine can see the sockets' names. How many keys
 * are asked for at the same time is bounded: garbage costs no more than a few connections within the machine.
 */
#include "session/cancel_priv.h"

#include "base/log.h"

#include <stddef.h>
#include <sys/un.h>
#include <unistd.h>

#define ASKING_MAX 64u
#define TIMEOUT    (15 * USEC_PER_SEC) /* a bit more than a cancel takes at the most, see link_cancel.c */

static bool is_of_our_user(int fd)
{
	struct ucred who = {0};
	socklen_t len = sizeof(who);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 && who.uid == geteuid();
}

/* ---- the new process asks ---- */

struct asking {
	struct conn conn;
	struct timer timer;
	struct worker *worker;
	struct cancel_message *m;
	uint32_t at; /* which predecessor */
	struct loop_deferred deferred;
};

static void asking_free(struct loop_deferred *deferred)
{
	free(container_of(deferred, struct asking, deferred));
}

static void asking_end(struct asking *a)
{
	struct loop *loop = a->worker->pool_thread.loop;

	timer_cancel(&a->timer);
	conn_close(&a->conn);
	atomic_fetch_sub(&a->worker->shared->predecessors.asking, 1);
	cancel_is_over(a->m);
	a->deferred.run = asking_free;
	loop_defer(loop, &a->deferred);
}

static void asking_ready(struct conn *conn)
{
	struct asking *a = container_of(conn, struct asking, conn);
	struct buf out = BUF_INIT(512);

	if (!is_of_our_user(conn->fd)) {
		asking_end(a);
		return;
	}
	message_cancel_request(&out, a->m->pid, slice_make(a->m->key, a->m->key_len));
	conn_send(conn, out.bytes, out.len);
	buf_free_secret(&out);
}

static size_t asking_received(struct conn *conn, uint8_t *bytes, size_t len)
{
	(void)conn;
	(void)bytes;
	return len;
}

static void ask_from_here(struct asking *a);

static void asking_closed(struct conn *conn, int error)
{
	struct asking *a = container_of(conn, struct asking, conn);

	if (error == -ECANCELED) { /* our loop ends */
		asking_end(a);
		return;
	}
	a->at++;
	ask_from_here(a);
}

static void asking_timeout(struct timer *timer)
{
	asking_end(container_of(timer, struct asking, timer));
}

static const struct conn_ops asking_ops = {.received = asking_received, .closed = asking_closed, .ready = asking_ready};

static socklen_t abstract_address(const char *name, struct sockaddr_un *ret)
{
	*ret = (struct sockaddr_un){.sun_family = AF_UNIX};
	memcpy(ret->sun_path + 1, name, strlen(name));
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
}

/* The next of them that lives, if any. */
static void ask_from_here(struct asking *a)
{
	struct predecessors *all = &a->worker->shared->predecessors;
	struct sockaddr_un address;

	for (; a->at < all->count; a->at++) {
		socklen_t len = abstract_address(all->names[a->at], &address);
		int r;

		if (atomic_load_explicit(&all->gone[a->at], memory_order_relaxed))
			continue;
		conn_init(&a->conn, &asking_ops);
		r = conn_connect(&a->conn, a->worker->pool_thread.loop, (struct sockaddr *)&address, len);
		if (r == 0)
			return;
		if (r == -ECONNREFUSED)
			atomic_store(&all->gone[a->at], true);
	}
	asking_end(a);
}

bool cancel_ask_predecessors(struct worker *w, struct cancel_message *m)
{
	struct predecessors *all = &w->shared->predecessors;
	struct asking *a;

	if (all->count == 0 || m->visitor || atomic_load(&all->asking) >= ASKING_MAX)
		return false;
	a = calloc(1, sizeof(*a));
	if (!a)
		return false;
	atomic_fetch_add(&all->asking, 1);
	a->worker = w;
	a->m = m;
	conn_init(&a->conn, &asking_ops);
	timer_init(&a->timer, asking_timeout);
	timer_set(loop_timers(w->pool_thread.loop), &a->timer, clock_now() + TIMEOUT);
	ask_from_here(a);
	return true;
}

/* ---- the old process answers ---- */

struct cancel_visitor {
	struct conn conn;
	struct timer timer;
	struct worker *worker;
	bool asked; /* a cancel is under way, which refers to it */
	struct loop_deferred deferred;
};

static void visitor_free(struct loop_deferred *deferred)
{
	free(container_of(deferred, struct cancel_visitor, deferred));
}

/* Once it is closed and no cancel refers to it. */
static void visitor_maybe_free(struct cancel_visitor *v)
{
	timer_cancel(&v->timer);
	if (v->asked || conn_is_open(&v->conn))
		return;
	v->deferred.run = visitor_free;
	loop_defer(v->worker->pool_thread.loop, &v->deferred);
}

static void visitor_close(struct cancel_visitor *v)
{
	conn_close(&v->conn);
	visitor_maybe_free(v);
}

static void visitor_is_served(struct cancel_message *m)
{
	struct cancel_visitor *v = m->visitor;

	free(m);
	v->asked = false;
	visitor_close(v);
}

static bool begin_for(struct cancel_visitor *v, const struct startup *p)
{
	struct cancel_message *m = malloc(sizeof(*m));

	if (!m)
		return false;
	*m = (struct cancel_message){.from = v->worker, .over = visitor_is_served, .visitor = v};
	v->asked = cancel_begin(m, p->cancel_pid, p->cancel_key);
	if (!v->asked)
		free(m);
	return v->asked;
}

static size_t visitor_received(struct conn *conn, uint8_t *bytes, size_t len)
{
	struct cancel_visitor *v = container_of(conn, struct cancel_visitor, conn);
	struct startup p;
	int size = v->asked ? -EPROTO : startup_read(bytes, len, &p);

	if (size == 0)
		return 0;
	if (size < 0 || p.kind != STARTUP_CANCEL || !begin_for(v, &p))
		visitor_close(v);
	return len;
}

static void visitor_closed(struct conn *conn, int error)
{
	(void)error;
	visitor_maybe_free(container_of(conn, struct cancel_visitor, conn));
}

static void visitor_timeout(struct timer *timer)
{
	visitor_close(container_of(timer, struct cancel_visitor, timer));
}

static void visitor_ready(struct conn *conn)
{
	(void)conn; /* no connects, no handshakes */
}

static const struct conn_ops visitor_ops = {
	.received = visitor_received, .closed = visitor_closed, .ready = visitor_ready};

static void visitor_comes(struct loop_listener *listener, int fd, const struct sockaddr *address, socklen_t len)
{
	struct worker *w = listener->owner;
	struct cancel_visitor *v = is_of_our_user(fd) ? calloc(1, sizeof(*v)) : NULL;

	(void)address;
	(void)len;
	if (!v) {
		close(fd);
		return;
	}
	v->worker = w;
	timer_init(&v->timer, visitor_timeout);
	conn_init(&v->conn, &visitor_ops);
	if (conn_open(&v->conn, w->pool_thread.loop, fd) < 0) {
		close(fd);
		free(v);
		return;
	}
	timer_set(loop_timers(w->pool_thread.loop), &v->timer, clock_now() + TIMEOUT);
}

void worker_take_visitors(struct worker *w, int fd)
{
	int r;

	w->visitors =
		(struct loop_listener){.loop = w->pool_thread.loop, .fd = fd, .accepted = visitor_comes, .owner = w};
	r = loop_listen(w->pool_thread.loop, &w->visitors);
	w->takes_visitors = r == 0;
	if (r < 0)
		log_warn("cancels of this process's clients will not reach it", kv_str("reason", strerror(-r)));
}

void worker_take_no_visitors(struct worker *w)
{
	if (w->takes_visitors)
		loop_unlisten(&w->visitors);
	w->takes_visitors = false;
}
