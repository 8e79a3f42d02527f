/* Reads a whole regular file of bounded size; devices and pipes, which may never end, are refused. */
#ifndef CONFIG_READ_FILE_H
#define CONFIG_READ_FILE_H

#include "base/buf.h"

#include <sys/types.h>

#define READ_FILE_MAX (16u << 20)

/* Appends to out. *ret_mode (may be NULL): its permissions. 0, -EFBIG, -EINVAL (not a regular file), -ENOMEM, or
 * -errno. */
int read_regular_file(const char *path, struct buf *out, mode_t *ret_mode) MUST_USE;
const char *read_file_error(int r); /* text for people */

#endif
