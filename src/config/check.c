/*
 * What can only be said of a configuration as a whole: values that follow from others, keys that need each other, and
 * the files it names (users, rules, maps), which are read here so that a reload is checked before it counts.
 */
#include "config/hba.h"
#include "config/ident.h"
#include "config/load_priv.h"
#include "config/units.h"
#include "config/userlist.h"
#include "config/value.h"
#include "wire/scram.h"

#define DRAIN_VARIABLE   "HELIOS_DRAIN_TIMEOUT_SECS"
#define URL_MAX          480u
#define PATRONI_URLS_MAX 16u

static const struct config_origin *origin_of(const struct loader *l, const char *section, const char *name)
{
	usec_t unit;

	return &l->origins[key_index(key_find(section, name, &unit))];
}

static bool is_given(const struct loader *l, const char *section, const char *name)
{
	return origin_of(l, section, name)->kind != ORIGIN_DEFAULT;
}

static uint32_t line_of(const struct loader *l, const char *section, const char *name)
{
	return origin_of(l, section, name)->line;
}

#define error_at(l, line, ...) report_add((l)->report, REPORT_ERROR, (l)->file, (line), 0, __VA_ARGS__)
#define warn_at(l, line, ...)  report_add((l)->report, REPORT_WARNING, (l)->file, (line), 0, __VA_ARGS__)

/* The reference's variable for service managers: a positive number of seconds. */
static void apply_environment(struct loader *l)
{
	const char *text = getenv(DRAIN_VARIABLE);
	char why[WHY_SIZE];
	usec_t unit, value;
	const struct config_key *key = key_find("proxy", "shutdown_drain_timeout", &unit);

	if (!text)
		return;
	if (strspn(text, "0123456789") != strlen(text) ||
	    value_from_text(key, text, &l->config->arena, &value, why) < 0 || value == 0) {
		report_add(l->report, REPORT_WARNING, "", 0, 0, "%s=%s is not a number of seconds from 1 to %llu",
			   DRAIN_VARIABLE, text, (unsigned long long)key->max);
		return;
	}
	l->config->proxy.shutdown_drain_timeout = value;
	l->origins[key_index(key)] = (struct config_origin){.kind = ORIGIN_ENVIRONMENT, .section = ""};
}

/* -------------------------------------------------------------------------------------------- nodes */

static void check_nodes(struct loader *l)
{
	const struct config *c = l->config;
	uint32_t enabled = 0;

	for (uint32_t i = 0; i < c->node_count; i++) {
		const struct config_node *node = &c->nodes[i];

		enabled += node->enabled;
		for (uint32_t j = 0; j < i && j < 1000;
		     j++) { /* with more it would take too long, and hardly be a slip */
			if (strcmp(c->nodes[j].name, node->name) == 0)
				error_at(l, node->line, "two nodes have the name %s", node->name);
			else if (c->nodes[j].port == node->port && strcasecmp(c->nodes[j].host, node->host) == 0)
				error_at(l, node->line, "two nodes have the address %s:%u", node->host, node->port);
		}
	}
	if (c->topology.provider == PROVIDER_PATRONI) /* it names them */
		return;
	if (c->node_count == 0)
		error_at(l, 0, "no node is configured: add a [[nodes]] table with host, port and role, or --primary");
	else if (enabled == 0)
		error_at(l, c->nodes[0].line, "no node is enabled");
}

static void check_pool(struct loader *l, const struct config_pool *pool, uint32_t line, const char *what)
{
	if (pool->min_connections > pool->max_connections)
		error_at(l, line, "%s min_connections (%u) is above max_connections (%u)", what, pool->min_connections,
			 pool->max_connections);
}

static void check_databases(struct loader *l)
{
	const struct config *c = l->config;
	struct config_pool pool;
	char what[160];

	check_pool(l, &c->pool, line_of(l, "pool", "min_connections"), "[pool]");
	for (uint32_t i = 0; i < c->database_count; i++) {
		const struct config_database *d = &c->databases[i];

		if (d->node[0] && !config_node_find(c, d->node))
			error_at(l, d->line, "[databases.%s] node: there is no node %s", d->name, d->node);
		if (!d->override_count)
			continue;
		snprintf(what, sizeof(what), "[databases.%s]", d->name);
		config_pool_for(c, d->name, "", &pool);
		check_pool(l, &pool, d->line, what);
	}
	for (uint32_t i = 0; i < c->user_count; i++) {
		if (!c->users[i].override_count)
			continue;
		snprintf(what, sizeof(what), "[users.%s]", c->users[i].name);
		config_pool_for(c, "", c->users[i].name, &pool);
		check_pool(l, &pool, c->users[i].line, what);
	}
}

