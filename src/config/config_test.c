/* Whole files: what loads, what is refused and in which words. */
#include "config/hba.h"
#include "config/keys.h"
#include "config/test.h"
#include "config/toml.h"
#include "config/userlist.h"

#include <unistd.h>

static void defaults_hold(void **state)
{
	struct fixture f;

	load(&f, NODE);
	assert_int_equal(f.config->proxy.listen_address.count, 1);
	assert_string_equal(f.config->proxy.listen_address.items[0], "0.0.0.0:6432");
	assert_string_equal(f.config->proxy.admin_address, "127.0.0.1:9090");
	assert_int_equal(f.config->pool.mode, POOL_MODE_SESSION);
	assert_int_equal(f.config->pool.max_connections, 100);
	assert_int_equal(f.config->pool.query_wait_timeout, 30 * USEC_PER_SEC);
	assert_int_equal(f.config->limits.max_message_kept, 1 << 20);
	assert_int_equal(f.config->pool.track_parameters.count, 0);
	assert_int_equal(f.config->server_tls.mode, TLS_PREFER);
	assert_int_equal(f.config->auth.mode, AUTH_MODE_PASSTHROUGH);
	assert_int_equal(f.config->log.level, LOG_INFO);
	assert_false(f.config->tls.enabled);
	assert_false(f.config->pool.given);
	assert_int_equal(f.config->node_count, 1);
	assert_string_equal(f.config->nodes[0].name, "h:5432");
	assert_int_equal(f.config->nodes[0].port, 5432);
	assert_int_equal(f.config->nodes[0].weight, 100);
	assert_true(f.config->nodes[0].enabled);
	assert_null(f.config->hba);
	assert_null(f.config->admission);
	assert_non_null(f.config->userlist);
	end(&f);
}

static void values_are_read(void **state)
{
	struct fixture f;

	load(&f, "[proxy]\nlisten_address = [\"127.0.0.1:6432\", \"unix:/run/p.sock\"]\nio = \"epoll\"\n"
		 "[pool]\nmode = \"Transaction\"\nidle_timeout = 12\nmax_lifetime_ms = 1500\nconnect_timeout_secs = 7\n"
		 "query_wait_timeout = \"2min\"\nquery_timeout = 0.25\ntrack_parameters = [\"a\", \"b\"]\n"
		 "ignore_startup_parameters = \"extra_float_digits\"\n"
		 "[telemetry]\nsample_ratio = 0.25\n[limits]\nmax_message_kept = \"64kB\"\n[log]\nformat = "
		 "\"json\"\n" NODE);
	assert_int_equal(f.config->proxy.listen_address.count, 2);
	assert_string_equal(f.config->proxy.listen_address.items[1], "unix:/run/p.sock");
	assert_int_equal(f.config->proxy.io, IO_EPOLL);
	assert_int_equal(f.config->pool.mode, POOL_MODE_TRANSACTION);
	assert_int_equal(f.config->pool.idle_timeout, 12 * USEC_PER_SEC);
	assert_int_equal(f.config->pool.max_lifetime, 1500 * USEC_PER_MSEC);
	assert_int_equal(f.config->pool.connect_timeout, 7 * USEC_PER_SEC);
	assert_int_equal(f.config->pool.query_wait_timeout, 120 * USEC_PER_SEC);
	assert_int_equal(f.config->pool.query_timeout, 250 * USEC_PER_MSEC);
	assert_int_equal(f.config->pool.track_parameters.count, 2);
	assert_int_equal(f.config->pool.ignore_startup_parameters.count, 1);
	assert_int_equal(f.config->limits.max_message_kept, 65536);
	assert_int_equal(f.config->log.format, LOG_FORMAT_JSON);
	assert_true(f.config->pool.given);
	assert_true(f.config->telemetry.sample_ratio == 0.25);
	end(&f);
}

#define PATRONI "[topology]\n\nprovider = \"patroni\"\n"

