/*
 * Fuzz target: a stream of frames; in each the fields of an error, a walk with the reader whose steps the bytes
 * choose, and the splitting of options.
 */
#include "base/buf.h"
#include "wire/frame.h"
#include "wire/message.h"
#include "wire/reader.h"
#include "wire/startup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_inside(struct slice s, const struct frame *f)
{
	assert(s.len == 0 || (s.bytes >= f->body && s.bytes + s.len <= f->body + f->body_len));
}

static void check_error(const struct frame *f)
{
	struct error_fields e, other;
	struct buf again = BUF_INIT(1 << 20);

	if (!message_read_error(f->body, f->body_len, &e))
		return;
	check_inside(e.severity, f);
	check_inside(e.sqlstate, f);
	check_inside(e.message, f);
	check_inside(e.detail, f);
	check_inside(e.hint, f);
	check_inside(e.routine, f);
	/* They are C strings too: what we pass on must be readable again. */
	message_error(&again, "ERROR", (const char *)e.sqlstate.bytes, (const char *)e.message.bytes,
		      (const char *)e.detail.bytes, (const char *)e.hint.bytes);
	if (!again.failed)
		assert(message_read_error(again.bytes + FRAME_HEADER, again.len - FRAME_HEADER, &other));
	buf_clear(&again);
	if (message_error_as(&again, f->body - FRAME_HEADER, frame_size(f), "FATAL") && !again.failed) {
		assert(message_read_error(again.bytes + FRAME_HEADER, again.len - FRAME_HEADER, &other));
		assert(slice_equal(other.severity, SLICE_LITERAL("FATAL")) && slice_equal(other.detail, e.detail));
	} else {
		assert(again.failed || f->type != 'E');
	}
	buf_free(&again);
}

static void check_reader(const struct frame *f)
{
	struct reader r = reader_make(f->body, f->body_len);

	while (!r.failed && reader_left(&r) > 0) {
		size_t left = reader_left(&r);
		uint8_t step = read_u8(&r);

		switch (step % 6) {
		case 0:
			read_u16(&r);
			break;
		case 1:
			read_u32(&r);
			break;
		case 2:
			check_inside(read_cstring(&r), f);
			break;
		case 3:
			check_inside(read_slice(&r, step), f);
			break;
		case 4:
			check_inside(read_slice(&r, read_u32(&r)), f);
			break;
		default:
			break;
		}
		assert(reader_left(&r) < left);
	}
	assert(r.at <= r.end);
}

static int add_setting(void *to, const char *name, const char *value)
{
	buf_printf(to, "%s=%s", name, value);
	return 0;
}

static void check_options(const struct frame *f)
{
	struct reader r = reader_make(f->body, f->body_len);
	struct slice options = read_cstring(&r);
	struct buf settings = BUF_INIT(1 << 16);
	char bad[16];

	if (!r.failed &&
	    startup_split_options((const char *)options.bytes, add_setting, &settings, bad, sizeof(bad)) < 0)
		assert(memchr(bad, 0, sizeof(bad)));
	buf_free(&settings);
}

struct walk {
	const uint8_t *at, *end;
};

static bool check_frame(void *to, const struct frame *f)
{
	struct walk *walk = to;

	assert(f->body == walk->at + FRAME_HEADER && f->body_len <= (size_t)(walk->end - f->body));
	walk->at += frame_size(f);
	check_error(f);
	check_reader(f);
	check_options(f);
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct walk walk = {data, data + size};
	size_t done;

	if (frames_take(data, size, FRAME_BODY_MAX, check_frame, &walk, &done))
		assert(walk.at == data + done);
	return 0;
}
