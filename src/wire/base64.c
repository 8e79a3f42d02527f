/*
 * Base64 of RFC 4648, strict: whole groups of four, padding only at the end, no white space.
 * Secrets pass here (proofs, keys), but none whose bytes an attacker could time: they are checked as a whole later.
 */
#include "wire/scram_priv.h"

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_add(struct buf *out, const void *bytes, size_t len)
{
	const uint8_t *in = bytes;

	for (size_t i = 0; i < len; i += 3) {
		size_t have = MIN(len - i, (size_t)3);
		uint32_t group = (uint32_t)in[i] << 16;
		char text[4] = {0, 0, '=', '='};

		if (have > 1)
			group |= (uint32_t)in[i + 1] << 8;
		if (have > 2)
			group |= in[i + 2];
		for (size_t k = 0; k <= have; k++)
			text[k] = digits[group >> (18 - 6 * k) & 63];
		buf_add(out, text, sizeof(text));
	}
}

static int digit_value(uint8_t c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

int base64_decode(struct slice text, uint8_t *out, size_t size)
{
	size_t padding = 0, len;
	uint32_t group = 0;

	if (text.len % 4 != 0 || text.len > INT32_MAX)
		return -EINVAL;
	while (padding < 2 && padding < text.len && text.bytes[text.len - 1 - padding] == '=')
		padding++;
	len = text.len / 4 * 3 - padding;
	if (len > size)
		return -EINVAL;
	for (size_t i = 0; i < text.len; i++) {
		int value = i < text.len - padding ? digit_value(text.bytes[i]) : 0;

		if (value < 0)
			return -EINVAL;
		group = group << 6 | (uint32_t)value;
		if (i % 4 != 3)
			continue;
		for (size_t k = 0; k < 3 && i / 4 * 3 + k < len; k++)
			out[i / 4 * 3 + k] = (uint8_t)(group >> (16 - 8 * k));
		group = 0;
	}
	return (int)len;
}
