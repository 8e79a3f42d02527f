/* See query_info.h. */
#include "session/query_info.h"

#include "base/map.h"
#include "sql/changes.h"
#include "sql/shape.h"

static struct query_info out_of_memory = {.references = UINT32_MAX / 2,
					  .opaque = true,
					  .deallocates = true,
					  .changes_catalog = true,
					  .changes_schema = true};

int query_infos_init(struct query_infos *q)
{
	q->slots = calloc(QUERY_INFO_SLOTS, sizeof(*q->slots));
	q->plain_shapes = calloc(QUERY_INFO_SLOTS, sizeof(*q->plain_shapes));
	q->read_shapes = calloc(QUERY_INFO_SLOTS, sizeof(*q->read_shapes));
	if (q->slots && q->plain_shapes && q->read_shapes)
		return 0;
	query_infos_free(q);
	return -ENOMEM;
}

void query_infos_free(struct query_infos *q)
{
	for (uint32_t i = 0; q->slots && i < QUERY_INFO_SLOTS; i++)
		query_info_unref(q->slots[i].info);
	free(q->slots);
	free(q->plain_shapes);
	free(q->read_shapes);
	*q = (struct query_infos){0};
}

void query_info_unref(struct query_info *info)
{
	if (!info || --info->references > 0 || info == &out_of_memory)
		return;
	scan_free(&info->scan);
	free(info);
}

static bool is_plain(const struct scan *scan)
{
	const uint32_t marks =
		SCAN_SESSION_ADVISORY_LOCK | SCAN_ADVISORY_UNLOCK | SCAN_SET_CONFIG | SCAN_PG_TEMP | SCAN_CLOCK_LITERAL;

	if (scan->marks & marks)
		return false;
	if (scan->count > SCAN_STATEMENTS_MAX)
		return false;
	for (uint32_t i = 0; i < scan->count; i++)
		if (scan->statements[i].verb != VERB_OTHER && scan->statements[i].verb != VERB_SET_LOCAL)
			return false;
	return true;
}

static bool is_word(const char *at, const char *end, const char *word)
{
	size_t len = strlen(word);

	return (size_t)(end - at) > len && strncasecmp(at, word, len) == 0 && strchr(" \t\r\n", at[len]);
}

static bool is_any_word(const char *at, const char *end, const char *const *words, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (is_word(at, end, words[i]))
			return true;
	return false;
}

/* May a statement that was prepared before it return something else behind it? Temporary tables don't count: they are
 * their session's alone. */
static bool is_schema_change(const char *text, const struct statement *st)
{
	static const char *const verbs[] = {"CREATE", "ALTER", "DROP"};
	static const char *const others[] = {"INDEX",  "UNIQUE",   "ROLE",   "USER",    "GROUP",
					     "POLICY", "SEQUENCE", "SYSTEM", "TRIGGER", "STATISTICS"};
	const char *at = text + st->begin, *end = text + st->end;

	if (st->class != STATEMENT_DDL || st->verb == VERB_CREATE_TEMP ||
	    !is_any_word(at, end, verbs, ARRAY_SIZE(verbs)))
		return false;
	at += strcspn(at, " \t\r\n");
	at += strspn(at, " \t\r\n");
	return !is_any_word(at, end, others, ARRAY_SIZE(others));
}

static bool changes_schema(const char *text, const struct scan *scan)
{
	for (uint32_t i = 0; i < MIN(scan->count, SCAN_STATEMENTS_MAX); i++)
		if (is_schema_change(text, &scan->statements[i]))
			return true;
	return false;
}

static bool deallocates(const struct scan *scan)
{
	for (uint32_t i = 0; i < MIN(scan->count, SCAN_STATEMENTS_MAX); i++)
		if (scan->statements[i].verb == VERB_DEALLOCATE || scan->statements[i].verb == VERB_DEALLOCATE_ALL ||
		    scan->statements[i].verb == VERB_DISCARD_ALL)
			return true;
	return false;
}

static struct query_info *make(struct slice text, bool complete)
{
	size_t len = MIN(text.len, SCAN_BYTES_MAX);
	struct query_info *info = malloc(sizeof(*info) + len + 1);

