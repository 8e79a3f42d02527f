/* See query_table.h. */
#include "metrics/query_table.h"

#include "base/map.h"

#define BUCKETS_A_WALK 32768u
/* So many are looked at for one that was not used, before one that was has to go: some 20 us. */
#define LOOKS_MAX 256

/* clang-format off */
const uint8_t query_cells[QUERY_CELLS] = {
	0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3,
	3, 4, 4, 4, 4, 4, 4, 5, 5, 5, 5, 5, 5, 5, 6, 6, 6, 6, 6, 7, 7, 7, 7, 8, 8, 8, 8, 8, 8, 8, 9, 9, 9, 9, 9, 10, 10,
	10, 10, 11, 11, 11, 11, 11, 11, 11, 12, 12, 12, 12, 12, 13, 13, 13, 13, 13, 13, 13, 14, 14, 14, 14, 15, 15, 15,
	15, 15, 16, 16, 16, 16, 16, 16, 16, 17, 17, 17, 17, 18, 18, 18, 18, 18, 19, 19, 19, 19, 19, 19, 19, 20, 20, 20,
	20, 21, 21, 21, 21, 21, 22, 22, 22, 22, 22, 22, 22, 23, 23, 23, 23, 23, 24, 24, 24, 24, 25, 25, 25, 25, 25, 25,
	25, 26, 26, 26, 26, 26, 27, 27, 27, 27, 28, 28, 28, 28, 28, 28, 28, 29, 29, 29, 29, 29, 30, 30, 30, 30, 31, 31,
	31, 31, 31, 31, 31, 32, 32, 32, 32, 32, 33, 33, 33, 33, 33, 34, 34, 34, 34, 34, 34, 35, 35, 35, 35, 35, 36, 36,
	36, 36, 36, 37, 37, 37, 37, 37, 37, 38, 38, 38, 38, 38, 39, 39, 39, 39, 39, 40, 40, 40, 40, 40, 40, 41, 41, 41,
	41, 41, 42, 42, 42, 42, 42, 42, 43, 43, 43, 43, 43, 43, 43, 44, 44, 44, 44, 44, 45, 45, 45, 45, 45, 45, 46, 46,
	46, 46, 46, 46, 46, 47, 47, 47, 47, 47, 48, 48, 48, 48, 48, 48, 48, 49, 49, 49, 49, 49, 50, 50, 50, 50, 50, 50,
	51, 51, 51, 51, 51, 51, 51, 52, 52, 52, 53, 53, 53, 53, 53, 53, 54, 54, 54, 54, 54, 54, 54, 55, 55, 55, 56, 56,
	56, 56, 56, 56, 57, 57, 57, 57, 57, 57, 57, 58, 58, 58, 59, 59, 59, 59, 59, 59, 60, 60, 60, 60, 60, 60, 60, 61,
	61, 61, 61, 61, 62, 62, 62, 62, 63, 63, 63, 63, 63, 63, 63, 64, 64, 64, 64, 64, 65, 65, 65, 65, 66, 66, 66, 66,
	66, 66, 66, 67, 67, 67, 67, 67, 68, 68, 68, 68, 69, 69, 69, 69, 69, 69, 69, 70, 70, 70, 70, 70, 71, 71, 71, 71,
	71, 71, 72, 72, 72, 72, 72, 72, 72, 73, 73, 73, 73, 73, 74, 74, 74, 74, 74, 74, 74, 75, 75, 75, 75, 75, 76, 76,
	76, 76, 76, 76, 77, 77, 77, 77, 77, 77, 77, 78, 78, 78, 78, 78, 79, 79, 79, 79, 79, 79, 80, 80, 80, 80, 80, 80,
	80, 81, 81, 81, 81, 81, 82, 82, 82, 82, 82, 82, 82, 83, 83, 83, 83, 83, 84, 84, 84, 84, 84, 84, 85, 85, 85, 85,
	85, 85, 85, 86, 86, 86, 86, 86, 87, 87, 87, 87, 87, 87, 88, 88, 88, 88, 88, 88, 88, 89, 89, 89, 89, 89, 90, 90,
	90, 90, 90, 90, 90, 91, 91, 91, 91, 91, 92, 92, 92, 92, 92, 92, 93, 93, 93, 93, 93, 93, 93, 94, 94, 94, 94, 94,
	95, 95, 95, 95, 95, 95,
};
/* clang-format on */

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
	t->shift = 64 - t->bits;
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
		t->shift = 64 - bits;
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

/* Most buckets are, where there is room for ten thousand statements and twenty are used: so many are seen at a glance.
 * Their number is a power of two and at least 256, so none of these stands beyond the end. */
#define EMPTY 16u

static bool is_empty(struct query_entry *const *buckets)
{
	uintptr_t any = 0;

	for (uint32_t i = 0; i < EMPTY; i++)
		any |= (uintptr_t)buckets[i];
	return any == 0;
}

uint32_t query_table_walk(const struct query_table *t, uint32_t from, uint32_t most,
			  void (*each)(const struct query_entry *e, void *to), void *to)
{
	uint32_t buckets = 1u << t->bits, end = from < buckets ? from + MIN(buckets - from, BUCKETS_A_WALK) : from;
	uint32_t shown = 0;

	for (; from < end && shown < most; from++) {
		if (from % EMPTY == 0 && is_empty(t->buckets + from)) {
			from += EMPTY - 1;
			continue;
		}
		for (const struct query_entry *e = t->buckets[from]; e; e = e->next, shown++)
			each(e, to);
	}
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
