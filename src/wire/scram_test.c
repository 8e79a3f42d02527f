/*
 * Unit tests: secrets, base64, SASLprep, and SCRAM's own messages against the vectors of RFC 7677 and what
 * PostgreSQL 15 has stored.
 */
#include "wire/test.h"

#include <stdio.h>

#include "wire/scram_priv.h"

static const uint8_t mock_key[32] = "0123456789abcdef0123456789abcde";

/* ------------------------------------------------------------------ base64 */

static void test_base64(void **state)
{
	static const struct {
		const char *text;
		int len;
		const char *bytes;
	} cases[] = {
		{"", 0, ""},
		{"Zg==", 1, "f"},
		{"Zm8=", 2, "fo"},
		{"Zm9v", 3, "foo"},
		{"Zm9vYg==", 4, "foob"},
		{"+/+/", 3, "\xfb\xff\xbf"},
		{"Z", -EINVAL, NULL},
		{"Zg", -EINVAL, NULL},
		{"Zg=", -EINVAL, NULL},
		{"Zg= ", -EINVAL, NULL},
		{"====", -EINVAL, NULL},
		{"Z===", -EINVAL, NULL},
		{"=g==", -EINVAL, NULL},
		{"Zg==Zg==", -EINVAL, NULL},
		{"Zm9v\n", -EINVAL, NULL},
		{"Zm-v", -EINVAL, NULL},
		{"Zm9vYmFyeg==", -EINVAL, NULL}, /* 7 bytes: more than there is room for */
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint8_t out[6];
		struct buf text = BUF_INIT(64);

		assert_int_equal(base64_decode(slice_str(cases[i].text), out, sizeof(out)), cases[i].len);
		if (cases[i].len < 0)
			continue;
		assert_memory_equal(out, cases[i].bytes, cases[i].len);
		base64_add(&text, cases[i].bytes, (size_t)cases[i].len);
		assert_string_equal(buf_cstr(&text), cases[i].text);
		buf_free(&text);
	}
}

/* ------------------------------------------------------------------ secrets */

/* Made by PostgreSQL 15.x: CREATE ROLE ... PASSWORD 'pencil' */
#define PENCIL_VERIFIER \
	"SCRAM-SHA-256$4096:AksVoSP6pZ/mbvKKng0A9g==$cVatn3qxsmZAEnQ3HWmko5/w/ICF2dfTnj1NBueeK+8=:" \
	"0x94YE75cN13wz5iyasBRgOIADAoZOPyKVYRgygERuQ="
/* ... PASSWORD U&'p\00C5ss\2168\00A0w\00AD\FB01' */
#define UNICODE_VERIFIER \
	"SCRAM-SHA-256$4096:vtgoqD9u1eXJw8Tokup9pw==$KcxEndUoaYViUDsR0ttII4x8vQBgepmAvv447StEwkA=:" \
	"Fy5XWbiLfXDddotdjKhbAOdy63kC7LJrX3ny2uruo8k="
/* ... password_encryption = md5, for the role u_md5 */
#define PENCIL_MD5 "md56520b9e6d1360465923cccaa4a18e5f0"

static void test_secret_parse(void **state)
{
	static const struct {
		const char *text;
		int result;
		enum secret_kind kind;
	} cases[] = {
		{NULL, 0, SECRET_NONE},
		{"", 0, SECRET_NONE},
		{"pencil", 0, SECRET_PLAIN},
		{PENCIL_MD5, 0, SECRET_MD5},
		{"md56520B9E6D1360465923CCCAA4A18E5F0", 0, SECRET_PLAIN}, /* upper case isn't what PostgreSQL makes */
		{"md56520b9e6d1360465923cccaa4a18e5f", 0, SECRET_PLAIN},
		{PENCIL_VERIFIER, 0, SECRET_SCRAM},
		{"SCRAM-SHA-256$", -EINVAL, 0},
		{"SCRAM-SHA-256$4096:AksVoSP6pZ/mbvKKng0A9g==$x:y", -EINVAL, 0},
		{"SCRAM-SHA-256", 0, SECRET_PLAIN},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct secret s, copy;

		assert_int_equal(secret_parse(cases[i].text, &s), cases[i].result);
		if (cases[i].result < 0)
			continue;
		assert_int_equal(s.kind, cases[i].kind);
		assert_int_equal(secret_copy(&s, &copy), 0);
		if (s.text)
			assert_string_equal(copy.text, cases[i].text);
		secret_wipe(&s);
		secret_wipe(&copy);
		assert_int_equal(s.kind, SECRET_NONE);
	}
}

