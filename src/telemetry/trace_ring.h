/*
 * Requests that are over and are to become spans, on their way from a worker to the thread that sends them. A ring has
 * one writer, its worker, and one reader, that thread; nobody waits: when it is full the writer is told so, and drops.
 *
 * A worker has a ring for each configuration it has had: retired, it goes as soon as it was read to its end.
 */
#ifndef TELEMETRY_TRACE_RING_H
#define TELEMETRY_TRACE_RING_H

#include "base/clock.h"

#define TRACE_TEXT_MAX 2048u /* of a query: so much is kept */
#define TRACE_NAME_MAX 255u  /* of each other string */

/* Strings: their lengths here, their bytes one behind the other in `bytes`. */
#define TRACE_STRINGS(X) X(database) X(user) X(application) X(node) X(host) X(state) X(text)

/* Times are of the worker's clock. */
struct trace_record {
	uint32_t size; /* with all that follows; 0: go on at the beginning */
	uint32_t pid;
	usec_t began, sent, ended;
	uint8_t trace_id[16], parent_id[8];
	const char *reason, *role; /* why it went there; what the node was then. Constants; NULL: not known */
	uint16_t port;
	uint8_t flags;
	bool has_parent, extended;
	bool text_is_cut;
	char sqlstate[6];
#define X(name) uint16_t name##_len;
	TRACE_STRINGS(X)
#undef X
	uint8_t bytes[];
};

struct trace_strings {
#define X(name) struct slice name;
	TRACE_STRINGS(X)
#undef X
};

struct trace_ring;

/* size: a power of two. The reader finds it by itself. NULL: no memory. */
struct trace_ring *trace_ring_new(size_t size);
/* The writer is done with it, for good. */
void trace_ring_retire(struct trace_ring *ring);

/* Appends a record with these strings, which are cut to what is kept. false: it is full. */
bool trace_ring_add(struct trace_ring *ring, const struct trace_record *record, const struct trace_strings *strings);

/* ---- the reader ---- */

/* The oldest record of some ring, or NULL. It stays until trace_rings_drop(). */
const struct trace_record *trace_rings_first(void);
void trace_rings_drop(void);
/* The fullest, in percent. */
unsigned trace_rings_fill(void);
/* All of them, when there are no writers any more. */
void trace_rings_free(void);

void trace_record_strings(const struct trace_record *record, struct trace_strings *ret);

#endif
