/* See query_table.h. */
#include "metrics/query_table.h"

#include "base/map.h"

#define BUCKETS_A_WALK 8192u
/* So many are looked at for one that was not used, before one that was has to go: some 20 us. */
#define LOOKS_MAX 256

/* At least as many buckets as entries. */
static uint32_t bits_for(uint32_t most)
{
	uint32_t bits = 8;

	while (bits < 31 && (1u << bits) < most)
		bits++;
	return bits;
}

struct query_table *query_table_new(uint32_t most)
{
	struct query_table *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->references = 1;
	t->most = MAX(most, 1u);
	t->bits = bits_for(most);
	t->since = clock_now();
	t->mix = hash_bytes(&t, sizeof(t)) | 1;
	list_init(&t->line);
	t->buckets = calloc((size_t)1 << t->bits, sizeof(struct query_entry *));
	if (t->buckets)
		return t;
	free(t);
	return NULL;
}

struct query_table *query_table_ref(struct query_table *t)
{
	t->references++;
	return t;
}

static void count_entries(const struct query_table *t, int change)
{
	if (t->counters && change > 0)
		count_add(&t->counters->query_fingerprints, (uint64_t)change);
	else if (t->counters)
		count_sub(&t->counters->query_fingerprints, (uint64_t)-change);
}

void query_entries_free(struct list *entries)
{
	struct list *node;

	while ((node = list_first(entries))) {
		list_remove(node);
		free(list_entry(node, struct query_entry, node));
	}
}

void query_table_clear(struct query_table *t, struct list *to)
{
	list_for_each (node, &t->line) {
		list_remove(node);
		list_push_back(to, node);
	}
	memset(t->buckets, 0, sizeof(t->buckets[0]) << t->bits);
	count_entries(t, -(int)t->count);
	t->count = 0;
	t->evicted = 0;
	t->since = clock_now();
	t->serial++;
}

void query_table_unref(struct query_table *t)
{
	if (!t || --t->references > 0)
		return;
	count_entries(t, -(int)t->count);
	query_entries_free(&t->line);
	free(t->buckets);
	free(t);
}

/* ---- entries come and go ---- */

static void put(struct query_table *t, struct query_entry *e)
{
	struct query_entry **bucket = &t->buckets[query_table_bucket(t, e->fingerprint, e->owner)];

	e->next = *bucket;
	*bucket = e;
}

static void take_out(struct query_table *t, const struct query_entry *e)
{
	struct query_entry **at = &t->buckets[query_table_bucket(t, e->fingerprint, e->owner)];

	while (*at != e)
		at = &(*at)->next;
	*at = e->next;
}

/* The clock: who was used since the last look stays, and goes to the end of the line. */
static struct query_entry *choose(struct query_table *t)
{
	struct query_entry *e = NULL;

	for (int looks = 0; looks < LOOKS_MAX; looks++) {
		e = list_entry(list_first(&t->line), struct query_entry, node);
		if (!e->was_used)
			return e;
		e->was_used = false;
		list_remove(&e->node);
		list_push_back(&t->line, &e->node);
	}
	return list_entry(list_first(&t->line), struct query_entry, node);
}

static void evict(struct query_table *t)
{
	struct query_entry *e = choose(t);

	take_out(t, e);
	list_remove(&e->node);
	free(e);
	t->count--;
	t->evicted++;
	count_entries(t, -1);
	if (t->counters)
		count_add(&t->counters->query_fingerprints_evicted_total, 1);
}

int query_table_limit(struct query_table *t, uint32_t most)
{
	uint32_t bits = bits_for(most);
	struct query_entry **fresh;

	if (bits != t->bits) {
		fresh = calloc((size_t)1 << bits, sizeof(*fresh));
		if (!fresh)
			return -ENOMEM;
		free(t->buckets);
		t->buckets = fresh;
		t->bits = bits;
		t->serial++;
		list_for_each (node, &t->line)
			put(t, list_entry(node, struct query_entry, node));
	}
	t->most = MAX(most, 1u);
	while (t->count > t->most)
		evict(t);
	return 0;
}

