/* See patroni_answer.h. */
#include "cluster/patroni_answer.h"

#include <jansson.h>
#include <stdio.h>

/* ---- values of a document ---- */

/* False: it is there and too long, or no string; *to is "" then. */
static bool take_text(const json_t *object, const char *key, char *to, size_t size)
{
	const json_t *value = json_object_get(object, key);
	const char *text = json_string_value(value);

	to[0] = 0;
	if (!value || json_is_null(value))
		return true;
	if (!text || json_string_length(value) >= size)
		return false;
	memcpy(to, text, json_string_length(value) + 1);
	return true;
}

/* Tags are what people wrote in YAML: true, but also "true", "yes", "on" or 1. */
static bool is_set(const json_t *tags, const char *key)
{
	static const char *const yes[] = {"true", "yes", "on", "1", "True", "TRUE"};
	const json_t *value = json_object_get(tags, key);

	if (json_is_integer(value))
		return json_integer_value(value) != 0;
	for (size_t i = 0; json_is_string(value) && i < ARRAY_SIZE(yes); i++)
		if (strcmp(json_string_value(value), yes[i]) == 0)
			return true;
	return json_is_true(value);
}

/* Patroni writes numbers, but "unknown" for a lag that it does not know. */
static bool take_number(const json_t *object, const char *key, uint64_t max, uint64_t *ret)
{
	const json_t *value = json_object_get(object, key);

	if (!json_is_integer(value) || json_integer_value(value) < 0 || (uint64_t)json_integer_value(value) > max)
		return false;
	*ret = (uint64_t)json_integer_value(value);
	return true;
}

/* ---- members ---- */

const char *patroni_role_name(enum patroni_role role)
{
	static const char *const names[] = {
#define X(name, text) [PATRONI_##name] = text,
		PATRONI_ROLES(X)
#undef X
	};

	return names[role];
}

static enum patroni_role role_of(const char *text)
{
	for (int i = 0; i < PATRONI_OTHER; i++)
		if (strcmp(patroni_role_name((enum patroni_role)i), text) == 0)
			return (enum patroni_role)i;
	return PATRONI_OTHER;
}

/* A host that could be none is not handed on: it is going to be looked up, and shown. */
static bool is_host(const char *host)
{
	static const char allowed[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:%"; /* IPv6, too */

	return (host[0] == '/' || *host) && strspn(host, allowed) == strlen(host);
}

/* False: it is of no use (yet): a member that is being made has no address. */
static bool take_member(const json_t *object, struct patroni_member *m)
{
	const json_t *tags = json_object_get(object, "tags");
	uint64_t number;

	*m = (struct patroni_member){0};
	if (!json_is_object(object) || !take_text(object, "name", m->name, sizeof(m->name)) || !*m->name ||
	    !take_text(object, "host", m->host, sizeof(m->host)) || !is_host(m->host) ||
	    !take_number(object, "port", UINT16_MAX, &number) || number == 0)
		return false;
	m->port = (uint16_t)number;
	(void)take_text(object, "role", m->role_text, sizeof(m->role_text));
	(void)take_text(object, "state", m->state, sizeof(m->state));
	(void)take_text(object, "api_url", m->api_url, sizeof(m->api_url));
	m->role = role_of(m->role_text);
	if (take_number(object, "timeline", UINT32_MAX, &number))
		m->timeline = (uint32_t)number;
	m->knows_lag = take_number(object, "lag", UINT64_MAX, &m->lag);
	m->no_failover = is_set(tags, "nofailover");
	m->no_load_balance = is_set(tags, "noloadbalance");
	(void)take_text(tags, "replicatefrom", m->replicate_from, sizeof(m->replicate_from));
	return true;
}

static bool has_member(const struct patroni_answer *a, const struct patroni_member *m)
{
	for (uint32_t i = 0; i < a->count; i++)
		if (strcmp(a->members[i].name, m->name) == 0 ||
		    (strcmp(a->members[i].host, m->host) == 0 && a->members[i].port == m->port))
			return true;
	return false;
}

static void take_members(const json_t *list, struct patroni_answer *a)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		struct patroni_member *m = &a->members[a->count];
		struct patroni_member one;

		if (a->count == PATRONI_MEMBERS_MAX || !take_member(json_array_get(list, i), &one) ||
		    has_member(a, &one)) {
			a->left_out++;
			continue;
		}
		*m = one;
		a->count++;
	}
}

static uint32_t leaders(const struct patroni_answer *a)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < a->count; i++)
		count += a->members[i].role == PATRONI_LEADER || a->members[i].role == PATRONI_STANDBY_LEADER;
	return count;
}

const struct patroni_member *patroni_answer_leader(const struct patroni_answer *a)
{
	for (uint32_t i = 0; i < a->count; i++)
		if (a->members[i].role == PATRONI_LEADER || a->members[i].role == PATRONI_STANDBY_LEADER)
			return &a->members[i];
	return NULL;
}

/* Scheme, host and port, without the path ("/patroni"). */
bool patroni_member_base_url(const struct patroni_member *m, char *to, size_t size)
{
	const char *host = strstr(m->api_url, "://");
	size_t len;

	if (!host)
		return false;
	len = (size_t)(host - m->api_url) + 3;
	len += strcspn(host + 3, "/?#");
	if (len >= size || host[3] == 0 || strpbrk(m->api_url, "@ \t\r\n\\"))
		return false;
	memcpy(to, m->api_url, len);
	to[len] = 0;
	return true;
}

/* ---- all of it ---- */

static int refuse(char *why, size_t size, const char *text)
{
	snprintf(why, size, "%s", text);
	return -EPROTO;
}

static int take_document(const json_t *root, struct patroni_answer *a, char *why, size_t size)
{
	const json_t *list = json_object_get(root, "members");
	const json_t *switchover = json_object_get(root, "scheduled_switchover");

	*a = (struct patroni_answer){0};
	if (!json_is_object(root) || !json_is_array(list))
		return refuse(why, size, "it has no list of members: is it the REST API of Patroni 2.0 or later?");
	(void)take_text(root, "scope", a->scope, sizeof(a->scope));
	a->paused = json_is_true(json_object_get(root, "pause"));
	a->has_switchover = json_is_object(switchover);
	(void)take_text(switchover, "at", a->switchover_at, sizeof(a->switchover_at));
	(void)take_text(switchover, "from", a->switchover_from, sizeof(a->switchover_from));
	(void)take_text(switchover, "to", a->switchover_to, sizeof(a->switchover_to));
	take_members(list, a);
	return leaders(a) > 1 ? refuse(why, size, "it names several leaders") : 0;
}

int patroni_answer_parse(const char *text, size_t len, struct patroni_answer *ret, char *why, size_t why_size)
{
	json_error_t error;
	json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
	int r;

	if (!root) {
		snprintf(why, why_size, "it is no JSON: %s", error.text);
		return -EPROTO;
	}
	r = take_document(root, ret, why, why_size);
	json_decref(root);
	return r;
}
