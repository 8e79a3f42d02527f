/* See underway.h. */
#include "session/underway.h"

#include "base/map.h"
#include "stage/request.h"

/* ---- keeping ---- */

bool underway_make_room(struct link *link, uint32_t most)
{
	char *text = most > 0 ? realloc(link->text, (size_t)most + 1) : NULL;

	if (!text)
		return false;
	link->text = text;
	link->text_room = most + 1;
	return true;
}

/* Only with nothing under way, for what is kept may be of that. */
static void keep_parsed(struct session *s, const uint8_t *text, size_t len)
{
	s->unnamed_kept = s->link->expects.count == 0 && underway_copy(s, text, strnlen((const char *)text, len));
}

void underway_learn(struct session *s, const struct frame *f, size_t available)
{
	size_t len = MIN(f->body_len, available - FRAME_HEADER);
	bool unnamed = len > 1 && f->body[0] == 0; /* the statement of a Parse, the portal of a Bind */

	if (f->type == 'P' && unnamed)
		keep_parsed(s, f->body + 1, len - 1);
	if (f->type == 'B' && unnamed)
		s->bound_mark = s->unnamed_kept && f->body[1] == 0 ? UNDERWAY_KEPT : UNDERWAY_UNKNOWN;
	if (f->type == 'C')
		s->unnamed_kept = false;
	if (f->type == 'P' || f->type == 'C')
		s->bound_mark = UNDERWAY_UNKNOWN;
}

/* ---- of prepared statements ---- */

/* A name whose mark is the one that is looked for. */
struct search {
	uint16_t mark;
	struct slice name; /* the one that was found */
	bool ambiguous;    /* there are several */
};

static void look_at(struct search *search, struct slice name)
{
	if (name.len == 0 || (prepared_name_hash(name) | 1u) != search->mark)
		return;
	search->ambiguous = search->ambiguous || (search->name.len && !slice_equal(search->name, name));
	search->name = name;
}

static const struct statement_note *note_of(const struct expect *x)
{
	return x->flags & EXPECT_NOTE ? x->object : NULL;
}

/* What the name meant when the entry `from` had its turn: the first change behind it knows. */
static const struct statement_text *meant_at(const struct session *s, uint32_t from, struct slice name)
{
	const struct expects *e = &s->link->expects;

	for (uint32_t i = from; i < e->count; i++) {
		const struct expect *x = expects_at(e, i);
		const struct statement_note *note = x->flags & EXPECT_SWALLOW ? NULL : note_of(x);

		if (note && note->text && slice_equal(slice_str(note->name), name))
			return x->kind == EXPECT_CLOSE ? note->text : name.len ? NULL : note->previous;
		if (!name.len && !note && x->kind == EXPECT_PARSE && !(x->flags & EXPECT_SWALLOW))
			return x->flags & EXPECT_SAME ? x->object : NULL;
	}
	return prepared_find(s, name);
}

static const struct statement_text *statement_at(const struct session *s, uint32_t at)
{
	const struct expects *e = &s->link->expects;
	struct search search = {.mark = expects_at(e, at)->name_hash};
	struct slice name;
	void *text;

	if (search.mark == UNDERWAY_UNNAMED)
		return meant_at(s, at, SLICE_LITERAL(""));
	for (uint32_t i = at; i < e->count; i++)
		if (note_of(expects_at(e, i)))
			look_at(&search, slice_str(note_of(expects_at(e, i))->name));
	for (uint32_t i = 0; s->statements && map_next(s->statements, &i, &name, &text);)
		look_at(&search, name);
	return search.name.len && !search.ambiguous ? meant_at(s, at, search.name) : NULL;
}

/* ---- what is on a link ---- */

static struct slice text_at(const struct session *s, uint32_t at)
{
	const struct expect *x = expects_at(&s->link->expects, at);

	if (x->request) /* for whom all texts are kept */
		return request_text(x->request);
	if (x->name_hash == UNDERWAY_UNKNOWN)
		return (struct slice){0};
	if (x->name_hash == UNDERWAY_KEPT)
		return slice_make(s->link->text, s->link->text_len);
	return x->kind == EXPECT_EXECUTE ? statement_text_sql(statement_at(s, at)) : (struct slice){0};
}

/*
 * Answers reach the proxy at the next ReadyForQuery at the latest: up to there the server may be at any of them. So
 * there is a text only if it is the same for all.
 */
static struct slice text_on_link(const struct session *s)
{
	const struct expects *e = &s->link->expects;
	struct slice text = {0};

	for (uint32_t i = 0; i < e->count; i++) {
		const struct expect *x = expects_at(e, i);

		if (x->flags & (EXPECT_SWALLOW | EXPECT_LOCAL))
			continue;
		if (x->kind == EXPECT_QUERY || x->kind == EXPECT_EXECUTE) {
			struct slice found = text_at(s, i);

			if (!found.bytes || (text.bytes && !slice_equal(found, text)))
				return (struct slice){0};
			text = found;
		}
		if (expect_ends_with_ready(x))
			break;
	}
	return text;
}

/* ---- what the loop still has ---- */

/* Of the message at the head of these bytes, and what the session knows. */
static struct slice text_of_message(const struct session *s, struct slice bytes)
{
	struct slice text = {0}, name;
	struct reader r;
	struct frame f;

	if (frame_read(bytes.bytes, bytes.len, &f) > FRAME_HEAD)
		return text;
	r = reader_make(f.body, MIN(f.body_len, bytes.len - FRAME_HEADER));
	switch (f.type) {
	case 'Q':
		text = slice_make(r.at, strnlen((const char *)r.at, reader_left(&r)));
		break;
	case 'P':
		read_cstring(&r);
		text = slice_make(r.at, strnlen((const char *)r.at, reader_left(&r)));
		break;
	case 'B':
		read_cstring(&r);
		name = read_cstring(&r);
		if (!r.failed)
			text = statement_text_sql(prepared_find(s, name));
		break;
	}
	return text;
}

struct underway underway_of(const struct session *s)
{
	struct underway u = {0};

	switch ((enum session_state)s->state) {
	case SESSION_WAITING:
		u.text = text_of_message(s, conn_kept(&s->conn));
		break;
	case SESSION_SHARED:
		u.since = share_sent(s);
		u.text = text_of_message(s, conn_kept(&s->conn));
		break;
	case SESSION_ACTIVE:
		if (s->link->expects.count == 0)
			break;
		u.text = text_on_link(s);
		if (s->link->expects.answers > 0)
			u.since = s->link->kept ? s->link->busy_since : s->since;
		break;
	default:
		break;
	}
	return u;
}

struct slice underway_cut(struct slice text, size_t most)
{
	size_t len = MIN(text.len, most);

	while (len < text.len && len > 0 && most - len < 3 && (text.bytes[len] & 0xc0) == 0x80)
		len--;
	return slice_make(text.bytes, len);
}
