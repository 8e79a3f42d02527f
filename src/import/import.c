/* See import.h: reads the file into a model, tells of each setting in the file's order, has the writer write. */
#include "config/read_file.h"
#include "import/connection.h"
#include "import/import_priv.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>

#define TEXT_MAX    1024u
#define VALUE_SHOWN 120
#define CONSOLE     "pgbouncer" /* a name that no database may have */
#define PEERS_TELL  "a cancel that a balancer brings to another process is lost; one process uses all cores"

static const char *const verdict_texts[] = {"became", "needs nothing", "is not there in this version", "is wrong"};

const char *import_verdict_text(enum import_verdict verdict)
{
	return verdict_texts[verdict];
}

void importer_tell(struct importer *im, enum import_verdict verdict, struct ini_place place, const char *format, ...)
{
	char text[TEXT_MAX];
	va_list args;

	im->wrong += verdict == IMPORT_WRONG;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	for (char *at = text; *at; at++)
		if ((unsigned char)*at < 0x20 || *at == 0x7f)
			*at = '?'; /* a line is a line */
	im->job->tell(im->job->argument, verdict, place.file, place.line, text);
}

/* ---- reading ---- */

static struct ini_place keep_place(struct importer *im, struct ini_place place)
{
	const struct value *last = im->given ? container_of(im->given_end, struct value, next) : NULL;

	if (last && strcmp(last->place.file, place.file) == 0)
		return (struct ini_place){last->place.file, place.line};
	return (struct ini_place){arena_strdup(&im->arena, place.file), place.line};
}

static int add_value(struct importer *im, const struct entry *entry, const struct row *row, uint32_t index,
		     const char *text, struct ini_place place, const struct value **to)
{
	struct value *v = arena_zalloc(&im->arena, sizeof(*v));

	if (!v)
		return -ENOMEM;
	*v = (struct value){.entry = entry, .row = row, .index = index, .place = keep_place(im, place)};
	v->text = arena_strdup(&im->arena, text);
	if (!v->text || !v->place.file)
		return -ENOMEM;
	if (im->given_count++ >= GIVEN_MAX) {
		importer_tell(im, IMPORT_WRONG, place, "there are more than %u settings", GIVEN_MAX);
		return -EINVAL;
	}
	*im->given_end = v;
	im->given_end = &v->next;
	*to = v;
	return 0;
}

static const struct row *find_row(const struct row *rows, uint32_t count, const char *name)
{
	for (uint32_t i = 0; i < count; i++)
		if (strcmp(rows[i].name, name) == 0)
			return &rows[i];
	return NULL;
}

static void offer_rows(struct suggestion *s, const struct row *rows, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		suggestion_offer(s, rows[i].name);
}

