/* Arenas, buffers, maps, slabs, lists, the clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/map.h"
#include "base/slab.h"

#include <stdio.h>

/* ---- arena ---- */

static char order[8];

static void note_a(void *argument)
{
	((char *)argument)[strlen(argument)] = 'a';
}

static void note_b(void *argument)
{
	((char *)argument)[strlen(argument)] = 'b';
}

static void arenas_give_aligned_memory(void **state UNUSED)
{
	static const size_t sizes[] = {0, 1, 15, 16, 17, 100, 255, 256, 257, 1024, 1025, 100000};
	uint8_t *got[ARRAY_SIZE(sizes)];
	struct arena a;

	arena_init(&a, 1024);
	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
			got[i] = arena_alloc(&a, sizes[i]);
			assert_non_null(got[i]);
			assert_int_equal((uintptr_t)got[i] % 16, 0);
			memset(got[i], (int)i + 1, sizes[i]);
		}
		for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
			for (size_t at = 0; at < sizes[i]; at++)
				assert_int_equal(got[i][at], i + 1);
		}
		arena_reset(&a);
	}
	assert_non_null(a.chunks);
	assert_null(arena_alloc(&a, SIZE_MAX));
	assert_null(arena_alloc(&a, SIZE_MAX - 20));
	assert_null(arena_strndup(&a, "", SIZE_MAX));
	arena_destroy(&a);
	arena_destroy(&a);
}

static void arenas_copy_and_run_hooks(void **state UNUSED)
{
	struct arena a;
	uint8_t *zero;

	arena_init(&a, 256);
	assert_string_equal(arena_strdup(&a, "text"), "text");
	assert_string_equal(arena_strndup(&a, "text", 2), "te");
	assert_string_equal(arena_strndup(&a, NULL, 0), "");
	zero = arena_zalloc(&a, 64);
	for (int i = 0; i < 64; i++)
		assert_int_equal(zero[i], 0);
	memset(order, 0, sizeof(order));
	assert_int_equal(arena_on_reset(&a, note_a, order), 0);
	assert_int_equal(arena_on_reset(&a, note_b, order), 0);
	arena_reset(&a);
	assert_string_equal(order, "ba"); /* newest first, once */
	arena_reset(&a);
	assert_string_equal(order, "ba");
	arena_destroy(&a);
}

/* ---- buf ---- */

static void buffers_grow_to_their_limit(void **state UNUSED)
{
	struct buf b = BUF_INIT(1000);

	assert_string_equal(buf_cstr(&b), "");
	for (int i = 0; i < 100; i++)
		buf_printf(&b, "%010d", i);
	assert_int_equal(b.len, 1000);
	assert_int_equal(b.cap, 1000);
	assert_false(b.failed);
	assert_int_equal(strlen(buf_cstr(&b)), 1000);
	assert_memory_equal(b.bytes + 990, "0000000099", 10);
	buf_add_char(&b, 'x');
	assert_true(b.failed);
	assert_string_equal(buf_cstr(&b), ""); /* never half of what was meant */
	buf_clear(&b);
	buf_add_str(&b, "again");
	assert_string_equal(buf_cstr(&b), "again");
	assert_null(buf_reserve(&b, SIZE_MAX));
	assert_true(b.failed);
	buf_add(&b, "more", 4);
	assert_int_equal(b.len, 5);
	buf_free_secret(&b);
	assert_null(b.bytes);
	assert_int_equal(b.max, 1000);
	buf_free(&b);
}

static void buffers_of_no_size(void **state UNUSED)
{
	struct buf b = BUF_INIT(0);

	buf_add(&b, NULL, 0);
	buf_add_str(&b, "");
	assert_false(b.failed);
	assert_non_null(buf_reserve(&b, 0));
	buf_add_char(&b, 'x');
	assert_true(b.failed);
	buf_free(&b);
	buf_init(&b, SIZE_MAX);
	memcpy(buf_reserve(&b, 3), "abc", 3);
	b.len += 3;
	assert_string_equal(buf_cstr(&b), "abc");
	buf_free(&b);
}

/* ---- map ---- */

static struct slice key_of(char *text, size_t size, unsigned int i)
{
	return slice_make(text, (size_t)snprintf(text, size, "key %u", i));
}