struct query_entry *query_table_add(struct query_table *t, uint64_t fingerprint, uint64_t owner,
				    const struct query_names *names)
{
	size_t text = MIN(names->text.len, (size_t)QUERY_TEXT_MAX), database = strlen(names->database);
	size_t user = strlen(names->user), size = sizeof(struct query_entry) + text + database + user + 3;
	struct query_entry *e = malloc(size);

	if (!e)
		return NULL;
	if (t->count >= t->most)
		evict(t);
	*e = (struct query_entry){.fingerprint = fingerprint,
				  .owner = owner,
				  .is_cut = names->is_cut || text < names->text.len,
				  .kind = names->kind,
				  .size = (uint32_t)size,
				  .database_at = (uint32_t)text + 1,
				  .user_at = (uint32_t)(text + database + 2)};
	if (text > 0)
		memcpy(e->strings, names->text.bytes, text);
	e->strings[text] = 0;
	memcpy(e->strings + e->database_at, names->database, database + 1);
	memcpy(e->strings + e->user_at, names->user, user + 1);
	list_push_back(&t->line, &e->node);
	put(t, e);
	t->count++;
	count_entries(t, 1);
	return e;
}

void query_numbers_halve(struct query_numbers *n)
{
	for (uint32_t i = 0; i < QUERY_BUCKETS; i++)
		n->buckets[i] /= 2;
}

/* ---- reading ---- */

uint32_t query_table_walk(const struct query_table *t, uint32_t from, uint32_t most,
			  void (*each)(const struct query_entry *e, void *to), void *to)
{
	uint32_t buckets = 1u << t->bits, end = from < buckets ? from + MIN(buckets - from, BUCKETS_A_WALK) : from;
	uint32_t shown = 0;

	for (; from < end && shown < most; from++)
		for (const struct query_entry *e = t->buckets[from]; e; e = e->next, shown++)
			each(e, to);
	return from < buckets ? from : 0;
}

static uint32_t sum_capped(uint32_t a, uint32_t b)
{
	return a > UINT32_MAX - b ? UINT32_MAX : a + b;
}

static void add_numbers(struct query_numbers *n, const struct query_numbers *other)
{
	n->least = n->calls ? MIN(n->least, other->least) : other->least;
	n->first_seen = n->calls ? MIN(n->first_seen, other->first_seen) : other->first_seen;
	n->last_seen = MAX(n->last_seen, other->last_seen);
	n->most = MAX(n->most, other->most);
	n->calls += other->calls;
	n->errors += other->errors;
	n->rows += other->rows;
	n->repeated += other->repeated;
	n->total += other->total;
	n->server += other->server;
	for (uint32_t i = 0; i < QUERY_BUCKETS; i++)
		n->buckets[i] = sum_capped(n->buckets[i], other->buckets[i]);
}

int query_table_merge(struct query_table *t, const struct query_entry *other)
{
	struct query_entry *e = query_table_find(t, other->fingerprint, other->owner);
	const struct query_names names = {.text = slice_make(other->strings, other->database_at - 1),
					  .is_cut = other->is_cut,
					  .database = query_database(other),
					  .user = query_user(other),
					  .kind = other->kind};

	if (!e)
		e = query_table_add(t, other->fingerprint, other->owner, &names);
	if (!e)
		return -ENOMEM;
	add_numbers(&e->numbers, &other->numbers);
	return 0;
}

/* Somewhere in this bucket, as if its calls were spread over it evenly. */
static double time_in_bucket(uint32_t bucket, double share)
{
	uint32_t last = MIN(bucket * QUERY_BUCKET_WIDTH + QUERY_BUCKET_WIDTH - 1, LATENCY_BOUNDS - 1);
	double from = bucket ? (double)latency_bounds[bucket * QUERY_BUCKET_WIDTH - 1] : 0;

	return from + ((double)latency_bounds[last] - from) * share;
}

double query_numbers_quantile(const struct query_numbers *n, double share)
{
	double count = 0, wanted, seen = 0, found = (double)n->most;

	for (uint32_t i = 0; i < QUERY_BUCKETS; i++)
		count += n->buckets[i];
	wanted = share * count;
	for (uint32_t i = 0; i < QUERY_BUCKETS; seen += n->buckets[i++])
		if (n->buckets[i] > 0 && seen + n->buckets[i] >= wanted) {
			found = time_in_bucket(i, (wanted - seen) / n->buckets[i]);
			break;
		}
	return MIN(MAX(found, (double)n->least), (double)n->most);
}
