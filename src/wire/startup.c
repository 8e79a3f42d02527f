/*
 * Reads the first packet of a connection, and the settings inside of its "options" parameter.
 *
 * This is the first thing that a stranger's bytes meet: nothing here depends on what the packet says about itself
 * beyond its length word, and that is checked before anything else is waited for.
 */
#include "wire/startup.h"

#include <stdio.h>

#include "wire/reader.h"

#define REQUEST_MAJOR  1234u /* of what asks for no session: a version that will never be one */
#define CANCEL_CODE    ((REQUEST_MAJOR << 16) | 5678u)
#define SSL_CODE       ((REQUEST_MAJOR << 16) | 5679u)
#define GSSENC_CODE    ((REQUEST_MAJOR << 16) | 5680u)
#define CANCEL_KEY_MIN 4u

/* Pairs of strings, then an empty name, which must be the last byte. */
static bool read_parameters(struct reader *r, struct startup *s)
{
	static const char option_prefix[] = "_pq_.";

	for (;;) {
		struct slice name = read_cstring(r), value;

		if (name.len == 0)
			return reader_done(r);
		value = read_cstring(r);
		if (r->failed)
			return false;
		if (strncmp((const char *)name.bytes, option_prefix, sizeof(option_prefix) - 1) == 0) {
			if (s->protocol_option_count == STARTUP_PARAMETERS_MAX)
				return false;
			s->protocol_options[s->protocol_option_count++] = name;
		} else {
			if (s->parameter_count == STARTUP_PARAMETERS_MAX)
				return false;
			s->parameters[s->parameter_count++] = (struct startup_parameter){name, value};
		}
	}
}

static bool read_cancel(struct reader *r, struct startup *s)
{
	s->cancel_pid = read_u32(r);
	s->cancel_key = read_rest(r);
	return !r->failed && s->cancel_key.len >= CANCEL_KEY_MIN && s->cancel_key.len <= CANCEL_KEY_MAX;
}

static bool read_packet(struct reader *r, struct startup *s)
{
	uint32_t code = read_u32(r);

	switch (code) {
	case SSL_CODE:
		s->kind = STARTUP_SSL;
		return reader_done(r);
	case GSSENC_CODE:
		s->kind = STARTUP_GSSENC;
		return reader_done(r);
	case CANCEL_CODE:
		s->kind = STARTUP_CANCEL;
		return read_cancel(r, s);
	default:
		s->kind = STARTUP_SESSION;
		s->major = code >> 16;
		s->minor = code & 0xffff;
		return s->major != 3 || read_parameters(r, s);
	}
}

int startup_read(const uint8_t *bytes, size_t len, struct startup *ret)
{
	struct reader r;
	uint32_t size;

	if (len < 4)
		return 0;
	size = get_be32(bytes);
	if (size < 8 || size > STARTUP_MAX)
		return -EMSGSIZE;
	if (len < size)
		return 0;
	/* The arrays are big, and their counts say what of them holds. */
	ret->cancel_pid = ret->major = ret->minor = 0;
	ret->parameter_count = ret->protocol_option_count = 0;
	ret->cancel_key = SLICE_LITERAL("");
	r = reader_make(bytes + 4, size - 4);
	return read_packet(&r, ret) ? (int)size : -EPROTO;
}

const char *startup_get(const struct startup *s, const char *name)
{
	/* Of a name that comes twice the last counts, as in PostgreSQL. */
	for (uint32_t i = s->parameter_count; i-- > 0;)
		if (strcmp((const char *)s->parameters[i].name.bytes, name) == 0)
			return (const char *)s->parameters[i].value.bytes;
	return NULL;
}

/* ------------------------------------------------------------------ options */

/* What isspace() is in the C locale, whichever one the process has. */
static bool is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/*
 * Takes the next word off *at, with its backslashes resolved. 1, 0 at the end, -EINVAL when it doesn't fit.
 * As in PostgreSQL a backslash at the very end stands for nothing.
 */
static int next_word(const char **at, char *word, size_t size)
{
	const char *p = *at;
	size_t len = 0;

	while (is_space(*p))
		p++;
	if (!*p)
		return 0;
	while (*p && !is_space(*p)) {
		if (*p == '\\' && !*++p)
			break;
		if (len + 1 == size) {
			word[len] = 0;
			return -EINVAL;
		}
		word[len++] = *p++;
	}
	word[len] = 0;
	*at = p;
	return 1;
}

/* "name=value" in place; the name's '-' become '_'. False when it isn't that. */
static bool split_setting(char *setting, const char **ret_name, const char **ret_value)
{
	char *equal = strchr(setting, '=');

	if (!equal || equal == setting)
		return false;
	*equal = 0;
	for (char *c = setting; *c; c++)
		if (*c == '-')
			*c = '_';
	*ret_name = setting;
	*ret_value = equal + 1;
	return true;
}

int startup_split_options(const char *options, int (*add)(void *to, const char *name, const char *value), void *to,
			  char *bad, size_t bad_size)
{
	char word[STARTUP_MAX];
	int r;

	while ((r = next_word(&options, word, sizeof(word))) > 0) {
		const char *name, *value;
		char *setting = word + 2;
		bool is_setting = strncmp(word, "-c", 2) == 0 || strncmp(word, "--", 2) == 0;

		if (strcmp(word, "--") == 0) { /* for getopt() the end of all options: nothing may follow */
			r = next_word(&options, word, sizeof(word));
			break;
		}
		if (strcmp(word, "-c") == 0) { /* the setting is the next word */
			setting = word;
			is_setting = next_word(&options, word, sizeof(word)) > 0;
		}
		snprintf(bad, bad_size, "%s", word);
		if (!is_setting || !split_setting(setting, &name, &value))
			return -EINVAL;
		r = add(to, name, value);
		if (r != 0)
			return r;
	}
	if (r != 0)
		snprintf(bad, bad_size, "%s", word);
	return r == 0 ? 0 : -EINVAL;
}
