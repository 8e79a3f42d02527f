/* What each value of pgbouncer.ini is in proxy.toml: a function for each conversion that pgbouncer.def names. */
#include "config/value.h"
#include "import/import_priv.h"

#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#define DEFER_ACCEPT_SECONDS 45u   /* what PgBouncer's tcp_defer_accept = 1 means */
#define KEEPALIVE_OF_LINUX   7200u /* tcp_keepidle where nobody sets it */
#define SHORTEST_LIFETIME    "1ms"
#define STANDARD_RESET_QUERY "DISCARD ALL"

static enum outcome say(struct conversion *c, enum outcome outcome, const char *format, ...) PRINTF_LIKE(3, 4);

static enum outcome say(struct conversion *c, enum outcome outcome, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(c->why, sizeof(c->why), format, args);
	va_end(args);
	return outcome;
}

void toml_string(struct buf *out, const char *text)
{
	buf_add_char(out, '"');
	for (const char *at = text; *at; at++) {
		if (*at == '"' || *at == '\\')
			buf_printf(out, "\\%c", *at);
		else if ((unsigned char)*at < 0x20 || *at == 0x7f)
			buf_printf(out, "\\u%04X", (unsigned char)*at);
		else if (*at == '$' && at[1] == '{') /* would be a variable of the environment */
			buf_add_str(out, "\\u0024");
		else
			buf_add_char(out, *at);
	}
	buf_add_char(out, '"');
}

/* ---- values of other settings ---- */

/* Only the whole proxy has these here; what all databases say is as good as said in [pgbouncer]. NULL: they don't. */
static const char *text_of_all(const struct importer *im, enum setting_id id)
{
	switch (id) {
	case PGB_auth_user:
		return im->of_all[DB_auth_user];
	case PGB_auth_query:
		return im->of_all[DB_auth_query];
	case PGB_auth_dbname:
		return im->of_all[DB_auth_dbname];
	default:
		return NULL;
	}
}

const char *setting_text(const struct importer *im, enum setting_id id)
{
	const char *text = im->settings[id] ? im->settings[id]->text : text_of_all(im, id);

	if (!text)
		text = setting_rows[id].default_text;
	return text ? text : "";
}

double number_of(const char *text)
{
	char *end;
	double number = strtod(text, &end);

	return *text && !*end && isfinite(number) ? number : 0;
}

static const char *entry_text(const struct entry *entry, uint32_t index)
{
	return entry->values[index] ? entry->values[index]->text : NULL;
}

double pool_size_of(const struct importer *im, const struct entry *entry)
{
	const char *own = entry ? entry_text(entry, entry->is_user ? USER_pool_size : DB_pool_size) : NULL;

	if (own && number_of(own) > 0)
		return number_of(own);
	return number_of(setting_text(im, PGB_default_pool_size));
}

bool database_host(const struct importer *im, const struct entry *database, char host[HOST_MAX + 1])
{
	const char *text = entry_text(database, DB_host);
	size_t len;

	if (!text)
		text = setting_text(im, PGB_unix_socket_dir);
	text += strspn(text, ", ");
	len = strcspn(text, ", ");
	if (len == 0 || len > HOST_MAX || *text == '@')
		return false;
	memcpy(host, text, len);
	host[len] = 0;
	return true;
}

uint32_t database_port(const struct entry *database)
{
	const char *text = entry_text(database, DB_port);
	double port = text ? number_of(text) : 5432;

	return port >= 1 && port <= UINT16_MAX ? (uint32_t)port : 0;
}

/* ---- conversions ---- */

/* Puts a text in that the key takes as it is. */
static enum outcome put_text(struct conversion *c, const char *text, bool quoted)
{
	char why[WHY_SIZE];
	struct arena arena;
	uint64_t field[FIELD_SIZE_MAX / sizeof(uint64_t)];
	int r;

	arena_init(&arena, 512);
	r = value_from_text(c->key, text, &arena, field, why);
	arena_destroy(&arena);
	if (r < 0)
		return say(c, OUTCOME_WRONG, "%s", r == -ENOMEM ? "out of memory" : why);
	if (quoted)
		toml_string(&c->toml, text);
	else
		buf_add_str(&c->toml, text);
	return OUTCOME_WRITE;
}

static enum outcome convert_string(struct conversion *c)
{
	toml_string(&c->toml, c->text);
	return OUTCOME_WRITE;
}

