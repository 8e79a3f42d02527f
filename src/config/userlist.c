/* See userlist.h. */
#include "base/buf.h"
#include "base/map.h"
#include "config/read_file.h"
#include "config/userlist.h"

struct userlist {
	struct map secrets; /* user -> struct secret */
	struct arena *arena;
	bool has_plain;
};

static void userlist_wipe(void *argument)
{
	struct userlist *list = argument;
	struct slice user;
	uint32_t at = 0;
	void *secret;

	while (map_next(&list->secrets, &at, &user, &secret))
		secret_wipe(secret);
	map_free(&list->secrets);
}

struct userlist *userlist_new(struct arena *arena)
{
	struct userlist *list = arena_zalloc(arena, sizeof(*list));

	if (!list)
		return NULL;
	list->secrets = MAP_INIT;
	list->arena = arena;
	return arena_on_reset(arena, userlist_wipe, list) == 0 ? list : NULL;
}

/* *ret_was_there may be NULL. */
static int add(struct userlist *list, const char *user, const char *secret_text, bool *ret_was_there)
{
	struct secret parsed = {0}, *secret = map_get(&list->secrets, slice_str(user));
	int r = secret_parse(secret_text, &parsed);

	if (r < 0)
		return r;
	if (ret_was_there)
		*ret_was_there = secret != NULL;
	list->has_plain = list->has_plain || parsed.kind == SECRET_PLAIN;
	if (secret) {
		secret_wipe(secret);
	} else {
		secret = arena_zalloc(list->arena, sizeof(*secret));
		r = secret ? map_put(&list->secrets, slice_str(user), secret, NULL) : -ENOMEM;
	}
	if (r < 0)
		secret_wipe(&parsed);
	else
		*secret = parsed;
	return r;
}

int userlist_add(struct userlist *list, const char *user, const char *secret)
{
	return add(list, user, secret, NULL);
}

const struct secret *userlist_get(const struct userlist *list, const char *user)
{
	return map_get(&list->secrets, slice_str(user));
}

uint32_t userlist_count(const struct userlist *list)
{
	return list->secrets.count;
}

bool userlist_has_plain(const struct userlist *list)
{
	return list->has_plain;
}

/* -------------------------------------------------------------------------------------------- lines */

static const char *skip_blanks(const char *s)
{
	return s + strspn(s, " \t\r\f\v");
}

/* At a quote: the text up to the closing one, where "" stands for one quote. Returns what follows, or NULL. */
static const char *read_quoted(const char *at, struct buf *out)
{
	buf_clear(out);
	for (at++; *at; at++) {
		if (*at == '"' && at[1] != '"')
			return at + 1;
		if (*at == '"')
			at++;
		buf_add_char(out, *at);
	}
	return NULL;
}

/* PgBouncer's form; false: it isn't. What follows the secret on the line is ignored, as PgBouncer does. */
static bool read_pgbouncer(const char *line, struct buf *user, struct buf *secret)
{
	const char *at = read_quoted(line, user);

	if (!at)
		return false;
	if (*at != ' ' && *at != '\t')
		return false;
	at = skip_blanks(at);
	return *at == '"' && read_quoted(at, secret) != NULL;
}

/* Without blanks around it, and without one pair of quotes. */
static void add_stripped(const char *from, const char *end, struct buf *out)
{
	buf_clear(out);
	while (from < end && strchr(" \t\r\f\v", *from))
		from++;
	while (end > from && strchr(" \t\r\f\v", end[-1]))
		end--;
	if (end - from >= 2 && (*from == '"' || *from == '\'') && end[-1] == *from) {
		from++;
		end--;
	}
	buf_add(out, from, (size_t)(end - from));
}

/* user:secret; a quoted user may hold colons. */
static bool read_reference(const char *line, struct buf *user, struct buf *secret)
{
	const char *colon = strchr(line, ':');

	if (*line == '"' || *line == '\'') {
		const char *close = strchr(line + 1, *line);

		colon = close ? close + 1 + strspn(close + 1, " \t") : NULL;
	}
	if (!colon || *colon != ':')
		return false;
	add_stripped(line, colon, user);
	add_stripped(colon + 1, colon + strlen(colon), secret);
	return true;
}

static int read_line(struct userlist *list, const char *line, const char *name, uint32_t number,
		     struct config_report *report)
{
	struct buf user = BUF_INIT(SIZE_MAX / 2), secret = BUF_INIT(SIZE_MAX / 2);
	bool was_there = false;
	int r = 0;

	line = skip_blanks(line);
	if (!*line || *line == '#' || *line == ';')
		return 0;
	if (!(*line == '"' && read_pgbouncer(line, &user, &secret)) && !read_reference(line, &user, &secret)) {
		report_add(report, REPORT_ERROR, name, number, 0, "expected user:secret, or \"user\" \"secret\"");
		r = -EINVAL;
	} else if (user.failed || secret.failed) {
		r = -ENOMEM;
	} else if (user.len == 0) {
		report_add(report, REPORT_ERROR, name, number, 0, "the user is empty");
		r = -EINVAL;
	} else {
		r = add(list, buf_cstr(&user), buf_cstr(&secret), &was_there);
		if (r == -EINVAL)
			report_add(report, REPORT_ERROR, name, number, 0, "the SCRAM verifier of user %s is damaged",
				   buf_cstr(&user));
		else if (r == 0 && was_there)
			report_add(report, REPORT_WARNING, name, number, 0,
				   "user %s was there before; this line counts", buf_cstr(&user));
	}
	buf_free(&user);
	buf_free_secret(&secret);
	return r;
}

int userlist_load_text(struct userlist *list, const char *text, size_t len, const char *name,
		       struct config_report *report)
{
	struct buf line = BUF_INIT(SIZE_MAX / 2);
	const char *end = text + len;
	int r = 0, worst = 0;

	if (len && memchr(text, 0, len)) {
		report_add(report, REPORT_ERROR, name, 0, 0, "the file holds NUL bytes");
		return -EINVAL;
	}
	for (uint32_t number = 1; text < end && r != -ENOMEM; number++) {
		const char *newline = memchr(text, '\n', (size_t)(end - text));

		buf_clear(&line);
		buf_add(&line, text, (size_t)((newline ? newline : end) - text));
		r = line.failed ? -ENOMEM : read_line(list, buf_cstr(&line), name, number, report);
		worst = r < 0 ? r : worst;
		text = newline ? newline + 1 : end;
	}
	buf_free_secret(&line);
	return worst;
}

int userlist_load(struct userlist *list, const char *path, struct config_report *report)
{
	struct buf text = BUF_INIT(READ_FILE_MAX);
	mode_t mode = 0;
	int r = read_regular_file(path, &text, &mode);

	if (r < 0)
		report_add(report, REPORT_ERROR, path, 0, 0, "%s", read_file_error(r));
	else if (mode & 0004)
		report_add(report, REPORT_WARNING, path, 0, 0,
			   "everybody on this machine can read the file: chmod 640");
	if (r == 0)
		r = userlist_load_text(list, (const char *)text.bytes, text.len, path, report);
	buf_free_secret(&text);
	return r == 0 || r == -ENOMEM ? r : -EINVAL;
}
