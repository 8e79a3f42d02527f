/*
 * See params.h. A set is one block: header, offsets, strings. All live sets hang in one hash
 * table under one lock.
 */
#include "link/params.h"

#include "base/map.h"

#include <pthread.h>
#include <stdatomic.h>

struct pair {
	const char *name, *value;
};

struct params {
	struct params_head head;
	struct params *next; /* in its bucket */
	_Atomic uint32_t references;
	uint32_t count, size; /* size: of the strings */
	uint64_t hash;
	struct pair pairs[]; /* then the strings: name NUL value NUL ... */
};

#define BUCKETS 1024u

static struct params *buckets[BUCKETS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static char *strings_of(const struct params *p)
{
	return (char *)(uintptr_t)&p->pairs[p->count];
}

const struct params *params_ref(const struct params *p)
{
	if (p)
		atomic_fetch_add_explicit(&((struct params *)(uintptr_t)p)->references, 1, memory_order_relaxed);
	return p;
}

/* The last reference goes only under the lock, so that a look-up never meets a set that is being freed. */
void params_unref(const struct params *constant)
{
	struct params *p = (struct params *)(uintptr_t)constant, **at;
	uint32_t count;

	if (!p)
		return;
	count = atomic_load_explicit(&p->references, memory_order_relaxed);
	while (count > 1)
		if (atomic_compare_exchange_weak_explicit(&p->references, &count, count - 1, memory_order_acq_rel,
							  memory_order_relaxed))
			return;
	pthread_mutex_lock(&lock);
	if (atomic_fetch_sub_explicit(&p->references, 1, memory_order_acq_rel) == 1) {
		for (at = &buckets[p->hash % BUCKETS]; *at != p; at = &(*at)->next)
			;
		*at = p->next;
		free(p);
	}
	pthread_mutex_unlock(&lock);
}

void params_assign(const struct params **to, const struct params *p)
{
	const struct params *old = *to;

	if (old == p)
		return;
	*to = params_ref(p);
	params_unref(old);
}

/* The set with the same content, if there is one; the lock is held. */
static struct params *find_equal(const struct params *p)
{
	struct params *q;

	for (q = buckets[p->hash % BUCKETS]; q; q = q->next)
		if (q->hash == p->hash && q->count == p->count && q->size == p->size &&
		    memcmp(strings_of(q), strings_of(p), p->size) == 0)
			return q;
	return NULL;
}

static bool changes_meaning(const char *name)
{
	static const char *const others[] = {"application_name",     "client_min_messages",
					     "deadlock_timeout",     "idle_in_transaction_session_timeout",
					     "idle_session_timeout", "lock_timeout",
					     "statement_timeout",    "synchronous_commit",
					     "transaction_timeout",  "work_mem"};

	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		if (strcasecmp(name, others[i]) == 0)
			return false;
	return true;
}

static uint64_t meaning_of(const struct params *p)
{
	uint64_t meaning = 0;

	for (uint32_t i = 0; i < p->count; i++)
		if (changes_meaning(p->pairs[i].name))
			meaning = (meaning ^ hash_bytes(p->pairs[i].name, strlen(p->pairs[i].name))) * 31 +
				  hash_bytes(p->pairs[i].value, strlen(p->pairs[i].value));
	return meaning;
}

static bool is_true(const char *value)
{
	return strcasecmp(value, "on") == 0 || strcasecmp(value, "true") == 0 || strcmp(value, "1") == 0;
}

/* SJIS, BIG5, GBK and so on: all that servers don't use themselves. */
static bool is_odd_encoding(const char *value)
{
	static const char *const odd[] = {"SJIS", "BIG5", "GBK", "UHC", "GB18030", "JOHAB", "SHIFT_JIS_2004"};

	for (size_t i = 0; i < ARRAY_SIZE(odd); i++)
		if (strcasecmp(value, odd[i]) == 0)
			return true;
	return false;
}

static uint32_t marks_of(const struct params *p)
{
	uint32_t marks = 0;

	for (uint32_t i = 0; i < p->count; i++) {
		const char *name = p->pairs[i].name, *value = p->pairs[i].value;

		if (strcmp(name, "standard_conforming_strings") == 0 && !is_true(value))
			marks |= PARAMS_BACKSLASHES;
		else if (strcmp(name, "default_transaction_read_only") == 0 && is_true(value))
			marks |= PARAMS_READ_ONLY;
		else if ((strcmp(name, "default_transaction_isolation") == 0 ||
			  strcmp(name, "session characteristics") == 0) &&
			 strcasestr(value, "serializable")) /* of settings, the value is SQL */
			marks |= PARAMS_ISOLATION;
		else if (strcmp(name, "client_encoding") == 0 && is_odd_encoding(value))
			marks |= PARAMS_ENCODING;
		else if (strncmp(name, "helios.", 7) == 0)
			marks |= PARAMS_HELIOS;
	}
	return marks;
}

static const struct params *intern(struct params *fresh)
{
	struct params *known;

	fresh->hash = hash_bytes(strings_of(fresh), fresh->size);
	fresh->head.meaning = meaning_of(fresh);
	fresh->head.marks = marks_of(fresh);
	pthread_mutex_lock(&lock);
	known = find_equal(fresh);
	if (known) {
		atomic_fetch_add(&known->references, 1);
	} else {
		fresh->next = buckets[fresh->hash % BUCKETS];
		buckets[fresh->hash % BUCKETS] = fresh;
	}
	pthread_mutex_unlock(&lock);
	if (known) {
		free(fresh);
		return known;
	}
	return fresh;
}

static char *add_string(char **at, const char *s)
{
	size_t size = strlen(s) + 1;
	char *here = *at;

	memcpy(here, s, size);
	*at += size;
	return here;
}

const struct params *params_with(const struct params *p, const char *name, const char *value)
{
	const char *had = params_get(p, name);
	uint32_t old_count = params_count(p), count = 0, size = 0, i;
	struct params *fresh;
	bool added = value == NULL;
	char *at;

	if (had == value || (had && value && strcmp(had, value) == 0))
		return params_ref(p);
	count = old_count + (value && !had) - (!value && had);
	if (count == 0)
		return NULL;
	size = (p ? p->size : 0) + (value ? (uint32_t)strlen(name) + (uint32_t)strlen(value) + 2 : 0) -
	       (had ? (uint32_t)strlen(name) + (uint32_t)strlen(had) + 2 : 0);
	fresh = malloc(sizeof(*fresh) + count * sizeof(struct pair) + size);
	if (!fresh)
		return params_ref(p);
	fresh->count = 0;
	fresh->size = size;
	atomic_init(&fresh->references, 1);
	at = (char *)&fresh->pairs[count];
	for (i = 0; i < old_count || !added;) {
		int order = added ? -1 : i < old_count ? strcmp(p->pairs[i].name, name) : 1;
		struct pair *to = &fresh->pairs[fresh->count];

		if (i < old_count && (order == 0 || (value == NULL && strcmp(p->pairs[i].name, name) == 0))) {
			i++; /* replaced or left out */
			continue;
		}
		to->name = add_string(&at, order < 0 ? p->pairs[i].name : name);
		to->value = add_string(&at, order < 0 ? p->pairs[i].value : value);
		fresh->count++;
		if (order < 0)
			i++;
		else
			added = true;
	}
	assert(fresh->count == count);
	return intern(fresh);
}

void params_set(const struct params **to, const char *name, const char *value)
{
	const struct params *old = *to;

	*to = params_with(old, name, value);
	params_unref(old);
}

const char *params_get(const struct params *p, const char *name)
{
	uint32_t low = 0, high = params_count(p);

	while (low < high) {
		uint32_t middle = (low + high) / 2;
		int order = strcmp(p->pairs[middle].name, name);

		if (order == 0)
			return p->pairs[middle].value;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

uint32_t params_count(const struct params *p)
{
	return p ? p->count : 0;
}

void params_at(const struct params *p, uint32_t index, const char **ret_name, const char **ret_value)
{
	*ret_name = p->pairs[index].name;
	*ret_value = p->pairs[index].value;
}
