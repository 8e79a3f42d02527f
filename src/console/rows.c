/* See rows.h. https://www.postgresql.org/docs/current/protocol-message-formats.html */
#include "console/rows.h"

#include "wire/message.h"

#include <inttypes.h>
#include <stdio.h>

static const struct {
	char type;
	uint32_t oid;
	int16_t size; /* -1: it varies */
} types[] = {{'s', 25, -1}, {'i', 23, 4}, {'q', 20, 8}, {'N', 1700, -1}, {'b', 17, -1}};

void rows_init(struct rows *rows, const struct column *columns, uint32_t count, uint32_t binary)
{
	assert(count <= COLUMNS_MAX);
	*rows = (struct rows){.out = BUF_INIT(ROWS_MAX), .columns = columns, .column_count = count, .binary = binary};
}

void rows_describe(struct rows *rows)
{
	size_t at = message_begin(&rows->out, 'T');

	message_u16(&rows->out, (uint16_t)rows->column_count);
	for (uint32_t i = 0; i < rows->column_count; i++) {
		size_t t = 0;

		while (types[t].type != rows->columns[i].type)
			t++;
		message_cstring(&rows->out, rows->columns[i].name);
		message_u32(&rows->out, 0); /* of no table */
		message_u16(&rows->out, 0); /* nor column */
		message_u32(&rows->out, types[t].oid);
		message_u16(&rows->out, (uint16_t)types[t].size);
		message_u32(&rows->out, (uint32_t)-1); /* no type modifier */
		message_u16(&rows->out, (uint16_t)(rows->binary >> i & 1));
	}
	message_end(&rows->out, at);
}

void row_begin(struct rows *rows)
{
	rows->row = message_begin(&rows->out, 'D');
	message_u16(&rows->out, (uint16_t)rows->column_count);
	rows->at = 0;
}

void row_end(struct rows *rows)
{
	assert(rows->at == rows->column_count);
	message_end(&rows->out, rows->row);
}

void row_null(struct rows *rows)
{
	message_u32(&rows->out, (uint32_t)-1);
	rows->at++;
}

static void put_bytes(struct rows *rows, const void *bytes, size_t len)
{
	message_u32(&rows->out, (uint32_t)len);
	buf_add(&rows->out, bytes, len);
	rows->at++;
}

void row_text(struct rows *rows, const char *text)
{
	assert(rows->columns[rows->at].type == 's' || rows->columns[rows->at].type == 'b');
	if (text)
		put_bytes(rows, text, strlen(text));
	else
		row_null(rows);
}

/* Digits to the base of 10000, the most significant first; trailing zeros are left out, as numeric_send() does. */
static void put_numeric(struct rows *rows, uint64_t number)
{
	uint16_t digits[6];
	uint32_t first = ARRAY_SIZE(digits), count, shown;

	for (uint64_t left = number; left > 0; left /= 10000)
		digits[--first] = (uint16_t)(left % 10000);
	count = shown = (uint32_t)ARRAY_SIZE(digits) - first;
	while (shown > 0 && digits[first + shown - 1] == 0)
		shown--;
	message_u32(&rows->out, 8 + 2 * shown);
	message_u16(&rows->out, (uint16_t)shown);
	message_u16(&rows->out, (uint16_t)(count ? count - 1 : 0)); /* weight of the first */
	message_u16(&rows->out, 0);                                 /* positive */
	message_u16(&rows->out, 0);                                 /* digits behind the point */
	for (uint32_t i = 0; i < shown; i++)
		message_u16(&rows->out, digits[first + i]);
	rows->at++;
}

static void put_binary(struct rows *rows, char type, uint64_t number)
{
	uint8_t bytes[8];

	if (type == 'N') {
		put_numeric(rows, number);
		return;
	}
	put_be32(bytes, (uint32_t)(number >> 32));
	put_be32(bytes + 4, (uint32_t)number);
	put_bytes(rows, type == 'i' ? bytes + 4 : bytes, type == 'i' ? 4 : 8);
}

void row_number(struct rows *rows, uint64_t number)
{
	char type = rows->columns[rows->at].type, text[24];

	assert(type == 'i' || type == 'q' || type == 'N');
	if (type == 'i')
		number = MIN(number, (uint64_t)INT32_MAX);
	else if (type == 'q')
		number = MIN(number, (uint64_t)INT64_MAX);
	if (rows->binary >> rows->at & 1) {
		put_binary(rows, type, number);
		return;
	}
	put_bytes(rows, text, (size_t)snprintf(text, sizeof(text), "%" PRIu64, number));
}
