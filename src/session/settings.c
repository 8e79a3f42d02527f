/*
 * Session parameters on shared links. A setting is a name and the SQL that sets it. Before a transaction the link is
 * given, by difference, what the session has: as one simple query in front of the client's own, in the same packet.
 * A set of settings that no server has accepted yet is waited for, so that nothing ever runs under wrong ones; so is a
 * change of role.
 */
#include "session/session_priv.h"

#include "base/log.h"
#include "session/set_syntax.h"

/* In an E'' string both the quote and the backslash are doubled: right whatever standard_conforming_strings says. */
static void add_literal(struct buf *b, const char *text)
{
	buf_add_str(b, "E'");
	for (; *text; text++) {
		if (*text == '\'' || *text == '\\')
			buf_add_char(b, *text);
		buf_add_char(b, *text);
	}
	buf_add_char(b, '\'');
}

char *settings_sql(const char *name, const char *value)
{
	struct buf b = BUF_INIT(1u << 20);
	char *sql;

	buf_add_str(&b, "SELECT pg_catalog.set_config(");
	add_literal(&b, name);
	buf_add_str(&b, ", ");
	add_literal(&b, value);
	buf_add_str(&b, ", false)");
	sql = b.failed ? NULL : strdup(buf_cstr(&b));
	buf_free(&b);
	return sql;
}

/* Bytes that are not printable ASCII become \xNN. */
static void add_escaped(struct buf *b, const char *text)
{
	for (; *text; text++)
		if (*text < 32 || *text > 126)
			buf_printf(b, "\\x%02x", (unsigned char)*text);
		else
			buf_add_char(b, *text);
}

/*
 * In a startup packet PostgreSQL takes any bytes for application_name; in a statement it would refuse them, or read
 * them in the client's encoding. Up to 15 it makes '?' of what is not printable ASCII, since then \xNN: which of the
 * two is the server's own choice when it runs this, for a pool's nodes may differ in their version.
 */
char *settings_application_sql(const char *name, const char *value, const char *clean)
{
	struct buf b = BUF_INIT(1u << 20), escaped = BUF_INIT(1u << 20);
	char *sql;

	if (strcmp(value, clean) == 0)
		return settings_sql(name, value);
	add_escaped(&escaped, value);
	buf_add_str(&b, "SELECT pg_catalog.set_config(");
	add_literal(&b, name);
	buf_add_str(&b, ", CASE WHEN pg_catalog.current_setting('server_version_num')::pg_catalog.int4 "
			"OPERATOR(pg_catalog.<) 160000 THEN ");
	add_literal(&b, clean);
	buf_add_str(&b, " ELSE ");
	add_literal(&b, buf_cstr(&escaped));
	buf_add_str(&b, " END, false)");
	sql = b.failed || escaped.failed ? NULL : strdup(buf_cstr(&b));
	buf_free(&escaped);
	buf_free(&b);
	return sql;
}

/* session_authorization first, for it sets role back; then role, for it decides what may be set. */
static int rank(const char *name)
{
	return strcmp(name, "session_authorization") == 0 ? 0 : strcmp(name, "role") == 0 ? 1 : 2;
}

static void add_reset(struct buf *sql, const char *name, bool by_set)
{
	if (strcmp(name, "session characteristics") == 0) {
		buf_add_str(sql, "RESET default_transaction_isolation;RESET default_transaction_read_only;"
				 "RESET default_transaction_deferrable;");
		return;
	}
	if (by_set) {
		set_syntax_add_reset(sql, name);
		buf_add_char(sql, ';');
		return;
	}
	/* not RESET: a parameter may have a name that is no identifier, where the server let a client make one up */
	buf_add_str(sql, "SELECT pg_catalog.set_config(");
	add_literal(sql, name);
	buf_add_str(sql, ", NULL, false);");
}