	if (!info)
		return query_info_ref(&out_of_memory);
	memcpy(info->text, text.bytes, len);
	info->text[len] = 0;
	info->references = 1;
	info->opaque = !complete || len < text.len;
	if (scan_text(info->text, len, 0, /* standard_conforming_strings= */ true, &info->scan) < 0) {
		free(info);
		return query_info_ref(&out_of_memory);
	}
	info->changes_schema = changes_schema(info->text, &info->scan);
	info->changes_catalog = changes_catalog(slice_make(info->text, len), &info->scan);
	if (!info->opaque && !info->changes_schema && !info->changes_catalog && is_plain(&info->scan)) {
		query_info_unref(info);
		return NULL;
	}
	info->deallocates = deallocates(&info->scan);
	return info;
}

/* ---- texts that differ in their literals only ---- */

#define SHAPED_MAX 2048u

/* One statement of a kind that no literal can make anything but plain (EXPLAIN has options that are numbers). */
static bool is_plain_by_shape(const uint8_t *shape, size_t len)
{
	static const char *const words[] = {"SELECT", "INSERT", "UPDATE", "DELETE"};
	const char *at = (const char *)shape, *end = at + len;
	const uint8_t *semicolon = memchr(shape, ';', len);

	return (!semicolon || semicolon == shape + len - 1) && is_any_word(at, end, words, ARRAY_SIZE(words));
}

/* The hash of the text's shape; 0: it has none of use. */
static NEVER_INLINE uint64_t shape_hash(struct slice text)
{
	uint8_t shape[SHAPED_MAX];
	size_t len = text.len <= sizeof(shape) ? shape_fold(text, shape) : 0;

	return len && is_plain_by_shape(shape, len) ? hash_bytes(shape, len) : 0;
}

static bool is_memo(const struct query_infos *q, struct slice text)
{
	return q->memo.text.bytes == text.bytes && q->memo.text.len == text.len;
}

static struct query_info_slot *find_slot(struct query_infos *q, struct slice text, uint64_t hash)
{
	struct query_info_slot *slot = &q->slots[hash & (QUERY_INFO_SLOTS - 1)];

	return slot->known && slot->hash == hash && slot->len == text.len ? slot : NULL;
}

/* NULL: the text has no shape of use. */
static struct query_shape_slot *find_shape(struct query_infos *q, struct slice text)
{
	if (!q->memo.has_shape) {
		q->memo.shape = shape_hash(text);
		q->memo.has_shape = true;
	}
	return q->memo.shape ? &q->read_shapes[q->memo.shape & (QUERY_INFO_SLOTS - 1)] : NULL;
}

/* All but its info. */
static inline void know(struct query_info_slot *slot, struct slice text, uint64_t hash, uint64_t reads_as_of,
			uint64_t fingerprint)
{
	slot->hash = hash;
	slot->len = (uint32_t)text.len;
	slot->known = true;
	slot->reads_as_of = reads_as_of;
	slot->fingerprint = fingerprint;
}

bool query_info_shape_reads(struct query_infos *q, uint64_t as_of)
{
	uint64_t shape = shape_hash(q->memo.text), at = shape & (QUERY_INFO_SLOTS - 1);
	struct query_info_slot *slot;

	q->memo.slot = NULL;
	q->memo.shape = shape;
	q->memo.has_shape = true;
	if (q->read_shapes[at].shape != shape || q->read_shapes[at].reads_as_of != as_of || !shape)
		return false;
	slot = &q->slots[q->memo.hash & (QUERY_INFO_SLOTS - 1)];
	if (q->plain_shapes[at].shape == shape && !slot->info) { /* as query_info_find() would */
		know(slot, q->memo.text, q->memo.hash, as_of, q->plain_shapes[at].fingerprint);
		q->memo.slot = slot;
	}
	return true;
}

void query_info_mark_reads(struct query_infos *q, struct slice text, uint64_t as_of)
{
	struct query_info_slot *slot;
	struct query_shape_slot *shape;

	if (!is_memo(q, text))
		(void)query_info_reads(q, text, as_of);
	slot = find_slot(q, text, q->memo.hash);
	if (slot) {
		slot->reads_as_of = as_of;
		return;
	}
	shape = find_shape(q, text);
	if (shape)
		*shape = (struct query_shape_slot){.shape = q->memo.shape, .reads_as_of = as_of};
}

