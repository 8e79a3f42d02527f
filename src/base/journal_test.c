/* The last entries, by number and by bytes; readers that are late; threads that add and read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/journal.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#define FIRST 1000u
#define END   ((struct kv){.type = KV_END})

static struct journal_reader reader; /* large */

static void add(struct journal *j, const char *message, const struct kv *pairs)
{
	journal_add(j, &(struct journal_entry){
			       .wall_us = 7, .level = LOG_WARN, .kind = 3, .message = message, .pairs = pairs});
}

static void add_many(struct journal *j, unsigned from, unsigned count)
{
	for (unsigned i = from; i < from + count; i++)
		add(j, "m", (const struct kv[]){kv_uint("i", i), END});
}

static void an_entry_comes_back_whole(void **state UNUSED)
{
	struct journal *j = journal_new(4, 0, FIRST);
	struct journal_entry e;

	assert_non_null(j);
	add(j, "a message",
	    (const struct kv[]){kv_str("text", "x y"), kv_str("absent", NULL), kv_slice("part", slice_make("abc", 2)),
				kv_slice("zero", slice_make("a\0b", 3)), kv_slice("none", slice_make(NULL, 0)),
				kv_int("minus", -5), kv_uint("most", UINT64_MAX), END});
	journal_read(&reader, j, FIRST);
	assert_true(journal_next(&reader, &e));
	assert_int_equal(e.number, FIRST);
	assert_int_equal(e.wall_us, 7);
	assert_int_equal(e.level, LOG_WARN);
	assert_int_equal(e.kind, 3);
	assert_string_equal(e.message, "a message");
	assert_string_equal(e.pairs[0].key, "text");
	assert_string_equal(e.pairs[0].str, "x y");
	assert_string_equal(e.pairs[1].str, "ab");
	assert_string_equal(e.pairs[2].str, "a?b");
	assert_string_equal(e.pairs[3].str, "");
	assert_true(e.pairs[4].type == KV_INT && e.pairs[4].i == -5);
	assert_true(e.pairs[5].type == KV_UINT && e.pairs[5].u == UINT64_MAX);
	assert_int_equal(e.pairs[6].type, KV_END);
	assert_false(journal_next(&reader, &e));
	assert_int_equal(reader.missed, 0);
	journal_free(j);
}

static void the_oldest_go_by_number(void **state UNUSED)
{
	struct journal *j = journal_new(10, 0, FIRST);
	struct journal_entry e;
	uint64_t first, next;

	add_many(j, 0, 25);
	journal_span(j, &first, &next);
	assert_int_equal(first, FIRST + 15);
	assert_int_equal(next, FIRST + 25);
	assert_int_equal(journal_born(j), FIRST);
	assert_int_equal(journal_entries_max(j), 10);
	journal_read(&reader, j, FIRST + 3);
	for (unsigned i = 15; i < 25; i++) {
		assert_true(journal_next(&reader, &e));
		assert_int_equal(e.number, FIRST + i);
		assert_int_equal(e.pairs[0].u, i);
	}
	assert_false(journal_next(&reader, &e));
	assert_int_equal(reader.missed, 12);
	add_many(j, 25, 1); /* it goes on where it was */
	assert_true(journal_next(&reader, &e));
	assert_int_equal(e.pairs[0].u, 25);
	journal_free(j);
}

/* What is there is always whole, and the newest; a long entry costs several short ones. */
static void the_oldest_go_by_bytes(void **state UNUSED)
{
	static char text[JOURNAL_ENTRY_MAX];
	struct journal *j = journal_new(1000000, 0, FIRST);
	struct journal_entry e;
	uint64_t first, next, seed = 1;

	memset(text, 'x', sizeof(text));
	for (unsigned n = 0; n < 5000; n++) {
		size_t len = (seed = seed * 6364136223846793005u + 1442695040888963407u) >> 33;

		len %= n % 7 ? 100 : sizeof(text);
		add(j, "m", (const struct kv[]){kv_uint("i", n), kv_slice("text", slice_make(text, len)), END});
		journal_span(j, &first, &next);
		assert_int_equal(next, FIRST + n + 1);
		assert_true(next - first >= MIN(n + 1, 7u));
	}
	journal_read(&reader, j, 0);
	for (uint64_t number = first; number < next; number++) {
		assert_true(journal_next(&reader, &e));
		assert_int_equal(e.number, number);
		assert_int_equal(e.pairs[0].u, number - FIRST);
		assert_int_equal(strspn(e.pairs[1].str, "x"), strlen(e.pairs[1].str));
	}
	assert_false(journal_next(&reader, &e));
	journal_free(j);
}

