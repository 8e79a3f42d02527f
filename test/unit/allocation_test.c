/*
 * Out of memory, everywhere: of each operation that works on bytes from outside, the first allocation fails, then the
 * second, and so on until it needs no more. Whichever fails, the operation is complete and right, or it says that it
 * failed and has changed nothing that it should not have; it never crashes, and nothing leaks (AddressSanitizer looks).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/map.h"
#include "config/config.h"
#include "config/hba.h"
#include "config/userlist.h"
#include "link/expect.h"
#include "link/params.h"
#include "link/statements.h"
#include "sql/access.h"
#include "sql/scan.h"
#include "wire/errors.h"
#include "wire/frame.h"
#include "wire/message.h"
#include "wire/scram.h"
#include "wire/startup.h"

#define FAILURES_MAX 100000u

/* ------------------------------------------------------------------ the allocations that fail */

enum fail_alloc_mode {
	FAIL_ONE,      /* memory was short for a moment */
	FAIL_ALL_FROM, /* and stays so */
};

static unsigned left, failed; /* left: until the one that fails; 0: none is to fail */
static enum fail_alloc_mode how;

/* From now on the n-th allocation (from 1) fails. */
static void fail_alloc_begin(unsigned n, enum fail_alloc_mode mode)
{
	left = n;
	failed = 0;
	how = mode;
}

/* All succeed again. */
static void fail_alloc_end(void)
{
	left = 0;
}

/* How many failed since fail_alloc_begin(). */
static unsigned fail_alloc_count(void)
{
	return failed;
}

static bool fail_alloc_now(void)
{
	if (left != 1) {
		left -= left > 0;
		return false;
	}
	left = how == FAIL_ALL_FROM ? 1 : 0;
	failed++;
	errno = ENOMEM;
	return true;
}

/* The linker puts these in front of libc's (--wrap, see meson.build). What libraries allocate for themselves goes on.
 */
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__real_reallocarray(void *old, size_t count, size_t size);
char *__real_strdup(const char *s);
char *__real_strndup(const char *s, size_t max);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_reallocarray(void *old, size_t count, size_t size);
char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t max);

void *__wrap_malloc(size_t size)
{
	return fail_alloc_now() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
	return fail_alloc_now() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
	return fail_alloc_now() ? NULL : __real_realloc(old, size);
}

void *__wrap_reallocarray(void *old, size_t count, size_t size)
{
	return fail_alloc_now() ? NULL : __real_reallocarray(old, count, size);
}

char *__wrap_strdup(const char *s)
{
	return fail_alloc_now() ? NULL : __real_strdup(s);
}

char *__wrap_strndup(const char *s, size_t max)
{
	return fail_alloc_now() ? NULL : __real_strndup(s, max);
}

/* true: complete (and it has looked that it is). false: it said that it failed. It calls fail_alloc_end(). */
typedef bool operation(void);

/* Returns how many allocations the operation makes when all is well. */
static unsigned fail_each(operation *run)
{
	unsigned n = 1, all = 0;

	for (enum fail_alloc_mode mode = FAIL_ONE; mode <= FAIL_ALL_FROM; mode++) {
		for (n = 1; n < FAILURES_MAX; n++) {
			bool complete;

			fail_alloc_begin(n, mode);
			complete = run();
			fail_alloc_end();
			if (fail_alloc_count() == 0) {
				assert_true(complete);
				break;
			}
		}
		assert_true(n < FAILURES_MAX);
		all = n - 1;
	}
	return all;
}

/* ------------------------------------------------------------------ base */

static bool fill_buf(void)
{
	struct buf b = BUF_INIT(100000);
	char text[32];
	bool ok;

	for (unsigned i = 0; i < 2000; i++)
		buf_printf(&b, "%u,", i);
	fail_alloc_end();
	ok = !b.failed;
	for (size_t i = 0, at = 0; ok && i < 2000; i++) {
		int len = snprintf(text, sizeof(text), "%zu,", i);

		assert_memory_equal(b.bytes + at, text, (size_t)len);
		at += (size_t)len;
	}
	buf_clear(&b); /* usable again */
	buf_add_str(&b, "after");
	assert_string_equal(buf_cstr(&b), "after");
	buf_free(&b);
	return ok;
}

