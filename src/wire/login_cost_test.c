/*
 * Time must not tell who exists, or what is stored of a user. Measuring it would make a test of chance; so the work is
 * counted: the linker puts counters in front of the hashes (--wrap, see meson.build).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "wire/frame.h"
#include "wire/scram_priv.h"

#define VERIFIER \
	"SCRAM-SHA-256$4096:AksVoSP6pZ/mbvKKng0A9g==$cVatn3qxsmZAEnQ3HWmko5/w/ICF2dfTnj1NBueeK+8=:" \
	"0x94YE75cN13wz5iyasBRgOIADAoZOPyKVYRgygERuQ="
#define MD5   "md56520b9e6d1360465923cccaa4a18e5f0"
#define WRONG "eraser"

static const uint8_t mock_key[32] = "0123456789abcdef0123456789abcde";

/* ------------------------------------------------------------------ what is counted */

struct work {
	unsigned iterations; /* of PBKDF2: nearly all of the time */
	unsigned hmacs, hashes, md5s;
};

static struct work work;
static bool counting;

int __real_pbkdf2_sha256(const char *password, const uint8_t *salt, size_t salt_len, uint32_t iterations,
			 uint8_t out[SCRAM_KEY]);
int __real_hmac_sha256(struct slice key, const struct slice *parts, size_t count, uint8_t out[SCRAM_KEY]);
int __real_sha256(const void *bytes, size_t len, uint8_t out[SCRAM_KEY]);
int __real_md5_text(struct slice first, struct slice second, char out[MD5_TEXT]);
int __wrap_pbkdf2_sha256(const char *password, const uint8_t *salt, size_t salt_len, uint32_t iterations,
			 uint8_t out[SCRAM_KEY]);
int __wrap_hmac_sha256(struct slice key, const struct slice *parts, size_t count, uint8_t out[SCRAM_KEY]);
int __wrap_sha256(const void *bytes, size_t len, uint8_t out[SCRAM_KEY]);
int __wrap_md5_text(struct slice first, struct slice second, char out[MD5_TEXT]);

int __wrap_pbkdf2_sha256(const char *password, const uint8_t *salt, size_t salt_len, uint32_t iterations,
			 uint8_t out[SCRAM_KEY])
{
	work.iterations += counting ? iterations : 0;
	return __real_pbkdf2_sha256(password, salt, salt_len, iterations, out);
}

int __wrap_hmac_sha256(struct slice key, const struct slice *parts, size_t count, uint8_t out[SCRAM_KEY])
{
	work.hmacs += counting;
	return __real_hmac_sha256(key, parts, count, out);
}

int __wrap_sha256(const void *bytes, size_t len, uint8_t out[SCRAM_KEY])
{
	work.hashes += counting;
	return __real_sha256(bytes, len, out);
}

int __wrap_md5_text(struct slice first, struct slice second, char out[MD5_TEXT])
{
	work.md5s += counting;
	return __real_md5_text(first, second, out);
}

/* ------------------------------------------------------------------ a login with a wrong password */

/* The client's side is not counted. */
static void answer(struct server_auth *client, struct buf *to_client, struct buf *to_proxy, struct frame *ret)
{
	const char *why;

	assert_int_equal(frame_read(to_client->bytes, to_client->len, ret), FRAME_WHOLE);
	buf_clear(to_proxy);
	assert_int_equal(server_auth_message(client, ret->body, ret->body_len, to_proxy, &why), AUTH_CONTINUE);
	assert_int_equal(frame_read(to_proxy->bytes, to_proxy->len, ret), FRAME_WHOLE);
	buf_clear(to_client);
}

/* As session/login.c does it. stored NULL: there is no such user. cache NULL: no password is stored in clear. */
static struct work attempt(enum auth_method method, const char *user, const char *stored, struct scram_cache *cache)
{
	struct secret secret = {0}, wrong = {0};
	struct buf to_client = BUF_INIT(65536), to_proxy = BUF_INIT(65536);
	struct client_auth *proxy;
	struct server_auth *client;
	enum auth_step step;
	struct frame f = {0};

