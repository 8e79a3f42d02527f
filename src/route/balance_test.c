/* Which node has the next read: exactly where it is in turn, by count with a fixed seed where it is by chance. */
#include "route/balance.h"
#include "wire/test.h"

#define DRAWS 30000

static struct balance_candidate candidate(uint32_t slot, uint32_t weight)
{
	return (struct balance_candidate){.slot = slot, .weight = weight, .ramp = BALANCE_FULL, .local = true};
}

static void choose_often(const struct balance_settings *s, const struct balance_candidate *c, uint32_t count,
			 uint32_t times, uint32_t *ret_counts)
{
	struct balance_state state = {.random = 42};

	memset(ret_counts, 0, count * sizeof(*ret_counts));
	for (uint32_t i = 0; i < times; i++) {
		int chosen = balance_choose(s, &state, c, count, NULL);

		assert_true(chosen >= 0 && (uint32_t)chosen < count);
		ret_counts[chosen]++;
	}
}

static void in_turn_by_weight_exactly(void **state)
{
	static const struct {
		uint32_t count, weights[4], times, expected[4];
	} cases[] = {
		{1, {100}, 7, {7}},
		{3, {100, 100, 100}, 9, {3, 3, 3}},
		{3, {5, 1, 1}, 7, {5, 1, 1}},
		{3, {5, 1, 1}, 70, {50, 10, 10}},
		{2, {300, 100}, 40, {30, 10}},
		{4, {1, 2, 3, 4}, 100, {10, 20, 30, 40}},
		{3, {1000000, 0, 1000000}, 10, {5, 0, 5}},
	};
	const struct balance_settings s = {.strategy = BALANCE_ROUND_ROBIN};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct balance_candidate c[4];
		uint32_t counts[4];

		for (uint32_t k = 0; k < cases[i].count; k++)
			c[k] = candidate(k, cases[i].weights[k]);
		choose_often(&s, c, cases[i].count, cases[i].times, counts);
		assert_memory_equal(counts, cases[i].expected, cases[i].count * sizeof(counts[0]));
	}
}

/* The heavy one is not chosen five times in a row. */
static void in_turn_is_smooth(void **state)
{
	static const int expected[] = {0, 0, 1, 0, 2, 0, 0};
	const struct balance_settings s = {.strategy = BALANCE_ROUND_ROBIN};
	struct balance_candidate c[] = {candidate(0, 5), candidate(1, 1), candidate(2, 1)};
	struct balance_state b = {0};

	for (size_t i = 0; i < ARRAY_SIZE(expected); i++)
		assert_int_equal(balance_choose(&s, &b, c, 3, NULL), expected[i]);
}

/* Candidates come and go from choice to choice; who was away has no claim to all that went by. */
static void in_turn_with_changing_candidates(void **state)
{
	const struct balance_settings s = {.strategy = BALANCE_ROUND_ROBIN};
	struct balance_candidate c[] = {candidate(0, 1), candidate(1, 1), candidate(2, 1)};
	struct balance_state b = {0};
	uint32_t counts[3] = {0};

	for (int i = 0; i < 100; i++)
		assert_true(balance_choose(&s, &b, c, 2, NULL) >= 0);
	for (int i = 0; i < 30; i++)
		counts[balance_choose(&s, &b, c, 3, NULL)]++;
	for (int k = 0; k < 3; k++)
		assert_int_equal(counts[k], 10);
}

static void by_chance_and_weight(void **state)
{
	const struct balance_settings s = {.strategy = BALANCE_RANDOM};
	struct balance_candidate c[] = {candidate(0, 100), candidate(1, 200), candidate(2, 0), candidate(3, 300)};
	uint32_t counts[4];

	choose_often(&s, c, 4, DRAWS, counts);
	assert_in_range(counts[0], DRAWS / 6 - DRAWS / 60, DRAWS / 6 + DRAWS / 60);
	assert_in_range(counts[1], DRAWS / 3 - DRAWS / 60, DRAWS / 3 + DRAWS / 60);
	assert_int_equal(counts[2], 0);
	assert_in_range(counts[3], DRAWS / 2 - DRAWS / 60, DRAWS / 2 + DRAWS / 60);
}

