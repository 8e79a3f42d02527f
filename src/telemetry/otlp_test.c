/* Messages: written, and read back field by field. test_telemetry.py reads them with the official definitions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/protobuf_test.h"
#include "telemetry/otlp.h"

#include <stdio.h>

/* ---- reading ---- */

static struct slice inside(struct slice message, const uint32_t *path)
{
	for (; *path; path++)
		message = pb_find_nth(message, *path, 0).bytes;
	return message;
}
#define INSIDE(message, ...) inside((message), (const uint32_t[]){__VA_ARGS__, 0})

static uint32_t count_fields(struct slice message, uint32_t number)
{
	struct pb_reader r = pb_reader_make(message.bytes, message.len);
	struct pb_field f;
	uint32_t count = 0;

	while (pb_next(&r, &f))
		count += f.number == number;
	assert_false(r.failed);
	return count;
}

static bool is_text(struct slice s, const char *text)
{
	return slice_equal(s, slice_str(text));
}

/* Of a string attribute. */
static struct slice attribute(struct slice message, uint32_t field, const char *key)
{
	struct pb_reader r = pb_reader_make(message.bytes, message.len);
	struct pb_field f;

	while (pb_next(&r, &f))
		if (f.number == field && is_text(pb_find_nth(f.bytes, 1, 0).bytes, key))
			return INSIDE(f.bytes, 2, 1);
	return (struct slice){0};
}

static double as_double(uint64_t bits)
{
	double d;

	memcpy(&d, &bits, sizeof(d));
	return d;
}

/* ---- answers ---- */

static void rubbish(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
	} cases[] = {
		{"\xff", 1},
		{"\x0a\x05"
		 "ab",
		 4},
		{"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11},
		{"\x0b\x0c", 2},
		{"\x00\x00", 2},
		{"\x09\x01", 2},
		{"\x0a\x02\x08\xff", 4},
		{"<html>", 6},
		{"\x0a\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 13}, /* -1 */
	};
	struct otlp_refusal refusal;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		otlp_read_answer(slice_make(cases[i].bytes, cases[i].len), &refusal);
		if (refusal.rejected)
			fail_msg("case %zu", i);
	}
	otlp_read_answer(SLICE_LITERAL("\x0a\x07\x08\x96\x01\x12\x02no"), &refusal);
	assert_int_equal(refusal.rejected, 150);
	assert_true(is_text(refusal.why, "no"));
}

/* ---- spans ---- */

static const struct trace_record *record_of(struct trace_ring *ring, struct trace_record record, const char *text,
					    const char *host)
{
	const struct trace_strings strings = {.database = SLICE_LITERAL("d\xff"),
					      .user = SLICE_LITERAL("u"),
					      .host = slice_str(host),
					      .node = SLICE_LITERAL("n"),
					      .text = slice_str(text)};
	const struct trace_record *found;

	assert_true(trace_ring_add(ring, &record, &strings));
	found = trace_rings_first();
	assert_non_null(found);
	return found;
}

static void spans(void **state)
{
	struct trace_ring *ring = trace_ring_new(65536);
	struct buf b = BUF_INIT(1 << 20), resource = BUF_INIT(1024);
	struct otlp_message m;
	struct slice scope, own, wait, server;

	otlp_string(&resource, 1, "service.name", SLICE_LITERAL("p"));
	otlp_begin(&m, &resource, &b);
	assert_int_equal(otlp_add_request(&m,
					  record_of(ring,
						    (struct trace_record){.began = 5,
									  .sent = 7,
									  .ended = 10,
									  .port = 5432,
									  .reason = "read",
									  .sqlstate = "22012",
									  .has_parent = true,
									  .trace_id = {1},
									  .parent_id = {2}},
						    "SELECT 'x' FROM t", "h"),
					  /* wall_offset= */ 1000, /* query_text= */ true),
			 3);
	trace_rings_drop();
	assert_int_equal(otlp_add_request(&m, record_of(ring, (struct trace_record){0}, "", ""), 0, true), 1);
	trace_rings_drop();
	otlp_end(&m);
	assert_false(b.failed);
	assert_true(is_text(attribute(INSIDE(slice_make(b.bytes, b.len), 1, 1), 1, "service.name"), "p"));
	scope = INSIDE(slice_make(b.bytes, b.len), 1, 2);
	assert_int_equal(count_fields(scope, 2), 4);
	own = pb_find_nth(scope, 2, 0).bytes;
	wait = pb_find_nth(scope, 2, 1).bytes;
	server = pb_find_nth(scope, 2, 2).bytes;
	assert_int_equal(pb_find_nth(own, 7, 0).value, 1005000);
	assert_int_equal(pb_find_nth(own, 8, 0).value, 1010000);
	assert_int_equal(pb_find_nth(wait, 8, 0).value, 1007000);
	assert_int_equal(pb_find_nth(server, 7, 0).value, 1007000);
	assert_int_equal(INSIDE(own, 4).bytes[0], 2);
	assert_true(slice_equal(INSIDE(server, 4), INSIDE(own, 2)) && slice_equal(INSIDE(wait, 4), INSIDE(own, 2)));
	assert_true(is_text(INSIDE(own, 5), "SELECT t"));
	assert_true(is_text(attribute(own, 9, "db.namespace"), "d?"));
	assert_true(is_text(attribute(server, 9, "db.query.text"), "select ? from t"));
	assert_true(is_text(attribute(server, 9, "helios.route.reason"), "read"));
	assert_true(is_text(attribute(server, 9, "error.type"), "22012"));
	assert_int_equal(pb_find_nth(INSIDE(own, 15), 3, 0).value, 2);
	buf_free(&b);
	buf_free(&resource);
	trace_ring_retire(ring);
	trace_rings_free();
}

