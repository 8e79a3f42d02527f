/* Metrics as text: both formats, numbers, histograms. */
#include "metrics/exposition.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static const struct metric counter = {"a_total", "counter", "Counts \"it\\\"."};
static const struct metric gauge = {"b_bytes", "gauge", "Now."};
static const struct metric untyped = {"c", "untyped", "An old name."};
static const struct metric histogram = {"d_seconds", "histogram", "Times."};

static void expose(struct exposition *e)
{
	exposition_begin(e, &counter);
	exposition_add(e, "{x=\"1\"}", 7);
	exposition_add(e, "{x=\"2\"}", 0);
	exposition_single(e, &gauge, 0.25);
	exposition_single(e, &untyped, 3);
	exposition_end(e);
}

static void assert_text(struct buf *out, const char *wanted)
{
	assert_string_equal(buf_cstr(out), wanted);
	buf_free(out);
}

static void test_text(void **state)
{
	struct buf out = BUF_INIT(65536);

	expose(&(struct exposition){.out = &out});
	assert_text(&out, "# HELP a_total Counts \"it\\\\\".\n# TYPE a_total counter\n"
			  "a_total{x=\"1\"} 7\na_total{x=\"2\"} 0\n"
			  "# HELP b_bytes Now.\n# TYPE b_bytes gauge\nb_bytes 0.25\n"
			  "# HELP c An old name.\n# TYPE c untyped\nc 3\n");
}

static void test_open_metrics(void **state)
{
	struct buf out = BUF_INIT(65536);

	expose(&(struct exposition){.out = &out, .open_metrics = true});
	assert_text(&out, "# HELP a Counts \\\"it\\\\\\\".\n# TYPE a counter\n"
			  "a_total{x=\"1\"} 7\na_total{x=\"2\"} 0\n"
			  "# HELP b_bytes Now.\n# TYPE b_bytes gauge\nb_bytes 0.25\n"
			  "# HELP c An old name.\n# TYPE c unknown\nc 3\n"
			  "# EOF\n");
}

static void test_numbers(void **state)
{
	static const struct {
		double value;
		const char *text;
	} cases[] = {{0, "c 0\n"},
		     {-1, "c -1\n"},
		     {0.1, "c 0.1\n"},
		     {1234567890123456, "c 1234567890123456\n"},
		     {9007199254740992.0, "c 9007199254740992\n"},
		     {1e20, "c 1e+20\n"},
		     {1700000000.123, "c 1700000000.123\n"}};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct buf out = BUF_INIT(65536);

		exposition_add(&(struct exposition){.out = &out, .metric = &untyped}, "", cases[i].value);
		assert_text(&out, cases[i].text);
	}
}

static void test_histogram(void **state)
{
	static struct latencies l;
	struct latency_totals sums[LATENCY_COUNT] = {0};
	struct buf out = BUF_INIT(65536);

	latency_add(&l, LATENCY_WAIT, 50);
	latency_add(&l, LATENCY_WAIT, 1000001);
	latency_add(&l, LATENCY_WAIT, 500000000);
	latencies_sum(sums, &l);
	exposition_add_histogram(&(struct exposition){.out = &out, .metric = &histogram}, &sums[LATENCY_WAIT]);
	assert_text(&out, "d_seconds_bucket{le=\"5e-05\"} 1\nd_seconds_bucket{le=\"0.0001\"} 1\n"
			  "d_seconds_bucket{le=\"0.00025\"} 1\nd_seconds_bucket{le=\"0.0005\"} 1\n"
			  "d_seconds_bucket{le=\"0.001\"} 1\nd_seconds_bucket{le=\"0.0025\"} 1\n"
			  "d_seconds_bucket{le=\"0.005\"} 1\nd_seconds_bucket{le=\"0.01\"} 1\n"
			  "d_seconds_bucket{le=\"0.025\"} 1\nd_seconds_bucket{le=\"0.05\"} 1\n"
			  "d_seconds_bucket{le=\"0.1\"} 1\nd_seconds_bucket{le=\"0.25\"} 1\n"
			  "d_seconds_bucket{le=\"0.5\"} 1\nd_seconds_bucket{le=\"1.0\"} 1\n"
			  "d_seconds_bucket{le=\"2.5\"} 2\nd_seconds_bucket{le=\"5.0\"} 2\n"
			  "d_seconds_bucket{le=\"10.0\"} 2\nd_seconds_bucket{le=\"25.0\"} 2\n"
			  "d_seconds_bucket{le=\"50.0\"} 2\nd_seconds_bucket{le=\"100.0\"} 2\n"
			  "d_seconds_bucket{le=\"+Inf\"} 3\nd_seconds_sum 501.000051\nd_seconds_count 3\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_open_metrics),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_histogram),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
