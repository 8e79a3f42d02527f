/* See substitute.h. */
#include "config/substitute.h"

#define NAME_LENGTH_MAX 255u

struct variable {
	char name[NAME_LENGTH_MAX + 1];
	const char *value;      /* of the default; NULL: there is none */
	size_t value_len, size; /* size: of the whole ${...} */
};

static bool is_name_start(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
}

static bool is_name_char(char c)
{
	return is_name_start(c) || (c >= '0' && c <= '9');
}

/* text begins with "${"; end is that of the line. */
static bool read_variable(const char *text, const char *end, struct variable *ret)
{
	const char *at = text + 2, *name = at, *close;

	if (at >= end || !is_name_start(*at))
		return false;
	while (at < end && is_name_char(*at))
		at++;
	if ((size_t)(at - name) > NAME_LENGTH_MAX)
		return false;
	memcpy(ret->name, name, (size_t)(at - name));
	ret->name[at - name] = 0;
	ret->value = NULL;
	ret->value_len = 0;
	if (at < end && *at == '}') {
		ret->size = (size_t)(at + 1 - text);
		return true;
	}
	if (end - at < 2 || at[0] != ':' || at[1] != '-')
		return false;
	at += 2;
	close = memchr(at, '}', (size_t)(end - at));
	if (!close)
		return false;
	ret->value = at;
	ret->value_len = (size_t)(close - at);
	ret->size = (size_t)(close + 1 - text);
	return true;
}

static bool is_comment(const char *line, const char *end)
{
	while (line < end && (*line == ' ' || *line == '\t'))
		line++;
	return line < end && *line == '#';
}

/* One line without its end. Returns whether the environment gave something. */
static bool substitute_line(const char *line, const char *end, const char *file, uint32_t number, struct buf *out,
			    struct config_report *report, bool *missing)
{
	bool used = false;

	for (const char *at = line; at < end;) {
		const char *dollar = memchr(at, '$', (size_t)(end - at));
		struct variable v;

		if (!dollar || end - dollar < 2)
			dollar = end;
		buf_add(out, at, (size_t)(dollar - at));
		at = dollar;
		if (at == end)
			break;
		if (at[1] != '{' || !read_variable(at, end, &v)) {
			buf_add_char(out, *at++);
			continue;
		}
		const char *value = getenv(v.name);

		if (value) {
			buf_add_str(out, value);
			used = true;
		} else if (v.value) {
			buf_add(out, v.value, v.value_len);
		} else {
			report_add(report, REPORT_ERROR, file, number, (uint32_t)(at - line) + 1,
				   "the environment has no %s; set it, or write ${%s:-default}", v.name, v.name);
			*missing = true;
		}
		at += v.size;
	}
	return used;
}

/* The lines that out has gained since `from` all come from one old line. */
static int map_lines(struct buf *map, const struct buf *out, size_t from, uint32_t line)
{
	for (size_t i = from; i < out->len; i++)
		if (out->bytes[i] == '\n')
			buf_add(map, &line, sizeof(line));
	return map->failed ? -ENOMEM : 0;
}

int substitute(const char *text, size_t len, const char *file, struct buf *out, struct arena *arena,
	       struct line_map *ret_map, struct config_report *report)
{
	struct buf map = BUF_INIT(SIZE_MAX / 2);
	const char *end = text + len;
	bool missing = false;
	uint32_t number = 1, last;
	int r = 0;

	for (const char *line = text; line < end && r == 0; number++) {
		const char *newline = memchr(line, '\n', (size_t)(end - line));
		const char *line_end = newline ? newline : end;
		size_t from = out->len;
		uint32_t mark = 0;

		if (is_comment(line, line_end))
			buf_add(out, line, (size_t)(line_end - line));
		else if (substitute_line(line, line_end, file, number, out, report, &missing))
			mark = LINE_SUBSTITUTED;
		if (newline)
			buf_add_char(out, '\n');
		last = number | mark;
		r = map_lines(&map, out, from, last);
		if (r == 0 && !newline)
			buf_add(&map, &last, sizeof(last));
		line = line_end + (newline ? 1 : 0);
	}
	if (r == 0 && out->failed)
		r = out->len >= out->max / 2 ? -E2BIG : -ENOMEM;
	if (r == 0 && map.failed)
		r = -ENOMEM;
	if (r == 0) {
		ret_map->count = (uint32_t)(map.len / sizeof(uint32_t));
		ret_map->lines = arena_alloc(arena, MAX(map.len, 1u));
		if (!ret_map->lines)
			r = -ENOMEM;
		else if (map.len)
			memcpy(ret_map->lines, map.bytes, map.len);
	}
	buf_free(&map);
	if (r == 0 && missing)
		r = -EINVAL;
	return r;
}

uint32_t line_map_get(const struct line_map *map, uint32_t line)
{
	if (line == 0 || map->count == 0)
		return line;
	return map->lines[MIN(line, map->count) - 1] & ~LINE_SUBSTITUTED;
}

bool line_map_is_substituted(const struct line_map *map, uint32_t line)
{
	return line != 0 && line <= map->count && (map->lines[line - 1] & LINE_SUBSTITUTED);
}
