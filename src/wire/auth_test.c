/*
 * Unit tests: whole logins, our client's side against our server's side, through the protocol's messages.
 */
#include "wire/test.h"

#include <stdio.h>

#include "wire/frame.h"
#include "wire/scram_priv.h"

#define VERIFIER \
	"SCRAM-SHA-256$4096:AksVoSP6pZ/mbvKKng0A9g==$cVatn3qxsmZAEnQ3HWmko5/w/ICF2dfTnj1NBueeK+8=:" \
	"0x94YE75cN13wz5iyasBRgOIADAoZOPyKVYRgygERuQ="
#define MD5             "md56520b9e6d1360465923cccaa4a18e5f0" /* pencil, of u_md5 */
#define USER            "u_md5"
#define END_POINT       "0123456789abcdef0123456789abcdef"
#define OTHER_END_POINT "0123456789abcdef0123456789abcdeX"

static const uint8_t mock_key[32] = "0123456789abcdef0123456789abcde";

static struct secret parse(const char *text)
{
	struct secret s;

	assert_int_equal(secret_parse(text, &s), 0);
	return s;
}

/* ------------------------------------------------------------------ one login */

struct login {
	struct client_auth *proxy;  /* is the server */
	struct server_auth *client; /* is the client */
	enum auth_step proxy_step, client_step;
	const char *why;
	/* Changes a message on its way; type 'R' or 'p'. May be NULL. */
	void (*tamper)(uint8_t type, uint8_t *body, size_t len);
	struct buf to_client, to_proxy;
	unsigned round;
};

static void login_free(struct login *l)
{
	client_auth_free(l->proxy);
	server_auth_free(l->client);
	buf_free_secret(&l->to_client);
	buf_free_secret(&l->to_proxy);
}

/* Takes the one frame that stands in the buffer. */
static struct frame take_frame(struct login *l, struct buf *b, uint8_t type)
{
	struct frame f;

	assert_false(b->failed);
	assert_int_equal(frame_read(b->bytes, b->len, &f), FRAME_WHOLE);
	assert_int_equal(frame_size(&f), b->len);
	assert_int_equal(f.type, type);
	if (l->tamper)
		l->tamper(type, b->bytes + FRAME_HEADER, f.body_len);
	return f;
}

/* What the proxy sent goes to the client; its answer goes to the proxy. */
static void login_round(struct login *l)
{
	struct frame f = take_frame(l, &l->to_client, 'R');

	buf_clear(&l->to_proxy);
	l->client_step = server_auth_message(l->client, f.body, f.body_len, &l->to_proxy, &l->why);
	buf_clear(&l->to_client);
	if (l->client_step != AUTH_CONTINUE || l->to_proxy.len == 0)
		return;
	f = take_frame(l, &l->to_proxy, 'p');
	l->proxy_step = client_auth_answer(l->proxy, f.body, f.body_len, &l->to_client);
	if (l->proxy_step == AUTH_FAILED || l->proxy_step == AUTH_MALFORMED)
		assert_int_equal(l->to_client.len, 0);
}

/* Until both are through, or one gives up. */
static void login_run(struct login *l)
{
	static const uint8_t ok[4] = {0};

	l->client_step = AUTH_CONTINUE;
	l->proxy_step = client_auth_begin(l->proxy, &l->to_client);
	while (l->to_client.len > 0 && l->client_step == AUTH_CONTINUE) {
		assert_true(l->round++ < 5);
		login_round(l);
	}
	if (l->proxy_step == AUTH_DONE && l->client_step == AUTH_CONTINUE)
		l->client_step = server_auth_message(l->client, ok, sizeof(ok), &l->to_proxy, &l->why);
}

struct sides {
	enum auth_method method;
	const char *stored, *given; /* secrets */
	const char *proxy_end_point, *client_end_point;
};

static struct login login_new(const struct sides *s)
{
	struct secret stored = parse(s->stored), given = parse(s->given);
	struct slice proxy_end = slice_str(s->proxy_end_point), client_end = slice_str(s->client_end_point);
	struct login l = {.to_client = BUF_INIT(1 << 20), .to_proxy = BUF_INIT(1 << 20)};

