/*
 * The text of what a session has under way, for people. It is looked for when they ask. Of a prepared statement it is
 * known anyway, and what waits or is shared is still with the loop; a simple query, and in session mode the unnamed
 * statement, leave a copy of their beginning at the link, for nothing else of them stays ([admin] statement_bytes).
 *
 * What is told is right, or nothing: an entry of link->expects carries a mark of where its text is, and where several
 * texts may be what the server is at, there is none.
 */
#ifndef SESSION_UNDERWAY_H
#define SESSION_UNDERWAY_H

#include "session/session_priv.h"

#define STATEMENT_BYTES_MAX (1u << 20) /* of [admin] statement_bytes */

/* In name_hash of a QUERY or EXECUTE: where its text is. Odd: the hash of its statement's name, with this bit set. */
#define UNDERWAY_UNKNOWN 0u
#define UNDERWAY_KEPT    2u /* link->text */
#define UNDERWAY_UNNAMED 4u /* the client's unnamed statement */

/* false: nothing is to be kept, or there is no memory. */
bool underway_make_room(struct link *link, uint32_t most);

static inline bool underway_copy(struct session *s, const uint8_t *text, size_t len)
{
	uint32_t most = s->worker->settings.config->admin.statement_bytes;
	struct link *link = s->link;

	if (unlikely(link->text_room <= most || most == 0) && !underway_make_room(link, most))
		return false;
	link->text_len = (uint32_t)MIN(len, most + (size_t)1); /* so that it is seen to be cut */
	memcpy(link->text, text, link->text_len);
	return true;
}

/* The entry x, which was pushed last, is a simple query with this text. */
static inline void underway_query(struct session *s, struct expect *x, const uint8_t *text, size_t len)
{
	const struct expects *e = &s->link->expects;

	/* else what is kept may be of one in front. In session mode that may be an Execute */
	if (likely(e->count == 1 || (e->answers == 1 && s->mode != POOL_MODE_SESSION)) && underway_copy(s, text, len))
		x->name_hash = UNDERWAY_KEPT;
}

/* The mark of an Execute, by the hash of its statement's name. */
static inline uint16_t underway_mark_of(uint16_t name_hash)
{
	return name_hash | 1;
}

/* In session mode, where nobody reads them: a Parse, Bind, Describe or Close is about to be pushed. */
void underway_learn(struct session *s, const struct frame *f, size_t available);

/* ---- for people ---- */

struct underway {
	struct slice text; /* without bytes: none is known. As long as this turn */
	usec_t since;      /* 0: nothing is under way, or it waits */
};

struct underway underway_of(const struct session *s);
/* Cut to so many bytes, between two characters. */
struct slice underway_cut(struct slice text, size_t most);

#endif
