/* Metrics in all three formats: families, labels, numbers, histograms. */
#include "metrics/exposition.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "base/protobuf_test.h"

#include <stdio.h>

static const struct metric counter = {"a_total", "counter", "Counts \"it\\\"."};
static const struct metric gauge = {"b_bytes", "gauge", "Now."};
static const struct metric empty = {"e", "gauge", "Of none."};
static const struct metric untyped = {"c", "untyped", "An old name."};
static const struct metric histogram = {"d_seconds", "histogram", "Times."};

static void expose(struct exposition *e)
{
	exposition_begin(e, &counter);
	exposition_add_one(e, "x", "1", 7);
	exposition_add_one(e, "x", "2", 0);
	exposition_single(e, &gauge, 0.25);
	exposition_begin(e, &empty);
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

	expose(&EXPOSITION_INIT(&out, EXPOSITION_TEXT));
	assert_text(&out, "# HELP a_total Counts \"it\\\\\".\n# TYPE a_total counter\n"
			  "a_total{x=\"1\"} 7\na_total{x=\"2\"} 0\n"
			  "# HELP b_bytes Now.\n# TYPE b_bytes gauge\nb_bytes 0.25\n"
			  "# HELP e Of none.\n# TYPE e gauge\n"
			  "# HELP c An old name.\n# TYPE c untyped\nc 3\n");
}

static void test_open_metrics(void **state)
{
	struct buf out = BUF_INIT(65536);

	expose(&EXPOSITION_INIT(&out, EXPOSITION_OPEN_METRICS));
	assert_text(&out, "# HELP a Counts \\\"it\\\\\\\".\n# TYPE a counter\n"
			  "a_total{x=\"1\"} 7\na_total{x=\"2\"} 0\n"
			  "# HELP b_bytes Now.\n# TYPE b_bytes gauge\nb_bytes 0.25\n"
			  "# HELP e Of none.\n# TYPE e gauge\n"
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
		struct exposition e = EXPOSITION_INIT(&out, EXPOSITION_TEXT);

		e.metric = &untyped;
		exposition_add(&e, cases[i].value);
		assert_text(&out, cases[i].text);
	}
}

/* Values are whatever somebody chose; what is no UTF-8 becomes U+FFFD. */
#define BAD "\xef\xbf\xbd"
static const struct {
	const char *value, *escaped, *clean;
} values[] = {
	{"shop", "shop", "shop"},
	{"", "", ""},
	{"a\"b\\c\nd", "a\\\"b\\\\c\\nd", "a\"b\\c\nd"},
	{"\"} 1\nfake_metric 1", "\\\"} 1\\nfake_metric 1", "\"} 1\nfake_metric 1"},
	{"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80",
	 "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"},
	{"\xff", BAD, BAD},
	{"\xc3", BAD, BAD},                                     /* cut off */
	{"\xe2\x82", BAD BAD, BAD BAD},                         /* cut off */
	{"\xc3\"", BAD "\\\"", BAD "\""},                       /* must not swallow the quote */
	{"\xc0\x80", BAD BAD, BAD BAD},                         /* overlong */
	{"\xed\xa0\x80", BAD BAD BAD, BAD BAD BAD},             /* surrogate */
	{"\xf4\x90\x80\x80", BAD BAD BAD BAD, BAD BAD BAD BAD}, /* above U+10FFFF */
};

static void test_labels(void **state)
{
	char wanted[256];

	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		struct buf out = BUF_INIT(65536);
		struct exposition e = EXPOSITION_INIT(&out, EXPOSITION_TEXT);

		e.metric = &untyped;
		exposition_label(&e, "k", values[i].value);
		exposition_add_one(&e, "l", values[i].value, 1);
		exposition_end(&e);
		snprintf(wanted, sizeof(wanted), "c{k=\"%s\",l=\"%s\"} 1\n", values[i].escaped, values[i].escaped);
		assert_text(&out, wanted);
	}
}

