/* pg_hba.conf and pg_ident.conf, by tables. */
#include "config/hba.h"
#include "config/ident.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#define LOCAL ""

struct fixture {
	struct arena arena;
	struct config_report report;
};

static void begin(struct fixture *f)
{
	arena_init(&f->arena, 1024);
	config_report_init(&f->report, false);
}

static void end(struct fixture *f)
{
	config_report_free(&f->report);
	arena_destroy(&f->arena);
}

static const struct sockaddr *address_of(const char *text, struct sockaddr_storage *storage)
{
	memset(storage, 0, sizeof(*storage));
	if (!text[0])
		return NULL;
	if (strchr(text, ':')) {
		struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)storage;

		v6->sin6_family = AF_INET6;
		assert_int_equal(inet_pton(AF_INET6, text, &v6->sin6_addr), 1);
	} else {
		struct sockaddr_in *v4 = (struct sockaddr_in *)storage;

		v4->sin_family = AF_INET;
		assert_int_equal(inet_pton(AF_INET, text, &v4->sin_addr), 1);
	}
	return (const struct sockaddr *)storage;
}

/* The line of the rule that matches; 0: none. */
static uint32_t match(const struct hba *hba, const char *address, bool tls, bool replication, const char *database,
		      const char *user)
{
	struct sockaddr_storage storage;
	struct hba_query query = {address_of(address, &storage), tls, replication, database, user};

	return hba_match(hba, &query)->line;
}