static void mistakes_are_told_with_their_place(void **state)
{
	static const struct {
		const char *text;
		uint32_t line;
		const char *part;
	} cases[] = {
		{NODE "[pool]\nmax_conections = 5\n", 5,
		 "unknown key pool.max_conections; did you mean max_connections?"},
		{NODE "[pool]\n\nzzzzzz = 5\n", 6, "unknown key pool.zzzzzz"},
		{NODE "[telemetry]\nsample_ratio = 2\n", 5, "must be a number from 0 to 1"},
		{NODE "[telemetry]\nsample_ratio = -0.5\n", 5, "must be a number from 0 to 1"},
		{NODE "[telemetry]\nsample_ratio = \"much\"\n", 5, "must be a number from 0 to 1"},
		{NODE "[telemetry]\nsample_ratio = true\n", 5, "must be a number from 0 to 1"},
		{NODE "[telemetry]\nendpoint = \"localhost:4318\"\n", 5, "is not of the form"},
		{NODE "[telemetry]\ncert_path = \"x\"\n", 5, "needs key_path"},
		{NODE "[poool]\n", 4, "unknown table poool; did you mean pool?"},
		{"listen_adress = \"1.1.1.1:1\"\n" NODE, 1, "did you mean listen_address?"},
		{NODE "[cache]\nenabledd = true\n", 5, "unknown key cache.enabledd; did you mean enabled?"},
		{NODE "[cache.l1]\nsizes = 1\n", 5, "unknown key cache.l1.sizes; did you mean size?"},
		{NODE "[cache.l9]\n", 4, "unknown table cache.l9"},
		{NODE "weigth = 1\n", 4, "unknown key weigth in [[nodes]]; did you mean weight?"},
		{NODE "[databases.d]\ndbnam = \"x\"\n", 5, "unknown key dbnam in [databases.d]; did you mean dbname?"},
		{NODE "[pool]\nmax_connections = \"5\"\n", 5,
		 "[pool] max_connections must be a whole number from 1 to 100000, not a string"},
		{NODE "[pool]\nmax_connections = 0\n", 5, "from 1 to 100000"},
		{NODE "[pool]\nmax_connections = -1\n", 5, "from 1 to 100000"},
		{NODE "[pool]\nmax_connections = 9223372036854775807\n", 5, "from 1 to 100000"},
		{NODE "[pool]\nmax_connections = 1.5\n", 5, "not a number"},
		{NODE "[pool]\nmax_connections = 1979-05-27\n", 5, "not a date"},
		{NODE "[pool]\nmode = \"tx\"\n", 5, "must be one of \"session\", \"transaction\", \"statement\""},
		{NODE "[pool]\nmode = 1\n", 5, "not an integer"},
		{NODE "[proxy]\nspin = \"100us\"\n", 5, "must be one of \"auto\", \"off\""},
		{NODE "[proxy]\nspin_most = \"1001ms\"\n", 5, "from 0s to 1s"},
		{NODE "[pool]\nidle_timeout = \"5 parsecs\"\n", 5, "must be a duration such as"},
		{NODE "[pool]\nidle_timeout = -1\n", 5, "out of range"},
		{NODE "[pool]\nidle_timeout = nan\n", 5, "out of range"},
		{NODE "[pool]\nidle_timeout = true\n", 5, "must be a duration from 0s to 365d, not true or false"},
		{NODE "[pool]\nconnect_timeout_ms = 10\n", 5, "from 1s to 1d"},
		{NODE "[pool]\nidle_timeout = 1\nidle_timeout_secs = 2\n", 6, "was given before, in line 5"},
		{"listen_address = \"1.1.1.1:1\"\n" NODE "[proxy]\nlisten_address = \"1.1.1.1:1\"\n", 6, "in line 1"},
		{NODE "[pool]\nreset_query = \"a\\u0000b\"\n", 5, "NUL"},
		{NODE "[pool]\ntrack_parameters = [1]\n", 5, "not an integer"},
		{NODE "[proxy]\nlisten_address = []\n", 5, "at least one"},
		{NODE "[proxy]\nlisten_address = \"6432\"\n", 5, "host:port"},
		{NODE "[proxy]\nadmin_address = \"::1:9090\"\n", 5, "host:port"},
		{NODE "[proxy]\nadmin_allow_insecure = \"yes\"\n", 5, "must be true or false, not a string"},
		{NODE "[pool]\nmin_connections = 200\n", 5, "min_connections (200) is above max_connections (100)"},
		{NODE "[databases.d]\nmin_connections = 200\n", 4, "[databases.d] min_connections"},
		{NODE "[users.u]\nmin_connections = 200\n", 4, "[users.u] min_connections"},
		{NODE "[databases.d]\nnode = \"nowhere\"\n", 4, "there is no node nowhere"},
		{NODE "[[databases]]\nuser = \"x\"\n", 4, "needs a name"},
		{NODE "[[databases]]\nname = \"d\"\n[[databases]]\nname = \"d\"\n", 6, "database d has two tables"},
		{NODE "databases = 1\n", 4, "unknown key databases in"},
		{"databases = 1\n" NODE, 1, "must be tables"},
		{"pool = 1\n" NODE, 1, "pool must be a table"},
		{"nodes = 1\n", 1, "write [[nodes]]"},
		{"", 0, "no node is configured"},
		{"[[nodes]]\nrole = \"primary\"\n", 1, "needs host"},
		{"[[nodes]]\nhost = \"\"\n", 1, "must not be empty"},
		{NODE "[[nodes]]\nhost = \"i\"\n", 4, "needs role"},
		{NODE NODE, 4, "two nodes have the name h:5432"},
		{"[[nodes]]\nhost = \"h\"\nport = 70000\n", 3, "from 1 to 65535"},
		{"[[nodes]]\nhost = \"h\"\nrole = \"leader\"\n", 3, "one of \"primary\", \"standby\", \"replica\""},
		{"[[nodes]]\nhost = \"h\"\nenabled = false\n", 1, "no node is enabled"},
		{NODE "[topology]\nprovider = \"heliosdb\"\n", 5, "needs [health] user"},
		{NODE "[health]\nuser = \"u\"\n[topology]\nprovider = \"heliosdb\"\ndiscover = true\n", 8,
		 "name them in"},
		{PATRONI "", 3, "needs patroni_urls"},
		{PATRONI "patroni_urls = [\"http://a:8008\"]\n", 3, "needs [health] user"},
		{PATRONI "patroni_urls = [\"a:8008\"]\n", 4, "is not of the form"},
		{PATRONI "patroni_urls = [\"http://u:p@a\"]\n", 4, "is not of the form"},
		{PATRONI "patroni_urls = [\"https://a/cluster\"]\n", 4, "is not of the form"},
		{PATRONI "patroni_urls = \"https://\"\n", 4, "is not of the form"},
		{PATRONI "patroni_cert_path = \"x\"\n", 4, "needs patroni_key_path"},
		{NODE "[tls]\nenabled = true\n", 5, "[tls] needs cert_path"},
		{NODE "[tls]\ncert_path = \"c\"\n", 5, "[tls] needs key_path"},
		{NODE "[tls]\nmode = \"require\"\n", 5, "needs cert_path"},
		{NODE "[tls]\ncert_path = \"c\"\nkey_path = \"k\"\nmode = \"verify-ca\"\n", 7, "needs ca_path"},
		{NODE "[tls]\ncert_path = \"c\"\nkey_path = \"k\"\nrequire_client_cert = true\n", 7, "needs ca_path"},
		{NODE "[tls]\nmin_version = \"1.2\"\n", 5, "TLSv1.2"},
		{NODE "[server_tls]\nmode = \"verify-full\"\n", 5, "needs ca_path"},
		{NODE "[server_tls]\ndirect = true\n", 5, "direct needs"},
		{NODE "[auth]\nmode = \"scram\"\n", 5, "this mode needs users"},
		{NODE "[auth]\nmode = \"cert\"\n", 5, "set [tls] cert_path, key_path, and ca_path"},
		{NODE "[users.u]\npassword = \"SCRAM-SHA-256$x\"\n", 4, "damaged SCRAM"},
		{NODE "[[hba]]\nuser = \"u\"\n", 4, "needs action"},
		{NODE "[[hba]]\naction = \"deny\"\n", 5, "one of \"allow\", \"reject\""},
		{NODE "[[hba]]\naction = \"allow\"\naddress = \"example.org\"\n", 4, "CIDR"},
		{NODE "[pool]\nmode = \n", 5, ""},
		{NODE "x = ${T_SURELY_UNSET}\n", 4, "T_SURELY_UNSET"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct fixture f;

		load_as(&f, cases[i].text, false);
		if (f.r != -EINVAL || !has_message(&f.report, REPORT_ERROR, cases[i].line, cases[i].part)) {
			config_report_print(&f.report, stderr);
			fail_msg("%s\n%u: %s", cases[i].text, cases[i].line, cases[i].part);
		}
		end(&f);
	}
}

/* Patroni names them. */
static void no_nodes_with_patroni(void **state)
{
	struct fixture f;

	load_as(&f, PATRONI "patroni_urls = [\"http://a:8008/\", \"https://[::1]:8008\"]\n[health]\nuser = \"m\"\n",
		true);
	assert_int_equal(f.r, 0);
	assert_int_equal(f.config->node_count, 0);
	assert_int_equal(f.config->topology.patroni_urls.count, 2);
	assert_int_equal(f.config->topology.patroni_interval, 2 * USEC_PER_SEC);
	end(&f);
}

static void all_mistakes_are_told(void **state)
{
	struct fixture f;

	load_as(&f, "[pool]\nmode = 1\nmax_connections = 0\nfoo = 1\n[auth]\nmode = \"x\"\n", false);
	assert_int_equal(f.r, -EINVAL);
	assert_int_equal(f.report.errors, 5); /* and no node */
	assert_int_equal(f.report.first->column, 0);
	assert_int_equal(f.report.first->next->line, 2);
	assert_int_equal(f.report.first->next->column, 1);
	end(&f);
}

static const char quick_start[] = "[proxy]\n"
				  "listen_address = \"0.0.0.0:6432\"\n"
				  "admin_address = \"0.0.0.0:9090\"\n\n"
				  "[pool]\n"
				  "mode = \"transaction\"\n"
				  "min_connections = 5\n"
				  "max_connections = 100\n"
				  "idle_timeout_secs = 300\n\n"
				  "[load_balancer]\n"
				  "strategy = \"least_connections\"\n"
				  "read_write_split = true\n\n"
				  "[health]\n"
				  "check_interval_secs = 5\n"
				  "check_query = \"SELECT 1\"\n"
				  "failure_threshold = 3\n\n"
				  "[[nodes]]\n"
				  "host = \"pg-primary.internal\"\n"
				  "port = 5432\n"
				  "role = \"primary\"\n\n"
				  "[[nodes]]\n"
				  "host = \"pg-standby-sync.internal\"\n"
				  "port = 5432\n"
				  "role = \"standby\"\n"
				  "sync = true\n\n"
				  "[[nodes]]\n"
				  "host = \"pg-standby-async.internal\"\n"
				  "port = 5432\n"
				  "role = \"standby\"\n";

static void the_quick_start_loads(void **state)
{
	struct fixture f;

	load_as(&f, quick_start, false);
	assert_int_equal(f.r, 0);
	assert_int_equal(f.report.warnings, 1);
	assert_true(has_message(&f.report, REPORT_WARNING, 3, "admin_token"));
	/* what the built-in capabilities do not cover is said once a table */
	assert_true(f.report.notices <= 2);
	assert_true(config_admin_is_exposed(f.config));
	assert_int_equal(f.config->pool.mode, POOL_MODE_TRANSACTION);
	assert_int_equal(f.config->pool.min_connections, 5);
	assert_int_equal(f.config->pool.idle_timeout, 300 * USEC_PER_SEC);
	assert_int_equal(f.config->node_count, 3);
	assert_true(f.config->nodes[1].sync);
	assert_int_equal(f.config->nodes[1].role, NODE_STANDBY);
	end(&f);
}

static void the_older_layout_loads(void **state)
{
	static const char text[] =
		"listen_address = \"127.0.0.1:5432\"\n"
		"admin_address = \"127.0.0.1:9090\"\n"
		"tr_enabled = false\ntr_mode = \"none\"\n"
		"optimize_unnamed_parse = false\nshutdown_drain_timeout_secs = 5\n"
		"[pool_mode]\nmode = \"transaction\"\nmax_pool_size = 40\nmin_idle = 3\nidle_timeout_secs = 600\n"
		"max_lifetime_secs = 3600\nacquire_timeout_secs = 5\nreset_query = \"DISCARD ALL\"\n"
		"prepared_statement_mode = \"track\"\nskip_clean_reset = false\nvalidation_query = \"SELECT 1\"\n"
		"queue_timeout_secs = 30\nmax_queue_size = 77\n"
		"[pool]\nmin_connections = 3\nmax_connections = 40\nidle_timeout_secs = 600\nmax_lifetime_secs = 1800\n"
		"acquire_timeout_secs = 5\ntest_on_acquire = true\n"
		"[limits]\nstartup_timeout_secs = 30\nmax_cancel_keys = 10\nmax_prepared_statements = 99\n"
		"[logging]\nlevel = \"debug\"\nformat = \"pretty\"\n"
		"[cache]\nenabled = false\n[cache.l1]\nenabled = true\nsize = 5\n"
		"[plugins]\nenabled = false\nplugin_dir = \"x\"\n[plugins.mask]\npriority = "
		"3\n[plugins.mask.config]\na.b = 1\n"
		"[rate_limit]\ndefault_qps = 5\n"
		"[[hba]]\naction = \"reject\"\nuser = \"bad\"\n"
		"[[nodes]]\nhost = \"127.0.0.1\"\nport = 5433\nhttp_port = 8080\nrole = \"primary\"\nweight = "
		"100\nenabled = true\nname = \"a\"\n";
	struct fixture f;

	load_as(&f, text, false);
	config_report_print(&f.report, stderr);
	assert_int_equal(f.r, 0);
	assert_int_equal(f.report.warnings, 0);
	assert_int_equal(f.report.notices, 1);
	assert_true(has_message(&f.report, REPORT_NOTICE, 12, "[pool_mode] max_lifetime_secs counts"));
	assert_string_equal(f.config->proxy.listen_address.items[0], "127.0.0.1:5432");
	assert_int_equal(f.config->proxy.shutdown_drain_timeout, 5 * USEC_PER_SEC);
	assert_false(f.config->proxy.optimize_unnamed_parse);
	assert_int_equal(f.config->pool.mode, POOL_MODE_TRANSACTION);
	assert_int_equal(f.config->pool.max_connections, 40);
	assert_int_equal(f.config->pool.min_connections, 3);
	assert_int_equal(f.config->pool.max_lifetime, 3600 * USEC_PER_SEC);
	assert_int_equal(f.config->pool.query_wait_timeout, 5 * USEC_PER_SEC);
	assert_int_equal(f.config->pool.reset, RESET_ALWAYS);
	assert_int_equal(f.config->pool.max_waiting_clients, 77);
	assert_int_equal(f.config->pool.client_login_timeout, 30 * USEC_PER_SEC);
	assert_int_equal(f.config->pool.max_client_prepared_statements, 99);
	assert_int_equal(f.config->log.level, LOG_DEBUG);
	assert_int_equal(f.config->log.format, LOG_FORMAT_TEXT);
	assert_int_equal(hba_rule_count(f.config->admission), 1);
	end(&f);
}

/* Every table and key of the reference at once: nothing of it is unknown. */
static void the_fullest_file_loads(void **state)
{
	struct fixture f;

	config_report_init(&f.report, false);
	f.r = config_load(SEEDS "/full.toml", &f.config, &f.report);
	if (f.r < 0)
		config_report_print(&f.report, stderr);
	assert_int_equal(f.r, 0);
	assert_int_equal(f.report.warnings, 0);
	assert_int_equal(f.config->pool.mode, POOL_MODE_TRANSACTION);
	assert_int_equal(f.config->node_count, 3);
	end(&f);
}

static void what_is_not_available_is_told_once(void **state)
{
	static const struct {
		const char *text;
		uint32_t notices;
		uint32_t line;
		const char *part;
	} cases[] = {
		{"[cache]\nenabled = true\nttl_secs = 5\n[cache.l1]\nsize = 5\n[cache.tables.t]\nttl_secs = 1\n", 1, 4,
		 "[cache] is not available in this build"},
		{"[cache]\nttl_secs = 5\n", 0, 0, ""},
		{"[anomaly]\nrate_window_secs = 5\n", 1, 4, "[anomaly]"},
		{"[rewriter]\nadd_default_limit = true\n", 1, 4, "[rewriter]"},
		{"[rewriter]\nenabled = false\nadd_default_limit = true\n", 0, 0, ""},
		{"[multi_tenancy]\nenabled = true\ntenants = [\"a\"]\n", 1, 4, "[multi_tenancy]"},
		{"[multi_tenancy]\nenabled = true\n[[multi_tenancy.tenants]]\nid = "
		 "\"a\"\n[multi_tenancy.tenants.pool]\nmin_idle = 1\n",
		 1, 4, "[multi_tenancy]"},
		{"[[agent_contracts]]\nid = \"a\"\n[[agent_contracts]]\nid = \"b\"\n", 1, 4, "[[agent_contracts]]"},
		{"[auth.jwt]\njwks_url = \"x\"\n", 1, 4, "[auth.jwt]"},
		{"[auth]\nenabled = false\n[auth.jwt]\njwks_url = \"x\"\n", 0, 0, ""},
		{"[auth]\nenabled = true\nauth_methods = [\"jwt\"]\n", 1, 5, "[auth] enabled: auth proxy"},
		{"[limits]\nbackend_read_timeout_secs = 30\nmax_pending_bytes = 5\n", 1, 5,
		 "[limits] backend_read_timeout_secs"},
		{"[metrics]\nenabled = true\n", 0, 0, ""},
		{"[metrics]\nenabled = true\naddr = \"0.0.0.0:9100\"\n", 1, 4,
		 "[metrics] is not available in this build: a listener for metrics alone"},
		/* some keys of these act (other_spellings_of_lag): nobody is told that all of it is missing */
		{"[lag]\nread_your_writes = true\ndefault_max_lag_ms = 500\nfallback_to_primary = true\n", 0, 0, ""},
		{"[lag]\nenabled = true\nsmoothing_window = 10\n", 1, 6, "[lag] smoothing_window: an estimate of lag"},
		{"[ha]\nenabled = true\nmax_replica_lag_ms = 100\n", 1, 5, "[ha] enabled: failover"},
		{"[analytics.slow_query]\nthreshold_ms = 5\n", 0, 0, ""},
		{"[proxy]\ntr_enabled = true\ntr_mode = \"session\"\n", 1, 5, "transaction replay is not available"},
		{"[proxy]\ntr_enabled = false\ntr_mode = \"none\"\n", 0, 0, ""},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char text[512];
		struct fixture f;

		snprintf(text, sizeof(text), NODE "%s", cases[i].text);
		load_as(&f, text, false);
		if (f.r != 0 || f.report.notices != cases[i].notices ||
		    (cases[i].notices && !has_message(&f.report, REPORT_NOTICE, cases[i].line, cases[i].part))) {
			config_report_print(&f.report, stderr);
			fail_msg("%s", cases[i].text);
		}
		end(&f);
		load_as(&f, text, true);
		assert_int_equal(f.r, cases[i].notices ? -EINVAL : 0);
		assert_int_equal(f.report.errors, cases[i].notices);
		end(&f);
	}
}

static void pools_are_merged(void **state)
{
	struct config_pool pool;
	struct fixture f;

	load(&f, "[pool]\nmax_connections = 10\nquery_timeout = 1\n"
		 "[databases.\"*\"]\nmax_connections = 20\nmode = \"statement\"\n"
		 "[databases.shop]\ndefault_pool_size = 30\ndbname = \"shop_v2\"\nnode = \"h:5432\"\nuser = "
		 "\"svc\"\npassword = \"p\"\n"
		 "connect_query = \"SET x = 1\"\n"
		 "[databases.own]\npassword = \"for whoever it is\"\n"
		 "[users.app]\nmax_connections = 40\nquery_timeout_ms = 500\npassword = \"q\"\n" NODE);
	config_pool_for(f.config, "other", "u", &pool);
	assert_int_equal(pool.max_connections, 20);
	assert_int_equal(pool.mode, POOL_MODE_STATEMENT);
	assert_int_equal(pool.query_timeout, USEC_PER_SEC);
	config_pool_for(f.config, "shop", "u", &pool);
	assert_int_equal(pool.max_connections, 30);
	assert_int_equal(pool.mode, POOL_MODE_SESSION);
	config_pool_for(f.config, "shop", "app", &pool);
	assert_int_equal(pool.max_connections, 40);
	assert_int_equal(pool.query_timeout, 500 * USEC_PER_MSEC);
	assert_string_equal(config_database_find(f.config, "shop")->dbname, "shop_v2");
	assert_string_equal(config_database_find(f.config, "shop")->user, "svc");
	assert_string_equal(config_database_find(f.config, "own")->user, "");
	assert_string_equal(config_database_find(f.config, "own")->password, "for whoever it is");
	assert_string_equal(config_database_find(f.config, "nope")->name, "*");
	assert_non_null(config_node_find(f.config, "H:5432"));
	assert_null(config_node_find(f.config, "h:5433"));
	assert_int_equal(userlist_get(f.config->userlist, "app")->kind, SECRET_PLAIN);
	assert_null(userlist_get(f.config->userlist, "nobody"));
	assert_true(userlist_has_plain(f.config->userlist));
	end(&f);
	load(&f, "[[databases]]\nname = \"shop\"\nmax_connections = 3\n[[users]]\nname = \"u\"\nmode = "
		 "\"statement\"\n" NODE);
	config_pool_for(f.config, "shop", "u", &pool);
	assert_int_equal(pool.max_connections, 3);
	assert_int_equal(pool.mode, POOL_MODE_STATEMENT);
	end(&f);
}

static void tls_follows_its_paths(void **state)
{
	struct fixture f;

	load(&f, NODE "[tls]\ncert_path = \"c\"\nkey_path = \"k\"\n");
	assert_true(f.config->tls.enabled);
	end(&f);
	load(&f, NODE "[tls]\nenabled = false\ncert_path = \"c\"\nkey_path = \"k\"\n");
	assert_false(f.config->tls.enabled);
	end(&f);
	load(&f, NODE "[tls]\ncert_path = \"c\"\nkey_path = \"k\"\nca_path = \"a\"\nrequire_client_cert = true\n");
	assert_int_equal(f.config->tls.mode, TLS_VERIFY_FULL);
	end(&f);
}

static void the_environment_counts(void **state)
{
	struct fixture f;

	setenv("T_MAX", "33", 1);
	setenv("HELIOS_DRAIN_TIMEOUT_SECS", "9", 1);
	load(&f, "[pool]\nmax_connections = ${T_MAX}\nmode = \"${T_MODE:-transaction}\"\n" NODE);
	unsetenv("HELIOS_DRAIN_TIMEOUT_SECS");
	assert_int_equal(f.config->pool.max_connections, 33);
	assert_int_equal(f.config->pool.mode, POOL_MODE_TRANSACTION);
	assert_int_equal(f.config->proxy.shutdown_drain_timeout, 9 * USEC_PER_SEC);
	end(&f);
	setenv("HELIOS_DRAIN_TIMEOUT_SECS", "-9", 1);
	load_as(&f, NODE, false);
	unsetenv("HELIOS_DRAIN_TIMEOUT_SECS");
	assert_int_equal(f.r, 0);
	assert_int_equal(f.report.warnings, 1);
	end(&f);
}

static void flags_are_enough(void **state)
{
	const char *standbys[] = {"b:5432,c:5433", "[::1]:5434"};
	struct config_flags flags = {
		.listen = "127.0.0.1:1",
		.primary = "a:5432",
		.standbys = standbys,
		.standby_count = 2,
		.log_level = "debug",
		.json_logs = true,
	};
	struct fixture f = {0};

	config_report_init(&f.report, false);
	assert_int_equal(config_from_flags(&flags, &f.config, &f.report), 0);
	assert_int_equal(f.config->node_count, 4);
	assert_int_equal(f.config->nodes[0].role, NODE_PRIMARY);
	assert_string_equal(f.config->nodes[3].host, "::1");
	assert_int_equal(f.config->nodes[3].port, 5434);
	assert_int_equal(f.config->log.level, LOG_DEBUG);
	assert_int_equal(f.config->log.format, LOG_FORMAT_JSON);
	assert_string_equal(f.config->proxy.listen_address.items[0], "127.0.0.1:1");
	config_free(f.config);
	f.config = NULL;
	flags.primary = "a";
	flags.listen = "x";
	flags.log_level = "loud";
	assert_int_equal(config_from_flags(&flags, &f.config, &f.report), -EINVAL);
	assert_int_equal(f.report.errors, 3);
	end(&f);
}

static void assert_token_is(const struct config *c, const char *token, const char *name)
{
	const struct config_admin_token *found = config_admin_token_find(c, token);

	assert_true(found ? name && strcmp(found->name, name) == 0 : !name);
}

static void admin_tokens_are_found(void **state)
{
	struct fixture f;

	load(&f, NODE);
	assert_false(config_admin_asks_for_tokens(f.config));
	assert_token_is(f.config, "", NULL);
	end(&f);
	load(&f, NODE "[proxy]\nadmin_token = \"short\"\n"
		      "[admin]\ntls_cert_path = \"c\"\ntls_key_path = \"k\"\ntls_ca_path = \"a\"\n"
		      "[admin_tokens.plain]\ntoken = \"plain-0123456789\"\nrole = \"operate\"\n"
		      "[admin_tokens.digest]\ntoken_sha256 = "
		      "\"9F86D081884C7D659A2FEAA0C55AD015A3BF4F1B2B0B822CD15D6C15B0F00A08\"\n"
		      "[admin_tokens.cn]\ncertificate = \"deploy\"\n");
	assert_true(config_admin_asks_for_tokens(f.config));
	assert_token_is(f.config, "short", "admin_token");
	assert_token_is(f.config, "plain-0123456789", "plain");
	assert_token_is(f.config, "plain-012345678", NULL);
	assert_token_is(f.config, "test", "digest");
	assert_token_is(f.config, "deploy", NULL);
	assert_token_is(f.config, "", NULL);
	assert_int_equal(config_admin_token_find(f.config, "plain-0123456789")->role, ADMIN_ROLE_OPERATE);
	assert_int_equal(config_admin_token_find(f.config, "test")->role, ADMIN_ROLE_READ);
	assert_string_equal(config_admin_certificate_find(f.config, "deploy")->name, "cn");
	assert_null(config_admin_certificate_find(f.config, ""));
	assert_null(config_admin_certificate_find(f.config, "plain"));
	end(&f);
}

static void files_are_named_in_errors(void **state)
{
	char path[] = "/tmp/config_test.XXXXXX", text[512];
	int fd = mkstemp(path);
	struct fixture f;

	assert_true(fd >= 0);
	dprintf(fd, "host all all all md5\nhost all all nowhere md5\n");
	snprintf(text, sizeof(text), NODE "[auth]\nhba_file = \"%s\"\nauth_file = \"/nonexistent\"\n", path);
	load_as(&f, text, false);
	assert_int_equal(f.r, -EINVAL);
	assert_int_equal(f.report.errors, 2);
	assert_true(has_message(&f.report, REPORT_ERROR, 2, "host names (nowhere) are not available"));
	end(&f);
	assert_int_equal(ftruncate(fd, 21), 0);
	snprintf(text, sizeof(text), NODE "[auth]\nhba_file = \"%s\"\n", path);
	load(&f, text);
	assert_int_equal(hba_rule_count(f.config->hba), 1);
	end(&f);
	config_report_init(&f.report, false);
	unlink(path);
	close(fd);
	assert_int_equal(config_load(path, &f.config, &f.report), -ENOENT);
	assert_int_equal(f.report.errors, 1);
	f.config = NULL;
	end(&f);
}

/* Inputs that made toml++ abort, and those that make trees deep. */
static void bad_toml_is_refused(void **state)
{
	static const char *const bad[] = {"[",        "[[",          "[a]]",
					  "[[a]",     "[a",          "[\n",
					  "a.b = [",  "a = {",       "\"",
					  "'''",      "a = 1 b = 2", "a = 1\na = 2",
					  "[a]\n[a]", "\xff\xfe",    "a = \"\xc3\"",
					  "a\n",      "= 1",         "a = 01",
					  "[a.b.]\n", "a = [[[[",    "\"a\\u0000b\" = 1"};
	char *deep = malloc(100000);
	struct fixture f;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		load_as(&f, bad[i], false);
		if (f.r != -EINVAL || f.report.errors == 0)
			fail_msg("%s", bad[i]);
		end(&f);
	}
	assert_non_null(deep);
	for (size_t i = 0; i + 1 < 100000; i++)
		deep[i] = "a."[i % 2];
	memcpy(deep + 99990, "a = 1\n", 7);
	load_as(&f, deep, false);
	assert_true(has_message(&f.report, REPORT_ERROR, 1, "too many dots"));
	end(&f);
	memset(deep, '[', 99999);
	memcpy(deep, "a = ", 4);
	load_as(&f, deep, false);
	assert_int_equal(f.r, -EINVAL);
	end(&f);
	for (size_t i = 0; i + 7 < 100000; i += 4)
		memcpy(deep + i, "a={\0", 4 - (i + 11 < 100000));
	load_as(&f, deep, false);
	assert_int_equal(f.r, -EINVAL);
	end(&f);
	free(deep);
	load_as(&f, NODE "name = \"\"\"a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a\"\"\"\n",
		false);
	assert_int_equal(f.r, 0);
	end(&f);
}

