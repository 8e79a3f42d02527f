/*
 * CancelRequests to servers. Each has a connection of its own, encrypted like the link's. As long as one is under
 * way its link must stay where it is: the server may act on it until it has closed the cancel's connection.
 * https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS
 */
#include "link/link_priv.h"

#include "wire/message.h"

struct cancel {
	struct conn conn;
	struct link *link; /* NULL: the link is gone */
	struct list node;  /* in its link's cancels_under_way */
	struct link_target *target;
	void (*done)(struct link *link);
	void (*over)(void *argument);
	void *argument;
	uint32_t pid;
	uint8_t key[32];
	uint8_t key_len;
	bool asked_for_tls;
	struct timer timer;
	struct loop_deferred deferred;
};

#define CANCEL_TIMEOUT (10 * USEC_PER_SEC)

static void cancel_free(struct loop_deferred *deferred)
{
	struct cancel *c = container_of(deferred, struct cancel, deferred);

	link_target_free(c->target);
	wipe(c->key, sizeof(c->key));
	free(c);
}

static void cancel_end(struct cancel *c)
{
	struct link *link = c->link;

	timer_cancel(&c->timer);
	list_remove(&c->node);
	c->link = NULL;
	c->deferred.run = cancel_free;
	loop_defer(c->conn.loop, &c->deferred);
	if (link)
		c->done(link);
	if (c->over)
		c->over(c->argument);
}

static void cancel_closed(struct conn *conn, int error)
{
	(void)error;
	cancel_end(container_of(conn, struct cancel, conn));
}

static void cancel_timeout(struct timer *timer)
{
	struct cancel *c = container_of(timer, struct cancel, timer);

	conn_close(&c->conn);
	cancel_end(c);
}

static void send_request(struct cancel *c)
{
	struct buf out = BUF_INIT(512);

	message_cancel_request(&out, c->pid, slice_make(c->key, c->key_len));
	conn_send(&c->conn, out.bytes, out.len);
	buf_free(&out);
}

static void step(struct cancel *c, enum encrypt_step s)
{
	if (s == ENCRYPT_NOT_NEEDED) {
		send_request(c);
	} else if (s == ENCRYPT_ASKED) {
		c->asked_for_tls = true;
	} else if (s == ENCRYPT_FAILED) {
		conn_close(&c->conn);
		cancel_end(c);
	}
}

static void cancel_ready(struct conn *conn)
{
	struct cancel *c = container_of(conn, struct cancel, conn);

	if (conn_is_tls(conn))
		send_request(c);
	else
		step(c, link_target_encrypt(c->target, conn));
}

static size_t cancel_received(struct conn *conn, uint8_t *bytes, size_t len)
{
	struct cancel *c = container_of(conn, struct cancel, conn);

	if (c->asked_for_tls && !conn_is_tls(conn)) {
		c->asked_for_tls = false;
		step(c, link_target_encrypt_answer(c->target, conn, bytes[0]));
	}
	return len; /* a server says nothing else to a cancel */
}

static const struct conn_ops cancel_ops = {
	.received = cancel_received,
	.closed = cancel_closed,
	.ready = cancel_ready,
};

int link_cancel(struct link *link, const struct link_target *target, void (*done)(struct link *link),
		void (*over)(void *argument), void *argument)
{
	struct cancel *c = calloc(1, sizeof(*c));
	int r = -ENOMEM;

	if (!c)
		return r;
	c->target = link_target_copy(target);
	if (!c->target)
		goto fail;
	/* encrypted as the link is, whatever it took to get there */
	if (!conn_is_tls(&link->conn))
		c->target->tls_mode = TLS_DISABLE;
	else if (c->target->tls_mode < TLS_PREFER)
		c->target->tls_mode = TLS_REQUIRE;
	c->link = link;
	c->done = done;
	c->over = over;
	c->argument = argument;
	c->pid = link->backend_pid;
	c->key_len = link->key_len;
	memcpy(c->key, link->key, link->key_len);
	list_init(&c->node);
	timer_init(&c->timer, cancel_timeout);
	conn_init(&c->conn, &cancel_ops);
	r = link_target_connect(target, &c->conn, link->conn.loop);
	if (r < 0)
		goto fail;
	timer_set(loop_timers(link->conn.loop), &c->timer, clock_now() + CANCEL_TIMEOUT);
	list_push_back(&link->cancels_under_way, &c->node);
	return 0;
fail:
	link_target_free(c->target);
	free(c);
	return r;
}

void link_forget_cancels(struct link *link)
{
	list_for_each (node, &link->cancels_under_way) {
		struct cancel *c = list_entry(node, struct cancel, node);

		list_remove(&c->node);
		c->link = NULL;
	}
}