static void fewest_links_for_their_weight(void **state)
{
	static const struct {
		uint32_t weights[3], active[3];
		int expected;
	} cases[] = {
		{{100, 100, 100}, {3, 1, 2}, 1}, {{100, 100, 100}, {0, 0, 1}, -1}, /* one of the first two */
		{{100, 300, 100}, {1, 4, 2}, 1},                                   /* 2/1, 5/3, 3/1 */
		{{100, 300, 100}, {0, 3, 2}, 0},                                   /* 1/1, 4/3, 3/1 */
		{{0, 100, 100}, {0, 9, 8}, 2},
	};
	const struct balance_settings s = {.strategy = BALANCE_LEAST_CONNECTIONS};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct balance_state b = {0};
		struct balance_candidate c[3];
		int chosen;

		for (uint32_t k = 0; k < 3; k++) {
			c[k] = candidate(k, cases[i].weights[k]);
			c[k].active = cases[i].active[k];
		}
		chosen = balance_choose(&s, &b, c, 3, NULL);
		if (cases[i].expected >= 0)
			assert_int_equal(chosen, cases[i].expected);
		else
			assert_true(chosen == 0 || chosen == 1);
	}
}

/* With a light load all are equal, and nobody has it all. */
static void equally_busy_ones_take_turns(void **state)
{
	const struct balance_settings s = {.strategy = BALANCE_LEAST_CONNECTIONS};
	struct balance_candidate c[] = {candidate(0, 100), candidate(1, 100), candidate(2, 100)};
	uint32_t counts[3];

	choose_often(&s, c, 3, 30, counts);
	for (int k = 0; k < 3; k++)
		assert_int_equal(counts[k], 10);
}

static void the_faster_of_two(void **state)
{
	const struct balance_settings s = {.strategy = BALANCE_LATENCY};
	struct balance_candidate c[] = {candidate(0, 100), candidate(1, 100), candidate(2, 100)};
	uint32_t counts[3];

	c[0].latency = 300;
	c[1].latency = 100;
	c[2].latency = 200;
	choose_often(&s, c, 3, DRAWS, counts);
	assert_int_equal(counts[0], 0); /* it loses against either */
	assert_in_range(counts[1], DRAWS * 2 / 3 - DRAWS / 60, DRAWS * 2 / 3 + DRAWS / 60);
	assert_in_range(counts[2], DRAWS / 3 - DRAWS / 60, DRAWS / 3 + DRAWS / 60);
	c[1].active = 9; /* what is under way there comes first */
	choose_often(&s, c, 3, DRAWS, counts);
	assert_int_equal(counts[1], 0);
	c[1].active = 0;
	c[0].latency = 0; /* not known: it is to be found out */
	choose_often(&s, c, 3, DRAWS, counts);
	assert_in_range(counts[0], DRAWS * 2 / 3 - DRAWS / 60, DRAWS * 2 / 3 + DRAWS / 60);
}

static void slower_than_the_threshold(void **state)
{
	const struct balance_settings s = {.strategy = BALANCE_LATENCY, .latency_threshold = 1000};
	struct balance_candidate c[] = {candidate(0, 100), candidate(1, 100), candidate(2, 100)};
	uint32_t counts[3];

	c[0].latency = 1001;
	c[1].latency = 900;
	c[1].active = 50; /* dear, but not slow */
	c[2].latency = 5000;
	choose_often(&s, c, 3, 100, counts);
	assert_int_equal(counts[1], 100);
	c[1].latency = 6000; /* now all are */
	choose_often(&s, c, 3, 1000, counts);
	assert_true(counts[0] > 0 && counts[2] > 0);
}