static void rules_match(void **state)
{
	static const struct {
		const char *rule, *address;
		bool tls, replication;
		const char *database, *user;
		bool matches;
	} cases[] = {
		{"local all all trust", LOCAL, false, false, "d", "u", true},
		{"local all all trust", "10.1.2.3", false, false, "d", "u", false},
		{"host all all all md5", LOCAL, false, false, "d", "u", false},
		{"host all all all md5", "10.1.2.3", false, false, "d", "u", true},
		{"host all all all md5", "fe80::1", true, false, "d", "u", true},
		{"hostssl all all all md5", "10.1.2.3", false, false, "d", "u", false},
		{"hostssl all all all md5", "10.1.2.3", true, false, "d", "u", true},
		{"hostnossl all all all md5", "10.1.2.3", true, false, "d", "u", false},
		{"hostnossl all all all md5", "10.1.2.3", false, false, "d", "u", true},
		{"hostgssenc all all all trust", "10.1.2.3", true, false, "d", "u", false},
		{"hostnogssenc all all all trust", "10.1.2.3", true, false, "d", "u", true},
		/* databases */
		{"host shop all all md5", "1.1.1.1", false, false, "shop", "u", true},
		{"host shop all all md5", "1.1.1.1", false, false, "shopping", "u", false},
		{"host a,shop,b all all md5", "1.1.1.1", false, false, "shop", "u", true},
		{"host a, shop, b all all md5", "1.1.1.1", false, false, "b", "u", true},
		{"host sameuser all all md5", "1.1.1.1", false, false, "u", "u", true},
		{"host sameuser all all md5", "1.1.1.1", false, false, "d", "u", false},
		{"host \"sameuser\" all all md5", "1.1.1.1", false, false, "u", "u", false},
		{"host \"sameuser\" all all md5", "1.1.1.1", false, false, "sameuser", "u", true},
		{"host \"all\" all all md5", "1.1.1.1", false, false, "d", "u", false},
		{"host \"my shop\" all all md5", "1.1.1.1", false, false, "my shop", "u", true},
		{"host \"a\"\"b\" all all md5", "1.1.1.1", false, false, "a\"b", "u", true},
		{"host \"a,b\" all all md5", "1.1.1.1", false, false, "a,b", "u", true},
		{"host replication all all md5", "1.1.1.1", false, true, "", "u", true},
		{"host replication all all md5", "1.1.1.1", false, false, "replication", "u", false},
		{"host all all all md5", "1.1.1.1", false, true, "", "u", false},
		{"host /^db[0-9]+$ all all md5", "1.1.1.1", false, false, "db12", "u", true},
		{"host /^db[0-9]+$ all all md5", "1.1.1.1", false, false, "db", "u", false},
		{"host \"/^(a|b){1,2}$\" all all md5", "1.1.1.1", false, false, "ab", "u", true},
		{"host \"/^[]^+{(?a]+[[:digit:]]$\" all all md5", "1.1.1.1", false, false, "{?7", "u", true},
		{"host /^(.+)[.](.+)[.](.+)$ all all md5", "1.1.1.1", false, false, "a.b.c", "u", true},
		/* users */
		{"host all app all md5", "1.1.1.1", false, false, "d", "app", true},
		{"host all app all md5", "1.1.1.1", false, false, "d", "App", false},
		{"host all app,web all md5", "1.1.1.1", false, false, "d", "web", true},
		{"host all /_ro$ all md5", "1.1.1.1", false, false, "d", "app_ro", true},
		{"host all \"+group\" all md5", "1.1.1.1", false, false, "d", "+group", true},
		/* addresses */
		{"host all all 10.0.0.0/8 md5", "10.255.0.1", false, false, "d", "u", true},
		{"host all all 10.0.0.0/8 md5", "11.0.0.1", false, false, "d", "u", false},
		{"host all all 10.9.9.9/8 md5", "10.1.1.1", false, false, "d", "u", true},
		{"host all all 10.0.0.1/32 md5", "10.0.0.1", false, false, "d", "u", true},
		{"host all all 10.0.0.1/32 md5", "10.0.0.2", false, false, "d", "u", false},
		{"host all all 10.0.0.0/9 md5", "10.127.0.1", false, false, "d", "u", true},
		{"host all all 10.0.0.0/9 md5", "10.128.0.1", false, false, "d", "u", false},
		{"host all all 0.0.0.0/0 md5", "8.8.8.8", false, false, "d", "u", true},
		{"host all all 0.0.0.0/0 md5", "::1", false, false, "d", "u", false},
		{"host all all 10.0.0.0 255.255.255.0 md5", "10.0.0.77", false, false, "d", "u", true},
		{"host all all 10.0.0.0 255.255.255.0 md5", "10.0.1.77", false, false, "d", "u", false},
		{"host all all ::1/128 md5", "::1", false, false, "d", "u", true},
		{"host all all 2001:db8::/33 md5", "2001:db8:7fff::1", false, false, "d", "u", true},
		{"host all all 2001:db8::/33 md5", "2001:db8:8000::1", false, false, "d", "u", false},
		{"host all all ::/0 md5", "10.0.0.1", false, false, "d", "u", false},
		{"host all all 10.0.0.0/8 md5", "::ffff:10.1.1.1", false, false, "d", "u", true},
		{"host all all samehost md5", "127.0.0.1", false, false, "d", "u", true},
		{"host all all samenet md5", "127.200.0.1", false, false, "d", "u", true},
		{"host all all samehost md5", "192.0.2.77", false, false, "d", "u", false},
		/* form */
		{"  host\tall   all\tall md5 # comment", "1.1.1.1", false, false, "d", "u", true},
		{"host all all all \\\n md5", "1.1.1.1", false, false, "d", "u", true},
		{"host all all all md5\r", "1.1.1.1", false, false, "d", "u", true},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct hba *hba;
		struct fixture f;
		int r;

		begin(&f);
		r = hba_load_text(cases[i].rule, strlen(cases[i].rule), "t", false, &f.arena, &f.report, &hba);
		config_report_print(&f.report, stderr);
		if (r < 0)
			fail_msg("%s: %d", cases[i].rule, r);
		if ((match(hba, cases[i].address, cases[i].tls, cases[i].replication, cases[i].database,
			   cases[i].user) == 1) != cases[i].matches)
			fail_msg("%s for %s@%s from %s", cases[i].rule, cases[i].user, cases[i].database,
				 cases[i].address);
		end(&f);
	}
}

