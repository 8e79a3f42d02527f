/* See poller.h. */
#include "cluster/poller.h"

#define WANTED_FOR    (3 * USEC_PER_SEC)
#define SAY_IT_AGAIN  (100 * USEC_PER_MSEC) /* a store that every query makes would be felt by the other workers */
#define INTERVAL_MIN  USEC_PER_MSEC
#define WAITED_FOR    (10 * USEC_PER_MSEC) /* the interval while somebody waits */
#define POLLS_MISSING 3                    /* as many may go unanswered before a lag is unknown */

/* The order of the store and the load here, and of those in poller_is_due(), is what keeps a wish from being
 * overlooked: either the worker sees that nothing is being asked, or the thread sees the wish. */
bool poller_want(struct poller *p)
{
	usec_t now = clock_now();

	if (now < atomic_load_explicit(&p->wanted_at, memory_order_relaxed) + SAY_IT_AGAIN)
		return false;
	atomic_store(&p->wanted_at, now);
	return !atomic_load(&p->polling);
}

static bool is_wanted(struct poller *p)
{
	usec_t at = atomic_load(&p->wanted_at);

	return poller_is_awaited(p) || (at != 0 && clock_now() < at + WANTED_FOR);
}

/* The order is as with poller_want(). */
bool poller_wait(struct poller *p, int more)
{
	bool first = atomic_fetch_add(&p->waiters, (uint32_t)more) == 0;

	return more > 0 && (first || !atomic_load(&p->polling));
}

bool poller_is_awaited(const struct poller *p)
{
	return atomic_load(&((struct poller *)(uintptr_t)p)->waiters) > 0;
}

static usec_t next_at(const struct poller *p, usec_t interval)
{
	if (poller_is_awaited(p))
		interval = MIN(interval, WAITED_FOR);
	return p->last ? p->last + MAX(interval, INTERVAL_MIN) : 0;
}

bool poller_is_due(struct poller *p, usec_t interval)
{
	usec_t now = clock_now();
	bool polled = atomic_load(&p->polling), wanted = interval != 0 && is_wanted(p);

	if (!wanted && polled) {
		atomic_store(&p->polling, false);
		wanted = interval != 0 && is_wanted(p);
	}
	if (!wanted)
		return false;
	if (!polled) {
		p->since = now;
		p->last = 0;
		atomic_store(&p->polling, true);
	}
	if (now < next_at(p, interval))
		return false;
	p->last = now;
	return true;
}

usec_t poller_until_due(const struct poller *p, usec_t interval)
{
	usec_t now = clock_now(), next = next_at(p, interval);

	if (!atomic_load(&((struct poller *)(uintptr_t)p)->polling))
		return USEC_NEVER;
	return next > now ? next - now : 0;
}

static void take_of_primary(struct poller *p, const struct topology *t, struct node *node,
			    const struct monitor_place *place)
{
	if (p->primary != node || p->timeline != t->timeline)
		p->track.count = 0; /* positions of another history compare with nothing */
	p->primary = node;
	p->timeline = t->timeline;
	if (place->position.flushed)
		lag_track_add(&p->track, place->asked_at, place->position.flushed);
}

bool poller_take(struct poller *p, const struct topology *t, struct node *node, const struct monitor_place *place)
{
	const struct topology_node *n = topology_find(t, node);
	uint64_t bytes;
	usec_t time;

	if (!n || t->by_configuration || place->position.in_recovery != n->facts.in_recovery)
		return false;
	if (node == t->primary)
		take_of_primary(p, t, node, place);
	if (n->standing != STANDING_STANDBY || p->primary != t->primary || p->timeline != t->timeline ||
	    !lag_measure(&p->track, place->told_at, place->position.lsn, &bytes, &time))
		return false;
	node_set_lag(node, bytes, time);
	return true;
}

bool poller_is_too_old(const struct poller *p, usec_t lag_at, const struct monitor_settings *settings)
{
	usec_t patience = POLLS_MISSING * settings->poll_interval + settings->health.check_timeout;

	if (!atomic_load(&((struct poller *)(uintptr_t)p)->polling))
		patience += settings->health.check_interval;
	else
		lag_at = MAX(lag_at, p->since);
	return clock_now() > lag_at + patience;
}
