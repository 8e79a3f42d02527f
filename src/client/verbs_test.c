/* The table of verbs makes sense, and is found the way people type. */
#include "client/client_priv.h"

#include "wire/test.h"

static void test_finds_verbs(void **state)
{
	char *drain[] = {(char *)"node", (char *)"drain", (char *)"db1"};
	char *reset[] = {(char *)"queries", (char *)"reset"};
	char *half[] = {(char *)"node"}, *wrong[] = {(char *)"nodess"};
	int used = 0;

	assert_string_equal(verb_find(drain, 3, &used)->words, "node drain");
	assert_int_equal(used, 2);
	assert_null(verb_find(half, 1, &used));
	assert_string_equal(verb_find(reset, 2, &used)->words, "queries reset");
	assert_string_equal(verb_find(reset, 1, &used)->words, "queries");
	assert_int_equal(used, 1);
	assert_null(verb_find(wrong, 1, &used));
	assert_string_equal(verb_near("nodess"), "nodes");
	assert_string_equal(verb_near("sesions"), "sessions");
	assert_null(verb_near("something else"));
}

/* Each verb can be found by its own words: none hides behind another. */
static void test_every_verb_is_reached(void **state)
{
	for (size_t i = 0; i < verb_count; i++) {
		char text[64], *words[4], *save = NULL;
		int count = 0, used = 0;

		snprintf(text, sizeof(text), "%s", verbs[i].words);
		for (char *w = strtok_r(text, " ", &save); w; w = strtok_r(NULL, " ", &save))
			words[count++] = w;
		assert_ptr_equal(verb_find(words, count, &used), &verbs[i]);
	}
}

static void test_rows_are_lists_of_columns(void **state)
{
	size_t count;

	for (size_t i = 0; i < verb_count; i++) {
		const struct verb *v = &verbs[i];
		bool has_place = strstr(v->path, "{}") != NULL;

		if (*v->rows)
			assert_non_null(columns_of(v->rows, &count));
		if (has_place)
			assert_int_not_equal(v->argument, ARGUMENT_NONE);
		if ((v->flags & VERB_BODY) && strcmp(v->method, "GET") == 0)
			fail_msg("%s: GET has no body", v->words);
	}
}

static void test_keys_are_read(void **state)
{
	const char *at = "name role:primary|standby weight:n sync:b";
	struct verb_key key;

	assert_true(verb_next_key(&at, &key));
	assert_string_equal(key.name, "name");
	assert_int_equal(key.type, 's');
	assert_true(verb_next_key(&at, &key));
	assert_string_equal(key.name, "role");
	assert_string_equal(key.words, "primary|standby");
	assert_true(verb_next_key(&at, &key));
	assert_int_equal(key.type, 'n');
	assert_true(verb_next_key(&at, &key));
	assert_int_equal(key.type, 'b');
	assert_string_equal(key.words, "true|false");
	assert_false(verb_next_key(&at, &key));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_finds_verbs),
		cmocka_unit_test(test_every_verb_is_reached),
		cmocka_unit_test(test_rows_are_lists_of_columns),
		cmocka_unit_test(test_keys_are_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