static void test_secret_is_bounded(void **state)
{
	static char text[PASSWORD_MAX + 2];
	struct secret s;

	memset(text, 'x', PASSWORD_MAX);
	assert_int_equal(secret_parse(text, &s), 0);
	secret_wipe(&s);
	text[PASSWORD_MAX] = 'x';
	assert_int_equal(secret_parse(text, &s), -EINVAL);
}

static void test_verifier_of_postgres(void **state)
{
	static const struct {
		const char *verifier, *password;
	} cases[] = {
		{PENCIL_VERIFIER, "pencil"},
		{UNICODE_VERIFIER, "p\u00c5ss\u2168\u00a0w\u00ad\ufb01"},
		{UNICODE_VERIFIER, "pA\u030assIX wfi"}, /* typed otherwise, the same when prepared */
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct scram_keys stored, derived;
		char text[256];

		assert_true(scram_verifier_parse(cases[i].verifier, &stored));
		assert_int_equal(stored.iterations, 4096);
		assert_int_equal(stored.salt_len, 16);
		assert_false(stored.has_client_key);
		assert_int_equal(scram_verifier_print(&stored, text, sizeof(text)), strlen(cases[i].verifier));
		assert_string_equal(text, cases[i].verifier);
		assert_int_equal(scram_verifier_print(&stored, text, strlen(cases[i].verifier)), -ENOSPC);
		assert_int_equal(scram_derive(cases[i].password, stored.salt, stored.salt_len, 4096, &derived), 0);
		assert_memory_equal(derived.stored_key, stored.stored_key, SCRAM_KEY);
		assert_memory_equal(derived.server_key, stored.server_key, SCRAM_KEY);
		assert_true(derived.has_client_key);
	}
}

static void test_damaged_verifiers(void **state)
{
#define KEYS "cVatn3qxsmZAEnQ3HWmko5/w/ICF2dfTnj1NBueeK+8=:0x94YE75cN13wz5iyasBRgOIADAoZOPyKVYRgygERuQ="
	static const char *const cases[] = {
		"",
		"SCRAM-SHA-1$4096:AksVoSP6pZ/mbvKKng0A9g==$" KEYS,
		"SCRAM-SHA-256$0:AksVoSP6pZ/mbvKKng0A9g==$" KEYS,
		"SCRAM-SHA-256$-1:AksVoSP6pZ/mbvKKng0A9g==$" KEYS,
		"SCRAM-SHA-256$2147483648:AksVoSP6pZ/mbvKKng0A9g==$" KEYS,
		"SCRAM-SHA-256$99999999999999999999:AksVoSP6pZ/mbvKKng0A9g==$" KEYS,
		"SCRAM-SHA-256$:AksVoSP6pZ/mbvKKng0A9g==$" KEYS,
		"SCRAM-SHA-256$4096:AksVoSP6pZ/mbvKKng0A9g=$" KEYS,
		"SCRAM-SHA-256$4096:AksVoSP6pZ/mbvKKng0A9g==$" KEYS "x",
		"SCRAM-SHA-256$4096:AksVoSP6pZ/mbvKKng0A9g==$AAAA:AAAA",
		"SCRAM-SHA-256$4096:AksVoSP6pZ/mbvKKng0A9g==",
		/* a salt of 65 bytes and more */
		"SCRAM-SHA-256$1:"
		"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA$" KEYS,
	};
	struct scram_keys keys;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_false(scram_verifier_parse(cases[i], &keys));
}

static void test_md5_response(void **state)
{
	struct secret plain, hash;
	char a[36], b[36], shadow[36];

	assert_int_equal(md5_text(SLICE_LITERAL("pencil"), SLICE_LITERAL("u_md5"), shadow), 0);
	assert_string_equal(shadow, PENCIL_MD5);
	assert_int_equal(secret_parse("pencil", &plain), 0);
	assert_int_equal(secret_parse(PENCIL_MD5, &hash), 0);
	assert_int_equal(md5_response(&plain, "u_md5", (const uint8_t *)"salt", a), 0);
	assert_int_equal(md5_response(&hash, "u_md5", (const uint8_t *)"salt", b), 0);
	assert_string_equal(a, b);
	assert_string_equal(a, "md5089f1d1cffb4b3fe1f582133acfe4584");
	secret_wipe(&plain);
	secret_wipe(&hash);
	assert_int_equal(md5_response(&plain, "u_md5", (const uint8_t *)"salt", a), -EINVAL);
}

