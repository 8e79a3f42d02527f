/* See wishes.h. */
#include "session/wishes.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define VALUE_MAX 200u

struct telling {
	void (*problem)(void *to, const char *text);
	void *to;
};

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

/* ---- from hints to wishes ---- */

static void tell(const struct telling *telling, const char *what, const char *why)
{
	char text[WISH_PROBLEM_MAX];

	snprintf(text, sizeof(text), "%s %s", what, why);
	telling->problem(telling->to, text);
}

static void take_route(enum hint_route route, const struct telling *telling, struct route_wish *ret)
{
	switch (route) {
	case HINT_ROUTE_PRIMARY:
		ret->target = TARGET_PRIMARY;
		break;
	case HINT_ROUTE_STANDBY:
		ret->target = TARGET_STANDBY;
		break;
	case HINT_ROUTE_SYNC:
	case HINT_ROUTE_SEMISYNC:
		ret->target = TARGET_SYNC;
		break;
	case HINT_ROUTE_ASYNC:
		ret->target = TARGET_ASYNC;
		break;
	case HINT_ROUTE_VECTOR:
		tell(telling, "route=vector", "is not available in this build: ignored");
		break;
	case HINT_ROUTE_ANY:
	case HINT_ROUTE_LOCAL: /* nodes of the own zone are preferred in any case */
	case HINT_ROUTE_UNSAID:
		break;
	}
}

static void take_node(struct slice name, const struct node_list *nodes, const struct telling *telling,
		      struct route_wish *ret)
{
	char text[HINT_TEXT_MAX + 1], what[HINT_TEXT_MAX + 16];
	const struct node *node;

	hint_text(name, text);
	node = node_list_find(nodes, text);
	if (node) {
		ret->target = node == node_list_primary(nodes) ? TARGET_PRIMARY : TARGET_NODE;
		ret->node = node;
		return;
	}
	snprintf(what, sizeof(what), "node=%s", text);
	tell(telling, what, "is no node of this cluster: ignored");
}

static void take(const struct hints *h, const struct node_list *nodes, const struct telling *telling,
		 struct route_wish *ret)
{
	if (h->said & BIT(HINT_SAID_route))
		take_route(h->route, telling, ret);
	if (h->said & BIT(HINT_SAID_node))
		take_node(h->node, nodes, telling, ret);
	if (h->said & BIT(HINT_SAID_consistency)) {
		ret->strong = h->consistency == HINT_STRONG;
		ret->eventual = h->consistency == HINT_EVENTUAL;
	}
	if (h->said & BIT(HINT_SAID_lag)) {
		ret->limits_lag = true;
		ret->max_lag_bytes = h->lag_is_bytes ? h->lag : 0;
		ret->max_lag = h->lag_is_bytes ? 0 : h->lag * USEC_PER_MSEC;
	}
	for (uint32_t i = 0; i < MIN(h->problem_count, HINT_PROBLEMS_MAX); i++) {
		char text[WISH_PROBLEM_MAX];

		hint_problem_text(&h->problems[i], text, sizeof(text));
		telling->problem(telling->to, text);
	}
}

static void take_settings(const struct params *settings, const struct node_list *nodes, const struct telling *telling,
			  struct route_wish *ret)
{
	for (uint32_t i = 0; i < params_count(settings); i++) {
		const char *name, *sql;
		struct hints h = {0};
		struct hint_problem problem;
		char value[VALUE_MAX], text[WISH_PROBLEM_MAX];

		params_at(settings, i, &name, &sql);
		if (strncmp(name, "helios.", 7) != 0)
			continue;
		wish_value(sql, value, sizeof(value));
		if (!*value)
			continue; /* as if it were not set */
		if (strcmp(name + 7, "lsn") == 0) {
			if (!read_lsn(value, &ret->lsn))
				tell(telling, "helios.lsn", "is no position in the log: ignored");
			continue;
		}
		if (hints_set(&h, slice_str(name + 7), slice_str(value), &problem)) {
			take(&h, nodes, telling, ret);
			continue;
		}
		hint_problem_text(&problem, text, sizeof(text));
		telling->problem(telling->to, text);
	}
}

void wishes_read(const struct params *settings, const struct hints *hints, const struct node_list *nodes,
		 void (*problem)(void *to, const char *text), void *to, struct route_wish *ret)
{
	const struct telling telling = {problem, to};

	*ret = (struct route_wish){0};
	if (params_marks(settings) & PARAMS_HELIOS)
		take_settings(settings, nodes, &telling, ret);
	if (hints)
		take(hints, nodes, &telling, ret);
}
