/* See command.h. */
#include "console/command.h"

#include "base/buf.h"

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

/* These are followed by NODE; ENABLE and DISABLE by a database as well. */
static const struct node_verb {
	const char *word;
	enum node_operation operation;
	const char *tag;
	bool forced; /* it takes FORCE */
} node_verbs[] = {
	{"add", OPERATION_ADD, "ADD NODE", false},          {"remove", OPERATION_REMOVE, "REMOVE NODE", true},
	{"enable", OPERATION_ENABLE, "ENABLE NODE", false}, {"disable", OPERATION_DISABLE, "DISABLE NODE", true},
	{"drain", OPERATION_DRAIN, "DRAIN NODE", true},     {"undrain", OPERATION_UNDRAIN, "UNDRAIN NODE", false},
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

/* Whatever stands there up to the next blank, for hosts and ports, and keys with a dot, need no quotes. */
static int read_bare(struct scan *s, char *word, size_t size, bool *ret_quoted)
{
	size_t len = 0;

	skip_blanks(s);
	*ret_quoted = s->at < s->end && (*s->at == '"' || *s->at == '\'');
	if (*ret_quoted)
		return read_quoted(s, word, size);
	for (; s->at<s->end && * s->at> ' ' && !strchr(";=\"'", *s->at); s->at++) {
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
	bool quoted;
	int r = read_bare(s, c->name, sizeof(c->name), &quoted);

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

/* ---- nodes ---- */

static bool is_number(const char *word)
{
	return *word && strspn(word, "0123456789") == strlen(word);
}

static void add_json(struct buf *json, const char *key, const char *word, bool raw)
{
	const char *quote = raw ? "" : "\"";

	buf_printf(json, "%s\"%s\":%s%s%s", json->len > 1 ? "," : "", key, quote, word, quote);
}

/* What would not be itself in JSON is in no name of ours. */
static bool is_plain(const char *word)
{
	for (; *word; word++)
		if ((unsigned char)*word < ' ' || *word == '"' || *word == '\\')
			return false;
	return true;
}

/* host, host:port, [address]:port */
static void add_address(struct buf *json, char *address)
{
	char *colon = strrchr(address, ':'), *close = strrchr(address, ']');

	if (colon && (close ? colon == close + 1 : strchr(address, ':') == colon) && is_number(colon + 1)) {
		*colon = 0;
		add_json(json, "port", colon + 1, /* raw= */ true);
	}
	if (close && *address == '[') {
		*close = 0;
		address++;
	}
	add_json(json, "host", address, /* raw= */ false);
}

static int read_option(struct scan *s, struct buf *json)
{
	char key[COMMAND_NAME_MAX], value[MEMBER_HOST_MAX];
	bool quoted;
	int r = read_word(s, key, sizeof(key), 0);

	if (r < 0)
		return r;
	skip_blanks(s);
	if (s->at == s->end || *s->at++ != '=')
		return -EINVAL;
	r = read_bare(s, value, sizeof(value), &quoted);
	if (r < 0)
		return r;
	if (!is_plain(key) || !is_plain(value))
		return -EINVAL;
	add_json(json, key, value,
		 !quoted && (is_number(value) || strcmp(value, "true") == 0 || strcmp(value, "false") == 0));
	return 0;
}

/* The node as cluster/members_state.h reads it, which also says what is wrong with it. */
static int read_new_node(struct scan *s, struct command *c)
{
	char address[MEMBER_HOST_MAX + 8];
	struct buf json = BUF_INIT(COMMAND_VALUE_MAX);
	bool quoted;
	int r = read_bare(s, address, sizeof(address), &quoted);

	if (r < 0)
		return r;
	if (!is_plain(address))
		return -EINVAL;
	buf_add_str(&json, "{");
	add_address(&json, address);
	while (r == 0 && !is_over(s))
		r = read_option(s, &json);
	buf_add_str(&json, "}");
	if (r == 0 && (json.failed || json.len >= sizeof(c->value)))
		r = -E2BIG;
	if (r == 0)
		snprintf(c->value, sizeof(c->value), "%s", buf_cstr(&json));
	buf_free(&json);
	return r;
}

static int read_named_node(struct scan *s, struct command *c, bool forced)
{
	char force[COMMAND_NAME_MAX];
	bool quoted;
	int r = read_bare(s, c->value, MEMBER_HOST_MAX + 8, &quoted);

	if (r == 0 && forced && read_word(s, force, sizeof(force), 0) == 0) {
		c->force = true;
		r = strcasecmp(force, "force") == 0 ? 0 : -EINVAL;
	}
	return r == 0 && !is_over(s) ? -EINVAL : r;
}

static int read_node(struct scan *s, struct command *c, const struct node_verb *verb)
{
	int r = verb->operation == OPERATION_ADD ? read_new_node(s, c) : read_named_node(s, c, verb->forced);

	c->verb = COMMAND_NODE;
	c->operation = verb->operation;
	snprintf(c->tag, sizeof(c->tag), "%s", verb->tag);
	return r == -ENOENT ? -EINVAL : r;
}

/* NULL: something else stands there, and nothing was read. "ENABLE node" is about a database of that name. */
static const struct node_verb *node_verb(struct scan *s, const char *word)
{
	struct scan ahead = *s, after;
	char next[COMMAND_NAME_MAX];

	if (read_word(&ahead, next, sizeof(next), 0) < 0 || strcasecmp(next, "node") != 0)
		return NULL;
	after = ahead;
	if (is_over(&after))
		return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(node_verbs); i++) {
		if (strcasecmp(word, node_verbs[i].word) == 0) {
			*s = ahead;
			return &node_verbs[i];
		}
	}
	return NULL;
}

/* ---- all of them ---- */

int command_read(struct slice text, struct command *ret)
{
	const struct node_verb *of_node;
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
	of_node = node_verb(&s, word);
	if (of_node)
		return read_node(&s, ret, of_node);
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		if (strcasecmp(word, verbs[i].word) != 0)
			continue;
		ret->verb = verbs[i].verb;
		snprintf(ret->tag, sizeof(ret->tag), "%.*s", (int)sizeof(ret->tag) - 1, verbs[i].tag);
		return read_argument(&s, ret, verbs[i].argument);
	}
	return -EINVAL;
}
