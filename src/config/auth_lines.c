/* See auth_lines.h. */
#include "config/auth_lines.h"
#include "config/read_file.h"

#include <dirent.h>
#include <stdio.h>

#define DEPTH_MAX  10u     /* of files in files, as PostgreSQL's CONF_FILE_MAX_DEPTH */
#define FILES_MAX  1000u   /* altogether: a file may include many that include many */
#define TOKENS_MAX 200000u /* altogether */
#define PATH_SIZE  4096u

struct reader {
	struct arena *arena;
	struct config_report *report;
	struct auth_line **end; /* where the next line goes */
	uint32_t files, tokens;
	bool may_include;
	int result; /* 0, -EINVAL, -ENOMEM: ends the reading */
};

struct place {
	const char *file;
	uint32_t line, depth;
};

static void refuse(struct reader *r, const struct place *at, const char *what, const char *which)
{
	report_add(r->report, REPORT_ERROR, at->file, at->line, 0, "%s%s%s", what, which[0] ? " " : "", which);
	if (r->result == 0)
		r->result = -EINVAL;
}

static void *take(struct reader *r, size_t size)
{
	void *memory = arena_zalloc(r->arena, size);

	if (!memory)
		r->result = -ENOMEM;
	return memory;
}

/* ------------------------------------------------------------------------------------- one file's text */

static void read_text(struct reader *r, const char *text, size_t len, const struct place *at, struct auth_field *into);

static void resolve(const char *from_file, const char *name, char path[PATH_SIZE])
{
	const char *slash = strrchr(from_file, '/');

	if (name[0] == '/' || !slash)
		snprintf(path, PATH_SIZE, "%s", name);
	else
		snprintf(path, PATH_SIZE, "%.*s/%s", (int)(slash - from_file), from_file, name);
}

/* into: the field that takes all of the file's tokens (@file); NULL: its lines are lines. */
static void read_path(struct reader *r, const char *path, const struct place *from, bool may_be_missing,
		      struct auth_field *into)
{
	struct place at = {.depth = from->depth + 1};
	struct buf text = BUF_INIT(READ_FILE_MAX);
	int e;

	if (at.depth > DEPTH_MAX || ++r->files > FILES_MAX) {
		refuse(r, from, "files include each other too deeply, at", path);
		return;
	}
	at.file = arena_strdup(r->arena, path);
	if (!at.file) {
		r->result = -ENOMEM;
		return;
	}
	e = read_regular_file(path, &text, NULL);
	if (e == -ENOMEM) {
		r->result = e;
	} else if (e < 0 && !(e == -ENOENT && may_be_missing)) {
		report_add(r->report, REPORT_ERROR, from->file, from->line, 0, "%s: %s", path, read_file_error(e));
		r->result = r->result ? r->result : -EINVAL;
	} else if (e == 0) {
		read_text(r, (const char *)text.bytes, text.len, &at, into);
	}
	buf_free(&text);
}

static void read_included(struct reader *r, const char *name, const struct place *from, bool may_be_missing,
			  struct auth_field *into)
{
	char path[PATH_SIZE];

	if (!r->may_include) {
		refuse(r, from, "files can't be included here:", name);
		return;
	}
	resolve(from->file, name, path);
	read_path(r, path, from, may_be_missing, into);
}

static int is_conf_file(const struct dirent *entry)
{
	size_t len = strlen(entry->d_name);

	return entry->d_name[0] != '.' && len > 5 && strcmp(entry->d_name + len - 5, ".conf") == 0;
}

static int compare_names(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name); /* not alphasort: its order follows the locale */
}

static void read_directory(struct reader *r, const char *name, const struct place *from)
{
	char path[PATH_SIZE], file[PATH_SIZE + 256];
	struct dirent **entries;
	int n;

	if (!r->may_include) {
		refuse(r, from, "files can't be included here:", name);
		return;
	}
	resolve(from->file, name, path);
	n = scandir(path, &entries, is_conf_file, compare_names);
	if (n < 0) {
		report_add(r->report, REPORT_ERROR, from->file, from->line, 0, "%s: %s", path, strerror(errno));
		r->result = r->result ? r->result : -EINVAL;
		return;
	}
	for (int i = 0; i < n; i++) {
		snprintf(file, sizeof(file), "%s/%s", path, entries[i]->d_name);
		if (r->result != -ENOMEM)
			read_path(r, file, from, /* may_be_missing= */ false, NULL);
		free(entries[i]);
	}
	free(entries);
}