static void zones_and_the_primary(void **state)
{
	enum { P = 1, L = 2, Z = 4 }; /* primary, local, weight zero */
	static const struct {
		enum primary_reads primary_reads;
		uint32_t spill, count, kinds[3], active[3];
		int may_be_chosen; /* bits */
		enum balance_reason reason;
	} cases[] = {
		/* who reads */
		{PRIMARY_READS_LAST_RESORT, 0, 0, {0}, {0}, 0, BALANCE_NOBODY},
		{PRIMARY_READS_LAST_RESORT, 0, 3, {P | L, L, L}, {0}, 6, BALANCE_STRATEGY},
		{PRIMARY_READS_EQUAL, 0, 3, {P | L, L, L}, {0}, 7, BALANCE_STRATEGY},
		{PRIMARY_READS_NEVER, 0, 3, {P | L, L, L}, {0}, 6, BALANCE_STRATEGY},
		{PRIMARY_READS_LAST_RESORT, 0, 2, {P | L, L}, {0}, 2, BALANCE_ONLY_ONE},
		{PRIMARY_READS_LAST_RESORT, 0, 1, {P | L}, {0}, 1, BALANCE_PRIMARY},
		{PRIMARY_READS_EQUAL, 0, 1, {P | L}, {0}, 1, BALANCE_ONLY_ONE},
		{PRIMARY_READS_NEVER, 0, 1, {P | L}, {0}, 0, BALANCE_NOBODY},
		/* weight 0 takes no reads, but the primary does when nobody else can */
		{PRIMARY_READS_LAST_RESORT, 0, 2, {P | L | Z, L | Z}, {0}, 1, BALANCE_PRIMARY},
		{PRIMARY_READS_EQUAL, 0, 2, {P | L | Z, L}, {0}, 2, BALANCE_ONLY_ONE},
		{PRIMARY_READS_NEVER, 0, 2, {P | L, L | Z}, {0}, 0, BALANCE_NOBODY},
		/* zones */
		{PRIMARY_READS_LAST_RESORT, 0, 3, {P, L, 0}, {0, 1000, 0}, 2, BALANCE_OWN_ZONE},
		{PRIMARY_READS_LAST_RESORT, 0, 3, {P | L, 0, 0}, {0}, 6, BALANCE_OTHER_ZONE},
		{PRIMARY_READS_EQUAL, 0, 3, {P | L, 0, 0}, {0}, 1, BALANCE_OWN_ZONE},
		{PRIMARY_READS_LAST_RESORT, 0, 1, {P}, {0}, 1, BALANCE_OTHER_ZONE},
		/* spilling over */
		{PRIMARY_READS_LAST_RESORT, 10, 3, {L, L, 0}, {10, 9, 0}, 3, BALANCE_OWN_ZONE},
		{PRIMARY_READS_LAST_RESORT, 10, 3, {L, L, 0}, {10, 10, 0}, 7, BALANCE_OTHER_ZONE},
		{PRIMARY_READS_LAST_RESORT, 10, 2, {L, L}, {10, 10}, 3, BALANCE_STRATEGY},
	};
	static const enum balance_strategy strategies[] = {BALANCE_ROUND_ROBIN, BALANCE_LEAST_CONNECTIONS,
							   BALANCE_LATENCY, BALANCE_RANDOM};

	for (size_t i = 0; i < ARRAY_SIZE(cases) * ARRAY_SIZE(strategies); i++) {
		const size_t n = i / ARRAY_SIZE(strategies);
		const struct balance_settings s = {.strategy = strategies[i % ARRAY_SIZE(strategies)],
						   .primary_reads = cases[n].primary_reads,
						   .spill_links = cases[n].spill};
		struct balance_state b = {.random = 7};
		struct balance_candidate c[3];
		int seen = 0;

		for (uint32_t k = 0; k < cases[n].count; k++) {
			c[k] = candidate(k, cases[n].kinds[k] & Z ? 0 : 100);
			c[k].primary = cases[n].kinds[k] & P;
			c[k].local = cases[n].kinds[k] & L;
			c[k].active = cases[n].active[k];
		}
		for (int draws = 0; draws < 60; draws++) {
			enum balance_reason reason;
			int chosen = balance_choose(&s, &b, c, cases[n].count, &reason);

			assert_int_equal(reason, cases[n].reason);
			seen |= chosen < 0 ? 0 : 1 << chosen;
		}
		if (s.strategy == BALANCE_LEAST_CONNECTIONS) /* has its own opinion among those that may */
			assert_int_equal(seen & ~cases[n].may_be_chosen, 0);
		else
			assert_int_equal(seen, cases[n].may_be_chosen);
	}
}

static void only_the_primary(void **state)
{
	const struct balance_settings s = {.strategy = BALANCE_PRIMARY_ONLY, .primary_reads = PRIMARY_READS_NEVER};
	struct balance_candidate c[] = {candidate(0, 100), candidate(1, 100)};
	struct balance_state b = {0};

	c[1].primary = true;
	for (int i = 0; i < 5; i++)
		assert_int_equal(balance_choose(&s, &b, c, 2, NULL), 1);
	assert_int_equal(balance_choose(&s, &b, c, 1, NULL), 0); /* there is none: better than nothing */
}

static void who_comes_back_gets_its_share_bit_by_bit(void **state)
{
	static const struct {
		usec_t since, now, slow_start;
		uint32_t expected;
	} cases[] = {
		{0, 5, 30, 1024},     {100, 100, 30, 64},   {100, 101, 30, 64}, {100, 115, 30, 512},
		{100, 130, 30, 1024}, {100, 999, 30, 1024}, {100, 99, 30, 64},  {100, 100, 0, 1024},
	};
	const struct balance_settings s = {.strategy = BALANCE_ROUND_ROBIN};
	struct balance_candidate c[] = {candidate(0, 100), candidate(1, 100)};
	uint32_t counts[2];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(balance_ramp(cases[i].since * USEC_PER_SEC, cases[i].now * USEC_PER_SEC,
					      cases[i].slow_start * USEC_PER_SEC),
				 cases[i].expected);
	c[1].ramp = 64;
	choose_often(&s, c, 2, 17 * 10, counts);
	assert_int_equal(counts[0], 160);
	assert_int_equal(counts[1], 10);
	c[1].ramp = 0; /* at least now and then */
	choose_often(&s, c, 1, 10, counts);
	c[0].ramp = 0;
	choose_often(&s, c, 2, 10, counts);
	assert_int_equal(counts[1], 5);
}

