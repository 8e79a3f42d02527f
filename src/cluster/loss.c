/* See loss.h. */
#include "cluster/loss.h"

#include "base/event.h"
#include "base/log.h"
#include "cluster/node.h"

/* Its successor will be known: nodes tell their roles, and they don't contradict each other. Where roles are the
 * configuration's there is one primary and no other. */
static bool will_be_found(const struct topology *t)
{
	return !t->leader_is_named && !t->by_configuration && t->why != NO_PRIMARY_SEVERAL;
}

static bool is_over(const struct loss *loss, const struct loss_settings *s)
{
	return loss->since && clock_now() >= loss->since + s->hold_for;
}

static void give_up(struct loss *loss)
{
	if (loss->gave_up)
		return;
	loss->gave_up = true;
	log_event(EVENT_PRIMARY_GIVEN_UP, LOG_ERROR,
		  "no primary within write_timeout: what needs one fails from now on, until there is one",
		  kv_uint("lost_ms", clock_since(loss->since, clock_now()) / USEC_PER_MSEC));
}

/* While checks are good, and clients are not let in all the same, it stays lost: else they would wait anew each time.
 */
static bool lets_clients_in(const struct node *primary, usec_t hold_for)
{
	usec_t refused_at = atomic_load(&((struct node *)(uintptr_t)primary)->refused_at);

	return atomic_load(&((struct node *)(uintptr_t)primary)->answered_at) >= refused_at ||
	       clock_now() > refused_at + hold_for;
}

void loss_look(struct loss *loss, const struct loss_settings *s, const struct topology *t, bool fails)
{
	if (!t->primary || fails) {
		if (!loss->since)
			loss->since = clock_now();
	} else if (lets_clients_in(t->primary, s->hold_for)) {
		*loss = (struct loss){0};
	}
	if (s->hold_for && will_be_found(t) && is_over(loss, s))
		give_up(loss);
}

bool loss_is_waited_for(const struct loss *loss, const struct loss_settings *s, const struct topology *t)
{
	if (t->leader_is_named)
		return s->names_next;
	return s->hold_for && will_be_found(t) && !is_over(loss, s);
}