/* ------------------------------------------------------------------------------------------- one line */

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v';
}

static void add_token(struct reader *r, struct auth_field *field, const struct place *at, struct buf *text, bool quoted)
{
	struct auth_token **end = &field->tokens, *token;

	if (text->failed) {
		r->result = -ENOMEM;
		return;
	}
	if (!quoted && text->len > 1 && text->bytes[0] == '@') {
		read_included(r, buf_cstr(text) + 1, at, /* may_be_missing= */ false, field);
		return;
	}
	if (++r->tokens > TOKENS_MAX) {
		refuse(r, at, "too many words", "");
		r->result = -ENOMEM; /* no use in going on */
		return;
	}
	token = take(r, sizeof(*token));
	if (!token)
		return;
	token->text = arena_strndup(r->arena, text->bytes ? text->bytes : (const uint8_t *)"", text->len);
	token->quoted = quoted;
	if (!token->text)
		r->result = -ENOMEM;
	while (*end)
		end = &(*end)->next;
	*end = token;
}

/*
 * Reads one token from *line; false at the end of the line. *ret_more: a comma follows, so the next token belongs to
 * the same field. Quotes may begin anywhere; what they hold is taken as it is, with "" for a quote.
 */
static bool read_token(struct reader *r, const char **line, const struct place *at, struct buf *text, bool *ret_quoted,
		       bool *ret_more)
{
	const char *s = *line;
	bool in_quotes = false, any = false;

	buf_clear(text);
	*ret_quoted = *ret_more = false;
	while (is_blank(*s) || *s == ',')
		s++;
	for (; *s && (in_quotes || !is_blank(*s)); s++) {
		if (!in_quotes && *s == '#') {
			s += strlen(s);
			break;
		}
		if (!in_quotes && *s == ',') {
			*ret_more = true;
			s++;
			break;
		}
		if (*s == '"' && in_quotes && s[1] == '"') {
			buf_add_char(text, *s++);
		} else if (*s == '"') {
			*ret_quoted |= text->len == 0 && !any;
			in_quotes = !in_quotes;
		} else {
			buf_add_char(text, *s);
		}
		any = true;
	}
	if (in_quotes)
		refuse(r, at, "a quote is not closed", "");
	*line = s;
	return any;
}

static struct auth_field *read_fields(struct reader *r, const char *line, const struct place *at,
				      struct auth_field *into)
{
	struct buf text = BUF_INIT(SIZE_MAX / 2);
	struct auth_field *first = NULL, **end = &first, *field = into;
	bool quoted, more, new_field = !into;

	while (r->result != -ENOMEM && read_token(r, &line, at, &text, &quoted, &more)) {
		if (new_field) {
			field = take(r, sizeof(*field));
			if (!field)
				break;
			*end = field;
			end = &field->next;
		}
		add_token(r, field, at, &text, quoted);
		new_field = !into && !more;
	}
	buf_free(&text);
	return first;
}

static bool read_directive(struct reader *r, const struct auth_field *fields, const struct place *at)
{
	const struct auth_token *word = auth_field_single(fields), *name;
	bool is_include, is_optional, is_directory;

	if (!word)
		return false;
	is_include = strcmp(word->text, "include") == 0;
	is_optional = strcmp(word->text, "include_if_exists") == 0;
	is_directory = strcmp(word->text, "include_dir") == 0;
	if (!is_include && !is_optional && !is_directory)
		return false;
	name = auth_field_single(fields->next);
	if (!name || fields->next->next)
		refuse(r, at, "expected one name behind", word->text);
	else if (is_directory)
		read_directory(r, name->text, at);
	else
		read_included(r, name->text, at, is_optional, NULL);
	return true;
}