static struct slice key_of(unsigned i, char *text, size_t size)
{
	return slice_make(text, (size_t)snprintf(text, size, "key %u", i));
}

static bool fill_map(void)
{
	static int values[100];
	struct map m = MAP_INIT;
	unsigned in = 0;
	char text[32];

	for (; in < ARRAY_SIZE(values); in++)
		if (map_put(&m, key_of(in, text, sizeof(text)), &values[in], NULL) < 0)
			break;
	fail_alloc_end();
	assert_int_equal(m.count, in);
	for (unsigned i = 0; i < ARRAY_SIZE(values); i++)
		assert_ptr_equal(map_get(&m, key_of(i, text, sizeof(text))), i < in ? &values[i] : NULL);
	map_free(&m);
	return in == ARRAY_SIZE(values);
}

static void note(void *argument)
{
	++*(int *)argument;
}

static bool fill_arena(void)
{
	struct arena a;
	int runs = 0, hooked = 0;
	bool ok = true;

	arena_init(&a, 1024);
	for (size_t i = 1; i < 20; i++) {
		char *text = arena_strdup(&a, "some text"), *memory = arena_zalloc(&a, i * 200);

		assert_true(!text || strcmp(text, "some text") == 0);
		assert_true(!memory || (memory[0] == 0 && memory[i * 200 - 1] == 0));
		ok &= text && memory;
	}
	for (int i = 0; i < 100; i++)
		hooked += arena_on_reset(&a, note, &runs) == 0;
	fail_alloc_end();
	arena_destroy(&a);
	assert_int_equal(runs, hooked);
	return ok && hooked == 100;
}

static void base_layer(void **state)
{
	assert_true(fail_each(fill_buf) > 1);
	assert_true(fail_each(fill_map) > 100);
	assert_true(fail_each(fill_arena) > 5);
}

/* ------------------------------------------------------------------ wire */

static void build_messages(struct buf *b)
{
	static const char *const names[] = {"user", "database"}, *const values[] = {"app", NULL};
	static const uint32_t types[] = {23, 25};
	static const struct slice options[] = {SLICE_LITERAL("_pq_.a"), SLICE_LITERAL("_pq_.b")};
	char long_text[3000];

	memset(long_text, 'x', sizeof(long_text) - 1);
	long_text[sizeof(long_text) - 1] = '\0';
	message_auth_ok(b);
	message_parameter_status(b, "DateStyle", "ISO");
	message_backend_key(b, 1, SLICE_LITERAL("secret"));
	message_negotiate_version(b, 2, options, ARRAY_SIZE(options));
	message_error(b, "ERROR", "XX000", "text", "detail", "hint");
	message_notice(b, "WARNING", "01000", long_text, "hint");
	message_row_description(b, names, ARRAY_SIZE(names));
	message_data_row(b, values, ARRAY_SIZE(values));
	message_query(b, slice_str(long_text));
	message_parse(b, "name", SLICE_LITERAL("SELECT 1"), types, ARRAY_SIZE(types));
	error_message(b, ERROR_PASSWORD_FAILED, "detail", "app");
	message_startup(b, 2, names, names, ARRAY_SIZE(names));
	message_cancel_request(b, 1, SLICE_LITERAL("secret"));
	message_ready(b, 'I');
}

static bool build(void)
{
	struct buf b = BUF_INIT(100000), expected = BUF_INIT(100000);
	bool ok;

	build_messages(&b);
	fail_alloc_end();
	build_messages(&expected);
	assert_false(expected.failed);
	ok = !b.failed;
	if (ok) {
		assert_int_equal(b.len, expected.len);
		assert_memory_equal(b.bytes, expected.bytes, b.len);
	}
	buf_free(&b);
	buf_free(&expected);
	return ok;
}

