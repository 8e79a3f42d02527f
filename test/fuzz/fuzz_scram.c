/*
 * Fuzz target: logins, both sides. The first byte chooses the side, the method and the secret; then come the other
 * side's messages, each behind a length of two bytes. No such login may succeed by chance where a secret is asked for.
 *
 * In what the "server" sends, "@@@@@@@@@@@@@@@@@@@@@@@@" stands for our nonce, which bytes can't foresee.
 */
#include "base/buf.h"
#include "wire/frame.h"
#include "wire/reader.h"
#include "wire/scram.h"

#define NONCE_LEN 24u
#define END_POINT SLICE_LITERAL("0123456789abcdef0123456789abcdef")

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define VERIFIER \
	"SCRAM-SHA-256$1:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=" \
	":wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="

static const char *const secrets[] = {"", "pencil", "md56520b9e6d1360465923cccaa4a18e5f0", VERIFIER};

static const uint8_t mock_key[32] = "a key that only the tests have.";

/* A hostile server's iterations cost time, not safety; here they would only slow the search. */
static bool asks_for_much_work(struct slice message)
{
	const uint8_t *at = memmem(message.bytes, message.len, ",i=", 3);
	const uint8_t *end = message.bytes + message.len;
	size_t digits = 0;

	for (at = at ? at + 3 : end; at < end && *at >= '0' && *at <= '9'; at++)
		digits++;
	return digits > 2;
}

/* The message in memory of its own, of exactly its size. */
static uint8_t *copy_message(struct slice message, const char *nonce)
{
	uint8_t *copy = malloc(MAX(message.len, (size_t)1)), *at;

	if (!copy)
		abort();
	if (message.len > 0)
		memcpy(copy, message.bytes, message.len);
	at = memmem(copy, message.len, "@@@@@@@@@@@@@@@@@@@@@@@@", NONCE_LEN);
	if (at && nonce)
		memcpy(at, nonce, NONCE_LEN);
	return copy;
}

/* What was sent is one frame, whole. */
static void check_out(const struct buf *out, uint8_t type)
{
	struct frame f;

	if (out->len == 0)
		return;
	assert(frame_read(out->bytes, out->len, &f) == FRAME_WHOLE);
	assert(f.type == type && frame_size(&f) == out->len);
}

static void log_in_client(uint8_t choice, const struct secret *secret, struct reader *r)
{
	static const enum auth_method methods[] = {AUTH_PASSWORD, AUTH_MD5, AUTH_SCRAM, AUTH_SCRAM};
	enum auth_method method = methods[choice & 3];
	bool on_tls = (choice & 3) == 3;
	struct client_auth *auth = client_auth_new(method, "user", secret, mock_key, END_POINT, on_tls);
	struct buf out = BUF_INIT(1 << 20);
	enum auth_step step;

	if (!auth)
		abort();
	step = client_auth_begin(auth, &out);
	assert(step == AUTH_CONTINUE);
	while (step == AUTH_CONTINUE && reader_left(r) > 0) {
		size_t len = read_u16(r);
		struct slice message = read_slice(r, MIN(len, reader_left(r)));
		uint8_t *copy = copy_message(message, NULL);

		buf_clear(&out);
		step = client_auth_answer(auth, copy, message.len, &out);
		free(copy);
		check_out(&out, 'R');
		assert(step == AUTH_CONTINUE || step == AUTH_DONE || out.len == 0);
	}
	if (step == AUTH_DONE) /* a clear password can be guessed; a fresh nonce or salt can't */
		assert(method == AUTH_PASSWORD && secret->kind != SECRET_NONE && client_auth_password(auth));
	else
		assert(!client_auth_password(auth) && !client_auth_keys(auth));
	client_auth_free(auth);
	buf_free(&out);
}

static void log_in_to_server(uint8_t choice, const struct secret *secret, struct reader *r)
{
	struct slice end_point = choice & 2 ? END_POINT : SLICE_LITERAL("");
	struct server_auth *auth = server_auth_new("user", secret, end_point, /* on_tls= */ choice & 1);
	enum auth_step step = AUTH_CONTINUE;
	struct buf out = BUF_INIT(1 << 20);
	char nonce[NONCE_LEN];
	bool has_nonce = false;

	if (!auth)
		abort();
	while (step == AUTH_CONTINUE && reader_left(r) > 0) {
		size_t len = read_u16(r);
		struct slice message = read_slice(r, MIN(len, reader_left(r)));
		uint8_t *copy = copy_message(message, has_nonce ? nonce : NULL);
		const char *why = NULL;
		const uint8_t *at;

		buf_clear(&out);
		if (!asks_for_much_work(message))
			step = server_auth_message(auth, copy, message.len, &out, &why);
		free(copy);
		check_out(&out, 'p');
		assert(!(step == AUTH_FAILED || step == AUTH_MALFORMED) == !why);
		at = out.len > 0 ? memmem(out.bytes, out.len, "n=,r=", 5) : NULL;
		if (at) {
			assert((size_t)(out.bytes + out.len - at) == 5 + NONCE_LEN);
			memcpy(nonce, at + 5, NONCE_LEN);
			has_nonce = true;
		}
	}
	if (has_nonce) /* nobody here knows our keys */
		assert(step != AUTH_DONE);
	assert(server_auth_method(auth));
	server_auth_free(auth);
	buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct reader r = reader_make(data, size);
	uint8_t choice = read_u8(&r);
	struct secret secret;

	if (size < 1 || secret_parse(secrets[choice >> 6], &secret) < 0)
		return 0;
	/* The bytes behind the keys let SCRAM run without a derivation, which takes too long to search with. */
	if (secret.kind == SECRET_SCRAM)
		secret.keys.has_client_key = true;
	if (choice & 0x20)
		log_in_client(choice, &secret, &r);
	else
		log_in_to_server(choice, &secret, &r);
	secret_wipe(&secret);
	return 0;
}