static enum outcome convert_nothing(struct conversion *c)
{
	return say(c, OUTCOME_NOTHING, "%s", c->row->remark);
}

/* C's notation: 0777, 0x10. */
static bool read_number(const char *text, long *ret)
{
	char *end;

	errno = 0;
	*ret = strtol(text, &end, 0);
	return end != text && !*end && errno == 0;
}

static bool means_the_same(const char *a, const char *b)
{
	long x, y;

	return strcasecmp(a, b) == 0 || (read_number(a, &x) && read_number(b, &y) && x == y);
}

static enum outcome convert_absent(struct conversion *c)
{
	if (c->row->default_text && means_the_same(c->text, c->row->default_text))
		return say(c, OUTCOME_NOTHING, "it is the default");
	return say(c, OUTCOME_ABSENT, "%s", c->row->remark);
}

static enum outcome convert_part(struct conversion *c)
{
	return say(c, OUTCOME_PART, "%s", c->row->remark);
}

static enum outcome put_number(struct conversion *c, long number)
{
	char text[32];

	snprintf(text, sizeof(text), "%ld", number);
	return put_text(c, text, /* quoted= */ false);
}

static enum outcome convert_number(struct conversion *c)
{
	long number;

	if (!read_number(c->text, &number))
		return say(c, OUTCOME_WRONG, "it must be a whole number");
	return put_number(c, number);
}

/* In connection strings a negative number stands for none. */
static enum outcome convert_limit(struct conversion *c)
{
	long number;

	if (c->entry && read_number(c->text, &number) && number < 0)
		return say(c, OUTCOME_NOTHING, "it means that what [pgbouncer] says counts");
	return convert_number(c);
}

/* PgBouncer's never lets a pool have more than its size; ours takes such a setting for a mistake. */
static enum outcome convert_min_pool_size(struct conversion *c)
{
	double most = pool_size_of(c->im, c->entry);
	long number;

	if (!read_number(c->text, &number) || number < 0 || number <= most)
		return convert_limit(c);
	say(c, OUTCOME_WRITE, "it is limited by the size of the pool");
	return put_number(c, (long)most);
}

/* reserve_pool_timeout = 0 turns the reserve off. */
static enum outcome convert_reserve(struct conversion *c)
{
	long number;

	if (number_of(setting_text(c->im, PGB_reserve_pool_timeout)) > 0 || !read_number(c->text, &number) ||
	    number <= 0)
		return convert_limit(c);
	say(c, OUTCOME_WRITE, "reserve_pool_timeout = 0 turns the reserve off");
	return put_number(c, 0);
}

static enum outcome convert_boolean(struct conversion *c)
{
	long number;

	if (!read_number(c->text, &number))
		return say(c, OUTCOME_WRONG, "it must be 0 or 1");
	buf_add_str(&c->toml, number ? "true" : "false");
	return OUTCOME_WRITE;
}

/* What has a least value here (logins must end) is for ever with PgBouncer's 0. */
static enum outcome put_duration(struct conversion *c, double number, usec_t unit)
{
	usec_t duration, least = c->key->min * USEC_PER_SEC, most = c->key->max * USEC_PER_SEC;
	char text[DURATION_TEXT];

	if (number < 0 || duration_from_number(number, unit, &duration) < 0)
		return say(c, OUTCOME_WRONG, "it is out of range");
	if (duration > most || (duration == 0 && least > 0)) {
		duration = most;
		say(c, OUTCOME_WRITE, "it is the longest possible");
	} else if (duration < least) {
		duration = least;
		say(c, OUTCOME_WRITE, "it is the shortest possible");
	}
	buf_printf(&c->toml, "\"%s\"", duration_print(duration, text));
	return OUTCOME_WRITE;
}

static enum outcome put_duration_text(struct conversion *c, usec_t unit)
{
	char *end;
	double number = strtod(c->text, &end);

	if (!*c->text || *end || !isfinite(number) || !isdigit((unsigned char)c->text[strspn(c->text, "+-.")]))
		return say(c, OUTCOME_WRONG, "it must be a number of %s",
			   unit == USEC_PER_SEC ? "seconds" : "milliseconds");
	return put_duration(c, number, unit);
}

static enum outcome convert_seconds(struct conversion *c)
{
	return put_duration_text(c, USEC_PER_SEC);
}