	assert_int_equal(secret_parse(stored, &secret), 0);
	assert_int_equal(secret_parse(WRONG, &wrong), 0);
	client = server_auth_new(user, &wrong, SLICE_LITERAL(""), /* on_tls= */ false);
	work = (struct work){0};
	counting = true;
	if (cache)
		assert_int_equal(scram_cache_derive(cache, &secret, user, mock_key), 0);
	proxy = client_auth_new(method, user, &secret, mock_key, SLICE_LITERAL(""), /* on_tls= */ false);
	assert_true(proxy && client);
	step = client_auth_begin(proxy, &to_client);
	while (step == AUTH_CONTINUE) {
		counting = false;
		answer(client, &to_client, &to_proxy, &f);
		counting = true;
		step = client_auth_answer(proxy, f.body, f.body_len, &to_client);
	}
	counting = false;
	assert_int_equal(step, AUTH_FAILED);
	client_auth_free(proxy);
	server_auth_free(client);
	buf_free(&to_client);
	buf_free(&to_proxy);
	secret_wipe(&secret);
	secret_wipe(&wrong);
	return work;
}

static void assert_same_work(struct work a, struct work b)
{
	assert_int_equal(a.iterations, b.iterations);
	assert_int_equal(a.hmacs, b.hmacs);
	assert_int_equal(a.hashes, b.hashes);
	assert_int_equal(a.md5s, b.md5s);
}

static void scram_costs_an_unknown_user_the_same(void **state)
{
	struct work unknown = attempt(AUTH_SCRAM, "u", NULL, NULL);

	assert_true(unknown.hmacs > 0);
	assert_int_equal(unknown.iterations, 0);
	assert_same_work(unknown, attempt(AUTH_SCRAM, "u", VERIFIER, NULL));
	assert_same_work(unknown, attempt(AUTH_SCRAM, "u", MD5, NULL)); /* a secret that SCRAM cannot use */
}

/* Where passwords are stored in clear each name is derived once, whether it exists or not. */
static void derived_keys_cost_an_unknown_user_the_same(void **state)
{
	static const char *const stored[] = {"pencil", VERIFIER, MD5};

	for (size_t i = 0; i < ARRAY_SIZE(stored); i++) {
		struct scram_cache *cache = scram_cache_new();
		struct work unknown, again;

		assert_non_null(cache);
		unknown = attempt(AUTH_SCRAM, "nobody", NULL, cache);
		again = attempt(AUTH_SCRAM, "nobody", NULL, cache);
		assert_int_equal(unknown.iterations, SCRAM_ITERATIONS);
		assert_int_equal(again.iterations, 0);
		assert_same_work(unknown, attempt(AUTH_SCRAM, "somebody", stored[i], cache));
		assert_same_work(again, attempt(AUTH_SCRAM, "somebody", stored[i], cache));
		scram_cache_free(cache);
	}
}

static void md5_costs_an_unknown_user_the_same(void **state)
{
	struct work unknown = attempt(AUTH_MD5, "u", NULL, NULL);

	assert_true(unknown.md5s > 0);
	assert_same_work(unknown, attempt(AUTH_MD5, "u", MD5, NULL));
}

/* What differs besides are a few hashes, a thousandth of it. */
static void a_password_costs_the_same_whatever_is_stored(void **state)
{
	static const char *const stored[] = {NULL, "pencil", VERIFIER, MD5};

	for (size_t i = 0; i < ARRAY_SIZE(stored); i++)
		assert_int_equal(attempt(AUTH_PASSWORD, "u", stored[i], NULL).iterations, SCRAM_ITERATIONS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(scram_costs_an_unknown_user_the_same),
		cmocka_unit_test(derived_keys_cost_an_unknown_user_the_same),
		cmocka_unit_test(md5_costs_an_unknown_user_the_same),
		cmocka_unit_test(a_password_costs_the_same_whatever_is_stored),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
