/* See changes.h. */
#include "cluster/changes.h"

struct changes changes_told;

void changes_tell(void)
{
	atomic_fetch_add(&changes_told.number, 1);
}