	l.proxy = client_auth_new(s->method, USER, &stored, mock_key, proxy_end, proxy_end.len > 0);
	l.client = server_auth_new(USER, &given, client_end, client_end.len > 0);
	assert_non_null(l.proxy);
	assert_non_null(l.client);
	secret_wipe(&stored);
	secret_wipe(&given);
	return l;
}

/* ------------------------------------------------------------------ every method with every kind of secret */

static void test_logins(void **state)
{
	static const struct {
		struct sides sides;
		bool in;
		const char *method; /* that the client saw */
	} cases[] = {
		{{AUTH_PASSWORD, "pencil", "pencil"}, true, "password"},
		{{AUTH_PASSWORD, VERIFIER, "pencil"}, true, "password"},
		{{AUTH_PASSWORD, MD5, "pencil"}, true, "password"},
		{{AUTH_PASSWORD, "pencil", "pencils"}, false, "password"},
		{{AUTH_PASSWORD, VERIFIER, "pencils"}, false, "password"},
		{{AUTH_PASSWORD, MD5, "pencils"}, false, "password"},
		{{AUTH_PASSWORD, NULL, "pencil"}, false, "password"},
		{{AUTH_PASSWORD, "pencil", MD5}, false, "password"}, /* a hash isn't a password */
		{{AUTH_PASSWORD, "pencil", NULL}, false, "password"},
		{{AUTH_MD5, "pencil", "pencil"}, true, "md5"},
		{{AUTH_MD5, "pencil", MD5}, true, "md5"},
		{{AUTH_MD5, MD5, "pencil"}, true, "md5"},
		{{AUTH_MD5, MD5, MD5}, true, "md5"},
		{{AUTH_MD5, MD5, "pencils"}, false, "md5"},
		{{AUTH_MD5, "pencils", MD5}, false, "md5"},
		{{AUTH_MD5, NULL, "pencil"}, false, "md5"},
		{{AUTH_MD5, MD5, NULL}, false, "md5"},
		{{AUTH_MD5, MD5, VERIFIER}, false, "md5"},
		{{AUTH_MD5, VERIFIER, "pencil"}, true, "scram-sha-256"},
		{{AUTH_SCRAM, "pencil", "pencil"}, true, "scram-sha-256"},
		{{AUTH_SCRAM, VERIFIER, "pencil"}, true, "scram-sha-256"},
		{{AUTH_SCRAM, VERIFIER, "pencils"}, false, "scram-sha-256"},
		{{AUTH_SCRAM, "pencil", "pencils"}, false, "scram-sha-256"},
		{{AUTH_SCRAM, NULL, "pencil"}, false, "scram-sha-256"},
		{{AUTH_SCRAM, MD5, "pencil"}, false, "scram-sha-256"},      /* MD5 can't do SCRAM */
		{{AUTH_SCRAM, VERIFIER, VERIFIER}, false, "scram-sha-256"}, /* nor can a stolen verifier */
		{{AUTH_SCRAM, VERIFIER, MD5}, false, "scram-sha-256"},
		{{AUTH_SCRAM, VERIFIER, NULL}, false, "scram-sha-256"},
		/* channel binding */
		{{AUTH_SCRAM, VERIFIER, "pencil", END_POINT, END_POINT}, true, "scram-sha-256-plus"},
		{{AUTH_SCRAM, VERIFIER, "pencils", END_POINT, END_POINT}, false, "scram-sha-256-plus"},
		{{AUTH_SCRAM, NULL, "pencil", END_POINT, END_POINT}, false, "scram-sha-256-plus"},
		{{AUTH_SCRAM, VERIFIER, "pencil", END_POINT, OTHER_END_POINT}, false, "scram-sha-256-plus"},
		{{AUTH_SCRAM, VERIFIER, "pencil", NULL, END_POINT}, true, "scram-sha-256"},
		{{AUTH_SCRAM, VERIFIER, "pencil", END_POINT, NULL}, false, "scram-sha-256"}, /* client isn't on TLS */
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct login l = login_new(&cases[i].sides);

		login_run(&l);
		assert_int_equal(l.proxy_step == AUTH_DONE, cases[i].in);
		assert_int_equal(l.client_step == AUTH_DONE, cases[i].in);
		assert_string_equal(server_auth_method(l.client), cases[i].method);
		if (l.client_step == AUTH_FAILED)
			assert_non_null(l.why);
		if (cases[i].in && strcmp(cases[i].method, "password") == 0)
			assert_string_equal(client_auth_password(l.proxy), "pencil");
		else
			assert_null(client_auth_password(l.proxy));
		assert_int_equal(client_auth_keys(l.proxy) != NULL,
				 cases[i].in && strncmp(cases[i].method, "scram", 5) == 0);
		login_free(&l);
	}
}

