/*
 * What statements do that outlives them: settings (kept for the session, undone with their transaction), state that
 * ties a session to its link (pins), and statements that the proxy answers for the server.
 */
#include "session/session_priv.h"

#include "base/log.h"
#include "base/map.h"

/* ---- pins ---- */

void session_pin(struct session *s, uint8_t why)
{
	const char *const names[] = {"temporary table", "session advisory lock",
				     "LISTEN",          "WITH HOLD cursor",
				     "SQL PREPARE",     "statement too long to be understood",
				     "set_config",      "statement too long to be shared"};

	if (s->mode == POOL_MODE_SESSION || (s->pins & why) == why)
		return;
	if (session_settings(s)->session_state == SESSION_STATE_LOG && !(why & PIN_STATEMENT)) {
		session_log(LOG_WARN, s, "state of a session is left on a shared server connection",
			    names[__builtin_ctz(why)]);
		return;
	}
	if (!s->pins) {
		pool_count_pinned(s->link, 1);
		count_add(&session_counters(s)->pins_total, 1);
		session_log(LOG_DEBUG, s, "client keeps its server connection", names[__builtin_ctz(why)]);
	}
	s->pins |= why;
	s->link->dirty = true;
}

void session_unpin(struct session *s, uint8_t why)
{
	if (!(s->pins & why))
		return;
	s->pins &= (uint8_t)~why;
	if (!s->pins)
		pool_count_pinned(s->link, -1);
}

/* ---- before it is sent ---- */

static const char *state_it_leaves(const struct statement *st)
{
	switch (st->verb) {
	case VERB_LISTEN:
		return "LISTEN";
	case VERB_PREPARE:
		return "SQL PREPARE";
	case VERB_DECLARE_HOLD:
		return "DECLARE ... WITH HOLD";
	case VERB_CREATE_TEMP:
		return "a temporary table";
	default:
		return st->marks & SCAN_SESSION_ADVISORY_LOCK ? "a session advisory lock" : NULL;
	}
}

enum policy effects_before(struct session *s, const struct query_info *info, enum proxy_error *ret_error,
			   const char **ret_what)
{
	const struct config_pool *p = session_settings(s);

	if (!info || p->mode == POOL_MODE_SESSION)
		return POLICY_GO_ON;
	for (uint32_t i = 0; i < MIN(info->scan.count, SCAN_STATEMENTS_MAX); i++) {
		const struct statement *st = &info->scan.statements[i];

		*ret_what = state_it_leaves(st);
		if (p->mode == POOL_MODE_STATEMENT && st->verb == VERB_BEGIN) {
			*ret_error = ERROR_STATEMENT_MODE_TRANSACTION;
			return POLICY_REFUSED;
		}
		if (*ret_what && session_is_away(s)) {
			*ret_error = ERROR_STATE_ON_STANDBY;
			return POLICY_REFUSED;
		}
		if (*ret_what && p->session_state == SESSION_STATE_REFUSE) {
			*ret_error = ERROR_SESSION_STATE_REFUSED;
			return POLICY_REFUSED;
		}
	}
	return POLICY_GO_ON;
}

/* ---- settings ---- */

static void set_both(struct session *s, const char *name, const char *sql)
{
	params_set(&s->settings, name, sql);
	params_set(&s->link->settings, name, sql);
}

/* RESET x: the session goes back to what it logged in with, the link to the server's default. */
static void reset_one(struct session *s, const char *name)
{
	s->link->reset_in_transaction = true;
	params_set(&s->settings, name, params_get(s->startup_settings, name));
	params_set(&s->link->settings, name, NULL);
}

static void reset_all(struct session *s, bool roles_too)
{
	static const char *const kept[] = {"role", "session_authorization"};
	const struct params *client = params_ref(s->startup_settings), *link = NULL;

	s->link->reset_in_transaction = true;
	for (size_t i = 0; !roles_too && i < ARRAY_SIZE(kept); i++) {
		const char *value = params_get(s->settings, kept[i]);

		params_set(&client, kept[i], value);
		params_set(&link, kept[i], value);
	}
	params_assign(&s->settings, client);
	params_assign(&s->link->settings, link);
	params_unref(client);
	params_unref(link);
}

