/*
 * A query's text for people and for counting: literals are `?`, comments are gone, white space is one blank. Two texts
 * that differ in those only are alike. Words keep their case; parameters ($1) stay.
 */
#ifndef SQL_NORMALIZE_H
#define SQL_NORMALIZE_H

#include "base/common.h"

/* Writes at most size - 1 bytes (whole characters of UTF-8) and a NUL; size > 0. Returns the length; *ret_cut: there
 * was more. Any bytes are fine. */
size_t sql_normalize(struct slice text, char *out, size_t size, bool *ret_cut);

#endif
