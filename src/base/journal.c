/*
 * See journal.h. A ring of bytes with the entries one behind another, none split; `places` says where each begins.
 *
 * Places are counted from the beginning, as in log.c: an entry at place p is there as long as head - p <= size.
 * first <= next, next - first <= max; entry n is at places[n % max].
 */
#include "base/journal.h"

#include "base/common.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define ALIGNMENT 8u

struct record { /* then the message and its zero, then the pairs: type, key and zero, value */
	uint64_t number, wall_us;
	uint32_t size;
	uint16_t kind;
	uint8_t level, pairs;
};

struct journal {
	pthread_mutex_t lock;
	uint64_t born, first, next, head;
	size_t max, size;
	void (*told)(void *argument);
	void *argument;
	char *ring;
	uint64_t places[];
};

struct journal *journal_new(size_t entries, size_t bytes, uint64_t wall_us)
{
	struct journal *j;

	entries = MAX(entries, 1u);
	bytes = MAX(bytes, 8u * JOURNAL_ENTRY_MAX) & ~(size_t)(ALIGNMENT - 1);
	j = calloc(1, sizeof(*j) + entries * sizeof(j->places[0]));
	if (!j)
		return NULL;
	j->ring = malloc(bytes);
	if (!j->ring) {
		free(j);
		return NULL;
	}
	pthread_mutex_init(&j->lock, NULL);
	j->born = j->first = j->next = wall_us;
	j->max = entries;
	j->size = bytes;
	return j;
}

void journal_free(struct journal *j)
{
	if (!j)
		return;
	pthread_mutex_destroy(&j->lock);
	free(j->ring);
	free(j);
}

/* ---- adding ---- */

struct writer {
	char *at, *end;
};

static bool put(struct writer *w, const void *bytes, size_t len)
{
	if (len > (size_t)(w->end - w->at))
		return false;
	memcpy(w->at, bytes, len);
	w->at += len;
	return true;
}

/* A text is cut at what there is room for. False: there is none. */
static bool put_text(struct writer *w, struct slice text)
{
	size_t room = (size_t)(w->end - w->at);

	if (room == 0)
		return false;
	text.len = MIN(text.len, room - 1);
	if (text.len > 0)
		memcpy(w->at, text.bytes, text.len);
	for (char *zero; (zero = memchr(w->at, 0, text.len));) /* it is a C string from here on */
		*zero = '?';
	w->at[text.len] = 0;
	w->at += text.len + 1;
	return true;
}

/* False: nothing more fits. */
static bool put_pair(struct writer *w, const struct kv *pair)
{
	bool is_text = pair->type == KV_STR || pair->type == KV_SLICE;
	uint8_t type = (uint8_t)(is_text ? KV_STR : pair->type);
	char *begin = w->at;

	if (put(w, &type, 1) && put(w, pair->key, strlen(pair->key) + 1) &&
	    (is_text ? put_text(w, pair->type == KV_STR ? slice_str(pair->str) : pair->slice) : put(w, &pair->u, 8)))
		return true;
	w->at = begin;
	return false;
}

static size_t make_record(char *room, const struct journal_entry *entry)
{
	struct record *record = (struct record *)(void *)room;
	struct writer w = {.at = room + sizeof(*record), .end = room + JOURNAL_ENTRY_MAX};
	uint8_t pairs = 0;

	(void)put_text(&w, slice_str(entry->message));
	for (const struct kv *pair = entry->pairs; pair->type != KV_END && pairs < JOURNAL_PAIRS_MAX; pair++) {
		if (pair->type == KV_STR && !pair->str)
			continue;
		if (!put_pair(&w, pair))
			break;
		pairs++;
	}
	*record = (struct record){
		.wall_us = entry->wall_us,
		.size = (uint32_t)((size_t)(w.at - room + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1)),
		.kind = (uint16_t)entry->kind,
		.level = (uint8_t)entry->level,
		.pairs = pairs,
	};
	return record->size;
}

