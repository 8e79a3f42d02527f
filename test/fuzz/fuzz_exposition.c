/*
 * Metrics with labels that others chose (the input, up to each CR), and times (each eight bytes of it): the text and
 * protocol buffers say the same, whatever these are, and both can be read back.
 */
#include "base/protobuf.h"
#include "base/utf8.h"
#include "metrics/exposition.h"

#define TEXT_MAX (64u << 20)

static const struct metric gauge = {"g", "gauge", "Now."}, times = {"t_seconds", "histogram", "Times."};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Fails with or without NDEBUG. */
static void require(bool holds)
{
	if (!holds)
		abort();
}

static struct pb_field first(struct slice message, uint32_t number)
{
	struct pb_reader r = pb_reader_make(message.bytes, message.len);
	struct pb_field f;

	while (pb_next(&r, &f))
		if (f.number == number)
			return f;
	abort();
}

/* The content of the one message behind its length. */
static struct slice only_family(const struct buf *b)
{
	const uint8_t *at = b->bytes, *end = b->bytes + b->len;
	uint64_t len = 0;

	for (unsigned shift = 0;; shift += 7) {
		require(at < end && shift < 63);
		len |= (uint64_t)(*at & 0x7f) << shift;
		if (!(*at++ & 0x80))
			break;
	}
	require(len == (uint64_t)(end - at));
	return slice_make(at, len);
}

/* What stands between the quotes of g{l="..."} 1, without its escapes, is wanted. */
static void check_text(const struct buf *text, const struct buf *wanted)
{
	static const char head[] = "# HELP g Now.\n# TYPE g gauge\ng{l=\"", tail[] = "\"} 1\n";
	size_t from = sizeof(head) - 1, to = text->len - (sizeof(tail) - 1), len = 0;

	require(text->len >= from + sizeof(tail) - 1 && memcmp(text->bytes, head, from) == 0);
	require(memcmp(text->bytes + to, tail, sizeof(tail) - 1) == 0);
	for (size_t i = from; i < to; i++, len++) {
		uint8_t c = text->bytes[i];

		require(c != '\n' && c != '"' && (c != '\\' || i + 1 < to));
		if (c == '\\')
			c = text->bytes[++i] == 'n' ? '\n' : text->bytes[i];
		require(len < wanted->len && wanted->bytes[len] == c);
	}
	require(len == wanted->len);
}

static void check_label(const char *value)
{
	struct buf text = BUF_INIT(TEXT_MAX), message = BUF_INIT(TEXT_MAX), wanted = BUF_INIT(TEXT_MAX);
	struct exposition as_text = EXPOSITION_INIT(&text, EXPOSITION_TEXT);
	struct exposition as_message = EXPOSITION_INIT(&message, EXPOSITION_PROTOBUF);

	exposition_begin(&as_text, &gauge);
	exposition_add_one(&as_text, "l", value, 1);
	exposition_end(&as_text);
	exposition_begin(&as_message, &gauge);
	exposition_add_one(&as_message, "l", value, 1);
	exposition_end(&as_message);
	buf_add_utf8(&wanted, value);
	if (wanted.len < EXPOSITION_LABELS_MAX / 3) {
		struct slice label = first(first(only_family(&message), 4).bytes, 1).bytes;

		require(!text.failed && !message.failed);
		require(slice_equal(first(label, 2).bytes, slice_make(wanted.bytes, wanted.len)));
		check_text(&text, &wanted);
	}
	buf_free(&text);
	buf_free(&message);
	buf_free(&wanted);
}

/* The counts of all buckets are the count. */
static void check_native(struct slice histogram, uint64_t count)
{
	struct pb_reader r = pb_reader_make(histogram.bytes, histogram.len);
	uint64_t sum = first(histogram, 7).value, lengths = 0, deltas = 0;
	int64_t here = 0;
	struct pb_field f;

	require(first(histogram, 1).value == count);
	while (pb_next(&r, &f)) {
		if (f.number == 12)
			lengths += first(f.bytes, 2).value;
		if (f.number != 13)
			continue;
		here += (int64_t)(f.value >> 1) ^ -(int64_t)(f.value & 1);
		require(here >= 0);
		sum += (uint64_t)here;
		deltas++;
	}
	require(!r.failed && lengths == deltas && sum == count);
}

static void check_times(const uint8_t *data, size_t size)
{
	static struct latencies l;
	struct latency_totals sums[LATENCY_COUNT] = {0};
	struct buf out = BUF_INIT(TEXT_MAX);
	struct exposition e = EXPOSITION_INIT(&out, EXPOSITION_PROTOBUF);
	uint64_t count = 0, took;

	memset(&l, 0, sizeof(l));
	for (; size >= sizeof(took); data += sizeof(took), size -= sizeof(took), count++) {
		memcpy(&took, data, sizeof(took));
		latency_add(&l, LATENCY_WAIT, took >> (took & 63));
	}
	latencies_sum(sums, &l);
	exposition_begin(&e, &times);
	exposition_add_histogram(&e, &sums[LATENCY_WAIT]);
	exposition_end(&e);
	require(!out.failed);
	check_native(first(first(only_family(&out), 4).bytes, 7).bytes, count);
	buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *copy = malloc(size + 1), *line = copy, *end;

	require(copy != NULL);
	if (size)
		memcpy(copy, data, size);
	copy[size] = 0;
	for (; line <= copy + size; line = end + 1) { /* a NUL ends one, too, for it ends a value */
		end = line + strcspn(line, "\r");
		*end = 0;
		check_label(line);
	}
	free(copy);
	check_times(data, size);
	return 0;
}
