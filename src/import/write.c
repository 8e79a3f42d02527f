/* The TOML text. What differs from our own defaults is written, with the setting it is from. */
#include "import/import_priv.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>

#define COMMENT_COLUMN 40u
#define PLACE_MAX      300u

struct node {
	struct node *next;
	const char *host, *name;
	uint32_t port;
};

struct writer {
	struct importer *im;
	struct buf *out;
	struct buf lines; /* of the section that is being written */
	struct node *nodes, **nodes_end;
	struct map by_address, by_dbname; /* the latter: how many databases lead there */
	uint32_t node_count;
	bool no_memory;
};

/* Neither a line's end nor a variable of the environment may stand in a comment. */
static void add_clean(struct buf *out, const char *text)
{
	for (; *text; text++)
		buf_add_char(out, (unsigned char)*text < 0x20 || *text == 0x7f || *text == '$' ? '?' : *text);
}

static void add_line(struct buf *out, const char *key, const char *value, const char *format, ...) PRINTF_LIKE(4, 5);

static void add_line(struct buf *out, const char *key, const char *value, const char *format, ...)
{
	char comment[PLACE_MAX];
	size_t begin = out->len;
	va_list args;

	va_start(args, format);
	vsnprintf(comment, sizeof(comment), format, args);
	va_end(args);
	buf_printf(out, "%s = %s", key, value);
	while (out->len - begin < COMMENT_COLUMN && !out->failed)
		buf_add_char(out, ' ');
	buf_add_str(out, " # ");
	add_clean(out, comment);
	buf_add_char(out, '\n');
}

/* Does a TOML value say what the key has anyway? */
static bool is_our_default(const struct config_key *key, const char *toml)
{
	size_t len = strlen(toml);
	usec_t ours, theirs;
	char text[DURATION_TEXT];

	if (key->type == TYPE_strings)
		return !*key->default_text && strcmp(toml, "[]") == 0;
	if (len < 2 || *toml != '"')
		return strcmp(key->default_text, toml) == 0;
	if (len - 2 == strlen(key->default_text) && memcmp(toml + 1, key->default_text, len - 2) == 0)
		return true;
	if (key->type != TYPE_duration || len - 2 >= sizeof(text))
		return false;
	snprintf(text, sizeof(text), "%.*s", (int)(len - 2), toml + 1);
	return duration_parse(key->default_text, USEC_PER_SEC, &ours) == 0 &&
	       duration_parse(text, USEC_PER_SEC, &theirs) == 0 && ours == theirs;
}

/* ---- sections ---- */

static bool is_default(const struct importer *im, enum setting_id id)
{
	return setting_rows[id].default_text && strcmp(setting_text(im, id), setting_rows[id].default_text) == 0;
}

static void write_row(struct writer *w, enum setting_id id)
{
	const struct row *row = &setting_rows[id];
	const struct value *v = w->im->settings[id];
	struct conversion c;
	enum outcome outcome;

	if (!v && !row->default_text && !*setting_text(w->im, id))
		return;
	outcome = convert(w->im, row, NULL, setting_text(w->im, id), &c);
	if (outcome == OUTCOME_WRONG && !v)
		importer_tell(w->im, IMPORT_WRONG, (struct ini_place){"", 0}, "%s is wrong: %s", row->name, c.why);
	if (outcome == OUTCOME_WRITE && v)
		add_line(&w->lines, row->key, buf_cstr(&c.toml), "%s, %s:%u", row->name, v->place.file, v->place.line);
	else if (outcome == OUTCOME_WRITE && !is_our_default(c.key, buf_cstr(&c.toml)))
		add_line(&w->lines, row->key, buf_cstr(&c.toml),
			 is_default(w->im, id) ? "PgBouncer's default of %s" : "%s of all databases", row->name);
	w->out->failed |= c.toml.failed;
	buf_free_secret(&c.toml);
}

