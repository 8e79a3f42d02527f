/* All stages of this build, in their order. */
#ifndef STAGES_PIPELINE_H
#define STAGES_PIPELINE_H

#include "stage/stage.h"

extern const struct stage *const all_stages[]; /* NULL at the end */

#endif