static void test_secret_derive(void **state)
{
	struct secret a, b;

	assert_int_equal(secret_parse("pencil", &a), 0);
	assert_int_equal(secret_parse("pencil", &b), 0);
	assert_int_equal(secret_derive(&a, "app", mock_key), 0);
	assert_int_equal(secret_derive(&b, "app", mock_key), 0);
	assert_true(a.keys_derived);
	assert_int_equal(a.keys.iterations, 4096);
	assert_int_equal(a.keys.salt_len, 16);
	assert_memory_equal(a.keys.salt, b.keys.salt, 16); /* the same at each login */
	b.keys_derived = false;
	assert_int_equal(secret_derive(&b, "other", mock_key), 0);
	assert_memory_not_equal(a.keys.salt, b.keys.salt, 16);
	secret_wipe(&a);
	secret_wipe(&b);
}

/* ------------------------------------------------------------------ SASLprep */

static void test_saslprep(void **state)
{
	static const struct {
		const char *password, *prepared; /* NULL: used as it is */
	} cases[] = {
		{"", NULL},
		{"pencil", NULL},
		{"with\ttab\x7f", NULL}, /* ASCII isn't looked at, as in PostgreSQL */
		{"I\u00adX", "IX"},      /* RFC 4013, section 3 */
		{"\u00aa", "a"},
		{"\u2168", "IX"},
		{"\a\u00e9", NULL}, /* prohibited: a control character beside what isn't ASCII */
		{"\u0627"
		 "1"
		 "",
		 NULL}, /* right to left must also end so */
		{"\u0627"
		 "1"
		 "\u0628",
		 NULL},                  /* and may do so: it stays what it is */
		{"\u0627a\u0628", NULL}, /* but not with left-to-right between */
		{"a\u00a0b\u3000c", "a b c"},
		{"\u200b\u00e9", " \u00e9"}, /* a zero-width space is a space, before it is nothing */
		{"\u00ad", NULL},            /* nothing would be left */
		{"e\u0301", "\u00e9"},
		{"\u1e9b\u0323", "\u1e69"},
		{"q\u0307\u0323", "q\u0323\u0307"}, /* marks are put in order */
		{"\ufdfa",
		 "\u0635\u0644\u0649 \u0627\u0644\u0644\u0647 \u0639\u0644\u064a\u0647 \u0648\u0633\u0644\u0645"},
		{"\u1100\u1161\u11a8", "\uac01"},
		{"\uac00\u11a8", "\uac01"},
		{"\uff41\uff42", "ab"},
		{"\u0958", "\u0915\u093c"}, /* excluded from composition */
		{"\U0001f600", NULL},       /* not assigned in Unicode 3.2 */
		{"\ue000", NULL},           /* private use */
		{"\xff", NULL},
		{"\xc3", NULL},
		{"\xc0\x80", NULL},
		{"\xe0\x80\x80", NULL},
		{"\xed\xa0\x80", NULL},
		{"\xf4\x90\x80\x80", NULL},
		{"\xe2\x82", NULL},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char *prepared = saslprep(cases[i].password);

		assert_non_null(prepared);
		assert_string_equal(prepared, cases[i].prepared ? cases[i].prepared : cases[i].password);
		secret_free(prepared);
	}
}

/* The worst that a stranger can send: all marks, each of another class than the one before. */
static void test_saslprep_of_many_marks(void **state)
{
	static char password[PASSWORD_MAX + 1];
	char *prepared;

	for (size_t i = 0; i + 4 < PASSWORD_MAX; i += 4)
		memcpy(password + i, "\u0301\u0323", 4);
	prepared = saslprep(password);
	assert_non_null(prepared);
	assert_int_equal(strlen(prepared), strlen(password));
	assert_memory_equal(prepared, "\u0323\u0323", 4);
	secret_free(prepared);
}

/* ------------------------------------------------------------------ RFC 7677, section 3 */

