/* See pipeline.h. */
#include "stages/pipeline.h"

#define STAGE(name) extern const struct stage stage_##name;
#include "pipeline.gen.h"
#undef STAGE

const struct stage *const all_stages[] = {
#define STAGE(name) &stage_##name,
#include "pipeline.gen.h"
#undef STAGE
	NULL,
};
