/* See share_queue.h. */
#include "session/share_queue.h"

void queue_init(struct queue *q)
{
	*q = (struct queue){0};
	list_init(&q->turns);
}

void queue_add(struct queue *q, struct turn *turn, usec_t now)
{
	assert(!q->closed);
	if (q->count == 0)
		q->since = now;
	list_push_back(&q->turns, &turn->node);
	q->count++;
}

struct turn *queue_take(struct queue *q, usec_t now)
{
	struct turn *turn = queue_first(q);

	list_remove(&turn->node);
	q->count--;
	q->since = now;
	return turn;
}

void queue_leave(struct turn *turn)
{
	turn->session = NULL;
}

bool queue_has_others(const struct queue *q)
{
	list_for_each (node, &q->turns)
		if (node != q->turns.next && list_entry(node, struct turn, node)->session)
			return true;
	return false;
}

void queue_move_others(struct queue *q, void (*each)(struct session *session))
{
	q->closed = true;
	list_for_each (node, &q->turns) {
		struct turn *turn = list_entry(node, struct turn, node);
		struct session *session = turn->session;

		if (node == q->turns.next || !session)
			continue;
		queue_leave(turn);
		each(session);
	}
}

bool queue_may_cancel(const struct queue *q, const struct turn *turn)
{
	return queue_first(q) == turn && q->closed && !queue_has_others(q);
}