/* [[databases]] may name one twice; [databases.X] can't. */
static void check_names(struct loader *l)
{
	const struct config *c = l->config;

	for (uint32_t i = 0; i < c->database_count && i < 1000; i++)
		if (config_database_find(c, c->databases[i].name) != &c->databases[i])
			error_at(l, c->databases[i].line, "database %s has two tables", c->databases[i].name);
	for (uint32_t i = 0; i < c->user_count && i < 1000; i++)
		if (config_user_find(c, c->users[i].name) != &c->users[i])
			error_at(l, c->users[i].line, "user %s has two tables", c->users[i].name);
}

/* ---------------------------------------------------------------------------------------------- TLS */

static void check_version(struct loader *l, const char *section, const char *value)
{
	if (strcmp(value, "TLSv1.2") != 0 && strcmp(value, "TLSv1.3") != 0)
		error_at(l, line_of(l, section, "min_version"), "[%s] min_version must be \"TLSv1.2\" or \"TLSv1.3\"",
			 section);
}

/* The key that asks for TLS, for messages. */
static const char *tls_reason(const struct loader *l)
{
	if (is_given(l, "tls", "enabled"))
		return "enabled";
	return is_given(l, "tls", "mode") ? "mode" : "require_client_cert";
}

/* enabled = false rules; without it, a certificate or a mode says that TLS is wanted. */
static void check_tls(struct loader *l)
{
	struct config_tls *tls = &l->config->tls;
	bool wanted = tls->cert_path[0] || tls->mode >= TLS_REQUIRE || tls->require_client_cert;

	check_version(l, "tls", tls->min_version);
	if (!is_given(l, "tls", "enabled"))
		tls->enabled = wanted;
	if (tls->mode == TLS_DISABLE)
		tls->enabled = false;
	if (!tls->enabled)
		return;
	if (tls->require_client_cert)
		tls->mode = TLS_VERIFY_FULL;
	if (!tls->cert_path[0] || !tls->key_path[0])
		error_at(l, line_of(l, "tls", tls->cert_path[0] ? "cert_path" : tls_reason(l)), "[tls] needs %s",
			 tls->cert_path[0] ? "key_path" : "cert_path and key_path");
	if (tls->mode >= TLS_VERIFY_CA && !tls->ca_path[0])
		error_at(l, line_of(l, "tls", tls->require_client_cert ? "require_client_cert" : "mode"),
			 "[tls] needs ca_path to verify client certificates");
}

static void check_server_tls(struct loader *l)
{
	const struct config_server_tls *tls = &l->config->server_tls;

	check_version(l, "server_tls", tls->min_version);
	if (tls->cert_path[0] && !tls->key_path[0])
		error_at(l, line_of(l, "server_tls", "cert_path"), "[server_tls] cert_path needs key_path");
	if (tls->mode >= TLS_VERIFY_CA && !tls->ca_path[0])
		error_at(l, line_of(l, "server_tls", "mode"), "[server_tls] this mode needs ca_path (or \"system\")");
	if (tls->direct && tls->mode < TLS_REQUIRE)
		error_at(l, line_of(l, "server_tls", "direct"),
			 "[server_tls] direct needs mode = \"require\" or stricter");
}

/* --------------------------------------------------------------------------------------------- auth */

static void failed(struct loader *l, int r)
{
	if (r == -ENOMEM)
		l->no_memory = true; /* other failures are in the report */
}

static void load_users(struct loader *l)
{
	struct config *c = l->config;
	struct userlist *list = userlist_new(&c->arena);

	c->userlist = list;
	if (!list) {
		l->no_memory = true;
		return;
	}
	if (c->auth.auth_file[0])
		failed(l, userlist_load(list, c->auth.auth_file, l->report));
	for (uint32_t i = 0; i < c->user_count; i++) {
		int r = c->users[i].password[0] ? userlist_add(list, c->users[i].name, c->users[i].password) : 0;

		if (r == -EINVAL)
			error_at(l, c->users[i].line, "[users.%s] password is a damaged SCRAM verifier",
				 c->users[i].name);
		failed(l, r);
	}
}

static void load_admission(struct loader *l)
{
	struct config *c = l->config;
	struct hba *hba = c->hba_rule_count ? hba_admission_new(&c->arena) : NULL;

	for (uint32_t i = 0; i < c->hba_rule_count && hba; i++) {
		const struct config_hba *rule = &c->hba_rules[i];
		int r = hba_admission_add(hba, &c->arena, rule->action == HBA_ALLOW, rule->user, rule->database,
					  rule->address, c->path, rule->line);

		if (r == -EINVAL)
			error_at(l, rule->line,
				 "[[hba]] address must be an IP address, a CIDR block or \"all\", not \"%s\"",
				 rule->address);
		failed(l, r);
	}
	l->no_memory |= c->hba_rule_count && !hba;
	c->admission = hba;
}