static void parameter_name(struct slice written, char name[128])
{
	if (scan_identifier(written, name, 128) == 0)
		name[0] = 0;
}

static void apply_set(struct session *s, const struct query_info *info, const struct statement *st)
{
	char name[128], *sql;

	parameter_name(st->name, name);
	if (!*name)
		return;
	if (st->value.len == 7 && strncasecmp((const char *)st->value.bytes, "default", 7) == 0) {
		reset_one(s, name);
		return;
	}
	sql = strndup(info->text + st->begin, st->end - st->begin);
	if (!sql) {
		s->link->close_when_free = true;
		return;
	}
	if (strcmp(name, "session_authorization") == 0)
		set_both(s, "role", NULL);
	set_both(s, name, sql);
	free(sql);
}

/* ---- set_config('name', 'value', false) with literals; anything else of it pins ---- */

static void skip_space(const char **at)
{
	*at += strspn(*at, " \t\r\n\f\v");
}

/* A plain '...' literal ('' inside is one quote); false: something else. */
static bool take_literal(const char **at, char *out, size_t size)
{
	size_t len = 0;
	const char *p = *at;

	if (*p++ != '\'')
		return false;
	for (; *p; p++) {
		if (*p == '\'' && *++p != '\'')
			break;
		if (*p == '\\' || len + 1 >= size)
			return false;
		out[len++] = *p;
	}
	out[len] = 0;
	*at = p;
	skip_space(at);
	return true;
}

static bool take_char(const char **at, char c)
{
	skip_space(at);
	if (**at != c)
		return false;
	++*at;
	skip_space(at);
	return true;
}

enum set_config { SET_CONFIG_LOCAL, SET_CONFIG_SESSION, SET_CONFIG_UNKNOWN };

static enum set_config read_set_config(const char *at, char name[128], char *value, size_t value_size)
{
	char flag[16] = "";
	size_t len;

