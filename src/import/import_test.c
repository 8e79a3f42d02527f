/* pgbouncer.ini: its syntax, what each setting becomes, what is said of it. */
#include "config/config.h"
#include "import/connection.h"
#include "import/import_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#define BASE "[databases]\nshop = host=db1\n[pgbouncer]\nauth_type = trust\n"

struct fixture {
	struct buf toml;
	struct buf told;      /* "verdict line text" lines */
	const char *included; /* what every %include gives */
	uint32_t reads;
	int r;
};

static void tell(void *argument, enum import_verdict verdict, const char *file, uint32_t line, const char *text)
{
	struct fixture *f = argument;

	buf_printf(&f->told, "%d %s:%u %s\n", verdict, file, line, text);
}

static int read_file(void *argument, const char *path, const char *from, struct buf *out)
{
	struct fixture *f = argument;

	f->reads++;
	if (strcmp(path, "missing") == 0)
		return -ENOENT;
	buf_add_str(out, f->included);
	return 0;
}

static void run(struct fixture *f, const char *text, const char *included)
{
	struct import_job job = {.read = read_file, .tell = tell, .argument = f};

	*f = (struct fixture){.toml = BUF_INIT(IMPORT_BYTES_MAX), .told = BUF_INIT(16u << 20), .included = included};
	f->r = import_pgbouncer_text(&job, text, strlen(text), "t", &f->toml);
}

static void end(struct fixture *f)
{
	buf_free(&f->toml);
	buf_free(&f->told);
}

static void has(struct buf *text, const char *wanted)
{
	if (!strstr(buf_cstr(text), wanted))
		fail_msg("%s\nis not in\n%s", wanted, buf_cstr(text));
}

static void has_not(struct buf *text, const char *unwanted)
{
	if (strstr(buf_cstr(text), unwanted))
		fail_msg("%s\nis in\n%s", unwanted, buf_cstr(text));
}

/* ---- syntax ---- */

static void syntax_is_pgbouncers(void **state)
{
	static const struct {
		const char *text, *told; /* NULL: it is fine */
	} cases[] = {
		{"; c\n  # c\n\n\t[pgbouncer]\nmax_client_conn=5", NULL},
		{"[databases] a = host=b\n[pgbouncer]\r\npool_mode = session \r\n", NULL},
		{"[databases]\n'a b' = host=x\n\"c d\" = host=y\n* =\n[pgbouncer]\n", NULL},
		{"[pgbouncer]\nlogfile = a ; not a comment\n", NULL},
		{"[pgbouncer]\nmax_client_conn = 5\n  6\n", "t:3 this is wrong"}, /* no continuation */
		{"[pgbouncer\n", "t:1 this is wrong: a section has no ]"},
		{"[pgbouncer]\n= 5\n", "t:2 this is wrong"},
		{"[pgbouncer]\nmax_client_conn\n", "t:2 this is wrong: there is no ="},
		{"[pgbouncer]\n'a = 5\n", "t:2 this is wrong"},
		{"[databases]\na:b = host=x\n[pgbouncer]\n", "t:2 this is wrong: there is no ="},
		{"[databases]\na = host=x\n", "there is no section [pgbouncer]"},
		{"a = b\n[pgbouncer]\n", "t:1 a is wrong: it stands in no section"},
		{"[other]\n[pgbouncer]\n", "t:1 [other] is wrong"},
		{"[databases]\npgbouncer = host=x\n[pgbouncer]\n", "the name is reserved"},
		{"[databases]\na = host\n[pgbouncer]\n", "must be pairs"},
		{"[databases]\na = host=\n[pgbouncer]\n", "must be pairs"},
		{"[databases]\na = password='x\n[pgbouncer]\n", "must be pairs"},
		{"[databases]\na = hots=x\n[pgbouncer]\n",
		 "[databases] hots is wrong: PgBouncer has no such setting; did"},
		{"[users]\na = host=x\n[pgbouncer]\n", "[users] host is wrong"},
		{"[peers]\n1 = host=x user=y\n[pgbouncer]\n", "[peers] 1 is wrong: there is no user"},
		{"[pgbouncer]\nlogfile = \xff\n", "t:2 this is wrong: this is not UTF-8"},
		{"[pgbouncer]\nlogfile = \xed\xa0\x80\n", "this is not UTF-8"},
		{"[pgbouncer]\nlogfile = \xc3\xa4\n", NULL},
		{"[pgbouncer]\n%include missing\n", "t:2 this is wrong: cannot read missing"},
		{"[pgbouncer]\n%included\n", "t:2 this is wrong"},
	};
	struct fixture f;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		run(&f, cases[i].text, "");
		assert_int_equal(f.r, cases[i].told ? -EINVAL : 0);
		if (cases[i].told)
			has(&f.told, cases[i].told);
		else
			has_not(&f.told, "wrong");
		end(&f);
	}
}

