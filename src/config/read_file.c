/* See read_file.h. */
#include "config/read_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define STEP 65536u

static int read_all(int fd, struct buf *out)
{
	for (;;) {
		uint8_t *at = buf_reserve(out, MIN(STEP, out->max - out->len));
		ssize_t n;

		if (!at)
			return -ENOMEM;
		do
			n = read(fd, at, MIN(STEP, out->max - out->len));
		while (n < 0 && errno == EINTR);
		if (n < 0)
			return -errno;
		if (n == 0)
			return 0;
		out->len += (size_t)n;
		if (out->len >= out->max)
			return -EFBIG;
	}
}

int read_regular_file(const char *path, struct buf *out, mode_t *ret_mode)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), r = 0;
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		r = -errno;
	else if (!S_ISREG(st.st_mode))
		r = S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	else
		r = read_all(fd, out);
	if (r == 0 && ret_mode)
		*ret_mode = st.st_mode & 07777;
	close(fd);
	return r;
}

const char *read_file_error(int r)
{
	switch (r) {
	case -EFBIG:
		return "the file is larger than 16 MB";
	case -EINVAL:
		return "this is not a regular file";
	default:
		return strerror(-r);
	}
}
