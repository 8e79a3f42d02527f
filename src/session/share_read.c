/* See share_read.h. */
#include "session/share_read.h"

#include "wire/frame.h"
#include "wire/reader.h"

/* The next message, whole. false: there is none. */
static bool next(const uint8_t *bytes, size_t len, size_t *at, struct frame *f)
{
	if (frame_read(bytes + *at, len - *at, f) != FRAME_WHOLE)
		return false;
	*at += frame_size(f);
	return true;
}

static bool read_query(const struct frame *f, struct share_request *r)
{
	r->sql = slice_make(f->body, f->body_len > 0 ? f->body_len - 1 : 0);
	return f->body_len > 0 && !memchr(f->body, 0, r->sql.len) && f->body[r->sql.len] == 0;
}

static bool read_parse(const struct frame *f, struct share_request *r)
{
	struct reader reader = reader_make(f->body, f->body_len);
	struct slice name = read_cstring(&reader);

	r->parse = read_rest(&reader);
	return !reader.failed && name.len == 0 && r->parse.len > 0 && memchr(r->parse.bytes, 0, r->parse.len);
}

static bool read_bind(const struct frame *f, struct share_request *r)
{
	struct reader reader = reader_make(f->body, f->body_len);
	struct slice portal = read_cstring(&reader);

	r->name = read_cstring(&reader);
	r->values = read_rest(&reader);
	return !reader.failed && portal.len == 0 && r->values.len > 0;
}

static bool is_describe_portal(const struct frame *f)
{
	return f->type == 'D' && f->body_len == 2 && f->body[0] == 'P' && f->body[1] == 0;
}

static bool is_execute_all(const struct frame *f)
{
	return f->type == 'E' && f->body_len == 5 && f->body[0] == 0 && get_be32(f->body + 1) == 0;
}

static bool read_batch(struct frame f, size_t at, struct share_request *r)
{
	const uint8_t *bytes = r->bytes;
	size_t len = r->len;

	r->is_batch = true;
	if (f.type == 'P' && (!read_parse(&f, r) || !next(bytes, len, &at, &f)))
		return false;
	if (f.type != 'B' || !read_bind(&f, r) || (r->parse.len && r->name.len))
		return false;
	r->rest = slice_make(bytes + at, len - at);
	if (!next(bytes, len, &at, &f) || (is_describe_portal(&f) && !next(bytes, len, &at, &f)))
		return false;
	return is_execute_all(&f) && next(bytes, len, &at, &f) && f.type == 'S' && f.body_len == 0 && at == len;
}

bool share_read(const uint8_t *bytes, size_t len, struct share_request *ret)
{
	struct frame f;
	size_t at = 0;

	if (len > SHARE_REQUEST_MAX || !next(bytes, len, &at, &f))
		return false;
	*ret = (struct share_request){.bytes = bytes, .len = (uint32_t)len};
	switch (f.type) {
	case 'Q':
		return at == len && read_query(&f, ret);
	case 'P':
	case 'B':
		return read_batch(f, at, ret);
	default:
		return false;
	}
}
