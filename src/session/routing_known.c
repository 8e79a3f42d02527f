/*
 * The short way for batches of one text that is known to read: no more is looked at than which text it is, and whether
 * its messages are no others than expected. What is looked up for that is kept for whoever handles the message, who
 * needs it, too; and the standbys that are fit for a read are found anew only when something has changed.
 *
 * Every read of a proxy that routes comes along here: each instruction counts (bench/routed.sh).
 */
#include "session/routing_priv.h"

#include "cluster/changes.h"
#include "cluster/cluster.h"

#define FIT_FOR (100 * USEC_PER_MSEC) /* what hangs on the time alone, and nobody tells, is looked at again */

/* ---- which text it is ---- */

/* The byte behind a string that begins here; NULL: it has no end. Most names are empty. */
static inline const uint8_t *behind_string(const uint8_t *at, const uint8_t *limit)
{
	const uint8_t *nul = at < limit && *at == 0 ? at : memchr(at, 0, (size_t)(limit - at));

	return nul ? nul + 1 : NULL;
}

/* The message here is whole: its end. NULL: it is not. */
static inline const uint8_t *end_of_message(const uint8_t *at, const uint8_t *end)
{
	size_t left = (size_t)(end - at), size;

	if (left <= FRAME_HEADER)
		return NULL;
	size = (size_t)get_be32(at + 1) + 1;
	if (size <= FRAME_HEADER || size > left)
		return NULL;
	return at + size;
}

/* Does a Bind of this size mean the statement? */
static bool binds(const uint8_t *at, size_t size, struct slice name)
{
	const uint8_t *limit = at + size, *said = behind_string(at + FRAME_HEADER, limit);

	return said && (size_t)(limit - said) > name.len && memcmp(said, name.bytes, name.len) == 0 &&
	       said[name.len] == 0;
}

/* As libpq ends a batch: of the unnamed portal Describe, and Execute for all rows; Sync. */
static inline bool is_usual_end(const uint8_t *at, const uint8_t *end)
{
	static const uint8_t usual[] = {'D', 0, 0, 0, 6, 'P', 0, 'E', 0, 0, 0, 9, 0, 0, 0, 0, 0, 'S', 0, 0, 0, 4};

	return end - at >= (ptrdiff_t)sizeof(usual) && memcmp(at, usual, sizeof(usual)) == 0;
}

/* Behind the message at the head only these: [Bind of this statement,] Describe, Execute, and Sync as the last one. */
static NEVER_INLINE bool rest_is_plain(const uint8_t *at, const uint8_t *end, struct slice parsed)
{
	while (end - at >= (ptrdiff_t)FRAME_HEADER) {
		size_t size = (size_t)get_be32(at + 1) + 1;

		if (size < FRAME_HEADER || size > (size_t)(end - at))
			return false;
		switch (*at) {
		case 'S':
			return true;
		case 'B':
			if (!parsed.bytes || !binds(at, size, parsed))
				return false;
			break;
		case 'D':
		case 'E':
			break;
		default:
			return false;
		}
		at += size;
	}
	return false;
}

/* ---- where it may go ---- */

/* The pool's twins on these nodes. False: there is no memory for one of them. */
static bool find_shards(struct session *s, struct node *const nodes[ROUTE_FIT_MAX], uint32_t count,
			struct routing_fit *fit)
{
	for (uint32_t i = 0; i < count; i++) {
		struct pool *pool = pool_on(session_pool(s), nodes[i]);

		fit->shards[i] = pool ? pool_shard(pool, &s->worker->pool_thread) : NULL;
		if (!fit->shards[i])
			return false;
	}
	return true;
}

static NEVER_INLINE void find_fit(struct session *s, struct routing_fit *fit)
{
	const uint64_t changes = changes_now();
	const struct topology *t = routing_topology(s->worker);
	const struct known_catalog *known = t && t->has_standby ? routing_catalog(s) : NULL;
	struct node *nodes[ROUTE_FIT_MAX];
	struct position needed;
	uint32_t count;

	*fit = (struct routing_fit){.home = s->shard, .changes = changes, .found_at = clock_now()};
	if (!known || s->worker->routing->goes_the_long_way)
		return;
	fit->catalog = known->number;
	needed = (struct position){POSITION_INSERT, t->timeline, known->position, 0};
	count = route_find_fit(&s->worker->routing->rules, t, &needed, fit->found_at, nodes, &fit->least);
	if (count > 0)
		cluster_want_positions(atomic_load_explicit(&s->worker->shared->cluster, memory_order_relaxed));
	if (find_shards(s, nodes, count, fit))
		fit->count = count;
}

/* What the session has written is known to be somewhere in the log, and has been replayed by all of them. */
static NEVER_INLINE bool have_own(const struct session *s, const struct routing_fit *fit)
{
	const struct position own = {POSITION_INSERT, s->own_timeline, s->own_lsn, 0};
	const struct route_rules *rules = &s->worker->routing->rules;

	return !s->wrote_at && (!rules->lag_matters || rules->own_writes == READ_YOUR_WRITES_OFF ||
				position_reached(&fit->least, &own));
}

