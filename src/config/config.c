/* See config.h. The life of a config, its look-ups, and the one made from flags. */
#include "config/load_priv.h"
#include "config/units.h"
#include "config/value.h"

#define ARENA_CHUNK 16384u

struct config *config_new(const char *path, struct config_origin **ret_origins)
{
	struct config_origin *origins;
	char why[WHY_SIZE];
	struct config *c;
	struct arena arena;

	arena_init(&arena, ARENA_CHUNK);
	c = arena_zalloc(&arena, sizeof(*c));
	if (!c) {
		arena_destroy(&arena);
		return NULL;
	}
	c->arena = arena; /* from here on this one is in use */
	c->path = arena_strdup(&c->arena, path);
	origins = arena_zalloc(&c->arena, config_key_count * sizeof(*origins));
	if (!c->path || !origins)
		goto no_memory;
	c->origins = *ret_origins = origins;
	for (uint32_t i = 0; i < config_key_count; i++) {
		const struct config_key *key = &config_keys[i];
		int r = value_from_text(key, key->default_text, &c->arena, (char *)c + key->offset, why);

		assert(r != -EINVAL); /* the table is at fault */
		if (r < 0)
			goto no_memory;
	}
	return c;
no_memory:
	config_free(c);
	return NULL;
}

void config_free(struct config *c)
{
	struct arena arena;

	if (!c)
		return;
	arena = c->arena; /* c itself is in there */
	arena_destroy(&arena);
}

const struct config_database *config_database_find(const struct config *c, const char *name)
{
	const struct config_database *wildcard = NULL;

	for (uint32_t i = 0; i < c->database_count; i++) {
		if (strcmp(c->databases[i].name, name) == 0)
			return &c->databases[i];
		if (strcmp(c->databases[i].name, "*") == 0)
			wildcard = &c->databases[i];
	}
	return wildcard;
}

bool config_override_is(const struct config_override *override, const char *key)
{
	return strcmp(override->key->name, key) == 0;
}

usec_t config_slow_query(const struct config *c)
{
	return c->log.slow_query || !c->analytics.enabled ? c->log.slow_query : c->analytics.slow_query;
}

bool config_is_console(const struct config *c, const char *database)
{
	const struct config_database *own = config_database_find(c, database);

	if (own && strcmp(own->name, database) == 0)
		return false;
	for (uint32_t i = 0; i < c->admin.databases.count; i++)
		if (strcmp(c->admin.databases.items[i], database) == 0)
			return true;
	return false;
}

const struct config_user *config_user_find(const struct config *c, const char *name)
{
	for (uint32_t i = 0; i < c->user_count; i++)
		if (strcmp(c->users[i].name, name) == 0)
			return &c->users[i];
	return NULL;
}

static bool is_address_of(const struct config_node *node, const char *text)
{
	char host[HOST_MAX + 1];
	uint32_t port;

	return address_split(text, host, &port) == 0 && port == node->port && strcasecmp(host, node->host) == 0;
}

const struct config_node *config_node_find(const struct config *c, const char *name)
{
	for (uint32_t i = 0; i < c->node_count; i++)
		if (strcmp(c->nodes[i].name, name) == 0)
			return &c->nodes[i];
	for (uint32_t i = 0; i < c->node_count; i++)
		if (is_address_of(&c->nodes[i], name))
			return &c->nodes[i];
	return NULL;
}

const struct config_node_alias *config_node_alias_find(const struct config *c, const char *name)
{
	for (uint32_t i = 0; i < c->node_alias_count; i++)
		if (strcmp(c->node_aliases[i].name, name) == 0)
			return &c->node_aliases[i];
	return NULL;
}

static void apply(struct config_pool *pool, const struct config_override *overrides, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		memcpy((char *)pool + overrides[i].key->pool_offset, overrides[i].value, overrides[i].key->size);
}

void config_pool_for(const struct config *c, const char *database, const char *user, struct config_pool *ret)
{
	const struct config_database *d = config_database_find(c, database);
	const struct config_user *u = config_user_find(c, user);

	*ret = c->pool;
	if (d)
		apply(ret, d->overrides, d->override_count);
	if (u)
		apply(ret, u->overrides, u->override_count);
}

bool config_admin_asks_for_tokens(const struct config *c)
{
	return c->admin_token.has_token || c->admin_token_count > 0;
}

