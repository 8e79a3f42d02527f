/* The reference page of the admin API's endpoints, as docs/reference/admin-api.md has it. */
#ifndef ADMIN_REFERENCE_H
#define ADMIN_REFERENCE_H

#include <stdio.h>

/* 0 or -ENOMEM. */
int admin_reference(FILE *out);

#endif