struct query_info *query_info_find(struct query_infos *q, struct slice text, bool complete)
{
	const struct query_shape_slot *reads;
	struct query_plain_slot *plain;
	uint64_t hash, shape, fingerprint = 0;
	struct query_info_slot *slot;
	struct query_info *info;
	bool is_known;

	q->found.text = NULL;
	if (unlikely(!complete || text.len > SCAN_BYTES_MAX))
		return make(text, complete);
	is_known = is_memo(q, text);
	hash = is_known ? q->memo.hash : hash_bytes(text.bytes, text.len);
	slot = &q->slots[hash & (QUERY_INFO_SLOTS - 1)];
	q->found.text = text.bytes;
	q->found.fingerprint = &slot->fingerprint;
	if (likely(slot->known && slot->hash == hash && slot->len == text.len))
		return query_info_ref(slot->info);
	shape = is_known && q->memo.has_shape ? q->memo.shape : shape_hash(text);
	plain = &q->plain_shapes[shape & (QUERY_INFO_SLOTS - 1)];
	info = shape && plain->shape == shape ? NULL : make(text, complete);
	if (!info && shape) {
		if (unlikely(plain->shape != shape))
			*plain = (struct query_plain_slot){.shape = shape};
		q->found.fingerprint = &plain->fingerprint;
		fingerprint = plain->fingerprint;
	}
	reads = &q->read_shapes[shape & (QUERY_INFO_SLOTS - 1)];
	query_info_unref(slot->info);
	know(slot, text, hash, shape && reads->shape == shape ? reads->reads_as_of : 0, fingerprint);
	slot->info = info;
	return query_info_ref(info);
}

/* ---- prepared statements ---- */

#define STATEMENT_BUCKETS 4096u

struct statement_table {
	struct statement_text *buckets[STATEMENT_BUCKETS];
	/* The last few that nobody holds are kept, so that a text that comes and goes is not copied each time. */
	struct statement_text *recent[256];
	uint32_t recent_next;
};

struct statement_table *statement_table_new(void)
{
	return calloc(1, sizeof(struct statement_table));
}

void statement_table_free(struct statement_table *t)
{
	for (uint32_t i = 0; t && i < ARRAY_SIZE(t->recent); i++)
		statement_text_unref(t, t->recent[i]);
	free(t);
}

void statement_text_free(struct statement_table *t, struct statement_text *s)
{
	struct statement_text **at;

	for (at = &t->buckets[s->id.low & (STATEMENT_BUCKETS - 1)]; *at != s; at = &(*at)->next)
		;
	*at = s->next;
	query_info_unref(s->info);
	free(s);
}

static void keep_recent(struct statement_table *t, struct statement_text *s)
{
	struct statement_text **place = &t->recent[t->recent_next++ % ARRAY_SIZE(t->recent)];

	statement_text_unref(t, *place);
	*place = statement_text_ref(s);
}

struct statement_text *statement_table_find(const struct statement_table *t, struct statement_id id)
{
	struct statement_text *s = t->buckets[id.low & (STATEMENT_BUCKETS - 1)];

	while (s && !statement_id_equal(s->id, id))
		s = s->next;
	return s;
}

struct statement_text *statement_table_get(struct statement_table *t, struct query_infos *q, struct slice parse,
					   uint64_t salt)
{
	struct statement_id id = statement_id_make(parse, salt);
	struct statement_text **bucket = &t->buckets[id.low & (STATEMENT_BUCKETS - 1)];
	struct statement_text *s = statement_table_find(t, id);
	const uint8_t *nul;

	if (s)
		return statement_text_ref(s);
	nul = memchr(parse.bytes, 0, parse.len);
	s = nul ? malloc(sizeof(*s) + parse.len) : NULL;
	if (!s)
		return NULL;
	*s = (struct statement_text){.id = id,
				     .meaning = salt,
				     .references = 1,
				     .len = (uint32_t)parse.len,
				     .sql_len = (uint32_t)(nul - parse.bytes),
				     .next = *bucket};
	statement_id_name(id, s->server_name);
	memcpy(s->parse, parse.bytes, parse.len);
	s->info = query_info_get(q, slice_make(parse.bytes, (size_t)(nul - parse.bytes)), /* complete= */ true);
	*bucket = s;
	keep_recent(t, s);
	return s;
}
