/* See normalize.h. */
#include "sql/normalize.h"

#include "sql/lexer.h"

struct writer {
	char *out;
	size_t len, size;
	bool cut;
};

static void put(struct writer *w, const void *bytes, size_t len)
{
	size_t room = w->size - 1 - w->len;

	if (len > room) {
		w->cut = true;
		len = room;
	}
	memcpy(w->out + w->len, bytes, len);
	w->len += len;
}

/* Not in the middle of a character. */
static void end_whole(struct writer *w)
{
	size_t start = w->len;

	while (w->cut && start > 0 && w->len - start < 4 && ((uint8_t)w->out[start - 1] & 0xc0) == 0x80)
		start--;
	if (w->cut && start > 0 && (uint8_t)w->out[start - 1] >= 0xc0)
		w->len = start - 1;
	w->out[w->len] = 0;
}

size_t sql_normalize(struct slice text, char *out, size_t size, bool *ret_cut)
{
	struct lexer lexer = {.text = text.bytes, .limit = (uint32_t)MIN(text.len, (size_t)UINT32_MAX - 1)};
	struct writer w = {.out = out, .size = size};
	uint32_t behind = 0;
	struct token t;

	for (lexer_next(&lexer, &t); t.code != TOKEN_END && !w.cut; lexer_next(&lexer, &t)) {
		if (t.begin > behind && w.len > 0)
			put(&w, " ", 1);
		if (t.code == TOKEN_STRING || t.code == TOKEN_NUMBER)
			put(&w, "?", 1);
		else
			put(&w, text.bytes + t.begin, t.end - t.begin);
		behind = t.end;
	}
	end_whole(&w);
	*ret_cut = w.cut;
	return w.len;
}
