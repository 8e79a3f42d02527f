/* See wishes.h. */
#include "session/wishes.h"

#include "base/map.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define VALUE_MAX 200u

/* ---- values ---- */

/* Of a literal: from behind its first quote; '' is one quote. */
static size_t unquote(const char *at, char *value, size_t size)
{
	size_t len = 0;

	for (; *at && !(at[0] == '\'' && at[1] != '\''); at++) {
		at += *at == '\'';
		if (len + 1 < size)
			value[len++] = *at;
	}
	value[len] = 0;
	return len;
}

size_t wish_value(const char *sql, char *value, size_t size)
{
	bool is_call = strncasecmp(sql, "SELECT", 6) == 0;
	const char *at = is_call ? strchr(sql, ',') : strchr(sql, '=');
	size_t len;

	if (!at && !is_call)
		at = strcasestr(sql, " TO ");
	if (!at) {
		*value = 0;
		return 0;
	}
	at += *at == ' ' ? 4 : 1;
	at += strspn(at, " \t\r\n");
	if (*at == 'E' && at[1] == '\'') /* as sessions write them; a backslash has no place in a wish */
		at++;
	if (*at == '\'')
		return unquote(at + 1, value, size);
	len = MIN(strcspn(at, " \t\r\n;,)"), size - 1);
	memcpy(value, at, len);
	value[len] = 0;
	return len;
}

/* "16/B374D848" */
static bool read_lsn(const char *text, uint64_t *ret)
{
	unsigned high, low;
	char rest;

	if (sscanf(text, "%8X/%8X%c", &high, &low, &rest) != 2)
		return false;
	*ret = (uint64_t)high << 32 | low;
	return true;
}

/* ---- telling ---- */

static void tell(const struct wish_listener *listener, const char *what, const char *why)
{
	char text[WISH_PROBLEM_MAX];

	snprintf(text, sizeof(text), "%s %s: ignored", what, why);
	listener->problem(listener->to, text);
}

static void tell_problem(const struct wish_listener *listener, const struct hint_problem *problem)
{
	char text[WISH_PROBLEM_MAX];

	hint_problem_text(problem, text, sizeof(text));
	listener->problem(listener->to, text);
}

/* What is read, for it belongs to the grammar, and has no effect. */
static const struct {
	uint8_t said;
	const char *what, *why;
} idle[] = {
#define CAPABILITY(name) "this build has no " name
	{HINT_SAID_pool, "pool", "a session's pool mode is that of the configuration"},
	{HINT_SAID_cache, "cache", CAPABILITY("query cache")},
	{HINT_SAID_cache_ttl_ms, "cache_ttl", CAPABILITY("query cache")},
	{HINT_SAID_cache_tables, "cache_tables", CAPABILITY("query cache")},
	{HINT_SAID_cache_refresh, "cache_refresh", CAPABILITY("query cache")},
	{HINT_SAID_semantic, "semantic", CAPABILITY("query cache")},
	{HINT_SAID_priority, "priority", CAPABILITY("priorities")},
	{HINT_SAID_branch, "branch", CAPABILITY("branches of databases")},
	{HINT_SAID_tool, "tool", CAPABILITY("contracts for tools")},
	{HINT_SAID_workflow, "workflow", CAPABILITY("workflows")},
	{HINT_SAID_twr, "twr", CAPABILITY("transparent write routing")},
	{HINT_SAID_prefetch, "prefetch", CAPABILITY("prefetching")},
#undef CAPABILITY
};

static void tell_idle(uint32_t said, const struct wish_listener *listener, uint32_t *told)
{
	for (size_t i = 0; i < ARRAY_SIZE(idle); i++) {
		char what[32];

		if (!(said & ~*told & BIT(idle[i].said)))
			continue;
		*told |= BIT(idle[i].said);
		snprintf(what, sizeof(what), "hint %s", idle[i].what);
		tell(listener, what, idle[i].why);
	}
}

/* Of route only one word has no effect: the key's bit stands for it. */
static void tell_vector(const struct hints *h, const struct wish_listener *listener, uint32_t *told)
{
	if (h->route != HINT_ROUTE_VECTOR || *told & BIT(HINT_SAID_route))
		return;
	*told |= BIT(HINT_SAID_route);
	tell(listener, "hint route=vector", "this build has no routing of vector searches");
}

