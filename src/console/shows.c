/* What can be shown: names, columns and types as PgBouncer 1.25 has them; test_console.py compares them with one. */
#include "console/console_priv.h"

#define POOL_COLUMNS \
	{"database", 's'}, {"user", 's'}, {"cl_active", 'i'}, {"cl_waiting", 'i'}, {"cl_active_cancel_req", 'i'}, \
		{"cl_waiting_cancel_req", 'i'}, {"sv_active", 'i'}, {"sv_active_cancel", 'i'}, \
		{"sv_being_canceled", 'i'}, {"sv_idle", 'i'}, {"sv_used", 'i'}, {"sv_tested", 'i'}, {"sv_login", 'i'}, \
		{"maxwait", 'i'}, {"maxwait_us", 'i'}, {"pool_mode", 's'}, \
	{ \
		"load_balance_hosts", 's' \
	}

#define SOCKET_COLUMNS \
	{"type", 's'}, {"user", 's'}, {"database", 's'}, {"replication", 's'}, {"state", 's'}, {"addr", 's'}, \
		{"port", 'i'}, {"local_addr", 's'}, {"local_port", 'i'}, {"connect_time", 's'}, {"request_time", 's'}, \
		{"wait", 'i'}, {"wait_us", 'i'}, {"close_needed", 'i'}, {"ptr", 's'}, {"link", 's'}, \
		{"remote_pid", 'i'}, {"tls", 's'}, {"application_name", 's'}, {"prepared_statements", 'i'}, \
	{ \
		"id", 'i' \
	}

static const struct column pool_columns[] = {POOL_COLUMNS};

static const struct column pool_extended_columns[] = {
	POOL_COLUMNS,    {"node", 's'},   {"sv_max", 'i'}, {"sv_active_limit", 'i'}, {"sv_pinned", 'i'},
	{"opened", 'q'}, {"closed", 'q'}, {"paused", 'i'}, {"last_error", 's'},
};

static const struct column socket_columns[] = {SOCKET_COLUMNS};

static const struct column socket_debug_columns[] = {
	SOCKET_COLUMNS,    {"recv_pos", 'i'},    {"pkt_pos", 'i'},   {"pkt_remain", 'i'},
	{"send_pos", 'i'}, {"send_remain", 'i'}, {"pkt_avail", 'i'}, {"send_avail", 'i'},
};

static const struct column fd_columns[] = {
	{"fd", 'i'},        {"task", 's'},     {"user", 's'},     {"database", 's'},         {"addr", 's'},
	{"port", 'i'},      {"cancel", 'q'},   {"link", 'i'},     {"client_encoding", 's'},  {"std_strings", 's'},
	{"datestyle", 's'}, {"timezone", 's'}, {"password", 's'}, {"scram_client_key", 'b'}, {"scram_server_key", 'b'},
};

static const struct column database_columns[] = {
	{"name", 's'},
	{"host", 's'},
	{"port", 'i'},
	{"database", 's'},
	{"force_user", 's'},
	{"pool_size", 'i'},
	{"min_pool_size", 'i'},
	{"reserve_pool_size", 'i'},
	{"server_lifetime", 'i'},
	{"pool_mode", 's'},
	{"load_balance_hosts", 's'},
	{"max_connections", 'i'},
	{"current_connections", 'i'},
	{"max_client_connections", 'i'},
	{"current_client_connections", 'i'},
	{"paused", 'i'},
	{"disabled", 'i'},
};

static const struct column user_columns[] = {
	{"name", 's'},
	{"pool_size", 's'},
	{"reserve_pool_size", 's'},
	{"pool_mode", 's'},
	{"max_user_connections", 'i'},
	{"current_connections", 'i'},
	{"max_user_client_connections", 'i'},
	{"current_client_connections", 'i'},
};