/* Rules that ask for certificates, or for maps, need somebody who has them. */
static void check_hba(struct loader *l)
{
	const struct config *c = l->config;

	for (const struct hba_rule *rule = hba_rule_next(c->hba, NULL); rule; rule = hba_rule_next(c->hba, rule)) {
		if (rule->client_cert != CLIENT_CERT_NONE && !(c->tls.enabled && c->tls.ca_path[0]))
			report_add(l->report, REPORT_ERROR, rule->file, rule->line, 0,
				   "this line asks for client certificates: set [tls] cert_path, key_path, and "
				   "ca_path, the "
				   "authorities that sign them");
		if (rule->map[0] && !ident_has_map(c->ident, rule->map))
			report_add(l->report, REPORT_WARNING, rule->file, rule->line, 0,
				   "auth.ident_file has no map %s: nobody can log in by this line", rule->map);
	}
}

static void check_health(struct loader *l)
{
	const struct config_health *h = &l->config->health;
	struct secret secret = {0};

	if (secret_parse(h->password, &secret) == -EINVAL)
		report_add(l->report, REPORT_ERROR, l->file, 0, 0, "[health] password is a damaged SCRAM verifier");
	secret_wipe(&secret);
	if (h->check_query[0] && !h->user[0])
		report_add(l->report, REPORT_NOTICE, l->file, 0, 0,
			   "[health] check_query is not run: checks log in only when [health] user is set");
}

/* A name, or a schema's and a table's, of letters that need no quotes: it becomes part of a statement. */
static bool is_table_name(const char *name)
{
	uint32_t parts = 0;

	do {
		size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyz_0123456789");

		if (len == 0 || len > 63 || (*name >= '0' && *name <= '9'))
			return false;
		name += len;
		parts++;
	} while (*name++ == '.');
	return name[-1] == 0 && parts <= 2;
}

static void check_lag(struct loader *l)
{
	const struct config *c = l->config;
	const struct config_lag_routing *lag = &c->lag_routing;

	if (lag->heartbeat_table[0] && !is_table_name(lag->heartbeat_table))
		error_at(l, line_of(l, "lag_routing", "heartbeat_table"),
			 "[lag_routing] heartbeat_table must be table or schema.table, of small letters, digits and _");
	if (lag->heartbeat_table[0] && !c->health.user[0])
		warn_at(l, line_of(l, "lag_routing", "heartbeat_table"),
			"[lag_routing] heartbeat_table is not used: set [health] user, who writes it");
	if (lag->wait && !lag->poll_interval)
		warn_at(l, line_of(l, "lag_routing", "wait"),
			"[lag_routing] wait has no effect with poll_interval = 0: nobody is asked what it has "
			"replayed");
}

static void check_node_aliases(struct loader *l)
{
	const struct config *c = l->config;
	bool all_are_here =
		c->topology.provider != PROVIDER_PATRONI && !c->topology.discover && !c->topology.state_file[0];

	for (uint32_t i = 0; i < c->node_alias_count; i++) {
		const struct config_node_alias *a = &c->node_aliases[i];

		if (config_node_find(c, a->name))
			warn_at(l, a->line, "%s is the name of a node, too: hints mean that one", a->name);
		for (uint32_t j = 0; j < a->nodes.count && all_are_here; j++)
			if (!config_node_find(c, a->nodes.items[j]))
				report_add(l->report, REPORT_NOTICE, l->file, a->line, 0,
					   "%s, one of the nodes that %s stands for, is not in [[nodes]]",
					   a->nodes.items[j], a->name);
	}
}