/* ---- metrics ---- */

static const char page[] =
	"# HELP a_total Things.\n# TYPE a_total counter\na_total 7\n"
	"# HELP b_seconds Time.\n# TYPE b_seconds gauge\n"
	"b_seconds{database=\"x\\\"\\\\\\n}, \",user=\"\xc3\xa4\"} 1.5\nb_seconds{database=\"y\",user=\"\"} -3\n"
	"# HELP empty Nothing.\n# TYPE empty gauge\n"
	"# TYPE strange untyped\nstrange 1\nnobody_said 2\n\n"
	"# HELP h_seconds Latency.\n# TYPE h_seconds histogram\n"
	"h_seconds_bucket{kind=\"q\",le=\"0.1\"} 1\nh_seconds_bucket{kind=\"q\",le=\"1\"} 4\n"
	"h_seconds_bucket{kind=\"q\",le=\"+Inf\"} 5\nh_seconds_sum{kind=\"q\"} 2.5\nh_seconds_count{kind=\"q\"} 5\n"
	"h_seconds_bucket{kind=\"t\",le=\"0.1\"} 0\nh_seconds_bucket{kind=\"t\",le=\"+Inf\"} "
	"0\nh_seconds_sum{kind=\"t\"} 0\n"
	"h_seconds_count{kind=\"t\"} 0\n"
	"# TYPE bad gauge\nbad{x=\"1\nbad{x 1\nbad\nbad{} NaN\nbad{} 9";

static void metrics(void **state)
{
	static const uint64_t counts[] = {1, 3, 1};
	static const double bounds[] = {0.1, 1};
	struct buf b = BUF_INIT(1 << 20), resource = BUF_INIT(16);
	struct slice scope, data, point;
	struct otlp_message m;

	otlp_begin(&m, &resource, &b);
	assert_int_equal(otlp_add_metrics(&m, SLICE_LITERAL(page), 10, 20), 4);
	otlp_end(&m);
	assert_false(b.failed);
	scope = INSIDE(slice_make(b.bytes, b.len), 1, 2);
	assert_int_equal(count_fields(scope, 2), 4);

	data = pb_find_nth(scope, 2, 0).bytes;
	assert_true(is_text(INSIDE(data, 1), "a_total") && is_text(INSIDE(data, 2), "Things."));
	assert_int_equal(pb_find_nth(INSIDE(data, 7), 2, 0).value, 2);
	assert_int_equal(pb_find_nth(INSIDE(data, 7), 3, 0).value, 1);
	assert_int_equal(pb_find_nth(INSIDE(data, 7, 1), 6, 0).value, 7);
	assert_int_equal(pb_find_nth(INSIDE(data, 7, 1), 2, 0).value, 10000);
	assert_int_equal(pb_find_nth(INSIDE(data, 7, 1), 3, 0).value, 20000);

	data = pb_find_nth(scope, 2, 1).bytes;
	assert_true(is_text(INSIDE(data, 3), "s"));
	point = INSIDE(data, 5, 1);
	assert_true(as_double(pb_find_nth(point, 4, 0).value) == 1.5);
	assert_true(is_text(attribute(point, 7, "database"), "x\"\\\n}, "));
	assert_true(is_text(attribute(point, 7, "user"), "\xc3\xa4"));
	point = pb_find_nth(INSIDE(data, 5), 1, 1).bytes;
	assert_true((int64_t)pb_find_nth(point, 6, 0).value == -3);

	data = pb_find_nth(scope, 2, 2).bytes;
	assert_true(is_text(INSIDE(data, 1), "h_seconds"));
	assert_int_equal(count_fields(INSIDE(data, 9), 1), 2);
	point = INSIDE(data, 9, 1);
	assert_int_equal(pb_find_nth(point, 4, 0).value, 5);
	assert_true(as_double(pb_find_nth(point, 5, 0).value) == 2.5);
	assert_true(slice_equal(INSIDE(point, 6), slice_make(counts, sizeof(counts))));
	assert_true(slice_equal(INSIDE(point, 7), slice_make(bounds, sizeof(bounds))));
	assert_true(is_text(attribute(point, 9, "kind"), "q"));
	assert_int_equal(count_fields(point, 9), 1);
	assert_int_equal(pb_find_nth(INSIDE(data, 9), 2, 0).value, 2);

	data = pb_find_nth(scope, 2, 3).bytes;
	assert_int_equal(pb_find_nth(INSIDE(data, 5, 1), 6, 0).value, 9);
	buf_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rubbish),
		cmocka_unit_test(spans),
		cmocka_unit_test(metrics),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
