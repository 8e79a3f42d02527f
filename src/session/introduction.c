/*
 * What the startup packets of clients come to. A program sends the same one each time it connects, and who connects for
 * each transaction does so thousands of times a second: so what was read from a packet, and the greeting that answers
 * it, is kept for the next one with the very same bytes. Only of packets that led to a login: strangers can't push it
 * out. Who the client is, and from where, is looked at anew each time.
 */
#include "session/login_priv.h"

#define KEPT_MAX   256u /* in each worker; then all go */
#define PACKET_MAX 1024u

/* ---- reading one ---- */

/* What a startup packet is read into. */
struct reading {
	struct session *session;
	struct introduction *to;
};

static bool is_listed(const struct config_strings *list, const char *name)
{
	for (uint32_t i = 0; i < list->count; i++)
		if (strcasecmp(list->items[i], name) == 0)
			return true;
	return false;
}

/* Names of parameters are case-insensitive; ours are in lower case. NULL: out of memory. */
static char *lower(const char *from)
{
	char *name = strdup(from);

	for (char *c = name; c && *c; c++)
		*c = (char)(*c >= 'A' && *c <= 'Z' ? *c - 'A' + 'a' : *c);
	return name;
}

/* What PostgreSQL leaves of a long name: 63 bytes, without a character of UTF-8 that would be cut in two. */
static size_t name_len(const char *name)
{
	size_t len = strnlen(name, 64), step;

	if (len < 64)
		return len;
	for (len = 0; len < 63; len += step) {
		uint8_t lead = (uint8_t)name[len];

		step = lead < 0xc0 || lead >= 0xf8 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
		if (len + step > 63)
			break;
	}
	return len;
}

/* Nobody knows the encoding of these bytes. */
static void clean_ascii(char *text)
{
	for (; *text; text++)
		if (*text < 32 || *text > 126)
			*text = '?';
}

/* Takes sql, which may be NULL. */
static int set_parameter(struct introduction *i, const char *key, char *sql)
{
	if (!sql)
		return -ENOMEM;
	params_set(&i->settings, key, sql);
	free(sql);
	return 0;
}

static int set_application(struct introduction *i, const char *name, const char *value)
{
	char *cut = strndup(value, name_len(value)), *clean = cut ? strdup(cut) : NULL, *sql;

	if (!clean) {
		free(cut);
		return -ENOMEM;
	}
	clean_ascii(clean);
	free(i->application);
	i->application = clean;
	i->application_is_plain = strcmp(clean, cut) == 0;
	sql = settings_application_sql(name, cut, clean);
	free(cut);
	return set_parameter(i, "application_name", sql);
}

/* The server is told the name as the client wrote it: should there be no such parameter, its error says so. */
static int add_setting(void *to, const char *name, const char *value)
{
	struct reading *reading = to;
	const struct config *config = reading->session->worker->settings.config;
	char *key = lower(name);
	int r = 0;

	if (!key)
		return -ENOMEM;
	if (is_listed(&config->pool.ignore_startup_parameters, key))
		r = 0;
	else if (strcmp(key, "application_name") == 0)
		r = set_application(reading->to, name, value);
	else
		r = set_parameter(reading->to, key, settings_sql(name, value));
	free(key);
	return r;
}

static bool begins(const char *word, const char *given)
{
	return strncasecmp(word, given, strlen(given)) == 0;
}

/* A boolean as PostgreSQL reads them: on, off, or what begins true, false, yes or no. False: none of these. */
static bool read_bool(const char *text, bool *ret)
{
	size_t len = strlen(text);

	if (len && (begins("true", text) || begins("yes", text)))
		*ret = true;
	else if (len && (begins("false", text) || begins("no", text)))
		*ret = false;
	else if (strcasecmp(text, "on") == 0 || strcmp(text, "1") == 0)
		*ret = true;
	else if ((len > 1 && begins("off", text)) || strcmp(text, "0") == 0)
		*ret = false;
	else
		return false;
	return true;
}

static bool take_replication(struct reading *reading, const char *value)
{
	struct introduction *i = reading->to;
	bool wanted = strcmp(value, "database") == 0;

	if (!wanted && !read_bool(value, &wanted)) {
		session_fatal(reading->session, ERROR_INVALID_PARAMETER,
			      "Valid values are: \"false\", 0, \"true\", 1, \"database\".", "replication", value);
		return false;
	}
	i->replication = wanted ? strdup(value) : NULL;
	return !wanted || i->replication;
}

static bool take_options(struct reading *reading, const char *value)
{
	char bad[100] = "";
	int r = startup_split_options(value, add_setting, reading, bad, sizeof(bad));
	bool is_long;

	if (r == 0 || r == -ENOMEM)
		return r == 0;
	is_long = strncmp(bad, "--", 2) == 0;
	session_fatal(reading->session, ERROR_INVALID_OPTION, NULL,
		      is_long ? "" : "invalid command-line argument for server process: ", bad,
		      is_long ? " requires a value" : "");
	return false;
}

