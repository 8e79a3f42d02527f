/*
 * A query's text without what differs from call to call, for people and for counting. The same text stands in the slow
 * log, in spans and in query statistics, so what is found in one of them can be looked for in the others.
 *
 *   literals      strings of every kind, numbers with their sign, and parameters ($1) are `?`: a prepared statement and
 *                 the same one with its values written out are one. So are NULL, TRUE and FALSE behind a symbol, as in
 *                 `= true` or `(1, null)`, but not in `IS NULL`, NOT NULL, SET NULL
 *   IN, ARRAY[]   elements that are alike and hold a literal are written once, whatever their number, one included:
 *                 `in (?, ...)`, `array[?::int, ...]`, `in ((?, ?), ...)`
 *   VALUES        two rows or more that are alike: `values (?, now()), ...`. One row is another text: to insert one at
 *                 a time is another thing than to insert a thousand
 *   words         lower case (a to z), but for "quoted" ones
 *   white space   none, or one blank, which depends on the tokens alone: `a=1` and `a = 1` are one. Comments are gone,
 *                 and so is a ; at the end
 *
 * Pure; any bytes are fine, a NUL ends the text. A function of the tokens' kinds, so texts of one shape (shape.h) have
 * one normalized text.
 */
#ifndef SQL_NORMALIZE_H
#define SQL_NORMALIZE_H

#include "base/common.h"

struct sql_normalized {
	size_t len;           /* of what was written, without the NUL */
	bool cut;             /* there was more */
	uint64_t fingerprint; /* of the whole normalized text, whatever was written: its FNV-1a hash of 64 bits. It's
			       * the same on every machine, and stays what it is as long as the text does */
};

/*
 * Writes at most size - 1 bytes (whole characters of UTF-8) and a NUL; size > 0. standard_conforming_strings: as the
 * session has it; read with the wrong one, what is behind a backslash may be taken for words.
 */
void sql_normalize(struct slice text, bool standard_conforming_strings, char *out, size_t size,
		   struct sql_normalized *ret);

#endif