/* Nothing is open or awaited, and texts are read as they usually are. */
static inline bool is_simple(const struct session *s)
{
	return !s->repeated && !s->link && !s->pins && s->begin_state == BEGIN_NONE &&
	       !((params_marks(s->reported) | params_marks(s->settings)) &
		 (PARAMS_BACKSLASHES | PARAMS_ISOLATION | PARAMS_HELIOS | PARAMS_ENCODING));
}

static inline bool is_current(const struct routing_fit *fit, const struct session *s)
{
	return fit->home == s->shard && fit->changes == changes_now() && clock_is_within(fit->found_at, FIT_FOR);
}

static inline bool go_in_turn(struct session *s, bool leaves_nothing)
{
	const struct routing_fit *fit = s->fit;
	struct worker *w = s->worker;
	uint32_t turn = w->routing->turn + 1;

	if (turn >= fit->count)
		turn = 0;
	w->routing->turn = turn;
	s->source = fit->shards[turn];
	s->leaves_nothing = leaves_nothing;
	s->routed = true;
	s->route_reason = ROUTE_READ;
	count_add(&w->pool_thread.counters.routed[ROUTE_READ], 1);
	return true;
}

/* ---- one batch: each of these is the end of a way, so that none keeps what only another one needs ---- */

static NEVER_INLINE bool begin_query(struct session *s, const uint8_t *bytes, size_t len)
{
	const uint8_t *end = end_of_message(bytes, bytes + len), *text = bytes + FRAME_HEADER;

	if (end && end[-1] == 0 &&
	    query_info_reads(&s->worker->queries, slice_make(text, (size_t)(end - text) - 1), s->fit->catalog))
		return go_in_turn(s, /* leaves_nothing= */ true);
	return routing_look(s, bytes, len);
}

static inline bool is_read(struct session *s, const uint8_t *message, struct slice name, struct statement_text *text)
{
	if (unlikely(!text))
		return false;
	s->worker->routing->memo = (struct routing_memo){
		.bytes = message, .name = name, .behind = name.bytes + name.len + 1, .text = text};
	return text->reads_as_of == s->fit->catalog;
}

static NEVER_INLINE bool begin_bind(struct session *s, const uint8_t *bytes, size_t len)
{
	const uint8_t *all = bytes + len, *end = end_of_message(bytes, all), *at, *nul;
	struct slice name;

	at = end ? behind_string(bytes + FRAME_HEADER, end) : NULL;
	nul = at ? memchr(at, 0, (size_t)(end - at)) : NULL;
	if (nul) {
		name = slice_make(at, (size_t)(nul - at));
		if (is_read(s, bytes, name, prepared_find(s, name)) &&
		    (likely(is_usual_end(end, all)) || rest_is_plain(end, all, (struct slice){0})))
			return go_in_turn(s, /* leaves_nothing= */ true);
	}
	return routing_look(s, bytes, len);
}

/* A Bind of the unnamed statement and portal, and the usual end. */
static inline bool is_usual_bind(const uint8_t *at, const uint8_t *end)
{
	const uint8_t *behind = end_of_message(at, end);

	return behind && *at == 'B' && behind - at > (ptrdiff_t)FRAME_HEADER + 1 && at[FRAME_HEADER] == 0 &&
	       at[FRAME_HEADER + 1] == 0 && is_usual_end(behind, end);
}

static NEVER_INLINE bool begin_parse(struct session *s, const uint8_t *bytes, size_t len)
{
	const uint8_t *all = bytes + len, *end = end_of_message(bytes, all), *at;
	struct statement_text *text;
	struct slice name;

	at = end ? behind_string(bytes + FRAME_HEADER, end) : NULL;
	if (at && at < end) {
		name = slice_make(bytes + FRAME_HEADER, (size_t)(at - bytes) - FRAME_HEADER - 1);
		text = statement_table_find(s->worker->statements, statement_id_make(slice_make(at, (size_t)(end - at)),
										     params_meaning(s->settings)));
		if (is_read(s, bytes, name, text) &&
		    ((name.len == 0 && likely(is_usual_bind(end, all))) || rest_is_plain(end, all, name)))
			return go_in_turn(s, /* leaves_nothing= */ false);
	}
	return routing_look(s, bytes, len);
}

static inline bool begin_now(struct session *s, const uint8_t *bytes, size_t len)
{
	switch (len ? *bytes : 0) {
	case 'Q':
		return begin_query(s, bytes, len);
	case 'B':
		return begin_bind(s, bytes, len);
	case 'P':
		return begin_parse(s, bytes, len);
	default:
		return routing_look(s, bytes, len);
	}
}

/* Something has changed, or it has written. */
static NEVER_INLINE bool begin_anew(struct session *s, const uint8_t *bytes, size_t len)
{
	if (!is_current(s->fit, s))
		find_fit(s, s->fit);
	if (s->fit->count > 0 && ((!s->own_lsn && !s->wrote_at) || have_own(s, s->fit)))
		return begin_now(s, bytes, len);
	return routing_look(s, bytes, len);
}

bool routing_begin(struct session *s, const uint8_t *bytes, size_t len)
{
	const struct routing_fit *fit = s->fit;

	if (unlikely(!fit || !is_simple(s)))
		return routing_look(s, bytes, len);
	if (unlikely(fit->count == 0 || (s->own_lsn | s->wrote_at) || !is_current(fit, s)))
		return begin_anew(s, bytes, len);
	return begin_now(s, bytes, len);
}
