/* See statements.h. */
#include "link/statements.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/random.h>
#include <xxhash.h>

static uint8_t hash_secret[XXH3_SECRET_SIZE_MIN + 56];
static pthread_once_t secret_once = PTHREAD_ONCE_INIT;

static void make_secret(void)
{
	size_t have = 0;

	while (have < sizeof(hash_secret)) {
		ssize_t n = getrandom(hash_secret + have, sizeof(hash_secret) - have, 0);
		if (n > 0)
			have += (size_t)n;
		else if (errno != EINTR)
			abort(); /* a kernel without getrandom: no secret of ours could be trusted */
	}
}

struct statement_id statement_id_make(struct slice sql, uint64_t salt)
{
	XXH128_hash_t h;

	pthread_once(&secret_once, make_secret);
	h = XXH3_128bits_withSecret(sql.bytes, sql.len, hash_secret, sizeof(hash_secret));
	return (struct statement_id){h.high64 ^ salt, h.low64};
}

void statement_id_name(struct statement_id id, char name[STATEMENT_NAME_SIZE])
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	uint64_t word = id.high;
	char *at = name + 3;

	memcpy(name, "hp_", 3);
	for (int half = 0; half < 2; half++, word = id.low)
		for (int i = 0; i < 11; i++, word >>= 6)
			*at++ = digits[word & 63];
	*at = 0;
}

struct prepared {
	struct prepared *next; /* in its bucket */
	struct list used;
	struct statement_id id;
	bool used_lately; /* since statement_set_look() */
};

void statement_set_init(struct statement_set *set)
{
	*set = (struct statement_set){0};
	list_init(&set->used);
}

void statement_set_clear(struct statement_set *set)
{
	list_for_each (node, &set->used)
		free(list_entry(node, struct prepared, used));
	free(set->buckets);
	statement_set_init(set);
}

static struct prepared **find(const struct statement_set *set, struct statement_id id)
{
	struct prepared **at = &set->buckets[id.low & (set->bucket_count - 1)];

	while (*at && !statement_id_equal((*at)->id, id))
		at = &(*at)->next;
	return at;
}

bool statement_set_use(struct statement_set *set, struct statement_id id)
{
	struct prepared *p = set->count ? *find(set, id) : NULL;

	if (!p)
		return false;
	p->used_lately = true;
	if (set->used.next != &p->used) {
		list_remove(&p->used);
		list_push_front(&set->used, &p->used);
	}
	return true;
}

static int grow(struct statement_set *set)
{
	uint32_t count = set->bucket_count ? set->bucket_count * 2 : 16;
	struct prepared **buckets = calloc(count, sizeof(*buckets));

	if (!buckets)
		return -ENOMEM;
	free(set->buckets);
	set->buckets = buckets;
	set->bucket_count = count;
	list_for_each (node, &set->used) {
		struct prepared *p = list_entry(node, struct prepared, used), **at = &buckets[p->id.low & (count - 1)];
		p->next = *at;
		*at = p;
	}
	return 0;
}

/* In no place of the order yet; it is not there. NULL: out of memory. */
static struct prepared *insert(struct statement_set *set, struct statement_id id)
{
	struct prepared *p, **at;

	if (set->count >= set->bucket_count && grow(set) < 0)
		return NULL;
	p = malloc(sizeof(*p));
	if (!p)
		return NULL;
	at = find(set, id);
	*p = (struct prepared){.next = *at, .id = id};
	*at = p;
	set->count++;
	return p;
}

int statement_set_add(struct statement_set *set, struct statement_id id)
{
	struct prepared *p;

	if (statement_set_use(set, id))
		return 0;
	p = insert(set, id);
	if (!p)
		return -ENOMEM;
	p->used_lately = true;
	list_push_front(&set->used, &p->used);
	return 0;
}

int statement_set_add_unused(struct statement_set *set, struct statement_id id)
{
	struct prepared *p;

	if (set->count && *find(set, id))
		return 0;
	p = insert(set, id);
	if (!p)
		return -ENOMEM;
	list_push_back(&set->used, &p->used);
	return 0;
}

uint32_t statement_set_look(struct statement_set *set, struct statement_id *ret_ids, uint32_t max)
{
	uint32_t count = 0;

	list_for_each (node, &set->used) { /* whatever is used comes to the front, so those are the first ones */
		struct prepared *p = list_entry(node, struct prepared, used);

		if (!p->used_lately || count == max)
			break;
		p->used_lately = false;
		ret_ids[count++] = p->id;
	}
	return count;
}

void statement_set_remove(struct statement_set *set, struct statement_id id)
{
	struct prepared **at = set->count ? find(set, id) : NULL, *p = at ? *at : NULL;

	if (!p)
		return;
	*at = p->next;
	list_remove(&p->used);
	free(p);
	set->count--;
}

bool statement_set_evict(struct statement_set *set, struct statement_id *ret_id)
{
	struct list *last = list_last(&set->used);

	if (!last)
		return false;
	*ret_id = list_entry(last, struct prepared, used)->id;
	statement_set_remove(set, *ret_id);
	return true;
}
