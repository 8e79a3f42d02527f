/* gzip for what is sent to others: a thin wrapper of zlib. */
#ifndef SERVICES_GZIP_H
#define SERVICES_GZIP_H

#include "base/buf.h"

/* The bytes packed, behind what `to` has. 0 or -ENOMEM; then `to` is as before. */
int gzip_pack(struct slice bytes, struct buf *to) MUST_USE;

#endif