static const struct column stats_columns[] = {
	{"database", 's'},
	{"total_server_assignment_count", 'N'},
	{"total_xact_count", 'N'},
	{"total_query_count", 'N'},
	{"total_received", 'N'},
	{"total_sent", 'N'},
	{"total_xact_time", 'N'},
	{"total_query_time", 'N'},
	{"total_wait_time", 'N'},
	{"total_client_parse_count", 'N'},
	{"total_server_parse_count", 'N'},
	{"total_bind_count", 'N'},
	{"total_client_login_count", 'N'},
	{"avg_server_assignment_count", 'N'},
	{"avg_xact_count", 'N'},
	{"avg_query_count", 'N'},
	{"avg_recv", 'N'},
	{"avg_sent", 'N'},
	{"avg_xact_time", 'N'},
	{"avg_query_time", 'N'},
	{"avg_wait_time", 'N'},
	{"avg_client_parse_count", 'N'},
	{"avg_server_parse_count", 'N'},
	{"avg_bind_count", 'N'},
	{"avg_client_login_count", 'N'},
};

static const struct column stats_totals_columns[] = {
	{"database", 's'},           {"server_assignment_count", 'N'},
	{"xact_count", 'N'},         {"query_count", 'N'},
	{"bytes_received", 'N'},     {"bytes_sent", 'N'},
	{"xact_time", 'N'},          {"query_time", 'N'},
	{"wait_time", 'N'},          {"client_parse_count", 'N'},
	{"server_parse_count", 'N'}, {"bind_count", 'N'},
	{"client_login_count", 'N'},
};

static const struct column stats_averages_columns[] = {
	{"database", 's'},
	{"server_assignment_count", 'N'},
	{"xact_count", 'N'},
	{"query_count", 'N'},
	{"bytes_received", 'N'},
	{"bytes_sent", 'N'},
	{"xact_time", 'N'},
	{"query_time", 'N'},
	{"wait_time", 'N'},
	{"avg_client_parse_count", 'N'},
	{"avg_server_parse_count", 'N'},
	{"avg_bind_count", 'N'},
	{"avg_client_login_count", 'N'},
};

static const struct column total_columns[] = {{"name", 's'}, {"value", 'N'}};
static const struct column list_columns[] = {{"list", 's'}, {"items", 'i'}};
static const struct column config_columns[] = {{"key", 's'}, {"value", 's'}, {"default", 's'}, {"changeable", 's'}};
static const struct column state_columns[] = {{"key", 's'}, {"value", 's'}};
static const struct column version_columns[] = {{"version", 's'}};
static const struct column dns_host_columns[] = {{"hostname", 's'}, {"ttl", 'q'}, {"addrs", 's'}};
static const struct column dns_zone_columns[] = {{"zonename", 's'}, {"serial", 'q'}, {"count", 'i'}};
static const struct column peer_columns[] = {{"peer_id", 'i'}, {"host", 's'}, {"port", 'i'}, {"pool_size", 'i'}};
static const struct column peer_pool_columns[] = {{"peer_id", 'i'},
						  {"cl_active_cancel_req", 'i'},
						  {"cl_waiting_cancel_req", 'i'},
						  {"sv_active_cancel", 'i'},
						  {"sv_login", 'i'}};
static const struct column memory_columns[] = {
	{"name", 's'}, {"size", 'i'}, {"used", 'i'}, {"free", 'i'}, {"memtotal", 'i'}};
static const struct column prepared_columns[] = {
	{"database", 's'}, {"user", 's'}, {"client_parses", 'N'}, {"server_parses", 'N'}, {"binds", 'N'}};

/* Not PgBouncer's: it has none. */
static const struct column node_columns[] = {
	{"name", 's'},      {"host", 's'},   {"port", 'i'},     {"role", 's'},   {"primary", 'i'}, {"enabled", 'i'},
	{"healthy", 'i'},   {"barred", 'i'}, {"draining", 'i'}, {"links", 'i'},  {"weight", 'i'},  {"zone", 's'},
	{"lag_bytes", 'q'}, {"lag_ms", 'q'}, {"failures", 'q'}, {"source", 's'},
};

