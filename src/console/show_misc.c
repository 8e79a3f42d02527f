/* Configuration, state, names, and help. */
#include "console/console_priv.h"

#include <arpa/inet.h>
#include <stdio.h>

/* ---- configuration: what scripts for PgBouncer look for, then our own keys ---- */

static void add_setting(struct rows *rows, const char *key, const char *value, const char *default_text, bool reloads)
{
	row_begin(rows);
	row_text(rows, key);
	row_text(rows, value);
	row_text(rows, default_text);
	row_text(rows, reloads ? "yes" : "no");
	row_end(rows);
}

static void add_number(struct rows *rows, const char *key, uint64_t value, const char *default_text)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	add_setting(rows, key, text, default_text, /* reloads= */ true);
}

static void add_seconds(struct rows *rows, const char *key, usec_t value, const char *default_text)
{
	add_number(rows, key, value / USEC_PER_SEC, default_text);
}

/* Defaults are this proxy's. */
static void add_pgbouncers(const struct config *c, struct rows *rows)
{
	add_setting(rows, "pool_mode", pool_mode_name(c->pool.mode), "session", true);
	add_number(rows, "max_client_conn", c->proxy.max_clients, "10000");
	add_number(rows, "default_pool_size", c->pool.max_connections, "100");
	add_number(rows, "min_pool_size", c->pool.min_connections, "0");
	add_number(rows, "reserve_pool_size", c->pool.reserve_connections, "0");
	add_seconds(rows, "reserve_pool_timeout", c->pool.reserve_timeout, "5");
	add_number(rows, "max_db_connections", c->pool.max_database_connections, "0");
	add_number(rows, "max_db_client_connections", c->pool.max_database_clients, "0");
	add_number(rows, "max_user_client_connections", c->pool.max_user_clients, "0");
	add_number(rows, "max_user_connections", c->pool.max_user_connections, "0");
	add_number(rows, "max_prepared_statements", c->pool.max_prepared_statements, "500");
	add_setting(rows, "server_reset_query", c->pool.reset_query, "DISCARD ALL", true);
	add_seconds(rows, "server_lifetime", c->pool.max_lifetime, "1800");
	add_seconds(rows, "server_idle_timeout", c->pool.idle_timeout, "300");
	add_seconds(rows, "server_connect_timeout", c->pool.connect_timeout, "15");
	add_seconds(rows, "server_login_retry", c->pool.login_retry, "5");
	add_seconds(rows, "query_timeout", c->pool.query_timeout, "0");
	add_seconds(rows, "transaction_timeout", c->pool.transaction_timeout, "0");
	add_seconds(rows, "query_wait_timeout", c->pool.query_wait_timeout, "30");
	add_seconds(rows, "client_idle_timeout", c->pool.client_idle_timeout, "0");
	add_seconds(rows, "client_login_timeout", c->pool.client_login_timeout, "60");
	add_seconds(rows, "idle_transaction_timeout", c->pool.idle_transaction_timeout, "0");
	add_seconds(rows, "suspend_timeout", c->proxy.suspend_timeout, "10");
	/* what is refused is always logged; check_postgres takes a list without this one for an error */
	add_setting(rows, "log_pooler_errors", "1", "1", /* reloads= */ false);
	add_number(rows, "stats_period", POOLS_STATS_PERIOD / USEC_PER_SEC, "60");
	add_setting(rows, "auth_file", c->auth.auth_file, "", true);
	add_setting(rows, "auth_hba_file", c->auth.hba_file, "", true);
	add_setting(rows, "auth_query", c->auth.auth_query, "", true);
	add_setting(rows, "auth_user", c->auth.auth_user, "", true);
}

static void add_value(const struct config_value_view *v, void *to)
{
	char key[128];

	snprintf(key, sizeof(key), "%s.%s", v->section, v->key);
	add_setting(to, key, v->value, v->default_text, v->reloads);
}

void show_config(struct console *console, const struct worker *w, struct rows *rows)
{
	(void)console;
	add_pgbouncers(w->settings.config, rows);
	config_each_value(w->settings.config, add_value, rows);
}

/* ---- state and version ---- */

static void add_state(struct rows *rows, const char *key, bool is)
{
	row_begin(rows);
	row_text(rows, key);
	row_text(rows, is ? "yes" : "no");
	row_end(rows);
}

