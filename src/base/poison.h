/*
 * Tells AddressSanitizer which of our own pools' bytes nobody may touch.
 * Without it both do nothing.
 */
#ifndef BASE_POISON_H
#define BASE_POISON_H

#if defined(__SANITIZE_ADDRESS__)
#define HAVE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAVE_ASAN 1
#endif
#endif

#ifdef HAVE_ASAN
#include <sanitizer/asan_interface.h>
#ifdef __GNUC__
#if __has_attribute(access) /* or gcc takes them for readers of memory that is still empty */
void __asan_poison_memory_region(void const volatile *at, size_t len) __attribute__((access(none, 1)));
void __asan_unpoison_memory_region(void const volatile *at, size_t len) __attribute__((access(none, 1)));
#endif
#endif
#define poison(at, len)   __asan_poison_memory_region((at), (len))
#define unpoison(at, len) __asan_unpoison_memory_region((at), (len))
#else
#define poison(at, len)   ((void)(at), (void)(len))
#define unpoison(at, len) ((void)(at), (void)(len))
#endif

#endif