static void test_long_password(void **state)
{
	static char password[PASSWORD_MAX + 1];
	const enum auth_method methods[] = {AUTH_PASSWORD, AUTH_MD5, AUTH_SCRAM};

	memset(password, 'x', PASSWORD_MAX);
	for (size_t i = 0; i < ARRAY_SIZE(methods); i++) {
		struct login l = login_new(&(struct sides){methods[i], password, password});

		login_run(&l);
		assert_int_equal(l.client_step, AUTH_DONE);
		login_free(&l);
	}
}

/* ------------------------------------------------------------------ pass-through */

/* A client logs in to us by SCRAM; with its key we log in to a server that stores the same verifier. */
static void test_pass_through(void **state)
{
	struct login first = login_new(&(struct sides){AUTH_SCRAM, VERIFIER, "pencil"}), second;
	struct secret recovered = {.kind = SECRET_SCRAM, .keys_derived = true};

	login_run(&first);
	assert_int_equal(first.client_step, AUTH_DONE);
	recovered.keys = *client_auth_keys(first.proxy);
	assert_true(recovered.keys.has_client_key);

	second = login_new(&(struct sides){AUTH_SCRAM, VERIFIER, NULL});
	server_auth_free(second.client);
	second.client = server_auth_new(USER, &recovered, SLICE_LITERAL(""), false);
	login_run(&second);
	assert_int_equal(second.proxy_step, AUTH_DONE);
	assert_int_equal(second.client_step, AUTH_DONE);
	login_free(&second);

	/* A server with another salt can't be reached so: its verifier is another one. */
	second = login_new(&(struct sides){AUTH_SCRAM, "pencil", NULL});
	server_auth_free(second.client);
	second.client = server_auth_new(USER, &recovered, SLICE_LITERAL(""), false);
	login_run(&second);
	assert_int_equal(second.client_step, AUTH_FAILED);
	assert_non_null(strstr(second.why, "salt"));
	login_free(&second);
	login_free(&first);
	secret_wipe(&recovered);
}

/* Keys of an earlier login spare the derivation; where they don't fit, the password still serves. */
static void test_cached_keys(void **state)
{
	struct secret cached = parse("pencil"), stored = parse(VERIFIER);

	assert_int_equal(
		scram_derive("pencil", stored.keys.salt, stored.keys.salt_len, stored.keys.iterations, &cached.keys),
		0);
	cached.keys_derived = true;
	for (unsigned i = 0; i < 2; i++) {
		struct login l = login_new(&(struct sides){AUTH_SCRAM, i == 0 ? VERIFIER : "pencil", NULL});
		server_auth_free(l.client);
		l.client = server_auth_new(USER, &cached, SLICE_LITERAL(""), false);
		login_run(&l);
		assert_int_equal(l.client_step, AUTH_DONE);
		login_free(&l);
	}
	secret_wipe(&cached);
	secret_wipe(&stored);
}