/* Where `size` bytes lie next to each other; whatever was there is gone. With the lock held. */
static char *make_room(struct journal *j, size_t size)
{
	size_t lap_left = j->size - j->head % j->size;

	if (size > lap_left)
		j->head += lap_left;
	j->places[j->next % j->max] = j->head; /* of one that is too old, if the ring is full of them */
	if (j->next - j->first == j->max)
		j->first++;
	while (j->first < j->next && j->head + size - j->places[j->first % j->max] > j->size)
		j->first++;
	return j->ring + j->head % j->size;
}

void journal_add(struct journal *j, const struct journal_entry *entry)
{
	_Alignas(ALIGNMENT) char room[JOURNAL_ENTRY_MAX];
	size_t size = make_record(room, entry);

	pthread_mutex_lock(&j->lock);
	((struct record *)(void *)room)->number = j->next;
	memcpy(make_room(j, size), room, size);
	j->head += size;
	j->next++;
	if (j->told)
		j->told(j->argument);
	pthread_mutex_unlock(&j->lock);
}

void journal_watch(struct journal *j, void (*told)(void *argument), void *argument)
{
	pthread_mutex_lock(&j->lock);
	j->told = told;
	j->argument = argument;
	pthread_mutex_unlock(&j->lock);
}

/* ---- reading ---- */

void journal_span(struct journal *j, uint64_t *ret_first, uint64_t *ret_next)
{
	pthread_mutex_lock(&j->lock);
	*ret_first = j->first;
	*ret_next = j->next;
	pthread_mutex_unlock(&j->lock);
}

uint64_t journal_born(const struct journal *j)
{
	return j->born;
}

size_t journal_entries_max(const struct journal *j)
{
	return j->max;
}

void journal_read(struct journal_reader *reader, struct journal *journal, uint64_t from)
{
	reader->journal = journal;
	reader->next = from;
	reader->until = UINT64_MAX;
	reader->missed = 0;
	reader->at = reader->filled = 0;
}

/* The next whole entries, as many as there is room for. */
static void fill(struct journal_reader *r)
{
	struct journal *j = r->journal;

	r->at = r->filled = 0;
	pthread_mutex_lock(&j->lock);
	if (r->next < j->first) {
		r->missed += j->first - r->next;
		r->next = j->first;
	}
	for (uint64_t n = r->next; n < MIN(j->next, r->until); n++) {
		const char *at = j->ring + j->places[n % j->max] % j->size;
		uint32_t size = ((const struct record *)(const void *)at)->size;

		if (size > sizeof(r->copy) - r->filled)
			break;
		memcpy(r->copy + r->filled, at, size);
		r->filled += size;
	}
	pthread_mutex_unlock(&j->lock);
}

static const char *take_text(const char **at)
{
	const char *text = *at;

	*at += strlen(text) + 1;
	return text;
}

static void take_pair(struct kv *pair, const char **at)
{
	pair->type = (enum kv_type)(uint8_t) * (*at)++;
	pair->key = take_text(at);
	if (pair->type == KV_STR) {
		pair->str = take_text(at);
	} else {
		memcpy(&pair->u, *at, sizeof(pair->u));
		*at += sizeof(pair->u);
	}
}

bool journal_next(struct journal_reader *r, struct journal_entry *ret)
{
	struct record record;
	const char *at;

	if (r->at == r->filled)
		fill(r);
	if (r->at == r->filled)
		return false;
	at = r->copy + r->at;
	memcpy(&record, at, sizeof(record));
	r->at += record.size;
	r->next = record.number + 1;
	at += sizeof(record);
	*ret = (struct journal_entry){
		.number = record.number,
		.wall_us = record.wall_us,
		.level = (enum log_level)record.level,
		.kind = record.kind,
		.message = take_text(&at),
		.pairs = r->pairs,
	};
	for (unsigned i = 0; i < record.pairs; i++)
		take_pair(&r->pairs[i], &at);
	r->pairs[record.pairs] = (struct kv){.type = KV_END};
	return true;
}