bool settings_difference(const struct worker *w, struct buf *sql, const struct params *from, const struct params *to)
{
	bool by_set = w->settings.config->topology.provider == PROVIDER_HELIOSDB;
	const char *name, *value, *other;
	bool role = false;

	for (uint32_t i = 0; i < params_count(from); i++) {
		params_at(from, i, &name, &value);
		if (!params_get(to, name)) {
			add_reset(sql, name, by_set);
			role = role || rank(name) < 2;
		}
	}
	for (int r = 0; r < 3; r++)
		for (uint32_t i = 0; i < params_count(to); i++) {
			params_at(to, i, &name, &value);
			if (rank(name) != r)
				continue;
			other = params_get(from, name);
			/* a changed session_authorization takes the role with it */
			if (other && strcmp(other, value) == 0 && !(r == 1 && role))
				continue;
			if (by_set)
				set_syntax_add(sql, name, value);
			else
				buf_add_str(sql, value);
			buf_add_char(sql, ';');
			role = role || r < 2;
		}
	return role;
}

/* application_name can't be refused: sets that differ only in it are as good as known. */
bool settings_are_known(struct shard *shard, const struct params *settings)
{
	const struct params *key;
	bool known;

	if (pool_settings_known(shard, settings))
		return true;
	key = params_with(settings, "application_name", NULL);
	known = pool_settings_known(shard, key);
	params_unref(key);
	return known;
}

static void accepted(struct session *s)
{
	const struct params *key = params_with(s->settings, "application_name", NULL);

	pool_settings_accepted(s->source, s->settings);
	pool_settings_accepted(s->source, key);
	params_unref(key);
}

static bool send_difference(struct session *s)
{
	struct link *link = s->link;
	struct buf sql = BUF_INIT(1u << 20), out = BUF_INIT(1u << 20);
	bool role = settings_difference(s->worker, &sql, link->settings, s->settings), failed;

	message_query(&out, slice_make(sql.bytes, sql.len));
	failed =
		sql.failed || out.failed || session_expect(s, EXPECT_QUERY, EXPECT_SWALLOW, PURPOSE_SETTINGS, NULL) < 0;
	if (!failed) {
		conn_send(&link->conn, out.bytes, out.len);
		params_assign(&link->settings_before, link->settings);
		params_assign(&link->settings, s->settings);
		link->fresh = true;
		link->has_unnamed = false; /* a simple query ends the unnamed statement */
		/* a client that logs in is told what the server reports of it */
		s->syncing = role || s->state == SESSION_WELCOMING || !settings_are_known(s->source, s->settings);
		count_add(&session_counters(s)->parameter_syncs_total, 1);
	}
	buf_free(&sql);
	buf_free(&out);
	if (failed)
		session_fatal(s, ERROR_OUT_OF_MEMORY, NULL);
	return !failed;
}

bool settings_sync(struct session *s)
{
	if (s->syncing)
		return false;
	if (likely(s->link->settings == s->settings)) {
		if (unlikely(s->link->reported != s->reported) && s->state != SESSION_WELCOMING)
			settings_report(s);
		return true;
	}
	return send_difference(s) && !s->syncing;
}

void settings_report(struct session *s)
{
	struct buf out = BUF_INIT(1u << 20);
	const char *name, *value, *told;

	for (uint32_t i = 0; i < params_count(s->link->reported); i++) {
		params_at(s->link->reported, i, &name, &value);
		told = params_get(s->reported, name);
		if (!told || strcmp(told, value) != 0)
			message_parameter_status(&out, name, value);
	}
	params_assign(&s->reported, s->link->reported);
	session_send_buf(s, &out);
}

static bool is_of_state(const uint8_t *error, size_t len, const char *sqlstate)
{
	struct error_fields e = {0};

	return message_read_error(error + FRAME_HEADER, (uint32_t)len - FRAME_HEADER, &e) &&
	       slice_equal(e.sqlstate, slice_str(sqlstate));
}

static bool is_canceled(const uint8_t *error, size_t len)
{
	return is_of_state(error, len, "57014");
}

/* A role that was dropped, or that the user may not be any more: 22023, 42501, of a newer server 42704. */
static bool lost_its_role(const struct session *s, const uint8_t *error, size_t len)
{
	return (params_get(s->settings, "role") || params_get(s->settings, "session_authorization")) &&
	       (is_of_state(error, len, "22023") || is_of_state(error, len, "42501") ||
		is_of_state(error, len, "42704"));
}

static void end_session(struct session *s, const uint8_t *error, size_t len, const char *why)
{
	struct buf out = BUF_INIT(len + 4096);

	s->link->close_when_free = true;
	(void)!message_error_as(&out, error, len, "FATAL");
	session_fatal_bytes(s, out.bytes, out.len, why);
	buf_free(&out);
}