/* What PgBouncer has no setting for, and behaves otherwise than we do. */
static void write_differences(struct writer *w, const char *section)
{
	const char *auth = setting_text(w->im, PGB_auth_type);
	struct buf address = BUF_INIT(TOML_MAX);

	if (strcmp(section, "proxy") == 0) {
		toml_string(&address, w->im->job->admin_address ? w->im->job->admin_address : "");
		add_line(&w->lines, "admin_address", buf_cstr(&address),
			 w->im->job->admin_address
				 ? "command line"
				 : "PgBouncer has none; \"127.0.0.1:9090\" gives health checks and metrics");
	} else if (strcmp(section, "admin") == 0) {
		add_line(&w->lines, "databases", "[\"pgbouncer\"]", "as PgBouncer: any other name leads to a server");
	} else if (strcmp(section, "pool") == 0) {
		add_line(&w->lines, "adaptive", "false", "as PgBouncer: a pool may use all of its connections at once");
	} else if (strcmp(section, "load_balancer") == 0) {
		add_line(&w->lines, "read_write_split", "false", "as PgBouncer: what a database leads to has it all");
	} else if (strcmp(section, "auth") == 0 && (strcasecmp(auth, "plain") == 0 || strcasecmp(auth, "hba") == 0)) {
		add_line(&w->lines, "allow_cleartext", "true",
			 "as PgBouncer: passwords are asked for over any network");
	}
	buf_free(&address);
}

static void write_sections(struct writer *w)
{
	for (uint32_t i = 0; i < config_section_count; i++) {
		const char *section = config_sections[i].name;

		buf_clear(&w->lines);
		for (uint32_t id = 0; id < SETTING_COUNT; id++)
			if (strcmp(setting_rows[id].section, section) == 0)
				write_row(w, id);
		write_differences(w, section);
		if (w->lines.len)
			buf_printf(w->out, "\n[%s]\n%s", section, buf_cstr(&w->lines));
		w->out->failed |= w->lines.failed;
	}
}

/* ---- nodes ---- */

/* NULL: out of memory, or the host is none (which was told). */
static struct node *node_of(struct writer *w, const struct entry *database)
{
	char host[HOST_MAX + 1], address[HOST_MAX + 32];
	uint32_t port = database_port(database);
	struct node *n;

	if (!database_host(w->im, database, host))
		return NULL;
	for (char *at = host; *host != '/' && *at; at++)
		*at = (char)tolower((unsigned char)*at);
	snprintf(address, sizeof(address), strchr(host, ':') ? "[%s]:%u" : "%s:%u", host, port);
	n = map_get(&w->by_address, slice_str(address));
	if (n)
		return n;
	n = arena_zalloc(&w->im->arena, sizeof(*n));
	if (!n || map_put(&w->by_address, slice_str(address), n, NULL) < 0) {
		w->no_memory = true;
		return NULL;
	}
	*n = (struct node){
		.host = arena_strdup(&w->im->arena, host), .name = arena_strdup(&w->im->arena, address), .port = port};
	w->no_memory |= !n->host || !n->name;
	*w->nodes_end = n;
	w->nodes_end = &n->next;
	w->node_count++;
	return n;
}

static const char *dbname_of(const struct entry *database)
{
	return database->values[DB_dbname] ? database->values[DB_dbname]->text : database->name;
}

static void find_nodes(struct writer *w)
{
	for (const struct entry *d = w->im->databases.first; d && !w->no_memory; d = d->next) {
		uintptr_t others = (uintptr_t)map_get(&w->by_dbname, slice_str(dbname_of(d)));

		if (!node_of(w, d) && !w->no_memory)
			importer_tell(w->im, IMPORT_WRONG, d->place,
				      "[databases] %.100s is wrong: it has no host, and unix_socket_dir is no folder",
				      d->name);
		w->no_memory |= map_put(&w->by_dbname, slice_str(dbname_of(d)), (void *)(others + 1), NULL) < 0;
	}
}

static void write_nodes(struct writer *w)
{
	if (!w->nodes)
		buf_add_str(w->out,
			    "\n# There is no database, so there is no server. Without one the proxy does not "
			    "start.\n# [[nodes]]\n# host = \"127.0.0.1\"\n# port = 5432\n# role = \"primary\"\n");
	for (const struct node *n = w->nodes; n && !w->no_memory; n = n->next) {
		buf_add_str(w->out, "\n[[nodes]]\nname = ");
		toml_string(w->out, n->name);
		buf_add_str(w->out, "\nhost = ");
		toml_string(w->out, n->host);
		buf_printf(w->out, "\nport = %u\nrole = \"primary\"\n", n->port);
	}
}

/* ---- databases, users ---- */

static void write_value(struct writer *w, const struct value *v)
{
	struct conversion c;

	if (convert(w->im, v->row, v->entry, v->text, &c) == OUTCOME_WRITE)
		add_line(w->out, v->row->key, buf_cstr(&c.toml), "%s, %s:%u", v->row->name, v->place.file,
			 v->place.line);
	w->out->failed |= c.toml.failed;
	buf_free_secret(&c.toml);
}

