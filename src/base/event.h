/*
 * Events: what the person on call wants to know of at once. An event is a log line that has a kind: one call writes
 * both, so the log and the events never say different things. They are kept (the last N) and counted by kind.
 *
 *   log_event(EVENT_NODE_DOWN, LOG_WARN, "node is unhealthy: it takes no connections", kv_str("node", name));
 *
 * Any thread may; they are rare things, nothing on a query's way is one. What could happen a thousand times a second is
 * counted, and told once a second (server/watch.c). A kind's subject is the pair of that name: see events.def.
 */
#ifndef BASE_EVENT_H
#define BASE_EVENT_H

#include "base/journal.h"

enum event_kind {
#define EVENT(id, ...) EVENT_##id,
#include "base/events.def"
#undef EVENT
	EVENT_KIND_COUNT
};

struct event_info {
	const char *name;                   /* "node.down" */
	const char *subject;                /* the key of the pair that says whom it is about; "": none */
	const char *when, *fields, *action; /* for the docs */
};

const struct event_info *event_info(enum event_kind kind); /* kind < EVENT_KIND_COUNT */
/* A filter is a list of names with commas between them, "node.*" stands for several; NULL or "": all. As bits, so it is
 * read once. false: a name in it fits no kind. */
bool event_filter(const char *filter, uint64_t *ret_kinds) MUST_USE;

/* From now on they are kept. Before there are other threads. 0 or -ENOMEM. */
int event_keep(size_t events) MUST_USE;
void event_forget(void);             /* when no other thread is left */
struct journal *event_journal(void); /* entries' kind is enum event_kind. NULL: they are not kept */
uint64_t event_count(enum event_kind kind);

/* Without a log line: one says the same already. */
void event_write(enum event_kind kind, enum log_level level, const char *message, const struct kv *pairs);
/* Both, whatever the log's level. */
void event_log(enum event_kind kind, enum log_level level, const char *message, const struct kv *pairs);

#define log_event(kind, level, message, ...) \
	event_log((kind), (level), (message), (const struct kv[]){__VA_ARGS__ __VA_OPT__(, ){.type = KV_END}})

#endif
