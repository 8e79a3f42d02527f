/*
 * The errors that the proxy itself raises to clients: the table, and ErrorResponses made from it.
 */
#include "wire/errors.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

#include "wire/message.h"

/* Longer texts (a client chooses its names) are cut. */
#define ERROR_TEXT_MAX 1024

static const struct proxy_error_info errors[PROXY_ERROR_COUNT] = {
#define ERROR(id, level, state, text, what_to_do, raised) \
	[ERROR_##id] = {.name = #id, \
			.severity = #level, \
			.fatal = #level[0] == 'F', \
			.sqlstate = state, \
			.message = text, \
			.hint = what_to_do, \
			.when = raised},
#include "wire/errors.def"
#undef ERROR
};

const struct proxy_error_info *proxy_error_info(enum proxy_error id)
{
	assert((unsigned)id < PROXY_ERROR_COUNT);
	return &errors[id];
}

static _Atomic uint64_t counts[PROXY_ERROR_COUNT];

uint64_t proxy_error_count(enum proxy_error id)
{
	assert((unsigned)id < PROXY_ERROR_COUNT);
	return atomic_load_explicit(&counts[id], memory_order_relaxed);
}

/* Drops a UTF-8 character that the cut has split: clients must get valid text. */
static void trim_split_character(char *text, size_t len)
{
	size_t at = len;

	while (at > 0 && len - at < 3 && ((uint8_t)text[at - 1] & 0xc0) == 0x80)
		at--;
	if (at > 0 && (uint8_t)text[at - 1] >= 0xc0)
		text[at - 1] = 0;
}

void error_message_va(struct buf *out, enum proxy_error id, const char *severity, const char *detail, va_list args)
{
	const struct proxy_error_info *info = proxy_error_info(id);
	char text[ERROR_TEXT_MAX];
	int len = vsnprintf(text, sizeof(text), info->message, args);

	atomic_fetch_add_explicit(&counts[id], 1, memory_order_relaxed);
	if (len < 0)
		text[0] = 0;
	else if ((size_t)len >= sizeof(text))
		trim_split_character(text, sizeof(text) - 1);
	if (strcmp(severity, "NOTICE") == 0)
		message_notice(out, severity, info->sqlstate, text, info->hint);
	else
		message_error(out, severity, info->sqlstate, text, detail, info->hint);
}

void error_message(struct buf *out, enum proxy_error id, const char *detail, ...)
{
	va_list args;

	va_start(args, detail);
	error_message_va(out, id, proxy_error_info(id)->severity, detail, args);
	va_end(args);
}

void error_message_as(struct buf *out, enum proxy_error id, const char *severity, const char *detail, ...)
{
	va_list args;

	va_start(args, detail);
	error_message_va(out, id, severity, detail, args);
	va_end(args);
}