void wishes_tell_of(const struct hints *h, const struct wish_rights *rights, const struct wish_listener *listener,
		    uint32_t *told)
{
	if (!rights->any) {
		if (h->said && !(*told & BIT(31))) {
			*told |= BIT(31);
			tell(listener, "hint", "this user's are not heeded");
		}
		return;
	}
	for (uint32_t i = 0; i < MIN(h->problem_count, HINT_PROBLEMS_MAX); i++)
		tell_problem(listener, &h->problems[i]);
	tell_idle(h->said, listener, told);
	tell_vector(h, listener, told);
}

/* ---- from hints to wishes ---- */

struct wishing {
	const struct node_list *nodes;
	const struct wish_rights *rights;
	struct wish_listener listener;
	struct route_wish *wish;
	uint32_t said; /* by any of them, as hints.said */
};

struct wish_rights wish_rights_of(const struct config *config, const char *user)
{
	const struct config_routing_hints *c = &config->routing_hints;
	const struct config_user *u = config_user_find(config, user);
	enum hint_rights rights = u ? u->routing_hints : HINT_RIGHTS_ALL;

	return (struct wish_rights){
		.any = c->enabled && rights != HINT_RIGHTS_NONE,
		.nodes = c->allow_node_hints && rights == HINT_RIGHTS_ALL,
		.primary = c->allow_primary_reads,
		.max_lag = c->max_lag_override,
		.config = config,
	};
}

static void take_primary(const struct wishing *w, const char *what)
{
	if (w->rights->primary)
		w->wish->target = TARGET_PRIMARY;
	else
		tell(&w->listener, what, "the primary may not be asked for");
}

static void take_route(enum hint_route route, const struct wishing *w)
{
	w->wish->alias_has_primary = false; /* of what was said before */
	w->wish->local = route == HINT_ROUTE_LOCAL;
	switch (route) {
	case HINT_ROUTE_PRIMARY:
		take_primary(w, "hint route=primary");
		break;
	case HINT_ROUTE_STANDBY:
		w->wish->target = TARGET_STANDBY;
		break;
	case HINT_ROUTE_SYNC:
	case HINT_ROUTE_SEMISYNC:
		w->wish->target = TARGET_SYNC;
		break;
	case HINT_ROUTE_ASYNC:
		w->wish->target = TARGET_ASYNC;
		break;
	case HINT_ROUTE_ANY:
	case HINT_ROUTE_LOCAL:
		w->wish->target = TARGET_ANY;
		break;
	case HINT_ROUTE_VECTOR:
	case HINT_ROUTE_UNSAID:
		break;
	}
}

/* Any of them: in turn those that may have the statement, and the primary only if it is one of them. */
static void take_alias(const struct config_node_alias *alias, const struct wishing *w, const char *what)
{
	uint32_t others = 0;
	bool primary = false;

	for (uint32_t i = 0; i < alias->nodes.count; i++) {
		const struct node *node = node_list_find(w->nodes, alias->nodes.items[i]);

		if (node && node == node_list_primary(w->nodes))
			primary = true;
		else
			others += node != NULL;
	}
	if (!others && primary) {
		take_primary(w, what);
	} else if (!others) {
		tell(&w->listener, what, "none of the nodes that it stands for is in this cluster");
	} else {
		w->wish->target = TARGET_ALIAS;
		w->wish->alias = alias;
		w->wish->alias_has_primary = primary && w->rights->primary;
	}
}

static void take_node(struct slice name, const struct wishing *w)
{
	char text[HINT_TEXT_MAX + 1], what[HINT_TEXT_MAX + 16];
	const struct config_node_alias *alias;
	const struct node *node;

	hint_text(name, text);
	snprintf(what, sizeof(what), "hint node=%s", text);
	node = w->rights->nodes ? node_list_find(w->nodes, text) : NULL;
	if (!w->rights->nodes) {
		tell(&w->listener, what, "nodes may not be asked for by name");
	} else if (!node && (alias = config_node_alias_find(w->rights->config, text))) {
		take_alias(alias, w, what);
	} else if (!node) {
		tell(&w->listener, what, "it is no node of this cluster");
	} else if (node == node_list_primary(w->nodes)) {
		take_primary(w, what);
	} else {
		w->wish->alias_has_primary = false;
		w->wish->target = TARGET_NODE;
		w->wish->node = node;
	}
}

