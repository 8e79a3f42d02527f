/*
 * A result of the console: columns with PgBouncer's names and types, and rows of them, in text or binary format as each
 * column's reader asked for. Values are put in the order of the columns.
 */
#ifndef CONSOLE_ROWS_H
#define CONSOLE_ROWS_H

#include "base/buf.h"

#define COLUMNS_MAX 32u /* a bit each in rows.binary */

struct column {
	const char *name;
	char type; /* 's' text, 'i' int4, 'q' int8, 'N' numeric (a whole number here), 'b' bytea */
};

struct rows {
	struct buf out;
	const struct column *columns;
	uint32_t column_count, binary;
	uint32_t at; /* the next value's column */
	size_t row;  /* where its message begins */
};

#define ROWS_MAX (64u << 20) /* bytes, at once */

void rows_init(struct rows *rows, const struct column *columns, uint32_t count, uint32_t binary);
/* RowDescription. */
void rows_describe(struct rows *rows);
void row_begin(struct rows *rows);
void row_text(struct rows *rows, const char *text);  /* NULL: null */
void row_number(struct rows *rows, uint64_t number); /* more than the type holds: its greatest */
void row_null(struct rows *rows);
void row_end(struct rows *rows); /* all columns have values */

#endif