#define CLIENT_NONCE "rOprNGfwEbeRWgbNEkqO"
#define SERVER_NONCE "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
#define CLIENT_FIRST "n,,n=user,r=" CLIENT_NONCE
#define SERVER_FIRST "r=" CLIENT_NONCE SERVER_NONCE ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
#define CLIENT_FINAL "c=biws,r=" CLIENT_NONCE SERVER_NONCE ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
#define SERVER_FINAL "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="

static struct scram_keys rfc_keys(void)
{
	struct scram_keys keys;
	uint8_t salt[16];

	assert_int_equal(base64_decode(SLICE_LITERAL("W22ZaJ0SNY7soEsUEjb6gQ=="), salt, sizeof(salt)), 16);
	assert_int_equal(scram_derive("pencil", salt, sizeof(salt), 4096, &keys), 0);
	return keys;
}

static void test_rfc_vector_server(void **state)
{
	struct scram_keys keys = rfc_keys();
	struct scram_server s;
	struct buf out = BUF_INIT(4096);

	scram_server_init(&s, &keys, false, SLICE_LITERAL(""), SERVER_NONCE);
	assert_int_equal(scram_server_first(&s, false, SLICE_LITERAL(CLIENT_FIRST), &out), AUTH_CONTINUE);
	assert_buf_is(&out, SERVER_FIRST);
	buf_clear(&out);
	assert_false(s.keys.has_client_key);
	assert_int_equal(scram_server_final(&s, SLICE_LITERAL(CLIENT_FINAL), &out), AUTH_DONE);
	assert_buf_is(&out, SERVER_FINAL);
	assert_true(s.keys.has_client_key);
	assert_memory_equal(s.keys.client_key, keys.client_key, SCRAM_KEY);
	scram_server_clear(&s);
	buf_free(&out);
}

static void test_rfc_vector_client(void **state)
{
	struct scram_client c;
	struct buf out = BUF_INIT(4096);
	struct secret secret;
	const char *why = NULL;

	assert_int_equal(secret_parse("pencil", &secret), 0);
	scram_client_init(&c, SCRAM_BIND_NONE, SLICE_LITERAL(""), CLIENT_NONCE);
	scram_client_first(&c, "user", &out);
	assert_buf_is(&out, CLIENT_FIRST);
	buf_clear(&out);
	assert_int_equal(scram_client_final(&c, &secret, SLICE_LITERAL(SERVER_FIRST), &out, &why), AUTH_CONTINUE);
	assert_buf_is(&out, CLIENT_FINAL);
	assert_int_equal(scram_client_verify(&c, SLICE_LITERAL(SERVER_FINAL), &why), AUTH_CONTINUE);
	assert_null(why);
	scram_client_clear(&c);
	secret_wipe(&secret);
	buf_free(&out);
}

/* ------------------------------------------------------------------ what the other side may get wrong */

static void test_server_reads_first(void **state)
{
	static const struct {
		const char *message;
		bool plus, offer;
		enum auth_step step;
	} cases[] = {
		{"n,,n=,r=abc", false, false, AUTH_CONTINUE},
		{"n,,n=,r=abc", false, true, AUTH_CONTINUE}, /* the client can't bind: let it go, as PostgreSQL does */
		{"y,,n=,r=abc", false, false, AUTH_CONTINUE},
		{"y,,n=,r=abc", false, true, AUTH_FAILED}, /* our offer got lost on the way */
		{"p=tls-server-end-point,,n=,r=abc", true, true, AUTH_CONTINUE},
		{"p=tls-server-end-point,,n=,r=abc", false, true, AUTH_MALFORMED},
		{"p=tls-unique,,n=,r=abc", true, true, AUTH_MALFORMED},
		{"p=tls-server-end-point,,n=,r=abc", true, false, AUTH_MALFORMED},
		{"n,,n=,r=abc", true, true, AUTH_MALFORMED},
		{"y,,n=,r=abc", true, true, AUTH_MALFORMED},
		{"n,,n=u,r=abc,x=1,Y=2", false, false, AUTH_CONTINUE},
		{"n,,m=ext,n=,r=abc", false, false, AUTH_MALFORMED},
		{"n,a=admin,n=,r=abc", false, false, AUTH_MALFORMED},
		{"n,,n=,r=", false, false, AUTH_MALFORMED},
		{"n,,n=,r=a c", false, false, AUTH_MALFORMED},
		{"n,,n=,r=\xc3\xa9", false, false, AUTH_MALFORMED},
		{"n,,n=,r=abc,", false, false, AUTH_MALFORMED},
		{"n,,n=,r=abc,1=2", false, false, AUTH_MALFORMED},
		{"n,,n=,r=abc,x", false, false, AUTH_MALFORMED},
		{"n,,r=abc,n=", false, false, AUTH_MALFORMED},
		{"n,,n=", false, false, AUTH_MALFORMED},
		{"n,,", false, false, AUTH_MALFORMED},
		{"n", false, false, AUTH_MALFORMED},
		{"x,,n=,r=abc", false, false, AUTH_MALFORMED},
		{"", false, false, AUTH_MALFORMED},
	};
	struct scram_keys keys = {.iterations = 4096, .salt_len = 16};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct scram_server s;
		struct buf out = BUF_INIT(4096);
		struct slice end_point = slice_str(cases[i].offer ? "0123456789abcdef0123456789abcdef" : "");

		scram_server_init(&s, &keys, false, end_point, "nonce");
		assert_int_equal(scram_server_first(&s, cases[i].plus, slice_str(cases[i].message), &out),
				 cases[i].step);
		assert_false(out.failed);
		scram_server_clear(&s);
		buf_free(&out);
	}
}

