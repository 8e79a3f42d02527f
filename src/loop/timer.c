/*
 * See timer.h. A hierarchical wheel in ticks of 10 ms: level 0 has a slot a tick, a slot
 * of level n > 0 spans all of level n - 1 and is spread over it when its time begins.
 *
 * `tick` is the last tick that was run. A set timer lies in a slot that will be looked
 * at no later than its deadline; a later deadline is found there, and the timer put on.
 * A bit of `busy` is set when its slot may hold timers (cancelling doesn't clear it).
 */
#include "loop/timer.h"

#define TICK       (10 * USEC_PER_MSEC)
#define LEVELS     4
#define FIRST_BITS 8 /* 256 slots: 2.56 s */
#define BITS       6 /* then 64 each: 164 s, 2.9 h, 7.7 days; what is later waits in the last slot */
#define SLOTS(n)   ((n) == 0 ? 1u << FIRST_BITS : 1u << BITS)

struct timer_wheel {
	uint64_t tick;
	bool frozen;
	struct list due; /* that expired while it is frozen */
	uint64_t next;   /* nothing is due before this tick; not above `tick`: not known */
	uint64_t busy[LEVELS][(1u << FIRST_BITS) / 64];
	struct list slots[LEVELS][1u << FIRST_BITS];
};

static inline uint32_t level_shift(uint32_t level)
{
	return level == 0 ? 0 : FIRST_BITS + BITS * (level - 1);
}

struct timer_wheel *timer_wheel_new(usec_t now)
{
	struct timer_wheel *wheel = calloc(1, sizeof(*wheel));

	if (!wheel)
		return NULL;
	wheel->tick = now / TICK;
	list_init(&wheel->due);
	for (uint32_t level = 0; level < LEVELS; level++) {
		for (uint32_t i = 0; i < SLOTS(level); i++)
			list_init(&wheel->slots[level][i]);
	}
	return wheel;
}

void timer_wheel_free(struct timer_wheel *wheel)
{
	free(wheel);
}

void timer_init(struct timer *timer, void (*expired)(struct timer *timer))
{
	list_init(&timer->node);
	timer->deadline = USEC_NEVER;
	timer->slot_time = 0;
	timer->always = false;
	timer->expired = expired;
}

/* Puts it where it will be looked at next: not after its deadline's tick, and not before `earliest`. */
static void insert(struct timer_wheel *wheel, struct timer *timer, uint64_t earliest)
{
	uint64_t at = timer->deadline / TICK + (timer->deadline % TICK != 0);
	uint32_t level = 0, slot;

	at = MAX(at, earliest);
	while (level < LEVELS && at - wheel->tick >= 1ull << (level_shift(level + 1)))
		level++;
	if (level == LEVELS) {
		level = LEVELS - 1;
		at = wheel->tick + (1ull << level_shift(LEVELS)) - 1;
	}
	slot = (uint32_t)(at >> level_shift(level)) & (SLOTS(level) - 1);
	timer->slot_time = (at >> level_shift(level) << level_shift(level)) * TICK;
	wheel->busy[level][slot / 64] |= 1ull << (slot % 64);
	list_push_back(&wheel->slots[level][slot], &timer->node);
	wheel->next = MIN(wheel->next, timer->slot_time / TICK);
}

void timer_set(struct timer_wheel *wheel, struct timer *timer, usec_t deadline)
{
	if (deadline == USEC_NEVER) {
		timer_cancel(timer);
		return;
	}
	if (timer_is_set(timer) && deadline >= timer->slot_time) {
		timer->deadline = deadline;
		return;
	}
	list_remove(&timer->node);
	timer->deadline = deadline;
	insert(wheel, timer, wheel->tick + 1);
}

void timer_cancel(struct timer *timer)
{
	list_remove(&timer->node);
	timer->deadline = USEC_NEVER;
}

/*
 * Slots from `from` to the next that holds timers, going around; SLOTS(level) when none does.
 * Clears the bits of slots whose timers were all cancelled.
 */
