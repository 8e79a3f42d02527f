/* Wrong tokens, by where they came from. */
#include "admin/strikes.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static struct source v4(uint32_t address)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(address)};

	return source_of((const struct sockaddr *)&in, 0);
}

static struct source v6(const char *text)
{
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};

	assert_int_equal(inet_pton(AF_INET6, text, &in6.sin6_addr), 1);
	return source_of((const struct sockaddr *)&in6, 0);
}

static void check_equal(struct source a, struct source b, bool equal)
{
	assert_int_equal(source_equal(&a, &b), equal);
}

static void test_sources(void **state)
{
	check_equal(v4(0x0a000001), v4(0x0a000001), true);
	check_equal(v4(0x0a000001), v4(0x0a000002), false);
	check_equal(v6("2001:db8::1"), v6("2001:db8::ffff:1"), true); /* of one network */
	check_equal(v6("2001:db8::1"), v6("2001:db8:0:1::1"), false);
	check_equal(v6("::ffff:10.0.0.1"), v4(0x0a000001), true);
	check_equal(source_of(NULL, 5), source_of(NULL, 5), true);
	check_equal(source_of(NULL, 5), source_of(NULL, 6), false);
	check_equal(source_of(NULL, 0), v4(0), false);
}

static usec_t add(struct strikes *s, struct source source, usec_t now)
{
	uint32_t count;

	strikes_add(s, &source, now, &count);
	return strikes_wait(s, &source, now);
}

static void test_waits(void **state)
{
	static struct strikes s;
	struct source bad = v4(1), good = v4(2);
	usec_t now = 1000 * USEC_PER_SEC, wait = 0;

	for (uint32_t i = 1; i < STRIKES_FREE; i++)
		assert_int_equal(add(&s, bad, now), 0);
	for (usec_t expected = 1; expected <= 64; expected *= 2) {
		assert_int_equal(add(&s, bad, now), expected * USEC_PER_SEC);
		assert_int_equal(strikes_wait(&s, &good, now), 0);
		assert_int_equal(strikes_wait(&s, &bad, now + expected * USEC_PER_SEC - 1), 1);
		now += expected * USEC_PER_SEC;
		assert_int_equal(strikes_wait(&s, &bad, now), 0);
	}
	for (uint32_t i = 0; i < 1000; i++)
		wait = add(&s, bad, now);
	assert_int_equal(wait, 64 * USEC_PER_SEC);
	now += 600 * USEC_PER_SEC; /* forgotten */
	assert_int_equal(add(&s, bad, now), 0);
}

/* More sources than there is room for: the latest are known, the oldest forgotten. */
static void test_bounds(void **state)
{
	static struct strikes s;
	struct source source;

	for (uint32_t i = 0; i < 3 * STRIKES_MAX; i++)
		for (uint32_t j = 0; j < STRIKES_FREE; j++)
			(void)add(&s, v4(i), 1000 * USEC_PER_SEC + i);
	for (uint32_t i = 0; i < 3 * STRIKES_MAX; i++) {
		source = v4(i);
		assert_int_equal(strikes_wait(&s, &source, 1000 * USEC_PER_SEC + 3 * STRIKES_MAX) > 0,
				 i >= 2 * STRIKES_MAX);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sources),
		cmocka_unit_test(test_waits),
		cmocka_unit_test(test_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
