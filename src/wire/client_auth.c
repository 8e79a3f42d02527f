/*
 * Logs in a client: the Authentication* messages around a clear password, MD5 and SCRAM.
 *
 *   NEW --begin--> WANTS_PASSWORD -----------------------------------------------> OVER
 *        |-------> WANTS_MD5 ----------------------------------------------------> OVER
 *        `-------> WANTS_MECHANISM -> [WANTS_FIRST] -> WANTS_PROOF --------------> OVER
 *                                     (when no data came with the mechanism)
 *
 * Invariant: who has no (usable) secret is given a made-up one of the same shape and is `doomed`; all is computed with
 * it, and only the verdict looks at `doomed`.
 */
#include "wire/message.h"
#include "wire/reader.h"
#include "wire/scram_priv.h"

struct client_auth {
	enum { NEW, WANTS_PASSWORD, WANTS_MD5, WANTS_MECHANISM, WANTS_FIRST, WANTS_PROOF, OVER } state;
	enum auth_method method; /* the one that is used, not the one that was asked for */
	char *user;
	struct secret secret; /* PLAIN or MD5; or SCRAM, made up or derived where there is none */
	bool doomed;
	uint8_t md5_salt[4];
	struct scram_server scram;
	bool plus; /* chosen by the client */
	bool accepted;
	char *password; /* sent in clear */
};

/* ------------------------------------------------------------------ made-up secrets */

/* Bytes that only this process can know, the same for a name at each login. */
static int mock_bytes(const uint8_t mock_key[32], const char *what, const char *user, uint8_t out[SCRAM_KEY])
{
	const struct slice parts[] = {slice_str(what), slice_str(user)};

	return hmac_sha256(slice_make(mock_key, 32), parts, ARRAY_SIZE(parts), out);
}

static int mock_scram(const uint8_t mock_key[32], const char *user, struct secret *ret)
{
	struct secret secret = {.kind = SECRET_SCRAM, .keys_derived = true};
	int r = secret_salt(mock_key, user, secret.keys.salt);

	secret.keys.salt_len = SCRAM_MOCK_SALT;
	secret.keys.iterations = SCRAM_ITERATIONS;
	if (r == 0)
		r = mock_bytes(mock_key, "stored key:", user, secret.keys.stored_key);
	if (r == 0)
		r = mock_bytes(mock_key, "server key:", user, secret.keys.server_key);
	if (r == 0)
		*ret = secret;
	return r;
}

static int mock_md5(const uint8_t mock_key[32], const char *user, struct secret *ret)
{
	char text[MD5_TEXT];
	int r = md5_text(slice_make(mock_key, 32), slice_str(user), text);

	return r < 0 ? r : secret_parse(text, ret);
}

/*
 * Puts into auth->secret what the method needs. One is made up for every login and dropped where `from` serves: made
 * up only for unknown users, it would take them measurably longer.
 */
static int choose_secret(struct client_auth *auth, const struct secret *from, const uint8_t mock_key[32])
{
	enum secret_kind kind = from ? from->kind : SECRET_NONE;
	bool serves = auth->method == AUTH_SCRAM ? kind == SECRET_PLAIN || kind == SECRET_SCRAM : kind != SECRET_NONE;
	int r = auth->method == AUTH_MD5 ? mock_md5(mock_key, auth->user, &auth->secret)
					 : mock_scram(mock_key, auth->user, &auth->secret);

	auth->doomed = !serves;
	if (r < 0 || !serves)
		return r;
	secret_wipe(&auth->secret);
	r = secret_copy(from, &auth->secret);
	return r < 0 || auth->method != AUTH_SCRAM ? r : secret_derive(&auth->secret, auth->user, mock_key);
}

struct client_auth *client_auth_new(enum auth_method method, const char *user, const struct secret *secret,
				    const uint8_t mock_key[32], struct slice end_point, bool on_tls)
{
	struct client_auth *auth = calloc(1, sizeof(*auth));
	char nonce[SCRAM_NONCE_TEXT];

	if (!auth)
		return NULL;
	assert(method == AUTH_PASSWORD || method == AUTH_MD5 || method == AUTH_SCRAM);
	auth->method = method;
	if (method == AUTH_MD5 && secret && secret->kind == SECRET_SCRAM)
		auth->method = AUTH_SCRAM;
	auth->user = strdup(user);
	if (!auth->user || choose_secret(auth, secret, mock_key) < 0 || scram_nonce(nonce) < 0 ||
	    random_bytes(auth->md5_salt, sizeof(auth->md5_salt)) < 0) {
		client_auth_free(auth);
		return NULL;
	}
	if (auth->method == AUTH_SCRAM)
		scram_server_init(&auth->scram, &auth->secret.keys, auth->doomed,
				  on_tls ? end_point : SLICE_LITERAL(""), nonce);
	return auth;
}

