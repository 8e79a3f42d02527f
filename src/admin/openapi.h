/* The description of the versioned API (OpenAPI 3.1, JSON), made at build time from src/admin/openapi/. */
#ifndef ADMIN_OPENAPI_H
#define ADMIN_OPENAPI_H

#include <stddef.h>

extern const unsigned char openapi_document[];
extern const size_t openapi_len;

#endif
