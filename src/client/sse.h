/*
 * Server-sent events (HTML standard, section 9.2) out of bytes as they come. Pure. What a field means is said in sse.c;
 * an event without data is none.
 */
#ifndef CLIENT_SSE_H
#define CLIENT_SSE_H

#include "base/buf.h"

#define SSE_LINE_MAX  (256u << 10)
#define SSE_EVENT_MAX (1u << 20)

struct sse {
	struct buf line, data;
	char id[64];    /* the last one given; "": none so far */
	char event[64]; /* of the event that is being read; "": "message" */
	bool after_cr;
	bool (*tell)(void *argument, const struct sse *sse); /* false: no more */
	void *argument;
};

void sse_init(struct sse *sse, bool (*tell)(void *argument, const struct sse *sse), void *argument);
void sse_free(struct sse *sse);
/* The stream begins anew: what was half read is forgotten, the id is kept. */
void sse_begin(struct sse *sse);
/* false: tell() wants no more, or a line or an event is too long. */
bool sse_read(struct sse *sse, const char *bytes, size_t len);

#endif
