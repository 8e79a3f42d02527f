/* The pipeline: what is configured is walked, answers backwards; a reload leaves requests under way their own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "stage/stage.h"

static void request_answered(struct request *r, usec_t now)
{
	request_tell_stages(r, now);
	request_free(r);
}

static char heard[64];
static int alive;

static int configure_on(const struct config *config, const void *before, void **ret_policy)
{
	alive++;
	*ret_policy = &alive;
	return 0;
}

static int configure_off(const struct config *config, const void *before, void **ret_policy)
{
	*ret_policy = NULL;
	return 0;
}

static int configure_fails(const struct config *config, const void *before, void **ret_policy)
{
	return -ENOMEM;
}

static void release(void *policy)
{
	alive--;
}

static void hear_a(struct request *r, void *policy)
{
	heard[strlen(heard)] = 'a';
}

static void hear_b(struct request *r, void *policy)
{
	assert_int_equal(r->ended, 7);
	heard[strlen(heard)] = 'b';
}

static const struct stage a = {.name = "a", .configure = configure_on, .release = release, .answered = hear_a},
			  b = {.name = "b", .configure = configure_on, .release = release, .answered = hear_b},
			  deaf = {.name = "deaf", .configure = configure_on, .release = release},
			  off = {.name = "off", .configure = configure_off, .release = release, .answered = hear_a},
			  broken = {.name = "broken", .configure = configure_fails, .release = release};

static usec_t least_of_b(const void *policy)
{
	return 5;
}

static const struct stage slow_b = {
	.name = "b", .configure = configure_on, .release = release, .answered = hear_b, .least = least_of_b};

static void order(void **state)
{
	const struct stage *const all[] = {&a, &off, &deaf, &b, NULL};
	struct pipeline *p;

	memset(heard, 0, sizeof(heard));
	assert_int_equal(pipeline_new(all, NULL, NULL, &p), 0);
	assert_int_equal(alive, 3);
	request_answered(request_new(p, slice_str("SELECT 1")), 7);
	assert_string_equal(heard, "ba");
	request_free(request_new(p, slice_str("")));
	assert_string_equal(heard, "ba");
	pipeline_unref(p);
	assert_int_equal(alive, 0);
}

static void nothing_configured(void **state)
{
	const struct stage *const none[] = {NULL}, *const all[] = {&off, NULL};
	struct pipeline *p;

	assert_int_equal(pipeline_new(none, NULL, NULL, &p), 0);
	assert_null(p);
	assert_int_equal(pipeline_new(all, NULL, NULL, &p), 0);
	assert_null(p);
}

static void failure(void **state)
{
	const struct stage *const all[] = {&a, &broken, NULL};
	struct pipeline *p;

	assert_int_equal(pipeline_new(all, NULL, NULL, &p), -ENOMEM);
	assert_null(p);
	assert_int_equal(alive, 0);
}

static void reload(void **state)
{
	const struct stage *const all[] = {&b, NULL};
	struct pipeline *p;
	struct request *r;

	memset(heard, 0, sizeof(heard));
	assert_int_equal(pipeline_new(all, NULL, NULL, &p), 0);
	r = request_new(p, slice_str("SELECT 1"));
	pipeline_unref(p); /* another takes its place */
	assert_int_equal(alive, 1);
	request_answered(r, 7);
	assert_string_equal(heard, "b");
	assert_int_equal(alive, 0);
}

static void long_texts_are_cut(void **state)
{
	const struct stage *const all[] = {&a, NULL};
	char *text = calloc(1, 3 * REQUEST_TEXT_MAX);
	struct pipeline *p;
	struct request *r;

	memset(text, 'x', 3 * REQUEST_TEXT_MAX);
	assert_int_equal(pipeline_new(all, NULL, NULL, &p), 0);
	r = request_new(p, slice_make(text, 3 * REQUEST_TEXT_MAX));
	free(text);
	assert_int_equal(request_text(r).len, REQUEST_TEXT_MAX);
	assert_int_equal(r->text_len, 3 * REQUEST_TEXT_MAX);
	request_free(r);
	pipeline_unref(p);
}

static void end_after(struct pipeline *p, usec_t took)
{
	struct request *r = request_new(p, slice_str("SELECT 1"));

	r->began = 7 - took;
	memset(heard, 0, sizeof(heard));
	request_answered(r, 7);
}

/* Who wants to hear only of those that take long, beside none, one or several that hear of all. */
static void slow_ones(void **state)
{
	const struct stage *const sets[][4] = {{&slow_b}, {&slow_b, &deaf, &a}, {&a, &slow_b}, {&a, &slow_b, &a}};
	const char *const quick[] = {"", "a", "a", "aa"}, *const slow[] = {"b", "ab", "ba", "aba"};
	struct pipeline *p;

	for (uint32_t i = 0; i < ARRAY_SIZE(sets); i++) {
		assert_int_equal(pipeline_new(sets[i], NULL, NULL, &p), 0);
		end_after(p, 4);
		assert_string_equal(heard, quick[i]);
		end_after(p, 5);
		assert_string_equal(heard, slow[i]);
		pipeline_unref(p);
		assert_int_equal(alive, 0);
	}
}

/* The end of one that stays where it is, and of a copy. */
static void ends_of_texts(void **state)
{
	const struct stage *const all[] = {&a, NULL};
	struct pipeline *p;
	struct request *r[2];
	char text[20000];

	for (uint32_t i = 0; i < sizeof(text); i++)
		text[i] = (char)('a' + i % 26);
	assert_int_equal(pipeline_new(all, NULL, NULL, &p), 0);
	for (size_t len = 0; len <= sizeof(text); len += 512) {
		r[0] = request_new(p, slice_make(text, len));
		r[1] = request_new_of(p, slice_make(text, len));
		assert_true(slice_equal(request_text(r[0]), slice_make(text, MIN(len, REQUEST_TEXT_MAX))));
		assert_true(slice_equal(request_text(r[1]), request_text(r[0])));
		assert_true(slice_equal(request_end(r[1]), request_end(r[0])));
		if (len > REQUEST_TEXT_MAX)
			assert_true(slice_equal(request_end(r[0]),
						slice_make(text + len - REQUEST_END_MAX, REQUEST_END_MAX)));
		request_free(r[0]);
		request_free(r[1]);
	}
	pipeline_unref(p);
}

/* More at a time than are kept for the next ones; a reload comes while some are under way. */
static void many_at_a_time(void **state)
{
	const struct stage *const all[] = {&a, NULL};
	struct request *requests[1000];
	struct pipeline *p;

	assert_int_equal(pipeline_new(all, NULL, NULL, &p), 0);
	for (int round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < ARRAY_SIZE(requests); i++)
			requests[i] = request_new(p, slice_str("SELECT 1"));
		if (round == 2)
			pipeline_unref(p);
		for (uint32_t i = 0; i < ARRAY_SIZE(requests); i++) {
			assert_int_equal(alive, 1);
			request_free(requests[i]);
		}
	}
	assert_int_equal(alive, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(order),         cmocka_unit_test(nothing_configured), cmocka_unit_test(failure),
		cmocka_unit_test(reload),        cmocka_unit_test(long_texts_are_cut), cmocka_unit_test(slow_ones),
		cmocka_unit_test(ends_of_texts), cmocka_unit_test(many_at_a_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
