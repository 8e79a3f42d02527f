/* See share_memory.h. */
#include "session/share_memory.h"

#include "base/map.h"
#include "session/share_read.h"
#include "sql/shape.h"

#define SLOTS      4096u
#define WAYS       2u
#define MEAN_SHIFT 3  /* a new value counts for an eighth */
#define TRY_AGAIN  32 /* every so manieth of a text that takes too long is measured */

struct slot {
	uint64_t key;
	uint32_t mean_cost; /* microseconds << MEAN_SHIFT */
	uint16_t runs;      /* measured, saturating */
	uint8_t refused;    /* since it was last measured */
	bool known, seen, pure;
};

struct share_memory {
	struct slot slots[SLOTS][WAYS]; /* in each set the one that was used last comes first */
};

struct share_memory *share_memory_new(void)
{
	return calloc(1, sizeof(struct share_memory));
}

void share_memory_free(struct share_memory *m)
{
	free(m);
}

uint64_t share_key(struct slice sql)
{
	uint8_t shape[SHARE_REQUEST_MAX];
	size_t len = sql.len <= sizeof(shape) ? shape_fold(sql, shape) : 0;

	return len ? hash_bytes(shape, len) : hash_bytes(sql.bytes, sql.len);
}

static struct slot *find(struct share_memory *m, uint64_t key)
{
	struct slot *set = m->slots[key & (SLOTS - 1)], other;

	if (set[0].known && set[0].key == key)
		return &set[0];
	if (!set[1].known || set[1].key != key)
		return NULL;
	other = set[0];
	set[0] = set[1];
	set[1] = other;
	return &set[0];
}

static struct slot *add(struct share_memory *m, uint64_t key, struct slice sql)
{
	struct slot *set = m->slots[key & (SLOTS - 1)];

	set[1] = set[0];
	set[0] = (struct slot){.key = key, .known = true, .pure = shape_is_pure_read(sql)};
	return &set[0];
}

enum share_verdict share_judge(struct share_memory *m, uint64_t key, struct slice sql, usec_t max_cost, uint32_t runs)
{
	struct slot *slot = find(m, key);
	bool first;

	if (!slot)
		slot = add(m, key, sql);
	first = !slot->seen;
	slot->seen = true;
	if (!slot->pure || first) /* most texts that are new never come again */
		return SHARE_NEVER;
	if (slot->runs < runs)
		return SHARE_ALONE;
	if (slot->mean_cost >> MEAN_SHIFT <= max_cost)
		return SHARE_YES;
	return ++slot->refused % TRY_AGAIN == 0 ? SHARE_ALONE : SHARE_NEVER;
}

void share_learn(struct share_memory *m, uint64_t key, usec_t cost)
{
	struct slot *slot = find(m, key);
	uint32_t value = (uint32_t)MIN(cost, (usec_t)UINT32_MAX >> (MEAN_SHIFT + 1));

	if (!slot)
		return;
	if (slot->runs == 0)
		slot->mean_cost = value << MEAN_SHIFT;
	else
		slot->mean_cost += value - (slot->mean_cost >> MEAN_SHIFT);
	slot->runs += slot->runs < UINT16_MAX;
}