static void the_database_of_auth_query_is_served(void **state)
{
	static const char *const text = NODE "[auth]\nmode = \"scram\"\nauth_user = \"a\"\nauth_database = \"admin\"\n";
	static const struct {
		const char *databases;
		bool told;
	} cases[] = {
		{"", false}, {"[databases.x]\n", true}, {"[databases.admin]\n", false}, {"[databases.\"*\"]\n", false}};

	(void)state;
	for (uint32_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char whole[1024];
		struct fixture f;

		snprintf(whole, sizeof(whole), "%s%s", text, cases[i].databases);
		load_as(&f, whole, false);
		assert_int_equal(f.r, 0);
		assert_int_equal(has_message(&f.report, REPORT_WARNING, 7, "auth_database admin is not served"),
				 cases[i].told);
		end(&f);
	}
}

/* [lag], [ha], [analytics.slow_query] and keys of the top level are the reference's for what is elsewhere here. */
static void other_spellings_of_lag(void **state)
{
	struct fixture f;

	(void)state;
	load(&f, "lag_routing_enabled = false\nryw_enabled = false\nmax_replica_lag_ms = 250\n" NODE);
	assert_false(f.config->lag_routing.enabled);
	assert_int_equal(f.config->lag_routing.read_your_writes, READ_YOUR_WRITES_OFF);
	assert_int_equal(f.config->lag_routing.max_lag, 250000);
	end(&f);
	load(&f,
	     NODE "[lag]\nenabled = false\npoll_interval_ms = 50\ndefault_max_lag_ms = 500\nread_your_writes = false\n"
		  "fallback_to_primary = false\n[analytics.slow_query]\nthreshold_ms = 7\nlog_parameters = true\n"
		  "max_query_length = 4096\n");
	assert_false(f.config->lag_routing.enabled);
	assert_int_equal(f.config->lag_routing.poll_interval, 50000);
	assert_int_equal(f.config->lag_routing.max_lag, 500000);
	assert_int_equal(f.config->lag_routing.read_your_writes, READ_YOUR_WRITES_OFF);
	assert_int_equal(f.config->load_balancer.primary_reads, PRIMARY_READS_NEVER);
	assert_int_equal(f.config->analytics.slow_query, 7000);
	assert_true(f.config->log.slow_query_literals);
	assert_int_equal(f.config->log.slow_query_length, 4096);
	end(&f);
	load(&f, NODE "[ha]\nmax_replica_lag_ms = 100\n");
	assert_int_equal(f.config->lag_routing.max_lag, 100000);
	end(&f);
}