static bool change_severity(void)
{
	static const char error[] = "E\0\0\0\x24SFATAL\0VFATAL\0C57P03\0Mstarting\0";
	struct buf b = BUF_INIT(100000);
	struct error_fields e;
	bool well_formed = message_error_as(&b, (const uint8_t *)error, sizeof(error), "ERROR"), ok = !b.failed;

	fail_alloc_end();
	assert_true(well_formed);
	if (ok) {
		assert_true(message_read_error(b.bytes + FRAME_HEADER, b.len - FRAME_HEADER, &e));
		assert_true(slice_equal(e.severity, SLICE_LITERAL("ERROR")));
		assert_true(slice_equal(e.sqlstate, SLICE_LITERAL("57P03")));
		assert_true(slice_equal(e.message, SLICE_LITERAL("starting")));
	}
	buf_free(&b);
	return ok;
}

static int count_setting(void *to, const char *name, const char *value)
{
	++*(unsigned *)to;
	return 0;
}

static bool read_startup(void)
{
	static const char packet[] = "\0\0\0\x23\0\3\0\0user\0app\0database\0app\0\0\0";
	struct startup s;
	unsigned settings = 0;
	char bad[64];
	int r = startup_read((const uint8_t *)packet, 0x23, &s);

	assert_int_equal(startup_split_options("-c a=1 --b=\\ 2", count_setting, &settings, bad, sizeof(bad)), 0);
	fail_alloc_end();
	assert_true(r != 0);
	assert_int_equal(settings, 2);
	return true;
}

#define VERIFIER \
	"SCRAM-SHA-256$4096:AksVoSP6pZ/mbvKKng0A9g==$cVatn3qxsmZAEnQ3HWmko5/w/ICF2dfTnj1NBueeK+8=:" \
	"0x94YE75cN13wz5iyasBRgOIADAoZOPyKVYRgygERuQ="

static bool parse_secrets(void)
{
	static const char *const texts[] = {"plain", "md56520b9e6d1360465923cccaa4a18e5f0", VERIFIER};
	bool ok = true;

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct secret secret = {0}, copy = {0};

		if (secret_parse(texts[i], &secret) < 0) {
			ok = false;
			continue;
		}
		if (secret_copy(&secret, &copy) == 0) {
			assert_true(secret_equal(&secret, &copy));
			secret_wipe(&copy);
		} else {
			ok = false;
		}
		secret_wipe(&secret);
	}
	fail_alloc_end();
	return ok;
}

/* Normalized for real: more than ASCII, composed anew. */
static bool derive_from_unicode(void)
{
	static const uint8_t salt[] = "salt";
	struct scram_keys keys, expected;
	int r = scram_derive("I\xc2\xadX a\xcc\x88\xe2\x85\xa8", salt, sizeof(salt), 1, &keys);

	fail_alloc_end();
	assert_int_equal(scram_derive("IX \xc3\xa4IX", salt, sizeof(salt), 1, &expected), 0);
	if (r == 0)
		assert_memory_equal(keys.stored_key, expected.stored_key, SCRAM_KEY);
	return r == 0;
}