/* Parameters that have a name of their own count more than those in "options", wherever they stand. */
static bool take_parameters(struct reading *reading, const struct startup *p)
{
	static const char *const ours[] = {"user", "database", "options", "replication"};
	const char *options = startup_get(p, "options"), *replication = startup_get(p, "replication");

	if ((options && !take_options(reading, options)) || (replication && !take_replication(reading, replication)))
		return false;
	for (uint32_t i = 0; i < p->parameter_count; i++) {
		const char *name = (const char *)p->parameters[i].name.bytes;
		bool is_ours = false;

		for (size_t j = 0; j < ARRAY_SIZE(ours); j++)
			is_ours = is_ours || strcmp(name, ours[j]) == 0;
		if (!is_ours && add_setting(reading, name, (const char *)p->parameters[i].value.bytes) < 0)
			return false;
	}
	return true;
}

/* NULL: there is none, or no memory; then the session is closed, or to be closed. */
static struct introduction *read_introduction(struct session *s, const struct startup *p)
{
	const char *user = startup_get(p, "user"), *database = startup_get(p, "database");
	struct introduction *i;

	if (!user || !*user) {
		session_fatal(s, ERROR_NO_USER, NULL);
		return NULL;
	}
	i = calloc(1, sizeof(*i));
	if (!i)
		return NULL;
	i->references = 1;
	i->user = strdup(user);
	i->database = strdup(database && *database ? database : user);
	if (!i->user || !i->database || !take_parameters(&(struct reading){.session = s, .to = i}, p)) {
		introduction_unref(i);
		return NULL;
	}
	/* "": whoever has one is told his own, and those who have none must not be told that of whoever was first */
	i->welcome_key =
		i->application_is_plain ? params_with(i->settings, "application_name", "") : params_ref(i->settings);
	return i;
}

/* NULL: out of memory. */
static uint8_t *copy_of(const uint8_t *bytes, size_t len)
{
	uint8_t *copy = malloc(len);

	return copy ? memcpy(copy, bytes, len) : NULL;
}

struct introduction *introduction_new(struct session *s, const struct startup *p, struct slice packet)
{
	struct introduction *i = read_introduction(s, p);

	if (!i) {
		session_fatal(s, ERROR_OUT_OF_MEMORY, NULL); /* does nothing when another reason was told already */
		return NULL;
	}
	i->long_key = s->long_key;
	i->stays_out = packet.len == 0 || packet.len > PACKET_MAX;
	if (!i->stays_out)
		i->packet = copy_of(packet.bytes, packet.len);
	i->packet_len = (uint32_t)packet.len;
	return i;
}

struct introduction *introduction_ref(struct introduction *i)
{
	i->references++;
	return i;
}

void introduction_unref(struct introduction *i)
{
	if (!i || --i->references > 0)
		return;
	params_unref(i->settings);
	params_unref(i->welcome_key);
	params_unref(i->learned);
	params_unref(i->reported);
	free(i->user);
	free(i->database);
	free(i->replication);
	free(i->application);
	free(i->greeting);
	free(i->packet);
	free(i);
}

/* ---- the greeting ---- */

static void add_parameters(struct buf *out, const struct params *reported)
{
	for (uint32_t i = 0; i < params_count(reported); i++) {
		const char *name, *value;

		params_at(reported, i, &name, &value);
		message_parameter_status(out, name, value);
	}
}

bool introduction_greet(struct introduction *i, const struct params *learned)
{
	struct buf out = BUF_INIT(1u << 20);

	if (i->greeting && i->learned == learned)
		return true;
	params_assign(&i->learned, learned);
	params_assign(&i->reported, learned);
	if (i->application_is_plain)
		params_set(&i->reported, "application_name", i->application);
	message_auth_ok(&out);
	add_parameters(&out, i->reported);
	free(i->greeting);
	i->greeting = out.failed ? NULL : copy_of(out.bytes, out.len);
	i->greeting_len = (uint32_t)out.len;
	buf_free(&out);
	return i->greeting != NULL;
}

/* ---- those that are kept ---- */

struct introduction *introduction_find(const struct worker *w, const uint8_t *bytes, size_t len)
{
	uint32_t size = len >= 4 ? get_be32(bytes) : 0;

	return size >= 4 && size <= MIN(len, PACKET_MAX) ? map_get(&w->introductions, slice_make(bytes, size)) : NULL;
}

void introduction_remember(struct worker *w, struct introduction *i)
{
	struct introduction *old = NULL;

	if (!i->packet || i->stays_out)
		return;
	if (w->introductions.count >= KEPT_MAX)
		introductions_forget(w);
	if (map_put(&w->introductions, slice_make(i->packet, i->packet_len), i, (void **)&old) < 0)
		return;
	introduction_ref(i)->stays_out = true;
	introduction_unref(old);
}

void introductions_forget(struct worker *w)
{
	struct slice packet;
	void *i;

	for (uint32_t at = 0; map_next(&w->introductions, &at, &packet, &i);)
		introduction_unref(i);
	map_free(&w->introductions);
}