static void read_line(struct reader *r, const char *text, const struct place *at, struct auth_field *into)
{
	uint32_t errors = r->report->errors;
	struct auth_field *fields = read_fields(r, text, at, into);
	struct auth_line *line;

	if (!fields || r->result == -ENOMEM || r->report->errors > errors || read_directive(r, fields, at))
		return;
	for (const struct auth_field *f = fields; f; f = f->next) {
		if (!f->tokens) {
			refuse(r, at, "a list is empty", "");
			return;
		}
	}
	line = take(r, sizeof(*line));
	if (!line)
		return;
	*line = (struct auth_line){.file = at->file, .line = at->line, .fields = fields};
	*r->end = line;
	r->end = &line->next;
}

static void read_text(struct reader *r, const char *text, size_t len, const struct place *from, struct auth_field *into)
{
	struct buf line = BUF_INIT(SIZE_MAX / 2);
	const char *end = text + len;
	struct place at = *from;
	uint32_t number = 1;

	if (len && memchr(text, 0, len)) {
		refuse(r, from, "the file holds NUL bytes", "");
		return;
	}
	at.line = number;
	while (text < end && r->result != -ENOMEM) {
		const char *newline = memchr(text, '\n', (size_t)(end - text)), *stop = newline ? newline : end;

		number++;
		buf_add(&line, text, (size_t)(stop - text));
		text = newline ? newline + 1 : end;
		if (line.len && line.bytes[line.len - 1] == '\r')
			line.len--;
		if (line.len && line.bytes[line.len - 1] == '\\' && text < end) {
			line.len--; /* goes on in the next */
			continue;
		}
		if (line.failed)
			r->result = -ENOMEM;
		else
			read_line(r, buf_cstr(&line), &at, into);
		buf_clear(&line);
		at.line = number;
	}
	buf_free(&line);
}

/* ----------------------------------------------------------------------------------------------- entry */

int auth_lines_load(const char *path, struct arena *arena, struct config_report *report, struct auth_line **ret_lines)
{
	struct reader r = {.arena = arena, .report = report, .end = ret_lines, .may_include = true};
	struct place nowhere = {.file = ""};

	*ret_lines = NULL;
	read_path(&r, path, &nowhere, /* may_be_missing= */ false, NULL);
	return r.result;
}

int auth_lines_load_text(const char *text, size_t len, const char *name, bool may_include, struct arena *arena,
			 struct config_report *report, struct auth_line **ret_lines)
{
	struct reader r = {.arena = arena, .report = report, .end = ret_lines, .may_include = may_include};
	struct place at = {.depth = 1};

	*ret_lines = NULL;
	at.file = arena_strdup(arena, name);
	if (!at.file)
		return -ENOMEM;
	read_text(&r, text, len, &at, NULL);
	return r.result;
}

const struct auth_token *auth_field_single(const struct auth_field *field)
{
	return field && field->tokens && !field->tokens->next ? field->tokens : NULL;
}

bool auth_token_is(const struct auth_token *token, const char *word)
{
	return !token->quoted && strcmp(token->text, word) == 0;
}

/* -------------------------------------------------------------------------------- regular expressions */

#define REGEX_LENGTH_MAX 512u
#define REGEX_SIZE_MAX   10000u /* nodes after all repetitions are written out, which is what regcomp does */
#define REGEX_GROUPS_MAX 32u    /* in each other */

/* The size that the pattern read so far unfolds to: x+ is xx*, x{2,5} is five x. */
struct regex_size {
	uint64_t level[REGEX_GROUPS_MAX + 1], last[REGEX_GROUPS_MAX + 1]; /* of each open group; of its last atom */
	uint32_t depth;
};

static void add_atom(struct regex_size *size, uint64_t nodes)
{
	size->last[size->depth] = nodes;
	size->level[size->depth] += nodes;
}

static void repeat_atom(struct regex_size *size, uint64_t times)
{
	uint64_t *last = &size->last[size->depth];

	size->level[size->depth] += *last * times;
	*last += *last * times;
}