/* For several samples, and none of them gets those of another. */
static void test_kept_labels(void **state)
{
	struct buf out = BUF_INIT(65536);
	struct exposition e = EXPOSITION_INIT(&out, EXPOSITION_TEXT);
	struct slice one, none;
	struct arena arena;

	arena_init(&arena, 4096);
	exposition_label(&e, "x", "1");
	one = exposition_keep_labels(&e, &arena);
	none = exposition_keep_labels(&e, &arena);
	e.metric = &untyped;
	for (int i = 0; i < 2; i++) {
		exposition_add_kept(&e, one, i);
		exposition_add_kept(&e, none, i);
	}
	exposition_end(&e);
	assert_text(&out, "c{x=\"1\"} 0\nc 0\nc{x=\"1\"} 1\nc 1\n");
	arena_destroy(&arena);
}

/* A sample whose labels are cut off could be another's. */
static void test_too_much(void **state)
{
	static char huge[2 * EXPOSITION_LABELS_MAX];

	memset(huge, 'x', sizeof(huge) - 1);
	for (int format = EXPOSITION_TEXT; format <= EXPOSITION_PROTOBUF; format++) {
		struct buf out = BUF_INIT(1u << 20), small = BUF_INIT(100);
		struct exposition e = EXPOSITION_INIT(&out, format);

		exposition_begin(&e, &gauge);
		exposition_add_one(&e, "x", huge, 1);
		exposition_end(&e);
		assert_true(out.failed);
		expose(&EXPOSITION_INIT(&small, format));
		assert_true(small.failed && small.len <= 100);
		buf_free(&out);
		buf_free(&small);
	}
}

static void test_histogram_as_text(void **state)
{
	static struct latencies l;
	struct latency_totals sums[LATENCY_COUNT] = {0};
	struct buf out = BUF_INIT(65536);
	struct exposition e = EXPOSITION_INIT(&out, EXPOSITION_TEXT);

	latency_add(&l, LATENCY_WAIT, 50);
	latency_add(&l, LATENCY_WAIT, 1000001);
	latency_add(&l, LATENCY_WAIT, 500000000);
	latencies_sum(sums, &l);
	e.metric = &histogram;
	exposition_add_histogram(&e, &sums[LATENCY_WAIT]);
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

/* ---- protocol buffers; test_metrics.py reads them with the official definitions ---- */

static uint32_t count_of(struct slice message, uint32_t number)
{
	struct pb_reader r = pb_reader_make(message.bytes, message.len);
	struct pb_field f;
	uint32_t count = 0;

	while (pb_next(&r, &f))
		count += f.number == number;
	assert_false(r.failed);
	return count;
}

static double as_double(struct pb_field f)
{
	double number;

	memcpy(&number, &f.value, sizeof(number));
	return number;
}

static int64_t as_signed(struct pb_field f)
{
	return (int64_t)(f.value >> 1) ^ -(int64_t)(f.value & 1);
}

/* Of several behind each other, as "field 1 of one message" would have them: one byte of a tag is all that is missing.
 */
static struct slice family(const struct buf *out, uint32_t place)
{
	const uint8_t *at = out->bytes, *end = out->bytes + out->len;

	for (;;) {
		size_t len = 0, shift = 0;

		do {
			assert_true(at < end);
			len |= (size_t)(*at & 0x7f) << shift;
			shift += 7;
		} while (*at++ & 0x80);
		assert_true(len <= (size_t)(end - at));
		if (place-- == 0)
			return slice_make(at, len);
		at += len;
	}
}

static void assert_family(struct slice family, const char *name, uint64_t type, uint32_t metrics)
{
	assert_true(slice_equal(pb_find_nth(family, 1, 0).bytes, slice_str(name)));
	assert_int_equal(pb_find_nth(family, 3, 0).value, type);
	assert_int_equal(count_of(family, 4), metrics);
}

static void test_protobuf(void **state)
{
	struct buf out = BUF_INIT(65536);
	struct slice metric;

	expose(&EXPOSITION_INIT(&out, EXPOSITION_PROTOBUF));
	assert_false(out.failed);
	assert_family(family(&out, 0), "a_total", 0, 2);
	assert_true(slice_equal(pb_find_nth(family(&out, 0), 2, 0).bytes, slice_str("Counts \"it\\\".")));
	metric = pb_find_nth(family(&out, 0), 4, 1).bytes;
	assert_true(slice_equal(pb_find_nth(pb_find_nth(metric, 1, 0).bytes, 1, 0).bytes, slice_str("x")));
	assert_true(slice_equal(pb_find_nth(pb_find_nth(metric, 1, 0).bytes, 2, 0).bytes, slice_str("2")));
	assert_true(as_double(pb_find_nth(pb_find_nth(metric, 3, 0).bytes, 1, 0)) == 0);
	assert_family(family(&out, 1), "b_bytes", 1, 1);
	assert_true(as_double(pb_find_nth(pb_find_nth(pb_find_nth(family(&out, 1), 4, 0).bytes, 2, 0).bytes, 1, 0)) ==
		    0.25);
	assert_family(family(&out, 2), "c", 3, 1); /* not the one without samples */
	metric = pb_find_nth(family(&out, 2), 4, 0).bytes;
	assert_true(as_double(pb_find_nth(pb_find_nth(metric, 5, 0).bytes, 1, 0)) == 3);
	assert_int_equal(count_of(metric, 1), 0);
	assert_true(family(&out, 2).bytes + family(&out, 2).len == out.bytes + out.len);
	buf_free(&out);
}

static void test_labels_in_protobuf(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		struct buf out = BUF_INIT(65536);
		struct exposition e = EXPOSITION_INIT(&out, EXPOSITION_PROTOBUF);
		struct slice metric;

		exposition_begin(&e, &gauge);
		exposition_label(&e, "k", "v");
		exposition_add_one(&e, "l", values[i].value, 1);
		exposition_end(&e);
		metric = pb_find_nth(family(&out, 0), 4, 0).bytes;
		assert_int_equal(count_of(metric, 1), 2);
		assert_true(slice_equal(pb_find_nth(pb_find_nth(metric, 1, 1).bytes, 2, 0).bytes,
					slice_str(values[i].clean)));
		buf_free(&out);
	}
}