static void pairs_are_unquoted(void **state)
{
	static const struct {
		const char *text, *key, *value; /* NULL: refused */
	} cases[] = {
		{"a=b", "a", "b"},    {"  a = b", "a", "b"},          {"a='b c'", "a", "b c"}, {"a='b''c'", "a", "b'c"},
		{"a=''''", "a", "'"}, {"a='it''s' b=c", "a", "it's"}, {"a=b'c", "a", "b'c"},   {"a='b", NULL, NULL},
		{"a=", NULL, NULL},   {"a=''", NULL, NULL},           {"=b", NULL, NULL},      {"a b=c", NULL, NULL},
		{"a==b", "a", "=b"},  {"a=b\tc", "a", "b\tc"},
	};
	struct arena arena;
	struct pair pair;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *at = cases[i].text;
		int r;

		arena_init(&arena, 256);
		r = pair_next(&at, &arena, &pair);
		assert_int_equal(r, cases[i].key ? 1 : -EINVAL);
		if (r == 1) {
			assert_string_equal(pair.key, cases[i].key);
			assert_string_equal(pair.value, cases[i].value);
		}
		arena_destroy(&arena);
	}
}

static void includes_are_bounded(void **state)
{
	struct fixture f;

	run(&f, "%include x\n%include x\n" BASE, "%include x\n%include x\n");
	assert_int_equal(f.r, -EINVAL);
	has(&f.told, "too many files include each other");
	assert_in_range(f.reads, 1, INI_INCLUDES_MAX);
	end(&f);

	run(&f, BASE "%include x\n", "max_client_conn = 7\n");
	assert_int_equal(f.r, 0);
	has(&f.toml, "max_clients = 7");
	has(&f.told, "x:1 max_client_conn = 7 became [proxy] max_clients = 7");
	end(&f);
}

static void later_settings_count(void **state)
{
	struct fixture f;

	run(&f, BASE "max_client_conn = 5\nmax_client_conn = 6\n", "");
	has(&f.toml, "max_clients = 6 ");
	has(&f.told, "1 t:5 max_client_conn = 5 needs nothing: a later one counts");
	end(&f);

	run(&f, BASE "max_client_conn = 5\n[databases]\nshop = pool_size=3\n[pgbouncer]\nauth_type = trust\n", "");
	has(&f.toml, "max_clients = 100 "); /* the section begins with the defaults again */
	has(&f.toml, "host = \"/tmp\"");    /* the later shop has no host */
	end(&f);
}

/* ---- values ---- */

