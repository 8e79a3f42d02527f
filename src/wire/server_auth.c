/*
 * Logs in to a server: answers its Authentication* messages.
 *
 *   NEW ----------------------> DONE             the server asks for nothing
 *    |-> SENT_PASSWORD -------> DONE             in clear, or MD5
 *    `-> SENT_FIRST -> SENT_PROOF -> VERIFIED -> DONE
 *
 * Invariant: a server that began SCRAM is only believed (DONE) after its signature was right; AuthenticationOk in any
 * state before that is refused, as is a second request.
 */
#include "wire/message.h"
#include "wire/reader.h"
#include "wire/scram_priv.h"

#define MECHANISMS_MAX 64u

struct server_auth {
	enum { NEW, SENT_PASSWORD, SENT_FIRST, SENT_PROOF, VERIFIED, DONE, BROKEN } state;
	char *user;
	struct secret secret;
	uint8_t end_point[END_POINT_MAX];
	size_t end_point_len;
	bool on_tls;
	const char *method;
	struct scram_client scram;
};

struct server_auth *server_auth_new(const char *user, const struct secret *secret, struct slice end_point, bool on_tls)
{
	struct server_auth *auth = calloc(1, sizeof(*auth));

	if (!auth)
		return NULL;
	auth->user = strdup(user);
	if (!auth->user || (secret && secret_copy(secret, &auth->secret) < 0)) {
		server_auth_free(auth);
		return NULL;
	}
	auth->method = "trust";
	auth->on_tls = on_tls;
	if (on_tls && end_point.len > 0 && end_point.len <= sizeof(auth->end_point)) {
		memcpy(auth->end_point, end_point.bytes, end_point.len);
		auth->end_point_len = end_point.len;
	}
	return auth;
}

void server_auth_free(struct server_auth *auth)
{
	if (!auth)
		return;
	scram_client_clear(&auth->scram);
	secret_wipe(&auth->secret);
	free(auth->user);
	wipe(auth, sizeof(*auth));
	free(auth);
}

/* ------------------------------------------------------------------ passwords */

static enum auth_step send_password(struct server_auth *auth, struct buf *out, const char **why)
{
	auth->method = "password";
	if (auth->secret.kind == SECRET_NONE)
		return auth_fail(why, "the server asks for a password, and none is known for the user");
	if (auth->secret.kind != SECRET_PLAIN)
		return auth_fail(why, "the server asks for the password in clear, and only a hash of it is known");
	message_password(out, auth->secret.text);
	auth->state = SENT_PASSWORD;
	return AUTH_CONTINUE;
}

static enum auth_step send_md5(struct server_auth *auth, struct slice salt, struct buf *out, const char **why)
{
	char response[MD5_TEXT];
	int r;

	auth->method = "md5";
	if (salt.len != 4)
		return auth_malformed(why, "the server's MD5 salt has a wrong length");
	if (auth->secret.kind == SECRET_NONE)
		return auth_fail(why, "the server asks for a password, and none is known for the user");
	if (auth->secret.kind == SECRET_SCRAM)
		return auth_fail(why, "the server asks for MD5, and of the user only SCRAM keys are known");
	r = md5_response(&auth->secret, auth->user, salt.bytes, response);
	if (r == -ENOTSUP)
		return auth_fail(why, "the server asks for MD5, which OpenSSL's policy forbids here");
	if (r < 0) {
		out->failed = true;
		return auth_fail(why, "out of memory");
	}
	message_password(out, response);
	wipe(response, sizeof(response));
	auth->state = SENT_PASSWORD;
	return AUTH_CONTINUE;
}

/* ------------------------------------------------------------------ SASL */

/* The mechanisms are a list of names that an empty one ends. */
static bool read_mechanisms(struct reader *r, bool *ret_scram, bool *ret_plus)
{
	*ret_scram = *ret_plus = false;
	for (unsigned i = 0; i < MECHANISMS_MAX; i++) {
		struct slice name = read_cstring(r);

		if (name.len == 0)
			return reader_done(r);
		*ret_scram |= slice_equal(name, slice_str(SCRAM_NAME));
		*ret_plus |= slice_equal(name, slice_str(SCRAM_PLUS_NAME));
	}
	return false;
}

/*
 * Binds to the channel wherever both sides can. Where we could and the server doesn't offer it, 'y' says so: then a
 * server that did offer it learns that its offer was removed on the way.
 */
static enum auth_step choose_binding(const struct server_auth *auth, bool scram, bool plus, enum scram_flag *ret,
				     const char **why)
{
	bool can_bind = auth->end_point_len > 0;

	if (plus && !auth->on_tls)
		return auth_fail(why, "the server offers SCRAM-SHA-256-PLUS over a connection that is not encrypted");
	if (plus && can_bind)
		*ret = SCRAM_BIND;
	else if (scram)
		*ret = can_bind ? SCRAM_BIND_UNASKED : SCRAM_BIND_NONE;
	else if (plus)
		return auth_fail(why, "the server insists on channel binding, and its certificate allows none");
	else
		return auth_fail(why, "the server offers no SASL mechanism that the proxy knows");
	return AUTH_CONTINUE;
}