static enum outcome convert_seconds_or_unset(struct conversion *c)
{
	if (number_of(c->text) < 0)
		return say(c, OUTCOME_NOTHING, "it means that what [pgbouncer] says counts");
	return convert_seconds(c);
}

static enum outcome convert_milliseconds(struct conversion *c)
{
	return put_duration_text(c, USEC_PER_MSEC);
}

/* 0 is one use here, and for ever there. */
static enum outcome convert_lifetime(struct conversion *c)
{
	long number;

	if (!read_number(c->text, &number) || number != 0)
		return convert_seconds(c);
	say(c, OUTCOME_WRITE, "a server connection is used once");
	buf_add_str(&c->toml, "\"" SHORTEST_LIFETIME "\"");
	return OUTCOME_WRITE;
}

static enum outcome convert_word(struct conversion *c)
{
	return put_text(c, c->text, /* quoted= */ true);
}

/* The next of a comma list without blanks around it; false: the end. */
static bool next_word(const char **at, char word[HOST_MAX + 1])
{
	size_t len;

	*at += strspn(*at, ", \t");
	len = strcspn(*at, ",");
	if (len == 0)
		return false;
	snprintf(word, HOST_MAX + 1, "%.*s", (int)MIN(len, HOST_MAX), *at);
	*at += len;
	for (len = strlen(word); len > 0 && isspace((unsigned char)word[len - 1]); len--)
		word[len - 1] = 0;
	return true;
}

static void add_item(struct buf *list, const char *text)
{
	buf_add_str(list, list->len ? ", " : "[");
	toml_string(list, text);
}

static enum outcome convert_words(struct conversion *c)
{
	const char *at = c->text;
	char word[HOST_MAX + 1];

	while (next_word(&at, word))
		add_item(&c->toml, word);
	buf_add_str(&c->toml, c->toml.len ? "]" : "[]");
	return OUTCOME_WRITE;
}

/* ---- listeners ---- */

static enum outcome convert_listen(struct conversion *c)
{
	const char *at = c->text, *folder = setting_text(c->im, PGB_unix_socket_dir);
	long port = (long)number_of(setting_text(c->im, PGB_listen_port));
	char word[HOST_MAX + 1], address[HOST_MAX + 32];

	if (port < 1 || port > UINT16_MAX)
		return say(c, OUTCOME_WRONG, "listen_port is no port");
	while (next_word(&at, word)) {
		snprintf(address, sizeof(address), strchr(word, ':') ? "[%s]:%ld" : "%s:%ld", word, port);
		if (address_split(address, word, &(uint32_t){0}) < 0)
			return say(c, OUTCOME_WRONG, "%s is no address", word);
		add_item(&c->toml, address);
	}
	if (*folder == '/' && strlen(folder) < HOST_MAX - 32) {
		snprintf(address, sizeof(address), "unix:%s/.s.PGSQL.%ld", folder, port);
		add_item(&c->toml, address);
	}
	if (!c->toml.len)
		return say(c, OUTCOME_WRONG, "there is nothing to listen on: neither listen_addr nor unix_socket_dir");
	buf_add_char(&c->toml, ']');
	return OUTCOME_WRITE;
}

static enum outcome convert_port(struct conversion *c)
{
	long port;

	if (!read_number(c->text, &port) || port < 1 || port > UINT16_MAX)
		return say(c, OUTCOME_WRONG, "it is no port");
	return convert_part(c);
}

static enum outcome convert_folder(struct conversion *c)
{
	if (*c->text == '@')
		return say(c, OUTCOME_ABSENT, "there are no sockets in the abstract namespace");
	if (*c->text && *c->text != '/')
		return say(c, OUTCOME_ABSENT, "the folder of the socket must be an absolute path");
	return convert_part(c);
}

static enum outcome convert_defer_accept(struct conversion *c)
{
	long on;

	if (!read_number(c->text, &on))
		return say(c, OUTCOME_WRONG, "it must be 0 or 1");
	return put_duration(c, on ? DEFER_ACCEPT_SECONDS : 0, USEC_PER_SEC);
}

static enum outcome convert_keepalive(struct conversion *c)
{
	double idle = number_of(setting_text(c->im, PGB_tcp_keepidle));
	long on;

	if (!read_number(c->text, &on))
		return say(c, OUTCOME_WRONG, "it must be 0 or 1");
	return put_duration(c, on ? (idle > 0 ? idle : KEEPALIVE_OF_LINUX) : 0, USEC_PER_SEC);
}