static void values_become_ours(void **state)
{
	static const struct {
		const char *line, *toml; /* behind BASE; NULL: refused */
	} cases[] = {
		{"max_client_conn = 0x20", "max_clients = 32 "},
		{"max_client_conn = 5x", NULL},
		{"max_client_conn =", NULL},
		{"max_client_conn = -1", NULL},
		{"default_pool_size = 0", NULL},
		{"query_timeout = 1.5", "query_timeout = \"1500ms\""},
		{"query_timeout = .5", "query_timeout = \"500ms\""},
		{"query_timeout = 5s", NULL},
		{"query_timeout = nan", NULL},
		{"query_timeout = 1e300", NULL},
		{"query_timeout = -1", NULL},
		{"server_connect_timeout = 0", "connect_timeout = \"1d\""},
		{"server_connect_timeout = 0.2", "connect_timeout = \"1s\""},
		{"server_lifetime = 0", "max_lifetime = \"1ms\""},
		{"tcp_user_timeout = 1500", "tcp_user_timeout = \"1500ms\""},
		{"tcp_keepalive = 0\ntcp_keepidle = 9", "tcp_keepalive = \"0s\""},
		{"tcp_keepidle = 9", "tcp_keepalive = \"9s\""},
		{"tcp_defer_accept = 0", "tcp_defer_accept = \"0s\""},
		{"pool_mode = Transaction", "mode = \"Transaction\""},
		{"pool_mode = both", NULL},
		{"min_pool_size = 30", "min_connections = 20 "},
		{"reserve_pool_size = 3\nreserve_pool_timeout = 0", "reserve_connections = 0 "},
		{"log_connections = 0", "connections = false"},
		{"admin_users = a,b", "users = [\"a\", \"b\"]"},
		{"verbose = 2", "level = \"trace\""},
		{"ignore_startup_parameters = a, b ,c", "ignore_startup_parameters = [\"a\", \"b\", \"c\"]"},
		{"ignore_startup_parameters =", "ignore_startup_parameters = []"},
		{"listen_addr = 127.0.0.1,::1, *", "[\"127.0.0.1:6432\", \"[::1]:6432\", \"*:6432\", "
						   "\"unix:/tmp/.s.PGSQL.6432\"]"},
		{"listen_addr = h\nunix_socket_dir =\nlisten_port = 7", "listen_address = [\"h:7\"]"},
		{"listen_addr = a/b", NULL},
		{"unix_socket_dir =", NULL}, /* nothing to listen on */
		{"listen_port = 0", NULL},
		{"server_reset_query =", "reset = \"never\""},
		{"server_reset_query_always = 1", "reset = \"always\""},
		{"server_reset_query = RESET ALL", "reset = \"always\""}, /* in session mode */
		{"server_reset_query = a \"b\" \\ ${HOME}", "reset_query = \"a \\\"b\\\" \\\\ \\u0024{HOME}\""},
		{"client_tls_protocols = tlsv1.3", "min_version = \"TLSv1.3\""},
		{"client_tls_protocols = all", "min_version = \"TLSv1.2\""},
		{"client_tls_protocols = sslv3", NULL},
		{"server_tls_ciphers = fast", "ciphers = \"\""},
		{"server_tls_ciphers = all", "ciphers = \"ALL\""},
		{"server_tls_sslmode = verify-full", "mode = \"verify-full\""},
		{"auth_type = any", "mode = \"trust\""},
		{"auth_type = scram-sha-256", "mode = \"scram\""},
		{"auth_type = plain", "allow_cleartext = true"},
		{"auth_type = hba\nauth_hba_file = h", "hba_file = \"h\""},
		{"auth_type = hba", NULL},
		{"auth_type = pam", NULL},
		{"auth_type = ldap", NULL},
		{"auth_type = gss", NULL},
		{"no_such = 1", NULL},
	};
	struct fixture f;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char text[1024];

		snprintf(text, sizeof(text), BASE "%s\n", cases[i].line);
		run(&f, text, "");
		if (f.r != (cases[i].toml ? 0 : -EINVAL))
			fail_msg("%s: %d\n%s", cases[i].line, f.r, buf_cstr(&f.told));
		if (cases[i].toml)
			has(&f.toml, cases[i].toml);
		end(&f);
	}
}