void show_state(struct console *console, const struct worker *w, struct rows *rows)
{
	bool paused = pools_are_paused(console->context.pools);
	bool suspended = suspension_is_on(&console->context.sessions->suspension);

	(void)w;
	add_state(rows, "active", !paused && !suspended);
	add_state(rows, "paused", paused);
	add_state(rows, "suspended", suspended);
}

/* Tools read the number behind the name. */
void show_version(struct console *console, const struct worker *w, struct rows *rows)
{
	(void)console;
	(void)w;
	row_begin(rows);
	row_text(rows, "PgBouncer " CONSOLE_LIKE " (heliosdb-proxy " HELIOS_VERSION ")");
	row_end(rows);
}

/* ---- names ---- */

bool console_is_name(const struct node *node)
{
	struct in6_addr address;

	return node->host[0] != '/' && inet_pton(AF_INET, node->host, &address) != 1 &&
	       inet_pton(AF_INET6, node->host, &address) != 1;
}

static void add_addresses(struct node *node, struct buf *text)
{
	struct sockaddr_storage addresses[NODE_ADDRESSES_MAX];
	socklen_t lens[NODE_ADDRESSES_MAX];
	uint32_t count = node_addresses(node, addresses, lens);

	for (uint32_t i = 0; i < count; i++) {
		const void *in = addresses[i].ss_family == AF_INET6
					 ? (const void *)&((struct sockaddr_in6 *)&addresses[i])->sin6_addr
					 : (const void *)&((struct sockaddr_in *)&addresses[i])->sin_addr;
		char host[INET6_ADDRSTRLEN] = "";

		inet_ntop(addresses[i].ss_family, in, host, sizeof(host));
		buf_printf(text, "%s%s", i ? "," : "", host);
	}
}

void show_dns_hosts(struct console *console, const struct worker *w, struct rows *rows)
{
	const struct node_set *set = node_list_now(console->context.nodes);

	for (uint32_t i = 0; i < set->count; i++) {
		struct buf text = BUF_INIT(4096);

		if (!console_is_name(set->nodes[i]))
			continue;
		add_addresses(set->nodes[i], &text);
		row_begin(rows);
		row_text(rows, set->nodes[i]->host);
		row_number(rows, w->settings.config->health.dns_interval / USEC_PER_SEC);
		row_text(rows, buf_cstr(&text));
		row_end(rows);
		buf_free(&text);
	}
}

/* ---- help: a notice, and no rows ---- */

void show_help(struct console *console, const struct worker *w, struct rows *rows)
{
	static const char text[] = "Console usage\n"
				   "\tSHOW HELP|CONFIG|DATABASES|POOLS|POOLS_EXTENDED|CLIENTS|SERVERS|USERS|VERSION\n"
				   "\tSHOW PEERS|PEER_POOLS|PREPARED_STATEMENTS\n"
				   "\tSHOW FDS|SOCKETS|ACTIVE_SOCKETS|LISTS|MEM|STATE\n"
				   "\tSHOW DNS_HOSTS|DNS_ZONES\n"
				   "\tSHOW STATS|STATS_TOTALS|STATS_AVERAGES|TOTALS\n"
				   "\tSHOW NODES\n"
				   "\tRELOAD\n"
				   "\tPAUSE [<db>]\n"
				   "\tRESUME [<db>]\n"
				   "\tDISABLE <db>\n"
				   "\tENABLE <db>\n"
				   "\tRECONNECT [<db>]\n"
				   "\tKILL [<db>]\n"
				   "\tKILL_CLIENT <client_id>\n"
				   "\tSUSPEND\n"
				   "\tSHUTDOWN\n"
				   "\tSHUTDOWN WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS\n"
				   "\tWAIT_CLOSE [<db>]\n"
				   "\tADD NODE <host:port> [<key> = <value>]...\n"
				   "\tREMOVE|DISABLE|DRAIN NODE <node> [FORCE]\n"
				   "\tENABLE|UNDRAIN NODE <node>\n"
				   "\tSET primary = <node>|none\n"
				   "\tSET <section>.<key> = <value>";

	(void)console;
	(void)w;
	message_notice(&rows->out, "NOTICE", "00000", text, NULL);
}
