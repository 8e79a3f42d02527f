/*
 * Texts that others chose (names, queries, log lines), on a terminal: none of them may move the cursor, change colours,
 * or turn the line around. Pure.
 */
#ifndef CLIENT_TEXT_H
#define CLIENT_TEXT_H

#include "base/buf.h"

/*
 * Adds the text as one that is safe to print: valid UTF-8, a blank for a line break or a tab, and ? for whatever else
 * does not print (control characters, directions, what has no width). With unicode false all that is not ASCII
 * becomes ?.
 */
void buf_add_clean(struct buf *b, const char *text, size_t len, bool unicode);
/* Columns that a clean text takes. */
size_t text_width(const char *text);
/* Adds as much of a clean text as fits, the last column a ~ if something is missing; then blanks up to the width. */
void buf_add_column(struct buf *b, const char *text, size_t width, bool to_the_right);
/* How many columns has this character? -1: it must not be printed. */
int char_width(uint32_t c);
/* 0 at the end; U+FFFD for what is no UTF-8. Moves *at. */
uint32_t utf8_next(const char **at, const char *end);

#endif
