/*
 * Streams of server-sent events: events and log lines as they are written down, to any number of slow readers.
 *
 * A stream is a position in a feed, no more. Each entry is made text once, and a stream that has come there sends it;
 * so a reader that is slow costs no memory, and when the feed has moved on it is told what it missed (an event "gap").
 * Nobody has a thread: a stream that has nothing to send is suspended, and one thread for all wakes those that do.
 */
#ifndef ADMIN_STREAMS_H
#define ADMIN_STREAMS_H

#include "admin/admin_priv.h"
#include "base/event.h"

enum feed_kind { FEED_EVENTS, FEED_LOG, FEED_COUNT };

struct journal *feed_journal(enum feed_kind kind); /* NULL: nothing is kept */
/* An entry as the API shows it. NULL: out of memory. */
json_t *feed_entry_json(enum feed_kind kind, const struct journal_entry *entry);

/* Which entries. */
struct feed_filter {
	uint64_t kinds; /* of events, as bits */
	enum log_level least;
};

static inline bool feed_matches(const struct feed_filter *filter, enum log_level level, unsigned kind)
{
	return level >= filter->least && (filter->kinds >> kind & 1);
}

struct streams;

/* 0 or -errno. */
int streams_new(uint32_t max, struct streams **ret) MUST_USE;
/* Those that are open send what is there and end; there are no new ones. Waits for them, but not for long. */
void streams_end(struct streams *streams);
void streams_free(struct streams *streams); /* after the HTTP server; NULL is fine */

struct stream_wish {
	enum feed_kind feed;
	struct feed_filter filter;
	bool resumes;   /* behind `after`; else from now on */
	uint64_t after; /* a number */
};

/* The response is the caller's to send. 0, -EAGAIN: too many; -ESHUTDOWN: they end; -errno. */
int streams_open(struct streams *streams, struct MHD_Connection *connection, const struct stream_wish *wish,
		 struct MHD_Response **ret) MUST_USE;

struct streams_counts {
	uint32_t open[FEED_COUNT], max;
	uint64_t opened, refused; /* for there were too many */
	uint64_t missed;          /* entries that streams were told they had missed */
};

void streams_count(struct streams *streams, struct streams_counts *ret);

#endif