static void maps_hold_what_was_put(void **state UNUSED)
{
	enum { N = 10000 };
	struct map m = MAP_INIT;
	uint8_t seen[N + 1] = {0};
	struct slice key;
	uint32_t at = 0;
	char text[32];
	void *value;

	assert_null(map_get(&m, SLICE_LITERAL("nothing")));
	assert_null(map_remove(&m, SLICE_LITERAL("nothing")));
	for (uintptr_t i = 1; i <= N; i++)
		assert_int_equal(map_put(&m, key_of(text, sizeof(text), (unsigned int)i), (void *)i, NULL), 0);
	for (uintptr_t i = 2; i <= N; i += 2)
		assert_int_equal((uintptr_t)map_remove(&m, key_of(text, sizeof(text), (unsigned int)i)), i);
	assert_int_equal(m.count, N / 2);
	for (uintptr_t i = 1; i <= N; i++)
		assert_int_equal((uintptr_t)map_get(&m, key_of(text, sizeof(text), (unsigned int)i)), i % 2 ? i : 0);
	while (map_next(&m, &at, &key, &value)) {
		assert_true(slice_equal(key, key_of(text, sizeof(text), (unsigned int)(uintptr_t)value)));
		seen[(uintptr_t)value]++;
	}
	for (uintptr_t i = 1; i <= N; i++)
		assert_int_equal(seen[i], i % 2);
	map_free(&m);
	assert_null(map_get(&m, SLICE_LITERAL("key 1")));
}

static void maps_replace_and_stay_small(void **state UNUSED)
{
	struct map m = MAP_INIT;
	char text[32];
	int one, two;
	void *old = &one;

	assert_int_equal(map_put(&m, SLICE_LITERAL(""), &one, &old), 0);
	assert_null(old);
	assert_int_equal(map_put(&m, SLICE_LITERAL(""), &two, &old), 0);
	assert_ptr_equal(old, &one);
	assert_ptr_equal(map_get(&m, SLICE_LITERAL("")), &two);
	assert_int_equal(m.count, 1);
	for (unsigned int i = 0; i < 100000; i++) { /* what was removed leaves no marks for ever */
		struct slice key = key_of(text, sizeof(text), i);

		assert_int_equal(map_put(&m, key, &one, NULL), 0);
		assert_ptr_equal(map_remove(&m, key), &one);
	}
	assert_int_equal(m.count, 1);
	assert_true(m.cap <= 16);
	map_free(&m);
}

static void hashes_differ(void **state UNUSED)
{
	assert_true(hash_bytes("a", 1) == hash_bytes("a", 1));
	assert_true(hash_bytes("a", 1) != hash_bytes("b", 1));
	assert_true(hash_bytes("a", 1) != hash_bytes("a\0", 2));
	assert_true(hash_bytes(NULL, 0) == hash_bytes("", 0));
}

/* ---- slab ---- */

static void slabs_reuse(void **state UNUSED)
{
	enum { N = 100 };
	struct slab s;
	uint8_t *objects[N];

	slab_init(&s, 33, 8);
	assert_int_equal(s.size, 48);
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < N; i++) {
			objects[i] = slab_take(&s);
			assert_int_equal((uintptr_t)objects[i] % 16, 0);
			for (int at = 0; at < 48; at++)
				assert_int_equal(objects[i][at], 0);
			memset(objects[i], 0xff, 48);
		}
		assert_int_equal(s.in_use, N);
		assert_int_equal(s.total, 104);
		for (int i = 0; i < N; i++)
			slab_give(&s, objects[i]);
	}
	slab_give(&s, NULL);
	assert_int_equal(s.in_use, 0);
	slab_destroy(&s);
	assert_int_equal(s.total, 0);
	assert_non_null(slab_take(&s));
	slab_destroy(&s);
}

/* ---- list, clock ---- */

struct item {
	struct list node;
	int number;
};

static void lists_keep_order(void **state UNUSED)
{
	struct item items[4];
	struct list l;
	int sum = 0;

	list_init(&l);
	assert_null(list_first(&l));
	for (int i = 0; i < 4; i++) {
		items[i].number = i;
		list_push_back(&l, &items[i].node);
	}
	list_for_each (node, &l) {
		struct item *item = list_entry(node, struct item, node);

		sum = sum * 10 + item->number;
		list_remove(node);
		list_remove(node); /* harmless */
	}
	assert_int_equal(sum, 123);
	assert_true(list_is_empty(&l));
}

static void the_clock_can_be_advanced(void **state UNUSED)
{
	usec_t before = clock_update();

	assert_true(clock_now() == before);
	clock_advance(3600 * USEC_PER_SEC);
	assert_true(clock_now() == before);
	assert_true(clock_update() >= before + 3600 * USEC_PER_SEC);
	assert_true(clock_wall() > 1700000000 * USEC_PER_SEC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(arenas_give_aligned_memory),
		cmocka_unit_test(arenas_copy_and_run_hooks),
		cmocka_unit_test(buffers_grow_to_their_limit),
		cmocka_unit_test(buffers_of_no_size),
		cmocka_unit_test(maps_hold_what_was_put),
		cmocka_unit_test(maps_replace_and_stay_small),
		cmocka_unit_test(hashes_differ),
		cmocka_unit_test(slabs_reuse),
		cmocka_unit_test(lists_keep_order),
		cmocka_unit_test(the_clock_can_be_advanced),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
