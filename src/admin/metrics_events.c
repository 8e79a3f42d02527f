/* What /metrics says of events, of the proxy's own errors, and of streams. */
#include "admin/streams.h"
#include "wire/errors.h"

static void add_head(struct buf *b, const char *name, const char *kind, const char *help)
{
	buf_printf(b, "# HELP heliosdb_proxy_%s %s\n# TYPE heliosdb_proxy_%s %s\n", name, help, name, kind);
}

static void add_single(struct buf *b, const char *name, const char *kind, const char *help, uint64_t value)
{
	add_head(b, name, kind, help);
	buf_printf(b, "heliosdb_proxy_%s %llu\n", name, (unsigned long long)value);
}

static void add_errors(struct buf *b)
{
	add_head(b, "errors_raised_total", "counter",
		 "Errors of the proxy's own, by name and SQLSTATE; one that several clients got for one reason may "
		 "count once.");
	for (unsigned i = 0; i < PROXY_ERROR_COUNT; i++) {
		const struct proxy_error_info *info = proxy_error_info((enum proxy_error)i);
		uint64_t count = proxy_error_count((enum proxy_error)i);

		if (count)
			buf_printf(b, "heliosdb_proxy_errors_raised_total{error=\"%s\",sqlstate=\"%s\"} %llu\n",
				   info->name, info->sqlstate, (unsigned long long)count);
	}
}

void add_event_metrics(struct buf *b, struct admin *admin)
{
	struct streams_counts counts;

	add_head(b, "events_total", "counter", "Events, by kind.");
	for (unsigned i = 0; i < EVENT_KIND_COUNT; i++)
		buf_printf(b, "heliosdb_proxy_events_total{kind=\"%s\"} %llu\n", event_info((enum event_kind)i)->name,
			   (unsigned long long)event_count((enum event_kind)i));
	add_errors(b);
	streams_count(admin->streams, &counts);
	add_head(b, "streams", "gauge", "Streams of the admin API that are open.");
	buf_printf(b, "heliosdb_proxy_streams{of=\"events\"} %u\nheliosdb_proxy_streams{of=\"log\"} %u\n",
		   counts.open[FEED_EVENTS], counts.open[FEED_LOG]);
	add_single(b, "streams_max", "gauge", "As many as there may be, [admin] max_streams.", counts.max);
	add_single(b, "streams_opened_total", "counter", "Streams that were opened.", counts.opened);
	add_single(b, "streams_refused_total", "counter", "Streams that were refused, for there were too many.",
		   counts.refused);
	add_single(b, "stream_entries_missed_total", "counter",
		   "Events and log lines that streams were told they had missed, for their readers are slow.",
		   counts.missed);
}