/* All logins with copies of one secret cost one derivation a salt. */
static void test_remembered_keys(void **state)
{
	struct secret shared = parse("pencil"), copy;

	assert_int_equal(secret_derivations(&shared), 0);
	secret_remember_keys(&shared);
	for (unsigned i = 0; i < 20; i++) {
		struct login l = login_new(&(struct sides){AUTH_SCRAM, i % 2 ? VERIFIER : "pencil", NULL});

		assert_int_equal(secret_copy(&shared, &copy), 0);
		server_auth_free(l.client);
		l.client = server_auth_new(USER, &copy, SLICE_LITERAL(""), false);
		secret_wipe(&copy);
		login_run(&l);
		assert_int_equal(l.client_step, AUTH_DONE);
		login_free(&l);
	}
	assert_int_equal(secret_derivations(&shared), 2);
	secret_wipe(&shared);
	shared = parse(VERIFIER);
	secret_remember_keys(&shared); /* nothing to derive from */
	assert_null(shared.memory);
	secret_wipe(&shared);
}

/* ------------------------------------------------------------------ somebody in between */

static void flip(uint8_t *at)
{
	*at = *at == 'A' ? 'B' : 'A';
}

static uint8_t *find(uint8_t *body, size_t len, const char *text)
{
	return memmem(body, len, text, strlen(text));
}

static void tamper_client_nonce(uint8_t type, uint8_t *body, size_t len)
{
	uint8_t *at = type == 'p' ? find(body, len, "n=,r=") : NULL;

	if (at)
		flip(at + 5);
}

static void tamper_server_nonce(uint8_t type, uint8_t *body, size_t len)
{
	uint8_t *at = type == 'R' ? find(body, len, ",s=") : NULL;

	if (at)
		flip(at - 1);
}

static void tamper_final_nonce(uint8_t type, uint8_t *body, size_t len)
{
	uint8_t *at = type == 'p' ? find(body, len, ",p=") : NULL;

	if (at)
		flip(at - 1);
}

static void tamper_proof(uint8_t type, uint8_t *body, size_t len)
{
	uint8_t *at = type == 'p' ? find(body, len, ",p=") : NULL;

	if (at)
		flip(at + 3);
}

static void tamper_salt(uint8_t type, uint8_t *body, size_t len)
{
	uint8_t *at = type == 'R' ? find(body, len, ",s=") : NULL;

	if (at)
		flip(at + 3);
}

static void tamper_signature(uint8_t type, uint8_t *body, size_t len)
{
	uint8_t *at = type == 'R' ? find(body, len, "v=") : NULL;

	if (at)
		flip(at + 2);
}

/* Makes -PLUS unknown, so that the client believes we can't bind. */
static void tamper_offer(uint8_t type, uint8_t *body, size_t len)
{
	uint8_t *at = type == 'R' ? find(body, len, "-PLUS") : NULL;

	if (at)
		memcpy(at, "-NONE", 5);
}

/* Says 'n' where the client said 'y': the signature tells. */
static void tamper_offer_and_flag(uint8_t type, uint8_t *body, size_t len)
{
	uint8_t *at = type == 'p' ? find(body, len, "y,,n=") : NULL;

	tamper_offer(type, body, len);
	if (at)
		*at = 'n';
}

static void tamper_method(uint8_t type, uint8_t *body, size_t len)
{
	if (type == 'R' && find(body, len, SCRAM_NAME))
		put_be32(body, 99);
}

static void test_tampering(void **state)
{
	static const struct {
		void (*tamper)(uint8_t type, uint8_t *body, size_t len);
		enum auth_step proxy, client;
	} cases[] = {
		{tamper_client_nonce, AUTH_CONTINUE, AUTH_MALFORMED},
		{tamper_server_nonce, AUTH_MALFORMED, AUTH_CONTINUE},
		{tamper_final_nonce, AUTH_MALFORMED, AUTH_CONTINUE},
		{tamper_proof, AUTH_FAILED, AUTH_CONTINUE},
		{tamper_salt, AUTH_FAILED, AUTH_CONTINUE},
		{tamper_signature, AUTH_DONE, AUTH_FAILED},
		{tamper_offer, AUTH_FAILED, AUTH_CONTINUE},
		{tamper_offer_and_flag, AUTH_MALFORMED, AUTH_CONTINUE},
		{tamper_method, AUTH_CONTINUE, AUTH_FAILED},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct login l = login_new(&(struct sides){AUTH_SCRAM, VERIFIER, "pencil", END_POINT, END_POINT});

		l.tamper = cases[i].tamper;
		login_run(&l);
		assert_int_equal(l.proxy_step, cases[i].proxy);
		assert_int_equal(l.client_step, cases[i].client);
		login_free(&l);
	}
}