#define WHOLE_NONCE CLIENT_NONCE SERVER_NONCE
#define PROOF       "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="

static void test_server_reads_final(void **state)
{
	static const struct {
		struct slice message;
		bool doomed;
		enum auth_step step;
	} cases[] = {
		{SLICE_LITERAL(CLIENT_FINAL), false, AUTH_DONE},
		{SLICE_LITERAL(CLIENT_FINAL), true, AUTH_FAILED},
		{SLICE_LITERAL("c=biws,r=" WHOLE_NONCE ",x=1," PROOF), false, AUTH_FAILED}, /* not what was signed */
		{SLICE_LITERAL("c=biws,r=" WHOLE_NONCE ",p=AHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="), false,
		 AUTH_FAILED},
		{SLICE_LITERAL("c=eSws,r=" WHOLE_NONCE "," PROOF), false, AUTH_MALFORMED},
		{SLICE_LITERAL("c=biws,r=" CLIENT_NONCE "," PROOF), false, AUTH_MALFORMED},
		{SLICE_LITERAL("c=biws,r=x" WHOLE_NONCE "," PROOF), false, AUTH_MALFORMED},
		{SLICE_LITERAL("c=biws,r=" WHOLE_NONCE ",p=AAAA"), false, AUTH_MALFORMED},
		{SLICE_LITERAL("c=biws,r=" WHOLE_NONCE ",p="), false, AUTH_MALFORMED},
		{SLICE_LITERAL("c=biws,r=" WHOLE_NONCE "," PROOF ",x=1"), false, AUTH_MALFORMED},
		{SLICE_LITERAL("c=biws,r=" WHOLE_NONCE "," PROOF ","), false, AUTH_MALFORMED},
		{SLICE_LITERAL("c=biws,r=" WHOLE_NONCE "," PROOF "\0"), false, AUTH_MALFORMED},
		{SLICE_LITERAL("c=biws,r=" WHOLE_NONCE), false, AUTH_MALFORMED},
		{SLICE_LITERAL("r=" WHOLE_NONCE "," PROOF), false, AUTH_MALFORMED},
		{SLICE_LITERAL(""), false, AUTH_MALFORMED},
	};
	struct scram_keys keys = rfc_keys();

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct scram_server s;
		struct buf out = BUF_INIT(4096);

		scram_server_init(&s, &keys, cases[i].doomed, SLICE_LITERAL(""), SERVER_NONCE);
		assert_int_equal(scram_server_first(&s, false, SLICE_LITERAL(CLIENT_FIRST), &out), AUTH_CONTINUE);
		assert_int_equal(scram_server_final(&s, cases[i].message, &out), cases[i].step);
		assert_int_equal(s.keys.has_client_key, cases[i].step == AUTH_DONE);
		scram_server_clear(&s);
		buf_free(&out);
	}
}

