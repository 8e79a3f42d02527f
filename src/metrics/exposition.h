/*
 * Metrics as Prometheus reads them: its text format (0.0.4), OpenMetrics (1.0.0), or its protocol buffers, which alone
 * have native histograms. Families come one after the other, each begun once, with all its samples behind it; a family
 * without samples has its head in a text, and is left out of protocol buffers.
 */
#ifndef METRICS_EXPOSITION_H
#define METRICS_EXPOSITION_H

#include "base/arena.h"
#include "base/buf.h"
#include "metrics/latency.h"

enum exposition_format { EXPOSITION_TEXT, EXPOSITION_OPEN_METRICS, EXPOSITION_PROTOBUF };

struct exposition {
	struct buf *out;
	enum exposition_format format;
	uint32_t rows_max;           /* of what clients name: the families of those may fold the rest into one row */
	uint64_t created;            /* of all that has no labels: microseconds since 1970; 0: not known */
	const struct metric *metric; /* of the samples that come */
	struct buf labels;           /* of the sample that comes, as the format has them */
	size_t family, head;         /* of protocol buffers: where the family begins, and its samples */
};

#define EXPOSITION_LABELS_MAX 16384u /* bytes: three names, and what escaping makes of them */
#define EXPOSITION_INIT(to, in) \
	((struct exposition){.out = (to), .format = (in), .labels = BUF_INIT(EXPOSITION_LABELS_MAX)})

/* Content-Type. */
extern const char *const exposition_types[];

void exposition_begin(struct exposition *e, const struct metric *metric);
/* Of the next sample. Values are whatever somebody chose. */
void exposition_label(struct exposition *e, const char *name, const char *value);
/* With the labels that were told. Whole numbers up to 2^53 come out whole. */
void exposition_add(struct exposition *e, double value);
/* The same in one, with one label. */
void exposition_add_one(struct exposition *e, const char *label, const char *text, double value);
/* Without labels. */
void exposition_add_histogram(struct exposition *e, const struct latency_totals *totals);
/* A family of one sample without labels. */
void exposition_single(struct exposition *e, const struct metric *metric, double value);
/* Also after a failure. */
void exposition_end(struct exposition *e);

/* Labels that were told, for several samples: they are written once, and not for each. NULL bytes: out of memory. */
struct slice exposition_keep_labels(struct exposition *e, struct arena *arena);
void exposition_add_kept(struct exposition *e, struct slice labels, double value);

#endif
