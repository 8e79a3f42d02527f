/*
 * Builds messages of protocol 3, and reads the fields of an error.
 *
 * Invariant: a message is appended whole or the buf is `failed`; a length word always is that of what follows it.
 * A NUL inside of a string would shift all fields behind it, so it fails the buf instead of being sent.
 */
#include "wire/message.h"

#include "wire/frame.h"
#include "wire/reader.h"

#define PROTOCOL_3          (3u << 16)
#define CANCEL_REQUEST_CODE 80877102u
#define SSL_REQUEST_CODE    80877103u
#define TEXT_OID            25u

/* The first packet of a connection has no type byte. */
static size_t packet_begin(struct buf *b)
{
	size_t at = b->len;

	message_u32(b, 0);
	return at;
}

size_t message_begin(struct buf *b, char type)
{
	buf_add_char(b, type);
	return packet_begin(b);
}

void message_end(struct buf *b, size_t at)
{
	size_t total;

	if (b->failed)
		return;
	assert(at + 4 <= b->len);
	total = b->len - at;
	if (total > INT32_MAX) {
		b->failed = true;
		return;
	}
	put_be32(b->bytes + at, (uint32_t)total);
}

void message_u8(struct buf *b, uint8_t v)
{
	buf_add(b, &v, sizeof(v));
}

void message_u16(struct buf *b, uint16_t v)
{
	uint8_t bytes[2];

	put_be16(bytes, v);
	buf_add(b, bytes, sizeof(bytes));
}

void message_u32(struct buf *b, uint32_t v)
{
	uint8_t bytes[4];

	put_be32(bytes, v);
	buf_add(b, bytes, sizeof(bytes));
}

void message_cstring(struct buf *b, const char *s)
{
	buf_add(b, s, strlen(s) + 1);
}

void message_slice_cstring(struct buf *b, struct slice s)
{
	if (s.len > 0) {
		if (memchr(s.bytes, 0, s.len))
			b->failed = true;
		buf_add(b, s.bytes, s.len);
	}
	message_u8(b, 0);
}

/* A count that the protocol gives 16 bits. */
static void message_count(struct buf *b, size_t count)
{
	if (count > UINT16_MAX)
		b->failed = true;
	message_u16(b, (uint16_t)count);
}

static void message_empty(struct buf *b, char type)
{
	message_end(b, message_begin(b, type));
}

/* ------------------------------------------------------------------ sent to clients */

void message_auth_ok(struct buf *b)
{
	size_t at = message_begin(b, 'R');

	message_u32(b, 0);
	message_end(b, at);
}

void message_parameter_status(struct buf *b, const char *name, const char *value)
{
	size_t at = message_begin(b, 'S');

	message_cstring(b, name);
	message_cstring(b, value);
	message_end(b, at);
}

void message_backend_key(struct buf *b, uint32_t pid, struct slice secret)
{
	size_t at = message_begin(b, 'K');

	message_u32(b, pid);
	buf_add(b, secret.bytes, secret.len);
	message_end(b, at);
}

void message_ready(struct buf *b, char status)
{
	size_t at = message_begin(b, 'Z');

	buf_add_char(b, status);
	message_end(b, at);
}

void message_command_complete(struct buf *b, const char *tag)
{
	size_t at = message_begin(b, 'C');

	message_cstring(b, tag);
	message_end(b, at);
}

/* The manual says "minor version"; PostgreSQL sends, and libpq expects, the whole version. */
void message_negotiate_version(struct buf *b, uint32_t newest_minor, const struct slice *options, size_t count)
{
	size_t at = message_begin(b, 'v');

	message_u32(b, PROTOCOL_3 | newest_minor);
	message_u32(b, (uint32_t)count);
	for (size_t i = 0; i < count; i++)
		message_slice_cstring(b, options[i]);
	message_end(b, at);
}

static void add_field(struct buf *b, char field, const char *value)
{
	if (!value)
		return;
	buf_add_char(b, field);
	message_cstring(b, value);
}

static void add_report(struct buf *b, char type, const char *severity, const char *sqlstate, const char *message,
		       const char *detail, const char *hint)
{
	size_t at = message_begin(b, type);

	add_field(b, 'S', severity);
	add_field(b, 'V', severity);
	add_field(b, 'C', sqlstate);
	add_field(b, 'M', message);
	add_field(b, 'D', detail);
	add_field(b, 'H', hint);
	message_u8(b, 0);
	message_end(b, at);
}

void message_error(struct buf *b, const char *severity, const char *sqlstate, const char *message, const char *detail,
		   const char *hint)
{
	add_report(b, 'E', severity, sqlstate, message, detail, hint);
}

void message_notice(struct buf *b, const char *severity, const char *sqlstate, const char *message, const char *hint)
{
	add_report(b, 'N', severity, sqlstate, message, /* detail= */ NULL, hint);
}

