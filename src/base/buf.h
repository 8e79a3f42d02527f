/*
 * A byte buffer that grows up to a limit it is born with.
 * Invariant: len <= cap <= max; bytes is NULL exactly when cap is 0.
 * Once an append has failed (limit or memory) `failed` stays set until buf_clear,
 * so that a caller may append many things and look once.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include "base/common.h"

struct buf {
	uint8_t *bytes;
	size_t len, cap, max;
	bool failed;
};

#define BUF_INIT(limit) ((struct buf){.max = (limit)})

void buf_init(struct buf *b, size_t max);
/* Frees the memory; the buffer can be used again. */
void buf_free(struct buf *b);
/* Keeps the memory. */
void buf_clear(struct buf *b);
/* Wipes the bytes before freeing them: for secrets. */
void buf_free_secret(struct buf *b);
/* Room for `more` bytes behind len; returns where, or NULL. Does not change len. */
uint8_t *buf_reserve(struct buf *b, size_t more);
void buf_add(struct buf *b, const void *bytes, size_t len);
void buf_add_str(struct buf *b, const char *s);
void buf_add_char(struct buf *b, char c);
void buf_printf(struct buf *b, const char *format, ...) PRINTF_LIKE(2, 3);
/* The content as a C string (a NUL is put behind it, not counted); "" when empty or out of memory. */
const char *buf_cstr(struct buf *b);

#endif
