/*
 * See map.h. Linear probing over a power of two of slots; at most 3/4 of them are used,
 * so that a probe always meets an empty one. A removed entry leaves a mark (its key is
 * `removed_key`) until the next rehash, for probes to go on past it.
 */
#include "base/map.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define FIRST_CAP 16

struct map_slot {
	uint8_t *key; /* NULL: empty */
	uint32_t key_len, hash;
	void *value;
};

static uint8_t removed_key[1];
static _Alignas(64) uint8_t hash_secret[XXH3_SECRET_DEFAULT_SIZE];

/* A whole secret, not only a seed: keys that collide for every seed are known. */
__attribute__((constructor)) static void hash_secret_init(void)
{
	size_t filled = 0;

	while (filled < sizeof(hash_secret)) {
		ssize_t n = getrandom(hash_secret + filled, sizeof(hash_secret) - filled, 0);

		if (n > 0)
			filled += (size_t)n;
		else if (errno != EINTR)
			break;
	}
	for (; filled < sizeof(hash_secret); filled++) { /* no getrandom here: better than nothing */
		struct timespec ts;

		clock_gettime(CLOCK_REALTIME, &ts);
		hash_secret[filled] = (uint8_t)(XXH3_64bits(&ts, sizeof(ts)) ^ (uint64_t)getpid());
	}
}

uint64_t hash_bytes(const void *bytes, size_t len)
{
	return XXH3_64bits_withSecret(bytes, len, hash_secret, sizeof(hash_secret));
}

static bool slot_is_live(const struct map_slot *slot)
{
	return slot->key && slot->key != removed_key;
}

void map_free(struct map *m)
{
	for (uint32_t i = 0; i < m->cap; i++) {
		if (slot_is_live(&m->slots[i]))
			free(m->slots[i].key);
	}
	free(m->slots);
	*m = MAP_INIT;
}

static struct map_slot *find(const struct map *m, struct slice key, uint32_t hash)
{
	if (m->cap == 0)
		return NULL;
	for (uint32_t i = hash & (m->cap - 1);; i = (i + 1) & (m->cap - 1)) {
		struct map_slot *slot = &m->slots[i];

		if (!slot->key)
			return NULL;
		if (slot->key != removed_key && slot->hash == hash && slot->key_len == key.len &&
		    (key.len == 0 || memcmp(slot->key, key.bytes, key.len) == 0))
			return slot;
	}
}

static struct map_slot *find_empty(struct map_slot *slots, uint32_t cap, uint32_t hash)
{
	uint32_t i = hash & (cap - 1);

	while (slots[i].key)
		i = (i + 1) & (cap - 1);
	return &slots[i];
}

/* Also sweeps out the removed ones; grows only when the live ones need it. */
static int make_room(struct map *m)
{
	struct map_slot *slots;
	uint32_t cap = m->cap ? m->cap : FIRST_CAP;

	if (m->used < m->cap / 4 * 3)
		return 0;
	if (m->count >= cap / 2) {
		if (cap > UINT32_MAX / 2)
			return -ENOMEM;
		cap *= 2;
	}
	slots = calloc(cap, sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	for (uint32_t i = 0; i < m->cap; i++) {
		if (slot_is_live(&m->slots[i]))
			*find_empty(slots, cap, m->slots[i].hash) = m->slots[i];
	}
	free(m->slots);
	m->slots = slots;
	m->cap = cap;
	m->used = m->count;
	return 0;
}

void *map_get(const struct map *m, struct slice key)
{
	struct map_slot *slot = find(m, key, (uint32_t)hash_bytes(key.bytes, key.len));

	return slot ? slot->value : NULL;
}

int map_put(struct map *m, struct slice key, void *value, void **ret_old)
{
	uint32_t hash = (uint32_t)hash_bytes(key.bytes, key.len);
	struct map_slot *slot = find(m, key, hash);
	uint8_t *copy;

	if (slot) {
		if (ret_old)
			*ret_old = slot->value;
		slot->value = value;
		return 0;
	}
	if (key.len > UINT32_MAX || make_room(m) < 0)
		return -ENOMEM;
	copy = malloc(MAX(key.len, 1));
	if (!copy)
		return -ENOMEM;
	if (key.len > 0)
		memcpy(copy, key.bytes, key.len);
	*find_empty(m->slots, m->cap, hash) =
		(struct map_slot){.key = copy, .key_len = (uint32_t)key.len, .hash = hash, .value = value};
	m->count++;
	m->used++;
	if (ret_old)
		*ret_old = NULL;
	return 0;
}

void *map_remove(struct map *m, struct slice key)
{
	struct map_slot *slot = find(m, key, (uint32_t)hash_bytes(key.bytes, key.len));
	void *value;

	if (!slot)
		return NULL;
	value = slot->value;
	free(slot->key);
	*slot = (struct map_slot){.key = removed_key};
	m->count--;
	return value;
}

bool map_next(const struct map *m, uint32_t *at, struct slice *ret_key, void **ret_value)
{
	for (; *at < m->cap; ++*at) {
		const struct map_slot *slot = &m->slots[*at];

		if (!slot_is_live(slot))
			continue;
		*ret_key = slice_make(slot->key, slot->key_len);
		*ret_value = slot->value;
		++*at;
		return true;
	}
	return false;
}