static uint32_t slots_to_next(struct timer_wheel *wheel, uint32_t level, uint32_t from)
{
	uint32_t mask = SLOTS(level) - 1;

	for (uint32_t distance = 0; distance <= mask;) {
		uint32_t slot = (from + distance) & mask;
		uint64_t rest = wheel->busy[level][slot / 64] >> (slot % 64);

		if (rest == 0) {
			distance += 64 - slot % 64;
			continue;
		}
		distance += (uint32_t)__builtin_ctzll(rest);
		slot = (from + distance) & mask;
		if (!list_is_empty(&wheel->slots[level][slot]))
			return distance <= mask ? distance : SLOTS(level);
		wheel->busy[level][slot / 64] &= ~(1ull << (slot % 64));
		distance++;
	}
	return SLOTS(level);
}

/* The next tick at which there is something to do; UINT64_MAX when no timer is set. */
static uint64_t next_tick(struct timer_wheel *wheel)
{
	uint64_t next = UINT64_MAX;

	if (wheel->next > wheel->tick)
		return wheel->next;
	for (uint32_t level = 0; level < LEVELS; level++) {
		uint64_t first = (wheel->tick >> level_shift(level)) + 1;
		uint32_t distance = slots_to_next(wheel, level, (uint32_t)first & (SLOTS(level) - 1));

		if (distance < SLOTS(level))
			next = MIN(next, (first + distance) << level_shift(level));
	}
	wheel->next = next;
	return next;
}

/* Moves a slot's timers to *timers. */
static void take_slot(struct timer_wheel *wheel, uint32_t level, uint64_t tick, struct list *timers)
{
	uint32_t i = (uint32_t)(tick >> level_shift(level)) & (SLOTS(level) - 1);
	struct list *slot = &wheel->slots[level][i];

	wheel->busy[level][i / 64] &= ~(1ull << (i % 64));
	list_init(timers);
	if (list_is_empty(slot))
		return;
	list_insert_after(slot, timers);
	list_remove(slot);
}

static void run_tick(struct timer_wheel *wheel, uint64_t tick, usec_t now)
{
	struct list timers, *node;

	wheel->tick = tick;
	for (uint32_t level = LEVELS - 1; level > 0; level--) {
		if ((tick & ((1ull << level_shift(level)) - 1)) != 0)
			continue;
		take_slot(wheel, level, tick, &timers);
		while ((node = list_first(&timers))) {
			list_remove(node);
			insert(wheel, list_entry(node, struct timer, node), tick);
		}
	}
	take_slot(wheel, 0, tick, &timers);
	while ((node = list_first(&timers))) {
		struct timer *timer = list_entry(node, struct timer, node);

		list_remove(node);
		if (timer->deadline > now) {
			insert(wheel, timer, tick + 1);
			continue;
		}
		if (unlikely(wheel->frozen) && !timer->always) {
			list_push_back(&wheel->due, node);
			continue;
		}
		timer->deadline = USEC_NEVER;
		timer->expired(timer);
	}
}

void timer_wheel_run(struct timer_wheel *wheel, usec_t now)
{
	uint64_t until = now / TICK, tick;

	while ((tick = next_tick(wheel)) <= until)
		run_tick(wheel, tick, now);
	wheel->tick = MAX(wheel->tick, until);
}

void timer_wheel_freeze(struct timer_wheel *wheel)
{
	wheel->frozen = true;
}

/* A later deadline is found where the timer lies. */
static void put_off(struct list *timers, usec_t by)
{
	list_for_each (node, timers) {
		struct timer *timer = list_entry(node, struct timer, node);

		if (!timer->always)
			timer->deadline += by;
	}
}

void timer_wheel_thaw(struct timer_wheel *wheel, usec_t stood_still)
{
	struct list *node;

	if (!wheel->frozen)
		return;
	wheel->frozen = false;
	for (uint32_t level = 0; level < LEVELS; level++)
		for (uint32_t i = 0; i < SLOTS(level); i++)
			put_off(&wheel->slots[level][i], stood_still);
	put_off(&wheel->due, stood_still);
	while ((node = list_first(&wheel->due))) {
		list_remove(node);
		insert(wheel, list_entry(node, struct timer, node), wheel->tick + 1);
	}
}

usec_t timer_wheel_next(const struct timer_wheel *wheel, usec_t now)
{
	uint64_t tick = next_tick((struct timer_wheel *)wheel); /* may clear bits that say nothing any more */

	if (tick == UINT64_MAX)
		return USEC_NEVER;
	return tick * TICK > now ? tick * TICK - now : 0;
}