static void latency_is_a_mean_that_ages(void **state)
{
	uint32_t l = balance_latency(0, 800);

	assert_int_equal(l, 800);
	assert_int_equal(balance_latency(l, 1600), 900);
	assert_int_equal(balance_latency(l, 0), 700);
	assert_int_equal(balance_latency(0, 0), 1); /* known, if little */
	for (int i = 0; i < 100; i++)
		l = balance_latency(l, 200);
	assert_in_range(l, 200, 208);
	assert_true(balance_latency(UINT32_MAX, USEC_NEVER) > UINT32_MAX / 2);
	assert_int_equal(balance_latency_aged(800, 9 * USEC_PER_SEC), 800);
	assert_int_equal(balance_latency_aged(800, 20 * USEC_PER_SEC), 200);
	assert_int_equal(balance_latency_aged(800, USEC_NEVER), 1);
	assert_int_equal(balance_latency_aged(0, USEC_NEVER), 0);
}

/* Of 30,000 keys, where each goes. */
static void choose_by_key(const struct balance_candidate *c, uint32_t count, uint8_t *ret)
{
	const struct balance_settings s = {.strategy = BALANCE_HASH};

	for (uint32_t key = 0; key < DRAWS; key++) {
		struct balance_state b = {.key = key + 1};
		int chosen = balance_choose(&s, &b, c, count, NULL);

		assert_true(chosen >= 0);
		assert_int_equal(balance_choose(&s, &b, c, count, NULL), chosen);
		ret[key] = (uint8_t)c[chosen].slot;
	}
}

static void a_key_has_its_node(void **state)
{
	static const uint32_t weights[] = {100, 100, 200, 400};
	static uint8_t all[DRAWS], without[DRAWS], turned[DRAWS];
	struct balance_candidate c[4], d[4];
	uint32_t counts[4] = {0};

	for (uint32_t i = 0; i < 4; i++) {
		c[i] = candidate(i, weights[i]);
		c[i].id = UINT64_C(0x123456789) * (i + 7);
		d[3 - i] = c[i];
	}
	choose_by_key(c, 4, all);
	choose_by_key(d, 4, turned);
	assert_memory_equal(all, turned, sizeof(all)); /* in whatever order they come */
	for (uint32_t key = 0; key < DRAWS; key++)
		counts[all[key]]++;
	for (uint32_t i = 0; i < 4; i++) {
		uint32_t share = DRAWS / 800 * weights[i];

		assert_in_range(counts[i], share - share / 10, share + share / 10);
	}
	choose_by_key(c, 3, without); /* the last one leaves */
	for (uint32_t key = 0; key < DRAWS; key++)
		assert_true(all[key] == 3 ? without[key] < 3 : without[key] == all[key]);
	c[0].weight = 0;
	choose_by_key(c, 4, without);
	for (uint32_t key = 0; key < DRAWS; key++)
		assert_true(all[key] == 0 ? without[key] > 0 : without[key] == all[key]);
}

static void more_than_can_be_looked_at(void **state)
{
	const struct balance_settings s = {.strategy = BALANCE_ROUND_ROBIN};
	struct balance_candidate c[BALANCE_MAX + 6];
	struct balance_state b = {0};
	bool seen[BALANCE_MAX + 6] = {0};

	for (uint32_t i = 0; i < ARRAY_SIZE(c); i++)
		c[i] = candidate(i % BALANCE_MAX, 100);
	for (uint32_t i = 0; i < BALANCE_MAX; i++)
		seen[balance_choose(&s, &b, c, ARRAY_SIZE(c), NULL)] = true;
	for (uint32_t i = 0; i < ARRAY_SIZE(c); i++)
		assert_int_equal(seen[i], i < BALANCE_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(in_turn_by_weight_exactly),
		cmocka_unit_test(in_turn_is_smooth),
		cmocka_unit_test(in_turn_with_changing_candidates),
		cmocka_unit_test(by_chance_and_weight),
		cmocka_unit_test(fewest_links_for_their_weight),
		cmocka_unit_test(equally_busy_ones_take_turns),
		cmocka_unit_test(the_faster_of_two),
		cmocka_unit_test(slower_than_the_threshold),
		cmocka_unit_test(zones_and_the_primary),
		cmocka_unit_test(only_the_primary),
		cmocka_unit_test(who_comes_back_gets_its_share_bit_by_bit),
		cmocka_unit_test(latency_is_a_mean_that_ages),
		cmocka_unit_test(a_key_has_its_node),
		cmocka_unit_test(more_than_can_be_looked_at),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
