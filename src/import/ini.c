/* See ini.h. */
#include "import/ini.h"

#include <ctype.h>
#include <stdio.h>

struct walk {
	const struct ini_events *events;
	size_t bytes;
	uint32_t includes;
};

struct text {
	const char *at, *end;
	struct ini_place place; /* of at */
	uint32_t depth;
};

static int walk_text(struct walk *w, const char *bytes, size_t len, const char *name, uint32_t depth);

static int complain(const struct walk *w, const struct text *t, const char *why)
{
	return w->events->syntax_error(w->events->argument, why, t->place);
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static void skip_blanks(struct text *t)
{
	while (t->at < t->end && is_blank(*t->at))
		t->at++;
}

static void skip_space(struct text *t)
{
	for (; t->at < t->end && isspace((unsigned char)*t->at); t->at++)
		t->place.line += *t->at == '\n';
}

/* The rest of the line without blanks at its ends; malloc'd. */
static char *take_line(struct text *t)
{
	const char *from, *to;

	skip_blanks(t);
	from = t->at;
	while (t->at < t->end && *t->at != '\n')
		t->at++;
	to = t->at;
	while (to > from && isspace((unsigned char)to[-1]))
		to--;
	return strndup(from, (size_t)(to - from));
}

static bool is_key_char(char c)
{
	return isalnum((unsigned char)c) || (c && strchr("_.-*", c));
}

/* NULL: there is none. "" never. */
static char *take_key(struct text *t)
{
	char quote = *t->at;
	const char *from = t->at, *to;

	if (quote == '\'' || quote == '"') {
		from = ++t->at;
		while (t->at < t->end && *t->at != quote && *t->at != '\n')
			t->at++;
		if (t->at == t->end || *t->at != quote)
			return NULL;
		to = t->at++;
	} else {
		while (t->at < t->end && is_key_char(*t->at))
			t->at++;
		to = t->at;
	}
	return to > from ? strndup(from, (size_t)(to - from)) : NULL;
}

/* Overlong forms and surrogates are not UTF-8. */
static bool is_utf8(const char *text)
{
	const uint8_t *at = (const uint8_t *)text;

	while (*at) {
		size_t more = *at < 0x80 ? 0 : *at < 0xc2 ? 4 : *at < 0xe0 ? 1 : *at < 0xf0 ? 2 : *at < 0xf5 ? 3 : 4;
		uint8_t first = *at, second = more ? at[1] : 0;

		if (more == 4 || (first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) ||
		    (first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f))
			return false;
		for (at++; more > 0; more--, at++)
			if ((*at & 0xc0) != 0x80)
				return false;
	}
	return true;
}

static int walk_section(const struct walk *w, struct text *t)
{
	const char *from = ++t->at;
	char *name;
	int r;

	while (t->at < t->end && *t->at != ']' && *t->at != '\n')
		t->at++;
	if (t->at == t->end || *t->at != ']')
		return complain(w, t, "a section has no ]");
	name = strndup(from, (size_t)(t->at - from));
	t->at++;
	r = name ? w->events->section(w->events->argument, name, t->place) : -ENOMEM;
	free(name);
	return r;
}

static int walk_value(const struct walk *w, struct text *t)
{
	char *key = take_key(t), *value = NULL;
	int r;

	if (!key)
		return complain(w, t, "this is neither a section, nor a comment, nor key = value");
	skip_blanks(t);
	if (t->at == t->end || *t->at != '=') {
		r = complain(w, t,
			     "there is no = behind the key; one with other characters than letters, digits and "
			     "_.-* stands in quotes");
		goto out;
	}
	t->at++;
	value = take_line(t);
	if (!value)
		r = -ENOMEM;
	else if (!is_utf8(key) || !is_utf8(value))
		r = complain(w, t, "this is not UTF-8");
	else
		r = w->events->value(w->events->argument, key, value, t->place);
out:
	free(key);
	free(value);
	return r;
}

static int walk_include(struct walk *w, struct text *t)
{
	struct buf text = BUF_INIT(INI_BYTES_MAX);
	char *path = take_line(t);
	int r;

	if (!path)
		return -ENOMEM;
	if (t->depth >= INI_DEPTH_MAX || ++w->includes > INI_INCLUDES_MAX) {
		r = complain(w, t, "too many files include each other");
		goto out;
	}
	r = w->events->read(w->events->argument, path, t->place.file, &text);
	if (r < 0) {
		char why[200];

		snprintf(why, sizeof(why), "cannot read %.100s: %s", path, strerror(-r));
		r = complain(w, t, why);
		goto out;
	}
	r = walk_text(w, (const char *)text.bytes, text.len, path, t->depth + 1);
out:
	buf_free_secret(&text);
	free(path);
	return r;
}

static bool is_include(const struct text *t)
{
	return t->end - t->at > 8 && memcmp(t->at, "%include", 8) == 0 && is_blank(t->at[8]);
}

static int walk_text(struct walk *w, const char *bytes, size_t len, const char *name, uint32_t depth)
{
	struct text t = {bytes, bytes + len, {name, 1}, depth};
	int r = 0;

	w->bytes += len;
	if (w->bytes > INI_BYTES_MAX)
		return complain(w, &t, "this is larger than 16 MB");
	if (len && memchr(bytes, 0, len))
		return complain(w, &t, "there is a NUL character in it");
	while (r == 0) {
		skip_space(&t);
		if (t.at == t.end)
			break;
		if (*t.at == ';' || *t.at == '#') {
			while (t.at < t.end && *t.at != '\n')
				t.at++;
		} else if (*t.at == '[') {
			r = walk_section(w, &t);
		} else if (is_include(&t)) {
			t.at += 8;
			r = walk_include(w, &t);
		} else {
			r = walk_value(w, &t);
		}
	}
	return r;
}

int ini_walk(const struct ini_events *events, const char *text, size_t len, const char *name)
{
	struct walk w = {.events = events};

	return walk_text(&w, text, len, name, 0);
}
