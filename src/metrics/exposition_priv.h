/* One format's part of exposition.h. */
#ifndef METRICS_EXPOSITION_PRIV_H
#define METRICS_EXPOSITION_PRIV_H

#include "metrics/exposition.h"

struct exposition_writer {
	void (*begin)(struct exposition *e);
	void (*label)(struct buf *labels, const char *name, const char *value);
	void (*add)(struct exposition *e, struct slice labels, double value);
	void (*add_histogram)(struct exposition *e, const struct latency_totals *t);
	void (*end)(struct exposition *e); /* of a family */
};

extern const struct exposition_writer exposition_text, exposition_protobuf;

#endif