	if (!take_char(&at, '(') || !take_literal(&at, name, 128) || !take_char(&at, ',') ||
	    !take_literal(&at, value, value_size) || !take_char(&at, ','))
		return SET_CONFIG_UNKNOWN;
	if (*at == '\'') {
		if (!take_literal(&at, flag, sizeof(flag)))
			return SET_CONFIG_UNKNOWN;
	} else {
		len = strspn(at, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");
		snprintf(flag, sizeof(flag), "%.*s", (int)MIN(len, 15u), at);
		at += len;
	}
	if (!take_char(&at, ')'))
		return SET_CONFIG_UNKNOWN;
	if (strcasecmp(flag, "false") == 0 || strcasecmp(flag, "f") == 0)
		return SET_CONFIG_SESSION;
	return strcasecmp(flag, "true") == 0 || strcasecmp(flag, "t") == 0 ? SET_CONFIG_LOCAL : SET_CONFIG_UNKNOWN;
}

/* The last argument says that it is local, whatever the others are: `..., true)`. */
static bool ends_local(const char *at)
{
	const char *close = strchr(at, ')');
	char tail[8];

	if (!close || close - at < 6)
		return false;
	while (close > at && strchr(" \t\r\n", close[-1]))
		close--;
	snprintf(tail, sizeof(tail), "%.4s", close - 4);
	return strcasecmp(tail, "true") == 0;
}

static void apply_set_config(struct session *s, const struct query_info *info, const struct statement *st)
{
	char name[128], lower_name[128], value[2048], *sql;

	for (const char *at = info->text + st->begin;
	     (at = strcasestr(at, "set_config")) && at < info->text + st->end;) {
		at += strlen("set_config");
		switch (read_set_config(at, name, value, sizeof(value))) {
		case SET_CONFIG_LOCAL:
			break;
		case SET_CONFIG_SESSION:
			scan_identifier(slice_str(name), lower_name, sizeof(lower_name));
			sql = settings_sql(lower_name, value);
			if (sql)
				set_both(s, lower_name, sql);
			else
				s->link->close_when_free = true;
			free(sql);
			break;
		case SET_CONFIG_UNKNOWN:
			if (!ends_local(at))
				session_pin(s, PIN_SETTINGS);
			break;
		}
	}
}

/* ---- transactions ---- */

static void mark_assign(struct settings_mark *to, const struct params *client, const struct params *link)
{
	params_assign(&to->client, client);
	params_assign(&to->link, link);
}

void effects_mark(struct session *s)
{
	mark_assign(&s->link->mark, s->settings, s->link->settings);
	params_assign(&s->link->reported_at_mark, s->link->reported);
}

static bool is_read_only(const char *name)
{
	static const char *const names[] = {"in_hot_standby",  "integer_datetimes", "is_superuser",
					    "server_encoding", "server_version",    "session_authorization"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcmp(names[i], name) == 0)
			return true;
	return false;
}

/* A function may SET, too: what the server reports as changed, and no statement of the client's explains, is a setting
 * of the session like any other. */
static void adopt_reported(struct session *s)
{
	struct link *link = s->link;
	const char *name, *value, *before, *had;
	char lower_name[64], *sql;

	for (uint32_t i = 0; i < params_count(link->reported); i++) {
		params_at(link->reported, i, &name, &value);
		before = params_get(link->reported_at_mark, name);
		if (is_read_only(name) || (before && strcmp(before, value) == 0))
			continue;
		scan_identifier(slice_str(name), lower_name, sizeof(lower_name));
		had = params_get(link->mark.client, lower_name);
		if (params_get(s->settings, lower_name) != had &&
		    (!had || !params_get(s->settings, lower_name) ||
		     strcmp(had, params_get(s->settings, lower_name)) != 0))
			continue; /* a SET of the client's explains it */
		sql = settings_sql(lower_name, value);
		if (sql)
			set_both(s, lower_name, sql);
		else
			link->close_when_free = true;
		free(sql);
	}
}

static void go_back_to(struct session *s, const struct settings_mark *mark)
{
	params_assign(&s->settings, mark->client);
	params_assign(&s->link->settings, mark->link);
}

static void drop_savepoints(struct link *link, uint32_t down_to)
{
	while (link->savepoint_count > down_to) {
		struct savepoint *sp = &link->savepoints[--link->savepoint_count];

		mark_assign(&sp->mark, NULL, NULL);
	}
}

static void transaction_ended(struct session *s, bool committed)
{
	if (!committed)
		go_back_to(s, &s->link->mark);
	drop_savepoints(s->link, 0);
	effects_mark(s);
}

#define SAVEPOINTS_MAX 10000u

static void savepoint(struct session *s, struct slice name)
{
	struct link *link = s->link;
	struct savepoint *grown, *sp;

	if ((link->savepoint_count & (link->savepoint_count - 1)) == 0) { /* 0, 1, 2, 4 ...: full */
		grown = link->savepoint_count < SAVEPOINTS_MAX
				? realloc(link->savepoints, MAX(1u, link->savepoint_count * 2) * sizeof(*grown))
				: NULL;
		if (!grown) {
			link->close_when_free = true;
			return;
		}
		link->savepoints = grown;
	}
	sp = &link->savepoints[link->savepoint_count++];
	*sp = (struct savepoint){0};
	scan_identifier(name, sp->name, sizeof(sp->name));
	mark_assign(&sp->mark, s->settings, link->settings);
}

/* The innermost savepoint of this name, or -1. */
static int find_savepoint(const struct link *link, struct slice written)
{
	char name[64];
	int i;

	scan_identifier(written, name, sizeof(name));
	for (i = (int)link->savepoint_count - 1; i >= 0; i--)
		if (strcmp(link->savepoints[i].name, name) == 0)
			break;
	return i;
}

/* ---- after it was completed ---- */

static bool tag_is(struct slice tag, const char *text)
{
	return tag.len == strlen(text) && memcmp(tag.bytes, text, tag.len) == 0;
}

static void apply_marks(struct session *s, const struct query_info *info, const struct statement *st)
{
	if (st->marks & SCAN_SET_CONFIG)
		apply_set_config(s, info, st);
	if (st->marks & SCAN_PG_TEMP && st->class == STATEMENT_DDL)
		session_pin(s, PIN_TEMP);
}

static void apply(struct session *s, const struct query_info *info, const struct statement *st, struct slice tag)
{
	struct link *link = s->link;
	int at;

	switch (st->verb) {
	case VERB_SET:
		apply_set(s, info, st);
		break;
	case VERB_RESET: {
		char name[128];

		parameter_name(st->name, name);
		reset_one(s, name);
		break;
	}
	case VERB_RESET_ALL:
		reset_all(s, /* roles_too= */ false);
		break;
	case VERB_DISCARD_ALL:
		reset_all(s, /* roles_too= */ true);
		statement_set_clear(&link->statements);
		link->has_unnamed = false;
		prepared_forget_all(s);
		session_unpin(s, 0xff);
		link->dirty = link->changed = false;
		break;
	case VERB_LISTEN:
		session_pin(s, PIN_LISTEN);
		break;
	case VERB_UNLISTEN:
		if (st->name.len == 0)
			session_unpin(s, PIN_LISTEN);
		break;
	case VERB_PREPARE:
		session_pin(s, PIN_PREPARE);
		break;
	case VERB_DEALLOCATE: {
		char name[256];

		if (scan_identifier(st->name, name, sizeof(name)) > 0)
			prepared_forget(s, slice_str(name));
		break;
	}
	case VERB_DEALLOCATE_ALL:
		statement_set_clear(&link->statements);
		prepared_forget_all(s);
		session_unpin(s, PIN_PREPARE);
		break;
	case VERB_DECLARE_HOLD:
		session_pin(s, PIN_CURSOR);
		break;
	case VERB_CLOSE_CURSOR:
		if (st->name.len == 0)
			session_unpin(s, PIN_CURSOR);
		break;
	case VERB_CREATE_TEMP:
		session_pin(s, PIN_TEMP);
		break;
	case VERB_COMMIT:
	case VERB_ROLLBACK:
	case VERB_PREPARE_TRANSACTION:
		transaction_ended(s, tag_is(tag, "COMMIT") || st->verb == VERB_PREPARE_TRANSACTION);
		break;
	case VERB_SAVEPOINT:
		savepoint(s, st->name);
		break;
	case VERB_RELEASE:
		at = find_savepoint(link, st->name);
		if (at >= 0)
			drop_savepoints(link, (uint32_t)at);
		break;
	case VERB_ROLLBACK_TO:
		at = find_savepoint(link, st->name);
		if (at >= 0) {
			go_back_to(s, &link->savepoints[at].mark);
			drop_savepoints(link, (uint32_t)at + 1);
		}
		break;
	default:
		break;
	}
	if (st->marks)
		apply_marks(s, info, st);
}

/* A statement behind what was scanned: its tag is all that is known of it. */
static void completed_unseen(struct session *s, struct slice tag)
{
	static const char *const tags[] = {
		"SET",          "RESET",       "LISTEN",          "PREPARE",     "DECLARE CURSOR", "LOAD",
		"CREATE TABLE", "SELECT INTO", "CREATE TABLE AS", "DISCARD ALL", "DEALLOCATE ALL"};

	for (size_t i = 0; i < ARRAY_SIZE(tags); i++)
		if (tag_is(tag, tags[i]))
			session_pin(s, PIN_UNKNOWN);
	prepared_look_at_tag(s, tag);
}

void effects_completed(struct session *s, const struct query_info *info, uint32_t index, struct slice tag)
{
	s->link->changed = true;
	if (index < MIN(info->scan.count, SCAN_STATEMENTS_MAX) && !(info->opaque && index + 1 == info->scan.count))
		apply(s, info, &info->scan.statements[index], tag);
	else
		completed_unseen(s, tag);
}

void effects_ready(struct session *s, char status)
{
	struct link *link = s->link;

	if (status == 'I') {
		count_add(&session_stats(s)->transactions, 1);
		if (unlikely(s->settings != link->mark.client || link->settings != link->mark.link ||
			     link->savepoint_count))
			transaction_ended(s, !s->error_in_batch);
		if (unlikely(link->reported != link->reported_at_mark)) {
			if (!link->reset_in_transaction)
				adopt_reported(s);
			effects_mark(s);
		}
		link->reset_in_transaction = false;
	}
	s->error_in_batch = false;
}