/* A whole login, both sides. Whatever fails, nobody gets in by it: DONE means that both proofs were right. */
static bool log_in(enum auth_method method, const char *stored, const char *password)
{
	static const uint8_t mock_key[32] = "0123456789abcdef0123456789abcde";
	struct secret at_proxy = {0}, at_client = {0};
	struct buf to_client = BUF_INIT(65536), to_proxy = BUF_INIT(65536);
	struct client_auth *proxy = NULL;
	struct server_auth *client = NULL;
	enum auth_step step = AUTH_FAILED;
	const char *why;
	struct frame f = {0};

	if (secret_parse(stored, &at_proxy) < 0 || secret_parse(password, &at_client) < 0)
		goto out;
	proxy = client_auth_new(method, "u_md5", &at_proxy, mock_key, SLICE_LITERAL(""), /* on_tls= */ false);
	client = server_auth_new("u_md5", &at_client, SLICE_LITERAL(""), /* on_tls= */ false);
	if (!proxy || !client)
		goto out;
	step = client_auth_begin(proxy, &to_client);
	for (int round = 0; step == AUTH_CONTINUE && round < 5; round++) {
		if (to_client.failed || frame_read(to_client.bytes, to_client.len, &f) != FRAME_WHOLE) {
			step = AUTH_FAILED;
			break;
		}
		buf_clear(&to_proxy);
		if (server_auth_message(client, f.body, f.body_len, &to_proxy, &why) != AUTH_CONTINUE ||
		    to_proxy.failed || frame_read(to_proxy.bytes, to_proxy.len, &f) != FRAME_WHOLE) {
			step = AUTH_FAILED;
			break;
		}
		buf_clear(&to_client);
		step = client_auth_answer(proxy, f.body, f.body_len, &to_client);
		if (to_client.failed)
			step = AUTH_FAILED;
	}
out:
	fail_alloc_end();
	client_auth_free(proxy);
	server_auth_free(client);
	buf_free_secret(&to_client);
	buf_free_secret(&to_proxy);
	secret_wipe(&at_proxy);
	secret_wipe(&at_client);
	return step == AUTH_DONE;
}

static bool log_in_by_password(void)
{
	return log_in(AUTH_PASSWORD, "pencil", "pencil");
}

static bool log_in_by_md5(void)
{
	return log_in(AUTH_MD5, "md56520b9e6d1360465923cccaa4a18e5f0", "pencil");
}

static bool log_in_by_scram(void)
{
	return log_in(AUTH_SCRAM, "p\xc3\xa4ncil", "p\xc3\xa4ncil");
}

static bool log_in_with_a_wrong_password(void)
{
	assert_false(log_in(AUTH_SCRAM, VERIFIER, "wrong"));
	return true;
}

static void wire_layer(void **state)
{
	assert_true(fail_each(build) > 1);
	assert_true(fail_each(change_severity) > 0);
	assert_int_equal(fail_each(read_startup), 0); /* the first packet of a stranger costs no memory */
	assert_true(fail_each(parse_secrets) > 1);
	assert_true(fail_each(derive_from_unicode) > 1);
	assert_true(fail_each(log_in_by_password) > 1);
	assert_true(fail_each(log_in_by_md5) > 1);
	assert_true(fail_each(log_in_by_scram) > 1);
	assert_true(fail_each(log_in_with_a_wrong_password) > 1);
}

/* ------------------------------------------------------------------ sql */

static bool scan_many(void)
{
	char text[4096] = "";
	size_t len = 0;
	struct scan scan;
	int r;

	for (int i = 0; i < 100; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "SET a.b%02d = 'x'; ", i);
	r = scan_text(text, len, 0, true, &scan);
	fail_alloc_end();
	if (r < 0) {
		assert_int_equal(r, -ENOMEM);
		return false;
	}
	assert_int_equal(scan.count, 100);
	for (uint32_t i = 0; i < 100; i++) {
		char name[8];

		snprintf(name, sizeof(name), "a.b%02u", i);
		assert_int_equal(scan.statements[i].verb, VERB_SET);
		assert_true(slice_equal(scan.statements[i].name, slice_str(name)));
	}
	scan_free(&scan);
	return true;
}

static bool scan_one(void)
{
	struct scan scan;

	assert_int_equal(scan_text("SELECT 1", 8, 0, true, &scan), 0);
	assert_int_equal(scan.first.class, STATEMENT_READ);
	scan_free(&scan);
	fail_alloc_end();
	return true;
}

static bool fill_catalog(void)
{
	struct catalog *c = catalog_new();
	int r = c ? 0 : -ENOMEM;

	for (int i = 0; r == 0 && i < 40; i++) {
		char name[16];

		snprintf(name, sizeof(name), "f%d", i);
		r = catalog_add(c, SLICE_LITERAL("function reads"), slice_str(name));
		if (r == 0)
			r = catalog_add(c, SLICE_LITERAL("operator writes"), SLICE_LITERAL("##"));
	}
	fail_alloc_end();
	catalog_free(c);
	assert_true(r == 0 || r == -ENOMEM);
	return r == 0;
}

