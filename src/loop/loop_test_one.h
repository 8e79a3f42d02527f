/* For the tests of which each has a loop of its own: setup and teardown. */
#ifndef LOOP_LOOP_TEST_ONE_H
#define LOOP_LOOP_TEST_ONE_H

#include "loop/loop_test_util.h"

static struct loop *loop;

static int begin(void **state UNUSED)
{
	loop = new_loop();
	return 0;
}

static int end(void **state UNUSED)
{
	loop_free(loop);
	return 0;
}

#endif