static void databases_and_users(void **state)
{
	static const struct {
		const char *database, *toml;
	} cases[] = {
		{"x = host=H port=5433", "host = \"h\"\nport = 5433\n"},
		{"x = port=5433", "host = \"/tmp\"\nport = 5433\n"},
		{"x = host=/run/P", "host = \"/run/P\"\nport = 5432\n"},
		{"x = host=::1", "name = \"[::1]:5432\"\nhost = \"::1\"\n"},
		{"x = host=a,b", "host = \"a\"\n"},
		{"x = host=@a", NULL},
		{"x = port=0", NULL},
		{"x = port=70000", NULL},
		{"x = host=a dbname=y user=u password='p''\"'", "dbname = \"y\""},
		{"x = host=a password='p''\"'", "password = \"p'\\\"\""},
		{"x = host=a user=u pool_size=3 reserve_pool=2", "max_database_connections = 5 "},
		{"x = host=a user=u\ny = host=a dbname=x user=v", "[databases.\"y\"]\ndbname"}, /* no limit to share */
		{"x = host=a pool_size=-1", "[databases.\"x\"]\n"},
		{"x = host=a pool_size=0", NULL},
		{"x = host=a pool_size=3 min_pool_size=5", "min_connections = 3 "},
		{"'a.b \"c' = host=a", "[databases.\"a.b \\\"c\"]"},
		{"x = host=a auth_user=u\ny = host=a auth_user=u", "auth_user = \"u\""},
		{"x = host=a auth_query='SELECT $1'", "auth_query = \"SELECT $1\""},
		{"* = host=a", "[databases.\"*\"]"},
		{"x = host=a\n[users]\njoe = pool_mode=statement", "[users.\"joe\"]\nmode = \"statement\""},
		{"x = host=a\n[users]\njoe = query_timeout=-1", "[users.\"joe\"]\n"},
	};
	struct fixture f;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char text[1024];

		snprintf(text, sizeof(text), "[databases]\n%s\n[pgbouncer]\nauth_type = trust\n", cases[i].database);
		run(&f, text, "");
		if (f.r != (cases[i].toml ? 0 : -EINVAL))
			fail_msg("%s: %d\n%s", cases[i].database, f.r, buf_cstr(&f.told));
		if (cases[i].toml)
			has(&f.toml, cases[i].toml);
		has_not(&f.told, "p'\"");
		end(&f);
	}
}

static void what_all_databases_say_is_said_once(void **state)
{
	struct fixture f;

	run(&f, "[databases]\nx = host=a auth_user=u\ny = host=a\n[pgbouncer]\nauth_type = trust\n", "");
	has_not(&f.toml, "auth_user"); /* y's users are not to be looked up */
	has(&f.told, "2 t:2 [databases] x: auth_user = u is not there");
	end(&f);
	run(&f, "[databases]\nx = host=a auth_user=u\n[pgbouncer]\nauth_type = trust\nauth_user = v\n", "");
	has(&f.toml, "auth_user = \"v\"");
	has(&f.told, "2 t:2 [databases] x: auth_user = u is not there");
	end(&f);
}

static void nodes_are_named_only_when_there_are_several(void **state)
{
	struct fixture f;

	run(&f, "[databases]\na = host=x\nb = host=X\n[pgbouncer]\nauth_type = trust\n", "");
	has_not(&f.toml, "node =");
	has(&f.toml, "action = \"reject\"");
	end(&f);
	run(&f, "[databases]\na = host=x\n* = host=y\n[pgbouncer]\nauth_type = trust\n", "");
	has(&f.toml, "[databases.\"a\"]\nnode = \"x:5432\"\n");
	has(&f.toml, "[databases.\"*\"]\nnode = \"y:5432\"\n");
	has_not(&f.toml, "[[hba]]");
	end(&f);
	run(&f, "[databases]\n[pgbouncer]\nauth_type = trust\n", "");
	assert_int_equal(f.r, 0);
	has(&f.toml, "There is no database");
	end(&f);
}

/* ---- the whole ---- */