/* ------------------------------------------------------------------ unknown users look like known ones */

/* Our answer to a client's first message, with the nonce cut off. */
static void first_answer(enum auth_method method, const char *user, const char *stored, char *text, size_t size)
{
	static const uint8_t message[] = "SCRAM-SHA-256\0\0\0\0\013n,,n=,r=abc";
	struct secret secret = parse(stored);
	struct client_auth *auth =
		client_auth_new(method, user, &secret, mock_key, SLICE_LITERAL(""), /* on_tls= */ false);
	struct buf out = BUF_INIT(4096);
	const char *at;

	assert_int_equal(client_auth_begin(auth, &out), AUTH_CONTINUE);
	buf_clear(&out);
	assert_int_equal(client_auth_answer(auth, message, sizeof(message) - 1, &out), AUTH_CONTINUE);
	at = memmem(out.bytes, out.len, ",s=", 3);
	assert_non_null(at);
	snprintf(text, size, "%.*s", (int)((const char *)out.bytes + out.len - at), at);
	client_auth_free(auth);
	secret_wipe(&secret);
	buf_free(&out);
}

static void test_unknown_users(void **state)
{
	char unknown[128], again[128], other[128], plain[128], md5[128], verifier[128];

	first_answer(AUTH_SCRAM, USER, NULL, unknown, sizeof(unknown));
	first_answer(AUTH_SCRAM, USER, NULL, again, sizeof(again));
	first_answer(AUTH_SCRAM, "other", NULL, other, sizeof(other));
	first_answer(AUTH_SCRAM, USER, "pencil", plain, sizeof(plain));
	first_answer(AUTH_SCRAM, USER, MD5, md5, sizeof(md5));
	first_answer(AUTH_SCRAM, USER, VERIFIER, verifier, sizeof(verifier));
	assert_string_equal(unknown, again);
	assert_string_not_equal(unknown, other);
	assert_string_equal(unknown, plain); /* adding the user to a file doesn't show */
	assert_string_equal(unknown, md5);
	assert_int_equal(strlen(unknown), strlen(verifier));
	assert_string_equal(strstr(unknown, ",i="), ",i=4096");
}

/* ------------------------------------------------------------------ messages that don't belong */