/* Without memory a statement within another is not understood, and so no read. */
static bool find_access(void)
{
	static const char text[] = "EXPLAIN SELECT 1; COPY (SELECT 2) TO STDOUT";
	struct access a = {0};
	struct scan scan;
	int r = scan_text(text, strlen(text), 0, true, &scan);

	if (r == 0)
		access_find(text, &scan, true, NULL, &a);
	fail_alloc_end();
	if (r < 0)
		return false;
	scan_free(&scan);
	assert_true(a.level == ACCESS_READS || a.reason == REASON_UNKNOWN);
	return a.level == ACCESS_READS;
}

static void sql_layer(void **state)
{
	assert_true(fail_each(fill_catalog) > 40);
	assert_true(fail_each(find_access) > 0);
	assert_true(fail_each(scan_many) > 1);
	assert_int_equal(fail_each(scan_one), 0); /* nor does a simple query */
}

/* ------------------------------------------------------------------ link */

static bool push_expects(void)
{
	struct expects e = {0};
	uint32_t in = 0;

	for (; in < 1000; in++)
		if (expects_push(&e, (struct expect){.kind = EXPECT_SYNC, .object = (void *)(uintptr_t)in}) < 0)
			break;
	fail_alloc_end();
	assert_int_equal(e.count, in);
	assert_int_equal(e.answers, in);
	for (uint32_t i = 0; i < in; i++)
		assert_int_equal((uintptr_t)expects_at(&e, i)->object, i);
	expects_free(&e);
	return in == 1000;
}

static bool add_statements(void)
{
	struct statement_set set;
	uint64_t in = 0;

	statement_set_init(&set);
	for (; in < 300; in++)
		if (statement_set_add(&set, (struct statement_id){in, in}) < 0)
			break;
	fail_alloc_end();
	assert_int_equal(set.count, in);
	for (uint64_t i = 0; i < 300; i++)
		assert_int_equal(statement_set_use(&set, (struct statement_id){i, i}), i < in);
	statement_set_clear(&set);
	return in == 300;
}

/* A set that can't be made is the one before: never NULL, never another. */
static bool set_params(void)
{
	const struct params *p = NULL;
	char name[16], value[16];
	bool ok = true;

	for (unsigned i = 0; i < 50; i++) {
		const struct params *before = p;

		snprintf(name, sizeof(name), "name %02u", i % 10);
		snprintf(value, sizeof(value), "value %u", i);
		params_set(&p, name, value);
		if (p == before) {
			ok = false;
		} else {
			assert_string_equal(params_get(p, name), value);
			assert_true(params_count(p) <= 10);
		}
	}
	params_set(&p, "name 03", NULL);
	fail_alloc_end();
	ok &= params_get(p, "name 03") == NULL;
	assert_true(!ok || params_count(p) == 9);
	params_unref(p);
	return ok;
}

static void link_layer(void **state)
{
	assert_true(fail_each(push_expects) > 3);
	assert_true(fail_each(add_statements) > 300);
	assert_true(fail_each(set_params) > 50);
}

/* ------------------------------------------------------------------ config */

static struct {
	char folder[32], hba[64], ident[64], users[64];
	struct buf text;
	struct config *complete; /* what comes out of it when memory is there */
} files;

static void write_file(char *path, size_t size, const char *name, const char *text)
{
	FILE *f;

	snprintf(path, size, "%s/%s", files.folder, name);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(path, 0600), 0);
}

static void differs(void *argument, const char *path, const char *old_value, const char *new_value, bool reloads)
{
	fail_msg("%s was %s, is %s", path, old_value, new_value);
}