void message_row_description(struct buf *b, const char *const *names, size_t count)
{
	size_t at = message_begin(b, 'T');

	message_count(b, count);
	for (size_t i = 0; i < count; i++) {
		message_cstring(b, names[i]);
		message_u32(b, 0); /* of no table */
		message_u16(b, 0); /* nor column */
		message_u32(b, TEXT_OID);
		message_u16(b, (uint16_t)-1); /* length varies */
		message_u32(b, (uint32_t)-1); /* no type modifier */
		message_u16(b, 0);            /* text format */
	}
	message_end(b, at);
}

void message_data_row(struct buf *b, const char *const *values, size_t count)
{
	size_t at = message_begin(b, 'D');

	message_count(b, count);
	for (size_t i = 0; i < count; i++) {
		size_t len = values[i] ? strlen(values[i]) : 0;

		if (len > INT32_MAX)
			b->failed = true;
		message_u32(b, values[i] ? (uint32_t)len : (uint32_t)-1);
		if (len > 0)
			buf_add(b, values[i], len);
	}
	message_end(b, at);
}

/* ------------------------------------------------------------------ sent to servers */

void message_startup(struct buf *b, uint32_t minor, const char *const *names, const char *const *values, size_t count)
{
	size_t at = packet_begin(b);

	message_u32(b, PROTOCOL_3 | minor);
	for (size_t i = 0; i < count; i++) {
		message_cstring(b, names[i]);
		message_cstring(b, values[i]);
	}
	message_u8(b, 0);
	message_end(b, at);
}

void message_ssl_request(struct buf *b)
{
	size_t at = packet_begin(b);

	message_u32(b, SSL_REQUEST_CODE);
	message_end(b, at);
}

void message_cancel_request(struct buf *b, uint32_t pid, struct slice secret)
{
	size_t at = packet_begin(b);

	message_u32(b, CANCEL_REQUEST_CODE);
	message_u32(b, pid);
	buf_add(b, secret.bytes, secret.len);
	message_end(b, at);
}

void message_query(struct buf *b, struct slice sql)
{
	size_t at = message_begin(b, 'Q');

	message_slice_cstring(b, sql);
	message_end(b, at);
}

void message_parse(struct buf *b, const char *name, struct slice sql, const uint32_t *types, uint16_t type_count)
{
	size_t at = message_begin(b, 'P');

	message_cstring(b, name);
	message_slice_cstring(b, sql);
	message_u16(b, type_count);
	for (uint16_t i = 0; i < type_count; i++)
		message_u32(b, types[i]);
	message_end(b, at);
}

void message_close(struct buf *b, char what, const char *name)
{
	size_t at = message_begin(b, 'C');

	buf_add_char(b, what);
	message_cstring(b, name);
	message_end(b, at);
}

void message_sync(struct buf *b)
{
	message_empty(b, 'S');
}

void message_terminate(struct buf *b)
{
	message_empty(b, 'X');
}

void message_password(struct buf *b, const char *password)
{
	size_t at = message_begin(b, 'p');

	message_cstring(b, password);
	message_end(b, at);
}

/* ------------------------------------------------------------------ read from servers */

bool message_read_error(const uint8_t *body, size_t len, struct error_fields *ret)
{
	struct reader r = reader_make(body, len);
	struct slice none = SLICE_LITERAL(""), translated = none;
	struct error_fields fields = {none, none, none, none, none, none};
	uint8_t field;

	while ((field = read_u8(&r)) != 0) {
		struct slice value = read_cstring(&r);

		switch (field) {
		case 'S': /* in the server's language; V, since 9.6, isn't */
			translated = value;
			break;
		case 'V':
			fields.severity = value;
			break;
		case 'C':
			fields.sqlstate = value;
			break;
		case 'M':
			fields.message = value;
			break;
		case 'D':
			fields.detail = value;
			break;
		case 'H':
			fields.hint = value;
			break;
		case 'R':
			fields.routine = value;
			break;
		default: /* new fields may come, and are to be ignored */
			break;
		}
	}
	if (!reader_done(&r))
		return false;
	if (fields.severity.len == 0)
		fields.severity = translated;
	*ret = fields;
	return true;
}

/* S is in the server's language and V may be missing (before 9.6): both are written anew, where PostgreSQL has them. */
bool message_error_as(struct buf *out, const uint8_t *error, size_t len, const char *severity)
{
	struct frame whole;
	struct error_fields checked;
	struct reader r;
	uint8_t field;
	size_t at;

	if (frame_read(error, len, &whole) != FRAME_WHOLE || whole.type != 'E' ||
	    FRAME_HEADER + whole.body_len != len || !message_read_error(whole.body, whole.body_len, &checked))
		return false;
	at = message_begin(out, 'E');
	add_field(out, 'S', severity);
	add_field(out, 'V', severity);
	r = reader_make(whole.body, whole.body_len);
	while ((field = read_u8(&r)) != 0) {
		struct slice value = read_cstring(&r);

		if (field == 'S' || field == 'V')
			continue;
		message_u8(out, field);
		message_slice_cstring(out, value);
	}
	message_u8(out, 0);
	message_end(out, at);
	return true;
}
