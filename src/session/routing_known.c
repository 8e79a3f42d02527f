/*
 * The short way for batches of one text that is known to read: no more is looked at than which text it is, and whether
 * its messages are no others than expected. What is looked up for that is kept for whoever handles the message, who
 * needs it, too; and the standbys that are fit for a read are found anew only every millisecond.
 */
#include "session/routing_priv.h"

#include "cluster/cluster.h"

#define FIT_FOR USEC_PER_MSEC

/* ---- which text it is ---- */

/* Behind the message at the head only these: [Bind of this statement,] Describe, Execute, and Sync as the last one. */
static bool rest_is_plain(const uint8_t *at, const uint8_t *end, struct slice parsed)
{
	while (end - at >= (ptrdiff_t)FRAME_HEADER) {
		size_t size = (size_t)get_be32(at + 1) + 1;
		const uint8_t *portal_end;

		if (size < FRAME_HEADER || size > (size_t)(end - at))
			return false;
		switch (*at) {
		case 'S':
			return true;
		case 'B':
			if (!parsed.bytes)
				return false;
			portal_end = memchr(at + FRAME_HEADER, 0, size - FRAME_HEADER);
			if (!portal_end || (size_t)(at + size - portal_end) < parsed.len + 2 ||
			    memcmp(portal_end + 1, parsed.bytes, parsed.len + 1) != 0)
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

static bool known_query(struct session *s, const struct frame *f, uint64_t key)
{
	return f->body_len > 0 && f->body[f->body_len - 1] == 0 &&
	       query_info_reads(&s->worker->queries, slice_make(f->body, f->body_len - 1), key);
}

static bool known_bind(struct session *s, const struct frame *f, const uint8_t *end, uint64_t key)
{
	const uint8_t *limit = f->body + f->body_len, *name = memchr(f->body, 0, f->body_len), *name_end;
	struct routing_memo *memo = &s->worker->routing->memo;

	if (!name || ++name == limit || !(name_end = memchr(name, 0, (size_t)(limit - name))))
		return false;
	memo->text = prepared_find(s, slice_make(name, (size_t)(name_end - name)));
	memo->bytes = name;
	return memo->text && memo->text->reads_as_of == key && rest_is_plain(limit, end, (struct slice){0});
}

static bool known_parse(struct session *s, const struct frame *f, const uint8_t *end, uint64_t key)
{
	const uint8_t *limit = f->body + f->body_len, *parse = memchr(f->body, 0, f->body_len);
	struct routing_memo *memo = &s->worker->routing->memo;

	if (!parse || ++parse == limit)
		return false;
	memo->text = statement_table_find(
		s->worker->statements,
		statement_id_make(slice_make(parse, (size_t)(limit - parse)), params_meaning(s->settings)));
	memo->bytes = parse;
	return memo->text && memo->text->reads_as_of == key &&
	       rest_is_plain(limit, end, slice_make(f->body, (size_t)(parse - f->body - 1)));
}

static bool is_known_read(struct session *s, const uint8_t *bytes, size_t len, uint64_t key)
{
	struct frame f;

	if (frame_read(bytes, len, &f) != FRAME_WHOLE)
		return false;
	switch (f.type) {
	case 'Q':
		return known_query(s, &f, key);
	case 'B':
		return known_bind(s, &f, bytes + len, key);
	case 'P':
		return known_parse(s, &f, bytes + len, key);
	default:
		return false;
	}
}

/* ---- where it may go ---- */

/* What the session has written has been replayed by all of them. */
static bool have_own(const struct session *s, const struct routing_fit *fit)
{
	const struct position own = {POSITION_INSERT, s->own_timeline, s->own_lsn, 0};
	const struct route_rules *rules = &s->worker->routing->rules;

	return !rules->lag_matters || !rules->own_writes || position_reached(&fit->least, &own);
}

static NEVER_INLINE void find_fit(struct worker *w, const struct topology *t, const struct known_catalog *known)
{
	const struct position needed = {POSITION_INSERT, t->timeline, known->position, 0};
	struct routing_fit *fit = &w->routing->fit;

	fit->topology = t->number;
	fit->key = known->number;
	fit->found_at = clock_now();
	fit->home = NULL;
	fit->count = route_find_fit(&w->routing->rules, t, &needed, fit->found_at, fit->nodes, &fit->least);
	cluster_want_positions(atomic_load_explicit(&w->shared->cluster, memory_order_relaxed));
}

/* The twins of this session's pool. */
static NEVER_INLINE void find_shards(struct session *s, struct routing_fit *fit)
{
	fit->home = s->shard;
	for (uint32_t i = 0; i < fit->count; i++) {
		struct pool *pool = pool_on(session_pool(s), fit->nodes[i]);

		fit->shards[i] = pool ? pool_shard(pool, &s->worker->pool_thread) : NULL;
	}
}

/* NULL: it is to be decided the long way. */
static struct shard *next_fit(struct session *s, const struct topology *t, const struct known_catalog *known)
{
	struct routing_fit *fit = &s->worker->routing->fit;

	if (unlikely(fit->topology != t->number || fit->key != known->number || clock_now() - fit->found_at >= FIT_FOR))
		find_fit(s->worker, t, known);
	if (fit->count == 0 || (s->own_lsn && !have_own(s, fit)))
		return NULL;
	if (unlikely(fit->home != s->shard))
		find_shards(s, fit);
	if (++fit->next >= fit->count)
		fit->next = 0;
	return fit->shards[fit->next];
}

/* Nothing is open or awaited, strings are standard, and all that it has written is known to be somewhere in the log. */
static bool is_simple(const struct session *s)
{
	return s->routes && !s->link && !s->pins && s->begin_state == BEGIN_NONE && !s->wrote_at && !s->repeated &&
	       !((params_marks(s->reported) | params_marks(s->settings)) &
		 (PARAMS_BACKSLASHES | PARAMS_ISOLATION | PARAMS_HELIOS | PARAMS_ENCODING));
}

bool routing_begin_known(struct session *s, const uint8_t *bytes, size_t len)
{
	const struct topology *t;
	const struct known_catalog *known;
	struct shard *shard;

	if (!is_simple(s) || !s->catalog)
		return false;
	t = cluster_now(atomic_load_explicit(&s->worker->shared->cluster, memory_order_relaxed));
	if (!t->has_standby)
		return false;
	known = catalogs_get(s->catalog, &s->worker->pool_thread, session_pool(s));
	if (!known || !is_known_read(s, bytes, len, known->number))
		return false;
	shard = next_fit(s, t, known);
	if (!shard)
		return false;
	count_add(&session_counters(s)->routed[ROUTE_READ], 1);
	s->source = shard;
	s->routed = true;
	return true;
}
