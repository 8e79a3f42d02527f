/* See link.h. The life of a link but for its login (link_login.c) and cancels (link_cancel.c). */
#include "link/link_priv.h"

#include "base/log.h"
#include "wire/frame.h"
#include "wire/message.h"
#include "wire/reader.h"

#include <stdatomic.h>

static const char *const state_names[] = {
#define X(name, meaning) #name,
	LINK_STATES(X)
#undef X
};

static const uint8_t may_become[] = {
	[LINK_CONNECTING] = BIT(LINK_ENCRYPTING) | BIT(LINK_LOGGING_IN) | BIT(LINK_CLOSED),
	[LINK_ENCRYPTING] = BIT(LINK_CONNECTING) | BIT(LINK_LOGGING_IN) | BIT(LINK_CLOSED),
	[LINK_LOGGING_IN] = BIT(LINK_CONNECTING) | BIT(LINK_IDLE) | BIT(LINK_CLOSED),
	[LINK_IDLE] = BIT(LINK_ACTIVE) | BIT(LINK_CLOSED),
	[LINK_ACTIVE] = BIT(LINK_IDLE) | BIT(LINK_CLOSED),
	[LINK_CLOSED] = 0,
};

const char *link_state_name(enum link_state state)
{
	return state_names[state];
}

void link_set_state(struct link *link, enum link_state to)
{
	assert(may_become[link->state] & BIT(to));
	link->state = to;
}

int link_open(struct loop *loop, const struct link_target *target, const struct link_events *events, void *owner,
	      struct link **ret_link)
{
	static _Atomic uint64_t last_id;
	struct link *link = calloc(1, sizeof(*link));
	int r;

	if (!link)
		return -ENOMEM;
	link->id = atomic_fetch_add(&last_id, 1) + 1;
	link->events = events;
	link->owner = owner;
	link->born = link->used = clock_now();
	link->tx_status = 'I';
	link->poses = target->poses;
	buf_init(&link->error, 1u << 20);
	buf_init(&link->batch, LINK_BATCH_MAX);
	list_init(&link->node);
	list_init(&link->cancels_under_way);
	statement_set_init(&link->statements);
	conn_init(&link->conn, &link_login_conn_ops);
	r = link_login_begin(link, loop, target);
	if (r < 0) {
		link_login_end(link);
		free(link);
		return r;
	}
	timer_set(loop_timers(loop), &link->timer, target->deadline);
	*ret_link = link;
	return 0;
}

static void link_free(struct loop_deferred *deferred)
{
	struct link *link = container_of(deferred, struct link, deferred);

	params_unref(link->settings);
	params_unref(link->settings_before);
	params_unref(link->reported);
	params_unref(link->reported_at_mark);
	buf_free(&link->batch);
	free(link->text);
	statement_set_clear(&link->statements);
	expects_free(&link->expects);
	buf_free(&link->error);
	wipe(link->key, sizeof(link->key));
	free(link->savepoints);
	free(link);
}

void link_bury(struct link *link)
{
	struct loop *loop = link->conn.loop;

	link_set_state(link, LINK_CLOSED);
	timer_cancel(&link->timer);
	link_login_end(link);
	link_forget_transaction(link);
	link_forget_cancels(link);
	link->deferred.run = link_free;
	loop_defer(loop, &link->deferred);
}

void link_close(struct link *link)
{
	static const uint8_t terminate[] = {'X', 0, 0, 0, 4};

	if (link->state == LINK_CLOSED)
		return;
	if (link->state >= LINK_IDLE && conn_is_open(&link->conn) && conn_queued(&link->conn) == 0 &&
	    link->expects.count == 0 && !conn_is_tls(&link->conn)) {
		/* best effort and without waiting: the server logs no "unexpected EOF" then */
		if (send(link->conn.fd, terminate, sizeof(terminate), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
			log_debug("could not say good-bye to the server", kv_uint("link", link->id));
	}
	conn_close(&link->conn);
	link_bury(link);
}

void link_lend(struct link *link, const struct link_user_ops *ops, void *user)
{
	link_set_state(link, LINK_ACTIVE);
	link->user_ops = ops;
	link->user = user;
}

void link_take_back(struct link *link)
{
	link_set_state(link, LINK_IDLE);
	link->user_ops = NULL;
	link->user = NULL;
	link->used = clock_now();
}

bool link_parameter_status(struct link *link, const uint8_t *body, size_t len)
{
	struct reader r = reader_make(body, len);
	struct slice name = read_cstring(&r), value = read_cstring(&r);

	if (!reader_done(&r))
		return false;
	if (link->poses && slice_equal(name, SLICE_LITERAL("in_hot_standby")))
		value = SLICE_LITERAL("off");
	params_set(&link->reported, (const char *)name.bytes, (const char *)value.bytes);
	return true;
}

static void mark_clear(struct settings_mark *mark)
{
	params_unref(mark->client);
	params_unref(mark->link);
	*mark = (struct settings_mark){0};
}

void link_forget_transaction(struct link *link)
{
	for (uint32_t i = 0; i < link->savepoint_count; i++)
		mark_clear(&link->savepoints[i].mark);
	link->savepoint_count = 0;
	mark_clear(&link->mark);
}

/*
 * Nobody uses the link: the server may still say that a parameter changed (a reload), send notices, and
 * FATAL before it closes. Anything else means that we lost count of its answers: the link can't be trusted.
 */
static size_t idle_received(struct link *link, const uint8_t *bytes, size_t len)
{
	struct frame f = {0};
	size_t at = 0;

	while (at < len) {
		enum frame_result r = frame_read(bytes + at, len - at, &f);

		if (r == FRAME_SHORT || (r == FRAME_HEAD && f.body_len < 65536))
			return at;
		if (r == FRAME_WHOLE && (f.type == 'N' || f.type == 'A')) {
			at += frame_size(&f);
		} else if (r == FRAME_WHOLE && f.type == 'S' && link_parameter_status(link, f.body, f.body_len)) {
			at += frame_size(&f);
		} else {
			struct error_fields e = {0};

			if (r == FRAME_WHOLE && f.type == 'E' && message_read_error(f.body, f.body_len, &e))
				log_info("server ended an idle connection", kv_uint("link", link->id),
					 kv_slice("sqlstate", e.sqlstate), kv_slice("message", e.message));
			else
				log_warn("server sent what nobody asked for; closing the connection to it",
					 kv_uint("link", link->id), kv_uint("type", f.type));
			conn_close(&link->conn);
			link->events->lost(link, -EPROTO);
			return len;
		}
	}
	return at;
}

static size_t link_received(struct conn *conn, uint8_t *bytes, size_t len)
{
	struct link *link = container_of(conn, struct link, conn);

	if (likely(link->state == LINK_ACTIVE))
		return link->user_ops->received(link, bytes, len);
	return idle_received(link, bytes, len);
}

static void link_conn_closed(struct conn *conn, int error)
{
	struct link *link = container_of(conn, struct link, conn);

	if (link->state == LINK_ACTIVE)
		link->user_ops->lost(link, error);
	else
		link->events->lost(link, error);
}

static void link_conn_drained(struct conn *conn)
{
	struct link *link = container_of(conn, struct link, conn);

	if (link->state == LINK_ACTIVE && link->user_ops->drained)
		link->user_ops->drained(link);
}

static void link_conn_ready(struct conn *conn)
{
	(void)conn; /* connects and handshakes are over when these ops are in force */
}

const struct conn_ops link_conn_ops = {
	.received = link_received,
	.closed = link_conn_closed,
	.drained = link_conn_drained,
	.ready = link_conn_ready,
};
