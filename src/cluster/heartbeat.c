/* See heartbeat.h. */
#include "cluster/heartbeat.h"

#include <inttypes.h>

bool heartbeat_is_due(struct heartbeat *h, usec_t interval)
{
	usec_t now = clock_now();

	if (interval == 0 || now < h->due)
		return false;
	h->due = now + interval;
	return true;
}

/* Beats of another primary compare with nothing: it may lack some. */
static void follow(struct heartbeat *h, const struct node *primary)
{
	if (h->primary == primary)
		return;
	h->primary = primary;
	h->written = 0;
	h->track.count = 0;
}

uint64_t heartbeat_begin(struct heartbeat *h, const struct node *primary, uint64_t wall)
{
	follow(h, primary);
	if (h->written)
		lag_track_add(&h->track, clock_now(), h->written); /* it is still that */
	h->beat = MAX(h->beat + 1, wall); /* also more than what a process before this one wrote */
	return h->beat;
}

void heartbeat_confirm(struct heartbeat *h, const struct node *primary, uint64_t beat, usec_t at)
{
	if (h->primary != primary || beat != h->beat)
		return;
	h->written = beat;
	h->written_at = at;
	lag_track_add(&h->track, at, beat);
}

bool heartbeat_measure(const struct heartbeat *h, uint64_t beat, usec_t at, usec_t patience, uint64_t *ret_us)
{
	uint64_t beats;
	usec_t time;

	if (!h->written || at > h->written_at + patience || !lag_measure(&h->track, at, beat, &beats, &time))
		return false;
	*ret_us = time;
	return true;
}

static void add_literal(struct buf *sql, const char *text)
{
	buf_add_str(sql, "'");
	for (; *text; text++)
		if (*text != '\\') /* no name needs it, and it is not the same to every server */
			buf_printf(sql, *text == '\'' ? "''" : "%c", *text);
	buf_add_str(sql, "'");
}

/* Its commit need not be on disk, nor on a standby; and a lock on the table must not keep the monitor. */
void heartbeat_write_sql(struct buf *sql, const char *table, const char *proxy, uint64_t beat, usec_t limit)
{
	buf_printf(sql,
		   "SET LOCAL synchronous_commit = off; SET LOCAL statement_timeout = %" PRIu64 "; INSERT INTO %s ",
		   (uint64_t)MAX(limit / USEC_PER_MSEC, 1u), table);
	buf_add_str(sql, "(proxy, beat) VALUES (");
	add_literal(sql, proxy);
	buf_printf(sql, ", %" PRIu64 ") ON CONFLICT (proxy) DO UPDATE SET beat = excluded.beat", beat);
}

void heartbeat_read_sql(struct buf *sql, const char *table, const char *proxy)
{
	buf_printf(sql, "SELECT beat FROM %s WHERE proxy = ", table);
	add_literal(sql, proxy);
}