/* ---- users and logins ---- */

static bool auth_type_is(const struct importer *im, const char *name)
{
	return strcasecmp(setting_text(im, PGB_auth_type), name) == 0;
}

static enum outcome convert_auth_type(struct conversion *c)
{
	static const struct {
		const char *name, *mode, *remark;
	} types[] = {
		{"any", "trust",
		 "server connections are made as [databases] user, where it is set, or else as the client's"},
		{"trust", "trust",
		 "users that auth_file does not have are admitted, too: the server decides about them"},
		{"plain", "password", ""},
		{"md5", "md5", ""},
		{"scram-sha-256", "scram", ""},
		{"cert", "cert", ""},
	};

	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		if (strcasecmp(types[i].name, c->text) == 0) {
			say(c, OUTCOME_WRITE, "%s", types[i].remark);
			toml_string(&c->toml, types[i].mode);
			return OUTCOME_WRITE;
		}
	}
	if (strcasecmp(c->text, "hba") == 0)
		return *setting_text(c->im, PGB_auth_hba_file)
			       ? say(c, OUTCOME_PART, "each rule's method counts")
			       : say(c, OUTCOME_WRONG, "auth_type = hba needs auth_hba_file");
	if (strcasecmp(c->text, "pam") == 0 || strcasecmp(c->text, "ldap") == 0)
		return say(
			c, OUTCOME_WRONG,
			"this version does not ask %s about passwords, and nobody could log in; auth_type = md5 with "
			"auth_file, or auth_user, is what it can do",
			c->text);
	return say(c, OUTCOME_WRONG, "it must be one of any, trust, plain, md5, scram-sha-256, cert, hba, pam, ldap");
}

static enum outcome convert_of_all(struct conversion *c)
{
	enum setting_id id = strcmp(c->row->name, "auth_user") == 0    ? PGB_auth_user
			     : strcmp(c->row->name, "auth_query") == 0 ? PGB_auth_query
								       : PGB_auth_dbname;

	if (strcmp(setting_text(c->im, id), c->text) == 0)
		return say(c, OUTCOME_NOTHING, "[auth] %s says it", setting_rows[id].key);
	return say(c, OUTCOME_ABSENT, "%s", c->row->remark);
}

static enum outcome convert_hba_file(struct conversion *c)
{
	if (!auth_type_is(c->im, "hba"))
		return say(c, OUTCOME_NOTHING, "it counts only with auth_type = hba");
	return convert_string(c);
}

/* ---- servers ---- */

static enum outcome convert_reset_query(struct conversion *c)
{
	return *c->text ? convert_string(c) : say(c, OUTCOME_NOTHING, "[pool] reset = \"never\" says it");
}

/* PgBouncer's runs when a client leaves its session, ours when something is left behind; a query of somebody's own may
 * be meant to do more than that. */
static enum outcome convert_disable_pqexec(struct conversion *c)
{
	long number;

	if (!read_number(c->text, &number))
		return say(c, OUTCOME_WRONG, "it must be 0 or 1");
	toml_string(&c->toml, number ? "refuse" : "allow");
	return OUTCOME_WRITE;
}

static enum outcome convert_reset(struct conversion *c)
{
	const char *query = setting_text(c->im, PGB_server_reset_query);
	bool in_sessions = strcasecmp(setting_text(c->im, PGB_pool_mode), "session") == 0;
	long always;

	if (!read_number(c->text, &always))
		return say(c, OUTCOME_WRONG, "it must be 0 or 1");
	if (!*query)
		toml_string(&c->toml, "never");
	else if (always || (in_sessions && strcasecmp(query, STANDARD_RESET_QUERY) != 0))
		toml_string(&c->toml, "always");
	else
		toml_string(&c->toml, "when_changed");
	return OUTCOME_WRITE;
}

static enum outcome convert_host(struct conversion *c)
{
	char host[HOST_MAX + 1];

	if (strcmp(c->row->name, "port") == 0)
		return database_port(c->entry) ? convert_part(c) : say(c, OUTCOME_WRONG, "it is no port");
	if (!database_host(c->im, c->entry, host))
		return say(c, OUTCOME_WRONG,
			   *c->text == '@' ? "there are no sockets in the abstract namespace" : "it is no host");
	if (strchr(c->text, ','))
		return say(c, OUTCOME_ABSENT, "a database has one node: %s, the first of the list, is used", host);
	return convert_part(c);
}