static void what_is_too_long_is_cut(void **state UNUSED)
{
	static char text[3 * JOURNAL_ENTRY_MAX], key[JOURNAL_PAIRS_MAX + 5][4];
	struct kv pairs[JOURNAL_PAIRS_MAX + 6];
	struct journal *j = journal_new(4, 0, FIRST);
	struct journal_entry e;
	unsigned count = 0;

	memset(text, 'x', sizeof(text) - 1);
	add(j, "m", (const struct kv[]){kv_uint("a", 1), kv_str("text", text), kv_uint("behind", 2), END});
	add(j, text, (const struct kv[]){kv_uint("a", 1), END});
	for (unsigned i = 0; i < ARRAY_SIZE(key); i++) {
		snprintf(key[i], sizeof(key[i]), "%u", i);
		pairs[i] = kv_uint(key[i], i);
	}
	pairs[ARRAY_SIZE(key)] = END;
	add(j, "many", pairs);
	journal_read(&reader, j, FIRST);
	assert_true(journal_next(&reader, &e));
	assert_string_equal(e.pairs[1].key, "text");
	assert_true(strlen(e.pairs[1].str) > JOURNAL_ENTRY_MAX - 100 && strlen(e.pairs[1].str) < JOURNAL_ENTRY_MAX);
	assert_int_equal(e.pairs[2].type, KV_END);
	assert_true(journal_next(&reader, &e));
	assert_true(strlen(e.message) > JOURNAL_ENTRY_MAX - 100);
	assert_int_equal(e.pairs[0].type, KV_END);
	assert_true(journal_next(&reader, &e));
	while (e.pairs[count].type != KV_END)
		count++;
	assert_int_equal(count, JOURNAL_PAIRS_MAX);
	journal_free(j);
}

static void a_reader_may_end_before_the_last(void **state UNUSED)
{
	struct journal *j = journal_new(100, 0, FIRST);
	struct journal_entry e;

	add_many(j, 0, 10);
	journal_read(&reader, j, FIRST + 4);
	reader.until = FIRST + 6;
	assert_true(journal_next(&reader, &e) && journal_next(&reader, &e));
	assert_int_equal(e.number, FIRST + 5);
	assert_false(journal_next(&reader, &e));
	journal_free(j);
}

/* ---- threads ---- */

#define WRITERS 3
#define EACH    20000u

static atomic_uint told;

static void tell(void *argument)
{
	atomic_fetch_add((atomic_uint *)argument, 1);
}

static void *write_many(void *journal)
{
	add_many(journal, 0, EACH);
	return NULL;
}

/* Numbers only grow, none is read twice, and what is not read is counted. */
static void threads_add_while_one_reads(void **state UNUSED)
{
	struct journal *j = journal_new(500, 0, FIRST);
	pthread_t threads[WRITERS];
	struct journal_entry e;
	uint64_t last = FIRST - 1, seen = 0;

	journal_watch(j, tell, &told);
	journal_read(&reader, j, FIRST);
	for (unsigned i = 0; i < WRITERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, write_many, j), 0);
	while (last < FIRST + WRITERS * EACH - 1) {
		if (!journal_next(&reader, &e))
			continue;
		assert_true(e.number > last);
		assert_string_equal(e.message, "m");
		assert_true(e.pairs[0].u < EACH);
		last = e.number;
		seen++;
	}
	for (unsigned i = 0; i < WRITERS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(seen + reader.missed, WRITERS * EACH);
	assert_int_equal(atomic_load(&told), WRITERS * EACH);
	journal_free(j);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_entry_comes_back_whole),        cmocka_unit_test(the_oldest_go_by_number),
		cmocka_unit_test(the_oldest_go_by_bytes),           cmocka_unit_test(what_is_too_long_is_cut),
		cmocka_unit_test(a_reader_may_end_before_the_last), cmocka_unit_test(threads_add_while_one_reads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