static void check_auth(struct loader *l)
{
	struct config *c = l->config;
	const struct config_auth *auth = &c->auth;
	bool knows_users;

	load_users(l);
	load_admission(l);
	if (auth->hba_file[0])
		failed(l, hba_load(auth->hba_file, &c->arena, l->report, &c->hba));
	if (auth->ident_file[0])
		failed(l, ident_load(auth->ident_file, &c->arena, l->report, &c->ident));
	if (l->no_memory)
		return;
	if (c->hba)
		check_hba(l);
	knows_users = auth->auth_file[0] || auth->auth_user[0] || userlist_count(c->userlist) > 0;
	if (auth->mode >= AUTH_MODE_PASSWORD && auth->mode != AUTH_MODE_CERT && !auth->hba_file[0] && !knows_users)
		error_at(l, line_of(l, "auth", "mode"),
			 "[auth] this mode needs users: set auth_file, [users.NAME] password, or auth_user");
	if (auth->mode == AUTH_MODE_CERT && !auth->hba_file[0] && !(c->tls.enabled && c->tls.ca_path[0]))
		error_at(l, line_of(l, "auth", "mode"),
			 "[auth] mode = \"cert\" asks for client certificates: set [tls] cert_path, key_path, and "
			 "ca_path, the authorities that sign them");
	if (auth->auth_user[0] && !strstr(auth->auth_query, "$1"))
		warn_at(l, line_of(l, "auth", "auth_query"), "[auth] auth_query has no $1, which is the user's name");
	if (auth->auth_user[0] && auth->auth_database[0] && c->database_count > 0 &&
	    !config_database_find(c, auth->auth_database))
		warn_at(l, line_of(l, "auth", "auth_database"),
			"[auth] auth_database %s is not served, so auth_query cannot run: there is neither "
			"[databases.%s] nor [databases.\"*\"]",
			auth->auth_database, auth->auth_database);
}

/* ----------------------------------------------------------------------------------------- topology */

static bool is_web_address(const char *url)
{
	const char *host = strstr(url, "://");

	return host && (strncmp(url, "http://", 7) == 0 || strncmp(url, "https://", 8) == 0) && host[3] &&
	       !strpbrk(host + 3, "@?# \t") && strlen(url) < URL_MAX;
}

static void check_url(struct loader *l, const char *url)
{
	const char *host = strstr(url, "://");
	bool good = is_web_address(url);
	const char *path = good ? strchr(host + 3, '/') : NULL;

	if (!good || (path && path[1]))
		error_at(l, line_of(l, "topology", "patroni_urls"),
			 "[topology] patroni_urls: \"%s\" is not of the form http://host:8008 or https://host:8008",
			 url);
}

static void check_patroni(struct loader *l)
{
	const struct config *c = l->config;
	const struct config_topology *t = &c->topology;

	if (t->patroni_urls.count == 0)
		error_at(l, line_of(l, "topology", "provider"), "[topology] provider = \"patroni\" needs patroni_urls");
	if (t->patroni_urls.count > PATRONI_URLS_MAX)
		error_at(l, line_of(l, "topology", "patroni_urls"), "[topology] patroni_urls: %u at most",
			 PATRONI_URLS_MAX);
	for (uint32_t i = 0; i < t->patroni_urls.count; i++)
		check_url(l, t->patroni_urls.items[i]);
	if (t->patroni_cert_path[0] && !t->patroni_key_path[0])
		error_at(l, line_of(l, "topology", "patroni_cert_path"),
			 "[topology] patroni_cert_path needs patroni_key_path");
	if (!c->health.user[0])
		error_at(l, line_of(l, "topology", "provider"),
			 "[topology] provider = \"patroni\" needs [health] user: a leader counts only when it says "
			 "itself "
			 "that it is read-write");
}

/* No read goes to a standby by itself: it does not tell what it has replayed, nor its catalog what functions do. */
static void check_heliosdb(struct loader *l)
{
	struct config *c = l->config;

	c->load_balancer.read_write_split = false;
	if (!c->health.user[0])
		error_at(l, line_of(l, "topology", "provider"),
			 "[topology] provider = \"heliosdb\" needs [health] user: the nodes are asked for their roles");
	if (c->topology.discover)
		error_at(l, line_of(l, "topology", "discover"),
			 "[topology] discover: HeliosDB does not tell where its standbys take queries; name them in "
			 "[[nodes]]");
}

static void check_telemetry(struct loader *l)
{
	const struct config_telemetry *t = &l->config->telemetry;

	if (t->endpoint[0] && !is_web_address(t->endpoint))
		error_at(l, line_of(l, "telemetry", "endpoint"),
			 "[telemetry] endpoint: \"%s\" is not of the form http://host:4318 or https://host:4318",
			 t->endpoint);
	if (t->cert_path[0] && !t->key_path[0])
		error_at(l, line_of(l, "telemetry", "cert_path"), "[telemetry] cert_path needs key_path");
}

static void check_topology(struct loader *l)
{
	const struct config_topology *t = &l->config->topology;

	if (t->provider == PROVIDER_HELIOSDB)
		check_heliosdb(l);
	if (t->provider == PROVIDER_PATRONI)
		check_patroni(l);
}

void config_finish(struct loader *l)
{
	apply_environment(l);
	check_nodes(l);
	check_databases(l);
	check_names(l);
	check_tls(l);
	check_server_tls(l);
	check_auth(l);
	check_health(l);
	check_topology(l);
	check_telemetry(l);
	check_lag(l);
	check_node_aliases(l);
	config_finish_admin(l);
}