/* What was there from the start says when that was; what has labels may have come later. */
static void test_created(void **state)
{
	struct buf out = BUF_INIT(65536);
	struct exposition e = EXPOSITION_INIT(&out, EXPOSITION_PROTOBUF);
	struct slice created;

	e.created = 1700000000123456;
	exposition_single(&e, &counter, 1);
	exposition_add_one(&e, "x", "1", 1);
	exposition_single(&e, &gauge, 1);
	exposition_begin(&e, &histogram);
	exposition_add_histogram(&e, &(struct latency_totals){0});
	exposition_end(&e);
	created = pb_find_nth(pb_find_nth(pb_find_nth(family(&out, 0), 4, 0).bytes, 3, 0).bytes, 3, 0).bytes;
	assert_int_equal(pb_find_nth(created, 1, 0).value, 1700000000);
	assert_int_equal(pb_find_nth(created, 2, 0).value, 123456000);
	assert_int_equal(count_of(pb_find_nth(pb_find_nth(family(&out, 0), 4, 1).bytes, 3, 0).bytes, 3), 0);
	assert_int_equal(count_of(pb_find_nth(pb_find_nth(family(&out, 1), 4, 0).bytes, 2, 0).bytes, 3), 0);
	created = pb_find_nth(pb_find_nth(pb_find_nth(family(&out, 2), 4, 0).bytes, 7, 0).bytes, 15, 0).bytes;
	assert_int_equal(pb_find_nth(created, 1, 0).value, 1700000000);
	buf_free(&out);
}

#define NATIVE_MAX 137