static void take_consistency(enum hint_consistency consistency, const struct wishing *w)
{
	bool strong = consistency == HINT_STRONG;

	if (strong && !w->rights->primary) {
		tell(&w->listener, "hint consistency=strong", "the primary may not be asked for");
		return;
	}
	w->wish->strong = strong;
	w->wish->eventual = consistency == HINT_EVENTUAL;
}

/* Bytes can't be compared with a time: with both, both count. */
static void take_lag(const struct hints *h, const struct wishing *w)
{
	usec_t most = w->rights->max_lag, lag = h->lag_is_bytes ? most : h->lag * USEC_PER_MSEC;

	if (!h->lag_is_bytes && most && (lag > most || lag == 0)) {
		tell(&w->listener, "hint lag", "that is more than may be asked for");
		return;
	}
	w->wish->limits_lag = true;
	w->wish->max_lag_bytes = h->lag_is_bytes ? h->lag : 0;
	w->wish->max_lag = lag;
}

static void take_key(struct slice key, struct route_wish *ret)
{
	char text[HINT_TEXT_MAX + 1];
	size_t len = hint_text(key, text);

	ret->key = hash_bytes(text, len) | 1;
}

static void take(const struct hints *h, struct wishing *w)
{
	w->said |= h->said;
	if (h->said & BIT(HINT_SAID_route))
		take_route(h->route, w);
	if (h->said & BIT(HINT_SAID_node))
		take_node(h->node, w);
	if (h->said & BIT(HINT_SAID_consistency))
		take_consistency(h->consistency, w);
	if (h->said & BIT(HINT_SAID_lag))
		take_lag(h, w);
	if (h->said & BIT(HINT_SAID_key))
		take_key(h->key, w->wish);
	if (h->said & BIT(HINT_SAID_retry))
		w->wish->once = h->retry == 0;
}

static void take_setting(const char *name, const char *value, struct wishing *w, uint32_t *told)
{
	struct hints h = {0};
	struct hint_problem problem;

	if (strcmp(name, "lsn") == 0) {
		if (!read_lsn(value, &w->wish->lsn))
			tell(&w->listener, "helios.lsn", "it is no position in the log");
	} else if (!hints_set(&h, slice_str(name), slice_str(value), &problem)) {
		tell_problem(&w->listener, &problem);
	} else if (h.said & BIT(HINT_SAID_timeout_ms)) {
		tell(&w->listener, "helios.timeout", "for a session, SET statement_timeout does that");
	} else {
		tell_idle(h.said, &w->listener, told);
		tell_vector(&h, &w->listener, told);
		take(&h, w);
	}
}

static void take_settings(const struct params *settings, struct wishing *w)
{
	uint32_t told = 0;

	for (uint32_t i = 0; i < params_count(settings); i++) {
		const char *name, *sql;
		char value[VALUE_MAX];

		params_at(settings, i, &name, &sql);
		if (strncmp(name, "helios.", 7) != 0)
			continue;
		wish_value(sql, value, sizeof(value));
		if (*value) /* else it is as if it were not set */
			take_setting(name + 7, value, w, &told);
	}
}

static void ignore_problem(void *to, const char *text)
{
	(void)to;
	(void)text;
}

void wishes_read(const struct params *settings, const struct hints *hints, const struct node_list *nodes,
		 const struct wish_rights *rights, const struct wish_listener *listener, struct route_wish *wish)
{
	struct wishing w = {.nodes = nodes, .rights = rights, .listener = *listener, .wish = wish};

	if (!rights->any) {
		if (params_marks(settings) & PARAMS_HELIOS && !listener->knows_settings)
			tell(listener, "helios.*", "this user's are not heeded");
		return;
	}
	wish->limits_lag = false; /* that of a default is not for who says another consistency */
	if (params_marks(settings) & PARAMS_HELIOS) {
		if (listener->knows_settings)
			w.listener.problem = ignore_problem;
		take_settings(settings, &w);
		w.listener = *listener;
	}
	if (hints)
		take(hints, &w);
	if (w.said & (BIT(HINT_SAID_route) | BIT(HINT_SAID_node)) && !(w.said & BIT(HINT_SAID_consistency)))
		wish->strong = false; /* by default alone: who says where counts more */
	route_wish_finish(wish, rights->max_lag);
}