static void first_match_counts_and_none_rejects(void **state)
{
	static const char text[] = "# rules\n"
				   "\n"
				   "local   all       all                   trust\n"
				   "host    all       bad    0.0.0.0/0      reject\n"
				   "hostssl all       all    10.0.0.0/8     cert map=m clientname=DN\n"
				   "hostssl shop      all    all            scram-sha-256 clientcert=verify-ca\n"
				   "host    all       all    10.0.0.0/8     password\n";
	struct sockaddr_storage storage;
	struct hba_query query = {.database = "d", .user = "u"};
	const struct hba_rule *rule;
	const struct hba *hba;
	struct fixture f;

	begin(&f);
	assert_int_equal(hba_load_text(text, sizeof(text) - 1, "rules", false, &f.arena, &f.report, &hba), 0);
	assert_int_equal(hba_rule_count(hba), 5);
	assert_int_equal(match(hba, LOCAL, false, false, "d", "bad"), 3);
	assert_int_equal(match(hba, "10.0.0.1", true, false, "d", "bad"), 4);
	assert_int_equal(match(hba, "10.0.0.1", true, false, "d", "u"), 5);
	assert_int_equal(match(hba, "11.0.0.1", true, false, "shop", "u"), 6);
	assert_int_equal(match(hba, "10.0.0.1", false, false, "shop", "u"), 7);
	assert_int_equal(match(hba, "11.0.0.1", false, false, "shop", "u"), 0);

	query.address = address_of("10.0.0.1", &storage);
	query.tls = true;
	rule = hba_match(hba, &query);
	assert_int_equal(rule->method, AUTH_CERT);
	assert_int_equal(rule->client_cert, CLIENT_CERT_VERIFY_FULL);
	assert_int_equal(rule->client_name, CLIENT_NAME_DN);
	assert_string_equal(rule->map, "m");
	assert_string_equal(rule->file, "rules");
	query.address = address_of("12.0.0.1", &storage);
	assert_int_equal(hba_match(hba, &query)->method, AUTH_REJECT);
	query.database = "shop";
	assert_int_equal(hba_match(hba, &query)->client_cert, CLIENT_CERT_VERIFY_CA);
	end(&f);
}

static void what_is_wrong_is_reported(void **state)
{
	static const char *const bad[] = {
		"nonsense all all all md5",
		"local",
		"local all",
		"local all all",
		"host all all md5",
		"host all all all",
		"host all all 10.0.0.1 md5",
		"host all all 10.0.0.0/33 md5",
		"host all all 10.0.0.0/ md5",
		"host all all 10.0.0.0/-1 md5",
		"host all all 10.0.0.0/8x md5",
		"host all all 10.0.0/8 md5",
		"host all all ::/129 md5",
		"host all all ::1 255.255.255.0 md5",
		"host all all localhost md5",
		"host all all .example.org md5",
		"host samerole all all md5",
		"host all +admins all md5",
		"host all all all ldap",
		"host all all all peer",
		"host all all all cert",
		"local all all cert",
		"host all all all md5 map=x",
		"host all all all md5 clientcert=verify-ca",
		"hostssl all all all md5 clientcert=maybe",
		"hostssl all all all cert clientcert=verify-ca",
		"hostssl all all all cert clientname=OU",
		"host all all all md5 ldapserver=x",
		"host all all all md5 option",
		"host,local all all all md5",
		"host all all 10.0.0.0/8,11.0.0.0/8 md5",
		"host \"open all all all md5",
		"host all @file all md5",
		"include other",
		"include_dir other",
		"host /( all all md5",
		"host /a\\1 all all md5",
		"host /\\d all all md5",
		"host /(?:a) all all md5",
		"host /a*? all all md5",
		"host /((a{100}){100}){100} all all md5",
		"host all /a{1,20000} all md5",
		"host all /a+++ all md5",
		"host all /((((((((((((((((a+)+)+)+)+)+)+)+)+)+)+)+)+)+)+)+ all md5",
		"host all /a{ all md5",
		"host all /a) all md5",
		"host all /[a all md5",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		const struct hba *hba = NULL;
		struct fixture f;

		begin(&f);
		if (hba_load_text(bad[i], strlen(bad[i]), "t", false, &f.arena, &f.report, &hba) != -EINVAL)
			fail_msg("%s", bad[i]);
		assert_null(hba);
		assert_int_equal(f.report.errors, 1);
		assert_int_equal(f.report.first->line, 1);
		end(&f);
	}
}