static void test_client_reads_first(void **state)
{
#define SALT ",s=W22ZaJ0SNY7soEsUEjb6gQ=="
	static const struct {
		const char *message;
		enum auth_step step;
	} cases[] = {
		{SERVER_FIRST, AUTH_CONTINUE},
		{SERVER_FIRST ",x=1", AUTH_CONTINUE},
		{"r=" CLIENT_NONCE SALT ",i=4096", AUTH_MALFORMED}, /* nothing of its own */
		{"r=other" SERVER_NONCE SALT ",i=4096", AUTH_MALFORMED},
		{"r=" CLIENT_NONCE "\x7f" SALT ",i=4096", AUTH_MALFORMED},
		{"m=x,r=" WHOLE_NONCE SALT ",i=4096", AUTH_MALFORMED},
		{"r=" WHOLE_NONCE ",s=,i=4096", AUTH_MALFORMED},
		{"r=" WHOLE_NONCE ",s=W,i=4096", AUTH_MALFORMED},
		{"r=" WHOLE_NONCE SALT ",i=0", AUTH_MALFORMED},
		{"r=" WHOLE_NONCE SALT ",i=-1", AUTH_MALFORMED},
		{"r=" WHOLE_NONCE SALT ",i=", AUTH_MALFORMED},
		{"r=" WHOLE_NONCE SALT ",i=4096x", AUTH_MALFORMED},
		{"r=" WHOLE_NONCE SALT ",i=4294967297", AUTH_MALFORMED},
		{"r=" WHOLE_NONCE SALT ",i=2147483647", AUTH_FAILED}, /* hours of work */
		{"r=" WHOLE_NONCE SALT, AUTH_MALFORMED},
		{"e=other-error", AUTH_MALFORMED},
		{"", AUTH_MALFORMED},
	};
	struct secret secret;

	assert_int_equal(secret_parse("pencil", &secret), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct scram_client c;
		struct buf out = BUF_INIT(4096);
		const char *why = NULL;

		scram_client_init(&c, SCRAM_BIND_NONE, SLICE_LITERAL(""), CLIENT_NONCE);
		scram_client_first(&c, "user", &out);
		assert_int_equal(scram_client_final(&c, &secret, slice_str(cases[i].message), &out, &why),
				 cases[i].step);
		assert_int_equal(why != NULL, cases[i].step != AUTH_CONTINUE);
		scram_client_clear(&c);
		buf_free(&out);
	}
	secret_wipe(&secret);
}

static void test_client_reads_final(void **state)
{
	static const struct {
		const char *message;
		enum auth_step step;
	} cases[] = {
		{SERVER_FINAL, AUTH_CONTINUE},
		{SERVER_FINAL ",x=1", AUTH_CONTINUE},
		{"v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", AUTH_FAILED},
		{"e=invalid-proof", AUTH_FAILED},
		{"v=AAAA", AUTH_MALFORMED},
		{"v=", AUTH_MALFORMED},
		{SERVER_FINAL ",", AUTH_MALFORMED},
		{"x", AUTH_MALFORMED},
		{"", AUTH_MALFORMED},
	};
	struct secret secret;

	assert_int_equal(secret_parse("pencil", &secret), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct scram_client c;
		struct buf out = BUF_INIT(4096);
		const char *why = NULL;

		scram_client_init(&c, SCRAM_BIND_NONE, SLICE_LITERAL(""), CLIENT_NONCE);
		scram_client_first(&c, "user", &out);
		assert_int_equal(scram_client_final(&c, &secret, SLICE_LITERAL(SERVER_FIRST), &out, &why),
				 AUTH_CONTINUE);
		assert_int_equal(scram_client_verify(&c, slice_str(cases[i].message), &why), cases[i].step);
		scram_client_clear(&c);
		buf_free(&out);
	}
	secret_wipe(&secret);
}

/* ------------------------------------------------------------------ derived keys that are kept */