static enum outcome convert_forced_user(struct conversion *c)
{
	say(c, OUTCOME_WRITE, "each user among the clients has a pool of his own");
	return convert_string(c);
}

/* ---- TLS, log ---- */

static enum outcome convert_protocols(struct conversion *c)
{
	static const char *const names[] = {"tlsv1.0", "tlsv1.1", "tlsv1.2", "tlsv1.3"};
	const char *at = c->text;
	char word[HOST_MAX + 1];
	uint32_t wanted = 0;
	size_t i;

	while (next_word(&at, word)) {
		for (i = 0; i < ARRAY_SIZE(names) && strcasecmp(names[i], word) != 0; i++)
			;
		if (i < ARRAY_SIZE(names))
			wanted |= BIT(i);
		else if (strcasecmp(word, "all") == 0 || strcasecmp(word, "legacy") == 0)
			wanted |= BIT(0) | BIT(1) | BIT(2) | BIT(3);
		else if (strcasecmp(word, "secure") == 0 || strcasecmp(word, "default") == 0)
			wanted |= BIT(2) | BIT(3);
		else
			return say(c, OUTCOME_WRONG, "%.40s is no version of TLS", word);
	}
	if (wanted & (BIT(0) | BIT(1)))
		say(c, OUTCOME_WRITE, "there is no TLS older than 1.2");
	else if (wanted && !(wanted & BIT(3)))
		say(c, OUTCOME_WRITE, "TLS 1.3 is taken as well");
	toml_string(&c->toml, wanted == BIT(3) ? "TLSv1.3" : "TLSv1.2");
	return OUTCOME_WRITE;
}

static enum outcome convert_ciphers(struct conversion *c)
{
	static const char *const usual[] = {"default", "secure", "fast", "normal"};

	for (size_t i = 0; i < ARRAY_SIZE(usual); i++) {
		if (strcasecmp(usual[i], c->text) == 0) {
			toml_string(&c->toml, "");
			return OUTCOME_WRITE;
		}
	}
	toml_string(&c->toml, strcasecmp(c->text, "all") == 0 ? "ALL" : c->text);
	return OUTCOME_WRITE;
}

static enum outcome convert_verbosity(struct conversion *c)
{
	long level;

	if (!read_number(c->text, &level))
		return say(c, OUTCOME_WRONG, "it must be a whole number");
	toml_string(&c->toml, level <= 0 ? "info" : level == 1 ? "debug" : "trace");
	return OUTCOME_WRITE;
}

/* ---- the tables ---- */

const struct row setting_rows[SETTING_COUNT] = {
#define PGB_SETTING(name, default_text, conversion, section, key, remark) \
	{#name, default_text, #conversion, convert_##conversion, section, key, remark},
#include "import/pgbouncer.def"
};

/* convert() finds the section of these. */
const struct row database_rows[DATABASE_COUNT] = {
#define PGB_DATABASE(name, conversion, key, remark) \
	{#name, NULL, #conversion, convert_##conversion, "databases", key, remark},
#include "import/pgbouncer.def"
};

const struct row user_rows[USER_COUNT] = {
#define PGB_USER(name, conversion, key, remark) {#name, NULL, #conversion, convert_##conversion, "users", key, remark},
#include "import/pgbouncer.def"
};

static const struct config_key *key_of(const struct row *row)
{
	const struct config_key *key;
	usec_t unit;

	if (!*row->key)
		return NULL;
	if (!table_section_find(row->section))
		return section_find(row->section) ? key_find(row->section, row->key, &unit) : NULL;
	key = table_key_find(row->section, row->key, &unit);
	return key ? key : key_find("pool", row->key, &unit);
}

enum outcome convert(const struct importer *im, const struct row *row, const struct entry *entry, const char *text,
		     struct conversion *ret)
{
	*ret = (struct conversion){.im = im, .row = row, .entry = entry, .text = text, .key = key_of(row)};
	buf_init(&ret->toml, TOML_MAX);
	if (*row->key && !ret->key)
		return *text ? say(ret, OUTCOME_ABSENT, "there is no [%s] %s", row->section, row->key)
			     : say(ret, OUTCOME_NOTHING, "there is no [%s] %s", row->section, row->key);
	return row->convert(ret);
}
