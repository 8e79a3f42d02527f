/* The pipeline: what is configured is walked, answers backwards; a reload leaves requests under way their own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "stage/stage.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(order),  cmocka_unit_test(nothing_configured), cmocka_unit_test(failure),
		cmocka_unit_test(reload), cmocka_unit_test(long_texts_are_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
