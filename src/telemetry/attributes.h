/* Attributes: what most of an OTLP message consists of. */
#ifndef TELEMETRY_ATTRIBUTES_H
#define TELEMETRY_ATTRIBUTES_H

#include "base/buf.h"

/* A KeyValue, as field `field` of a message. Bytes that aren't UTF-8 become '?'. */
void otlp_string(struct buf *b, uint32_t field, const char *key, struct slice value);
void otlp_integer(struct buf *b, uint32_t field, const char *key, int64_t value);

#endif
