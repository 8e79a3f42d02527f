/*
 * Nothing is read for a while, and time stands still. A flag of each conn says so, which stands beside the one of its
 * owner's pause and is looked at together with it: a loop that is not frozen does nothing for this. What comes stays in
 * the socket, or, where the kernel has taken it out already, is kept.
 *
 * What must go on: writing, connecting, closing, and those conns that are never frozen.
 */
#include "loop/loop_priv.h"

static void thaw_conn(struct conn *conn)
{
	if (!(conn->flags & CONN_FROZEN))
		return;
	conn->flags &= (uint16_t)~CONN_FROZEN;
	if (conn->state == CONN_HANDSHAKING) {
		if ((conn->flags & CONN_HOLD) && list_is_empty(&conn->resumed))
			conn_tls_handshake_due(conn);
	} else if (conn_may_read(conn) &&
		   (conn->kept_len > 0 || (conn->flags & (CONN_HOLD | CONN_ENDED)) || conn_tls_has_bytes(conn))) {
		conn_set_resumed(conn);
	}
}

void loop_freeze(struct loop *loop)
{
	if (loop->is_frozen)
		return;
	loop->is_frozen = true;
	loop->frozen_at = clock_now();
	timer_wheel_freeze(loop->timers);
	list_for_each (node, &loop->conns) {
		struct conn *conn = list_entry(node, struct conn, all);

		if (!conn->never_frozen)
			conn->flags |= CONN_FROZEN;
	}
}

static void thaw_all(struct loop *loop, bool first)
{
	list_for_each (node, &loop->conns) {
		struct conn *conn = list_entry(node, struct conn, all);

		if (conn->thaws_first == first)
			thaw_conn(conn);
	}
}

void loop_thaw(struct loop *loop)
{
	if (!loop->is_frozen)
		return;
	loop->is_frozen = false;
	timer_wheel_thaw(loop->timers, clock_since(loop->frozen_at, clock_now()));
	thaw_all(loop, /* first= */ true);
	thaw_all(loop, /* first= */ false);
}

void conn_never_freeze(struct conn *conn)
{
	conn->never_frozen = true;
	thaw_conn(conn);
}

/* Who does not even have a connection yet has nothing on its way. */
static bool is_unwritten(const struct conn *conn)
{
	return !conn->never_frozen && conn->queued > 0 && (conn->state == CONN_OPEN || conn->state == CONN_FINISHING);
}

uint32_t loop_unwritten(const struct loop *loop)
{
	uint32_t n = 0;

	list_for_each (node, &loop->conns)
		n += is_unwritten(list_entry(node, struct conn, all));
	return n;
}

/* What is done to one may close any other: so each is taken out before its turn. */
uint32_t loop_fail_unwritten(struct loop *loop)
{
	struct list todo, *node;
	uint32_t n = 0;

	list_init(&todo);
	while ((node = list_first(&loop->conns))) {
		list_remove(node);
		list_push_back(&todo, node);
	}
	while ((node = list_first(&todo))) {
		struct conn *conn = list_entry(node, struct conn, all);

		list_remove(node);
		list_push_back(&loop->conns, node);
		if (!is_unwritten(conn))
			continue;
		n++;
		conn_fail(conn, -ETIMEDOUT);
	}
	return n;
}
