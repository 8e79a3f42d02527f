/* In a build without io_uring. */
#include "loop/loop_priv.h"

static int refuse(struct loop *loop UNUSED)
{
	return -ENOTSUP;
}

const struct poll_ops uring_ops = {.name = "io_uring", .open = refuse};