static void the_tables_are_sound(void **state)
{
	for (uint32_t i = 0; i < config_key_count; i++) {
		usec_t unit;

		assert_non_null(section_find(config_keys[i].section));
		assert_ptr_equal(key_find(config_keys[i].section, config_keys[i].name, &unit), &config_keys[i]);
		assert_true(config_keys[i].size <= FIELD_SIZE_MAX);
	}
	for (uint32_t i = 0; i < config_alias_count; i++) {
		usec_t unit;

		assert_non_null(key_find(config_aliases[i].section, config_aliases[i].name, &unit));
		assert_non_null(key_find(config_aliases[i].from_section, config_aliases[i].from_name, &unit));
	}
}

static void nodes_have_common_names(void **state)
{
	const char *two = "[[nodes]]\nname = \"a\"\nhost = \"h\"\nrole = \"primary\"\n"
			  "[[nodes]]\nname = \"b\"\nhost = \"i\"\nrole = \"standby\"\n";
	const struct config_node_alias *alias;
	char text[2048];
	struct fixture f;

	(void)state;
	snprintf(text, sizeof(text),
		 "%s[routing.aliases]\nreports = [\"a\", \"b\"]\none = \"b\"\n[node_aliases.all]\nnodes = [\"a\"]\n"
		 "[routing.default]\nread_target = \"any\"\nconsistency = \"eventual\"\ntimeout_secs = 30\n",
		 two);
	load(&f, text);
	assert_int_equal(f.config->node_alias_count, 3);
	alias = config_node_alias_find(f.config, "reports");
	assert_int_equal(alias->nodes.count, 2);
	assert_string_equal(alias->nodes.items[1], "b");
	assert_int_equal(config_node_alias_find(f.config, "one")->nodes.count, 1);
	assert_string_equal(config_node_alias_find(f.config, "all")->nodes.items[0], "a");
	assert_null(config_node_alias_find(f.config, "none"));
	assert_int_equal(f.config->routing_default.read_target, READ_TARGET_ANY);
	assert_int_equal(f.config->routing_default.consistency, CONSISTENCY_EVENTUAL);
	assert_int_equal(f.config->routing_default.timeout, 30 * USEC_PER_SEC);
	end(&f);
	snprintf(text, sizeof(text),
		 "%s[routing.aliases]\na = [\"b\"]\nx = [\"nobody\"]\n[node_aliases.x]\nnodes = [\"a\"]\n", two);
	load_as(&f, text, false);
	assert_int_equal(f.r, -EINVAL);
	assert_true(has_message(&f.report, REPORT_ERROR, 11, "was given before, in line 11") ||
		    has_message(&f.report, REPORT_ERROR, 12, "was given before, in line 11"));
	end(&f);
	snprintf(text, sizeof(text), "%s[routing.aliases]\na = [\"b\"]\nx = [\"nobody\"]\n", two);
	load_as(&f, text, false);
	assert_int_equal(f.r, 0);
	assert_true(has_message(&f.report, REPORT_WARNING, 10, "a is the name of a node, too"));
	assert_true(has_message(&f.report, REPORT_NOTICE, 11, "nobody, one of the nodes that x stands for"));
	end(&f);
	snprintf(text, sizeof(text), "%s[routing.aliases]\nx = 5\n[routing.default]\nwrite_target = \"standby\"\n",
		 two);
	load_as(&f, text, false);
	assert_int_equal(f.report.errors, 2);
	end(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_hold),
		cmocka_unit_test(values_are_read),
		cmocka_unit_test(mistakes_are_told_with_their_place),
		cmocka_unit_test(no_nodes_with_patroni),
		cmocka_unit_test(all_mistakes_are_told),
		cmocka_unit_test(the_quick_start_loads),
		cmocka_unit_test(the_older_layout_loads),
		cmocka_unit_test(the_fullest_file_loads),
		cmocka_unit_test(what_is_not_available_is_told_once),
		cmocka_unit_test(pools_are_merged),
		cmocka_unit_test(tls_follows_its_paths),
		cmocka_unit_test(the_environment_counts),
		cmocka_unit_test(flags_are_enough),
		cmocka_unit_test(admin_tokens_are_found),
		cmocka_unit_test(nodes_have_common_names),
		cmocka_unit_test(files_are_named_in_errors),
		cmocka_unit_test(bad_toml_is_refused),
		cmocka_unit_test(other_spellings_of_lag),
		cmocka_unit_test(the_database_of_auth_query_is_served),
		cmocka_unit_test(the_tables_are_sound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
