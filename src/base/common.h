/*
 * Small things that every file uses. Knows no socket and no PostgreSQL.
 */
#ifndef BASE_COMMON_H
#define BASE_COMMON_H

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ARRAY_SIZE(a)                   (sizeof(a) / sizeof((a)[0]))
#define BIT(n)                          (1u << (n))
#define MIN(a, b)                       ((a) < (b) ? (a) : (b))
#define MAX(a, b)                       ((a) > (b) ? (a) : (b))
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define likely(x)                       __builtin_expect(!!(x), 1)
#define unlikely(x)                     __builtin_expect(!!(x), 0)
#define NEVER_INLINE                    __attribute__((noinline)) /* keeps the way beside it short */

#define MUST_USE               __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define UNUSED                 __attribute__((unused))
#define FALLTHROUGH            __attribute__((fallthrough))

/* Bytes that somebody else owns. Not NUL-terminated. */
struct slice {
	const uint8_t *bytes;
	size_t len;
};

#define SLICE_LITERAL(s) ((struct slice){(const uint8_t *)(s), sizeof(s) - 1})

static inline struct slice slice_make(const void *bytes, size_t len)
{
	return (struct slice){bytes, len};
}

static inline struct slice slice_str(const char *s)
{
	return (struct slice){(const uint8_t *)s, s ? strlen(s) : 0};
}

static inline bool slice_equal(struct slice a, struct slice b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.bytes, b.bytes, a.len) == 0);
}

/* Numbers in network byte order, at any address. */
static inline uint32_t get_be32(const void *from)
{
	uint32_t v;
	memcpy(&v, from, sizeof(v));
	return __builtin_bswap32(v);
}

static inline uint16_t get_be16(const void *from)
{
	uint16_t v;
	memcpy(&v, from, sizeof(v));
	return __builtin_bswap16(v);
}

static inline void put_be32(void *to, uint32_t v)
{
	v = __builtin_bswap32(v);
	memcpy(to, &v, sizeof(v));
}

static inline void put_be16(void *to, uint16_t v)
{
	v = __builtin_bswap16(v);
	memcpy(to, &v, sizeof(v));
}

#endif