static void write_file(const char *directory, const char *name, const char *text)
{
	char path[128];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static void files_include_files(void **state)
{
	char directory[] = "/tmp/hba_test.XXXXXX", path[128], command[128];
	const struct hba *hba;
	struct fixture f;

	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/conf.d", directory);
	assert_int_equal(mkdir(path, 0700), 0);
	write_file(directory, "hba",
		   "include_if_exists missing\n"
		   "host @dbs,extra all all trust\n"
		   "include more\n"
		   "include_dir conf.d\n");
	write_file(directory, "dbs", "# databases\nfirst, second\nthird\n@dbs2\n");
	write_file(directory, "dbs2", "fourth");
	write_file(directory, "more", "\nhost all more all trust\n");
	write_file(directory, "conf.d/b.conf", "host all b all trust\n");
	write_file(directory, "conf.d/a.conf", "host all a,b all reject\n");
	write_file(directory, "conf.d/.c.conf", "nonsense\n");
	write_file(directory, "conf.d/d.txt", "nonsense\n");
	snprintf(path, sizeof(path), "%s/hba", directory);
	begin(&f);
	assert_int_equal(hba_load(path, &f.arena, &f.report, &hba), 0);
	assert_int_equal(hba_rule_count(hba), 4);
	assert_int_equal(match(hba, "1.1.1.1", false, false, "third", "u"), 2);
	assert_int_equal(match(hba, "1.1.1.1", false, false, "fourth", "u"), 2);
	assert_int_equal(match(hba, "1.1.1.1", false, false, "extra", "u"), 2);
	assert_int_equal(match(hba, "1.1.1.1", false, false, "x", "more"), 2);
	assert_int_equal(match(hba, "1.1.1.1", false, false, "x", "b"), 1);
	assert_int_equal(match(hba, "1.1.1.1", false, false, "x", "u"), 0);
	end(&f);

	write_file(directory, "more", "include hba\n");
	begin(&f);
	assert_int_equal(hba_load(path, &f.arena, &f.report, &hba), -EINVAL);
	end(&f);
	write_file(directory, "dbs", "@dbs");
	begin(&f);
	assert_int_equal(hba_load(path, &f.arena, &f.report, &hba), -EINVAL);
	end(&f);
	begin(&f);
	assert_int_equal(hba_load("/nonexistent", &f.arena, &f.report, &hba), -EINVAL);
	assert_int_equal(f.report.errors, 1);
	end(&f);
	snprintf(command, sizeof(command), "rm -r %s", directory);
	assert_int_equal(system(command), 0);
}

static void admission_rules_admit_by_default(void **state)
{
	struct sockaddr_storage storage;
	struct hba_query query = {.database = "d", .user = "u"};
	struct fixture f;
	struct hba *hba;

	begin(&f);
	hba = hba_admission_new(&f.arena);
	assert_int_equal(hba_match(hba, &query)->method, AUTH_TRUST);
	assert_int_equal(hba_admission_add(hba, &f.arena, true, "u", "all", "10.0.0.7", "t", 1), 0);
	assert_int_equal(hba_admission_add(hba, &f.arena, false, "all", "all", "10.0.0.0/8", "t", 2), 0);
	assert_int_equal(hba_admission_add(hba, &f.arena, false, "bad", "d", "all", "t", 3), 0);
	assert_int_equal(hba_admission_add(hba, &f.arena, false, "all", "all", "example.org", "t", 4), -EINVAL);
	query.address = address_of("10.0.0.7", &storage);
	assert_int_equal(hba_match(hba, &query)->line, 1);
	query.user = "other";
	assert_int_equal(hba_match(hba, &query)->line, 2);
	query.replication = true;
	assert_int_equal(hba_match(hba, &query)->line, 2);
	query.replication = false;
	query.address = NULL;
	assert_int_equal(hba_match(hba, &query)->method, AUTH_TRUST);
	query.user = "bad";
	assert_int_equal(hba_match(hba, &query)->method, AUTH_REJECT);
	end(&f);
}

static void maps_allow(void **state)
{
	static const char text[] = "# map system user\n"
				   "m bryanh bryanh\n"
				   "m ann ann2\n"
				   "m robert bob\n"
				   "r /^(.*)@example\\.com$ \\1\n"
				   "r /^(.*)@other\\.com$ guest_\\1_x\n"
				   "r /^(a)|(b)$ \"\\1\"\n"
				   "r root all\n"
				   "r quoted \"all\"\n"
				   "r svc /^svc_[a-z]+$\n";
	static const struct {
		const char *map, *system_name, *user;
		bool allowed;
	} cases[] = {
		{"", "same", "same", true},
		{"", "same", "Same", false},
		{"m", "bryanh", "bryanh", true},
		{"m", "ann", "ann", false},
		{"m", "ann", "ann2", true},
		{"m", "robert", "bob", true},
		{"m", "bob", "bob", false},
		{"x", "bob", "bob", false},
		{"r", "joe@example.com", "joe", true},
		{"r", "joe@example.com", "joel", false},
		{"r", "joe@example.com", "jo", false},
		{"r", "joe@exampleXcom", "joe", false},
		{"r", "joe@other.com", "guest_joe_x", true},
		{"r", "joe@other.com", "guest_joe", false},
		{"r", "b", "b", false},
		{"r", "root", "anybody", true},
		{"r", "quoted", "anybody", false},
		{"r", "quoted", "all", true},
		{"r", "svc", "svc_abc", true},
		{"r", "svc", "svc_", false},
	};
	const struct ident *ident;
	struct fixture f;

	begin(&f);
	assert_int_equal(ident_load_text(text, sizeof(text) - 1, "t", false, &f.arena, &f.report, &ident), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		if (ident_allows(ident, cases[i].map, cases[i].system_name, cases[i].user) != cases[i].allowed)
			fail_msg("%s: %s as %s", cases[i].map, cases[i].system_name, cases[i].user);
	assert_true(ident_has_map(ident, "r"));
	assert_false(ident_has_map(ident, "q"));
	assert_true(ident_allows(NULL, "", "a", "a"));
	assert_false(ident_allows(NULL, "m", "a", "a"));
	end(&f);
}

static void damaged_maps_are_reported(void **state)
{
	static const char text[] = "m\nm a\nm a b c\nm a +g\nm /( x\nm a \\1\nm /a \\1\nm a,b c\n";
	const struct ident *ident = NULL;
	struct fixture f;

	begin(&f);
	assert_int_equal(ident_load_text(text, sizeof(text) - 1, "t", false, &f.arena, &f.report, &ident), -EINVAL);
	assert_null(ident);
	assert_int_equal(f.report.errors, 8);
	end(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rules_match),
		cmocka_unit_test(first_match_counts_and_none_rejects),
		cmocka_unit_test(what_is_wrong_is_reported),
		cmocka_unit_test(files_include_files),
		cmocka_unit_test(admission_rules_admit_by_default),
		cmocka_unit_test(maps_allow),
		cmocka_unit_test(damaged_maps_are_reported),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