/* min_pool_size of all may be more than what this one's pool_size allows: see convert_min_pool_size(). */
static void write_least(struct writer *w, const struct entry *e)
{
	double least = number_of(setting_text(w->im, PGB_min_pool_size)), most = pool_size_of(w->im, e);
	char text[32];

	if (!e->values[e->is_user ? (uint32_t)USER_pool_size : (uint32_t)DB_pool_size] || least <= most ||
	    (!e->is_user && e->values[DB_min_pool_size]))
		return;
	snprintf(text, sizeof(text), "%.0f", most);
	add_line(w->out, "min_connections", text, "min_pool_size, limited by pool_size");
}

/* With user= PgBouncer has one pool, whoever the clients are; here it is one for each of them, so the limit is that of
 * the database. Where several lead to it they would take it away from each other. */
static void write_forced_limit(struct writer *w, const struct entry *d)
{
	const struct value *reserve =
		d->values[DB_reserve_pool_size] ? d->values[DB_reserve_pool_size] : d->values[DB_reserve_pool];
	double more = number_of(reserve ? reserve->text : setting_text(w->im, PGB_reserve_pool_size));
	char text[32];

	if (!d->values[DB_user] || d->values[DB_max_db_connections] || strcmp(d->name, "*") == 0 ||
	    number_of(setting_text(w->im, PGB_max_db_connections)) > 0 ||
	    (uintptr_t)map_get(&w->by_dbname, slice_str(dbname_of(d))) != 1)
		return;
	snprintf(text, sizeof(text), "%.0f", pool_size_of(w->im, d) + (more > 0 ? more : 0));
	add_line(w->out, "max_database_connections", text, "all clients log in as one user, and share its pool_size");
}

static void write_database(struct writer *w, const struct entry *d)
{
	const struct node *n = node_of(w, d);

	buf_add_str(w->out, "\n[databases.");
	toml_string(w->out, d->name);
	buf_add_str(w->out, "]\n");
	if (n && w->node_count > 1) {
		buf_add_str(w->out, "node = ");
		toml_string(w->out, n->name);
		buf_add_char(w->out, '\n');
	}
	for (uint32_t i = 0; i < DATABASE_COUNT; i++) {
		bool is_old_name = i == DB_reserve_pool && d->values[DB_reserve_pool_size];

		if (d->values[i] && !is_old_name)
			write_value(w, d->values[i]);
	}
	write_least(w, d);
	write_forced_limit(w, d);
}

static void write_user(struct writer *w, const struct entry *u)
{
	buf_add_str(w->out, "\n[users.");
	toml_string(w->out, u->name);
	buf_add_str(w->out, "]\n");
	for (uint32_t i = 0; i < USER_COUNT; i++)
		if (u->values[i])
			write_value(w, u->values[i]);
	write_least(w, u);
}

/* Without "*" a database that is not listed is refused. */
static void write_admission(struct writer *w)
{
	const struct map *names = &w->im->databases.by_name;

	if (!w->nodes || map_get(names, SLICE_LITERAL("*")) || map_get(names, SLICE_LITERAL("all")))
		return;
	buf_add_str(w->out, "\n# As PgBouncer: databases that are not listed are refused.\n");
	for (const struct entry *d = w->im->databases.first; d; d = d->next) {
		buf_add_str(w->out, "[[hba]]\naction = \"allow\"\ndatabase = ");
		toml_string(w->out, d->name);
		buf_add_char(w->out, '\n');
	}
	if (section_find("admin"))
		buf_add_str(w->out, "[[hba]]\naction = \"allow\"\ndatabase = \"pgbouncer\"\n");
	buf_add_str(w->out, "[[hba]]\naction = \"reject\"\n");
}

void write_toml(struct importer *im, const char *name, struct buf *out)
{
	struct writer w = {.im = im, .out = out, .lines = BUF_INIT(IMPORT_BYTES_MAX)};

	w.nodes_end = &w.nodes;
	buf_add_str(out, "# Made by heliosdb-proxy " HELIOS_VERSION " import pgbouncer ");
	add_clean(out, name);
	buf_add_str(out, "\n# What is not here is as the proxy has it: heliosdb-proxy --print-config shows all.\n");
	write_sections(&w);
	find_nodes(&w);
	write_nodes(&w);
	for (const struct entry *d = im->databases.first; d && !w.no_memory; d = d->next)
		write_database(&w, d);
	for (const struct entry *u = im->users.first; u && !w.no_memory; u = u->next)
		write_user(&w, u);
	write_admission(&w);
	out->failed |= w.no_memory;
	map_free(&w.by_address);
	map_free(&w.by_dbname);
	buf_free_secret(&w.lines);
}
