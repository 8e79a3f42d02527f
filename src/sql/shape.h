/*
 * A text's shape: the text with its numbers and plain strings left out, so that statements which differ in nothing else
 * are remembered as one. And the question that sharing a server connection asks: is a text a pure read?
 */
#ifndef SQL_SHAPE_H
#define SQL_SHAPE_H

#include "base/common.h"

/*
 * Writes the shape to out, which has room for text.len bytes. Returns its length. 0: the text has what is not folded
 * (comments, dollar quotes, escapes, no end to a quote): it is its own shape. Texts of one shape have the same tokens
 * but for the values of numbers and strings, and none of those strings is a SCAN_CLOCK_LITERAL if one of them is not.
 */
size_t shape_fold(struct slice text, uint8_t *out);

/*
 * One SELECT, VALUES or TABLE (with WITH or without) that takes no row locks, changes nothing, and calls no function
 * but those of pure_functions.def: to run it twice, or not at all, makes no difference to anybody, and it leaves
 * nothing on its server connection. It depends on the shape alone. What a view, an operator or a policy of rows calls
 * can't be seen here. False when in doubt.
 */
bool shape_is_pure_read(struct slice text);

#endif
