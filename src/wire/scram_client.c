/*
 * The client's side of SCRAM-SHA-256: client-first, client-final, and the check that the server knows us.
 *
 * Invariant: no proof leaves before the server's nonce begins with ours, and the exchange is only done when the
 * server's signature was right: a server that doesn't know the verifier cannot make us talk to it.
 */
#include "wire/scram_priv.h"

/* About half a second of one core: no honest server asks for more, and a hostile one must not stall a worker. */
#define SERVER_ITERATIONS_MAX 1000000u

void scram_client_init(struct scram_client *c, enum scram_flag flag, struct slice end_point, const char *own_nonce)
{
	*c = (struct scram_client){.flag = flag, .transcript = BUF_INIT(SCRAM_TRANSCRIPT_MAX)};
	if (flag == SCRAM_BIND) {
		assert(end_point.len > 0 && end_point.len <= sizeof(c->end_point));
		memcpy(c->end_point, end_point.bytes, end_point.len);
		c->end_point_len = end_point.len;
	}
	assert(strlen(own_nonce) < sizeof(c->own_nonce));
	memcpy(c->own_nonce, own_nonce, strlen(own_nonce) + 1);
}

void scram_client_clear(struct scram_client *c)
{
	buf_free_secret(&c->transcript);
	wipe(c, sizeof(*c));
}

static enum auth_step no_memory(struct buf *out, const char **why)
{
	out->failed = true;
	return auth_fail(why, "out of memory");
}

void scram_client_first(struct scram_client *c, const char *name, struct buf *out)
{
	struct buf *transcript = &c->transcript;

	buf_add_str(transcript, "n=");
	buf_add_str(transcript, name);
	buf_add_str(transcript, ",r=");
	buf_add_str(transcript, c->own_nonce);
	out->failed |= transcript->failed;
	buf_add_str(out, scram_gs2_header(c->flag));
	buf_add(out, transcript->bytes, transcript->len);
}

/* What the server said in its first message. */
struct challenge {
	struct slice nonce;
	uint8_t salt[SCRAM_SALT_MAX];
	uint32_t salt_len, iterations;
};

static bool read_challenge(const struct scram_client *c, struct slice message, struct challenge *ret)
{
	size_t own = strlen(c->own_nonce);
	struct scram_text t;
	struct slice salt;
	int len;

	if (!scram_text_begin(&t, message))
		return false;
	ret->nonce = scram_attribute(&t, 'r');
	salt = scram_attribute(&t, 's');
	ret->iterations = scram_iterations_parse(scram_attribute(&t, 'i'));
	scram_skip_to(&t, 0);
	len = base64_decode(salt, ret->salt, sizeof(ret->salt));
	if (t.failed || ret->iterations == 0 || len <= 0)
		return false;
	ret->salt_len = (uint32_t)len;
	/* The server must have added to our nonce: else an old answer could be played again. */
	return scram_nonce_is_valid(ret->nonce) && ret->nonce.len > own &&
	       memcmp(ret->nonce.bytes, c->own_nonce, own) == 0;
}

static bool keys_fit(const struct scram_keys *keys, const struct challenge *challenge)
{
	return keys->has_client_key && keys->iterations == challenge->iterations &&
	       keys->salt_len == challenge->salt_len && memcmp(keys->salt, challenge->salt, keys->salt_len) == 0;
}

/* The keys for this server's salt: known already, or derived from the password, or out of reach. */
static enum auth_step find_keys(struct scram_client *c, const struct secret *secret, const struct challenge *challenge,
				struct buf *out, const char **why)
{
	bool known = secret->kind == SECRET_SCRAM || (secret->kind == SECRET_PLAIN && secret->keys_derived);

	if (known && keys_fit(&secret->keys, challenge)) {
		c->keys = secret->keys;
		return AUTH_CONTINUE;
	}
	if (secret->kind == SECRET_SCRAM && !secret->keys.has_client_key)
		return auth_fail(
			why, "the server asks for SCRAM, and of the user only a verifier is known, not the password");
	if (secret->kind == SECRET_SCRAM)
		return auth_fail(why, "the server's SCRAM salt or iterations are not those of the known verifier");
	if (challenge->iterations > SERVER_ITERATIONS_MAX)
		return auth_fail(why, "the server asks for more than 1000000 SCRAM iterations");
	if (key_memory_derive(secret->memory, secret->text, challenge->salt, challenge->salt_len, challenge->iterations,
			      &c->keys) < 0)
		return no_memory(out, why);
	return AUTH_CONTINUE;
}

enum auth_step scram_client_final(struct scram_client *c, const struct secret *secret, struct slice server_first,
				  struct buf *out, const char **why)
{
	struct buf *transcript = &c->transcript;
	struct challenge challenge;
	uint8_t proof[SCRAM_KEY];
	enum auth_step step;
	size_t at;

	if (!read_challenge(c, server_first, &challenge))
		return auth_malformed(
			why, "the server's first SCRAM message is malformed, or its nonce is not based on ours");
	step = find_keys(c, secret, &challenge, out, why);
	if (step != AUTH_CONTINUE)
		return step;
	buf_add_char(transcript, ',');
	buf_add(transcript, server_first.bytes, server_first.len);
	buf_add_char(transcript, ',');
	at = transcript->len;
	buf_add_str(transcript, "c=");
	scram_binding_add(transcript, c->flag, slice_make(c->end_point, c->end_point_len));
	buf_add_str(transcript, ",r=");
	buf_add(transcript, challenge.nonce.bytes, challenge.nonce.len);
	if (transcript->failed ||
	    scram_xor_signature(c->keys.stored_key, slice_make(transcript->bytes, transcript->len), c->keys.client_key,
				proof) < 0)
		return no_memory(out, why);
	buf_add(out, transcript->bytes + at, transcript->len - at);
	buf_add_str(out, ",p=");
	base64_add(out, proof, sizeof(proof));
	wipe(proof, sizeof(proof));
	return AUTH_CONTINUE;
}

enum auth_step scram_client_verify(struct scram_client *c, struct slice server_final, const char **why)
{
	struct slice auth_message = slice_make(c->transcript.bytes, c->transcript.len), signature;
	uint8_t expected[SCRAM_KEY], got[SCRAM_KEY];
	struct scram_text t;
	bool right;

	if (!scram_text_begin(&t, server_final))
		return auth_malformed(why, "the server's last SCRAM message is malformed");
	if (server_final.bytes[0] == 'e')
		return auth_fail(why, "the server ended the SCRAM exchange with an error");
	signature = scram_attribute(&t, 'v');
	scram_skip_to(&t, 0);
	if (t.failed || base64_decode(signature, got, sizeof(got)) != (int)sizeof(got))
		return auth_malformed(why, "the server's last SCRAM message is malformed");
	if (scram_server_signature(c->keys.server_key, auth_message, expected) < 0)
		return auth_fail(why, "out of memory");
	right = equal_in_constant_time(expected, got, sizeof(got));
	wipe(expected, sizeof(expected));
	return right ? AUTH_CONTINUE
		     : auth_fail(why, "the server's SCRAM signature is wrong: it does not know the user's secret");
}