/* What drivers ask every server for. */
#define PARAMETER(name, value) \
	static const struct column name##_column[] = {{#name, 's'}}; \
	static void show_##name(struct console *console, const struct worker *w, struct rows *rows) \
	{ \
		(void)console; \
		(void)w; \
		row_begin(rows); \
		row_text(rows, value); \
		row_end(rows); \
	}
PARAMETER(client_encoding, "UTF8")
PARAMETER(default_transaction_isolation, "read committed")
PARAMETER(standard_conforming_strings, "on")
PARAMETER(datestyle, "ISO, MDY")
PARAMETER(timezone, "GMT")
PARAMETER(server_version, CONSOLE_LIKE)
PARAMETER(transaction_isolation, "read committed")

#define COLUMNS(columns) columns, ARRAY_SIZE(columns)

const struct show shows[] = {
	{"clients", COLUMNS(socket_columns), false, NULL, show_clients},
	{"servers", COLUMNS(socket_columns), false, NULL, show_servers},
	{"pools", COLUMNS(pool_columns), false, show_pools, NULL},
	{"pools_extended", COLUMNS(pool_extended_columns), false, show_pools_extended, NULL},
	{"databases", COLUMNS(database_columns), false, show_databases, NULL},
	{"users", COLUMNS(user_columns), false, show_users, NULL},
	{"stats", COLUMNS(stats_columns), false, show_stats, NULL},
	{"stats_totals", COLUMNS(stats_totals_columns), false, show_stats_totals, NULL},
	{"stats_averages", COLUMNS(stats_averages_columns), false, show_stats_averages, NULL},
	{"totals", COLUMNS(total_columns), false, show_totals, NULL},
	{"lists", COLUMNS(list_columns), false, show_lists, NULL},
	{"config", COLUMNS(config_columns), false, show_config, NULL},
	{"fds", COLUMNS(fd_columns), true, NULL, show_fds},
	{"mem", COLUMNS(memory_columns), false, NULL, show_memory},
	{"sockets", COLUMNS(socket_debug_columns), false, NULL, show_sockets},
	{"active_sockets", COLUMNS(socket_debug_columns), false, NULL, show_active_sockets},
	{"dns_hosts", COLUMNS(dns_host_columns), false, show_dns_hosts, NULL},
	{"dns_zones", COLUMNS(dns_zone_columns), false, NULL, NULL},
	{"peers", COLUMNS(peer_columns), false, NULL, NULL},
	{"peer_pools", COLUMNS(peer_pool_columns), false, NULL, NULL},
	{"prepared_statements", COLUMNS(prepared_columns), false, show_prepared_statements, NULL},
	{"nodes", COLUMNS(node_columns), false, show_nodes, NULL},
	{"state", COLUMNS(state_columns), false, show_state, NULL},
	{"version", COLUMNS(version_columns), false, show_version, NULL},
	{"help", NULL, 0, false, show_help, NULL},
	{"client_encoding", COLUMNS(client_encoding_column), false, show_client_encoding, NULL},
	{"default_transaction_isolation", COLUMNS(default_transaction_isolation_column), false,
	 show_default_transaction_isolation, NULL},
	{"standard_conforming_strings", COLUMNS(standard_conforming_strings_column), false,
	 show_standard_conforming_strings, NULL},
	{"datestyle", COLUMNS(datestyle_column), false, show_datestyle, NULL},
	{"timezone", COLUMNS(timezone_column), false, show_timezone, NULL},
	{"server_version", COLUMNS(server_version_column), false, show_server_version, NULL},
	{"transaction_isolation", COLUMNS(transaction_isolation_column), false, show_transaction_isolation, NULL},
};

const uint32_t show_count = ARRAY_SIZE(shows);