static void test_client_answers_of_any_shape(void **state)
{
#define FIRST "n,,n=,r=abc"
	static const struct {
		enum auth_method method;
		struct slice answer;
		enum auth_step step;
	} cases[] = {
		{AUTH_PASSWORD, SLICE_LITERAL("pencil\0"), AUTH_DONE},
		{AUTH_PASSWORD, SLICE_LITERAL("\0"), AUTH_FAILED},
		{AUTH_PASSWORD, SLICE_LITERAL("pencil"), AUTH_MALFORMED},
		{AUTH_PASSWORD, SLICE_LITERAL("pencil\0x"), AUTH_MALFORMED},
		{AUTH_PASSWORD, SLICE_LITERAL(""), AUTH_MALFORMED},
		{AUTH_MD5, SLICE_LITERAL("md5\0"), AUTH_FAILED},
		{AUTH_MD5, SLICE_LITERAL("\0"), AUTH_FAILED},
		{AUTH_MD5, SLICE_LITERAL("md5"), AUTH_MALFORMED},
		{AUTH_SCRAM, SLICE_LITERAL("SCRAM-SHA-256\0\0\0\0\013" FIRST), AUTH_CONTINUE},
		{AUTH_SCRAM, SLICE_LITERAL("SCRAM-SHA-256\0\377\377\377\377"), AUTH_CONTINUE}, /* data to follow */
		{AUTH_SCRAM, SLICE_LITERAL("SCRAM-SHA-256\0\377\377\377\377" FIRST), AUTH_MALFORMED},
		{AUTH_SCRAM, SLICE_LITERAL("SCRAM-SHA-256\0\0\0\0\014" FIRST), AUTH_MALFORMED},
		{AUTH_SCRAM, SLICE_LITERAL("SCRAM-SHA-256\0\0\0\0\012" FIRST), AUTH_MALFORMED},
		{AUTH_SCRAM, SLICE_LITERAL("SCRAM-SHA-256\0\377\377\377\376" FIRST), AUTH_MALFORMED},
		{AUTH_SCRAM, SLICE_LITERAL("SCRAM-SHA-256-PLUS\0\0\0\0\013" FIRST), AUTH_MALFORMED}, /* not offered */
		{AUTH_SCRAM, SLICE_LITERAL("SCRAM-SHA-1\0\0\0\0\013" FIRST), AUTH_MALFORMED},
		{AUTH_SCRAM, SLICE_LITERAL("SCRAM-SHA-256\0\0\0\0\0"), AUTH_MALFORMED},
		{AUTH_SCRAM, SLICE_LITERAL("pencil\0"), AUTH_MALFORMED},
		{AUTH_SCRAM, SLICE_LITERAL(""), AUTH_MALFORMED},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct secret secret = parse("pencil");
		struct client_auth *auth =
			client_auth_new(cases[i].method, USER, &secret, mock_key, SLICE_LITERAL(""), false);
		struct buf out = BUF_INIT(4096);
		struct slice a = cases[i].answer;

		assert_int_equal(client_auth_begin(auth, &out), AUTH_CONTINUE);
		buf_clear(&out);
		assert_int_equal(client_auth_answer(auth, a.bytes, a.len, &out), cases[i].step);
		assert_false(out.failed);
		if (cases[i].step != AUTH_CONTINUE) /* and once more */
			assert_int_equal(client_auth_answer(auth, a.bytes, a.len, &out), AUTH_MALFORMED);
		client_auth_free(auth);
		secret_wipe(&secret);
		buf_free(&out);
	}
}

/* A client may send its first message apart from the mechanism's name. */
static void test_mechanism_without_data(void **state)
{
	struct client_auth *auth = client_auth_new(AUTH_SCRAM, USER, NULL, mock_key, SLICE_LITERAL(""), false);
	struct buf out = BUF_INIT(4096);

	assert_int_equal(client_auth_begin(auth, &out), AUTH_CONTINUE);
	assert_buf_is(&out, "R\0\0\0\27\0\0\0\12SCRAM-SHA-256\0\0");
	buf_clear(&out);
	assert_int_equal(client_auth_answer(auth, (const uint8_t *)"SCRAM-SHA-256\0\377\377\377\377", 18, &out),
			 AUTH_CONTINUE);
	assert_buf_is(&out, "R\0\0\0\10\0\0\0\13");
	buf_clear(&out);
	assert_int_equal(client_auth_answer(auth, (const uint8_t *)FIRST, sizeof(FIRST) - 1, &out), AUTH_CONTINUE);
	assert_memory_equal(out.bytes + 5, "\0\0\0\13r=abc", 9);
	client_auth_free(auth);
	buf_free(&out);
}

