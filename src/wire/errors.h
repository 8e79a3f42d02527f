/*
 * The errors that the proxy itself raises to clients. The table is errors.def; from it come this enum, the
 * messages, and the page in the docs.
 */
#ifndef WIRE_ERRORS_H
#define WIRE_ERRORS_H

#include "base/buf.h"

#include <stdarg.h>

enum proxy_error {
#define ERROR(id, ...) ERROR_##id,
#include "wire/errors.def"
#undef ERROR
	PROXY_ERROR_COUNT
};

struct proxy_error_info {
	const char *name;     /* "QUERY_WAIT_TIMEOUT" */
	const char *severity; /* "ERROR" or "FATAL"; or "NOTICE": then it is a NoticeResponse, without detail */
	bool fatal;
	const char *sqlstate;
	const char *message; /* a printf format with %s and %u */
	const char *hint;
	const char *when; /* for the docs */
};

/* How often it was made, since the start: once where several clients are told the same. */
uint64_t proxy_error_count(enum proxy_error id);

/* Never NULL; id is below PROXY_ERROR_COUNT. */
const struct proxy_error_info *proxy_error_info(enum proxy_error id);

/*
 * Appends an ErrorResponse. detail may be NULL. The arguments are those of the message's format: const char * for %s
 * (not NULL), unsigned int for %u. What was written is looked at through out->failed.
 */
void error_message(struct buf *out, enum proxy_error id, const char *detail, ...);
/* The same with another severity ("ERROR" or "FATAL") than the table's: the place decides if the connection goes on. */
void error_message_as(struct buf *out, enum proxy_error id, const char *severity, const char *detail, ...);
void error_message_va(struct buf *out, enum proxy_error id, const char *severity, const char *detail, va_list args);

#endif
