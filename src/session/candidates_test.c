/* Which statements are worth preparing ahead: what counts, what fades, what fits together. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "session/candidates.h"

#include <stdio.h>

struct fixture {
	struct statement_table *table;
	struct query_infos queries;
	struct candidates candidates;
	struct statement_text *texts[8], *best[8];
	const struct params *settings;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	char parse[32];

	f->table = statement_table_new();
	assert_int_equal(query_infos_init(&f->queries), 0);
	for (uint32_t i = 0; i < ARRAY_SIZE(f->texts); i++) {
		int len = snprintf(parse, sizeof(parse), "SELECT %u", i);

		parse[len + 1] = parse[len + 2] = 0;
		f->texts[i] = statement_table_get(f->table, &f->queries, slice_make(parse, (size_t)len + 3), 0);
	}
	candidates_init(&f->candidates, f->table);
	assert_int_equal(candidates_limit(&f->candidates, 4), 0);
	*state = f;
	return 0;
}

/* Every reference comes back: the sanitizers see what does not. */
static int tear_down(void **state)
{
	struct fixture *f = *state;

	candidates_clear(&f->candidates);
	for (uint32_t i = 0; i < ARRAY_SIZE(f->texts); i++)
		statement_text_unref(f->table, f->texts[i]);
	params_unref(f->settings);
	statement_table_free(f->table);
	query_infos_free(&f->queries);
	free(f);
	return 0;
}

static void see(struct fixture *f, uint32_t text, uint32_t times)
{
	while (times-- > 0)
		candidates_saw(&f->candidates, f->texts[text], NULL);
}

/* Are the best ones these? -1 ends them. */
static void assert_best(struct fixture *f, uint32_t max, const int *expected)
{
	const struct params *settings = NULL;
	uint32_t count = candidates_best(&f->candidates, f->best, max, &settings), i = 0;

	for (; expected[i] >= 0; i++)
		assert_true(i < count && f->best[i] == f->texts[expected[i]]);
	assert_int_equal(count, i);
	for (i = 0; i < count; i++)
		statement_text_unref(f->table, f->best[i]);
	params_unref(settings);
}

static void the_most_used_are_the_best(void **state)
{
	struct fixture *f = *state;

	assert_best(f, 3, (const int[]){-1});
	see(f, 0, 2);
	see(f, 1, 3);
	see(f, 2, 1);
	assert_best(f, 3, (const int[]){1, 0, 2, -1});
	assert_best(f, 2, (const int[]){1, 0, -1});
	assert_best(f, 0, (const int[]){-1});
}

static void what_is_used_no_more_fades(void **state)
{
	struct fixture *f = *state;

	see(f, 0, 20);
	for (int i = 0; i < 500; i++) {
		see(f, 1, 1);
		candidates_fade(&f->candidates);
	}
	assert_best(f, 2, (const int[]){1, -1});
}

static void one_sighting_does_not_push_out_what_was_seen_often(void **state)
{
	struct fixture *f = *state;

	for (uint32_t i = 0; i < 3; i++)
		see(f, i, 10 - i);
	see(f, 3, 1);
	see(f, 4, 1); /* 3's place */
	assert_best(f, 8, (const int[]){0, 1, 2, 4, -1});
	see(f, 4, 1);
	see(f, 5, 1); /* nobody's */
	assert_best(f, 8, (const int[]){0, 1, 2, 4, -1});
}

static void what_failed_is_forgotten(void **state)
{
	struct fixture *f = *state;

	see(f, 0, 3);
	see(f, 1, 2);
	candidates_forget(&f->candidates, f->texts[0]->id);
	candidates_forget(&f->candidates, f->texts[7]->id);
	assert_best(f, 8, (const int[]){1, -1});
}

static void a_smaller_limit_keeps_the_best(void **state)
{
	struct fixture *f = *state;

	for (uint32_t i = 0; i < 4; i++)
		see(f, i, i + 1);
	assert_int_equal(candidates_limit(&f->candidates, 2), 0);
	assert_best(f, 8, (const int[]){3, 2, -1});
	assert_int_equal(candidates_limit(&f->candidates, 0), 0);
	see(f, 1, 1);
	assert_best(f, 8, (const int[]){-1});
}

static void only_what_fits_the_settings_goes_together(void **state)
{
	struct fixture *f = *state;
	static const char sql[] = "SELECT 'paris'\0\0";
	const struct params *got = NULL;
	struct statement_text *other;

	params_set(&f->settings, "timezone", "SET timezone TO 'Europe/Paris'");
	other = statement_table_get(f->table, &f->queries, slice_make(sql, sizeof(sql)), params_meaning(f->settings));
	see(f, 0, 2);
	candidates_saw(&f->candidates, other, NULL); /* under other settings than it was made for: not to be known */
	assert_best(f, 8, (const int[]){0, -1});
	for (int i = 0; i < 3; i++)
		candidates_saw(&f->candidates, other, f->settings);
	assert_int_equal(candidates_best(&f->candidates, f->best, 8, &got), 1);
	assert_ptr_equal(f->best[0], other);
	assert_ptr_equal(got, f->settings);
	statement_text_unref(f->table, other);
	statement_text_unref(f->table, f->best[0]);
	params_unref(got);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_most_used_are_the_best, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_is_used_no_more_fades, set_up, tear_down),
		cmocka_unit_test_setup_teardown(one_sighting_does_not_push_out_what_was_seen_often, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_failed_is_forgotten, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_smaller_limit_keeps_the_best, set_up, tear_down),
		cmocka_unit_test_setup_teardown(only_what_fits_the_settings_goes_together, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
