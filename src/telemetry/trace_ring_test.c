/* The rings between workers and the thread that sends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "telemetry/trace_ring.h"

#include <pthread.h>
#include <stdatomic.h>

#define SIZE    4096u
#define RECORDS 200000u

static bool add(struct trace_ring *ring, uint32_t number, size_t text_len)
{
	static const char text[TRACE_TEXT_MAX + 100];
	const struct trace_strings strings = {.user = slice_str("me"), .text = slice_make(text, text_len)};

	return trace_ring_add(ring, &(struct trace_record){.pid = number}, &strings);
}

static void in_order_and_whole(void **state)
{
	struct trace_ring *ring = trace_ring_new(SIZE);
	uint32_t added = 0, read = 0;
	struct trace_strings s;

	for (uint32_t i = 0; i < 10000; i++) {
		const struct trace_record *r;

		while (add(ring, added, added * 37 % 900))
			added++;
		assert_int_not_equal(trace_rings_fill(), 0);
		for (uint32_t n = i % 7; n > 0 && (r = trace_rings_first()); n--) {
			assert_int_equal(r->pid, read);
			trace_record_strings(r, &s);
			assert_int_equal(s.text.len, read * 37 % 900);
			assert_true(slice_equal(s.user, slice_str("me")));
			read++;
			trace_rings_drop();
		}
	}
	assert_true(added > 10000);
	for (; trace_rings_first(); read++)
		trace_rings_drop();
	assert_int_equal(read, added);
	trace_ring_retire(ring);
	assert_null(trace_rings_first()); /* frees it */
	assert_int_equal(trace_rings_fill(), 0);
}

static void long_strings_are_cut(void **state)
{
	struct trace_ring *ring = trace_ring_new(8192);
	struct trace_strings s;

	assert_true(add(ring, 1, TRACE_TEXT_MAX + 100));
	trace_record_strings(trace_rings_first(), &s);
	assert_int_equal(s.text.len, TRACE_TEXT_MAX);
	trace_rings_drop();
	trace_ring_retire(ring);
	trace_rings_free();
}

/* What a retired ring still has is read, and those of others with it. */
static void several(void **state)
{
	struct trace_ring *one = trace_ring_new(SIZE), *two = trace_ring_new(SIZE);
	uint32_t sum = 0;

	assert_true(add(one, 1, 0) && add(two, 2, 0) && add(one, 4, 0));
	trace_ring_retire(one);
	for (const struct trace_record *r; (r = trace_rings_first()); trace_rings_drop())
		sum += r->pid;
	assert_int_equal(sum, 7);
	trace_ring_retire(two);
	assert_null(trace_rings_first());
}

static _Atomic bool writer_is_done;

static void *write_many(void *argument)
{
	for (uint32_t i = 0; i < RECORDS;)
		i += add(argument, i, i % 500);
	atomic_store(&writer_is_done, true);
	trace_ring_retire(argument);
	return NULL;
}

static void two_threads(void **state)
{
	struct trace_ring *ring = trace_ring_new(65536);
	uint32_t read = 0;
	pthread_t writer;

	assert_int_equal(pthread_create(&writer, NULL, write_many, ring), 0);
	while (read < RECORDS) {
		const struct trace_record *r = trace_rings_first();

		if (!r)
			continue;
		if (r->pid != read || r->text_len != read % 500)
			fail_msg("record %u is %u", read, r->pid);
		read++;
		trace_rings_drop();
	}
	pthread_join(writer, NULL);
	assert_true(atomic_load(&writer_is_done));
	trace_rings_free();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(in_order_and_whole),
		cmocka_unit_test(long_strings_are_cut),
		cmocka_unit_test(several),
		cmocka_unit_test(two_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