/* An unknown setting stops PgBouncer, too. */
static void tell_unknown(struct importer *im, struct ini_place place, const char *name)
{
	struct suggestion s;
	const char *near;

	suggestion_begin(&s, name);
	if (strcmp(im->section, "pgbouncer") == 0)
		offer_rows(&s, setting_rows, SETTING_COUNT);
	else if (strcmp(im->section, "databases") == 0)
		offer_rows(&s, database_rows, DATABASE_COUNT);
	else
		offer_rows(&s, user_rows, USER_COUNT);
	near = suggestion_get(&s);
	importer_tell(im, IMPORT_WRONG, place, "[%s] %.100s is wrong: PgBouncer has no such setting%s%s%s", im->section,
		      name, near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

static int read_setting(struct importer *im, const char *key, const char *text, struct ini_place place)
{
	const struct row *row = find_row(setting_rows, SETTING_COUNT, key);

	if (!row) {
		tell_unknown(im, place, key);
		return 0;
	}
	return add_value(im, NULL, row, (uint32_t)(row - setting_rows), text, place, &im->settings[row - setting_rows]);
}

/* The entry of that name with nothing in it: of two the later one counts as a whole. */
static int take_entry(struct importer *im, bool is_user, const char *name, struct ini_place place, struct entry **ret)
{
	struct entries *all = is_user ? &im->users : &im->databases;
	uint32_t rows = is_user ? USER_COUNT : DATABASE_COUNT;
	struct entry *e = map_get(&all->by_name, slice_str(name));

	if (e) {
		memset(e->values, 0, rows * sizeof(e->values[0]));
		*ret = e;
		return 0;
	}
	if (all->count++ >= ENTRIES_MAX) {
		importer_tell(im, IMPORT_WRONG, place, "there are more than %u %s", ENTRIES_MAX,
			      is_user ? "users" : "databases");
		return -EINVAL;
	}
	e = arena_zalloc(&im->arena, sizeof(*e) + rows * sizeof(e->values[0]));
	if (!e || map_put(&all->by_name, slice_str(name), e, NULL) < 0)
		return -ENOMEM;
	e->name = arena_strdup(&im->arena, name);
	e->is_user = is_user;
	e->place = keep_place(im, place);
	*all->end = e;
	all->end = &e->next;
	*ret = e;
	return e->name && e->place.file ? 0 : -ENOMEM;
}

static int read_entry(struct importer *im, bool is_user, const char *name, const char *text, struct ini_place place)
{
	const struct row *rows = is_user ? user_rows : database_rows, *row;
	uint32_t count = is_user ? USER_COUNT : DATABASE_COUNT;
	struct entry *e;
	struct pair pair;
	int r = take_entry(im, is_user, name, place, &e), found = 0;

	while (r == 0 && (found = pair_next(&text, &im->arena, &pair)) == 1) {
		row = find_row(rows, count, pair.key);
		if (row)
			r = add_value(im, e, row, (uint32_t)(row - rows), pair.value, place, &e->values[row - rows]);
		else
			tell_unknown(im, place, pair.key);
	}
	if (found == -EINVAL)
		importer_tell(im, IMPORT_WRONG, place, "[%s] %.100s is wrong: it must be pairs of key=value",
			      im->section, name);
	return found == -ENOMEM ? -ENOMEM : r;
}

static int read_peer(struct importer *im, const char *name, const char *text, struct ini_place place)
{
	struct arena scratch;
	struct pair pair;
	int r;

	arena_init(&scratch, 512);
	while ((r = pair_next(&text, &scratch, &pair)) == 1)
		if (strcmp(pair.key, "host") != 0 && strcmp(pair.key, "port") != 0 &&
		    strcmp(pair.key, "pool_size") != 0)
			importer_tell(im, IMPORT_WRONG, place, "[peers] %.100s is wrong: there is no %.100s", name,
				      pair.key);
	arena_destroy(&scratch);
	if (r == -EINVAL)
		importer_tell(im, IMPORT_WRONG, place, "[peers] %.100s is wrong: it must be pairs of key=value", name);
	else if (r == 0)
		importer_tell(im, IMPORT_ABSENT, place, "[peers] %.100s is not there in this version: %s", name,
			      PEERS_TELL);
	return r == -EINVAL ? 0 : r;
}

/* A second [pgbouncer] begins with the defaults again. */
static int on_section(void *argument, const char *name, struct ini_place place)
{
	static const char *const known[] = {"pgbouncer", "databases", "users", "peers"};
	struct importer *im = argument;

	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		if (strcmp(known[i], name) != 0)
			continue;
		snprintf(im->section, sizeof(im->section), "%s", name);
		if (i == 0) {
			memset(im->settings, 0, sizeof(im->settings));
			im->has_main_section = true;
		}
		return 0;
	}
	importer_tell(im, IMPORT_WRONG, place, "[%.100s] is wrong: PgBouncer has no such section", name);
	return -EINVAL;
}

static int on_value(void *argument, const char *key, const char *value, struct ini_place place)
{
	struct importer *im = argument;

	if (strcmp(im->section, "pgbouncer") == 0)
		return read_setting(im, key, value, place);
	if (strcmp(im->section, "users") == 0)
		return read_entry(im, /* is_user= */ true, key, value, place);
	if (strcmp(im->section, "peers") == 0)
		return read_peer(im, key, value, place);
	if (strcmp(im->section, "databases") == 0 && strcmp(key, CONSOLE) != 0)
		return read_entry(im, /* is_user= */ false, key, value, place);
	importer_tell(im, IMPORT_WRONG, place, "%.100s is wrong: %s", key,
		      *im->section ? "the name is reserved for the console" : "it stands in no section");
	return *im->section ? 0 : -EINVAL;
}

static int on_syntax_error(void *argument, const char *why, struct ini_place place)
{
	importer_tell(argument, IMPORT_WRONG, place, "this is wrong: %s", why);
	return -EINVAL;
}

static int on_read(void *argument, const char *path, const char *from, struct buf *out)
{
	struct importer *im = argument;

	return im->job->read(im->job->argument, path, from, out);
}

/* ---- telling ---- */

static bool counts(const struct importer *im, const struct value *v)
{
	return (v->entry ? v->entry->values[v->index] : im->settings[v->index]) == v;
}

static bool is_secret(const struct row *row)
{
	return strcmp(row->name, "password") == 0;
}

/* "[databases] shop: pool_size = 5" */
static void name_setting(const struct value *v, char text[TEXT_MAX])
{
	size_t len = 0;

	if (v->entry)
		len = (size_t)snprintf(text, TEXT_MAX, "[%s] %.100s: ", v->row->section, v->entry->name);
	snprintf(text + len, TEXT_MAX - len, "%s = %.*s%s", v->row->name, VALUE_SHOWN,
		 is_secret(v->row) ? "***" : v->text, !is_secret(v->row) && strlen(v->text) > VALUE_SHOWN ? "..." : "");
}

static void name_key(const struct value *v, char text[TEXT_MAX])
{
	if (v->entry)
		snprintf(text, TEXT_MAX, "[%s.\"%.100s\"] %s", v->row->section, v->entry->name, v->row->key);
	else
		snprintf(text, TEXT_MAX, "[%s] %s", v->row->section, v->row->key);
}

static void tell_of(struct importer *im, const struct value *v)
{
	char setting[TEXT_MAX], key[TEXT_MAX];
	struct conversion c;
	enum outcome outcome;

	name_setting(v, setting);
	if (!counts(im, v)) {
		importer_tell(im, IMPORT_NOTHING, v->place, "%.400s needs nothing: a later one counts", setting);
		return;
	}
	name_key(v, key);
	outcome = convert(im, v->row, v->entry, v->text, &c);
	if (outcome == OUTCOME_WRITE && !*c.why)
		snprintf(c.why, sizeof(c.why), "%s", v->row->remark);
	switch (outcome) {
	case OUTCOME_WRITE:
		importer_tell(im, IMPORT_BECAME, v->place, "%.400s became %.200s = %.200s%s%s", setting, key,
			      is_secret(v->row) ? "***" : buf_cstr(&c.toml), *c.why ? "; " : "", c.why);
		break;
	case OUTCOME_PART:
		importer_tell(im, IMPORT_BECAME, v->place, "%.400s became a part of %.200s%s%s", setting, key,
			      *c.why ? "; " : "", c.why);
		break;
	case OUTCOME_NOTHING:
		importer_tell(im, IMPORT_NOTHING, v->place, "%.400s needs nothing: %s", setting, c.why);
		break;
	case OUTCOME_ABSENT:
		importer_tell(im, IMPORT_ABSENT, v->place, "%.400s is not there in this version: %s", setting, c.why);
		break;
	case OUTCOME_WRONG:
		importer_tell(im, IMPORT_WRONG, v->place, "%.400s is wrong: %s", setting, c.why);
		break;
	}
	buf_free_secret(&c.toml);
}

/* ---- all of it ---- */

static void find_what_all_say(struct importer *im)
{
	for (uint32_t i = 0; i < DATABASE_COUNT && im->databases.first; i++) {
		const struct value *first = im->databases.first->values[i];
		bool all = first != NULL;

		for (const struct entry *d = im->databases.first; d && all; d = d->next)
			all = d->values[i] && strcmp(d->values[i]->text, first->text) == 0;
		im->of_all[i] = all ? first->text : NULL;
	}
}

static int read_text(struct importer *im, const char *text, size_t len, const char *name)
{
	struct ini_events events = {.section = on_section,
				    .value = on_value,
				    .syntax_error = on_syntax_error,
				    .read = on_read,
				    .argument = im};
	int r = ini_walk(&events, text, len, name);

	if (r == 0 && !im->has_main_section) {
		importer_tell(im, IMPORT_WRONG, (struct ini_place){name, 0}, "there is no section [pgbouncer]");
		r = -EINVAL;
	}
	return r;
}

int import_pgbouncer_text(const struct import_job *job, const char *text, size_t len, const char *name, struct buf *out)
{
	struct importer im = {.job = job};
	int r;

	arena_init(&im.arena, 16384);
	im.given_end = &im.given;
	im.databases.end = &im.databases.first;
	im.users.end = &im.users.first;
	r = read_text(&im, text, len, name);
	if (r == 0)
		find_what_all_say(&im);
	if (r == 0)
		for (const struct value *v = im.given; v; v = v->next)
			tell_of(&im, v);
	if (r == 0 && !im.wrong)
		write_toml(&im, name, out);
	if (r == 0 && im.wrong)
		r = -EINVAL;
	if (r == 0 && out->failed)
		r = -ENOMEM;
	map_free(&im.databases.by_name);
	map_free(&im.users.by_name);
	arena_destroy(&im.arena);
	return r;
}

int import_pgbouncer(const struct import_job *job, const char *path, struct buf *out)
{
	struct buf text = BUF_INIT(INI_BYTES_MAX);
	char why[200];
	int r = job->read(job->argument, path, NULL, &text);

	if (r < 0) {
		snprintf(why, sizeof(why), "cannot read it: %s", read_file_error(r));
		job->tell(job->argument, IMPORT_WRONG, path, 0, why);
	} else {
		r = import_pgbouncer_text(job, (const char *)text.bytes, text.len, path, out);
	}
	buf_free_secret(&text);
	return r;
}

int import_read_file(void *argument, const char *path, const char *from, struct buf *out)
{
	const char *slash = from ? strrchr(from, '/') : NULL;
	char beside[PATH_MAX];
	int r = read_regular_file(path, out, NULL);

	(void)argument;
	if (r != -ENOENT || *path == '/' || !slash)
		return r;
	if (snprintf(beside, sizeof(beside), "%.*s/%s", (int)(slash - from), from, path) >= (int)sizeof(beside))
		return -ENAMETOOLONG;
	return read_regular_file(beside, out, NULL);
}
