/*
 * Builds messages of protocol 3 into a buf, whole. All of them check the buf's `failed`
 * at the end, at the caller.
 * https://www.postgresql.org/docs/current/protocol-message-formats.html
 */
#ifndef WIRE_MESSAGE_H
#define WIRE_MESSAGE_H

#include "base/buf.h"

/* Begins a message; returns where its length stands, for message_end(). */
size_t message_begin(struct buf *b, char type);
void message_end(struct buf *b, size_t at);
void message_u8(struct buf *b, uint8_t v);
void message_u16(struct buf *b, uint16_t v);
void message_u32(struct buf *b, uint32_t v);
void message_cstring(struct buf *b, const char *s);
void message_slice_cstring(struct buf *b, struct slice s); /* adds the NUL */

/* --- sent to clients (backend messages) --- */
void message_auth_ok(struct buf *b);
void message_parameter_status(struct buf *b, const char *name, const char *value);
void message_backend_key(struct buf *b, uint32_t pid, struct slice secret);
void message_ready(struct buf *b, char status /* 'I' 'T' 'E' */);
void message_command_complete(struct buf *b, const char *tag);
void message_negotiate_version(struct buf *b, uint32_t newest_minor, const struct slice *options, size_t count);
/* severity "ERROR" or "FATAL"; detail and hint may be NULL. Sends both S and V fields. */
void message_error(struct buf *b, const char *severity, const char *sqlstate, const char *message, const char *detail,
		   const char *hint);
void message_notice(struct buf *b, const char *severity, const char *sqlstate, const char *message, const char *hint);
/* Result of text columns: a RowDescription (type oid 25), then rows. NULL value: SQL null. */
void message_row_description(struct buf *b, const char *const *names, size_t count);
void message_data_row(struct buf *b, const char *const *values, size_t count);

/* --- sent to servers (frontend messages) --- */
/* minor: 0 for 3.0, 2 for 3.2. names/values: count pairs. */
void message_startup(struct buf *b, uint32_t minor, const char *const *names, const char *const *values, size_t count);
void message_ssl_request(struct buf *b);
void message_cancel_request(struct buf *b, uint32_t pid, struct slice secret);
void message_query(struct buf *b, struct slice sql);
void message_parse(struct buf *b, const char *name, struct slice sql, const uint32_t *types, uint16_t type_count);
void message_close(struct buf *b, char what /* 'S' 'P' */, const char *name);
void message_sync(struct buf *b);
void message_terminate(struct buf *b);
void message_password(struct buf *b, const char *password);

/* --- read from servers --- */
/* Fields of an ErrorResponse or NoticeResponse; absent ones are empty slices. false: malformed. */
struct error_fields {
	struct slice severity, sqlstate, message, detail, hint, routine;
};
bool message_read_error(const uint8_t *body, size_t len, struct error_fields *ret);
/*
 * Appends a server's ErrorResponse (whole, with its header) once more with another severity: "ERROR" where the session
 * goes on, "FATAL" where it ends. All other fields are kept, unknown ones too. false: malformed, nothing was appended.
 */
bool message_error_as(struct buf *out, const uint8_t *error, size_t len, const char *severity) MUST_USE;

#endif
