/* Metrics of events, of the proxy's own errors, and of streams. */
#include "admin/metrics.h"
#include "admin/streams.h"
#include "wire/errors.h"

static const struct metric event_metrics[] = {{"heliosdb_proxy_events_total", "counter", "Events, by kind."}};

static bool expose_events(struct exposition *e, struct admin *admin, const struct metric *m)
{
	(void)admin;
	exposition_begin(e, m);
	for (unsigned i = 0; i < EVENT_KIND_COUNT; i++)
		exposition_add_one(e, "kind", event_info((enum event_kind)i)->name,
				   (double)event_count((enum event_kind)i));
	return true;
}

const struct metric_group metrics_events = {"kind", "Events.", event_metrics, ARRAY_SIZE(event_metrics), expose_events};

static const struct metric error_metrics[] = {{"heliosdb_proxy_errors_raised_total", "counter",
					       "Errors of the proxy's own, by name and SQLSTATE; one that several "
					       "clients got for one reason may count once."}};

static bool expose_errors(struct exposition *e, struct admin *admin, const struct metric *m)
{
	(void)admin;
	exposition_begin(e, m);
	for (unsigned i = 0; i < PROXY_ERROR_COUNT; i++) {
		const struct proxy_error_info *info = proxy_error_info((enum proxy_error)i);
		uint64_t count = proxy_error_count((enum proxy_error)i);

		if (count == 0)
			continue;
		exposition_label(e, "error", info->name);
		exposition_label(e, "sqlstate", info->sqlstate);
		exposition_add(e, (double)count);
	}
	return true;
}

const struct metric_group metrics_errors = {"error, sqlstate", "[Errors](errors.md) of the proxy's own.", error_metrics,
					    ARRAY_SIZE(error_metrics), expose_errors};

static const struct metric open_metrics[] = {
	{"heliosdb_proxy_streams", "gauge", "Streams of the admin API that are open."}};

static bool expose_open(struct exposition *e, struct admin *admin, const struct metric *m)
{
	struct streams_counts counts;

	streams_count(admin->streams, &counts);
	exposition_begin(e, m);
	exposition_add_one(e, "of", "events", counts.open[FEED_EVENTS]);
	exposition_add_one(e, "of", "log", counts.open[FEED_LOG]);
	return true;
}

const struct metric_group metrics_streams_open = {"of", "Streams of the admin API.", open_metrics,
						  ARRAY_SIZE(open_metrics), expose_open};

#define STREAM_METRICS(X) \
	X("streams_max", "gauge", "As many as there may be, [admin] max_streams.", counts.max) \
	X("streams_opened_total", "counter", "Streams that were opened.", counts.opened) \
	X("streams_refused_total", "counter", "Streams that were refused, for there were too many.", counts.refused) \
	X("stream_entries_missed_total", "counter", \
	  "Events and log lines that streams were told they had missed, for their readers are slow.", counts.missed)

static const struct metric stream_metrics[] = {
#define X(name, kind, help, value) {"heliosdb_proxy_" name, kind, help},
	STREAM_METRICS(X)
#undef X
};

static bool expose_streams(struct exposition *e, struct admin *admin, const struct metric *m)
{
	struct streams_counts counts;

	streams_count(admin->streams, &counts);
#define X(name, kind, help, value) exposition_single(e, m++, (double)(value));
	STREAM_METRICS(X)
#undef X
	return true;
}

const struct metric_group metrics_streams = {"", "The same, since the start.", stream_metrics,
					     ARRAY_SIZE(stream_metrics), expose_streams};