static void verdicts(void **state)
{
	static const struct {
		const char *line, *told;
	} cases[] = {
		{"pkt_buf = 8192", "1 t:5 pkt_buf = 8192 needs nothing: "},
		{"server_fast_close = 0", "1 t:5 server_fast_close = 0 needs nothing: it is the default"},
		{"disable_pqexec = 1", "0 t:5 disable_pqexec = 1 became [pool] simple_query = \"refuse\""},
		{"transaction_timeout = 5", "0 t:5 transaction_timeout = 5 became [pool] transaction_timeout = \"5s\""},
		{"server_fast_close = 1", "2 t:5 server_fast_close = 1 is not there in this version: "},
		{"unix_socket_mode = 0777", "1 t:5 unix_socket_mode"},
		{"unix_socket_mode = 0700", "2 t:5 unix_socket_mode"},
		{"listen_port = 5", "0 t:5 listen_port = 5 became a part of [proxy] listen_address"},
		{"auth_hba_file = x", "1 t:5 auth_hba_file = x needs nothing: it counts only with auth_type = hba"},
		{"login_notify_message = a\tb", "2 t:5 login_notify_message = a?b is not there"},
	};
	struct fixture f;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char text[1024];

		snprintf(text, sizeof(text), BASE "%s\n", cases[i].line);
		run(&f, text, "");
		assert_int_equal(f.r, 0);
		has(&f.told, cases[i].told);
		end(&f);
	}
}

static void result_loads(void **state)
{
	struct config_report report;
	struct config_pool pool;
	struct config *config;
	struct fixture f;

	run(&f,
	    "[databases]\nshop = host=a pool_size=5 password='${HOME}'\nlogs = host=b\n[users]\njoe = pool_size=1\n"
	    "[pgbouncer]\nauth_type = trust\nmin_pool_size = 9\nserver_lifetime = 0\n",
	    "");
	assert_int_equal(f.r, 0);
	config_report_init(&report, /* strict= */ true);
	assert_int_equal(config_load_text(buf_cstr(&f.toml), f.toml.len, "t", &config, &report), 0);
	assert_int_equal(report.warnings + report.notices, 0);
	config_pool_for(config, "shop", "x", &pool);
	assert_int_equal(pool.max_connections, 5);
	assert_int_equal(pool.min_connections, 5);
	config_pool_for(config, "logs", "x", &pool);
	assert_int_equal(pool.max_connections, 20);
	assert_int_equal(pool.query_wait_timeout, 120 * USEC_PER_SEC);
	assert_string_equal(config_database_find(config, "shop")->password, "${HOME}");
	assert_string_equal(config_database_find(config, "logs")->node, "b:5432");
	assert_false(config->load_balancer.read_write_split);
	config_free(config);
	config_report_free(&report);
	end(&f);
}

/* A name in the table that proxy.toml does not have would make a setting "not there" without a word. */
static void table_names_keys_that_exist(void **state)
{
	usec_t unit;

	for (size_t i = 0; i < SETTING_COUNT; i++)
		if (*setting_rows[i].key)
			assert_non_null(key_find(setting_rows[i].section, setting_rows[i].key, &unit));
	for (size_t i = 0; i < DATABASE_COUNT; i++)
		if (*database_rows[i].key && !table_key_find("databases", database_rows[i].key, &unit))
			assert_non_null(key_find("pool", database_rows[i].key, &unit));
	for (size_t i = 0; i < USER_COUNT; i++)
		if (*user_rows[i].key)
			assert_non_null(key_find("pool", user_rows[i].key, &unit));
}

static void many_entries_are_refused(void **state)
{
	struct buf text = BUF_INIT(16u << 20);
	struct fixture f;

	buf_add_str(&text, "[databases]\n");
	for (int i = 0; i <= (int)ENTRIES_MAX; i++)
		buf_printf(&text, "d%d = host=a\n", i);
	buf_add_str(&text, "[pgbouncer]\n");
	run(&f, buf_cstr(&text), "");
	assert_int_equal(f.r, -EINVAL);
	has(&f.told, "there are more than 10000 databases");
	end(&f);
	buf_free(&text);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(syntax_is_pgbouncers),
		cmocka_unit_test(pairs_are_unquoted),
		cmocka_unit_test(includes_are_bounded),
		cmocka_unit_test(later_settings_count),
		cmocka_unit_test(values_become_ours),
		cmocka_unit_test(databases_and_users),
		cmocka_unit_test(what_all_databases_say_is_said_once),
		cmocka_unit_test(nodes_are_named_only_when_there_are_several),
		cmocka_unit_test(verdicts),
		cmocka_unit_test(result_loads),
		cmocka_unit_test(table_names_keys_that_exist),
		cmocka_unit_test(many_entries_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