void client_auth_free(struct client_auth *auth)
{
	if (!auth)
		return;
	scram_server_clear(&auth->scram);
	secret_wipe(&auth->secret);
	secret_free(auth->password);
	free(auth->user);
	wipe(auth, sizeof(*auth));
	free(auth);
}

/* ------------------------------------------------------------------ the first message */

static size_t request_begin(struct buf *out, enum auth_request request)
{
	size_t at = message_begin(out, 'R');

	message_u32(out, request);
	return at;
}

enum auth_step client_auth_begin(struct client_auth *auth, struct buf *out)
{
	size_t at;

	if (auth->state != NEW)
		return AUTH_FAILED;
	switch (auth->method) {
	case AUTH_PASSWORD:
		auth->state = WANTS_PASSWORD;
		message_end(out, request_begin(out, REQUEST_PASSWORD));
		return AUTH_CONTINUE;
	case AUTH_MD5:
		auth->state = WANTS_MD5;
		at = request_begin(out, REQUEST_MD5);
		buf_add(out, auth->md5_salt, sizeof(auth->md5_salt));
		message_end(out, at);
		return AUTH_CONTINUE;
	case AUTH_SCRAM:
		auth->state = WANTS_MECHANISM;
		at = request_begin(out, REQUEST_SASL);
		if (auth->scram.offers_plus)
			message_cstring(out, SCRAM_PLUS_NAME);
		message_cstring(out, SCRAM_NAME);
		message_u8(out, 0);
		message_end(out, at);
		return AUTH_CONTINUE;
	default: /* nothing to ask for: not for us to decide */
		auth->state = OVER;
		return AUTH_FAILED;
	}
}

/* ------------------------------------------------------------------ the client's answers */

/* Compares hashes, so that time tells nothing of the length either. */
static int equal_text(const char *a, const char *b, bool *ret)
{
	uint8_t hash_a[SCRAM_KEY], hash_b[SCRAM_KEY];
	int r = sha256(a, strlen(a), hash_a);

	if (r == 0)
		r = sha256(b, strlen(b), hash_b);
	if (r == 0)
		*ret = equal_in_constant_time(hash_a, hash_b, SCRAM_KEY);
	wipe(hash_a, sizeof(hash_a));
	wipe(hash_b, sizeof(hash_b));
	return r;
}

/*
 * Keys are derived for every kind of secret, though only SCRAM's need it: else the time would tell which kind a user
 * has, and whether there is such a user.
 */
static int check_password(struct client_auth *auth, const char *password, bool *ret_right)
{
	const struct secret *secret = &auth->secret;
	struct scram_keys keys = {0};
	const struct scram_keys *like = &secret->keys;
	uint8_t salt[SCRAM_MOCK_SALT] = {0};
	char shadow[MD5_TEXT];
	int r;

	if (secret->kind == SECRET_SCRAM)
		r = scram_derive(password, like->salt, like->salt_len, like->iterations, &keys);
	else
		r = scram_derive(password, salt, sizeof(salt), SCRAM_ITERATIONS, &keys);
	if (r < 0)
		return r;
	switch (secret->kind) {
	case SECRET_SCRAM:
		*ret_right = equal_in_constant_time(keys.stored_key, like->stored_key, SCRAM_KEY);
		break;
	case SECRET_MD5:
		r = md5_text(slice_str(password), slice_str(auth->user), shadow);
		*ret_right = r == 0 && equal_in_constant_time(shadow, secret->text, MD5_TEXT);
		break;
	default:
		r = equal_text(password, secret->text, ret_right);
		break;
	}
	wipe(&keys, sizeof(keys));
	wipe(shadow, sizeof(shadow));
	return r;
}

/* A PasswordMessage's string: all of the body. */
static bool read_password(const uint8_t *body, size_t len, struct slice *ret)
{
	struct reader r = reader_make(body, len);

	*ret = read_cstring(&r);
	return reader_done(&r) && ret->len <= PASSWORD_MAX;
}