/* How many there are in each native bucket (index + NATIVE_MAX), read as Prometheus does. */
static void read_native(struct slice from, int64_t counts[2 * NATIVE_MAX])
{
	uint32_t deltas = count_of(from, 13), spans = count_of(from, 12), delta = 0;
	int64_t at = 0, value = 0;

	memset(counts, 0, 2 * NATIVE_MAX * sizeof(*counts));
	for (uint32_t i = 0; i < spans; i++) {
		struct slice span = pb_find_nth(from, 12, i).bytes;

		at += as_signed(pb_find_nth(span, 1, 0));
		assert_true(i == 0 || as_signed(pb_find_nth(span, 1, 0)) > 2);
		for (uint64_t left = pb_find_nth(span, 2, 0).value; left > 0; left--, at++) {
			value += as_signed(pb_find_nth(from, 13, delta++));
			assert_true(value >= 0 && at > -NATIVE_MAX && at < NATIVE_MAX);
			counts[at + NATIVE_MAX] = value;
		}
	}
	assert_int_equal(delta, deltas);
}

static void check_native(const usec_t *times, size_t count)
{
	static struct latencies l;
	struct latency_totals sums[LATENCY_COUNT] = {0};
	struct buf out = BUF_INIT(1u << 20);
	struct exposition e = EXPOSITION_INIT(&out, EXPOSITION_PROTOBUF);
	int64_t wanted[2 * NATIVE_MAX] = {0}, counts[2 * NATIVE_MAX];
	struct slice found;
	uint64_t zeros = 0;

	memset(&l, 0, sizeof(l));
	for (size_t i = 0; i < count; i++) {
		long double index = ceill(log2l(times[i] / 1e6L) * 8);

		latency_add(&l, LATENCY_WAIT, times[i]);
		if (times[i] <= 7)
			zeros++;
		else
			wanted[(int)MIN(index, 136) + NATIVE_MAX]++;
	}
	latencies_sum(sums, &l);
	exposition_begin(&e, &histogram);
	exposition_add_histogram(&e, &sums[LATENCY_WAIT]);
	exposition_end(&e);
	found = pb_find_nth(pb_find_nth(family(&out, 0), 4, 0).bytes, 7, 0).bytes;
	assert_int_equal(pb_find_nth(found, 1, 0).value, count);
	assert_int_equal(as_signed(pb_find_nth(found, 5, 0)), 3);
	assert_true(as_double(pb_find_nth(found, 6, 0)) == exp2(-17));
	assert_int_equal(pb_find_nth(found, 7, 0).value, zeros);
	assert_int_equal(count_of(found, 3), LATENCY_SHOWN);
	read_native(found, counts);
	assert_memory_equal(counts, wanted, sizeof(wanted));
	buf_free(&out);
}

static void test_native_histogram(void **state)
{
	static const usec_t edges[] = {0, 7, 8, 9, 10, 11, 999999, 1000000, 1000001, 1090507, 1090508, 15625, 15626};
	static usec_t times[3000];

	check_native(NULL, 0);
	check_native((const usec_t[]){0}, 1);
	check_native((const usec_t[]){LATENCY_MOST + 1}, 1);
	check_native(edges, ARRAY_SIZE(edges));
	for (size_t few = 1; few < 60; few++) { /* with gaps of all sizes */
		for (size_t i = 0; i < few; i++)
			times[i] = (usec_t)(pow(1.3, (double)(i * 97 % 61)) * 9) + i;
		check_native(times, few);
	}
	for (size_t i = 0; i < ARRAY_SIZE(times); i++)
		times[i] = (usec_t)pow(1.009, (double)i);
	check_native(times, ARRAY_SIZE(times));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_open_metrics),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_labels),
		cmocka_unit_test(test_kept_labels),
		cmocka_unit_test(test_too_much),
		cmocka_unit_test(test_histogram_as_text),
		cmocka_unit_test(test_protobuf),
		cmocka_unit_test(test_labels_in_protobuf),
		cmocka_unit_test(test_created),
		cmocka_unit_test(test_native_histogram),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