/* What loads is what would have come out with memory enough: nothing may be missing in it without a word. */
static bool load_config(void)
{
	struct config_report report;
	struct config *config = NULL;
	int r;

	config_report_init(&report, /* strict= */ false);
	r = config_load_text((const char *)files.text.bytes, files.text.len, "t.toml", &config, &report);
	fail_alloc_end();
	if (r == 0 && files.complete) {
		config_diff(files.complete, config, differs, NULL);
		assert_int_equal(hba_rule_count(files.complete->hba), hba_rule_count(config->hba));
		assert_int_equal(userlist_count(files.complete->userlist), userlist_count(config->userlist));
	}
	if (!files.complete) {
		config_report_print(&report, stderr);
		assert_int_equal(r, 0);
		files.complete = config;
		config = NULL;
	}
	config_free(config);
	config_report_free(&report);
	return r == 0;
}

/*
 * Mistakes in what is TOML. What is no TOML is left out: toml++ makes its error in a constructor that it declares
 * noexcept, so a process that has no memory at that very moment ends, whoever calls it.
 */
static bool load_mistakes(void)
{
	static const char text[] =
		"[pool]\nmax_conections = 3\nmode = \"x\"\n[[nodes]]\nhost = 1\n[users]\na = \"b\"\n";
	struct config_report report;
	struct config *config = NULL;
	uint32_t errors;
	int r;

	config_report_init(&report, /* strict= */ true);
	r = config_load_text(text, sizeof(text) - 1, "t.toml", &config, &report);
	fail_alloc_end();
	assert_true(r < 0); /* no failure makes something valid of it */
	assert_null(config);
	errors = report.errors;
	config_report_free(&report);
	return r == -EINVAL && errors > 2;
}

static void config_layer(void **state)
{
	snprintf(files.folder, sizeof(files.folder), "/tmp/allocation-XXXXXX");
	assert_non_null(mkdtemp(files.folder));
	write_file(files.hba, sizeof(files.hba), "hba",
		   "local all all trust\nhostssl \"all\" /^x.*,app 10.0.0.0/8 scram-sha-256\n"
		   "host all,replication x,app 127.0.0.1/32 md5\nhostssl all all ::/0 reject\n");
	write_file(files.ident, sizeof(files.ident), "ident", "m /^(.*)@x$ \\1\nm a b\n");
	write_file(files.users, sizeof(files.users), "users", "\"app\" \"secret\"\nother:" VERIFIER "\n");
	files.text = BUF_INIT(100000);
	buf_printf(&files.text,
		   "listen_address = [\"127.0.0.1:6432\", \"unix:/tmp/x\"]\n"
		   "[pool]\nmode = \"${HELIOS_NOT_SET:-transaction}\"\nidle_timeout_secs = 30\n"
		   "track_parameters = [\"a\", \"b\"]\n"
		   "[auth]\nmode = \"scram-sha-256\"\nhba_file = \"%s\"\nident_file = \"%s\"\nauth_file = \"%s\"\n"
		   "[rate_limit]\nenabled = true\n"
		   "[[nodes]]\nhost = \"h\"\nrole = \"primary\"\nname = \"a\"\n"
		   "[[nodes]]\nhost = \"i\"\nport = 5433\nrole = \"standby\"\n"
		   "[databases.\"*\"]\npool_mode = \"session\"\n"
		   "[databases.shop]\nuser = \"u\"\npassword = \"p\"\nnode = \"a\"\nmax_connections = 5\n"
		   "[users.app]\npassword = \"q\"\nquery_timeout = \"5s\"\n"
		   "[[hba]]\naction = \"allow\"\nuser = \"app\"\naddress = \"10.0.0.0/8\"\n",
		   files.hba, files.ident, files.users);
	assert_true(load_config());
	assert_true(fail_each(load_config) > 100);
	assert_true(fail_each(load_mistakes) > 10);
	config_free(files.complete);
	buf_free(&files.text);
	unlink(files.hba);
	unlink(files.ident);
	unlink(files.users);
	rmdir(files.folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(base_layer), cmocka_unit_test(wire_layer),   cmocka_unit_test(sql_layer),
		cmocka_unit_test(link_layer), cmocka_unit_test(config_layer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