static enum auth_step send_first(struct server_auth *auth, struct reader *r, struct buf *out, const char **why)
{
	char nonce[SCRAM_NONCE_TEXT];
	enum scram_flag flag = SCRAM_BIND_NONE;
	enum auth_step step;
	bool scram, plus;
	size_t at, message_at;

	auth->method = "scram-sha-256";
	if (!read_mechanisms(r, &scram, &plus))
		return auth_malformed(why, "the server's list of SASL mechanisms is malformed");
	step = choose_binding(auth, scram, plus, &flag, why);
	if (step != AUTH_CONTINUE)
		return step;
	if (flag == SCRAM_BIND)
		auth->method = "scram-sha-256-plus";
	if (auth->secret.kind == SECRET_NONE)
		return auth_fail(why, "the server asks for a password, and none is known for the user");
	if (auth->secret.kind == SECRET_MD5)
		return auth_fail(why, "the server asks for SCRAM, and of the user only an MD5 hash is known");
	if (scram_nonce(nonce) < 0) {
		out->failed = true;
		return auth_fail(why, "no random numbers");
	}
	scram_client_init(&auth->scram, flag, slice_make(auth->end_point, auth->end_point_len), nonce);
	at = message_begin(out, 'p');
	message_cstring(out, flag == SCRAM_BIND ? SCRAM_PLUS_NAME : SCRAM_NAME);
	message_at = out->len;
	message_u32(out, 0);
	scram_client_first(&auth->scram, "", out);
	if (!out->failed)
		put_be32(out->bytes + message_at, (uint32_t)(out->len - message_at - 4));
	message_end(out, at);
	auth->state = SENT_FIRST;
	return AUTH_CONTINUE;
}

static enum auth_step send_proof(struct server_auth *auth, struct slice message, struct buf *out, const char **why)
{
	size_t at = message_begin(out, 'p');
	enum auth_step step = scram_client_final(&auth->scram, &auth->secret, message, out, why);

	message_end(out, at);
	auth->state = SENT_PROOF;
	return step;
}

static enum auth_step verify(struct server_auth *auth, struct slice message, const char **why)
{
	auth->state = VERIFIED;
	return scram_client_verify(&auth->scram, message, why);
}

/* ------------------------------------------------------------------ the server's messages */

static enum auth_step finish(struct server_auth *auth, bool well_formed, const char **why)
{
	if (!well_formed)
		return auth_malformed(why, "AuthenticationOk has a wrong length");
	if (auth->state == SENT_FIRST || auth->state == SENT_PROOF)
		return auth_fail(why,
				 "the server ended the SCRAM exchange without showing that it knows the user's secret");
	if (auth->state == DONE || auth->state == BROKEN)
		return auth_malformed(why, "the login was over already");
	auth->state = DONE;
	return AUTH_DONE;
}

static enum auth_step answer(struct server_auth *auth, const uint8_t *body, size_t len, struct buf *out,
			     const char **why)
{
	struct reader r = reader_make(body, len);
	uint32_t request = read_u32(&r);

	if (r.failed)
		return auth_malformed(why, "an authentication request is too short");
	if (request == REQUEST_OK)
		return finish(auth, reader_done(&r), why);
	if (request == REQUEST_SASL_CONTINUE && auth->state == SENT_FIRST)
		return send_proof(auth, read_rest(&r), out, why);
	if (request == REQUEST_SASL_FINAL && auth->state == SENT_PROOF)
		return verify(auth, read_rest(&r), why);
	if (auth->state != NEW)
		return auth_malformed(why, "an authentication request comes when it must not");
	switch (request) {
	case REQUEST_PASSWORD:
		return reader_done(&r) ? send_password(auth, out, why)
				       : auth_malformed(why, "an authentication request has a wrong length");
	case REQUEST_MD5:
		return send_md5(auth, read_rest(&r), out, why);
	case REQUEST_SASL:
		return send_first(auth, &r, out, why);
	case REQUEST_SASL_CONTINUE:
	case REQUEST_SASL_FINAL:
		return auth_malformed(why, "an authentication request comes when it must not");
	default: /* Kerberos, GSSAPI, SSPI */
		auth->method = "unknown";
		return auth_fail(why, "the server asks for an authentication method that the proxy does not know");
	}
}

enum auth_step server_auth_message(struct server_auth *auth, const uint8_t *body, size_t len, struct buf *out,
				   const char **why)
{
	size_t sent = out->len;
	enum auth_step step = answer(auth, body, len, out, why);

	if (step == AUTH_FAILED || step == AUTH_MALFORMED) {
		auth->state = BROKEN;
		out->len = sent; /* a message begun and not to be sent */
	}
	return step;
}

const char *server_auth_method(const struct server_auth *auth)
{
	return auth->method;
}