static enum auth_step answer_password(struct client_auth *auth, const uint8_t *body, size_t len, struct buf *out)
{
	struct slice password;
	bool right = false;

	auth->state = OVER;
	if (!read_password(body, len, &password))
		return AUTH_MALFORMED;
	if (password.len == 0) /* PostgreSQL lets nobody in with none, whatever is stored */
		return AUTH_FAILED;
	auth->password = strdup((const char *)password.bytes);
	if (!auth->password || check_password(auth, auth->password, &right) < 0)
		return auth_no_memory(out);
	return right && !auth->doomed ? AUTH_DONE : AUTH_FAILED;
}

static enum auth_step answer_md5(struct client_auth *auth, const uint8_t *body, size_t len, struct buf *out)
{
	struct slice response;
	char expected[MD5_TEXT];
	bool right;

	auth->state = OVER;
	if (!read_password(body, len, &response))
		return AUTH_MALFORMED;
	if (md5_response(&auth->secret, auth->user, auth->md5_salt, expected) < 0)
		return auth_no_memory(out);
	right = response.len == MD5_TEXT - 1 && equal_in_constant_time(response.bytes, expected, MD5_TEXT - 1);
	wipe(expected, sizeof(expected));
	return right && !auth->doomed ? AUTH_DONE : AUTH_FAILED;
}

static enum auth_step answer_first(struct client_auth *auth, struct slice message, struct buf *out)
{
	size_t at = request_begin(out, REQUEST_SASL_CONTINUE);
	enum auth_step step = scram_server_first(&auth->scram, auth->plus, message, out);

	message_end(out, at);
	auth->state = WANTS_PROOF;
	return step;
}

static enum auth_step answer_mechanism(struct client_auth *auth, const uint8_t *body, size_t len, struct buf *out)
{
	struct reader r = reader_make(body, len);
	struct slice mechanism = read_cstring(&r), message;
	uint32_t message_len = read_u32(&r);
	bool has_message = message_len != UINT32_MAX;

	message = has_message ? read_slice(&r, message_len) : SLICE_LITERAL("");
	auth->plus = slice_equal(mechanism, slice_str(SCRAM_PLUS_NAME));
	if (!reader_done(&r) || !(auth->plus ? auth->scram.offers_plus : slice_equal(mechanism, slice_str(SCRAM_NAME))))
		return AUTH_MALFORMED;
	if (has_message)
		return answer_first(auth, message, out);
	auth->state = WANTS_FIRST;
	message_end(out, request_begin(out, REQUEST_SASL_CONTINUE));
	return AUTH_CONTINUE;
}

static enum auth_step answer_proof(struct client_auth *auth, struct slice message, struct buf *out)
{
	size_t at = request_begin(out, REQUEST_SASL_FINAL);
	enum auth_step step = scram_server_final(&auth->scram, message, out);

	message_end(out, at);
	auth->state = OVER;
	return step;
}

enum auth_step client_auth_answer(struct client_auth *auth, const uint8_t *body, size_t len, struct buf *out)
{
	size_t sent = out->len;
	enum auth_step step = AUTH_MALFORMED;

	switch (auth->state) {
	case WANTS_PASSWORD:
		step = answer_password(auth, body, len, out);
		break;
	case WANTS_MD5:
		step = answer_md5(auth, body, len, out);
		break;
	case WANTS_MECHANISM:
		step = answer_mechanism(auth, body, len, out);
		break;
	case WANTS_FIRST:
		step = answer_first(auth, slice_make(body, len), out);
		break;
	case WANTS_PROOF:
		step = answer_proof(auth, slice_make(body, len), out);
		break;
	case NEW:
	case OVER:
		break;
	}
	if (step == AUTH_FAILED || step == AUTH_MALFORMED) {
		auth->state = OVER;
		out->len = sent; /* a message begun and not to be sent */
	}
	auth->accepted = step == AUTH_DONE;
	return step;
}

const char *client_auth_password(const struct client_auth *auth)
{
	return auth->accepted ? auth->password : NULL;
}

const struct scram_keys *client_auth_keys(const struct client_auth *auth)
{
	return auth->accepted && auth->method == AUTH_SCRAM ? &auth->scram.keys : NULL;
}
