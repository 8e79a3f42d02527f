/* See command.h. */
#include "console/command.h"

#include <stdio.h>
#include <strings.h>

enum argument { NONE, OPTIONAL, NEEDED, ANYTHING /* is not looked at */ };

static const struct verb {
	const char *word;
	enum command_verb verb;
	enum argument argument;
	const char *tag;
} verbs[] = {
	{"show", COMMAND_SHOW, NEEDED, "SHOW"},
	{"pause", COMMAND_PAUSE, OPTIONAL, "PAUSE"},
	{"resume", COMMAND_RESUME, OPTIONAL, "RESUME"},
	{"wait_close", COMMAND_WAIT_CLOSE, OPTIONAL, "WAIT_CLOSE"},
	{"reconnect", COMMAND_RECONNECT, OPTIONAL, "RECONNECT"},
	{"disable", COMMAND_DISABLE, NEEDED, "DISABLE"},
	{"enable", COMMAND_ENABLE, NEEDED, "ENABLE"},
	{"kill", COMMAND_KILL, OPTIONAL, "KILL"},
	{"kill_client", COMMAND_KILL_CLIENT, NEEDED, "KILL_CLIENT"},
	{"reload", COMMAND_RELOAD, NONE, "RELOAD"},
	{"suspend", COMMAND_SUSPEND, NONE, "SUSPEND"},
	{"shutdown", COMMAND_SHUTDOWN, OPTIONAL, "SHUTDOWN"},
	{"begin", COMMAND_BEGIN, ANYTHING, "BEGIN"},
	{"start", COMMAND_BEGIN, ANYTHING, "START TRANSACTION"},
	{"commit", COMMAND_COMMIT, ANYTHING, "COMMIT"},
	{"end", COMMAND_COMMIT, ANYTHING, "COMMIT"},
	{"rollback", COMMAND_ROLLBACK, ANYTHING, "ROLLBACK"},
	{"abort", COMMAND_ROLLBACK, ANYTHING, "ROLLBACK"},
	{"reset", COMMAND_IDLE, ANYTHING, "RESET"},
	{"discard", COMMAND_IDLE, ANYTHING, "DISCARD ALL"},
	{"deallocate", COMMAND_IDLE, ANYTHING, "DEALLOCATE"},
	{"close", COMMAND_IDLE, ANYTHING, "CLOSE CURSOR"},
	{"unlisten", COMMAND_IDLE, ANYTHING, "UNLISTEN"},
};

/* ---- words ---- */

struct scan {
	const uint8_t *at, *end;
};

static bool looks_at(const struct scan *s, const char *two)
{
	return s->end - s->at >= 2 && memcmp(s->at, two, 2) == 0;
}

static void skip_blanks(struct scan *s)
{
	for (;;) {
		if (s->at < s->end && *s->at && strchr(" \t\r\n\f\v", *s->at)) {
			s->at++;
		} else if (looks_at(s, "--")) {
			while (s->at < s->end && *s->at != '\n')
				s->at++;
		} else if (looks_at(s, "/*")) {
			const uint8_t *close = memmem(s->at + 2, (size_t)(s->end - s->at - 2), "*/", 2);

			if (!close) /* an error: nothing that is read next may begin so */
				return;
			s->at = close + 2;
		} else {
			return;
		}
	}
}

static bool is_word_char(uint8_t c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* What stands in quotes; a doubled one is itself. */
static int read_quoted(struct scan *s, char *word, size_t size)
{
	uint8_t quote = *s->at++;
	size_t len = 0;

	for (; s->at < s->end; s->at++) {
		if (*s->at == quote && (++s->at == s->end || *s->at != quote)) {
			word[len] = 0;
			return 0;
		}
		if (*s->at == 0)
			return -EINVAL;
		if (len + 1 == size)
			return -E2BIG;
		word[len++] = (char)*s->at;
	}
	return -EINVAL;
}

/* 0; -ENOENT: there is none; -EINVAL, -E2BIG. quote: 0, or what a value may stand in besides double ones. */
static int read_word(struct scan *s, char *word, size_t size, char quote)
{
	size_t len = 0;

	skip_blanks(s);
	if (s->at < s->end && (*s->at == '"' || (quote && *s->at == (uint8_t)quote)))
		return read_quoted(s, word, size);
	for (; s->at < s->end && is_word_char(*s->at); s->at++) {
		if (len + 1 == size)
			return -E2BIG;
		word[len++] = (char)*s->at;
	}
	word[len] = 0;
	return len ? 0 : -ENOENT;
}

static bool is_over(struct scan *s)
{
	skip_blanks(s);
	if (s->at < s->end && *s->at == ';') {
		s->at++;
		skip_blanks(s);
	}
	return s->at == s->end;
}

/* ---- commands ---- */

static int read_set(struct scan *s, struct command *c)
{
	char to[4];
	int r = read_word(s, c->name, sizeof(c->name), 0);

	c->verb = COMMAND_SET;
	snprintf(c->tag, sizeof(c->tag), "SET");
	if (r < 0)
		return r == -ENOENT ? -EINVAL : r;
	skip_blanks(s);
	if (s->at < s->end && *s->at == '=')
		s->at++;
	else if (read_word(s, to, sizeof(to), 0) < 0 || strcasecmp(to, "to") != 0)
		return -EINVAL;
	r = read_word(s, c->value, sizeof(c->value), '\'');
	if (r == 0 && !is_over(s))
		r = -EINVAL;
	return r == -ENOENT ? -EINVAL : r;
}

/* SELECT 1; and, as PgBouncer has it, SELECT pools for SHOW pools. */
static int read_select(struct scan *s, struct command *c)
{
	int r = read_word(s, c->name, sizeof(c->name), 0);

	if (r < 0 || !is_over(s))
		return r == -E2BIG ? r : -EINVAL;
	c->verb = strcmp(c->name, "1") == 0 ? COMMAND_SELECT_ONE : COMMAND_SHOW;
	snprintf(c->tag, sizeof(c->tag), "%s", c->verb == COMMAND_SHOW ? "SHOW" : "SELECT 1");
	return 0;
}

static int read_argument(struct scan *s, struct command *c, enum argument argument)
{
	int r;

	if (argument == ANYTHING) {
		s->at = s->end;
		return 0;
	}
	r = read_word(s, c->name, sizeof(c->name), 0);
	if (r == -ENOENT && argument != NEEDED)
		r = 0;
	if (r == 0 && *c->name && argument == NONE)
		r = -EINVAL;
	if (r == 0 && !is_over(s))
		r = -EINVAL;
	return r == -ENOENT ? -EINVAL : r;
}

int command_read(struct slice text, struct command *ret)
{
	struct scan s = {text.bytes, text.bytes + text.len};
	char word[COMMAND_NAME_MAX];
	int r;

	*ret = (struct command){0};
	if (text.len == 0 || is_over(&s))
		return 0;
	r = read_word(&s, word, sizeof(word), 0);
	if (r < 0)
		return r == -E2BIG ? r : -EINVAL;
	if (strcasecmp(word, "set") == 0)
		return read_set(&s, ret);
	if (strcasecmp(word, "select") == 0)
		return read_select(&s, ret);
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		if (strcasecmp(word, verbs[i].word) != 0)
			continue;
		ret->verb = verbs[i].verb;
		snprintf(ret->tag, sizeof(ret->tag), "%.*s", (int)sizeof(ret->tag) - 1, verbs[i].tag);
		return read_argument(&s, ret, verbs[i].argument);
	}
	return -EINVAL;
}
