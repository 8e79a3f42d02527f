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

		switch (*at) {
		case 'S':
			return true;
		case 'B':
			if (!parsed.bytes || size > (size_t)(end - at))
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
		if (size < FRAME_HEADER || size > (size_t)(end - at))
			return false;
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

bool routing_is_known_read(struct session *s, const uint8_t *bytes, size_t len, uint64_t key)
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

static bool is_fresh(const struct routing_fit *fit, const struct topology *t, uint64_t key)
{
	return fit->topology == t->number && fit->key == key && clock_now() - fit->found_at < FIT_FOR;
}

/* What the session has written has been replayed by all of them. */
static bool have_own(const struct session *s, const struct routing_fit *fit)
{
	const struct position own = {POSITION_INSERT, s->own_timeline, s->own_lsn, 0};
	const struct route_rules *rules = &s->worker->routing->rules;

	return !s->own_lsn || !rules->lag_matters || !rules->own_writes || position_reached(&fit->least, &own);
}

struct node *routing_next_fit(struct session *s, const struct topology *t, const struct known_catalog *known)
{
	struct routing *r = s->worker->routing;
	struct routing_fit *fit = &r->fit;
	const struct position needed = {POSITION_INSERT, t->timeline, known->position, 0};

	if (unlikely(!is_fresh(fit, t, known->number))) {
		fit->topology = t->number;
		fit->key = known->number;
		fit->found_at = clock_now();
		cluster_want_positions(atomic_load_explicit(&s->worker->shared->cluster, memory_order_relaxed));
		fit->count = route_find_fit(&r->rules, t, &needed, fit->found_at, fit->nodes, &fit->least);
	}
	if (fit->count == 0 || !have_own(s, fit))
		return NULL;
	if (unlikely(++fit->next >= fit->count))
		fit->next = 0;
	return fit->nodes[fit->next];
}