bool config_admin_is_exposed(const struct config *c)
{
	return !config_admin_asks_for_tokens(c) && !c->proxy.admin_allow_insecure &&
	       address_is_exposed(c->proxy.admin_address);
}

/* -------------------------------------------------------------------------------------------- flags */

static void set_from_flag(struct loader *l, const char *section, const char *name, const char *flag, const char *value)
{
	char why[WHY_SIZE];
	usec_t unit;
	const struct config_key *key = key_find(section, name, &unit);
	int r;

	if (!value)
		return;
	r = value_from_text(key, value, &l->config->arena, (char *)l->config + key->offset, why);
	if (r == -ENOMEM)
		l->no_memory = true;
	else if (r < 0)
		report_add(l->report, REPORT_ERROR, "", 0, 0, "%s %s", flag, why);
	else
		l->origins[key_index(key)] = (struct config_origin){.kind = ORIGIN_FLAG, .section = section};
}

static uint32_t count_items(const char *list)
{
	uint32_t n = 1;

	for (; *list; list++)
		n += *list == ',';
	return n;
}

static void add_node(struct loader *l, struct config_node *nodes, const char *address, enum node_role role)
{
	struct config_node *node = &nodes[l->config->node_count];
	char host[HOST_MAX + 1];
	uint32_t port;

	if (address_split(address, host, &port) < 0 || port == 0 || !host[0]) {
		report_add(l->report, REPORT_ERROR, "", 0, 0, "%s must be host:port, not \"%s\"",
			   role == NODE_PRIMARY ? "--primary" : "--standby", address);
		return;
	}
	*node = (struct config_node){
		.name = arena_strdup(&l->config->arena, address),
		.host = arena_strdup(&l->config->arena, host),
		.port = port,
		.http_port = 8080,
		.role = role,
		.weight = 100,
		.zone = "",
		.enabled = true,
	};
	if (node->name && node->host)
		l->config->node_count++;
	else
		l->no_memory = true;
}

static void nodes_from_flags(struct loader *l, const struct config_flags *flags)
{
	uint32_t room = 1;
	struct config_node *nodes;

	for (uint32_t i = 0; i < flags->standby_count; i++)
		room += count_items(flags->standbys[i]);
	nodes = arena_zalloc(&l->config->arena, room * sizeof(*nodes));
	if (!nodes) {
		l->no_memory = true;
		return;
	}
	l->config->nodes = nodes;
	if (flags->primary)
		add_node(l, nodes, flags->primary, NODE_PRIMARY);
	for (uint32_t i = 0; i < flags->standby_count; i++) {
		char *list = arena_strdup(&l->config->arena, flags->standbys[i]);

		l->no_memory |= !list;
		for (char *item; list && (item = strsep(&list, ",")) != NULL;)
			if (item[0])
				add_node(l, nodes, item, NODE_STANDBY);
	}
}

int config_apply_flags(struct config *c, const struct config_flags *flags, struct config_report *report)
{
	struct loader l = {.config = c, .report = report, .origins = (struct config_origin *)c->origins};
	uint32_t errors = report->errors;

	set_from_flag(&l, "log", "level", "--log-level", flags->log_level);
	set_from_flag(&l, "log", "format", "--json-logs", flags->json_logs ? "json" : NULL);
	if (l.no_memory)
		return -ENOMEM;
	return report->errors > errors ? -EINVAL : 0;
}

int config_from_flags(const struct config_flags *flags, struct config **ret, struct config_report *report)
{
	struct loader l = {.report = report, .file = ""};
	int r = 0;

	l.config = config_new("", &l.origins);
	if (!l.config)
		return -ENOMEM;
	set_from_flag(&l, "proxy", "listen_address", "--listen", flags->listen);
	set_from_flag(&l, "proxy", "admin_address", "--admin", flags->admin);
	nodes_from_flags(&l, flags);
	if (config_apply_flags(l.config, flags, report) == -ENOMEM)
		l.no_memory = true;
	if (!l.no_memory)
		config_finish(&l);
	if (l.no_memory)
		r = -ENOMEM;
	else if (report->errors)
		r = -EINVAL;
	if (r < 0)
		config_free(l.config);
	else
		*ret = l.config;
	return r;
}