void settings_sync_done(struct session *s, const uint8_t *error, size_t len)
{
	struct link *link = s->link;
	bool waited = s->syncing, again = error && s->hold_ready && !link->close_when_free && is_canceled(error, len);

	s->syncing = false;
	if (error) {
		if (link->settings_before)
			link->close_when_free =
				true; /* if what failed was to undo another client's, nobody is to meet it again */
		/* one simple query is one transaction: nothing of it holds */
		params_assign(&link->settings, link->settings_before);
		if (again) { /* the cancel was for what ended just before */
			link->close_when_free = true;
			(void)settings_sync(s);
			return;
		}
		if (!waited) {
			/* accepted once, refused now: the client's request may have run under wrong settings */
			end_session(s, error, len, "session parameters were refused");
			return;
		}
	} else {
		accepted(s);
	}
	params_assign(&link->settings_before, NULL);
	params_assign(&link->reported_at_mark, link->reported); /* what the client runs behind it starts from here */
	if (s->state == SESSION_WELCOMING) {
		login_settings_done(s, error, len);
		return;
	}
	if (error && s->hold_ready) {
		end_session(s, error, len, "the parameters it logged in with were refused");
		return;
	}
	if (error && lost_its_role(s, error, len)) {
		/* it would be refused in front of everything from now on, RESET ROLE included; and as whom else should
		 * it go on? */
		end_session(s, error, len, "the role that it had set is gone");
		return;
	}
	if (error) {
		session_fail_request(s, error, len);
		return;
	}
	if (link->reported != s->reported)
		settings_report(s);
	s->synced = waited && !s->hold_ready;
	if (s->hold_ready) {
		s->hold_ready = false;
		conn_send_ref(&s->conn, "Z\0\0\0\5I", 6);
	}
	if (waited)
		conn_resume(&s->conn);
}

/* ---- parameters that functions may have changed ---- */

bool settings_learn(struct session *s)
{
	const struct config_strings *names = &session_settings(s)->track_parameters;
	struct buf sql = BUF_INIT(65536), out = BUF_INIT(65536);
	bool asked;

	if (likely(names->count == 0) || s->learned)
		return false;
	buf_add_str(&sql, "SELECT name, setting, source FROM pg_catalog.pg_settings WHERE name IN (''");
	for (uint32_t i = 0; i < names->count; i++) {
		buf_add_str(&sql, ", ");
		add_literal(&sql, names->items[i]);
	}
	buf_add_char(&sql, ')');
	message_query(&out, slice_make(sql.bytes, sql.len));
	asked = !sql.failed && !out.failed && session_expect(s, EXPECT_QUERY, EXPECT_SWALLOW, PURPOSE_LEARN, NULL) == 0;
	if (asked) {
		conn_send(&s->link->conn, out.bytes, out.len);
		s->link->has_unnamed = false;
	} else {
		s->link->close_when_free = true; /* no memory: at least nobody else gets what it may have */
	}
	s->learned = true;
	buf_free(&sql);
	buf_free(&out);
	return asked;
}

static bool read_text(struct reader *r, char *text, size_t size)
{
	uint32_t len = read_u32(r);
	struct slice value = len == UINT32_MAX ? SLICE_LITERAL("") : read_slice(r, len);

	if (r->failed || value.len >= size)
		return false;
	memcpy(text, value.bytes, value.len);
	text[value.len] = 0;
	return true;
}

/* A row (name, value, source): what the session has set is the session's, what it has not is the server's default. */
void settings_learned_row(struct session *s, const struct frame *f)
{
	struct reader r = reader_make(f->body, f->body_len);
	char name[128], lower_name[128], value[4096], source[64], *sql = NULL;
	uint16_t columns = read_u16(&r);
	bool is_set;

	if (columns != 3 || !read_text(&r, name, sizeof(name)) || !read_text(&r, value, sizeof(value)) ||
	    !read_text(&r, source, sizeof(source))) {
		s->link->close_when_free = true;
		return;
	}
	scan_identifier(slice_str(name), lower_name, sizeof(lower_name));
	is_set = strcmp(source, "session") == 0;
	if (is_set && !(sql = settings_sql(lower_name, value))) {
		s->link->close_when_free = true;
		return;
	}
	params_set(&s->settings, lower_name, sql);
	params_set(&s->link->settings, lower_name, sql);
	free(sql);
}