static void test_server_messages_of_any_shape(void **state)
{
	static const struct {
		struct slice first, second;
		enum auth_step first_step, second_step;
	} cases[] = {
		{SLICE_LITERAL("\0\0\0\0"), SLICE_LITERAL("\0\0\0\0"), AUTH_DONE, AUTH_MALFORMED},
		{SLICE_LITERAL("\0\0\0\3"), SLICE_LITERAL("\0\0\0\0"), AUTH_CONTINUE, AUTH_DONE},
		{SLICE_LITERAL("\0\0\0\3"), SLICE_LITERAL("\0\0\0\3"), AUTH_CONTINUE, AUTH_MALFORMED},
		{SLICE_LITERAL("\0\0\0\5salt"), SLICE_LITERAL("\0\0\0\3"), AUTH_CONTINUE, AUTH_MALFORMED},
		{SLICE_LITERAL("\0\0\0\5salt"), SLICE_LITERAL("\0\0\0\0"), AUTH_CONTINUE, AUTH_DONE},
		{SLICE_LITERAL("\0\0\0\12SCRAM-SHA-256\0\0"), SLICE_LITERAL("\0\0\0\0"), AUTH_CONTINUE, AUTH_FAILED},
		{SLICE_LITERAL("\0\0\0\12SCRAM-SHA-256\0\0"), SLICE_LITERAL("\0\0\0\14v=AAAA"), AUTH_CONTINUE,
		 AUTH_MALFORMED},
		{SLICE_LITERAL("\0\0\0\12SCRAM-SHA-256\0\0"), SLICE_LITERAL("\0\0\0\3"), AUTH_CONTINUE, AUTH_MALFORMED},
		{SLICE_LITERAL("\0\0\0\12SCRAM-SHA-256\0\0"), SLICE_LITERAL("\0\0\0\13"), AUTH_CONTINUE,
		 AUTH_MALFORMED},
		{SLICE_LITERAL("\0\0\0\12SCRAM-SHA-256"), {0}, AUTH_MALFORMED, 0},
		{SLICE_LITERAL("\0\0\0\12SCRAM-SHA-256\0"), {0}, AUTH_MALFORMED, 0},
		{SLICE_LITERAL("\0\0\0\12SCRAM-SHA-256\0\0x"), {0}, AUTH_MALFORMED, 0},
		{SLICE_LITERAL("\0\0\0\12\0"), {0}, AUTH_FAILED, 0},
		{SLICE_LITERAL("\0\0\0\12OAUTHBEARER\0\0"), {0}, AUTH_FAILED, 0},
		{SLICE_LITERAL("\0\0\0\12SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"), {0}, AUTH_FAILED, 0},
		{SLICE_LITERAL("\0\0\0\5sal"), {0}, AUTH_MALFORMED, 0},
		{SLICE_LITERAL("\0\0\0\5salty"), {0}, AUTH_MALFORMED, 0},
		{SLICE_LITERAL("\0\0\0\3x"), {0}, AUTH_MALFORMED, 0},
		{SLICE_LITERAL("\0\0\0\0x"), {0}, AUTH_MALFORMED, 0},
		{SLICE_LITERAL("\0\0\0\13"), {0}, AUTH_MALFORMED, 0},
		{SLICE_LITERAL("\0\0\0\7"), {0}, AUTH_FAILED, 0}, /* GSSAPI */
		{SLICE_LITERAL("\0\0\0"), {0}, AUTH_MALFORMED, 0},
		{SLICE_LITERAL(""), {0}, AUTH_MALFORMED, 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct secret secret = parse("pencil");
		struct server_auth *auth = server_auth_new(USER, &secret, SLICE_LITERAL(""), false);
		struct slice first = cases[i].first, second = cases[i].second;
		struct buf out = BUF_INIT(4096);
		const char *why = NULL;

		assert_int_equal(server_auth_message(auth, first.bytes, first.len, &out, &why), cases[i].first_step);
		if (second.len > 0)
			assert_int_equal(server_auth_message(auth, second.bytes, second.len, &out, &why),
					 cases[i].second_step);
		assert_int_equal(why == NULL, cases[i].first_step <= AUTH_DONE &&
						      (!second.len || cases[i].second_step <= AUTH_DONE));
		server_auth_free(auth);
		secret_wipe(&secret);
		buf_free(&out);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_logins),
		cmocka_unit_test(test_long_password),
		cmocka_unit_test(test_pass_through),
		cmocka_unit_test(test_cached_keys),
		cmocka_unit_test(test_remembered_keys),
		cmocka_unit_test(test_tampering),
		cmocka_unit_test(test_unknown_users),
		cmocka_unit_test(test_client_answers_of_any_shape),
		cmocka_unit_test(test_mechanism_without_data),
		cmocka_unit_test(test_server_messages_of_any_shape),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