static void test_scram_cache(void **state)
{
	struct scram_cache *cache = scram_cache_new();
	struct secret by_cache[3] = {0}, derived = {0}, other = {0}, none = {0}, verifier = {0};

	assert_non_null(cache);
	assert_int_equal(secret_parse("pencil", &derived), 0);
	assert_int_equal(secret_derive(&derived, "user", mock_key), 0);
	for (size_t i = 0; i < ARRAY_SIZE(by_cache); i++) {
		assert_int_equal(secret_parse("pencil", &by_cache[i]), 0);
		assert_int_equal(scram_cache_derive(cache, &by_cache[i], "user", mock_key), 0);
		assert_true(by_cache[i].keys_derived);
		assert_memory_equal(&by_cache[i].keys, &derived.keys, sizeof(derived.keys));
		secret_wipe(&by_cache[i]);
	}
	assert_int_equal(secret_parse("eraser", &other), 0); /* the password has changed */
	assert_int_equal(scram_cache_derive(cache, &other, "user", mock_key), 0);
	assert_memory_not_equal(other.keys.stored_key, derived.keys.stored_key, SCRAM_KEY);
	assert_memory_equal(other.keys.salt, derived.keys.salt, derived.keys.salt_len);
	secret_wipe(&other);
	assert_int_equal(secret_parse("pencil", &other), 0); /* another user of the same password */
	assert_int_equal(scram_cache_derive(cache, &other, "user2", mock_key), 0);
	assert_memory_not_equal(other.keys.stored_key, derived.keys.stored_key, SCRAM_KEY);

	assert_int_equal(scram_cache_derive(cache, &none, "nobody", mock_key), 0);
	assert_false(none.keys_derived);
	assert_int_equal(none.kind, SECRET_NONE);
	assert_int_equal(secret_parse(PENCIL_VERIFIER, &verifier), 0);
	assert_int_equal(scram_cache_derive(cache, &verifier, "user", mock_key), 0);
	assert_int_equal(verifier.kind, SECRET_SCRAM);
	assert_false(verifier.keys.has_client_key);
	secret_wipe(&verifier);
	secret_wipe(&other);
	secret_wipe(&derived);
	scram_cache_free(cache);
	scram_cache_free(NULL);
}

/* Many names: old ones make room, and none is ever mistaken for another. */
static void test_scram_cache_is_bounded(void **state)
{
	struct scram_cache *cache = scram_cache_new();
	char user[16];

	for (unsigned i = 0; i < 200; i++) {
		struct secret secret = {0}, derived = {0};

		snprintf(user, sizeof(user), "u%u", i % 100);
		assert_int_equal(secret_parse(user, &secret), 0);
		assert_int_equal(scram_cache_derive(cache, &secret, user, mock_key), 0);
		if (i % 50 == 0) {
			assert_int_equal(secret_parse(user, &derived), 0);
			assert_int_equal(secret_derive(&derived, user, mock_key), 0);
			assert_memory_equal(&secret.keys, &derived.keys, sizeof(derived.keys));
		}
		secret_wipe(&derived);
		secret_wipe(&secret);
	}
	scram_cache_free(cache);
}

static void test_secret_equal(void **state)
{
	static const char *const texts[] = {"", "pencil", "pencil2",
					    "md5"
					    "0123456789abcdef0123456789abcdef",
					    PENCIL_VERIFIER};
	struct secret a = {0}, b = {0};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		for (size_t j = 0; j < ARRAY_SIZE(texts); j++) {
			assert_int_equal(secret_parse(texts[i], &a), 0);
			assert_int_equal(secret_parse(texts[j], &b), 0);
			assert_int_equal(secret_equal(&a, &b), i == j);
			secret_wipe(&a);
			secret_wipe(&b);
		}
	assert_int_equal(secret_parse(PENCIL_VERIFIER, &a), 0);
	assert_int_equal(secret_copy(&a, &b), 0);
	b.keys.has_client_key = true; /* opens a server, which the other does not */
	assert_false(secret_equal(&a, &b));
	secret_wipe(&a);
	secret_wipe(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_base64),
		cmocka_unit_test(test_secret_parse),
		cmocka_unit_test(test_secret_is_bounded),
		cmocka_unit_test(test_verifier_of_postgres),
		cmocka_unit_test(test_damaged_verifiers),
		cmocka_unit_test(test_md5_response),
		cmocka_unit_test(test_secret_derive),
		cmocka_unit_test(test_saslprep),
		cmocka_unit_test(test_saslprep_of_many_marks),
		cmocka_unit_test(test_rfc_vector_server),
		cmocka_unit_test(test_rfc_vector_client),
		cmocka_unit_test(test_server_reads_first),
		cmocka_unit_test(test_server_reads_final),
		cmocka_unit_test(test_client_reads_first),
		cmocka_unit_test(test_client_reads_final),
		cmocka_unit_test(test_scram_cache),
		cmocka_unit_test(test_scram_cache_is_bounded),
		cmocka_unit_test(test_secret_equal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
