/*
 * The answers a server connection still owes, oldest first. What the proxy sends for itself is marked
 * SWALLOW (its answer is not for the client); what the proxy answers without the server is marked LOCAL
 * and is given out when its turn comes, so that the client sees all in the order it asked.
 * After an error in the extended protocol the server skips up to Sync; so does expect_skip_to_sync().
 * https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-PIPELINING
 */
#ifndef LINK_EXPECT_H
#define LINK_EXPECT_H

#include "base/common.h"

enum expect_kind {
	EXPECT_QUERY,    /* everything up to ReadyForQuery */
	EXPECT_SYNC,     /* ReadyForQuery */
	EXPECT_FUNCTION, /* FunctionCallResponse, ReadyForQuery */
	EXPECT_PARSE,    /* ParseComplete */
	EXPECT_BIND,     /* BindComplete */
	EXPECT_DESCRIBE, /* (ParameterDescription,) RowDescription or NoData */
	EXPECT_EXECUTE,  /* DataRow..., then CommandComplete, EmptyQueryResponse, PortalSuspended; or a COPY */
	EXPECT_CLOSE,    /* CloseComplete */
	EXPECT_COPY_END, /* no answer: where CopyDone or CopyFail stands among the client's messages */
};

#define EXPECT_SWALLOW BIT(0)
#define EXPECT_LOCAL   BIT(1) /* the server was not asked */
#define EXPECT_NOTE    BIT(3) /* object is a note on how to undo it (a named Parse, a Close, an unnamed Parse) */
#define EXPECT_SAME    BIT(4) /* of an unnamed PARSE: what it replaces has the same text */
#define EXPECT_UNNAMED BIT(5) /* a PARSE of the unnamed statement */
#define EXPECT_REPLACE BIT(2) /* the server will answer with an error; the client gets `text` instead */

/* Why the proxy itself asked (with SWALLOW). */
enum expect_purpose { PURPOSE_CLIENT, PURPOSE_SETTINGS, PURPOSE_STATEMENT, PURPOSE_LEARN, PURPOSE_BEGIN };

#define EXPECT_CANCEL BIT(7) /* a cancel was sent, or is to be, that is for this one; see cancel.c */

struct expect {
	uint8_t kind, flags, purpose;
	uint16_t name_hash; /* of a BIND or DESCRIBE: of the client's name for the statement, to name it in errors; of a
			       PARSE of the unnamed one: a serial number */
	uint16_t statements; /* of a QUERY: CommandCompletes seen, saturating */
	void *object;        /* counted by whoever put it there; see free_object of expect_clear */
	uint64_t began;      /* of what ends with ReadyForQuery: clock_now() when the client's request was received */
	void *request;       /* what stages will hear of, see observe.c; NULL: of this they don't */
};

struct expects {
	struct expect *ring;
	uint32_t first, count, cap; /* cap is a power of two */
	uint32_t answers;           /* how many of them are QUERY, SYNC or FUNCTION and not SWALLOW: ReadyForQuery that
				       the client waits for */
};

void expects_free(struct expects *e);
int expects_grow(struct expects *e) MUST_USE; /* expects_push() calls it */

static inline struct expect *expects_at(const struct expects *e, uint32_t index)
{
	return &e->ring[(e->first + index) & (e->cap - 1)];
}

/* Of one that is in there. */
static inline uint32_t expects_index(const struct expects *e, const struct expect *x)
{
	return ((uint32_t)(x - e->ring) - e->first) & (e->cap - 1);
}

static inline struct expect *expects_last(const struct expects *e)
{
	return e->count ? expects_at(e, e->count - 1) : NULL;
}

static inline struct expect *expects_first(const struct expects *e)
{
	return e->count ? &e->ring[e->first] : NULL;
}

static inline bool expect_ends_with_ready(const struct expect *x)
{
	return x->kind <= EXPECT_FUNCTION;
}

/* 0 or -ENOMEM. */
static inline MUST_USE int expects_push(struct expects *e, struct expect x)
{
	if (unlikely(e->count == e->cap)) {
		int r = expects_grow(e);
		if (r < 0)
			return r;
	}
	*expects_at(e, e->count) = x;
	e->count++;
	e->answers += expect_ends_with_ready(&x) && !(x.flags & EXPECT_SWALLOW);
	return 0;
}

static inline void expects_pop(struct expects *e)
{
	const struct expect *x = &e->ring[e->first];

	e->answers -= expect_ends_with_ready(x) && !(x->flags & EXPECT_SWALLOW);
	e->first = (e->first + 1) & (e->cap - 1);
	e->count--;
}

#endif