/* At '[': the place of its ']', or of the pattern's end. */
static const char *skip_bracket(const char *s)
{
	s += s[1] == '^' ? 2 : 1;
	s += *s == ']';
	while (*s && *s != ']') {
		if (*s == '[' && s[1] && strchr(":.=", s[1])) {
			char kind = s[1];

			for (s += 2; *s && !(*s == kind && s[1] == ']'); s++)
				;
			s += *s ? 1 : 0;
		}
		s += *s ? 1 : 0;
	}
	return s;
}

static bool is_alphanumeric(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* At a quantifier. NULL when it is fine; *at moves to its last character. */
static const char *read_quantifier(const char **at, struct regex_size *size)
{
	const char *s = *at;

	if (*s == '{') {
		const char *comma = s + 1 + strspn(s + 1, "0123456789");
		unsigned long low = strtoul(s + 1, NULL, 10);
		unsigned long high = *comma == ',' ? strtoul(comma + 1, NULL, 10) : 0;
		const char *close = strchr(s, '}');

		if (low > REGEX_SIZE_MAX || high > REGEX_SIZE_MAX)
			return "its repetitions are too many";
		repeat_atom(size, MAX(low, high) + 1);
		if (!close)
			return "a { is not closed";
		s = close;
	} else {
		repeat_atom(size, 1);
	}
	if (s[1] == '?')
		return "non-greedy quantifiers are not available";
	if (s[1] && strchr("*+{", s[1]))
		return "a quantifier follows a quantifier";
	*at = s;
	return NULL;
}

/* One atom or operator at *at, which moves to its last character. */
static const char *read_piece(const char **at, struct regex_size *size)
{
	const char *s = *at;
	uint64_t group;

	switch (*s) {
	case '\\':
		if (s[1] && is_alphanumeric(s[1]) && !strchr("wWsS", s[1]))
			return "escapes of letters and digits other than \\w \\W \\s \\S are not available";
		add_atom(size, 1);
		*at += s[1] ? 1 : 0;
		return NULL;
	case '(':
		if (s[1] == '?')
			return "(? is not available";
		if (size->depth == REGEX_GROUPS_MAX)
			return "its groups are nested too deeply";
		size->depth++;
		size->level[size->depth] = size->last[size->depth] = 0;
		return NULL;
	case ')':
		if (size->depth == 0)
			return "a ) has no (";
		group = size->level[size->depth--];
		add_atom(size, group + 1);
		return NULL;
	case '[':
		*at = skip_bracket(s);
		*at -= **at ? 0 : 1;
		add_atom(size, 1);
		return NULL;
	case '*':
	case '+':
	case '?':
	case '{':
		return read_quantifier(at, size);
	default:
		add_atom(size, 1);
		return NULL;
	}
}

/* NULL when POSIX and PostgreSQL read the pattern alike, and it can't grow large; else what stands against it. */
static const char *pattern_objection(const char *pattern)
{
	struct regex_size size = {0};

	if (strlen(pattern) > REGEX_LENGTH_MAX)
		return "it is longer than 512 bytes";
	for (const char *s = pattern; *s; s++) {
		const char *objection = read_piece(&s, &size);

		if (objection)
			return objection;
		if (size.level[size.depth] > REGEX_SIZE_MAX)
			return "its repetitions multiply to too much";
	}
	return NULL;
}

static void regex_free(void *regex)
{
	regfree(regex);
}

int auth_regex_compile(const char *pattern, struct arena *arena, regex_t **ret, char *why, size_t why_size)
{
	const char *objection = pattern_objection(pattern);
	regex_t *regex;
	int e;

	if (objection) {
		snprintf(why, why_size, "%s", objection);
		return -EINVAL;
	}
	regex = arena_zalloc(arena, sizeof(*regex));
	if (!regex)
		return -ENOMEM;
	e = regcomp(regex, pattern, REG_EXTENDED);
	if (e == REG_ESPACE)
		return -ENOMEM;
	if (e != 0) {
		regerror(e, regex, why, why_size);
		return -EINVAL;
	}
	if (arena_on_reset(arena, regex_free, regex) < 0) {
		regfree(regex);
		return -ENOMEM;
	}
	*ret = regex;
	return 0;
}
