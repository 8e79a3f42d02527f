/* Text of others, which may be no UTF-8. RFC 3629. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include "base/buf.h"

/* One character (what is none becomes U+FFFD); returns how many bytes of s, which is not empty, it was. */
size_t buf_add_character(struct buf *b, const char *s);
/* Bytes that are no UTF-8 become U+FFFD. */
void buf_add_utf8(struct buf *b, const char *s);

#endif
